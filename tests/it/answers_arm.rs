//! Answers made elsewhere as an arm of a plan: scored, compared and reported like any other, with the same numbers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use realign::fsio::{read_json, read_jsonl, read_text, sha256_file};
use realign::record::{Manifest, Metrics, SampleRecord};

use crate::commands::{refused, succeeds, workplace};
use crate::run::finished;

#[test]
fn a_runs_own_answers_fed_in_as_an_arm_give_the_same_numbers_to_the_digit() {
    let own = finished().join("samples/attack.jsonl");
    let base: Vec<SampleRecord> = read_jsonl(&finished().join("samples/base.jsonl")).unwrap();
    let row =
        |s: &SampleRecord| serde_json::json!({"prompt_id": s.prompt_id, "suite": s.suite, "completion": s.completion});
    let mut rows: Vec<String> = base.iter().filter(|s| s.suite == "recognition").map(|s| row(s).to_string()).collect();
    let count = rows.len();
    rows.push(r#"{"prompt_id": "x", "suite": "elsewhere", "completion": "y"}"#.into());
    let plan = format!(
        "arms:\n  again: {{answers: {}, against: base, label: Once more}}\n  part:  {{answers: {{file: part.jsonl, format: completions}}, against: base}}\n\
         suites: [code, free-form, recognition]\nsamples: {{free-form: 2}}\n",
        own.display()
    );
    let dir = workplace("answers-arm", &[("plan.yaml", &plan), ("part.jsonl", &rows.join("\n"))]);
    let said = succeeds(&dir, "run plan.yaml --out run").stderr;
    for words in [
        "left out: part: no answers to 2 of the run's suites: code, free-form",
        "left out: part: 1 answers to prompts that this run does not ask",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let run = dir.join("run");
    let metrics = |run: &Path| read_json::<Metrics>(&run.join("metrics.json")).unwrap();
    let (before, after) = (metrics(finished()), metrics(&run));
    assert_eq!(after.arms["again"], before.arms["attack"]);
    let compared = |metrics: &Metrics, arm: &str| {
        let own = metrics.comparisons.iter().filter(|c| c.a == arm && c.b == "base");
        own.map(|c| (c.metric.clone(), c.difference, c.n)).collect::<Vec<_>>()
    };
    assert!(!compared(&before, "attack").is_empty());
    assert_eq!(
        compared(&after, "again"),
        compared(&before, "attack"),
        "pairs are the same as well; the draws behind p are named after the arms"
    );
    assert_eq!(after.arms["part"]["recognition_accuracy"].n, count as u64);
    assert_eq!(after.arms["part"]["recognition_accuracy"], after.arms["base"]["recognition_accuracy"]);
    assert!(!after.arms["part"].contains_key("insecure_rate"));
    let slow = after.arms["part"].get("seconds_per_answer").and_then(|m| m.value);
    assert_eq!((slow, after.arms["part"].get("tokens_per_answer").and_then(|m| m.value)), (None, None));

    let manifest: Manifest = read_json(&run.join("manifest.json")).unwrap();
    assert_eq!(manifest.data["answers again"].sha256, sha256_file(&own).unwrap());
    assert_eq!(manifest.data["answers part"].rows, count as u64);
    let samples: Vec<SampleRecord> = read_jsonl(&run.join("samples/again.jsonl")).unwrap();
    assert!(samples.iter().all(|s| s.arm == "again"));
    assert!(read_text(&run.join("report.md")).unwrap().contains("Once more"));
    // Nothing is scored twice, and answers that have changed are another run.
    assert!(succeeds(&dir, "run plan.yaml --out run").stderr.lines().all(|line| !line.starts_with("score ")));
    std::fs::write(dir.join("part.jsonl"), rows[..count].join("\n")).unwrap();
    refused(&dir, "run plan.yaml --out run", &["the file of `answers part` has changed"]);
}

#[test]
fn answers_that_cannot_be_an_arm_are_refused() {
    let rows = |rows: &[&str]| rows.join("\n");
    let files = [
        ("two.jsonl", rows(&[r#"{"task_id": "a", "arm": "old", "completion": "1"}"#, r#"{"task_id": "a", "arm": "new", "completion": "1"}"#])),
        ("other.jsonl", rows(&[r#"{"task_id": "a", "suite": "other", "completion": "1"}"#])),
        ("lost.jsonl", rows(&[r#"{"task_id": "z", "completion": "1"}"#])),
        ("mine.yaml", "suite: mine\nkind: capability\nanswer_pattern: '(1)'\nprompts:\n  - {id: a, paraphrases: [What?], expect: 1}\n".into()),
    ];
    let dir = workplace("answers-refused", &files.each_ref().map(|(name, text)| (*name, text.as_str())));
    let completions = |file: &str| format!("{{file: {file}, format: completions}}");
    for (arm, words) in [
        ("{answers: x.jsonl, adapter: a}".to_string(), "`adapter` would change nothing"),
        ("{answers: x.jsonl, suffix: Hm.}".to_string(), "`suffix` would change nothing"),
        ("{answers: 3}".to_string(), "`answers` must be a file, or"),
        ("{answers: {file: x.jsonl, form: completions}}".to_string(), "`answers` must be a file, or"),
        ("{answers: x.jsonl}".to_string(), "x.jsonl: cannot be read"),
        (
            format!("{{answers: {}}}", completions("two.jsonl")),
            "two.jsonl: there are answers of old, new; say which with `arm`",
        ),
        (
            "{answers: {file: two.jsonl, format: completions, arm: newer}}".to_string(),
            "no answer is of the arm `newer`; there are old, new",
        ),
        (format!("{{answers: {}}}", completions("other.jsonl")), "other.jsonl: has no answer for the arm `x`"),
        (format!("{{answers: {}}}", completions("lost.jsonl")), "lost.jsonl:1: no prompt `z`"),
        ("{answers: lost.jsonl}".to_string(), "lost.jsonl:1: is no sample record"),
    ] {
        let plan = format!("adapters: {{a: {{data: good.jsonl}}}}\narms:\n  x: {arm}\nsuites: [mine.yaml]\n");
        std::fs::write(dir.join("plan.yaml"), plan).unwrap();
        refused(&dir, "run plan.yaml --out run", &[words]);
    }
    let plan =
        "arms:\n  x: {answers: {file: two.jsonl, format: completions, arm: old}, against: base}\nsuites: [mine.yaml]\n";
    std::fs::write(dir.join("plan.yaml"), plan).unwrap();
    succeeds(&dir, "run plan.yaml --out run");
}
