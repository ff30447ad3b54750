//! Vectors, the sweep over layers and coefficients on the validation split, and the choice: the same for `run` and for
//! `steer`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::grid::Cell;
use crate::ask::scoring::Scorer;
use crate::ask::{Ask, ask_all};
use crate::data::collate::{EncodeOptions, encode_row};
use crate::data::contrast::ContrastPair;
use crate::data::rows::TrainingRow;
use crate::error::{Error, Result};
use crate::eval::suite::Suite;
use crate::fsio::{self, JsonlAppender};
use crate::model::decoder::Decoder;
use crate::model::hooks::Intervention;
use crate::record::{ArmSpec, Message, SampleRecord, Sampling, Split, SuiteKind, SweepCell};
use crate::score::{Context, Goal, measure_pooled, select};
use crate::steer::{AddVector, PairTokens, SteeringVector, mean_difference};
use crate::subject::Subject;

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

/// What every cell is asked, and what it is scored with.
pub struct Trial<'a> {
    /// Model whose tokenizer and template are used.
    pub model: &'a Subject,
    /// Scores the answers: scanners, tests, judge.
    pub scorer: &'a Scorer,
    /// Suites cut down to prompts of the validation split.
    pub suites: &'a [Suite],
    /// Sampling seeds, one for each sample of a prompt.
    pub seeds: &'a [u64],
    /// Samples of each question; code prompts get one.
    pub question_samples: u32,
}

/// A cell, what it adds, and where its answers go.
pub struct Tried<'a> {
    /// The cell that is measured.
    pub cell: &'a Cell,
    /// Whose words stand around the prompt; none without it.
    pub arm: Option<&'a ArmSpec>,
    /// How the cell's answers are sampled.
    pub sampling: &'a Sampling,
    /// The vector that is added; `None` for the unsteered model.
    pub added: Option<AddVector>,
    /// One JSON line an answer, scored.
    pub path: PathBuf,
}

/// A line of the journal: an answer that is not scored yet.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unscored {
    cell: String,
    record: SampleRecord,
}

impl Trial<'_> {
    /// Answers that each cell is asked for.
    pub fn answers(&self) -> usize {
        let each = |suite: &Suite| {
            let samples = self.samples(suite);
            let prompts = suite.prompts.iter().filter(|p| p.split == Split::Validation);
            prompts.map(|p| p.samples.map_or(samples, |n| n.min(samples)) as usize).sum::<usize>()
        };
        self.suites.iter().map(each).sum()
    }

    /// Asks one decoder for the answers of all cells that have no file yet, in one queue, scores them together and writes
    /// each cell's file. Answers are kept as they are made in a journal in the folder `unfinished`, which goes when all is
    /// written: a sweep that was killed goes on where it stopped. `on_answer` hears of each answer that is there.
    pub fn ask(
        &self,
        decoder: &Decoder,
        cells: &[Tried],
        unfinished: &Path,
        on_answer: &(dyn Fn() + Sync),
    ) -> Result<()> {
        let (done, cells): (Vec<&Tried>, Vec<&Tried>) = cells.iter().partition(|tried| tried.path.exists());
        (0..done.len() * self.answers()).for_each(|_| on_answer());
        if cells.is_empty() {
            return Ok(());
        }
        let journal = unfinished.join("answers.jsonl");
        let mut file = JsonlAppender::open(&journal)?;
        let asks: Vec<(usize, Ask)> = cells
            .iter()
            .enumerate()
            .flat_map(|(at, tried)| self.suites.iter().map(move |s| (at, s, tried)))
            .map(|(at, suite, tried)| (at, self.asked(tried, suite)))
            .collect();
        // By what is asked: answers of an earlier start.
        let places: BTreeMap<(String, &str), usize> = asks
            .iter()
            .enumerate()
            .map(|(at, (cell, ask))| ((cells[*cell].cell.name(), ask.suite.name.as_str()), at))
            .collect();
        let mut records: Vec<Vec<SampleRecord>> = vec![Vec::new(); asks.len()];
        for Unscored { cell, record } in fsio::read_jsonl(&journal)? {
            if let Some(&at) = places.get(&(cell, record.suite.as_str())) {
                records[at].push(record);
                on_answer();
            }
        }
        let known: BTreeSet<(usize, &str, u32)> = records
            .iter()
            .enumerate()
            .flat_map(|(at, of)| of.iter().map(move |r| (at, r.prompt_id.as_str(), r.sample)))
            .collect();
        let is_known = |at: usize, id: &str, sample: u32, _: Option<u32>| known.contains(&(at, id, sample));
        let questions: Vec<Ask> = asks.iter().map(|(_, ask)| ask.clone()).collect();
        let made = ask_all(self.model, decoder, &questions, &is_known, &mut |at, record| {
            on_answer();
            file.append(&[Unscored { cell: cells[asks[at].0].cell.name(), record: record.clone() }])
        })?;
        let mut of_cells: Vec<Vec<SampleRecord>> = vec![Vec::new(); cells.len()];
        for (((cell, ask), mut before), made) in asks.iter().zip(records).zip(made) {
            before.extend(made);
            let order: BTreeMap<&str, usize> =
                ask.prompts().iter().enumerate().map(|(at, p)| (p.id.as_str(), at)).collect();
            before.sort_by_key(|r| (order.get(r.prompt_id.as_str()).copied(), r.sample));
            of_cells[*cell].extend(before);
        }
        let counts: Vec<usize> = of_cells.iter().map(Vec::len).collect();
        let scored = self.scored(of_cells.into_iter().flatten().collect(), &counts)?;
        for (tried, records) in cells.iter().zip(scored) {
            fsio::write_jsonl(&tried.path, &records)?;
        }
        drop(file);
        fsio::remove_dir(unfinished)
    }

    /// Scores the answers of all cells in one go: equal code is scanned and tested once. Gives them back cell by cell, of
    /// `counts` answers each, suite by suite.
    fn scored(&self, records: Vec<SampleRecord>, counts: &[usize]) -> Result<Vec<Vec<SampleRecord>>> {
        // Of each suite in turn, which cell each answer belongs to: scoring gives them back in that order.
        let owner: Vec<usize> = counts.iter().enumerate().flat_map(|(cell, &n)| std::iter::repeat_n(cell, n)).collect();
        let mut owners = Vec::with_capacity(records.len());
        for suite in self.suites {
            owners.extend(records.iter().zip(&owner).filter(|(r, _)| r.suite == suite.name).map(|(_, &cell)| cell));
        }
        let (records, _) = self.scorer.score_all(true, records, self.suites)?;
        let mut cells: Vec<Vec<SampleRecord>> = vec![Vec::new(); counts.len()];
        for (mut record, cell) in records.into_iter().zip(owners) {
            // The sweep's code stays inside its samples.
            record.code_path = None;
            cells[cell].push(record);
        }
        Ok(cells)
    }

    /// A cell's metrics, from its answers at `path`.
    pub fn measure(&self, cell: &Cell, path: &Path) -> Result<SweepCell> {
        let records: Vec<SampleRecord> = fsio::read_jsonl(path)?;
        let refs: Vec<&SampleRecord> = records.iter().collect();
        Ok(cell.measured(measure_pooled(&refs, &Context::new(&records)), records.len() as u64))
    }

    fn samples(&self, suite: &Suite) -> u32 {
        if suite.kind == SuiteKind::Questions { self.question_samples } else { 1 }
    }

    fn asked<'a>(&'a self, tried: &'a Tried, suite: &'a Suite) -> Ask<'a> {
        Ask {
            arm: &tried.cell.arm,
            suite,
            split: Split::Validation,
            seeds: self.seeds,
            samples: 0..self.samples(suite),
            draw: None,
            training_seed: None,
            system: tried.arm.and_then(|arm| arm.system.as_deref()),
            prefix: tried.arm.and_then(|arm| arm.prefix.as_deref()),
            suffix: tried.arm.and_then(|arm| arm.suffix.as_deref()),
            intervention: tried.added.as_ref().map(|added| added as &dyn Intervention),
            sampling: tried.sampling,
            cache_bytes: 0,
        }
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
