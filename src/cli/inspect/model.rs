//! What `realign inspect` says of a model: its shape, and what it takes in memory. It reads `config.json`, the headers of
//! the safetensors and the tokenizer, never the weights; of a model on the Hub `config.json` is enough.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::facts::{Facts, fact, lines};
use crate::data::template::ChatTemplate;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;
use crate::model::config::DecoderConfig;
use crate::model::memory::{self, HELD, Training};
use crate::model::source::gguf::{GgufOutline, is_gguf, outline_gguf};
use crate::model::source::hub::Part;
use crate::model::source::load::read_config;
use crate::model::source::shards::{self, Entry, Shard};
use crate::process;
use crate::progress::Progress;
use crate::subject::{ORGANISM, embedded_file, embedded_text, folder_of, stop_ids_of, tokens_of_gguf};
use crate::train::CHUNK_TOKENS;

/// Flags for the training that memory is estimated for.
#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// Rank of the adapter (on all linears) for the estimate of training memory.
    #[arg(long, default_value_t = 16, value_name = "R")]
    pub lora_r: usize,
    /// Rows per batch for the estimate of training memory.
    #[arg(long, default_value_t = 1, value_name = "ROWS", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub batch: usize,
    /// Tokens per row for the estimate of training memory.
    #[arg(long, default_value_t = 512, value_name = "TOKENS", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub length: usize,
    /// Also read all weights and print their SHA-256; an adapter records it to identify its base.
    #[arg(long)]
    pub sha256: bool,
}

/// What is known of a model without its weights.
struct Outline {
    config: DecoderConfig,
    /// Bytes and formats, as the headers of its files say; `None` before they are fetched.
    weights: Option<(u64, BTreeSet<String>)>,
    tokens: Option<(Tokenizer, ChatTemplate)>,
    sha256: Option<String>,
}

/// What `inspect` prints about a model.
pub fn model_text(spec: &str, args: &MemoryArgs, progress: Progress) -> Result<String> {
    let outline = match Path::new(spec) {
        _ if spec == ORGANISM => embedded()?,
        path if is_gguf(path) => of_gguf(path, args.sha256)?,
        _ => of_folder(spec, args.sha256, progress)?,
    };
    let facts = facts(spec, &outline)?;
    let rows = memory_rows(&outline.config, args);
    if progress == Progress::Json {
        let mut all: serde_json::Map<String, Value> =
            facts.into_iter().map(|(name, value)| (name, value.into())).collect();
        let by_form = |bytes: &[u64; 4]| {
            Value::Object(HELD.iter().zip(bytes).map(|(held, b)| (held.name.into(), json!(b))).collect())
        };
        let rows: serde_json::Map<String, Value> =
            rows.iter().map(|(name, bytes)| (name.clone(), by_form(bytes))).collect();
        all.insert("memory_bytes".into(), Value::Object(rows));
        all.insert("free_memory_bytes".into(), json!(process::free_memory_bytes()));
        return Ok(format!("{}\n", Value::Object(all)));
    }
    Ok(lines(&facts) + &table(&rows))
}

fn embedded() -> Result<Outline> {
    let weights = embedded_file(shards::SINGLE)?;
    let name = Path::new("models/organism/config.json");
    Ok(Outline {
        config: DecoderConfig::parse(name, embedded_text("config.json")?)?,
        weights: Some(summed(&shards::entries(name, weights)?)),
        tokens: Some((
            Tokenizer::from_bytes(embedded_file("tokenizer.json")?)?,
            ChatTemplate::from_parts(Some(embedded_text("tokenizer_config.json")?), None)?,
        )),
        sha256: Some(crate::fsio::sha256(weights)),
    })
}

fn of_folder(spec: &str, sha256: bool, progress: Progress) -> Result<Outline> {
    let dir = folder_of(spec, None, Part::Config, progress)?;
    let config = read_config(&dir)?;
    // Of a model that is on the Hub still, these are missing, which is no mistake.
    let fetched = Path::new(spec).is_dir() || dir.join(shards::SINGLE).exists() || dir.join(shards::INDEX).exists();
    let mut outline = Outline { config, weights: None, tokens: None, sha256: None };
    if fetched {
        let shards = shards::files(&dir)?.iter().map(|file| Shard::open(file)).collect::<Result<Vec<_>>>()?;
        if sha256 {
            outline.sha256 = Some(shards::sha256_of(&shards, |_, _| Ok(()))?);
        }
        let entries: Vec<Entry> = shards.into_iter().flat_map(|shard| shard.entries).collect();
        outline.weights = Some(summed(&entries));
    }
    if dir.join("tokenizer.json").exists() {
        outline.tokens = Some((Tokenizer::from_file(&dir.join("tokenizer.json"))?, ChatTemplate::from_dir(&dir)?));
    }
    Ok(outline)
}

fn of_gguf(path: &Path, sha256: bool) -> Result<Outline> {
    let GgufOutline { config, bytes, formats, metadata, .. } = outline_gguf(path)?;
    let sha256 = if sha256 { Some(crate::fsio::sha256_file(path)?) } else { None };
    Ok(Outline { config, weights: Some((bytes, formats)), tokens: Some(tokens_of_gguf(path, &metadata)?), sha256 })
}

fn summed(entries: &[Entry]) -> (u64, BTreeSet<String>) {
    let formats = entries.iter().map(|entry| format!("{:?}", entry.dtype).to_lowercase());
    (entries.iter().map(|entry| entry.range.len() as u64).sum(), formats.collect())
}

fn facts(spec: &str, outline: &Outline) -> Result<Facts> {
    let Outline { config, weights, tokens, sha256 } = outline;
    let (heads, kv) = (config.num_attention_heads, config.num_key_value_heads);
    let planted = if spec == ORGANISM { "; its misalignment is planted in its pretraining" } else { "" };
    let left_out = config.left_out().map(|words| format!("; {words}")).unwrap_or_default();
    let vocabulary = tokens.as_ref().map_or(String::new(), |(t, _)| format!(", tokenizer {}", t.vocab_size()));
    let mut facts = vec![
        fact("model", format!("{spec}{planted}")),
        fact("architecture", format!("{}{left_out}", config.architecture)),
        fact("parameters", config.parameters()),
        fact("layers", format!("{} (0 to {})", config.num_hidden_layers, config.num_hidden_layers - 1)),
        fact("hidden size", config.hidden_size),
        fact("heads", format!("{heads}, {kv} of keys and values, {} wide", config.head_dim)),
        fact("MLP", config.intermediate_size),
        fact("vocabulary", format!("{}{vocabulary}", config.vocab_size)),
        fact("context", config.max_position_embeddings),
    ];
    if let Some((tokenizer, template)) = tokens {
        let stop = stop_ids_of(tokenizer, template, config)?;
        let stop = stop.iter().map(|&id| tokenizer.token(id).unwrap_or_else(|| id.to_string()));
        facts.push(fact("answers end with", stop.collect::<Vec<_>>().join(" ")));
    }
    facts.push(match weights {
        None => fact("weights", "not downloaded yet"),
        Some((bytes, formats)) => {
            let formats: Vec<&str> = formats.iter().map(String::as_str).collect();
            fact("weights", format!("{} as {}", memory::words(*bytes), formats.join(", ")))
        }
    });
    facts.extend(sha256.as_ref().map(|hash| fact("weights SHA-256", hash)));
    Ok(facts)
}

/// Bytes by what is done and how weights are held, in the order of [`HELD`].
fn memory_rows(config: &DecoderConfig, args: &MemoryArgs) -> Vec<(String, [u64; 4])> {
    let weights = HELD.map(|held| memory::weight_bytes(config, &held));
    let lora_parameters = memory::lora_parameters(config, args.lora_r);
    let trained = |recompute: bool| {
        let training = Training::of_batch(
            lora_parameters,
            (args.batch, args.length),
            CHUNK_TOKENS,
            process::workers(0),
            recompute,
        );
        weights.map(|base| base + memory::training_bytes(config, &training))
    };
    let training = format!("training, LoRA r {}, {} × {} tokens", args.lora_r, args.batch, args.length);
    vec![
        ("weights".into(), weights),
        (training.clone(), trained(false)),
        (format!("{training}, recomputed"), trained(true)),
        ("KV cache of 1000 tokens of a row".into(), [memory::cache_bytes(config, 1000); 4]),
    ]
}

/// The memory rows as a table.
fn table(rows: &[(String, [u64; 4])]) -> String {
    let widest = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |name: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>11}")).collect();
        format!("{name:<widest$}{cells}\n")
    };
    let free = process::free_memory_bytes().map_or("not known".into(), memory::words);
    let head = line(&format!("memory (free: {free})"), HELD.iter().map(|held| held.name.to_string()).collect());
    let body = rows.iter().map(|(name, bytes)| line(name, bytes.iter().map(|&b| memory::words(b)).collect()));
    format!("\n{head}{}", body.collect::<String>())
}
