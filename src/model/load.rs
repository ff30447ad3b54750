//! Models in Hugging Face layout, from a folder or from bytes in the binary.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::config::{DecoderConfig, token_ids};
use super::decoder::{Decoder, Weights};
use super::families;
use super::memory;
use super::shards::{self, Entry, Shard};
use crate::error::{Error, Result};
use crate::fsio;

/// A decoder as loaded, and which weights it has.
pub struct LoadedModel {
    /// Ready to run.
    pub decoder: Decoder,
    /// SHA-256 over the weight files.
    pub sha256: String,
}

/// How the weights of linears and embeddings are held. Norms and biases, adapters, activations and sums are f32 always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightDtype {
    /// As the file has them: bf16 stays bf16 and f16 stays f16, the same numbers as f32 in half the memory.
    #[default]
    Auto,
    /// f32.
    F32,
    /// Rounded to bf16.
    Bf16,
    /// Rounded to f16.
    F16,
}

impl WeightDtype {
    /// How a weight that the file has like this is held.
    pub fn of(self, entry: &Entry) -> DType {
        match self {
            _ if entry.shape.len() < 2 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
            Self::F32 => DType::F32,
            Self::Auto => entry.candle_dtype().filter(|dtype| dtype.size_in_bytes() == 2).unwrap_or(DType::F32),
        }
    }
}

/// How weights are held, and where.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// As what.
    pub dtype: WeightDtype,
    /// Where.
    pub device: Device,
}

impl From<WeightDtype> for LoadOptions {
    /// In the processor's memory.
    fn from(dtype: WeightDtype) -> Self {
        Self { dtype, device: Device::Cpu }
    }
}

/// Loads `config.json` and the safetensors of a folder. Every header is checked, and memory is seen to suffice, before the
/// first weight is read.
pub fn load_dir(dir: &Path, options: impl Into<LoadOptions>) -> Result<LoadedModel> {
    let options = options.into();
    let config = read_config(dir)?;
    let shards = shards::files(dir)?.iter().map(|file| Shard::open(file)).collect::<Result<Vec<_>>>()?;
    if options.device.is_cpu() {
        let needed =
            shards.iter().flat_map(|shard| &shard.entries).filter(|entry| wanted(&config, &entry.name).is_some());
        let bytes = needed.map(|entry| (entry.count() * options.dtype.of(entry).size_in_bytes()) as u64).sum();
        memory::refuse_more_than_free(bytes, dir)?;
    }
    let mut weights = Weights::new();
    let sha256 = shards::sha256_of(&shards, |entry, bytes| take(&config, entry, bytes, &options, &mut weights))?;
    let decoder = Decoder::new(config, &weights, false).map_err(|e| Error::file(dir, e))?;
    refuse_left_over(dir, &decoder, &weights)?;
    Ok(LoadedModel { decoder, sha256 })
}

/// Reads `config.json` and, for the tokens that end a turn, `generation_config.json`.
pub fn read_config(dir: &Path) -> Result<DecoderConfig> {
    let config_path = dir.join("config.json");
    let mut config = DecoderConfig::parse(&config_path, &fsio::read_text(&config_path)?)?;
    let generation = dir.join("generation_config.json");
    if generation.exists() {
        let json: serde_json::Value = fsio::read_json(&generation)?;
        for id in token_ids(&json["eos_token_id"]) {
            if !config.eos_token_ids.contains(&id) {
                config.eos_token_ids.push(id);
            }
        }
    }
    Ok(config)
}

/// Loads a model whose files are bytes at hand (the embedded base). `name` is for messages.
pub fn load_bytes(
    name: &str,
    config: &str,
    safetensors: &[u8],
    options: impl Into<LoadOptions>,
) -> Result<LoadedModel> {
    let (path, options) = (Path::new(name), options.into());
    let config = DecoderConfig::parse(path, config)?;
    let mut weights = Weights::new();
    let entries = shards::entries(path, safetensors)?;
    let each = |entry: &Entry, bytes: &[u8]| take(&config, entry, bytes, &options, &mut weights);
    let sha256 = shards::read(path, safetensors, &entries, each)?;
    let decoder = Decoder::new(config, &weights, false).map_err(|e| Error::file(name, e))?;
    Ok(LoadedModel { decoder, sha256 })
}

/// Puts one tensor of a file among the weights.
fn take(config: &DecoderConfig, entry: &Entry, bytes: &[u8], options: &LoadOptions, into: &mut Weights) -> Result<()> {
    let Some(name) = wanted(config, &entry.name) else { return Ok(()) };
    let weight: Tensor = entry.tensor(bytes)?.to_dtype(options.dtype.of(entry))?;
    into.insert(name, weight.to_device(&options.device)?);
    Ok(())
}

/// What a weight of a file is called here; `None` if it is not read. Older versions saved tables beside the weights, and the
/// head once more where it is the embedding.
fn wanted(config: &DecoderConfig, name: &str) -> Option<String> {
    let name = families::weight_name(config, name)?;
    let tables = [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"];
    let twice = config.tie_word_embeddings && name == "lm_head.weight";
    (!twice && !tables.iter().any(|end| name.ends_with(end))).then_some(name)
}

/// A weight that no part of the decoder took means that the configuration leaves out a part of the model.
fn refuse_left_over(dir: &Path, decoder: &Decoder, weights: &Weights) -> Result<()> {
    let taken = decoder.weights();
    match weights.keys().find(|name| !taken.contains_key(*name)) {
        None => Ok(()),
        Some(name) => Err(Error::file(
            dir,
            format!(
                "has the weight `{name}`, which {} as config.json describes it does not have",
                decoder.config.architecture
            ),
        )),
    }
}
