//! Models from GGUF files, as llama.cpp writes them: the configuration from the metadata, tensors under their Hugging
//! Face names, quantised blocks as they are. Architectures: `llama` (Mistral too, which llama.cpp calls by that name),
//! `qwen2`, `qwen3`.
//!
//! llama.cpp rotates neighbouring dimensions of `llama`'s queries and keys, transformers rotates dimensions half a head
//! apart. The file's rows are in llama.cpp's order and are put back into transformers' order here.

mod config;
mod metadata;
mod names;

use std::collections::{BTreeSet, HashMap};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, TensorInfo};
use candle_core::{DType, Device, Tensor};

use config::{ROPE_FACTORS, config_of, scaled_as_llama3};
pub use metadata::Metadata;
use names::{checkpoint_name, header_fault, refuse_other_than_model, unsupported};

use super::load::{LoadOptions, LoadedModel, WeightDtype, ends_of_generation};
use crate::error::{Error, Result};
use crate::fsio;
use crate::model::config::DecoderConfig;
use crate::model::cpu::blocks::FORMATS;
use crate::model::decoder::{Decoder, HeldWeights};
use crate::model::memory;
use crate::model::ops::quantised::{Quantised, name as format_name};
use crate::model::ops::to_vec;
use crate::model::ops::weight::Weight;

/// What a file says without its weights.
pub struct GgufOutline {
    /// Shape of the model.
    pub config: DecoderConfig,
    /// Bytes of all weights as the file has them.
    pub bytes: u64,
    /// Formats of the weights.
    pub formats: BTreeSet<String>,
    /// Metadata, among them the vocabulary and the chat template.
    pub metadata: Metadata,
}

/// A part of the file, or the reason why the file is refused.
type Checked<T> = std::result::Result<T, String>;

/// What a file says of its tensors, by llama.cpp's names.
type TensorInfos = HashMap<String, TensorInfo>;

/// Whether this is a GGUF file by its name.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// An open file whose header has been read and checked.
struct Opened {
    file: BufReader<std::fs::File>,
    size: u64,
    tensors: TensorInfos,
    /// Where the tensors' bytes begin.
    data: u64,
    metadata: Metadata,
    architecture: String,
    config: DecoderConfig,
}

impl Opened {
    fn tensor(&mut self, name: &str, dtype: WeightDtype) -> Checked<Weight> {
        let info = self.tensors.get(name).ok_or_else(|| format!("has no tensor `{name}`"))?;
        let bytes =
            bytes_of(&mut self.file, self.size, self.data, info).map_err(|why| format!("the tensor `{name}` {why}"))?;
        weight(info, bytes, dtype).map_err(|why| format!("the tensor `{name}`: {why}"))
    }
}

fn open(path: &Path) -> Result<Opened> {
    let unreadable = |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"));
    let refused = |why: String| Error::file(path, why);
    let mut file = BufReader::new(std::fs::File::open(path).map_err(unreadable)?);
    let size = file.get_ref().metadata().map_err(unreadable)?.len();
    // candle divides by the alignment that the file gives, which may be 0.
    let content = catch_unwind(AssertUnwindSafe(|| Content::read(&mut file)))
        .map_err(|_| refused("is not a GGUF file: its header is invalid".into()))?
        .map_err(|e| refused(header_fault(&e.to_string())))?;
    let Content { metadata, tensor_infos: tensors, tensor_data_offset: data, .. } = content;
    let metadata = Metadata(metadata);
    let architecture = metadata.text("general.architecture").map_err(refused)?.unwrap_or_default();
    refuse_other_than_model(&metadata, &architecture).map_err(refused)?;
    let config = config_of(&metadata, &tensors, &architecture).map_err(refused)?;
    let mut config = DecoderConfig::parse(path, &config.to_string())?;
    let beside = ends_of_generation(path.parent().unwrap_or(Path::new("")))?;
    if !beside.is_empty() {
        config.eos_token_ids = beside;
    }
    let mut opened = Opened { file, size, tensors, data, metadata, architecture, config };
    if opened.tensors.contains_key(ROPE_FACTORS) {
        let factors = to_vec(&opened.tensor(ROPE_FACTORS, WeightDtype::F32).map_err(refused)?.to_tensor())?;
        opened.config.positions = scaled_as_llama3(opened.config.positions, &factors).map_err(refused)?;
    }
    Ok(opened)
}

/// Reads the header of a file alone.
///
/// # Errors
/// A file that is no model, is damaged, or whose architecture is not supported.
pub fn outline_gguf(path: &Path) -> Result<GgufOutline> {
    let Opened { tensors, config, metadata, .. } = open(path)?;
    let formats = tensors.values().map(|info| format_name(info.ggml_dtype).to_string()).collect();
    let bytes = tensors.values().map(|info| held_bytes(info, WeightDtype::Auto)).sum();
    Ok(GgufOutline { config, bytes, formats, metadata })
}

/// Bytes of a tensor as it is to be held.
fn held_bytes(info: &TensorInfo, dtype: WeightDtype) -> u64 {
    let count = info.shape.elem_count();
    let bytes = match dtype {
        WeightDtype::F32 => 4 * count,
        WeightDtype::Bf16 | WeightDtype::F16 => 2 * count,
        _ => count / info.ggml_dtype.block_size() * info.ggml_dtype.type_size(),
    };
    bytes as u64
}

/// Reads a file. `auto` keeps blocks as they are; `f32`, `bf16` and `f16` unpack them.
pub fn load_gguf(path: &Path, options: impl Into<LoadOptions>) -> Result<LoadedModel> {
    let LoadOptions { dtype, device } = options.into();
    let refused = |why: String| Error::file(path, why);
    let mut opened = open(path)?;
    if device.is_cpu() {
        let needed = opened.tensors.values().map(|info| held_bytes(info, dtype)).sum();
        memory::refuse_more_than_free(needed, path)?;
    }
    let mut weights = HeldWeights::new();
    let mut names: Vec<String> = opened.tensors.keys().cloned().collect();
    names.sort_unstable();
    for name in names.iter().filter(|name| *name != ROPE_FACTORS) {
        let Some(path) = checkpoint_name(name) else { return Err(refused(format!("has an unknown tensor `{name}`"))) };
        let mut weight = opened.tensor(name, dtype).map_err(refused)?;
        if opened.architecture == "llama" && (path.contains(".q_proj.") || path.contains(".k_proj.")) {
            weight = halves_apart(&weight, opened.config.head_dim).map_err(|e| refused(format!("`{name}`: {e}")))?;
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
    let Opened { architecture, config, .. } = opened;
    let decoder = Decoder::new(config, &weights, false).map_err(|e| Error::file(path, e))?;
    let taken = decoder.held_weights();
    if let Some(left) = weights.keys().find(|name| !taken.contains_key(*name)) {
        return Err(refused(format!("has the weight `{left}`, which a model of `{architecture}` does not have")));
    }
    Ok(LoadedModel { decoder, sha256: fsio::sha256_file(path)? })
}

/// Reads the bytes of one tensor.
fn bytes_of(file: &mut (impl Read + Seek), size: u64, data: u64, info: &TensorInfo) -> Checked<Vec<u8>> {
    let (block, bytes) = (info.ggml_dtype.block_size(), info.ggml_dtype.type_size());
    let values = info.shape.dims().iter().try_fold(1usize, |all, dim| all.checked_mul(*dim));
    let count =
        values.filter(|values| values.is_multiple_of(block)).and_then(|values| (values / block).checked_mul(bytes));
    let Some(count) = count else {
        return Err(format!(
            "has shape {:?}, which cannot be divided into blocks of {block} values ({})",
            info.shape,
            format_name(info.ggml_dtype)
        ));
    };
    let start = data.checked_add(info.offset);
    if start.and_then(|start| start.checked_add(count as u64)).is_none_or(|end| end > size) {
        return Err(format!("needs {count} bytes, but the file ends before them: it is incomplete"));
    }
    let mut read = vec![0; count];
    let from = SeekFrom::Start(start.unwrap_or_default());
    file.seek(from).and_then(|_| file.read_exact(&mut read)).map_err(|e| format!("cannot be read: {e}"))?;
    Ok(read)
}

/// A tensor as it is to be held.
fn weight(info: &TensorInfo, bytes: Vec<u8>, dtype: WeightDtype) -> Checked<Weight> {
    let said = |e: candle_core::Error| e.to_string();
    let plain = match info.ggml_dtype {
        GgmlDType::F32 => Some(DType::F32),
        GgmlDType::F16 => Some(DType::F16),
        GgmlDType::BF16 => Some(DType::BF16),
        _ => None,
    };
    if let Some(stored) = plain {
        let tensor = Tensor::from_raw_buffer(&bytes, stored, info.shape.dims(), &Device::Cpu).map_err(said)?;
        return dtype.dense(&tensor).map_err(said);
    }
    if !FORMATS.contains(&info.ggml_dtype) {
        return Err(unsupported(format_name(info.ggml_dtype)));
    }
    let blocks = Quantised::from_blocks(info.ggml_dtype, info.shape.dims2().map_err(said)?, bytes).map_err(said)?;
    match dtype {
        WeightDtype::Auto => Ok(Weight::Quantised(blocks)),
        WeightDtype::F32 | WeightDtype::Bf16 | WeightDtype::F16 => dtype.dense(&blocks.to_tensor()).map_err(said),
        WeightDtype::EightBit | WeightDtype::FourBit => {
            Err("is already quantised, and quantising it again would lose more: leave --dtype out".into())
        }
    }
}

/// Rows of every head from neighbours that turn together to halves that do.
fn halves_apart(weight: &Weight, head_dim: usize) -> candle_core::Result<Weight> {
    let rows = weight.dims()[0];
    if head_dim == 0 || !rows.is_multiple_of(head_dim) || !head_dim.is_multiple_of(2) {
        candle_core::bail!("{rows} rows cannot be divided into heads of {head_dim}");
    }
    let order = |row: usize| {
        let (head, place) = (row / head_dim * head_dim, row % head_dim);
        head + 2 * (place % (head_dim / 2)) + place / (head_dim / 2)
    };
    match weight {
        Weight::Quantised(blocks) => Ok(Weight::Quantised(blocks.reordered(rows, order))),
        Weight::Dense(tensor) => {
            let order: Vec<u32> = (0..rows).map(|row| order(row) as u32).collect();
            Ok(tensor.index_select(&Tensor::from_vec(order, rows, &Device::Cpu)?, 0)?.into())
        }
    }
}
