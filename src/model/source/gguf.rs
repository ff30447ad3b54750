//! Models from GGUF files, as llama.cpp writes them: the configuration from the metadata, tensors under their Hugging
//! Face names, quantised blocks as they are. Architectures: `llama` (Mistral too, which llama.cpp calls by that name),
//! `qwen2`, `qwen3`, `gemma2`, `gemma3` (the text part), `phi3`, `starcoder2`.
//!
//! llama.cpp rotates neighbouring dimensions of `llama`'s queries and keys, transformers rotates dimensions half a head
//! apart. The file's rows are in llama.cpp's order and are put back into transformers' order here; the other architectures
//! have transformers' order in the file too. Gemma's norm weights are 1 larger in a file than in transformers.

mod config;
mod header;
mod kinds;
mod metadata;
mod names;
mod rotary;
mod tensor;

use std::collections::BTreeSet;
use std::io::BufReader;
use std::path::Path;

use config::config_of;
use header::{Header, TensorInfos};
pub use metadata::Metadata;
use names::{checkpoint_name, refuse_other_than_model};
use rotary::ROPE_FACTORS;
use tensor::{bytes_of, halves_apart, held_bytes, less_one, weight};

use super::load::{LoadOptions, LoadedModel, WeightDtype, ends_of_generation};
use crate::error::{Error, Result};
use crate::fsio;
use crate::model::config::{DecoderConfig, Norm};
use crate::model::decoder::{Decoder, HeldWeights};
use crate::model::memory;
use crate::model::ops::to_vec;
use crate::model::ops::weight::Weight;

/// What a file says without its weights.
pub struct GgufOutline {
    /// Shape of the model.
    pub config: DecoderConfig,
    /// The `config.json` that this model would have in a folder.
    pub config_json: serde_json::Value,
    /// Bytes of all weights as they are held with `auto`.
    pub bytes: u64,
    /// Formats of the weights.
    pub formats: BTreeSet<String>,
    /// Metadata, among them the vocabulary and the chat template.
    pub metadata: Metadata,
}

/// A part of the file, or the reason why the file is refused.
type Checked<T> = std::result::Result<T, String>;

/// Whether this is a GGUF file by its name.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// An open file whose header has been read.
struct Opened {
    file: BufReader<std::fs::File>,
    /// Bytes of the file.
    size: u64,
    tensors: TensorInfos,
    /// Where the tensors' bytes begin.
    data: u64,
    metadata: Metadata,
    architecture: String,
}

/// What a file's metadata and its rotary factors say of the model.
struct Described {
    config: DecoderConfig,
    json: serde_json::Value,
}

impl Opened {
    fn tensor(&mut self, name: &str, dtype: WeightDtype) -> Checked<Weight> {
        let info = self.tensors.get(name).ok_or_else(|| format!("has no tensor `{name}`"))?;
        let bytes =
            bytes_of(&mut self.file, self.size, self.data, info).map_err(|why| format!("the tensor `{name}` {why}"))?;
        weight(info, bytes, dtype).map_err(|why| format!("the tensor `{name}`: {why}"))
    }

    /// The values of a tensor, where the file has it.
    fn values(&mut self, name: &str) -> Checked<Option<Vec<f32>>> {
        if !self.tensors.contains_key(name) {
            return Ok(None);
        }
        let tensor = self.tensor(name, WeightDtype::F32)?.to_tensor();
        to_vec(&tensor).map(Some).map_err(|e| format!("the tensor `{name}`: {e}"))
    }

    fn describe(&mut self, path: &Path) -> Result<Described> {
        let refused = |why: String| Error::file(path, why);
        let mut factors = [None, None, None];
        for (values, name) in factors.iter_mut().zip(ROPE_FACTORS) {
            *values = self.values(name).map_err(refused)?;
        }
        let json = config_of(&self.metadata, &self.tensors, &self.architecture, &factors).map_err(refused)?;
        let mut config = DecoderConfig::parse(path, &json.to_string())?;
        let beside = ends_of_generation(path.parent().unwrap_or(Path::new("")))?;
        if !beside.is_empty() {
            config.eos_token_ids = beside;
        }
        Ok(Described { config, json })
    }
}

fn open(path: &Path) -> Result<Opened> {
    let unreadable = |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"));
    let refused = |why: String| Error::file(path, why);
    let mut file = BufReader::new(std::fs::File::open(path).map_err(unreadable)?);
    let size = file.get_ref().metadata().map_err(unreadable)?.len();
    let Header { metadata, tensors, data } = header::read(&mut file, size).map_err(refused)?;
    let architecture = metadata.text("general.architecture").map_err(refused)?.unwrap_or_default();
    refuse_other_than_model(&metadata, &architecture).map_err(refused)?;
    Ok(Opened { file, size, tensors, data, metadata, architecture })
}

/// Reads a file's metadata alone.
///
/// # Errors
/// A file that is no model or is damaged.
pub fn metadata_of(path: &Path) -> Result<Metadata> {
    Ok(open(path)?.metadata)
}

/// Reads the header of a file alone.
///
/// # Errors
/// A file that is no model, is damaged, or whose architecture is not supported.
pub fn outline_gguf(path: &Path) -> Result<GgufOutline> {
    let mut opened = open(path)?;
    let Described { config, json } = opened.describe(path)?;
    let Opened { tensors, metadata, .. } = opened;
    let formats = tensors.values().map(|info| info.kind.name().to_string()).collect();
    let bytes = tensors.values().map(|info| held_bytes(info, WeightDtype::Auto)).sum();
    Ok(GgufOutline { config, config_json: json, bytes, formats, metadata })
}

/// Reads a file. `auto` keeps blocks as they are; `f32`, `bf16` and `f16` unpack them.
pub fn load_gguf(path: &Path, options: impl Into<LoadOptions>) -> Result<LoadedModel> {
    let LoadOptions { dtype, device } = options.into();
    let refused = |why: String| Error::file(path, why);
    let mut opened = open(path)?;
    let config = opened.describe(path)?.config;
    if device.is_cpu() {
        let needed = opened.tensors.values().map(|info| held_bytes(info, dtype)).sum();
        memory::refuse_more_than_free(needed, path)?;
    }
    let mut weights = HeldWeights::new();
    let mut names: Vec<String> = opened.tensors.keys().cloned().collect();
    names.sort_unstable();
    for name in names.iter().filter(|name| !ROPE_FACTORS.contains(&name.as_str())) {
        let Some(path) = checkpoint_name(name, &opened.architecture) else {
            return Err(refused(format!("has an unknown tensor `{name}`")));
        };
        let mut weight = opened.tensor(name, dtype).map_err(refused)?;
        if opened.architecture == "llama" && (path.contains(".q_proj.") || path.contains(".k_proj.")) {
            weight = halves_apart(&weight, config.head_dim).map_err(|e| refused(format!("`{name}`: {e}")))?;
        }
        if matches!(config.norm, Norm::RmsOffset { .. }) && name.ends_with("norm.weight") {
            weight = less_one(weight).map_err(|e| refused(format!("`{name}`: {e}")))?;
        }
        let weight = match weight {
            Weight::Dense(tensor) => tensor.to_device(&device)?.into(),
            Weight::Quantised(_) if !device.is_cpu() => {
                return Err(refused(
                    "has quantised weights, which run on the CPU only: give --device cpu, or --dtype bf16".into(),
                ));
            }
            blocks => blocks,
        };
        weights.insert(path, weight);
    }
    let Opened { architecture, .. } = opened;
    let decoder = Decoder::new(config, &weights, false).map_err(|e| Error::file(path, e))?;
    let taken = decoder.held_weights();
    if let Some(left) = weights.keys().find(|name| !taken.contains_key(*name)) {
        return Err(refused(format!("has the weight `{left}`, which a model of `{architecture}` does not have")));
    }
    Ok(LoadedModel { decoder, sha256: fsio::sha256_file(path)? })
}
