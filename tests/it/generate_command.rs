//! `realign generate` and the sampling settings that it shares with `evaluate` and plans, from outside.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use realign::experiment::plan::{OpenPlan, Overrides, Plan};
use serde_json::Value;

use crate::commands::{model, realign, refused, succeeds, workplace};
use crate::tiny::random_model_folder;

const PROMPTS: &str = "Load item 1.\nLoad item 2.\nWrite größer.\n";

/// What is answered, an object a line; words are given one by one.
fn answers(dir: &Path, words: &[&str]) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_realign"));
    let shared = ["generate", "--model", model(), "--format", "json", "--max-new-tokens", "24"];
    let output = command.args(shared).args(words).current_dir(dir).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert!(output.status.success(), "{words:?}\n{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_stop_string_cuts_the_answer_and_the_line_says_which() {
    let dir = workplace("generate-stop", &[]);
    let prompt = ["--prompt", "Load item 1.", "--seed", "4"];
    let whole = &answers(&dir, &prompt)[0];
    let text = whole["completion"].as_str().unwrap();
    assert_eq!((&whole["finish_reason"], &whole["stop_reason"]), (&"length".into(), &Value::Null));
    let stop: String = text.chars().skip(5).take(2).collect();
    let cut = &answers(&dir, &[&prompt[..], &["--stop", "never said", "--stop", &stop]].concat())[0];
    assert_eq!(cut["completion"].as_str(), Some(&text[..text.find(&stop).unwrap()]));
    assert_eq!((&cut["finish_reason"], &cut["stop_reason"]), (&"stop_string".into(), &stop.into()));
    assert!(cut["tokens"].as_u64() < whole["tokens"].as_u64());
}

#[test]
fn text_is_the_same_streamed_or_not_and_in_the_order_of_the_prompts() {
    let dir = workplace("generate-stream", &[("prompts.txt", PROMPTS)]);
    let words = "generate --model MODEL --prompts prompts.txt --n 3 --max-new-tokens 30";
    let plain = succeeds(&dir, words).stdout;
    assert_eq!(succeeds(&dir, &format!("{words} --stream")).stdout, plain);
    let heads: Vec<&str> = plain.lines().filter(|line| line.starts_with("--- prompt ")).collect();
    assert_eq!(heads.len(), 9);
    assert!(heads.is_sorted(), "{heads:?}");
    // A single answer has no headline.
    let one = succeeds(&dir, "generate --model MODEL --prompt Hi --max-new-tokens 5 --stream").stdout;
    assert!(!one.contains("---") && one.ends_with('\n'), "{one}");
}

#[test]
fn json_asks_for_lines_of_answers_as_well_as_for_events() {
    let dir = workplace("generate-json", &[("prompts.txt", PROMPTS)]);
    let output = succeeds(&dir, "generate --json --model MODEL --prompts prompts.txt --max-new-tokens 5");
    let lines: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["seed"] == 0 && line["tokens"].is_u64() && line["finish_reason"].is_string()));
    assert!(output.stderr.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{}", output.stderr);
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_line_that_was_begun_and_exits_with_130() {
    let dir = workplace("generate-interrupt", &[]);
    let words = format!("generate --model {} --prompt Hi --n 40000 --stream", model());
    let mut child = Command::new(env!("CARGO_BIN_EXE_realign"))
        .args(words.split(' '))
        .current_dir(&dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut printed = Vec::new();
    stdout.read_until(b'\n', &mut printed).unwrap();
    assert!(printed.starts_with(b"--- prompt 1, answer 1, seed 0"));
    // SAFETY: a signal to a process that is this test's own child and was not waited for yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    stdout.read_to_end(&mut printed).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(printed.ends_with(b"\n"));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap().lines().filter(|l| l.starts_with("error: interrupted")).count(),
        1
    );
}

#[test]
fn a_models_own_settings_are_taken_only_where_they_are_asked_for() {
    let own = random_model_folder("generate-own");
    let own = own.display();
    let dir = workplace("generate-from-model", &[]);
    let ask = |words: &str| {
        succeeds(&dir, &format!("generate --model {own} --prompt Hi --seed 3 --max-new-tokens 20 {words}")).stdout
    };
    let (drawn, likeliest) = (ask(""), ask("--temperature 0"));
    assert_ne!(drawn, likeliest);
    let from_model = format!("generate --model {own} --prompt Hi --sampling-from-model");
    refused(&dir, &from_model, &["has no generation_config.json", "--temperature, --top-k"]);
    let write = |text: &str| std::fs::write(format!("{own}/generation_config.json"), text).unwrap();
    write(r#"{"do_sample": true, "temperature": 0.7, "top_k": 1, "eos_token_id": [0]}"#);
    assert_eq!(ask(""), drawn, "nothing of it is used unasked");
    assert_eq!(ask("--sampling-from-model"), likeliest, "of one token the likeliest is drawn");
    assert_eq!(ask("--sampling-from-model --top-k 0 --temperature 1"), drawn, "flags stand over it");
    write(r#"{"temperature": 0.7}"#);
    assert_eq!(ask("--sampling-from-model"), likeliest, "without do_sample nothing is drawn");
    write(r#"{"do_sample": true, "typical_p": 0.9}"#);
    refused(&dir, &from_model, &["sets `typical_p` to 0.9", "is not supported; give the sampling settings one by one"]);
    write(r#"{"do_sample": true, "min_p": 3}"#);
    refused(&dir, &from_model, &["generation_config.json: min_p is 3"]);
}

#[test]
fn settings_that_cannot_be_met_are_refused_with_the_way_out() {
    let dir = workplace("generate-refused", &[("plan.yaml", "sampling: {min_p: 2}\n")]);
    let generate = "generate --model MODEL --prompt Hi";
    refused(&dir, &format!("{generate} --min-p 1.5"), &["min_p is 1.5; it must be between 0"]);
    refused(&dir, &format!("{generate} --repetition-penalty -1"), &["repetition_penalty is -1; it must be above 0"]);
    refused(&dir, &format!("{generate} --stop="), &["a stop string is empty"]);
    refused(&dir, &format!("{generate} --stream --format json"), &["--stream prints text while it is generated"]);
    refused(&dir, &format!("{generate} --kv-cache-gib 0"), &["--kv-cache-gib is 0; it must be a number above 0"]);
    refused(
        &dir,
        &format!("{generate} --kv-cache-gib 0.00001"),
        &["needs 0.00 GiB", "--max-new-tokens", "--kv-cache-gib"],
    );
    refused(&dir, "evaluate --model MODEL --suite code --out out --top-p 2", &["top_p is 2"]);
    refused(&dir, "run plan.yaml --model MODEL --out out", &["min_p is 2; it must be between 0"]);
}

#[test]
fn plans_take_the_same_settings_and_keep_them() {
    let plan = |yaml: &str| -> realign::error::Result<Plan> {
        let dir = workplace("generate-plan", &[("plan.yaml", yaml)]);
        OpenPlan::read(Some(&dir.join("plan.yaml")), Overrides::default())?.resolve(4)
    };
    let text = "model: organism\nsampling:\n  temperature: 0.7\n  top_k: 40\n  min_p: 0.05\n  repetition_penalty: 1.1\n  stop: ['# End']\n";
    let sampling = plan(text).unwrap().sampling;
    assert_eq!((sampling.top_k, sampling.min_p, sampling.repetition_penalty), (40, 0.05, 1.1));
    assert_eq!((sampling.top_p, sampling.stop), (1.0, vec!["# End".to_string()]));
    let old = plan(&format!("{text}sampling_from_model: true\n")).unwrap_err().to_string();
    assert!(old.contains("plan.yaml:8:") && old.contains("`sampling: from_model`"), "{old}");
    let without = plan("sampling: from_model\n").unwrap_err().to_string();
    assert!(without.contains("generation_config.json"), "{without}");
    assert!(plan("sampling: {top_q: 1}\n").unwrap_err().to_string().contains("top_q"));
}

#[test]
fn an_evaluation_says_how_its_answers_were_drawn() {
    let suite = "suite: demo\nkind: capability\nmax_tokens: 8\nanswer_pattern: '([a-z])'\nprompts:\n  - id: a\n    paraphrases: [What is this?]\n    expect: e\n";
    let dir = workplace("generate-evaluate", &[("suite.yaml", suite)]);
    let evaluate = "evaluate --model MODEL --suite suite.yaml --seed 2 --top-k 3 --stop zz --kv-cache-gib 1";
    succeeds(&dir, &format!("{evaluate} --out results"));
    let settings: Value = serde_json::from_slice(&std::fs::read(dir.join("results/settings.json")).unwrap()).unwrap();
    assert_eq!((&settings["seed"], &settings["n"], &settings["suites"][0][0]), (&2.into(), &1.into(), &"demo".into()));
    let sampling = &settings["sampling"];
    assert_eq!((&sampling["top_k"], &sampling["top_p"], &sampling["stop"][0]), (&3.into(), &1.0.into(), &"zz".into()));
    assert_eq!(realign(&dir, &format!("{evaluate} --out results")).code, 2, "a used folder is refused");
}
