//! Fetching a model's files into the cache over HTTP.
//!
//! hf-hub has the layout and the addresses, and is not asked to transfer: its 0.5 sends the token to whatever host a file
//! is redirected to, appends a whole answer to half a file where a server knows no ranges, fetches a file again that the
//! cache has under another commit, and compares no hash. A file's hash is its name in the cache (SHA-256 for large files).

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::cache::{Hub, RepoCache, is_commit};
use super::{HubId, Part};
use crate::error::Error;
use crate::fsio;
use crate::model::config::DecoderConfig;
use crate::model::memory::words;
use crate::model::source::shards;
use crate::process;
use crate::progress::Progress;

/// Why nothing was downloaded.
pub enum Failure {
    /// No answer, or none from the Hub itself (a proxy's, say): the cache may serve instead.
    Unreachable(String),
    /// An answer that trying again would not change, such as 404.
    Refused(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// Small files that say what the weights are and how text becomes tokens.
const SMALL: [&str; 5] =
    ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];
/// Tries of a file without a byte gained.
const TRIES: usize = 5;
/// Bytes between two looks at the bar and at signals.
const PIECE: usize = 1 << 18;

/// Fetches what the cache lacks and gives the folder. The reference is written last, so that it never points at half a
/// model.
pub fn fetch(hub: &Hub, id: &HubId, part: Part, progress: Progress) -> Result<PathBuf> {
    let (wire, repo) = (Wire::new(hub), hub.repo(id));
    let about = wire.about(id, &repo)?;
    let commit = about["sha"].as_str().filter(|sha| is_commit(sha));
    let Some(commit) = commit else {
        return Err(Failure::Unreachable(format!("its answer about {} names no commit", id.repo)));
    };
    let listed = about["siblings"].as_array().into_iter().flatten();
    let names: Vec<&str> = listed.filter_map(|file| file["rfilename"].as_str()).collect();
    let has = |name: &str| names.contains(&name);
    let get = |name: &str| wire.file(id, &repo, commit, name, progress);
    if !has("config.json") {
        return Err(refused(id, "has no config.json, so it is not a model in Hugging Face layout"));
    }
    let config = get("config.json")?;
    // Whatever cannot be run is refused before its weights are fetched.
    DecoderConfig::parse(&config, &fsio::read_text(&config)?)?;
    let folder = repo.snapshot(commit);
    if part == Part::Config {
        return Ok(folder);
    }
    if !has("tokenizer.json") {
        return Err(refused(id, "has no tokenizer.json; tokenizers in other formats are not supported"));
    }
    let single = has(shards::SINGLE);
    if !single && !has(shards::INDEX) {
        let pickle = names.iter().any(|name| name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth"));
        let why = if pickle { ", only pickle files, which are refused" } else { "" };
        return Err(refused(id, &format!("has no {}{why}", shards::SINGLE)));
    }
    for name in SMALL.into_iter().filter(|name| has(name)) {
        get(name)?;
    }
    if has(shards::INDEX) {
        let index = get(shards::INDEX)?;
        let shards = shards::shard_names(&fsio::read_json(&index)?).map_err(|why| Error::file(&index, why))?;
        if let Some(lost) = shards.iter().find(|name| !has(name)) {
            return Err(refused(id, &format!("lacks {lost}, which its index names")));
        }
        shards.iter().try_for_each(|name| get(name).map(drop))?;
    } else {
        get(shards::SINGLE)?;
    }
    if !is_commit(&id.revision) {
        fsio::write_atomic(&repo.reference(), commit.as_bytes())?;
    }
    Ok(folder)
}

fn refused(id: &HubId, why: &str) -> Failure {
    Failure::Refused(Error::usage(format!("`{}` on the Hub {why}", id.repo)))
}

/// What the Hub says of a file.
struct Facts {
    etag: String,
    size: Option<u64>,
}

struct Wire<'a> {
    hub: &'a Hub,
    agent: Agent,
}

impl<'a> Wire<'a> {
    fn new(hub: &'a Hub) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Followed by hand: the token goes to the endpoint alone.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Sizes and ranges are those of the file.
            .accept_encoding("identity")
            .user_agent(concat!("realign/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)));
        Self { hub, agent: config.build().into() }
    }

    /// One request; `range` from that byte on.
    fn ask(&self, head: bool, url: &str, range: Option<u64>) -> Result<Response<Body>> {
        let mut request = if head { self.agent.head(url) } else { self.agent.get(url) };
        if let Some(token) = self.hub.token.as_ref().filter(|_| origin(url) == origin(&self.hub.endpoint)) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(from) = range {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let answer = request.call().map_err(|e| Failure::Unreachable(format!("{}: {e}", origin(url))))?;
        match answer.status().as_u16() {
            // Too many requests, or the server's own trouble.
            429 | 500..=599 => {
                Err(Failure::Unreachable(format!("{} answered with status {}", origin(url), answer.status())))
            }
            _ => Ok(answer),
        }
    }

    /// [`Wire::ask`], following redirects while `onward` says so; what it is not to follow comes back.
    fn follow(
        &self,
        head: bool,
        url: &str,
        range: Option<u64>,
        onward: impl Fn(&str) -> bool,
        mut seen: impl FnMut(&Response<Body>),
    ) -> Result<Response<Body>> {
        let mut url = url.to_string();
        for _ in 0..10 {
            let answer = self.ask(head, &url, range)?;
            seen(&answer);
            let to = answer.headers().get("location").and_then(|to| to.to_str().ok());
            match to.filter(|_| answer.status().is_redirection()).map(|to| joined(&url, to)) {
                Some(to) if onward(&to) => url = to,
                _ => return Ok(answer),
            }
        }
        Err(Failure::Unreachable(format!("{url} redirects too many times")))
    }

    fn about(&self, id: &HubId, repo: &RepoCache) -> Result<serde_json::Value> {
        let mut answer = self.follow(false, &repo.about_url(&self.hub.endpoint), None, |_| true, |_| {})?;
        if !answer.status().is_success() {
            return Err(self.explained(id, &answer));
        }
        answer
            .body_mut()
            .read_json()
            .map_err(|e| Failure::Unreachable(format!("its answer about {} is not valid: {e}", id.repo)))
    }

    /// A file of a commit, as it lies in the cache.
    fn file(&self, id: &HubId, repo: &RepoCache, commit: &str, name: &str, progress: Progress) -> Result<PathBuf> {
        let place = repo.snapshot(commit).join(name);
        if place.exists() {
            return Ok(place);
        }
        let url = repo.file_url(&self.hub.endpoint, commit, name);
        let facts = self.facts(id, &url, name)?;
        let blob = repo.blob(&facts.etag);
        let _held = fsio::lock(&repo.lock(&facts.etag))?;
        if !blob.exists() {
            self.download(id, &url, name, &facts, &blob, progress)?;
        }
        fsio::link(&blob, &place)?;
        Ok(place)
    }

    /// Hash and size, which the Hub itself tells where it redirects to its store.
    fn facts(&self, id: &HubId, url: &str, name: &str) -> Result<Facts> {
        let (mut etag, mut size) = (None, None);
        let here = |to: &str| origin(to) == origin(&self.hub.endpoint);
        let answer = self.follow(true, url, None, here, |answer| {
            let text = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_string);
            etag = etag.take().or_else(|| text("x-linked-etag"));
            size = size.or_else(|| text("x-linked-size")?.parse().ok());
            if answer.status().is_success() {
                etag = etag.take().or_else(|| text("etag"));
                size = size.or_else(|| text("content-length")?.parse().ok());
            }
        })?;
        if !answer.status().is_success() && !answer.status().is_redirection() {
            return Err(self.explained(id, &answer));
        }
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_string());
        // It becomes a file's name.
        match etag.filter(|etag| !etag.is_empty() && etag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')) {
            Some(etag) => Ok(Facts { etag, size }),
            None => Err(Failure::Unreachable(format!("its answer about {name} has no usable ETag"))),
        }
    }

    /// Fetches a blob, going on where an earlier try was broken off, in this process or before.
    fn download(
        &self,
        id: &HubId,
        url: &str,
        name: &str,
        facts: &Facts,
        blob: &Path,
        progress: Progress,
    ) -> Result<()> {
        let half = PathBuf::from(format!("{}.incomplete", blob.display()));
        let mut part = fsio::Partial::open(&half)?;
        if facts.size.is_some_and(|size| part.len() > size) {
            part.restart()?;
        }
        let bar = progress.bytes(name, facts.size.unwrap_or(0));
        bar.add(part.len());
        let mut tries = 0;
        while facts.size != Some(part.len()) {
            let before = part.len();
            match self.attempt(id, url, &mut part, &bar) {
                Ok(()) if facts.size.is_none_or(|size| size == part.len()) => break,
                Err(Failure::Refused(error)) => return Err(Failure::Refused(error)),
                outcome => {
                    tries = if part.len() > before { 0 } else { tries + 1 };
                    if tries == TRIES {
                        let why = match outcome {
                            Err(Failure::Unreachable(why)) => why,
                            _ => format!("the answer ends after {} bytes", part.len()),
                        };
                        return Err(Failure::Unreachable(format!(
                            "the download of {name} broke off after {} of {} ({why}); run the same command again to \
                             continue it",
                            words(part.len()),
                            facts.size.map_or("an unknown size".into(), words)
                        )));
                    }
                    std::thread::sleep(Duration::from_millis(100 << tries));
                }
            }
        }
        let (size, hash) = (part.len(), part.sha256()?);
        if facts.etag.len() == 64 && facts.etag != hash {
            part.restart()?;
            return Err(refused(
                id,
                &format!(
                    "sent {name} with the SHA-256 {hash} instead of {}; the download was discarded, run the command \
                     again",
                    facts.etag
                ),
            ));
        }
        part.finish(blob)?;
        bar.done(&words(size));
        Ok(())
    }

    /// One request for what is missing of a file.
    fn attempt(&self, id: &HubId, url: &str, part: &mut fsio::Partial, bar: &crate::progress::Bar) -> Result<()> {
        let from = Some(part.len()).filter(|len| *len > 0);
        let answer = self.follow(false, url, from, |_| true, |_| {})?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => {}
            // The whole file, from its first byte: a server without ranges.
            StatusCode::OK => part.restart()?,
            StatusCode::RANGE_NOT_SATISFIABLE => {
                part.restart()?;
                return Err(Failure::Unreachable("the range was refused".into()));
            }
            _ => return Err(self.explained(id, &answer)),
        }
        let mut reader = answer.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        loop {
            if process::interrupted() {
                return Err(Failure::Refused(Error::Interrupted));
            }
            let read = reader.read(&mut piece).map_err(|e| Failure::Unreachable(e.to_string()))?;
            if read == 0 {
                return Ok(());
            }
            part.append(&piece[..read])?;
            bar.add(read as u64);
        }
    }

    /// What a refusal means for the person at the keyboard.
    fn explained(&self, id: &HubId, answer: &Response<Body>) -> Failure {
        let code = answer.headers().get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or("");
        let HubId { repo, revision } = id;
        let status = answer.status().as_u16();
        let token = match self.hub.token {
            Some(_) => "the token of HF_TOKEN (or the token file) does not open it",
            None => "set HF_TOKEN to a token of an account that may read it, or log in with `hf auth login`",
        };
        let page = format!("{}/{repo}", self.hub.endpoint);
        Failure::Refused(Error::usage(match (status, code) {
            (_, "GatedRepo") => {
                format!("`{repo}` is gated ({status}): accept its terms at {page} with your account; {token}")
            }
            (_, "RevisionNotFound") => format!("`{repo}` has no revision `{revision}` on the Hub ({status})"),
            (_, "EntryNotFound") => format!("`{repo}` lacks a file on the Hub that it lists ({status})"),
            (401 | 403, _) => format!(
                "the Hub opens no model `{repo}` ({status}): it does not exist, or it is private or gated ({page}); \
                 {token}"
            ),
            (404, _) => format!(
                "there is no folder `{repo}`, and no model of that name on the Hub ({status}): is it spelt as on \
                 {page}?"
            ),
            _ => format!("the Hub answers {status} about `{repo}`"),
        }))
    }
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    &url[..url[host..].find('/').map_or(url.len(), |at| host + at)]
}

/// Address that a redirect leads to, which may be relative.
fn joined(from: &str, to: &str) -> String {
    match to {
        _ if to.contains("://") => to.into(),
        _ if to.starts_with("//") => format!("{}:{to}", from.split(':').next().unwrap_or("https")),
        _ if to.starts_with('/') => format!("{}{to}", origin(from)),
        _ => format!("{}/{to}", from.rsplit_once('/').map_or(from, |(folder, _)| folder)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_and_redirects_are_told_apart() {
        assert_eq!(origin("https://hub.example:80/a/b?c"), "https://hub.example:80");
        assert_eq!(origin("http://hub.example"), "http://hub.example");
        let from = "https://hub.example/a/resolve/main/f";
        assert_eq!(joined(from, "/api/f"), "https://hub.example/api/f");
        assert_eq!(joined(from, "https://store.example/f"), "https://store.example/f");
        assert_eq!(joined(from, "//store.example/f"), "https://store.example/f");
        assert_eq!(joined(from, "g"), "https://hub.example/a/resolve/main/g");
    }
}
