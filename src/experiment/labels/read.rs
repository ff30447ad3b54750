//! Reading a filled sheet back: it must be this run's sheet, each row once, unchanged, with a label that is known.

use std::collections::BTreeMap;
use std::path::Path;

use super::form::{self, FilledRow};
use super::{read_key, text_sha256};
use crate::error::{Error, Result};
use crate::experiment::artifacts::Artifacts;
use crate::fsio;
use crate::record::{KeyRow, Label, LabelKey, ReaderLabel, RowSource};

/// Mistakes that are shown before the rest is only counted.
const SHOWN: usize = 20;

/// Who read a sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Name of the reader, which also names the file.
    pub name: String,
    /// Whether it is a model, not a person.
    pub model: bool,
}

/// Reads a reader's sheet and keeps the labels in the run folder; gives the key and the labels.
///
/// # Errors
/// A run without a key, a sheet of another run, and every row that is missing, doubled, changed or without a known label,
/// all of them together, each with its line.
pub fn read_sheet(at: &Artifacts, sheet: &Path, reader: &Reader) -> Result<(LabelKey, Vec<ReaderLabel>)> {
    if !at.label_key().is_file() {
        return Err(Error::file(at.root(), "has no sheet yet; write one with `realign label RUN --out SHEET.jsonl`"));
    }
    let key = read_key(at)?;
    let rows = form::read(sheet)?;
    let labels = checked(sheet, &rows, &key)?;
    let labels: Vec<ReaderLabel> = (key.rows.iter().zip(labels))
        .map(|(row, label)| ReaderLabel {
            reader: reader.name.clone(),
            model: reader.model,
            sheet_sha256: key.sheet_sha256.clone(),
            row: row.row,
            label,
        })
        .collect();
    fsio::write_jsonl(&at.reader_labels(&reader.name), &labels)?;
    Ok((key, labels))
}

/// The labels in the key's order.
fn checked(sheet: &Path, rows: &[FilledRow], key: &LabelKey) -> Result<Vec<Label>> {
    let expected: BTreeMap<u32, &KeyRow> = key.rows.iter().map(|row| (row.row, row)).collect();
    let mut found: BTreeMap<u32, (usize, Option<Label>)> = BTreeMap::new();
    let (mut mistakes, mut changed) = (Vec::new(), 0);
    for filled in rows {
        let mut wrong = |message: String| mistakes.push((filled.line, message));
        let known = filled.row.parse().ok().and_then(|number: u32| expected.get(&number));
        let Some(row) = known else {
            wrong(format!("the sheet has no row `{}`; its rows are 1 to {}", filled.row, key.rows.len()));
            continue;
        };
        if let Some((line, _)) = found.get(&row.row) {
            wrong(format!("row {} stands twice, first in line {line}", row.row));
            continue;
        }
        let label = Label::ALL.into_iter().find(|label| label.as_str() == filled.label.trim());
        found.insert(row.row, (filled.line, label));
        if text_sha256(&filled.question, &filled.answer)? != row.text_sha256 {
            changed += 1;
            wrong(format!("row {}: question or answer was changed; only the label may be filled in", row.row));
        }
        match (&row.source, label) {
            (_, None) if filled.label.trim().is_empty() => wrong(format!("row {} has no label", row.row)),
            (_, None) => {
                let known: Vec<&str> = Label::ALL.iter().map(|label| label.as_str()).collect();
                wrong(format!("row {}: unknown label `{}`; known: {}", row.row, filled.label, known.join(", ")));
            }
            (RowSource::Anchor { label: shown }, Some(label)) if label != *shown => {
                wrong(format!("row {} is a worked example; its label is {shown}", row.row));
            }
            _ => {}
        }
    }
    if !rows.is_empty() && changed * 2 > rows.len() {
        let message = format!(
            "{changed} of {} rows have another question or answer than this run's sheet: it is the sheet of another run, or \
             an older one",
            rows.len()
        );
        return Err(Error::file(sheet, message));
    }
    let last = rows.last().map_or(1, |row| row.line);
    let missing: Vec<String> =
        expected.keys().filter(|row| !found.contains_key(row)).map(|row| row.to_string()).collect();
    if !missing.is_empty() {
        let many = if missing.len() == 1 { "row is" } else { "rows are" };
        let named = missing.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        let rest = if missing.len() > SHOWN { ", …" } else { "" };
        mistakes.push((last, format!("{} {many} missing before the end: {named}{rest}", missing.len())));
    }
    match mistakes.as_slice() {
        [] => Ok(found.into_values().filter_map(|(_, label)| label).collect()),
        [(line, message)] => Err(Error::line(sheet, *line, message)),
        many => {
            let mut text = format!("{} mistakes; no label was taken", many.len());
            for (line, message) in many.iter().take(SHOWN) {
                text.push_str(&format!("\n  line {line}: {message}"));
            }
            if many.len() > SHOWN {
                text.push_str(&format!("\n  and {} more", many.len() - SHOWN));
            }
            Err(Error::file(sheet, text))
        }
    }
}
