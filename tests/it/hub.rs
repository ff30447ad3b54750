//! Models by their id, against a Hub of our own on this machine: it answers as huggingface.co does (the model's facts, each
//! file's hash and size on `HEAD`, large files from a store of another origin), and breaks off, refuses or lies on demand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use realign::fsio;
use serde_json::json;

use crate::commands::{Output, model, succeeds};
use crate::tiny::folder;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const LATER: &str = "89abcdef0123456789abcdef0123456789abcdef";
const TOKEN: &str = "hf_verysecret";
const WEIGHTS: &str = "model.safetensors";

/// A request, and whether it brought the token.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    method: String,
    path: String,
    range: Option<u64>,
    token: bool,
}

/// What the Hub has and how it behaves.
#[derive(Clone)]
struct Site {
    files: BTreeMap<String, Vec<u8>>,
    commit: &'static str,
    /// Owners whose models need the token.
    closed: Vec<&'static str>,
    /// Bytes after which each of the next answers of the store breaks off.
    breaks: Vec<usize>,
    /// Whether the store knows ranges.
    ranges: bool,
    /// Whether the store changes a byte.
    lies: bool,
}

/// The Hub and its store, each on a port of its own.
struct Hub {
    site: Arc<Mutex<Site>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    endpoint: String,
}

fn hub() -> Hub {
    let mut files = BTreeMap::from([("pytorch_model.bin".to_string(), b"\x80\x02never".to_vec())]);
    for entry in std::fs::read_dir(model()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        files.insert(name, std::fs::read(path).unwrap());
    }
    let site =
        Site { files, commit: COMMIT, closed: vec!["gated", "private"], breaks: vec![], ranges: true, lies: false };
    let (site, asked) = (Arc::new(Mutex::new(site)), Arc::new(Mutex::new(Vec::new())));
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (front, store) = (listener(), listener());
    let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let (endpoint, store_address) = (address(&front), address(&store));
    for (listener, is_store) in [(front, false), (store, true)] {
        let (site, asked, store) = (Arc::clone(&site), Arc::clone(&asked), store_address.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = answer(stream.unwrap(), &site, &asked, is_store, &store);
            }
        });
    }
    Hub { site, asked, endpoint }
}

impl Hub {
    fn set(&self, change: impl FnOnce(&mut Site)) {
        change(&mut self.site.lock().unwrap());
    }

    /// What was asked since the last look.
    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// How often a file was sent, or begun to be.
    fn sent(asked: &[Asked], name: &str) -> usize {
        asked.iter().filter(|asked| asked.method == "GET" && asked.path.ends_with(name)).count()
    }

    fn realign(&self, dir: &Path, words: &str, more: &[(&str, &str)]) -> Output {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_realign"));
        for name in ["HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", dir.join("home")).env("HF_ENDPOINT", &self.endpoint).envs(more.iter().copied());
        let output = command.args(words.split_whitespace()).current_dir(dir).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let output =
            Output { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(!output.stderr.contains(TOKEN) && !output.stdout.contains(TOKEN), "{}", output.stderr);
        output
    }

    fn succeeds(&self, dir: &Path, words: &str, more: &[(&str, &str)]) -> Output {
        let output = self.realign(dir, words, more);
        assert_eq!(output.code, 0, "realign {words}\n{}", output.stderr);
        output
    }

    fn refused(&self, dir: &Path, words: &str, more: &[(&str, &str)], expected: &[&str]) {
        let output = self.realign(dir, words, more);
        assert_eq!(output.code, 2, "realign {words}\n{}", output.stderr);
        for part in expected {
            assert!(output.stderr.contains(part), "realign {words}\nshould say: {part}\nsays: {}", output.stderr);
        }
    }
}

/// One request a connection.
fn answer(
    stream: TcpStream,
    site: &Mutex<Site>,
    asked: &Mutex<Vec<Asked>>,
    is_store: bool,
    store: &str,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_string());
    }
    let Some(first) = lines.first() else { return Ok(()) };
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap().to_string(), words.next().unwrap().to_string());
    let header = |name: &str| {
        lines
            .iter()
            .find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_string()))
    };
    let range = header("range").map(|range| range["bytes=".len()..].trim_end_matches('-').parse().unwrap());
    let authorization = header("authorization");
    let token = authorization.is_some();
    let may = authorization.as_deref() == Some(&format!("Bearer {TOKEN}"));
    asked.lock().unwrap().push(Asked { method: method.clone(), path: path.clone(), range, token });
    let mut site = site.lock().unwrap();
    let mut out = stream;
    let mut plain = |status: &str, headers: &str, body: &[u8]| -> std::io::Result<()> {
        write!(out, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len())?;
        if method == "HEAD" { Ok(()) } else { out.write_all(body) }
    };
    let name = path.rsplit('/').next().unwrap();
    if is_store {
        let mut bytes = site.files[name].clone();
        if site.lies {
            *bytes.last_mut().unwrap() ^= 1;
        }
        let from = range.filter(|_| site.ranges).unwrap_or(0) as usize;
        let status = if range.is_some() && site.ranges { "206 Partial Content" } else { "200 OK" };
        let until = if site.breaks.is_empty() { bytes.len() } else { from + site.breaks.remove(0) };
        let length = bytes.len() - from;
        write!(out, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n")?;
        return out.write_all(&bytes[from..until]);
    }
    let owner = path.trim_start_matches("/api/models").trim_start_matches('/').split('/').next().unwrap();
    let of_private = owner == "private" || (owner == "gated" && path.contains("/resolve/"));
    match owner {
        "missing" => return plain("404 Not Found", "X-Error-Code: RepoNotFound\r\n", b""),
        _ if of_private && site.closed.contains(&owner) && !may => {
            let code = if owner == "gated" { "GatedRepo" } else { "RepoNotFound" };
            let status = if token { "403 Forbidden" } else { "401 Unauthorized" };
            return plain(status, &format!("X-Error-Code: {code}\r\n"), b"");
        }
        _ => {}
    }
    if path.starts_with("/api/") && path.contains("/revision/") {
        if !["main", COMMIT, LATER].contains(&name) {
            return plain("404 Not Found", "X-Error-Code: RevisionNotFound\r\n", b"");
        }
        let siblings: Vec<_> = site.files.keys().map(|name| json!({ "rfilename": name })).collect();
        let id = path["/api/models/".len()..].split("/revision/").next().unwrap();
        let about = json!({ "id": id, "sha": site.commit, "siblings": siblings, "gated": false }).to_string();
        return plain("200 OK", "Content-Type: application/json\r\n", about.as_bytes());
    }
    let Some(bytes) = site.files.get(name) else {
        return plain("404 Not Found", "X-Error-Code: EntryNotFound\r\n", b"");
    };
    let (hash, commit) = (fsio::sha256(bytes), site.commit);
    if name == WEIGHTS {
        let headers = format!(
            "X-Repo-Commit: {commit}\r\nX-Linked-Size: {}\r\nX-Linked-ETag: \"{hash}\"\r\nLocation: {store}/signed/{name}\r\n",
            bytes.len()
        );
        return plain("302 Found", &headers, b"");
    }
    // Small files are redirected once within the Hub.
    if !path.starts_with("/api/resolve-cache/") {
        let location = format!("X-Repo-Commit: {commit}\r\nLocation: /api/resolve-cache{path}\r\n");
        return plain("307 Temporary Redirect", &location, b"");
    }
    plain("200 OK", &format!("X-Repo-Commit: {commit}\r\nETag: \"{}\"\r\n", &hash[..40]), bytes)
}

fn cache(dir: &Path, repo: &str) -> PathBuf {
    dir.join("home/hub").join(format!("models--{}", repo.replace('/', "--")))
}

const TRACE: &str = "--ids 5,6,7 --out t.safetensors";

#[test]
fn a_model_is_fetched_by_its_id_once_and_is_the_folder_it_was_made_of() {
    let (hub, dir) = (hub(), folder("hub-fetch"));
    hub.succeeds(&dir, &format!("trace --model ours/tiny {TRACE}"), &[]);
    let asked = hub.asked();
    assert_eq!(Hub::sent(&asked, ".bin"), 0, "pickle is never asked for");
    assert!(asked.iter().all(|asked| !asked.token), "there was no token to send");
    let theirs = std::fs::read(dir.join("t.safetensors")).unwrap();
    succeeds(&dir, &format!("trace --model MODEL {TRACE}"));
    assert_eq!(theirs, std::fs::read(dir.join("t.safetensors")).unwrap());

    let cache = cache(&dir, "ours/tiny");
    assert_eq!(std::fs::read_to_string(cache.join("refs/main")).unwrap(), COMMIT);
    let hash = fsio::sha256_file(&Path::new(model()).join(WEIGHTS)).unwrap();
    let link = cache.join("snapshots").join(COMMIT).join(WEIGHTS);
    assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("../../blobs").join(&hash));
    assert!(cache.join("blobs").join(&hash).is_file());

    // Again: the branch is looked up and nothing is sent. By its commit: nothing is asked at all.
    hub.succeeds(&dir, &format!("trace --model ours/tiny {TRACE}"), &[]);
    let asked = hub.asked();
    assert_eq!((asked.len(), asked[0].path.as_str()), (1, "/api/models/ours/tiny/revision/main"));
    hub.succeeds(&dir, &format!("trace --model ours/tiny --revision {COMMIT} {TRACE}"), &[]);
    hub.succeeds(&dir, &format!("trace --model ours/tiny {TRACE}"), &[("HF_HUB_OFFLINE", "1")]);
    assert!(hub.asked().is_empty());

    // Another commit with the same weights: only what changed is sent.
    hub.set(|site| {
        site.commit = LATER;
        site.files.get_mut("config.json").unwrap().push(b'\n');
    });
    hub.succeeds(&dir, &format!("trace --model ours/tiny@main {TRACE}"), &[]);
    let asked = hub.asked();
    assert_eq!((Hub::sent(&asked, WEIGHTS), Hub::sent(&asked, "config.json")), (0, 2), "{asked:?}");
    assert_eq!(std::fs::read_to_string(cache.join("refs/main")).unwrap(), LATER);
}

#[test]
fn inspect_needs_the_configuration_alone() {
    let (hub, dir) = (hub(), folder("hub-inspect"));
    let facts = hub.succeeds(&dir, "inspect ours/tiny", &[]).stdout;
    assert!(
        facts.contains("not downloaded yet") && facts.contains("LlamaForCausalLM") && facts.contains("4-bit"),
        "{facts}"
    );
    let asked = hub.asked();
    assert!(
        asked.iter().all(|asked| asked.path.contains("revision") || asked.path.ends_with("config.json")),
        "{asked:?}"
    );
    // What was fetched for it is no model yet.
    hub.refused(&dir, &format!("trace --model ours/tiny {TRACE}"), &[("HF_HUB_OFFLINE", "1")], &["refs/main"]);
    hub.succeeds(&dir, &format!("trace --model ours/tiny {TRACE}"), &[]);
    assert!(!hub.succeeds(&dir, "inspect ours/tiny", &[]).stdout.contains("not downloaded"));
}

#[test]
fn without_a_network_the_cache_answers_or_what_it_lacks_is_said() {
    let (hub, dir) = (hub(), folder("hub-offline"));
    let offline = [("HF_HUB_OFFLINE", "true")];
    let trace = format!("trace --model ours/tiny {TRACE}");
    let reference = cache(&dir, "ours/tiny").join("refs/main").display().to_string();
    hub.refused(&dir, &trace, &offline, &["ours/tiny", "not in the cache", &reference, "HF_HUB_OFFLINE"]);
    assert!(hub.asked().is_empty());
    hub.succeeds(&dir, &trace, &[]);
    hub.succeeds(&dir, &trace, &offline);
    let elsewhere = dir.join("home/hub").display().to_string();
    hub.succeeds(&dir, &trace, &[("HF_HUB_OFFLINE", "1"), ("HF_HOME", "/nonexistent"), ("HF_HUB_CACHE", &elsewhere)]);
    hub.refused(&dir, &trace, &[("HF_HUB_OFFLINE", "1"), ("HF_HOME", "other")], &["other/hub/models--ours--tiny"]);

    // A network that is gone is no offline mode, and ends in the same place.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = format!("http://{gone}");
    let output = hub.succeeds(&dir, &trace, &[("HF_ENDPOINT", &gone)]);
    assert!(output.stderr.contains("cannot be reached") && output.stderr.contains(COMMIT), "{}", output.stderr);
    hub.refused(
        &dir,
        &trace,
        &[("HF_ENDPOINT", &gone), ("HF_HOME", "other")],
        &["not in the cache", "cannot be reached"],
    );

    std::fs::remove_file(cache(&dir, "ours/tiny").join("snapshots").join(COMMIT).join("tokenizer.json")).unwrap();
    hub.refused(&dir, &trace, &offline, &[&format!("{COMMIT} lacks tokenizer.json")]);
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    let (hub, dir) = (hub(), folder("hub-resume"));
    let size = std::fs::metadata(Path::new(model()).join(WEIGHTS)).unwrap().len() as usize;
    // Within one call.
    hub.set(|site| site.breaks = vec![1000, 500]);
    hub.succeeds(&dir, &format!("trace --model ours/tiny {TRACE}"), &[]);
    let ranges = |asked: &[Asked]| {
        let sent = asked.iter().filter(|asked| asked.path.contains("signed"));
        sent.map(|asked| asked.range).collect::<Vec<_>>()
    };
    assert_eq!(ranges(&hub.asked()), [None, Some(1000), Some(1500)]);

    // From one call to the next: what came is kept, and nothing of it is sent again.
    hub.set(|site| site.breaks = vec![2000, 0, 0, 0, 0, 0]);
    let trace = format!("trace --model ours/again {TRACE}");
    hub.refused(&dir, &trace, &[], &["broke off after", "run the same command again"]);
    assert!(!cache(&dir, "ours/again").join("refs/main").exists(), "half a model has no reference");
    hub.asked();
    hub.set(|site| site.breaks.clear());
    hub.succeeds(&dir, &trace, &[]);
    assert_eq!(ranges(&hub.asked()), [Some(2000)]);

    // A store that knows no ranges begins anew, and a part that is longer than the whole is thrown away.
    hub.set(|site| (site.breaks, site.ranges) = (vec![size / 2], false));
    hub.succeeds(&dir, &format!("trace --model ours/whole {TRACE}"), &[]);
    let blobs = cache(&dir, "ours/long").join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let hash = fsio::sha256_file(&Path::new(model()).join(WEIGHTS)).unwrap();
    std::fs::write(blobs.join(format!("{hash}.incomplete")), vec![0; size + 1]).unwrap();
    hub.succeeds(&dir, &format!("trace --model ours/long {TRACE}"), &[]);
}

#[test]
fn what_comes_with_another_hash_is_refused() {
    let (hub, dir) = (hub(), folder("hub-hash"));
    hub.set(|site| site.lies = true);
    hub.refused(&dir, &format!("trace --model ours/tiny {TRACE}"), &[], &["SHA-256", "discarded"]);
    hub.set(|site| site.lies = false);
    hub.succeeds(&dir, &format!("trace --model ours/tiny {TRACE}"), &[]);
}

#[test]
fn closed_and_missing_models_are_told_apart_and_the_token_goes_to_the_hub_alone() {
    let (hub, dir) = (hub(), folder("hub-token"));
    let trace = |model: &str| format!("trace --model {model} {TRACE}");
    hub.refused(&dir, &trace("private/tiny"), &[], &["private/tiny", "401", "HF_TOKEN", "private or gated"]);
    hub.refused(&dir, &trace("gated/tiny"), &[], &["gated/tiny` is gated (401)", "accept its terms", "HF_TOKEN"]);
    hub.refused(&dir, &trace("gated/tiny"), &[("HF_TOKEN", "hf_other")], &["403", "does not open it"]);
    hub.refused(&dir, &trace("missing/tiny"), &[], &["no folder `missing/tiny`", "404"]);
    hub.refused(&dir, &trace("ours/tiny@v9"), &[], &["no revision `v9`", "404"]);
    hub.refused(&dir, &trace("nothing"), &[], &["unknown model"]);
    hub.asked();

    hub.succeeds(&dir, &trace("private/tiny"), &[("HF_TOKEN", TOKEN)]);
    let asked = hub.asked();
    assert!(asked.iter().all(|asked| asked.token != asked.path.contains("signed")), "{asked:?}");
    assert_eq!(asked.iter().filter(|asked| asked.path.contains("signed")).count(), 1);

    // The file that `hf auth login` writes.
    std::fs::write(dir.join("home/token"), format!("{TOKEN}\n")).unwrap();
    hub.succeeds(&dir, &trace("gated/tiny"), &[]);
}

#[test]
fn what_cannot_be_run_is_refused_before_its_weights_are_fetched() {
    let (hub, dir) = (hub(), folder("hub-refused"));
    let trace = format!("trace --model ours/tiny {TRACE}");
    let whole = hub.site.lock().unwrap().files.clone();
    let weights = |hub: &Hub| Hub::sent(&hub.asked(), WEIGHTS);
    hub.set(|site| drop(site.files.remove(WEIGHTS)));
    hub.refused(&dir, &trace, &[], &["only pickle files, which are refused"]);
    assert_eq!(weights(&hub), 0);
    hub.set(|site| {
        site.files
            .insert("model.safetensors.index.json".into(), br#"{"weight_map": {"a": "../../x.safetensors"}}"#.to_vec());
    });
    hub.refused(&dir, &trace, &[], &["not a file of this folder"]);
    hub.set(|site| {
        site.files = whole;
        site.commit = LATER;
        let config = site.files.get_mut("config.json").unwrap();
        *config =
            String::from_utf8(config.clone()).unwrap().replace("LlamaForCausalLM", "StrangeForCausalLM").into_bytes();
    });
    hub.refused(&dir, &trace, &[], &["StrangeForCausalLM"]);
    assert_eq!(weights(&hub), 0);
}

/// `REALIGN_REFERENCE_PYTHON` names an interpreter that has `huggingface_hub`.
#[test]
#[ignore = "needs Python's huggingface_hub"]
fn python_finds_what_was_fetched_here_and_the_other_way_round() {
    let python = std::env::var("REALIGN_REFERENCE_PYTHON").expect("REALIGN_REFERENCE_PYTHON is set");
    let (hub, dir) = (hub(), folder("hub-python"));
    let run = |code: &str| {
        let mut command = assert_cmd::Command::new(&python);
        command.env("HF_HOME", dir.join("home")).env("HF_ENDPOINT", &hub.endpoint).args(["-c", code]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    hub.succeeds(&dir, &format!("trace --model ours/tiny {TRACE}"), &[]);
    let found = run("from huggingface_hub import snapshot_download as s; print(s('ours/tiny', local_files_only=True))");
    assert!(Path::new(&found).join(WEIGHTS).is_file() && found.ends_with(COMMIT), "{found}");
    let listed = run(
        "from huggingface_hub import scan_cache_dir as s; i = s(); print([r.repo_id for r in i.repos], i.warnings)",
    );
    assert_eq!(listed, "['ours/tiny'] []");

    let names = ["config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS];
    run(&format!("from huggingface_hub import hf_hub_download as d; [d('ours/python', n) for n in {names:?}]"));
    hub.asked();
    hub.succeeds(&dir, &format!("trace --model ours/python {TRACE}"), &[("HF_HUB_OFFLINE", "1")]);
    assert!(hub.asked().is_empty());
}
