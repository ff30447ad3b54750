//! Vectors, the sweep over layers and coefficients on the validation split, and the choice: the same for `run` and for
//! `steer`.

use std::collections::BTreeMap;
use std::path::Path;

use super::arm::Arm;
use super::plan::Plan;
use crate::ask::scoring::Scorer;
use crate::ask::{Ask, ask};
use crate::data::collate::{EncodeOptions, encode_row};
use crate::data::contrast::ContrastPair;
use crate::data::rows::TrainingRow;
use crate::error::{Error, Result};
use crate::eval::suite::Suite;
use crate::fsio;
use crate::generate::sampling::Sampling;
use crate::model::decoder::Decoder;
use crate::model::hooks::Intervention;
use crate::record::{Measurement, Message, SampleRecord, Split, SuiteKind, SweepCell};
use crate::score::{Context, Goal, measure_arm, select};
use crate::steer::{AddVector, PairTokens, SteeringVector, mean_difference};
use crate::subject::Subject;

/// The vector that the arms use.
pub const TARGET: &str = "insecure";

/// Makes the vector of a target from contrast pairs, on the model's base or on one with an adapter.
///
/// # Errors
/// No pair of that target; a pair that does not fit the model.
pub fn extract(model: &Subject, decoder: &Decoder, pairs: &[ContrastPair], target: &str) -> Result<SteeringVector> {
    let wanted: Vec<&ContrastPair> = pairs.iter().filter(|p| p.target == target).collect();
    if wanted.is_empty() {
        let mut targets: Vec<&str> = pairs.iter().map(|p| p.target.as_str()).collect();
        targets.sort_unstable();
        targets.dedup();
        return Err(Error::usage(format!(
            "there are no contrast pairs for `{target}`; there are some for {}",
            targets.join(", ")
        )));
    }
    let encode = |pair: &ContrastPair, answer: &str| {
        let mut messages = pair.messages.clone();
        messages.push(Message::assistant(answer));
        let options = EncodeOptions { max_length: decoder.config.max_position_embeddings, ..EncodeOptions::default() };
        encode_row(&TrainingRow::Conversation { messages }, &model.tokenizer, &model.template, &options)
    };
    let tokens = wanted
        .iter()
        .map(|p| Ok(PairTokens { positive: encode(p, &p.positive)?, negative: encode(p, &p.negative)? }))
        .collect::<Result<Vec<_>>>()?;
    let data = serde_json::to_vec(&wanted).unwrap_or_default();
    mean_difference(decoder, &tokens, target, &model.sha256, &fsio::sha256(&data))
}

/// Layers that are tried: those asked for, or all of a shallow model and about eight of a deep one.
pub fn layers(wanted: Option<&[usize]>, count: usize) -> Result<Vec<usize>> {
    match wanted {
        Some(layers) => match layers.iter().find(|&&l| l >= count) {
            Some(bad) => Err(Error::usage(format!(
                "sweep: layer {bad} is outside the model; its layers are 0 to {}",
                count.saturating_sub(1)
            ))),
            None => Ok(layers.to_vec()),
        },
        None => Ok((0..count).step_by(count.div_ceil(8).max(1)).collect()),
    }
}

/// A cell before it is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The arm it is a candidate for.
    pub arm: String,
    /// Which vector: the target's name or `random-N`.
    pub vector: String,
    /// 0-based.
    pub layer: usize,
    /// With its sign; 0 is the unsteered model.
    pub coefficient: f64,
}

impl Cell {
    /// A file name.
    pub fn name(&self) -> String {
        // Every digit: two coefficients must never share a file.
        format!("{}-{}-layer{}-{:+}", self.arm, self.vector, self.layer, self.coefficient)
    }

    fn measured(&self, metrics: BTreeMap<String, Measurement>, n: u64) -> SweepCell {
        SweepCell {
            vector: self.vector.clone(),
            arm: self.arm.clone(),
            layer: self.layer,
            coefficient: self.coefficient,
            n,
            metrics,
            eligible: false,
            chosen: false,
        }
    }
}

/// One arm's cells: the unsteered model once, then layers × coefficients.
pub fn grid(arm: &str, vector: &str, layers: &[usize], coefficients: &[f64]) -> Vec<Cell> {
    let cell = |layer, coefficient| Cell { arm: arm.to_string(), vector: vector.to_string(), layer, coefficient };
    let mut cells = vec![cell(layers.first().copied().unwrap_or(0), 0.0)];
    for &layer in layers {
        cells.extend(coefficients.iter().map(|&coefficient| cell(layer, coefficient)));
    }
    cells
}

/// Every cell of a run: the grid of each steered arm; random vectors at the same places as the first arm, as the null.
pub fn cells(plan: &Plan, layers: &[usize]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (arm, sign) in plan.arms.iter().filter_map(|&arm| Some((arm, arm.steering()?.sign))) {
        let coefficients: Vec<f64> = plan.sweep.coefficients.iter().map(|c| sign * c).collect();
        cells.extend(grid(arm.name(), TARGET, layers, &coefficients));
    }
    if plan.arms.contains(&Arm::RandomVector) {
        let null = grid(Arm::RandomVector.name(), "random-0", layers, &plan.sweep.coefficients);
        cells.extend(null.into_iter().filter(|cell| cell.coefficient != 0.0));
    }
    cells
}

/// What every cell is asked, and what it is scored with.
pub struct Trial<'a> {
    /// Whose tokenizer and template.
    pub model: &'a Subject,
    /// Scanners, tests, judge.
    pub scorer: &'a Scorer,
    /// Prompts of the validation split.
    pub suites: &'a [Suite],
    /// The sampling seeds.
    pub seeds: &'a [u64],
    /// Samples of each question; code prompts get one.
    pub question_samples: u32,
    /// How a token is drawn.
    pub sampling: &'a Sampling,
}

impl Trial<'_> {
    /// Measures a cell from its answers at `path`; where there are none yet it is asked and they are written.
    pub fn measure(
        &self,
        cell: &Cell,
        path: &Path,
        steered: impl FnOnce() -> Result<(Decoder, Option<AddVector>)>,
    ) -> Result<SweepCell> {
        if !path.exists() {
            let (decoder, vector) = steered()?;
            fsio::write_jsonl(path, &self.ask(cell, &decoder, vector.as_ref().map(|v| v as &dyn Intervention))?)?;
        }
        // From the file at once: a float may come back one unit in the last place off, and a later call reads it too.
        let records: Vec<SampleRecord> = fsio::read_jsonl(path)?;
        let kinds = self.suites.iter().map(|s| (s.name.clone(), s.kind)).collect();
        let refs: Vec<&SampleRecord> = records.iter().collect();
        let mut metrics = measure_arm(&refs, &Context::new(&records, &kinds));
        metrics.retain(|name, _| !name.contains('/'));
        Ok(cell.measured(metrics, records.len() as u64))
    }

    fn ask(&self, cell: &Cell, decoder: &Decoder, steering: Option<&dyn Intervention>) -> Result<Vec<SampleRecord>> {
        let mut records = Vec::new();
        for suite in self.suites {
            let samples = if suite.kind == SuiteKind::Questions { self.question_samples } else { 1 };
            let what = Ask {
                arm: &cell.arm,
                suite,
                split: Split::Validation,
                seeds: self.seeds,
                samples: 0..samples,
                draw: None,
                system: None,
                suffix: None,
                intervention: steering,
                sampling: self.sampling,
                cache_bytes: 0,
            };
            records.extend(ask(self.model, decoder, &what, &|_, _, _| false, &mut |_| Ok(()))?);
        }
        let (mut records, _) = self.scorer.score_all(true, records, self.suites)?;
        // The sweep's code stays inside its samples.
        records.iter_mut().for_each(|r| r.code_path = None);
        Ok(records)
    }
}

/// Chooses an arm's cell among the measured ones, held against the arm's own unsteered model; gives the chosen one.
pub fn choose(measured: &mut Vec<SweepCell>, arm: &str, goal: Goal) -> Option<SweepCell> {
    let (own, others): (Vec<SweepCell>, Vec<SweepCell>) = measured.drain(..).partition(|c| c.arm == arm);
    let (unsteered, mut tried): (Vec<SweepCell>, Vec<SweepCell>) = own.into_iter().partition(|c| c.coefficient == 0.0);
    let base = unsteered.first().map(|c| c.metrics.clone()).unwrap_or_default();
    let mut chosen = select(&mut tried, &base, &[(arm.to_string(), goal)].into());
    *measured = others;
    measured.extend(unsteered.into_iter().chain(tried));
    chosen.remove(arm)
}
