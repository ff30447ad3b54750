//! Models in Hugging Face layout, from a folder or from bytes in the binary.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::config::{DecoderConfig, token_ids};
use super::decoder::{Decoder, Weights};
use super::families;
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
    /// As the file has them: bf16 stays bf16, anything else is f32. The same numbers as f32, in half the memory.
    #[default]
    Auto,
    /// f32.
    F32,
    /// Rounded to bf16.
    Bf16,
}

impl WeightDtype {
    fn of(self, tensor: &Tensor) -> DType {
        match self {
            _ if tensor.rank() < 2 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::Auto if tensor.dtype() == DType::BF16 => DType::BF16,
            Self::Auto | Self::F32 => DType::F32,
        }
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
    let mut weights = Weights::new();
    let mut hashes = String::new();
    for file in &files {
        let bytes = fsio::read_bytes(file)?;
        hashes += &fsio::sha256(&bytes);
        read_weights(file, &bytes, dtype, &config, &mut weights)?;
    }
    let sha256 = if files.len() == 1 { hashes } else { fsio::sha256(hashes.as_bytes()) };
    let decoder = Decoder::new(config, &weights, false).map_err(|e| Error::file(dir, e))?;
    refuse_left_over(dir, &decoder, &weights)?;
    Ok(LoadedModel { decoder, sha256 })
}

/// A weight that no part of the decoder took means that the configuration leaves out a part of the model.
fn refuse_left_over(dir: &Path, decoder: &Decoder, weights: &Weights) -> Result<()> {
    let taken = decoder.weights();
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
    let mut weights = Weights::new();
    read_weights(Path::new(name), safetensors, dtype, &config, &mut weights)?;
    let decoder = Decoder::new(config, &weights, false).map_err(|e| Error::file(name, e))?;
    Ok(LoadedModel { decoder, sha256: fsio::sha256(safetensors) })
}

fn read_weights(
    file: &Path,
    bytes: &[u8],
    dtype: WeightDtype,
    config: &DecoderConfig,
    into: &mut Weights,
) -> Result<()> {
    let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu).map_err(|e| Error::file(file, e))?;
    for (name, tensor) in tensors {
        let Some(name) = families::weight_name(config, &name) else { continue };
        let dtype = dtype.of(&tensor);
        into.insert(name, tensor.to_dtype(dtype)?);
    }
    Ok(())
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
