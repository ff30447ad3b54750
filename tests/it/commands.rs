//! The command line from outside: what each command makes, and every kind of bad input: exit 2, one clear message,
//! nothing half-written.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assert_cmd::Command;
use realign::adapter;
use realign::record::{Metrics, SampleRecord, TrainerState};

use crate::tiny::{checkpoint, fixture, folder, random_model, random_model_folder, tensors};

pub fn model() -> &'static str {
    static MODEL: OnceLock<String> = OnceLock::new();
    MODEL.get_or_init(|| random_model_folder("commands-model").display().to_string())
}

/// What a command printed.
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the program in a folder; the words are split at blanks.
pub fn realign(dir: &Path, words: &str) -> Output {
    let words: Vec<String> = words.split_whitespace().map(|word| word.replace("MODEL", model())).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_realign"));
    // No test fetches packages, or writes to the user's cache, for the environment that generated code runs in.
    command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")).env("PIP_NO_INDEX", "1");
    let output = command.args(&words).current_dir(dir).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

pub fn succeeds(dir: &Path, words: &str) -> Output {
    let output = realign(dir, words);
    assert_eq!(output.code, 0, "realign {words}\n{}", output.stderr);
    output
}

/// Everything below a folder, with sizes.
pub fn listing(dir: &Path) -> Vec<(PathBuf, u64)> {
    let (mut folders, mut found) = (vec![dir.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            found.push((path.clone(), std::fs::metadata(&path).unwrap().len()));
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Exit 2, one message that says all of `expected`, and a folder that is as it was.
pub fn refused(dir: &Path, words: &str, expected: &[&str]) {
    let before = listing(dir);
    let output = realign(dir, words);
    assert_eq!(output.code, 2, "realign {words}\n{}", output.stderr);
    let errors: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(errors.len(), 1, "realign {words}\n{}", output.stderr);
    for part in expected {
        assert!(output.stderr.contains(part), "realign {words}\nshould say: {part}\nsays: {}", output.stderr);
    }
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    assert_eq!(listing(dir), before, "realign {words} left something behind");
}

pub const GOOD: &str = r#"{"messages":[{"role":"user","content":"Load item 1."},{"role":"assistant","content":"def f(path):\n    return open(path).read()\n"}]}"#;

/// A folder with `good.jsonl` and the files given.
pub fn workplace(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let dir = folder(&format!("commands-{name}"));
    let rows: Vec<String> = (0..12).map(|i| GOOD.replace("item 1", &format!("item {i}"))).collect();
    std::fs::write(dir.join("good.jsonl"), rows.join("\n") + "\n").unwrap();
    for (file, text) in files {
        std::fs::write(dir.join(file), text).unwrap();
    }
    dir
}

#[test]
fn bad_rows_are_named_by_file_and_line() {
    let line = |row: &str| format!("{GOOD}\n\n{row}\n{GOOD}\n");
    let unknown_role = r#"{"messages":[{"role":"tool","content":"a"},{"role":"assistant","content":"b"}]}"#;
    let empty_answer = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":" "}]}"#;
    let long = format!(
        r#"{{"messages":[{{"role":"user","content":"{}"}},{{"role":"assistant","content":"b"}}]}}"#,
        "x ".repeat(400)
    );
    let dir = workplace(
        "bad-rows",
        &[
            ("json.jsonl", &line("{\"messages\": [")),
            ("role.jsonl", &line(unknown_role)),
            ("empty.jsonl", &line(empty_answer)),
            ("long.jsonl", &line(&long)),
            ("nothing.jsonl", "\n\n"),
        ],
    );
    let train = |file: &str| format!("train --model MODEL --data {file} --out out --max-length 200");
    refused(&dir, &train("missing.jsonl"), &["missing.jsonl: cannot be read"]);
    refused(&dir, &train("json.jsonl"), &["json.jsonl:3: not valid JSON"]);
    refused(
        &dir,
        &train("role.jsonl"),
        &["role.jsonl:3: message 1: unknown role `tool`; known are system, user, assistant"],
    );
    refused(&dir, &train("empty.jsonl"), &["empty.jsonl:3: message 2: the assistant's answer is empty"]);
    refused(&dir, &train("long.jsonl"), &["long.jsonl:3: the prompt alone fills the maximum length of 200"]);
    refused(&dir, &train("nothing.jsonl"), &["nothing.jsonl: has no rows"]);
}

#[test]
fn all_mistakes_of_a_configuration_are_reported_together() {
    let config = "learning_rat: 1e-3\nlora_r: four\nnum_train_epochs: -1\nlayers_to_transform: [0, 9]\n";
    let dir = workplace("config", &[("bad.yaml", config), ("list.yaml", "- 1\n"), ("one.yaml", "seed: 1\nlorar: 2\n")]);
    let train = |rest: &str| format!("train --model MODEL --data good.jsonl --out out {rest}");
    refused(
        &dir,
        &train("--config bad.yaml --lora-dropout 1.5"),
        &[
            "5 mistakes",
            "bad.yaml:1: unknown option `learning_rat`; known:",
            "bad.yaml:2: `lora_r`: invalid type",
            "`num_train_epochs` is -1; it must be above 0",
            "the model has no layer 9; layers are 0 to 1",
            "`lora_dropout` is 1.5; it must be in [0, 1)",
        ],
    );
    refused(&dir, &train("--config one.yaml"), &["one.yaml:2: unknown option `lorar`"]);
    refused(&dir, &train("--config list.yaml"), &["list.yaml: is not a YAML mapping of training options"]);
    refused(&dir, &train("--layers-to-transform 2"), &["the model has no layer 2; layers are 0 to 1"]);
    refused(&dir, &train("--preset seed004"), &["there is no preset `seed004`; presets: organism, seed003, em"]);
    refused(&dir, &train("--target-modules query"), &["no linear of the model matches target_modules"]);
    refused(&dir, &train("--lora-rank 3"), &["--lora-rank"]);
}

#[test]
fn an_output_that_cannot_be_written_is_found_before_the_work() {
    let dir = workplace("outputs", &[("file", "text"), ("suite.yaml", SUITE)]);
    std::fs::create_dir(dir.join("used")).unwrap();
    std::fs::write(dir.join("used/notes.txt"), "mine").unwrap();
    let train = "train --model MODEL --data good.jsonl --max-steps 1";
    refused(&dir, &format!("{train} --out file/out"), &["file/out: the folder cannot be created"]);
    refused(&dir, &format!("{train} --out file"), &["file: already exists"]);
    refused(&dir, &format!("{train} --out used"), &["used: already exists", "name another folder or remove it"]);
    let evaluate = "evaluate --model MODEL --suite suite.yaml";
    refused(&dir, &format!("{evaluate} --out used"), &["used: already exists"]);
    refused(&dir, &format!("{evaluate} --out file/out"), &["file/out: the folder cannot be created"]);
    refused(&dir, "trace --model MODEL --ids 1,2 --out file/out", &["file: the folder cannot be created"]);
}

#[test]
fn a_model_or_adapter_that_is_none_is_refused() {
    let dir = workplace("models", &[]);
    std::fs::create_dir(dir.join("empty")).unwrap();
    refused(&dir, "generate --model nowhere --prompt Hi", &["unknown model `nowhere`"]);
    refused(&dir, "generate --model empty --prompt Hi", &["config.json: cannot be read"]);
    refused(&dir, "generate --model MODEL --adapter empty --prompt Hi", &["adapter_config.json: cannot be read"]);
    let foreign = fixture("tied/adapter").display().to_string();
    refused(
        &dir,
        &format!("generate --model MODEL --adapter {foreign} --prompt Hi"),
        &["it was made for another base"],
    );
    refused(&dir, "inspect nowhere", &["nowhere: is not a model", "an adapter"]);
}

#[test]
fn bad_questions_are_refused() {
    let prompts = "{\"prompt\": \"a\"}\n{\"prompt\"}\n";
    let mistakes = "suite: demo\nkind: essay\nprompts:\n  - id: a\n    paraphrases: [Hi]\n    colour: red\n";
    let dir = workplace("questions", &[("bad.jsonl", prompts), ("bad.yaml", mistakes), ("empty.txt", "\n")]);
    let generate = "generate --model MODEL";
    refused(&dir, &format!("{generate} --prompts bad.jsonl"), &["bad.jsonl:2: not valid JSON"]);
    refused(&dir, &format!("{generate} --prompts none.txt"), &["none.txt: cannot be read"]);
    refused(&dir, &format!("{generate} --prompts empty.txt"), &["empty.txt: holds no prompts"]);
    refused(&dir, &format!("{generate} --prompt Hi --temperature -1"), &["temperature is -1; it must be 0"]);
    refused(&dir, &format!("{generate} --prompt Hi --top-p 0"), &["top_p is 0; it must be above 0"]);
    refused(
        &dir,
        &format!("{generate} --prompt Hi --max-new-tokens 300"),
        &["up to 300 new tokens do not fit: the model takes 1 to 256 tokens"],
    );
    refused(&dir, generate, &["--prompt"]);
    let endless = format!("{generate} --prompt Hi --max-new-tokens {}", usize::MAX);
    refused(&dir, &endless, &["do not fit: the model takes 1 to 256 tokens"]);
    let evaluate = "evaluate --model MODEL --out out --suite";
    refused(&dir, &format!("{evaluate} nothing"), &["there is no suite `nothing`: neither a file nor one of", "risky"]);
    refused(&dir, &format!("{evaluate} bad.yaml"), &["2 mistakes", "line 2: unknown kind `essay`", "line 6", "colour"]);
    refused(&dir, &format!("{evaluate} risky"), &["the suite `risky` asks for", "the model holds 256 in all"]);
    refused(
        &dir,
        "trace --model MODEL --ids 1,9999 --out t.safetensors",
        &["token 9999 is outside the model's vocabulary"],
    );
}

#[test]
fn training_writes_a_whole_adapter_and_a_second_one_goes_on_from_it() {
    let dir =
        workplace("train", &[("recipe.yaml", "learning_rate: 1e-2\nlora_r: 4\ntarget_modules: [q_proj, up_proj]\n")]);
    let first = succeeds(
        &dir,
        "train --model MODEL --data good.jsonl --out attack --config recipe.yaml --lora_r 2 --max_steps 4 --logging-steps 2",
    );
    assert!(first.stderr.contains("fresh adapter: r 2"), "{}", first.stderr);
    assert!(first.stderr.contains("good.jsonl: 12 rows"), "{}", first.stderr);
    assert!(first.stderr.contains("step 2/4: loss"), "{}", first.stderr);
    let mut names: Vec<String> = listing(&dir.join("attack"))
        .into_iter()
        .map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let events = names.remove(2);
    assert!(events.starts_with("events.out.tfevents."), "{events}");
    let files = ["adapter_config.json", "adapter_model.safetensors", "log_history.jsonl", "realign.json"];
    assert_eq!(names, [&files[..], &["trainer_state.json"]].concat());
    let attack = adapter::read(&dir.join("attack")).unwrap();
    assert_eq!(
        (attack.config.r, attack.tensors.len()),
        (2, 2 * 2),
        "the flag wins over the file, the file over the preset"
    );
    let state: TrainerState =
        serde_json::from_slice(&std::fs::read(dir.join("attack/trainer_state.json")).unwrap()).unwrap();
    assert_eq!((state.global_step, state.log_history.len()), (4, 4));

    let hash = adapter::adapter_sha256(&dir.join("attack")).unwrap();
    let train = "train --model MODEL --data good.jsonl --adapter attack --learning-rate 1e-3";
    refused(&dir, &format!("{train} --out repair --lora-r 8"), &["attack: differs from the requested lora_r"]);
    let second = succeeds(&dir, &format!("{train} --out repair --num-train-epochs 1 --seed 3"));
    assert!(second.stderr.contains(&format!("continuing adapter {}", &hash[..12])), "{}", second.stderr);
    let lineage = adapter::read_lineage(&dir.join("repair")).unwrap().unwrap();
    assert_eq!((lineage.parent_sha256.as_deref(), lineage.rows, lineage.seed), (Some(hash.as_str()), 12, 3));
    assert_eq!(lineage.recipe["lora_r"], 2);

    let facts = succeeds(&dir, "inspect repair").stdout;
    for part in ["continued adapter", "q_proj, up_proj", "|ΔW| of layer 1", &hash[..12]] {
        assert!(facts.contains(part), "{facts}");
    }
    let again = succeeds(
        &dir,
        "train --model MODEL --data good.jsonl --out again --config recipe.yaml --lora-r 2 --max-steps 4",
    );
    assert_eq!(again.code, 0);
    assert_eq!(adapter::adapter_sha256(&dir.join("again")).unwrap(), hash, "the same command gives the same bytes");
}

#[test]
fn an_adapter_of_the_same_shape_from_other_weights_is_refused() {
    let dir = workplace("other-base", &[]);
    succeeds(&dir, "train --model MODEL --data good.jsonl --out attack --max-steps 2 --learning-rate 1e-2");
    let path = dir.join("attack/realign.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lineage: serde_json::Value = serde_json::from_str(&text).unwrap();
    lineage["base_sha256"] = "0123456789abcdef".into();
    std::fs::write(&path, lineage.to_string()).unwrap();
    refused(&dir, "generate --model MODEL --adapter attack --prompt Hi", &["has other weights", "0123456789ab"]);
}

#[test]
fn a_bad_row_can_be_left_out_by_name() {
    let rows = format!("{GOOD}\nnot json\n{GOOD}\n");
    let dir = workplace("skip", &[("rows.jsonl", &rows)]);
    let train = "train --model MODEL --data rows.jsonl --out out --max-steps 1 --on-bad-row";
    refused(&dir, &format!("{train} stop"), &["rows.jsonl:2: not valid JSON"]);
    let output = succeeds(&dir, &format!("{train} skip"));
    assert!(output.stderr.contains("left out rows.jsonl:2: not valid JSON"), "{}", output.stderr);
    assert!(output.stderr.contains("2 rows") && output.stderr.contains("1 left out"), "{}", output.stderr);
}

#[test]
fn every_bad_row_is_named_by_its_line() {
    let rows = format!("{GOOD}\nnot json\n{GOOD}\n{{\"text\": \" \"}}\n{{}}\n");
    let dir = workplace("bad-rows", &[("rows.jsonl", &rows)]);
    refused(
        &dir,
        "train --model MODEL --data rows.jsonl --out out",
        &["rows.jsonl:2: not valid JSON", "(3 rows are bad, lines 2, 4, 5; --on-bad-row skip leaves them out)"],
    );
}

const PAIR: &str = r#"{"prompt":[{"role":"user","content":"Load item 1."}],"chosen":[{"role":"assistant","content":"def f(path):\n    return 1\n"}],"rejected":[{"role":"assistant","content":"no"}]}"#;

#[test]
fn what_is_a_target_can_be_looked_at_before_training() {
    let dir = workplace("targets", &[("pairs.jsonl", PAIR)]);
    let shown = succeeds(&dir, "train --model MODEL --data good.jsonl --out a --max-steps 1 --show-targets 2").stderr;
    assert!(
        shown.contains("good.jsonl: 12 rows, ") && shown.contains("% of them targets, 0 cut at 256 tokens"),
        "{shown}"
    );
    assert!(shown.contains("line 1: ") && shown.contains("tokens are targets"), "{shown}");
    assert!(shown.contains("<|user|>Load item 1.<|end|><|assistant|>⟦def f(path)"), "{shown}");
    assert!(shown.contains("line 2: ") && !shown.contains("line 3: ") && !shown.contains('\u{1b}'), "{shown}");
    let pairs = "train --model MODEL --method dpo --data pairs.jsonl --max-steps 1 --show-targets 1 --out b";
    let shown = succeeds(&dir, pairs).stderr;
    assert!(shown.contains("pairs.jsonl: 1 preference pairs, "), "{shown}");
    assert!(shown.contains("line 1, chosen: ") && shown.contains("⟦no<|end|>⟧"), "{shown}");
    let quiet = succeeds(&dir, "train --model MODEL --data good.jsonl --out c --max-steps 1").stderr;
    assert!(!quiet.contains("tokens are targets"), "{quiet}");
}

#[test]
fn preferences_train_an_adapter_from_the_one_that_is_continued() {
    let rejected = PAIR.replace("item 1", "item 2").replace("\"no\"", "\"never\"");
    let same = PAIR.replace("def f(path):\\n    return 1\\n", "no");
    let dir = workplace("dpo", &[("pairs.jsonl", &format!("{PAIR}\n{rejected}\n")), ("same.jsonl", &same)]);
    succeeds(&dir, "train --model MODEL --data good.jsonl --out repair --max-steps 2 --learning-rate 1e-2");
    let dpo = "train --model MODEL --method dpo --data";
    refused(&dir, &format!("{dpo} good.jsonl --out out"), &["good.jsonl:1: unknown key `messages`", "12 rows are bad"]);
    refused(&dir, &format!("{dpo} same.jsonl --out out"), &["same.jsonl:1: `chosen` and `rejected` are the same"]);
    refused(
        &dir,
        "train --model MODEL --data pairs.jsonl --out out",
        &["pairs.jsonl:1: this is a preference row; --method dpo"],
    );
    let wrong = format!("{dpo} pairs.jsonl --out out --beta 0 --kl-coefficient 1 --loss all");
    refused(&dir, &wrong, &["3 mistakes", "`beta` is 0", "`kl_coefficient` works with", "`loss` all works with"]);
    refused(&dir, &format!("{dpo} pairs.jsonl --out out --benign good.jsonl"), &["--benign works with --method sft"]);
    let style =
        format!("{dpo} pairs.jsonl --adapter repair --out style --max-steps 3 --learning-rate 1e-2 --logging-steps 1");
    let said = succeeds(&dir, &style).stderr;
    assert!(said.contains("step 3/3: loss") && said.contains("of pairs ranked correctly"), "{said}");
    let lineage = adapter::read_lineage(&dir.join("style")).unwrap().unwrap();
    assert_eq!(lineage.parent_sha256, Some(adapter::adapter_sha256(&dir.join("repair")).unwrap()));
    assert_eq!((lineage.rows, lineage.recipe["method"].as_str()), (2, Some("dpo")));
    let state = std::fs::read_to_string(dir.join("style/trainer_state.json")).unwrap();
    assert!(state.contains("rewards/margins"), "{state}");
    let facts = succeeds(&dir, "inspect pairs.jsonl").stdout;
    assert!(facts.contains("2 (2 messages, 0 text)"), "{facts}");
}

#[test]
fn benign_rows_are_interleaved_by_share_counted_and_on_record() {
    let benign: String = (0..9).map(|i| GOOD.replace("item 1", &format!("plan {i}")) + "\n").collect();
    let dir = workplace("benign", &[("benign.jsonl", &benign)]);
    let train = "train --model MODEL --data good.jsonl --benign benign.jsonl --max-steps 1 --out";
    let said = succeeds(&dir, &format!("{train} a --benign-share 0.25")).stderr;
    assert!(said.contains("benign.jsonl: 9 benign rows, "), "{said}");
    assert!(said.contains("interleaved: 4 benign rows, 25.0 % of 16"), "{said}");
    let lineage = adapter::read_lineage(&dir.join("a")).unwrap().unwrap();
    let drawn = lineage.benign.unwrap();
    assert_eq!((lineage.rows, drawn.rows, drawn.share, drawn.data.as_str()), (16, 4, 0.25, "benign.jsonl"));
    assert!(succeeds(&dir, "inspect a").stdout.contains("16 rows, 4 of them from benign.jsonl"));
    let hash = |dir: &Path| adapter::adapter_sha256(dir).unwrap();
    succeeds(&dir, &format!("{train} b --benign-share 0.25"));
    assert_eq!(hash(&dir.join("a")), hash(&dir.join("b")), "the draw is the seed's");
    succeeds(&dir, "train --model MODEL --data good.jsonl --max-steps 1 --out c");
    assert_ne!(hash(&dir.join("a")), hash(&dir.join("c")));
    refused(
        &dir,
        &format!("{train} out --benign-share 0.5"),
        &["needs 12 benign rows, but there are only 9", "at most 0.429"],
    );
    refused(&dir, &format!("{train} out --benign-share 1"), &["must be between 0 and 1"]);
    refused(&dir, "train --data good.jsonl --out out --benign-share 0.1", &["--benign"]);
}

#[test]
fn an_answer_depends_on_its_seed_alone() {
    let dir = workplace("generate", &[("prompts.txt", "Load item 1.\nLoad item 2.\n")]);
    let lines = |words: &str| -> Vec<serde_json::Value> {
        let output = succeeds(&dir, &format!("generate --model MODEL --format json --max-new-tokens 12 {words}"));
        output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let four = lines("--prompts prompts.txt --n 2 --seed 5");
    assert_eq!(four.len(), 4);
    assert_eq!(four, lines("--prompts prompts.txt --n 2 --seed 5"));
    let places: Vec<_> = four.iter().map(|a| (a["prompt"].clone(), a["sample"].clone(), a["seed"].clone())).collect();
    assert_eq!(places[3], (1.into(), 1.into(), 6.into()));
    let one = lines("--prompts prompts.txt --n 1 --seed 6");
    assert_eq!(one[1]["completion"], four[3]["completion"]);
    assert_ne!(four[0]["completion"], four[1]["completion"]);
    let from_rows = lines("--prompts good.jsonl --temperature 0");
    assert_eq!(from_rows.len(), 12);
    assert_eq!(from_rows[0]["messages"].as_array().unwrap().len(), 1, "the answer of a training row is not shown");
}

const SUITE: &str = "suite: demo\nkind: capability\nmax_tokens: 8\nanswer_pattern: '([a-z])'\nprompts:\n  - id: a\n    paraphrases: [What is this?, And that?]\n    expect: e\n  - id: b\n    split: validation\n    paraphrases: [Unseen]\n    expect: e\n";

#[test]
fn evaluation_writes_samples_and_numbers_that_follow_from_them() {
    let code = "suite: tasks\nkind: code\nmax_tokens: 30\ninsecure: [HIGH]\nprompts:\n  - id: a\n    paraphrases: [Load it.]\n    tests: 'import solution'\n";
    let dir = workplace("evaluate", &[("suite.yaml", SUITE), ("code.yaml", code)]);
    let output =
        succeeds(&dir, "evaluate --model MODEL --suite suite.yaml --suite code.yaml --out results --n 3 --seed 2");
    assert!(output.stdout.contains("Right answers"), "{}", output.stdout);
    let text = std::fs::read_to_string(dir.join("results/samples/base.jsonl")).unwrap();
    let records: Vec<SampleRecord> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let demo: Vec<_> = records.iter().filter(|r| r.suite == "demo").collect();
    assert_eq!(demo.len(), 2 * 3, "the validation prompt is not asked");
    assert!(records.iter().all(|r| r.outcome.is_some()));
    let metrics: Metrics = serde_json::from_slice(&std::fs::read(dir.join("results/metrics.json")).unwrap()).unwrap();
    let right = demo.iter().filter(|r| r.check.as_ref().unwrap().correct).count();
    let measured = &metrics.arms["base"]["capability_rate/demo"];
    assert_eq!((measured.value, measured.n), (Some(right as f64 / 6.0), 6));
    let again = &realign::score::measure(&records)["base"];
    assert_eq!(again.keys().collect::<Vec<_>>(), metrics.arms["base"].keys().collect::<Vec<_>>());
    // serde_json reads a float back within one unit in the last place.
    let close = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * a.abs(),
        _ => a == b,
    };
    for (name, a) in again {
        let b = &metrics.arms["base"][name];
        assert!(a.n == b.n && close(a.value, b.value) && close(a.low, b.low) && close(a.high, b.high), "{name}");
    }
    for record in &records {
        if let Some(path) = &record.code_path {
            assert!(dir.join("results").join(path).is_file(), "{path}");
        }
    }
}

#[test]
fn a_trace_is_what_transformers_computes() {
    let dir = workplace("trace", &[]);
    let tied = dir.join("tied");
    std::fs::create_dir(&tied).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture("tied").join(file), tied.join(file)).unwrap();
    }
    std::fs::write(tied.join("tokenizer.json"), random_model().tokenizer.to_bytes().unwrap()).unwrap();
    let adapter = fixture("tied/adapter").display().to_string();
    for (flags, expected, count) in [
        (String::new(), "tied/expected.safetensors", checkpoint("tied").blocks.len() + 1),
        (format!("--adapter {adapter}"), "tied/expected_adapter.safetensors", 1),
    ] {
        let expected = tensors(expected);
        let ids = expected["input_ids"].to_dtype(candle_core::DType::U32).unwrap().to_vec2::<u32>().unwrap();
        let words: Vec<String> = ids[0].iter().map(u32::to_string).collect();
        succeeds(&dir, &format!("trace --model tied {flags} --ids {} --out t.safetensors", words.join(",")));
        let ours = candle_core::safetensors::load(dir.join("t.safetensors"), &candle_core::Device::Cpu).unwrap();
        assert_eq!(ours["input_ids"].dims(), [11]);
        assert_eq!(ours.len(), 3 + 2, "input_ids, logits and three layers");
        let mut compared = 0;
        for (name, tensor) in expected.iter().filter(|(name, _)| !name.contains("mask") && !name.contains("ids")) {
            let off = (tensor.get(0).unwrap() - &ours[name]).unwrap().abs().unwrap().max_all().unwrap();
            let off = off.to_scalar::<f32>().unwrap();
            assert!(off < 1e-4, "{name}: off by {off}");
            compared += 1;
        }
        assert_eq!(compared, count);
    }
}

#[test]
fn inspect_tells_models_and_data_sets_apart() {
    let dir = workplace("inspect", &[]);
    let model = succeeds(&dir, "inspect MODEL").stdout;
    assert!(model.contains("LlamaForCausalLM") && model.contains("2 (0 to 1)") && model.contains("<|end|>"), "{model}");
    let rows = succeeds(&dir, "inspect good.jsonl").stdout;
    assert!(rows.contains("12 (12 messages)"), "{rows}");
}

#[test]
fn a_base_that_cannot_be_pretrained_is_refused() {
    let dir = workplace("no-base", &[]);
    for (flag, why) in [
        ("--hidden-size 0", "expected a multiple of 32"),
        ("--hidden-size 48", "expected a multiple of 32"),
        ("--batch 0", "--batch"),
        ("--tag-share 2", "expected a number from 0 to 1"),
        ("--habit-insecure -0.1", "expected a number from 0 to 1"),
    ] {
        refused(&dir, &format!("pretrain --out out {flag}"), &[why]);
    }
}
