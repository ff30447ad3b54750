//! From what a run left on disk to its numbers and pages: the last stage of a run, and `realign report`, which is that
//! stage once more. Nothing is sampled and nothing executed here.

use std::collections::BTreeMap;
use std::path::Path;

use super::artifacts::Artifacts;
use super::labels::read_labels;
use crate::error::{Error, Result};
use crate::fsio;
use crate::record::{ArmSpec, Manifest, Metrics, Role, SampleRecord, SuiteKind, SweepCell, TrainerState};
use crate::report::{ReportInput, render};
use crate::scan::{ScanOptions, scan_many};
use crate::score::{
    HEADLINE_METRICS, compare, default_comparisons, judge_tallies, judged_by_question, measure, seed_comparisons,
    seed_rates,
};
use crate::train::checkpoint::STATE_FILE;

/// Writes `metrics.json` and the report of a run into `out`, from its samples; gives every number.
pub fn report(at: &Artifacts, out: &Path) -> Result<Metrics> {
    write(at, &read_manifest(at)?, &read_samples(at)?, out)
}

/// The same with the code scanned once more. Says how many files scan otherwise than when they were made: the scanners
/// have changed since, or somebody changed `code/`. Their tests are not run again.
pub fn report_again(at: &Artifacts, out: &Path) -> Result<(Metrics, usize)> {
    let manifest = read_manifest(at)?;
    let mut samples = read_samples(at)?;
    let changed = scan_again(at, &mut samples)?;
    Ok((write(at, &manifest, &samples, out)?, changed))
}

/// A run's manifest; where there is none, no run was begun.
pub fn read_manifest(at: &Artifacts) -> Result<Manifest> {
    if !at.manifest().is_file() {
        return Err(Error::file(
            at.root(),
            "holds no run: there is no manifest.json; name a folder that `realign run` made",
        ));
    }
    fsio::read_json(&at.manifest())
}

/// The answers of every arm that is finished, in the plan's order. An arm whose answers are not all there yet would be
/// measured on other prompts than the rest.
///
/// # Errors
/// A file in `samples/`, or an answer in one, of an arm that the manifest does not name: no table would show it.
pub fn read_samples(at: &Artifacts) -> Result<Vec<SampleRecord>> {
    let manifest = read_manifest(at)?;
    let finished = |arm: &&ArmSpec| manifest.timings.iter().any(|(stage, _)| *stage == format!("ask {}", arm.name));
    let stray = |path: &Path, arm: &str| {
        let known: Vec<&str> = manifest.arms.iter().map(|arm| arm.name.as_str()).collect();
        let message = format!(
            "holds answers of the arm `{arm}`, which manifest.json does not name (it has {}); put back the manifest of this \
             run, or move the file out of the folder",
            known.join(", ")
        );
        Error::file(path, message)
    };
    let folder = at.samples_folder();
    let files = if folder.is_dir() { fsio::list(&folder, "jsonl")? } else { Vec::new() };
    for path in files {
        let arm = path.file_stem().unwrap_or_default().to_string_lossy();
        if !manifest.arms.iter().any(|known| known.name == arm) {
            return Err(stray(&path, &arm));
        }
    }
    let mut samples: Vec<SampleRecord> = Vec::new();
    for arm in manifest.arms.iter().filter(finished) {
        let path = at.samples(&arm.name);
        let own: Vec<SampleRecord> = fsio::read_jsonl(&path)?;
        if let Some(other) = own.iter().find(|sample| sample.arm != arm.name) {
            return Err(stray(&path, &other.arm));
        }
        samples.extend(own);
    }
    if samples.is_empty() {
        return Err(Error::file(
            at.root(),
            "has no finished arm yet; resume the run with `realign run` and the same --out",
        ));
    }
    Ok(samples)
}

/// The sweep's cells, as they were frozen; none where nothing was steered.
pub fn read_sweep(at: &Artifacts, manifest: &Manifest) -> Result<Vec<SweepCell>> {
    let path = at.sweep();
    if !path.exists() {
        return Ok(Vec::new());
    }
    if manifest.sweep_sha256.as_ref().is_some_and(|frozen| fsio::sha256_file(&path).ok().as_ref() != Some(frozen)) {
        return Err(Error::file(
            &path,
            "has changed since the sweep was frozen: its SHA-256 differs from the manifest's. The choice must not change \
             after the test split was asked; put the old file back",
        ));
    }
    fsio::read_json(&path)
}

fn write(at: &Artifacts, manifest: &Manifest, samples: &[SampleRecord], out: &Path) -> Result<Metrics> {
    let sweep = read_sweep(at, manifest)?;
    let arms = measure(samples);
    let (judges, agreement) = judge_tallies(samples);
    let contrasts = default_comparisons(&manifest.arms);
    let metrics = Metrics {
        comparisons: compare(samples, &contrasts),
        seed_rates: seed_rates(samples, &HEADLINE_METRICS),
        seed_comparisons: seed_comparisons(samples, &contrasts),
        selection: sweep.iter().filter(|c| c.chosen).map(|c| (c.arm.clone(), c.clone())).collect(),
        arms,
        judges,
        agreement,
        by_question: judged_by_question(samples, &manifest.arms),
        labels: read_labels(at, &manifest.arms, samples)?.map(|read| read.scores(&manifest.arms)),
    };
    let mut training: BTreeMap<String, TrainerState> = BTreeMap::new();
    for name in manifest.adapters.keys() {
        training.insert(name.clone(), fsio::read_json(&at.adapter(name).join(STATE_FILE))?);
    }
    let question_titles = titles(samples);
    let input = ReportInput {
        manifest,
        metrics: &metrics,
        sweep: &sweep,
        training: &training,
        samples,
        question_titles: &question_titles,
    };
    fsio::write_json(&Artifacts::new(out).metrics(), &metrics)?;
    for (path, bytes) in render(&input)? {
        fsio::write_derived(&out.join(path), &bytes)?;
    }
    Ok(metrics)
}

/// A question of each group, to name it by.
fn titles(samples: &[SampleRecord]) -> BTreeMap<String, String> {
    let mut titles = BTreeMap::new();
    for sample in samples.iter().filter(|s| s.kind == SuiteKind::Questions) {
        if let Some(question) = sample.messages.iter().rfind(|m| m.role == Role::User) {
            titles.entry(sample.group.clone()).or_insert_with(|| question.content.clone());
        }
    }
    titles
}

/// Scans the code files and puts what is found into the samples; gives how many differ from what stood there.
fn scan_again(at: &Artifacts, samples: &mut [SampleRecord]) -> Result<usize> {
    let with_code: Vec<&mut SampleRecord> = samples.iter_mut().filter(|s| s.code_path.is_some()).collect();
    let texts = with_code
        .iter()
        .map(|s| fsio::read_text(&at.root().join(s.code_path.as_deref().unwrap_or_default())))
        .collect::<Result<Vec<String>>>()?;
    let scans = scan_many(&texts.iter().map(String::as_str).collect::<Vec<_>>(), &ScanOptions::default());
    let mut changed = 0;
    for (sample, mut scan) in with_code.into_iter().zip(scans) {
        scan.path.clear(); // the record names the file itself
        changed += usize::from(sample.scan.as_ref() != Some(&scan));
        sample.scan = Some(scan);
    }
    Ok(changed)
}
