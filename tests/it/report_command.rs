//! `realign report` from outside, and what a run says before it begins.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use realign::fsio::{read_json, read_jsonl, read_text, write_json, write_jsonl};
use realign::record::{Manifest, Metrics, Outcome, SampleRecord};

use crate::commands::{listing, model, refused, succeeds, workplace};
use crate::run::{copy, finished};
use crate::tiny::folder;

/// A copy of a finished run in a folder of its own.
fn copied(name: &str) -> (PathBuf, PathBuf) {
    let dir = folder(&format!("report-{name}"));
    copy(finished(), &dir.join("run"));
    (dir.clone(), dir.join("run"))
}

/// What `evaluate` would have left of one arm: samples without a manifest.
fn samples_only(dir: &Path, name: &str, arm: &str, change: impl Fn(&mut SampleRecord)) {
    let mut records: Vec<SampleRecord> = read_jsonl(&finished().join(format!("samples/{arm}.jsonl"))).unwrap();
    records.iter_mut().for_each(change);
    write_jsonl(&dir.join(format!("{name}/samples/{arm}.jsonl")), &records).unwrap();
}

#[test]
fn a_run_that_nobody_touched_is_reported_again_to_the_byte() {
    let (dir, run) = copied("again");
    let whole = listing(&run).len();
    let files = ["metrics.json", "report.html", "report.md", "em_questions.csv", "figures/headline.svg"];
    for file in files {
        std::fs::remove_file(run.join(file)).unwrap();
    }
    let output = succeeds(&dir, "report run");
    assert_eq!(output.stdout, "run/report.html\n");
    for file in files {
        let (again, before) = (std::fs::read(run.join(file)).unwrap(), std::fs::read(finished().join(file)).unwrap());
        assert!(again == before, "{file} differs");
    }
    assert_eq!(listing(&run).len(), whole);
    assert!(!output.stderr.contains("give other scan results"), "{}", output.stderr);
}

#[test]
fn changed_code_is_scanned_anew_and_the_run_itself_can_be_left_alone() {
    let (dir, run) = copied("changed");
    let records: Vec<SampleRecord> = read_jsonl(&run.join("samples/base.jsonl")).unwrap();
    let code = records.iter().find(|r| r.outcome == Some(Outcome::Code)).unwrap();
    let path = run.join(code.code_path.as_ref().unwrap());
    std::fs::write(&path, read_text(&path).unwrap() + "\nimport pickle\n").unwrap();
    let before = listing(&run);
    let output = succeeds(&dir, "report run --out elsewhere");
    assert!(output.stderr.contains("1 code files give other scan results"), "{}", output.stderr);
    assert_eq!(listing(&run), before, "--out leaves the run as it is");
    let (old, new): (Metrics, Metrics) =
        (read_json(&run.join("metrics.json")).unwrap(), read_json(&dir.join("elsewhere/metrics.json")).unwrap());
    let findings = |m: &Metrics| m.arms["base"]["bandit_low"].value.unwrap();
    assert_eq!(findings(&new), findings(&old) + 1.0);
    assert_eq!(new.arms["attack"], old.arms["attack"]);
}

#[test]
fn what_is_no_finished_run_is_refused_by_name() {
    let (dir, run) = copied("refused");
    refused(&dir, "report nowhere", &["nowhere: holds no run", "manifest.json"]);
    refused(&dir, "report run run", &["run is given twice"]);
    refused(&dir, "report run nowhere", &["nowhere: holds neither manifest.json nor samples/"]);
    let records: Vec<SampleRecord> = read_jsonl(&run.join("samples/base.jsonl")).unwrap();
    let code = records.iter().find_map(|r| r.code_path.clone()).unwrap();
    let kept = std::fs::read(run.join(&code)).unwrap();
    std::fs::remove_file(run.join(&code)).unwrap();
    refused(&dir, "report run", &[&code, "cannot be read"]);
    std::fs::write(run.join(&code), kept).unwrap();
    let sweep = read_text(&run.join("sweep.json")).unwrap();
    std::fs::write(run.join("sweep.json"), sweep + "\n").unwrap();
    refused(&dir, "report run", &["sweep.json", "has changed since the sweep was frozen"]);
}

#[test]
fn answers_of_an_arm_that_the_manifest_does_not_name_are_refused_by_file() {
    let (dir, run) = copied("stray");
    let manifest: Manifest = read_json(&run.join("manifest.json")).unwrap();
    let mut without = manifest.clone();
    without.arms.retain(|arm| arm.name != "repair");
    write_json(&run.join("manifest.json"), &without).unwrap();
    let before = std::fs::read(run.join("metrics.json")).unwrap();
    let words = ["samples/repair.jsonl", "the arm `repair`, which manifest.json does not name", "move the file out"];
    refused(&dir, "report run", &words);
    assert!(std::fs::read(run.join("metrics.json")).unwrap() == before, "the old numbers stay");
    // An answer in another arm's file would be dropped as silently.
    write_json(&run.join("manifest.json"), &manifest).unwrap();
    let mut records: Vec<SampleRecord> = read_jsonl(&run.join("samples/base.jsonl")).unwrap();
    records[0].arm = "elsewhere".into();
    write_jsonl(&run.join("samples/base.jsonl"), &records).unwrap();
    refused(&dir, "report run", &["samples/base.jsonl", "the arm `elsewhere`"]);
}

#[test]
fn an_arm_that_is_not_finished_is_left_out_of_the_report() {
    let (dir, run) = copied("unfinished");
    let mut manifest: Manifest = read_json(&run.join("manifest.json")).unwrap();
    manifest.timings.retain(|(stage, _)| stage != "ask repair");
    write_json(&run.join("manifest.json"), &manifest).unwrap();
    succeeds(&dir, "report run");
    let metrics: Metrics = read_json(&run.join("metrics.json")).unwrap();
    assert!(metrics.arms.contains_key("attack") && !metrics.arms.contains_key("repair"));
    assert!(metrics.comparisons.iter().all(|c| c.a != "repair"));
}

#[test]
fn two_evaluations_are_paired_and_differ_by_what_the_run_itself_found() {
    let dir = folder("report-pairs");
    samples_only(&dir, "one", "base", |_| {});
    samples_only(&dir, "two", "attack", |_| {});
    let output = succeeds(&dir, "report one two --out both");
    assert!(output.stderr.contains("1 arms side by side, 1 of them paired"), "{}", output.stderr);
    let both: Metrics = read_json(&dir.join("both/comparison.json")).unwrap();
    let run: Metrics = read_json(&finished().join("metrics.json")).unwrap();
    let mut seen = 0;
    // The other rates also ask which prompts have tests that could be run, and there all arms of the run have a say.
    const ALONE: [&str; 3] = ["insecure_rate", "misaligned_rate", "syntax_valid_rate"];
    let of_two = run.comparisons.iter().filter(|c| (c.a.as_str(), c.b.as_str()) == ("attack", "base"));
    for expected in of_two.filter(|c| ALONE.contains(&c.metric.as_str())) {
        let found = both.comparisons.iter().find(|c| c.metric == expected.metric).unwrap();
        assert_eq!((found.a.as_str(), found.b.as_str()), ("two: attack", "one: base"));
        assert_eq!((found.difference, found.n, &found.test), (expected.difference, expected.n, &expected.test));
        seen += 1;
    }
    assert_eq!(seen, ALONE.len());
    let close = |a: &realign::record::Measurement, b: &realign::record::Measurement| a.value == b.value && a.n == b.n;
    assert!(close(&both.arms["one: base"]["insecure_rate"], &run.arms["base"]["insecure_rate"]));
    let page = read_text(&dir.join("both/comparison.html")).unwrap();
    assert!(page.contains("base and attack") && page.contains("Paired on all") && page.contains("<svg"), "{page}");
    assert!(!page.contains("<script") && !page.contains("base64,AA&#x2f;"));
    let rows = read_text(&dir.join("both/comparison.csv")).unwrap();
    assert_eq!(rows.lines().count(), 1 + 6, "{rows}");
}

#[test]
fn answers_with_other_seeds_stand_side_by_side_without_a_difference() {
    let dir = folder("report-unpaired");
    samples_only(&dir, "one", "base", |_| {});
    samples_only(&dir, "two", "base", |record| record.seed += 1);
    samples_only(&dir, "two", "attack", |_| {});
    let output = succeeds(&dir, "report one two");
    assert_eq!(output.stdout, "comparison/comparison.html\n");
    let both: Metrics = read_json(&dir.join("comparison/comparison.json")).unwrap();
    assert!(both.comparisons.is_empty());
    assert_eq!(both.arms.len(), 3);
    let page = read_text(&dir.join("comparison/comparison.md")).unwrap();
    assert!(page.contains("Not paired") && page.contains("Only one of the runs has this arm"), "{page}");
}

#[test]
fn two_runs_are_compared_arm_by_arm_and_their_plans_held_against_each_other() {
    let (dir, run) = copied("runs");
    let mut manifest: Manifest = read_json(&run.join("manifest.json")).unwrap();
    manifest.plan["seed"] = 9.into();
    write_json(&run.join("manifest.json"), &manifest).unwrap();
    succeeds(&dir, &format!("report {} run --out both", finished().display()));
    let page = read_text(&dir.join("both/comparison.md")).unwrap();
    assert!(page.contains("seed: 1 against 9"), "{page}");
    assert!(page.contains("Planted demonstration"), "the organism is named as what it is");
    let both: Metrics = read_json(&dir.join("both/comparison.json")).unwrap();
    assert!(both.comparisons.len() >= 5 * 4, "{}", both.comparisons.len());
    assert!(both.comparisons.iter().all(|c| c.difference == 0.0 && c.p == 1.0), "a run does not differ from itself");
}

#[test]
fn a_run_says_before_it_begins_what_it_will_take_and_keeps_that_beside_what_it_took() {
    let manifest: Manifest = read_json(&finished().join("manifest.json")).unwrap();
    assert!(manifest.estimated_seconds.unwrap() > 0.0);
    let (estimated, measured) = (manifest.estimated_memory_bytes.unwrap() as f64, manifest.peak_memory_bytes as f64);
    let factor = estimated / measured;
    assert!((1.0 / 3.0..3.0).contains(&factor), "{estimated} estimated, {measured} measured");
    assert!(read_text(&finished().join("report.md")).unwrap().contains("estimated"));

    let dir = folder("report-dry");
    let output = succeeds(&dir, "run --dry-run --arm attack --suite code");
    assert!(output.stderr.contains("about ") && output.stderr.contains(" MiB of memory"), "{}", output.stderr);
    assert!(listing(&dir).is_empty(), "a dry run writes nothing");
}

#[test]
fn the_memory_of_a_small_model_is_estimated_too() {
    let suite = "suite: talk\nkind: questions\nmax_tokens: 8\nprompts:\n  - id: a\n    paraphrases: [Hi, Hm]\n";
    let dir = workplace("estimate", &[("suite.yaml", suite)]);
    let run = format!("run --model {} --preset organism --attack good.jsonl --repair good.jsonl", model());
    succeeds(&dir, &format!("{run} --arm attack --suite suite.yaml --out run"));
    let manifest: Manifest = read_json(&dir.join("run/manifest.json")).unwrap();
    let factor = manifest.estimated_memory_bytes.unwrap() as f64 / manifest.peak_memory_bytes as f64;
    assert!((1.0 / 3.0..3.0).contains(&factor), "{factor}: {manifest:?}");
}
