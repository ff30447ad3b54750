//! `realign inspect DATASET`: what a file of training rows or contrast pairs holds, before anything is trained on it.

use std::collections::BTreeMap;
use std::path::Path;

use super::facts::{Facts, fact};
use crate::cli::train_rows::data_text;
use crate::data::collate::EncodeOptions;
use crate::data::contrast::ContrastPair;
use crate::data::preference::{PreferenceRow, parse_preferences};
use crate::data::rows::{TrainingRow, rows_sha256};
use crate::error::{Error, Result};
use crate::finetune::rows::{EncodedRows, Row, encode};
use crate::fsio;
use crate::subject::Subject;

/// How many bad lines and long rows are named.
const NAMED: usize = 5;

/// Rows, form, tokens, lengths, the longest rows and the bad lines.
pub fn dataset_facts(path: &Path, model: &str) -> Result<Facts> {
    let text = data_text(path)?;
    let pairs: Vec<ContrastPair> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if !pairs.is_empty() {
        return Ok(pair_facts(path, &text, &pairs));
    }
    // Preference rows are recognised by the first one.
    if let Some((_, Ok(_))) = PreferenceRow::parse(&text).first() {
        return preference_facts(path, &text);
    }
    let parsed = TrainingRow::parse(&text);
    if parsed.is_empty() {
        return Err(Error::file(path, "has no rows; expected one JSON object per line"));
    }
    let subject = Subject::open(model)?;
    let options = EncodeOptions { max_length: usize::MAX, ..EncodeOptions::default() };
    let rows: EncodedRows<TrainingRow> = encode(parsed, &subject, &options);
    let mut facts = vec![
        fact("data set", path.display()),
        fact("rows", format!("{} ({})", rows.rows.len(), forms(&rows))),
        fact("SHA-256 of the rows", rows.sha256()),
    ];
    facts.extend(token_facts(&subject, &rows));
    facts.extend(bad_lines(&rows.bad));
    Ok(facts)
}

fn bad_lines(bad: &[(usize, String)]) -> Facts {
    let mut facts = vec![fact("bad lines", bad.len())];
    facts.extend(bad.iter().take(NAMED).map(|(line, reason)| fact(&format!("  line {line}"), reason)));
    facts
}

fn preference_facts(path: &Path, text: &str) -> Result<Facts> {
    let rows = parse_preferences(path, text)?;
    let talk = rows.iter().filter(|r| matches!(r, PreferenceRow::Conversation { .. })).count();
    Ok(vec![
        fact("data set", path.display()),
        fact("preference pairs", format!("{} ({talk} messages, {} text)", rows.len(), rows.len() - talk)),
        fact("SHA-256 of the rows", rows_sha256(&rows)),
    ])
}

fn forms(rows: &EncodedRows<TrainingRow>) -> String {
    let mut forms = BTreeMap::<&str, usize>::new();
    for row in &rows.rows {
        let form = match row.row {
            TrainingRow::Conversation { .. } => "messages",
            TrainingRow::Completion { .. } => "prompt and completion",
            TrainingRow::Text { .. } => "text",
        };
        *forms.entry(form).or_default() += 1;
    }
    forms.iter().map(|(form, n)| format!("{n} {form}")).collect::<Vec<_>>().join(", ")
}

/// Lengths in the model's tokens; each row goes with its line.
fn token_facts(subject: &Subject, rows: &EncodedRows<TrainingRow>) -> Facts {
    let mut longest_last: Vec<(usize, usize)> = rows.rows.iter().map(|r| (r.encoded.ids.len(), r.line)).collect();
    longest_last.sort_by_key(|&(tokens, line)| (tokens, std::cmp::Reverse(line)));
    let lengths: Vec<usize> = longest_last.iter().map(|(tokens, _)| *tokens).collect();
    let (Some(shortest), Some(longest)) = (lengths.first(), lengths.last()) else { return Vec::new() };
    let at = |share: f64| lengths[((lengths.len() - 1) as f64 * share).round() as usize];
    let (tokens, targets) = (rows.tokens(), rows.target_tokens());
    let context = subject.base.config.max_position_embeddings;
    let longer = lengths.iter().filter(|&&n| n > context).count();
    let named = longest_last.iter().rev().take(NAMED).map(|(tokens, line)| format!("line {line}: {tokens}"));
    vec![
        fact("counted in tokens of", &subject.name),
        fact("tokens", format!("{tokens}, {:.1} % of them targets", 100.0 * targets as f64 / tokens as f64)),
        fact("tokens of a row", format!("{shortest} to {longest}, median {}, 95 % up to {}", at(0.5), at(0.95))),
        fact("longer than the model", format!("{longer} rows of more than {context} tokens")),
        fact("longest rows", named.collect::<Vec<_>>().join(", ")),
    ]
}

fn pair_facts(path: &Path, text: &str, pairs: &[ContrastPair]) -> Facts {
    let mut targets = BTreeMap::<&str, (usize, Vec<&str>)>::new();
    for pair in pairs {
        let (count, groups) = targets.entry(&pair.target).or_default();
        *count += 1;
        groups.push(&pair.group);
    }
    let bad = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let bad: Vec<(usize, String)> = bad
        .filter_map(|(index, line)| Some((index + 1, serde_json::from_str::<ContrastPair>(line).err()?.to_string())))
        .collect();
    let mut facts = vec![
        fact("data set", path.display()),
        fact("contrast pairs", pairs.len()),
        fact("SHA-256 of the file", fsio::sha256(text.as_bytes())),
    ];
    for (target, (count, mut groups)) in targets {
        groups.sort_unstable();
        groups.dedup();
        facts.push(fact(&format!("  {target}"), format!("{count} pairs in {} groups", groups.len())));
    }
    facts.extend(bad_lines(&bad));
    facts
}
