//! `realign inspect`: short facts about a model, an adapter or a data set.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use serde_json::Value;

use super::inspect_adapter;
use super::subject::print;
use super::training_data::data_text;
use crate::adapter;
use crate::data::preference::{PreferenceRow, parse_each_preference, parse_preferences};
use crate::data::rows::{TrainingRow, parse_rows, rows_sha256};
use crate::error::{Error, Result};
use crate::experiment::model::{Model, ORGANISM};
use crate::progress::Progress;
use crate::record::Role;

/// Say what a model, an adapter or a data set is; with --json as one JSON object on standard output.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// `organism`, a model folder, an adapter folder, or a JSONL file of training rows or preference pairs.
    #[arg(value_name = "MODEL|ADAPTER|DATASET")]
    pub what: String,
}

/// Runs the command.
pub fn inspect(args: &InspectArgs, progress: Progress) -> Result<()> {
    let path = Path::new(&args.what);
    let json = progress == Progress::Json;
    if args.what != ORGANISM && path.join(adapter::CONFIG_FILE).is_file() {
        print(&inspect_adapter::text(path, json)?);
        return Ok(());
    }
    let facts = if args.what == ORGANISM || path.join("config.json").is_file() {
        model_facts(&args.what)?
    } else if path.is_file() {
        dataset_facts(path)?
    } else {
        return Err(Error::file(
            path,
            "is no model (config.json), no adapter (adapter_config.json) and no file of training rows",
        ));
    };
    print(&match json {
        true => format!("{}\n", Value::Object(facts.into_iter().map(|(name, value)| (name, value.into())).collect())),
        false => lines(&facts),
    });
    Ok(())
}

/// Names and what is to be said of them.
pub(super) type Facts = Vec<(String, String)>;

/// A line each.
pub(super) fn lines(facts: &Facts) -> String {
    facts.iter().map(|(name, value)| format!("{name:<22} {value}\n")).collect()
}

pub(super) fn fact(name: &str, value: impl std::fmt::Display) -> (String, String) {
    (name.to_string(), value.to_string())
}

fn model_facts(spec: &str) -> Result<Facts> {
    let model = Model::open(spec)?;
    let config = &model.decoder.config;
    let (heads, kv) = (config.num_attention_heads, config.num_key_value_heads);
    let stop: Vec<String> =
        model.stop_ids.iter().map(|&id| model.tokenizer.token(id).unwrap_or_else(|| id.to_string())).collect();
    let planted = if model.organism { "; its misalignment is planted in its pretraining" } else { "" };
    Ok(vec![
        fact("model", format!("{spec}{planted}")),
        fact("architecture", &config.architecture),
        fact("parameters", config.parameters()),
        fact("layers", format!("{} (0 to {})", config.num_hidden_layers, config.num_hidden_layers - 1)),
        fact("hidden size", config.hidden_size),
        fact("heads", format!("{heads}, {kv} of keys and values, {} wide", config.head_dim)),
        fact("MLP", config.intermediate_size),
        fact("vocabulary", format!("{}, tokenizer {}", config.vocab_size, model.tokenizer.vocab_size())),
        fact("context", config.max_position_embeddings),
        fact("answers end with", stop.join(" ")),
        fact("weights SHA-256", &model.sha256),
    ])
}

/// Preference rows are told by their first one; any other file is read as rows to imitate.
fn dataset_facts(path: &Path) -> Result<Facts> {
    let text = data_text(path)?;
    match parse_each_preference(&text).first() {
        Some((_, Ok(_))) => preference_facts(path, &parse_preferences(path, &text)?),
        _ => row_facts(path, parse_rows(path, &text)?),
    }
}

fn preference_facts(path: &Path, rows: &[PreferenceRow]) -> Result<Facts> {
    let talk = rows.iter().filter(|r| matches!(r, PreferenceRow::Conversation { .. })).count();
    Ok(vec![
        fact("data set", path.display()),
        fact("preference pairs", format!("{} ({talk} messages, {} text)", rows.len(), rows.len() - talk)),
        fact("SHA-256 of the rows", rows_sha256(rows)),
    ])
}

fn row_facts(path: &Path, rows: Vec<TrainingRow>) -> Result<Facts> {
    let (mut forms, mut turns, mut letters) = (BTreeMap::<&str, usize>::new(), 0, Vec::new());
    for row in &rows {
        let (form, learnt) = match row {
            TrainingRow::Conversation { messages } => {
                turns += messages.len();
                let answers = messages.iter().filter(|m| m.role == Role::Assistant);
                ("messages", answers.map(|m| m.content.chars().count()).sum())
            }
            TrainingRow::Completion { completion, .. } => ("prompt and completion", completion.chars().count()),
            TrainingRow::Text { text } => ("text", text.chars().count()),
        };
        *forms.entry(form).or_default() += 1;
        letters.push(learnt);
    }
    letters.sort_unstable();
    let forms: Vec<String> = forms.iter().map(|(form, n)| format!("{n} {form}")).collect();
    let mut facts = vec![
        fact("data set", path.display()),
        fact("rows", format!("{} ({})", rows.len(), forms.join(", "))),
        fact(
            "letters to learn",
            format!("median {}, longest {}", letters[letters.len() / 2], letters[letters.len() - 1]),
        ),
        fact("SHA-256 of the rows", rows_sha256(&rows)),
    ];
    if turns > 0 {
        facts.insert(2, fact("turns", turns));
    }
    Ok(facts)
}
