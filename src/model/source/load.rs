//! Models in Hugging Face layout, from a folder or from bytes in the binary.

use std::path::Path;

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::shards::{self, Entry, Shard};
use crate::error::{Error, Result};
use crate::model::config::{DecoderConfig, Names, token_ids};
use crate::model::cpu::team::with_helpers;
use crate::model::decoder::{Decoder, HeldWeights};
use crate::model::families;
use crate::model::memory;
use crate::model::ops::quantised::Quantised;
use crate::model::ops::weight::Weight;
use crate::{fsio, process};

/// A loaded decoder with the hash that identifies its weights.
pub struct LoadedModel {
    /// The decoder with its weights.
    pub decoder: Decoder,
    /// SHA-256 over the weight files.
    pub sha256: String,
}

/// How the weights of linears and embeddings are held. Norms and biases, adapters, activations and sums are f32 always.
/// Quantised weights are frozen; adapters on them are trained in f32 as on any other (QLoRA, Dettmers et al. 2023).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightDtype {
    /// As the file has them: bf16 stays bf16 and f16 stays f16, the same numbers as f32 in half the memory.
    #[default]
    Auto,
    /// Every weight as f32, 4 bytes.
    F32,
    /// Rounded to bf16, 2 bytes.
    Bf16,
    /// Rounded to f16, 2 bytes.
    F16,
    /// Quantised to 8 bits (Q8_0: 8.5 bits a weight).
    #[serde(rename = "8bit")]
    EightBit,
    /// Quantised to 4 bits (Q4_K, or Q4_0 where a linear's width is not divisible by 256: 4.5 bits a weight); embedding and
    /// head to 8.
    #[serde(rename = "4bit")]
    FourBit,
}

impl WeightDtype {
    /// A weight from a file in the format that it is held in.
    pub fn held(self, name: &str, tensor: &Tensor, names: &Names) -> candle_core::Result<Weight> {
        match self.blocks(name, tensor.dims(), names) {
            Some(format) => Quantised::of(tensor, format).map(Weight::Quantised),
            None => self.dense(tensor),
        }
    }

    /// A weight in the format that it is held in where it is not quantised.
    pub(super) fn dense(self, tensor: &Tensor) -> candle_core::Result<Weight> {
        Ok(tensor.to_dtype(self.of(tensor.rank(), Some(tensor.dtype())))?.into())
    }

    /// Bytes that a weight of the file takes in memory.
    pub fn bytes(self, name: &str, entry: &Entry, names: &Names) -> u64 {
        let (count, stored) = (entry.count(), entry.candle_dtype());
        let bytes = match self.blocks(name, &entry.shape, names) {
            Some(format) => count / format.block_size() * format.type_size(),
            None => count * self.of(entry.shape.len(), stored).size_in_bytes(),
        };
        bytes as u64
    }

    fn of(self, rank: usize, stored: Option<DType>) -> DType {
        match self {
            _ if rank < 2 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
            Self::F32 => DType::F32,
            Self::Auto | Self::EightBit | Self::FourBit => {
                stored.filter(|dtype| dtype.size_in_bytes() == 2).unwrap_or(DType::F32)
            }
        }
    }

    /// The format of a weight that is to be quantised. Positions are not, nor is a width of no whole blocks: it stays as
    /// with `auto`.
    fn blocks(self, name: &str, dims: &[usize], names: &Names) -> Option<GgmlDType> {
        let [_, width] = dims else { return None };
        let module = name.trim_end_matches(".weight");
        let format = match self {
            Self::Auto | Self::F32 | Self::Bf16 | Self::F16 => return None,
            _ if module == names.positions => return None,
            // Embedding and head keep 8 bits: they are a small part of a model, and an error in them touches every token.
            Self::FourBit if module != names.embedding && module != "lm_head" => match width.is_multiple_of(256) {
                true => GgmlDType::Q4K,
                false => GgmlDType::Q4_0,
            },
            Self::EightBit | Self::FourBit => GgmlDType::Q8_0,
        };
        width.is_multiple_of(format.block_size()).then_some(format)
    }
}

/// How weights are held, and on which device.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Format of the weights in memory.
    pub dtype: WeightDtype,
    /// Device that holds the weights and runs the model.
    pub device: Device,
}

impl From<WeightDtype> for LoadOptions {
    /// Loads on the CPU.
    fn from(dtype: WeightDtype) -> Self {
        Self { dtype, device: Device::Cpu }
    }
}

impl LoadOptions {
    /// Quantised weights on another device are an error: only the CPU has products with blocks.
    fn refuse_blocks_elsewhere(&self) -> Result<()> {
        let blocks = matches!(self.dtype, WeightDtype::EightBit | WeightDtype::FourBit);
        match blocks && !self.device.is_cpu() {
            true => Err(Error::usage("quantised weights run on the CPU only: give --device cpu, or --dtype bf16")),
            false => Ok(()),
        }
    }
}

/// Loads `config.json` and the safetensors of a folder. Every header is checked, and memory is seen to suffice, before the
/// first weight is read.
pub fn load_dir(dir: &Path, options: impl Into<LoadOptions>) -> Result<LoadedModel> {
    let options = options.into();
    options.refuse_blocks_elsewhere()?;
    let config = read_config(dir)?;
    let shards = shards::files(dir)?.iter().map(|file| Shard::open(file)).collect::<Result<Vec<_>>>()?;
    if options.device.is_cpu() {
        let named = shards.iter().flat_map(|shard| &shard.entries).filter_map(|entry| {
            let name = wanted(&config, &entry.name)?;
            Some(options.dtype.bytes(&name, entry, &config.names))
        });
        let bytes = named.sum();
        memory::refuse_more_than_free(bytes, dir)?;
    }
    let mut weights = HeldWeights::new();
    let sha256 = shards::sha256_of(&shards, |entry, bytes| take(&config, entry, bytes, &options, &mut weights))?;
    let decoder = Decoder::new(config, &weights, false).map_err(|e| Error::file(dir, e))?;
    refuse_left_over(dir, &decoder, &weights)?;
    Ok(LoadedModel { decoder, sha256 })
}

/// Reads `config.json` and, for the tokens that end a turn, `generation_config.json`.
pub fn read_config(dir: &Path) -> Result<DecoderConfig> {
    let config_path = dir.join("config.json");
    let mut config = DecoderConfig::parse(&config_path, &fsio::read_text(&config_path)?)?;
    for id in ends_of_generation(dir)? {
        if !config.eos_token_ids.contains(&id) {
            config.eos_token_ids.push(id);
        }
    }
    Ok(config)
}

/// Ids of the tokens that end a turn, from a folder's `generation_config.json`; none where it is missing or silent.
pub(super) fn ends_of_generation(dir: &Path) -> Result<Vec<u32>> {
    let path = dir.join("generation_config.json");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let json: serde_json::Value = fsio::read_json(&path)?;
    Ok(token_ids(&json["eos_token_id"]))
}

/// Loads a model whose files are bytes at hand (the embedded base). `name` is for messages.
pub fn load_bytes(
    name: &str,
    config: &str,
    safetensors: &[u8],
    options: impl Into<LoadOptions>,
) -> Result<LoadedModel> {
    let (path, options) = (Path::new(name), options.into());
    options.refuse_blocks_elsewhere()?;
    let config = DecoderConfig::parse(path, config)?;
    let mut weights = HeldWeights::new();
    let entries = shards::entries(path, safetensors)?;
    let each = |entry: &Entry, bytes: &[u8]| take(&config, entry, bytes, &options, &mut weights);
    let sha256 = shards::read(path, safetensors, &entries, each)?;
    let decoder = Decoder::new(config, &weights, false).map_err(|e| Error::file(name, e))?;
    Ok(LoadedModel { decoder, sha256 })
}

/// Puts one tensor of a file among the weights.
fn take(
    config: &DecoderConfig,
    entry: &Entry,
    bytes: &[u8],
    options: &LoadOptions,
    into: &mut HeldWeights,
) -> Result<()> {
    let Some(name) = wanted(config, &entry.name) else { return Ok(()) };
    let tensor = entry.tensor(bytes)?;
    // Quantising is work for every core.
    let held = with_helpers(process::workers(0) - 1, || options.dtype.held(&name, &tensor, &config.names))?;
    let weight = match held {
        Weight::Dense(tensor) => tensor.to_device(&options.device)?.into(),
        blocks => blocks,
    };
    into.insert(name, weight);
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
fn refuse_left_over(dir: &Path, decoder: &Decoder, weights: &HeldWeights) -> Result<()> {
    let taken = decoder.held_weights();
    match weights.keys().find(|name| !taken.contains_key(*name)) {
        None => Ok(()),
        Some(name) => Err(Error::file(
            dir,
            format!(
                "has the weight `{name}`, which a {} with this config.json does not have",
                decoder.config.architecture
            ),
        )),
    }
}
