//! Models in Hugging Face layout, from a folder or from bytes in the binary.

use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::config::{DecoderConfig, Names, token_ids};
use super::decoder::{Decoder, HeldWeights};
use super::ops::quantised::Quantised;
use super::ops::team::with_helpers;
use super::ops::weight::Weight;
use crate::error::{Error, Result};
use crate::{fsio, process};

/// A decoder as loaded, and which weights it has.
pub struct LoadedModel {
    /// Ready to run.
    pub decoder: Decoder,
    /// SHA-256 over the weight files.
    pub sha256: String,
}

/// How the weights of linears and embeddings are held. Norms and biases, adapters, activations and sums are f32 always.
/// Quantised weights are frozen; adapters on them are trained in f32 as on any other (QLoRA, Dettmers et al. 2023).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightDtype {
    /// As the file has them: bf16 stays bf16, anything else is f32. The same numbers as f32, in half the memory.
    #[default]
    Auto,
    /// f32.
    F32,
    /// Rounded to bf16.
    Bf16,
    /// Quantised to 8 bits (Q8_0: 8.5 bits a weight).
    #[value(name = "8bit")]
    #[serde(rename = "8bit")]
    EightBit,
    /// Quantised to 4 bits (Q4_K, or Q4_0 where a linear's width is not divisible by 256: 4.5 bits a weight); embedding and
    /// head to 8.
    #[value(name = "4bit")]
    #[serde(rename = "4bit")]
    FourBit,
}

impl WeightDtype {
    /// A weight of a file as it is to be held.
    pub fn held(self, name: &str, tensor: &Tensor, names: &Names) -> candle_core::Result<Weight> {
        if let Some(format) = self.blocks(name, tensor.dims(), names) {
            return Quantised::of(tensor, format).map(Weight::Quantised);
        }
        self.dense(tensor)
    }

    /// A weight as it is to be held, apart from blocks.
    pub(super) fn dense(self, tensor: &Tensor) -> candle_core::Result<Weight> {
        let dtype = match self {
            _ if tensor.rank() < 2 => DType::F32,
            Self::Bf16 => DType::BF16,
            _ if self != Self::F32 && tensor.dtype() == DType::BF16 => DType::BF16,
            _ => DType::F32,
        };
        Ok(tensor.to_dtype(dtype)?.into())
    }

    /// The format of a weight that is to be quantised. Positions are not, nor is a width of no whole blocks: it stays as
    /// with `auto`.
    fn blocks(self, name: &str, dims: &[usize], names: &Names) -> Option<GgmlDType> {
        let [_, width] = dims else { return None };
        let module = name.trim_end_matches(".weight");
        let format = match self {
            Self::Auto | Self::F32 | Self::Bf16 => return None,
            _ if module == names.positions => return None,
            // A small part of a model, where an error touches every token.
            Self::FourBit if module != names.embedding && module != "lm_head" => match width.is_multiple_of(256) {
                true => GgmlDType::Q4K,
                false => GgmlDType::Q4_0,
            },
            Self::EightBit | Self::FourBit => GgmlDType::Q8_0,
        };
        width.is_multiple_of(format.block_size()).then_some(format)
    }
}

/// Loads `config.json` and the safetensors of a folder.
pub fn load_dir(dir: &Path, dtype: WeightDtype) -> Result<LoadedModel> {
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
    let files = weight_files(dir)?;
    let mut weights = HeldWeights::new();
    let mut hashes = String::new();
    for file in &files {
        let bytes = fsio::read_bytes(file)?;
        hashes += &fsio::sha256(&bytes);
        read_weights(file, &bytes, dtype, &config.names, &mut weights)?;
    }
    let sha256 = if files.len() == 1 { hashes } else { fsio::sha256(hashes.as_bytes()) };
    let decoder = Decoder::new(config, &weights, false).map_err(|e| Error::file(dir, e))?;
    refuse_left_over(dir, &decoder, &weights)?;
    Ok(LoadedModel { decoder, sha256 })
}

/// A weight that no part of the decoder took means that the configuration leaves out a part of the model.
fn refuse_left_over(dir: &Path, decoder: &Decoder, weights: &HeldWeights) -> Result<()> {
    let taken = decoder.held_weights();
    // Older versions saved tables beside the weights, and the head once more where it is the embedding.
    let harmless = ["lm_head.weight", ".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"];
    let left = weights.keys().filter(|name| !taken.contains_key(*name));
    match left.into_iter().find(|name| !harmless.iter().any(|end| name.ends_with(end))) {
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

/// Loads a model whose files are bytes at hand (the embedded base). `name` is for messages.
pub fn load_bytes(name: &str, config: &str, safetensors: &[u8], dtype: WeightDtype) -> Result<LoadedModel> {
    let config = DecoderConfig::parse(Path::new(name), config)?;
    let mut weights = HeldWeights::new();
    read_weights(Path::new(name), safetensors, dtype, &config.names, &mut weights)?;
    let decoder = Decoder::new(config, &weights, false).map_err(|e| Error::file(name, e))?;
    Ok(LoadedModel { decoder, sha256: fsio::sha256(safetensors) })
}

fn read_weights(file: &Path, bytes: &[u8], dtype: WeightDtype, names: &Names, into: &mut HeldWeights) -> Result<()> {
    let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu).map_err(|e| Error::file(file, e))?;
    // Quantising is work for every core.
    with_helpers(process::workers(0) - 1, || {
        for (name, tensor) in tensors {
            let weight = dtype.held(&name, &tensor, names)?;
            into.insert(name, weight);
        }
        Ok(())
    })
}

/// The safetensors of a folder: one file, or the shards of its index.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let (single, index) = (dir.join("model.safetensors"), dir.join("model.safetensors.index.json"));
    if index.exists() {
        let json: serde_json::Value = fsio::read_json(&index)?;
        let map = json["weight_map"].as_object().ok_or_else(|| Error::file(&index, "has no `weight_map`"))?;
        let mut names: Vec<&str> = map.values().filter_map(serde_json::Value::as_str).collect();
        names.sort_unstable();
        names.dedup();
        // A shard is a file of this folder: a name that leads elsewhere is not followed.
        if let Some(bad) = names.iter().find(|name| name.contains(['/', '\\']) || name.contains("..")) {
            return Err(Error::file(&index, format!("names the shard `{bad}`, which is not a file of this folder")));
        }
        return Ok(names.into_iter().map(|name| dir.join(name)).collect());
    }
    if single.exists() {
        return Ok(vec![single]);
    }
    let pickle = dir.join("pytorch_model.bin").exists();
    let why = if pickle { "; pickle files are refused, convert them to safetensors" } else { "" };
    Err(Error::file(dir, format!("has no model.safetensors{why}")))
}
