//! Readers beside the judge: a blinded sheet of a run's answers, and the labels that come back.
//!
//! A sheet shows a question and an answer, nothing of the arm. Worked examples (anchors) stand first; answers of known
//! label (planted ones) are mixed in, so that each reader's own errors are measured. The key of the sheet stays in the
//! run folder (`labels/KEY.json`), and so do the labels of each reader (`labels/READER.jsonl`).

mod cards;
mod form;
mod read;
mod sheet;

use std::collections::BTreeMap;

use super::artifacts::Artifacts;
use crate::error::{Error, Result};
use crate::eval::thoughts::said;
use crate::fsio;
use crate::record::{
    ArmSpec, KeyRow, Label, LabelKey, LabelScores, ReaderLabel, Role, RowSource, SampleRecord, SuiteKind,
    canonical_sha256,
};
use crate::score::{ReadRow, label_scores};

pub use cards::{Card, CardUse, read_cards};
pub use read::{Reader, read_sheet};
pub use sheet::{Choice, write_sheet};

/// The rows of a sheet with what each reader said of them.
pub struct Labels<'a> {
    key: LabelKey,
    /// The readers by name, and whether each is a model.
    readers: Vec<(String, bool)>,
    /// The answer of each row of the key, and each reader's label.
    rows: Vec<(Option<&'a SampleRecord>, Vec<Label>)>,
}

impl Labels<'_> {
    /// Everything that is counted from the labels.
    pub fn scores(&self, arms: &[ArmSpec]) -> LabelScores {
        let rows = self.key.rows.iter().zip(&self.rows);
        let rows: Vec<ReadRow> = rows
            .map(|(row, (sample, labels))| ReadRow { source: &row.source, sample: *sample, labels: labels.clone() })
            .collect();
        label_scores(&self.key.sheet_sha256, &self.readers, &rows, arms)
    }
}

/// The labels of a run; `None` where nobody has read its sheet yet.
///
/// # Errors
/// Labels that are not of this key, a row whose answer is not in `samples`, or whose text has changed since.
pub fn read_labels<'a>(at: &Artifacts, arms: &[ArmSpec], samples: &'a [SampleRecord]) -> Result<Option<Labels<'a>>> {
    if !at.label_key().is_file() {
        return Ok(None);
    }
    let key = read_key(at)?;
    let shown = shown_answers(arms, samples);
    let mut rows: Vec<(Option<&SampleRecord>, Vec<Label>)> = Vec::with_capacity(key.rows.len());
    for row in &key.rows {
        let sample = match Place::of_row(row) {
            None => None,
            Some(place) => Some(same_answer(row, place, &shown).ok_or_else(|| {
                let message = format!(
                    "row {}: the answer {} of the arm `{}` is not in samples/ as it was when the sheet was written",
                    row.row, place.prompt_id, place.arm
                );
                Error::file(at.label_key(), message)
            })?),
        };
        rows.push((sample, Vec::new()));
    }
    let mut readers = Vec::new();
    for path in fsio::list(&at.labels_folder(), "jsonl")? {
        let labels: Vec<ReaderLabel> = fsio::read_jsonl(&path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let stray = |label: &ReaderLabel| label.sheet_sha256 != key.sheet_sha256 || label.reader != name;
        if let Some(index) = labels.iter().position(stray) {
            let message = "is of another sheet or reader; read the sheet again with `realign label RUN --read`";
            return Err(Error::line(&path, index + 1, message));
        }
        if !labels.iter().map(|label| label.row).eq(key.rows.iter().map(|row| row.row)) {
            return Err(Error::file(&path, "does not have each row of KEY.json once; read the sheet again"));
        }
        readers.push((name, labels.iter().any(|label| label.model)));
        for (row, label) in rows.iter_mut().zip(labels) {
            row.1.push(label.label);
        }
    }
    Ok((!readers.is_empty()).then_some(Labels { key, readers, rows }))
}

/// The answer of a row, if its text is what it was when the sheet was written.
fn same_answer<'a>(row: &KeyRow, place: Place, shown: &BTreeMap<Place<'a>, Shown<'a>>) -> Option<&'a SampleRecord> {
    let found = shown.get(&place)?;
    let hash = text_sha256(&found.question, &found.answer).ok()?;
    (hash == row.text_sha256).then_some(found.sample)
}

fn read_key(at: &Artifacts) -> Result<LabelKey> {
    fsio::read_json(&at.label_key())
}

/// What identifies an answer of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    suite: &'a str,
    prompt_id: &'a str,
    sample: u32,
    arm: &'a str,
    draw: Option<u32>,
    training_seed: Option<u64>,
}

impl<'a> Place<'a> {
    fn of(s: &'a SampleRecord) -> Self {
        Self {
            suite: &s.suite,
            prompt_id: &s.prompt_id,
            sample: s.sample,
            arm: &s.arm,
            draw: s.draw,
            training_seed: s.training_seed,
        }
    }

    fn of_row(row: &'a KeyRow) -> Option<Self> {
        let RowSource::Answer { arm, suite, prompt_id, sample, draw, training_seed } = &row.source else { return None };
        Some(Self { suite, prompt_id, sample: *sample, arm, draw: *draw, training_seed: *training_seed })
    }

    fn source(self) -> RowSource {
        RowSource::Answer {
            arm: self.arm.to_owned(),
            suite: self.suite.to_owned(),
            prompt_id: self.prompt_id.to_owned(),
            sample: self.sample,
            draw: self.draw,
            training_seed: self.training_seed,
        }
    }
}

/// A free answer as a reader sees it.
struct Shown<'a> {
    sample: &'a SampleRecord,
    question: String,
    answer: String,
}

/// Every free answer as a reader sees it: drafts are left out, as they are for a judge.
fn shown_answers<'a>(arms: &[ArmSpec], samples: &'a [SampleRecord]) -> BTreeMap<Place<'a>, Shown<'a>> {
    let specs: BTreeMap<&str, &ArmSpec> = arms.iter().map(|arm| (arm.name.as_str(), arm)).collect();
    let show = |sample: &'a SampleRecord| {
        let question = question(specs.get(sample.arm.as_str()).copied(), sample);
        (Place::of(sample), Shown { sample, question, answer: said(&sample.completion).text })
    };
    samples.iter().filter(|s| s.kind == SuiteKind::Questions).map(show).collect()
}

/// The question without the words that the arm puts around it: they would give the arm away.
fn question(arm: Option<&ArmSpec>, sample: &SampleRecord) -> String {
    let last = sample.messages.iter().rfind(|m| m.role == Role::User);
    let mut text = last.map_or("", |m| m.content.as_str());
    if let Some(prefix) = arm.and_then(|arm| arm.prefix.as_deref()) {
        text = text.strip_prefix(prefix).map_or(text, str::trim_start);
    }
    if let Some(suffix) = arm.and_then(|arm| arm.suffix.as_deref()) {
        text = text.strip_suffix(suffix).map_or(text, str::trim_end);
    }
    text.to_owned()
}

/// Identity of a row's text, as far as a reader sees it.
fn text_sha256(question: &str, answer: &str) -> Result<String> {
    canonical_sha256(&[plain(question), plain(answer)])
}

/// The text without what a spreadsheet may change: line ends, blanks at the ends, and the mark that keeps a cell from being
/// a formula.
fn plain(text: &str) -> String {
    let lines = text.replace("\r\n", "\n").replace('\r', "\n");
    let text = lines.trim();
    match text.strip_prefix('\'') {
        Some(rest) if rest.starts_with(['=', '+', '-', '@']) => rest.to_owned(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_prompt_arm_are_not_part_of_the_question() {
        let mut sample = crate::eval::suite::Suite::parse(
            "q.yaml",
            "suite: q\nkind: questions\nprompts:\n  - {id: a, paraphrases: [What now?]}\n",
        )
        .map(|suite| suite.unanswered(&suite.prompts[0], "kind", 0, 1))
        .unwrap_or_else(|e| panic!("{e}"));
        let arm = ArmSpec { prefix: Some("Be kind.".into()), suffix: Some("Thanks!".into()), ..ArmSpec::default() };
        sample.messages[0].content = "Be kind. What now? Thanks!".into();
        assert_eq!(question(Some(&arm), &sample), "What now?");
        assert_eq!(question(None, &sample), "Be kind. What now? Thanks!");
    }
}
