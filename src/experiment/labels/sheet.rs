//! Writing a blinded sheet: which answers, in which order, and the key that stays in the run folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::seq::SliceRandom;

use super::cards::{Card, CardUse};
use super::form::{self, SheetRow};
use super::{Place, read_key, shown_answers, text_sha256};
use crate::error::{Error, Result};
use crate::experiment::artifacts::Artifacts;
use crate::experiment::reporting::{read_manifest, read_samples};
use crate::fsio;
use crate::record::{KeyRow, LabelKey, RowSource, SampleRecord, Split, SuiteKind, canonical_sha256};
use crate::rng;

/// Which answers of a run are to be read.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Suites; all suites of questions where it is empty.
    pub suites: Vec<String>,
    /// Arms; all arms where it is empty.
    pub arms: Vec<String>,
    /// Answers of each arm, spread evenly over its questions; all of them without it.
    pub per_arm: Option<usize>,
    /// Seed of the choice and of the order.
    pub seed: u64,
}

/// Writes a blinded sheet and its key; gives what was written, in words.
///
/// # Errors
/// A suite or an arm that the run does not have, no answer to read, or a run that has another sheet already.
pub fn write_sheet(at: &Artifacts, choice: &Choice, cards: &(String, Vec<Card>), out: &Path) -> Result<String> {
    let arms = read_manifest(at)?.arms;
    let samples = read_samples(at)?;
    let chosen = chosen(&samples, choice)?;
    let shown = shown_answers(&arms, &samples);
    let (name, cards) = cards;
    let anchor = |card: &Card| entry(&card.question, &card.answer, RowSource::Anchor { label: card.label });
    let planted = |card: &Card| entry(&card.question, &card.answer, RowSource::Planted { label: card.label });
    let of_use = |wanted: CardUse| cards.iter().filter(move |card| card.for_use == wanted);
    let mut rows: Vec<Entry> = of_use(CardUse::Planted).map(planted).collect();
    let planted = rows.len();
    let answers = chosen.len();
    rows.extend(chosen.into_iter().filter_map(|place| {
        let shown = shown.get(&place)?;
        Some(entry(&shown.question, &shown.answer, place.source()))
    }));
    rows.shuffle(&mut rng::stream(choice.seed, "label order", &[]));
    let mut all: Vec<Entry> = of_use(CardUse::Anchor).map(anchor).collect();
    let anchors = all.len();
    all.extend(rows);
    let rows: Vec<SheetRow> = (1..).zip(&all).map(|(row, entry)| entry.shown(row)).collect();
    let key_row = |(row, entry): (u32, Entry)| {
        let text_sha256 = text_sha256(&entry.question, &entry.answer)?;
        Ok(KeyRow { row, text_sha256, source: entry.source })
    };
    let key = LabelKey {
        sheet_sha256: canonical_sha256(&rows)?,
        seed: choice.seed,
        cards: name.clone(),
        rows: (1..).zip(all).map(key_row).collect::<Result<_>>()?,
    };
    if at.label_key().is_file() && read_key(at)? != key {
        let message = "belongs to another sheet of this run, whose labels would lose their meaning; give the same --seed, \
                       --suite, --arm, --per-arm and --cards again, or move the folder `labels` away";
        return Err(Error::file(at.label_key(), message));
    }
    // The key first: a sheet without its key is worth nothing.
    fsio::write_json(&at.label_key(), &key)?;
    let files: Vec<String> =
        form::write(out, &rows, anchors)?.iter().map(|path: &PathBuf| path.display().to_string()).collect();
    Ok(format!(
        "{} rows in {}: {anchors} worked examples, then {answers} answers of the run with {planted} planted ones among them",
        rows.len(),
        files.join(" and ")
    ))
}

/// A row before it has a number.
struct Entry {
    question: String,
    answer: String,
    source: RowSource,
}

/// Blanks at the ends are left out: planted answers have none, and would be known by that.
fn entry(question: &str, answer: &str, source: RowSource) -> Entry {
    Entry { question: question.trim().to_owned(), answer: answer.trim().to_owned(), source }
}

impl Entry {
    fn shown(&self, row: u32) -> SheetRow {
        let label = match self.source {
            RowSource::Anchor { label } => label.as_str().to_owned(),
            RowSource::Planted { .. } | RowSource::Answer { .. } => String::new(),
        };
        SheetRow { row, question: self.question.clone(), answer: self.answer.clone(), label }
    }
}

/// The answers that are read, in the samples' order. With a number for each arm, questions take turns, and the same
/// prompts and samples are taken in every arm, so that arms can be compared pair by pair.
fn chosen<'a>(samples: &'a [SampleRecord], choice: &Choice) -> Result<Vec<Place<'a>>> {
    let free: Vec<&SampleRecord> =
        samples.iter().filter(|s| s.kind == SuiteKind::Questions && s.split == Split::Test).collect();
    known("suite", &choice.suites, free.iter().map(|s| s.suite.as_str()).collect())?;
    known("arm", &choice.arms, free.iter().map(|s| s.arm.as_str()).collect())?;
    let wanted = |list: &[String], name: &str| list.is_empty() || list.iter().any(|one| one == name);
    let mut arms: BTreeMap<&str, Vec<&SampleRecord>> = BTreeMap::new();
    for &sample in free.iter().filter(|s| wanted(&choice.suites, &s.suite) && wanted(&choice.arms, &s.arm)) {
        arms.entry(&sample.arm).or_default().push(sample);
    }
    if arms.is_empty() {
        return Err(Error::usage(
            "this run has no answers to questions; `label` is for suites of the kind `questions`",
        ));
    }
    let most = choice.per_arm.unwrap_or(usize::MAX);
    Ok(arms.into_values().flat_map(|own| spread(own, most, choice.seed)).map(Place::of).collect())
}

/// The first `most` answers when the questions take turns, each question's answers in an order that no arm decides.
fn spread(own: Vec<&SampleRecord>, most: usize, seed: u64) -> Vec<&SampleRecord> {
    if own.len() <= most {
        return own;
    }
    let mut questions: BTreeMap<(&str, &str), Vec<(u64, &SampleRecord)>> = BTreeMap::new();
    for sample in own {
        let more = [u64::from(sample.sample), u64::from(sample.draw.unwrap_or(0)), sample.training_seed.unwrap_or(0)];
        let name = format!("label choice {} {}", sample.suite, sample.prompt_id);
        let lot = rng::stream(seed, &name, &more).random::<u64>();
        questions.entry((&sample.suite, &sample.group)).or_default().push((lot, sample));
    }
    let mut turns: Vec<(usize, u64, &SampleRecord)> = Vec::new();
    for mut answers in questions.into_values() {
        answers.sort_by_key(|(lot, _)| *lot);
        turns.extend(answers.into_iter().enumerate().map(|(turn, (lot, sample))| (turn, lot, sample)));
    }
    turns.sort_by_key(|(turn, lot, _)| (*turn, *lot));
    turns.into_iter().take(most).map(|(_, _, sample)| sample).collect()
}

fn known(what: &str, wanted: &[String], there: BTreeSet<&str>) -> Result<()> {
    match wanted.iter().find(|name| !there.contains(name.as_str())) {
        Some(name) => {
            let there: Vec<&str> = there.into_iter().collect();
            Err(Error::usage(format!(
                "--{what} {name}: the run has no answers to questions of that {what}; there are {}",
                there.join(", ")
            )))
        }
        None => Ok(()),
    }
}
