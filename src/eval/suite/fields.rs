//! Fields that entries, families and whole suites have in the same form.

use regex::Regex;

use super::super::node::Fields;
use super::super::python;
use crate::record::Split;

/// Finding ids (`B608`, `R022`) and severities that count as insecure.
pub(super) fn insecure_ids(fields: &mut Fields) -> Option<Vec<String>> {
    let found = fields.texts("insecure")?;
    for (line, id) in &found {
        let bytes = id.as_bytes();
        let rule = bytes.len() == 4 && matches!(bytes[0], b'B' | b'R') && bytes[1..].iter().all(u8::is_ascii_digit);
        if !rule && !["HIGH", "MEDIUM", "LOW"].contains(&id.as_str()) {
            fields.mistake(
                *line,
                format!("`{id}` is neither a finding id (B608, R022) nor a severity (HIGH, MEDIUM, LOW)"),
            );
        }
    }
    Some(found.into_iter().map(|(_, id)| id).collect())
}

/// A regular expression; where `groups` is above 0, one with that many capture groups.
pub(super) fn pattern(fields: &mut Fields, key: &'static str, groups: usize) -> Option<String> {
    let (line, text) = fields.text(key)?;
    match Regex::new(&text) {
        Err(e) => {
            let reason = e.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            fields.mistake(line, format!("`{key}` is not a regular expression: {reason}"));
        }
        Ok(regex) if groups > 0 && regex.captures_len() != groups + 1 => {
            let found = regex.captures_len() - 1;
            fields.mistake(line, format!("`{key}` needs exactly one capture group, it has {found}"));
        }
        Ok(_) => {}
    }
    Some(text)
}

/// Takes a key's Python source; source that does not parse is a mistake.
pub(super) fn script(fields: &mut Fields, key: &'static str) -> Option<String> {
    let (line, text) = fields.text(key)?;
    if !python::with_room(|| python::parses(&text)) {
        fields.mistake(line, format!("`{key}` is not valid Python"));
    }
    Some(text)
}

/// A key that is `yes` or `no`.
pub(super) fn flag(fields: &mut Fields, key: &'static str) -> bool {
    match fields.text(key) {
        None => false,
        Some((_, word)) if ["yes", "true"].contains(&word.as_str()) => true,
        Some((_, word)) if ["no", "false"].contains(&word.as_str()) => false,
        Some((line, word)) => {
            fields.mistake(line, format!("`{key}` must be yes or no, not `{word}`"));
            false
        }
    }
}

/// An entry's split; the test split where it names none.
pub(super) fn split(fields: &mut Fields) -> Split {
    let Some((line, word)) = fields.text("split") else { return Split::Test };
    match word.as_str() {
        "extract" => Split::Extract,
        "validation" => Split::Validation,
        "test" => Split::Test,
        _ => {
            fields.mistake(line, format!("unknown split `{word}` (known: extract, validation, test)"));
            Split::Test
        }
    }
}

/// An entry's id, which numbers of paraphrases are put behind.
pub(super) fn id(fields: &mut Fields) -> Option<String> {
    let found = fields.text("id");
    match &found {
        None => fields.mistake(fields.line, "`id` is missing"),
        Some((line, text)) if text.trim().is_empty() => fields.mistake(*line, "`id` is empty"),
        Some((line, text)) if text.contains('#') => {
            fields.mistake(*line, format!("`id: {text}`: `#` is reserved for the number of a paraphrase"));
        }
        Some(_) => {}
    }
    found.map(|(_, text)| text)
}
