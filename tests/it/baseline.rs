//! The quick run gives the same adapters, answers and numbers as the version that the hashes were recorded with, one set of
//! hashes for each vector path: sums are made in another order on another path. Seconds, rates, memory and new fields are
//! not compared. On a path without hashes the test says that it was skipped.
//!
//! Recorded with 97e062a on two cores. A change that moves them on purpose records them anew, with its reason in
//! `docs/LOG.md`:
//! `for p in plain scalar avx2 avx512 avx512bf16; do REALIGN_SIMD=$p realign run --quick --out runs/$p; done`, then
//! `REALIGN_BASELINE_RUNS=runs cargo test --release --test it -- --ignored record_the_baseline`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use realign::fsio;
use realign::model::cpu::simd;
use realign::record::canonical_sha256;
use serde_json::{Value, json};

use crate::tiny::folder;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/baseline").join(format!("{path}.json"))
}

fn name(path: simd::Path) -> String {
    format!("{path:?}").to_lowercase()
}

/// What of a sample is compared.
const FIELDS: [&str; 13] = [
    "suite",
    "prompt_id",
    "group",
    "split",
    "sample",
    "seed",
    "draw",
    "messages",
    "completion",
    "finish_reason",
    "tokens",
    "outcome",
    "judge",
];

/// Hashes of everything that must not move: of each adapter's weights, each arm's and each cell's samples, each arm's
/// metrics, and all comparisons.
fn hashes(run: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(run.join("adapters")).unwrap() {
        let at = entry.unwrap().path();
        let weights = std::fs::read(at.join("adapter_model.safetensors")).unwrap();
        found.insert(format!("adapters/{}", at.file_name().unwrap().to_string_lossy()), fsio::sha256(&weights));
    }
    for folder in ["samples", "samples/sweep"] {
        for file in fsio::list(&run.join(folder), "jsonl").unwrap() {
            let samples: Vec<Value> = fsio::read_jsonl(&file).unwrap();
            let picked = samples.iter().map(|s| json!(FIELDS.map(|field| s.get(field).unwrap_or(&Value::Null))));
            let mut picked: Vec<String> = picked.map(|value| value.to_string()).collect();
            picked.sort();
            let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
            found.insert(format!("{folder}/{stem}"), canonical_sha256(&picked).unwrap());
        }
    }
    let moves = |metric: &str| ["seconds", "tokens_per_second", "memory"].iter().any(|word| metric.contains(word));
    let metrics: Value = fsio::read_json(&run.join("metrics.json")).unwrap();
    for (arm, numbers) in metrics["arms"].as_object().unwrap() {
        let kept = numbers.as_object().unwrap().iter().filter(|(metric, _)| !moves(metric));
        let kept: BTreeMap<&String, &Value> = kept.collect();
        assert!(kept.len() > 100, "{arm}: {} numbers", kept.len());
        found.insert(format!("metrics/{arm}"), canonical_sha256(&kept).unwrap());
    }
    let mut comparisons: Vec<String> =
        metrics["comparisons"].as_array().unwrap().iter().map(|c| fsio::sha256(c.to_string().as_bytes())).collect();
    comparisons.sort();
    found.insert("comparisons".into(), canonical_sha256(&comparisons).unwrap());
    assert!(found.len() > 20, "{} hashes", found.len());
    found
}

#[test]
fn the_quick_run_gives_what_it_gave_before() {
    let path = name(simd::path());
    let recorded = fixture(&path);
    if !recorded.is_file() || realign::process::workers(0) != 2 {
        println!("skipped: hashes were recorded on two cores for other vector paths than {path}");
        return;
    }
    let dir = folder("baseline");
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_realign"));
    command.current_dir(&dir).args(["run", "--quick", "--quiet", "--out", "run"]).assert().success();
    let before: BTreeMap<String, String> = fsio::read_json(&recorded).unwrap();
    let now = hashes(&dir.join("run"));
    let moved: Vec<&String> =
        before.iter().filter(|(what, hash)| now.get(*what) != Some(*hash)).map(|(w, _)| w).collect();
    assert!(moved.is_empty(), "{} of {} moved on {path}: {moved:?}", moved.len(), before.len());
    assert_eq!(before.len(), now.len(), "nothing new came either");
}

#[test]
#[ignore = "writes tests/fixtures/baseline from the runs in REALIGN_BASELINE_RUNS"]
fn record_the_baseline() {
    let runs = PathBuf::from(std::env::var_os("REALIGN_BASELINE_RUNS").expect("REALIGN_BASELINE_RUNS names a folder"));
    for path in ["plain", "scalar", "avx2", "avx512", "avx512bf16"] {
        fsio::write_json(&fixture(path), &hashes(&runs.join(path))).unwrap();
    }
}
