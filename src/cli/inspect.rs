//! `realign inspect`: short facts about a model, an adapter, a steering vector or a data set.

use std::path::Path;

use clap::Args;
use serde_json::Value;

use super::inspect_adapter;
use super::inspect_dataset::dataset_facts;
use super::inspect_vector::vector_facts;
use super::subject::print;
use crate::adapter;
use crate::error::{Error, Result};
use crate::experiment::model::{Model, ORGANISM};
use crate::progress::Progress;

/// Say what a model, an adapter, a steering vector or a data set is; with --json as one JSON object on standard output.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// `organism`, a model folder, an adapter folder, a steering vector (.safetensors), or a JSONL file of training rows,
    /// preference pairs or contrast pairs (the embedded ones by name too: datasets/insecure.jsonl).
    #[arg(value_name = "MODEL|ADAPTER|VECTOR|DATASET")]
    pub what: String,
    /// Whose tokens a data set is counted in: `organism` or a model folder.
    #[arg(long, default_value = ORGANISM)]
    pub model: String,
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
    } else if path.extension().is_some_and(|e| e == "safetensors") {
        vector_facts(path)?
    } else if path.is_file() || args.what.starts_with("datasets/") {
        dataset_facts(path, &args.model)?
    } else {
        return Err(Error::file(
            path,
            "is no model (config.json), no adapter (adapter_config.json), no steering vector (.safetensors) and no file \
             of training rows",
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

/// One line.
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
    let left_out = config.left_out().map(|words| format!("; {words}")).unwrap_or_default();
    Ok(vec![
        fact("model", format!("{spec}{planted}")),
        fact("architecture", format!("{}{left_out}", config.architecture)),
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
