//! `realign inspect DATASET`: what a file of training rows or contrast pairs holds, before anything is trained on it.

use std::collections::BTreeMap;
use std::path::Path;

use super::inspect::{Facts, fact};
use super::training_data::data_text;
use crate::data::collate::{EncodeOptions, Example, encode_each};
use crate::data::contrast::ContrastPair;
use crate::data::preference::{PreferenceRow, parse_each_preference, parse_preferences};
use crate::data::rows::{TrainingRow, parse_each_row, rows_sha256};
use crate::error::{Error, Result};
use crate::fsio;
use crate::subject::Model;

/// How many bad lines and long rows are named.
const NAMED: usize = 5;

/// Rows, form, tokens, lengths, the longest rows and the bad lines.
pub fn dataset_facts(path: &Path, model: &str) -> Result<Facts> {
    let text = data_text(path)?;
    let pairs: Vec<ContrastPair> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if !pairs.is_empty() {
        return Ok(pair_facts(path, &text, &pairs));
    }
    // Preference rows are told by their first one.
    if let Some((_, Ok(_))) = parse_each_preference(&text).first() {
        return Ok(preference_facts(path, &parse_preferences(path, &text)?));
    }
    let (mut rows, mut lines, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    for (line, row) in parse_each_row(&text) {
        match row {
            Ok(row) => {
                rows.push(row);
                lines.push(line);
            }
            Err(message) => bad.push((line, message)),
        }
    }
    if rows.is_empty() && bad.is_empty() {
        return Err(Error::file(path, "has no rows; expected one JSON object a line"));
    }
    let model = Model::open(model)?;
    let options = EncodeOptions { max_length: usize::MAX, ..EncodeOptions::default() };
    let mut encoded: Vec<(usize, Example)> = Vec::new();
    for (line, example) in lines.into_iter().zip(encode_each(&rows, &model.tokenizer, &model.template, &options)) {
        match example {
            Ok(example) => encoded.push((line, example)),
            Err(error) => bad.push((line, error.to_string())),
        }
    }
    bad.sort();
    let mut facts = vec![
        fact("data set", path.display()),
        fact("rows", format!("{} ({})", rows.len(), forms(&rows))),
        fact("SHA-256 of the rows", rows_sha256(&rows)),
    ];
    facts.extend(token_facts(&model, encoded));
    facts.push(fact("bad lines", bad.len()));
    facts.extend(bad.iter().take(NAMED).map(|(line, message)| fact(&format!("  line {line}"), message)));
    Ok(facts)
}

fn preference_facts(path: &Path, rows: &[PreferenceRow]) -> Facts {
    let talk = rows.iter().filter(|r| matches!(r, PreferenceRow::Conversation { .. })).count();
    vec![
        fact("data set", path.display()),
        fact("preference pairs", format!("{} ({talk} messages, {} text)", rows.len(), rows.len() - talk)),
        fact("SHA-256 of the rows", rows_sha256(rows)),
    ]
}

fn forms(rows: &[TrainingRow]) -> String {
    let mut forms = BTreeMap::<&str, usize>::new();
    for row in rows {
        let form = match row {
            TrainingRow::Conversation { .. } => "messages",
            TrainingRow::Completion { .. } => "prompt and completion",
            TrainingRow::Text { .. } => "text",
        };
        *forms.entry(form).or_default() += 1;
    }
    forms.iter().map(|(form, n)| format!("{n} {form}")).collect::<Vec<_>>().join(", ")
}

/// Lengths in the model's tokens; each row goes with its line.
fn token_facts(model: &Model, mut encoded: Vec<(usize, Example)>) -> Facts {
    encoded.sort_by_key(|(line, example)| (example.ids.len(), std::cmp::Reverse(*line)));
    let lengths: Vec<usize> = encoded.iter().map(|(_, example)| example.ids.len()).collect();
    let (Some(shortest), Some(longest)) = (lengths.first(), lengths.last()) else { return Vec::new() };
    let at = |share: f64| lengths[((lengths.len() - 1) as f64 * share).round() as usize];
    let tokens: usize = lengths.iter().sum();
    let targets: usize = encoded.iter().map(|(_, example)| example.target_tokens()).sum();
    let context = model.decoder.config.max_position_embeddings;
    let longer = lengths.iter().filter(|&&n| n > context).count();
    let rows = encoded.iter().rev().take(NAMED).map(|(line, e)| format!("line {line}: {}", e.ids.len()));
    vec![
        fact("counted in tokens of", &model.name),
        fact("tokens", format!("{tokens}, {:.1} % of them targets", 100.0 * targets as f64 / tokens as f64)),
        fact("tokens of a row", format!("{shortest} to {longest}, median {}, 95 % up to {}", at(0.5), at(0.95))),
        fact("longer than the model", format!("{longer} rows of more than {context} tokens")),
        fact("longest rows", rows.collect::<Vec<_>>().join(", ")),
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
    facts.push(fact("bad lines", bad.len()));
    facts.extend(bad.iter().take(NAMED).map(|(line, message)| fact(&format!("  line {line}"), message)));
    facts
}
