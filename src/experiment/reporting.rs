//! From what a run left on disk to its numbers and pages: the last stage of a run, and `realign report`, which is that
//! stage once more. Nothing is sampled and nothing executed here.

use std::collections::BTreeMap;
use std::path::Path;

use super::artifacts::Artifacts;
use super::labels::read_labels;
use crate::error::{Error, Result};
use crate::fsio;
use crate::record::{ArmSpec, Manifest, Measurement, Metrics, Role, SampleRecord, SuiteKind, SweepCell, TrainerState};
use crate::report::{ReportInput, render};
use crate::scan::{ScanOptions, scan_many};
use crate::score::{
    HEADLINE_METRICS, compare, comparisons_apart, default_comparisons, judge_tallies, judged_by_question,
    log_odds_shifts, measure, pair_comparisons, seed_comparisons, seed_rates,
};
use crate::stats::mean;
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
    let mut arms = measure(samples);
    for spec in &manifest.arms {
        if let Some(measured) = arms.get_mut(&spec.name) {
            measured.extend(held_out_losses(manifest, spec));
        }
    }
    let (judges, agreement) = judge_tallies(samples);
    let mut contrasts = default_comparisons(&manifest.arms);
    contrasts.extend(comparisons_apart(&manifest.arms, samples));
    contrasts.extend(pair_comparisons(&manifest.arms, samples));
    let metrics = Metrics {
        comparisons: compare(samples, &contrasts),
        seed_rates: seed_rates(samples, &HEADLINE_METRICS),
        seed_comparisons: seed_comparisons(samples, &contrasts),
        log_odds_shifts: log_odds_shifts(&manifest.arms, samples),
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

/// The loss of an arm's model on what the plan holds out: the mean over its training seeds. An arm that also steers, or
/// adds words to the prompt, is not the model that was measured.
fn held_out_losses(manifest: &Manifest, arm: &ArmSpec) -> BTreeMap<String, Measurement> {
    let of_adapter = |set: &str, adapter: &String| {
        let trained = manifest.adapters.iter().filter(|(folder, _)| {
            *folder == adapter || folder.strip_prefix(adapter).is_some_and(|rest| rest.starts_with("/seed-"))
        });
        let losses: Vec<f64> = trained.filter_map(|(_, l)| l.held_out_loss.get(set).map(|&(_, after)| after)).collect();
        mean(&losses)
    };
    let loss = |set: &str, base: Option<f64>| match &arm.adapter {
        Some(adapter) if !arm.is_steered() && !arm.is_prompted() => of_adapter(set, adapter),
        None if arm.is_base() => base,
        _ => None,
    };
    let measured = manifest.held_out.iter().filter_map(|(set, held_out)| {
        let value = Some(loss(set, held_out.base_loss)?);
        let measurement = Measurement { value, n: held_out.rows.len() as u64, low: None, high: None };
        Some((format!("held_out_loss/{set}"), measurement))
    });
    measured.collect()
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
