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
    ArmSpec, KeyRow, LabelKey, ReaderLabel, Role, RowSource, SampleRecord, SuiteKind, canonical_sha256,
};

pub use cards::{Card, CardUse, read_cards};
pub use read::{Reader, read_sheet};
pub use sheet::{Choice, write_sheet};

/// Everything that labels are counted from: the key, each reader's labels in the order of the key, and the answers that the
/// rows are of.
pub struct Labels {
    /// The key of the sheet.
    pub key: LabelKey,
    /// Labels by reader, in the key's order.
    pub readers: BTreeMap<String, Vec<ReaderLabel>>,
}

/// The labels of a run; `None` where nobody has read its sheet yet.
///
/// # Errors
/// Labels that are not of this key, a row whose answer is not in `samples`, or whose text has changed since.
pub fn read_labels(at: &Artifacts, arms: &[ArmSpec], samples: &[SampleRecord]) -> Result<Option<Labels>> {
    if !at.label_key().is_file() {
        return Ok(None);
    }
    let key = read_key(at)?;
    let mut readers = BTreeMap::new();
    for path in fsio::list(&at.labels_folder(), "jsonl")? {
        let labels: Vec<ReaderLabel> = fsio::read_jsonl(&path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for (index, label) in labels.iter().enumerate() {
            if label.sheet_sha256 != key.sheet_sha256 || label.reader != name {
                let message = "is of another sheet or reader; read the sheet again with `realign label RUN --read`";
                return Err(Error::line(&path, index + 1, message));
            }
        }
        if !labels.iter().map(|label| label.row).eq(key.rows.iter().map(|row| row.row)) {
            return Err(Error::file(&path, "does not have each row of KEY.json once; read the sheet again"));
        }
        readers.insert(name, labels);
    }
    if readers.is_empty() {
        return Ok(None);
    }
    let shown = shown_answers(arms, samples);
    for row in &key.rows {
        let Some(wanted) = Place::of_row(row) else { continue };
        let same = shown
            .get(&wanted)
            .is_some_and(|(question, answer)| text_sha256(question, answer).is_ok_and(|hash| hash == row.text_sha256));
        if !same {
            let message = format!(
                "row {}: the answer {} of the arm `{}` is not in samples/ as it was when the sheet was written",
                row.row, wanted.prompt_id, wanted.arm
            );
            return Err(Error::file(at.label_key(), message));
        }
    }
    Ok(Some(Labels { key, readers }))
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

/// Question and answer of every free answer, as a reader sees them.
fn shown_answers<'a>(arms: &[ArmSpec], samples: &'a [SampleRecord]) -> BTreeMap<Place<'a>, (String, String)> {
    let specs: BTreeMap<&str, &ArmSpec> = arms.iter().map(|arm| (arm.name.as_str(), arm)).collect();
    let free = samples.iter().filter(|s| s.kind == SuiteKind::Questions);
    free.map(|s| (Place::of(s), (question(specs.get(s.arm.as_str()).copied(), s), said(&s.completion).text))).collect()
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
