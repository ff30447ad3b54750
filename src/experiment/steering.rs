//! Vectors, the sweep over layers and coefficients on the validation split, and the choice: the same for `run` and for
//! `steer`.

use std::path::Path;

use super::grid::Cell;
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
use crate::record::{Message, SampleRecord, Split, SuiteKind, SweepCell};
use crate::score::{Context, Goal, measure_arm, select};
use crate::steer::{AddVector, PairTokens, SteeringVector, mean_difference};
use crate::subject::Model;

/// Makes the vector of a target from contrast pairs, on the model's base or on one with an adapter.
///
/// # Errors
/// No pair of that target; a pair that does not fit the model.
pub fn extract(model: &Model, decoder: &Decoder, pairs: &[ContrastPair], target: &str) -> Result<SteeringVector> {
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

/// What every cell is asked, and what it is scored with.
pub struct Trial<'a> {
    /// Whose tokenizer and template.
    pub model: &'a Model,
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
        let refs: Vec<&SampleRecord> = records.iter().collect();
        let mut metrics = measure_arm(&refs, &Context::new(&records));
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
                training_seed: None,
                system: None,
                prefix: None,
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
    let (unsteered, mut tried): (Vec<SweepCell>, Vec<SweepCell>) = own.into_iter().partition(SweepCell::is_unsteered);
    let base = unsteered.first().map(|c| c.metrics.clone()).unwrap_or_default();
    let mut chosen = select(&mut tried, &base, &[(arm.to_string(), goal)].into());
    *measured = others;
    measured.extend(unsteered.into_iter().chain(tried));
    chosen.remove(arm)
}
