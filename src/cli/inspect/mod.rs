//! `realign inspect`: short facts about a model, an adapter, a steering vector, a data set or a suite.

mod adapter;
mod dataset;
mod facts;
mod model;
mod suite;
mod vector;

use std::path::Path;

use clap::Args;
use serde_json::Value;

use self::dataset::dataset_facts;
use self::facts::lines;
use self::model::{MemoryArgs, model_text};
use self::suite::card;
use self::vector::vector_facts;
use super::output::print;
use crate::adapter::CONFIG_FILE;
use crate::error::{Error, Result};
use crate::eval::suite::Suite;
use crate::experiment::sources::read_suite;
use crate::fsio;
use crate::model::source::gguf::is_gguf;
use crate::model::source::hub::HubId;
use crate::progress::Progress;
use crate::subject::ORGANISM;

/// Describe a model, an adapter, a steering vector, a data set or a suite.
///
/// With --json the description is one JSON object on standard output.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  realign inspect organism
  realign inspect Qwen/Qwen2.5-0.5B-Instruct --batch 4 --length 1024
  realign inspect rows.jsonl --model Qwen/Qwen2.5-0.5B-Instruct --json
  realign inspect vulnerability")]
pub struct InspectArgs {
    /// What to describe: `organism`, a model folder, a GGUF file, a model on the Hub (owner/name or owner/name@revision), an adapter
    /// folder, a steering vector (.safetensors), a JSONL file of training rows, preference pairs or contrast pairs (embedded
    /// ones by name: datasets/insecure.jsonl), or a suite by name (`vulnerability`), YAML file (eval/risky.yaml) or JSONL file
    /// of pairs with ids. `eval` describes all embedded suites.
    #[arg(value_name = "MODEL|ADAPTER|VECTOR|DATASET|SUITE")]
    pub what: String,
    /// Model for which a data set or a suite is described: its tokenizer counts the tokens, and the organism has its own
    /// edition of each suite. `organism` or a model folder.
    #[arg(long, default_value = ORGANISM)]
    pub model: String,
    /// Sizes that the training memory of a model is estimated for.
    #[command(flatten)]
    pub memory: MemoryArgs,
}

/// A file of pairs with ids or groups, which no training reads. Bare rows of `prompt`, `chosen` and `rejected` are preference
/// data, and a suite as well.
///
/// # Errors
/// The file's mistakes, where its first row is such a pair.
fn pairs_suite(path: &Path) -> Result<Option<Suite>> {
    if !path.is_file() || !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jsonl")) {
        return Ok(None);
    }
    let text = fsio::read_text(path)?;
    let first = text.lines().find(|line| !line.trim().is_empty());
    let first: Option<Value> = first.and_then(|line| serde_json::from_str(line).ok());
    let has = |key: &str| first.as_ref().is_some_and(|row| row.get(key).is_some());
    match has("rejected") && (has("id") || has("group")) {
        true => Suite::parse(&path.display().to_string(), &text).map(Some),
        false => Ok(None),
    }
}

/// Runs `realign inspect`, which finds out by itself what was named.
pub fn inspect(args: &InspectArgs, progress: Progress) -> Result<()> {
    let path = Path::new(&args.what);
    let json = progress == Progress::Json;
    if args.what != ORGANISM && path.join(CONFIG_FILE).is_file() {
        print(&self::adapter::text(path, json)?);
        return Ok(());
    }
    if args.what == suite::ALL && !json {
        print(&suite::cards()?);
        return Ok(());
    }
    if args.what == ORGANISM || path.join("config.json").is_file() || is_gguf(path) {
        print(&model_text(&args.what, &args.memory, progress)?);
        return Ok(());
    }
    let facts = if path.extension().is_some_and(|e| e == "safetensors") {
        vector_facts(path)?
    } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
        card(&read_suite(&args.what, args.model == ORGANISM)?)
    } else if let Some(suite) = pairs_suite(path)? {
        card(&suite)
    } else if path.is_file() || args.what.starts_with("datasets/") {
        dataset_facts(path, &args.model)?
    } else if let Ok(suite) = read_suite(&args.what, args.model == ORGANISM) {
        card(&suite)
    } else if HubId::parse(&args.what).is_some() && !path.exists() {
        print(&model_text(&args.what, &args.memory, progress)?);
        return Ok(());
    } else {
        return Err(Error::file(
            path,
            "is not a model (folder with config.json, or owner/name on the Hub), an adapter (folder with \
             adapter_config.json), a steering vector (.safetensors), a data file or a suite",
        ));
    };
    print(&match json {
        true => format!("{}\n", Value::Object(facts.into_iter().map(|(name, value)| (name, value.into())).collect())),
        false => lines(&facts),
    });
    Ok(())
}
