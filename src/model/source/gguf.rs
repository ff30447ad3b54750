//! Models from GGUF files, as llama.cpp writes them: the configuration from the metadata, tensors under their Hugging
//! Face names, quantised blocks as they are. Architectures: `llama` (Mistral too, which llama.cpp calls by that name),
//! `qwen2`, `qwen3`.
//!
//! llama.cpp rotates neighbouring dimensions of `llama`'s queries and keys, transformers rotates dimensions half a head
//! apart. The file's rows are in llama.cpp's order and are put back into transformers' order here.

use std::collections::BTreeSet;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::load::{LoadOptions, LoadedModel, WeightDtype};
use crate::error::{Error, Result};
use crate::fsio;
use crate::model::config::{DecoderConfig, Positions};
use crate::model::cpu::blocks::FORMATS;
use crate::model::decoder::{Decoder, HeldWeights};
use crate::model::memory;
use crate::model::ops::quantised::{Quantised, name as format_name};
use crate::model::ops::to_vec;
use crate::model::ops::weight::Weight;
use crate::model::rope::{Rope, RopeScaling};

/// A model from one GGUF file, and what the file says about its tokens.
pub struct GgufModel {
    /// Decoder and hash.
    pub loaded: LoadedModel,
    /// Text of each token, by id.
    pub tokens: Vec<String>,
    /// Jinja source of the chat template, if the file has one.
    pub chat_template: Option<String>,
    /// Token that begins a text, if the file names one.
    pub bos: Option<String>,
    /// Token that ends a text, if the file names one.
    pub eos: Option<String>,
}

/// A part of the file, or the reason why the file is refused.
type Checked<T> = std::result::Result<T, String>;

/// Factors on the rotary frequencies, which Llama 3.1 and later have.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Whether this is a GGUF file by its name.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// An open file whose header has been read and checked.
struct Opened {
    file: BufReader<std::fs::File>,
    size: u64,
    content: Content,
    architecture: String,
    config: DecoderConfig,
}

impl Opened {
    fn tensor(&mut self, name: &str, dtype: WeightDtype) -> Checked<Weight> {
        let info = self.content.tensor_infos.get(name).ok_or_else(|| format!("has no tensor `{name}`"))?;
        let bytes = bytes_of(&mut self.file, self.size, &self.content, info)
            .map_err(|why| format!("the tensor `{name}` {why}"))?;
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
        .map_err(|e| refused(format!("is not a GGUF file, or is damaged: {e}")))?;
    let metadata = Metadata(&content);
    let architecture = metadata.text("general.architecture").unwrap_or_default();
    let config = config_of(&metadata, &architecture).map_err(refused)?;
    let config = DecoderConfig::parse(path, &config.to_string())?;
    let mut opened = Opened { file, size, content, architecture, config };
    if opened.content.tensor_infos.contains_key(ROPE_FACTORS) {
        let factors = to_vec(&opened.tensor(ROPE_FACTORS, WeightDtype::F32).map_err(refused)?.to_tensor())?;
        opened.config.positions = scaled_as_llama3(opened.config.positions, &factors).map_err(refused)?;
    }
    Ok(opened)
}

/// What a file's header says: the configuration, the bytes of all weights, and their formats.
pub fn outline_gguf(path: &Path) -> Result<(DecoderConfig, u64, BTreeSet<String>)> {
    let opened = open(path)?;
    let infos = opened.content.tensor_infos.values();
    let formats = infos.clone().map(|info| format_name(info.ggml_dtype).to_string()).collect();
    Ok((opened.config, infos.map(|info| held_bytes(info, WeightDtype::Auto)).sum(), formats))
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
pub fn load_gguf(path: &Path, options: impl Into<LoadOptions>) -> Result<GgufModel> {
    let LoadOptions { dtype, device } = options.into();
    let refused = |why: String| Error::file(path, why);
    let mut opened = open(path)?;
    if device.is_cpu() {
        let needed = opened.content.tensor_infos.values().map(|info| held_bytes(info, dtype)).sum();
        memory::refuse_more_than_free(needed, path)?;
    }
    let mut weights = HeldWeights::new();
    let mut names: Vec<String> = opened.content.tensor_infos.keys().cloned().collect();
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
    let Opened { content, architecture, config, .. } = opened;
    let decoder = Decoder::new(config, &weights, false).map_err(|e| Error::file(path, e))?;
    let taken = decoder.held_weights();
    if let Some(left) = weights.keys().find(|name| !taken.contains_key(*name)) {
        return Err(refused(format!("has the weight `{left}`, which a model of `{architecture}` does not have")));
    }

    let metadata = Metadata(&content);
    let tokens: Vec<String> = metadata.texts("tokenizer.ggml.tokens");
    let token = |key: &str| metadata.count(key).ok().flatten().and_then(|id| tokens.get(id).cloned());
    Ok(GgufModel {
        loaded: LoadedModel { decoder, sha256: fsio::sha256_file(path)? },
        chat_template: metadata.text("tokenizer.chat_template"),
        bos: token("tokenizer.ggml.bos_token_id"),
        eos: token("tokenizer.ggml.eos_token_id"),
        tokens,
    })
}

/// The metadata of a file.
struct Metadata<'a>(&'a Content);

impl Metadata<'_> {
    fn text(&self, key: &str) -> Option<String> {
        self.0.metadata.get(key).and_then(|value| value.to_string().ok()).cloned()
    }

    fn texts(&self, key: &str) -> Vec<String> {
        let values = self.0.metadata.get(key).and_then(|value| value.to_vec().ok());
        values.into_iter().flatten().filter_map(|value| value.to_string().ok()).cloned().collect()
    }

    fn count(&self, key: &str) -> Checked<Option<usize>> {
        let wrong = || format!("`{key}` in its metadata is not a whole number");
        let number = |value: &Value| match value {
            Value::I8(v) => u64::try_from(*v).ok(),
            Value::I16(v) => u64::try_from(*v).ok(),
            Value::I32(v) => u64::try_from(*v).ok(),
            Value::I64(v) => u64::try_from(*v).ok(),
            other => other.to_u64().ok(),
        };
        let value = self.0.metadata.get(key).map(|value| number(value).and_then(|v| usize::try_from(v).ok()));
        value.map(|value| value.ok_or_else(wrong)).transpose()
    }

    fn needed(&self, key: &str) -> Checked<usize> {
        self.count(key)?.ok_or_else(|| format!("its metadata has no `{key}`"))
    }

    fn float(&self, key: &str) -> Checked<Option<f64>> {
        let number = |value: &Value| value.to_f32().map(f64::from).or_else(|_| value.to_f64());
        let value = self.0.metadata.get(key).map(number).transpose();
        value.map_err(|_| format!("`{key}` in its metadata is not a number"))
    }

    fn has(&self, tensor: &str) -> bool {
        self.0.tensor_infos.contains_key(tensor)
    }
}

/// The `config.json` that this model would have in a folder.
fn config_of(metadata: &Metadata, architecture: &str) -> Checked<serde_json::Value> {
    let key = |name: &str| format!("{architecture}.{name}");
    let window = metadata.count(&key("attention.sliding_window"))?;
    let class = match (architecture, window) {
        ("llama", None) => "LlamaForCausalLM",
        ("llama", Some(_)) => "MistralForCausalLM",
        ("qwen2", None) => "Qwen2ForCausalLM",
        ("qwen3", None) => "Qwen3ForCausalLM",
        ("qwen2" | "qwen3", Some(_)) => return Err(format!("`{}` is not supported", key("attention.sliding_window"))),
        _ => {
            return Err(format!(
                "the architecture `{architecture}` is not supported in GGUF files; llama, qwen2 and qwen3 are. Use a \
                 folder in Hugging Face layout; --dtype 4bit quantises it while loading"
            ));
        }
    };
    if metadata.count(&key("expert_count"))?.is_some_and(|experts| experts > 0) {
        return Err(format!("`{}`: mixtures of experts are not supported", key("expert_count")));
    }
    let heads = metadata.needed(&key("attention.head_count"))?;
    let hidden = metadata.needed(&key("embedding_length"))?;
    let embedding = metadata.0.tensor_infos.get("token_embd.weight").ok_or("it has no tensor `token_embd.weight`")?;
    let share = hidden.checked_div(heads).unwrap_or(0);
    let head_dim = metadata.count(&key("attention.key_length"))?.unwrap_or(share);
    let rotated = metadata.count(&key("rope.dimension_count"))?.unwrap_or(head_dim);
    if rotated != head_dim || metadata.count(&key("attention.value_length"))?.is_some_and(|width| width != head_dim) {
        return Err(format!(
            "heads of width {head_dim} with {rotated} rotated dimensions, or with values of another width, are not \
             supported"
        ));
    }
    let scaling = match metadata.text(&key("rope.scaling.type")).as_deref() {
        None | Some("none") => serde_json::Value::Null,
        Some("linear") => json!({"rope_type": "linear", "factor": metadata.float(&key("rope.scaling.factor"))?}),
        Some(other) => return Err(format!("`{}` {other} is not supported", key("rope.scaling.type"))),
    };
    let epsilon = key("attention.layer_norm_rms_epsilon");
    Ok(json!({
        "architectures": [class],
        "vocab_size": embedding.shape.dims().first(),
        "hidden_size": hidden,
        "num_hidden_layers": metadata.needed(&key("block_count"))?,
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.count(&key("attention.head_count_kv"))?.unwrap_or(heads),
        "head_dim": head_dim,
        "intermediate_size": metadata.needed(&key("feed_forward_length"))?,
        "max_position_embeddings": metadata.needed(&key("context_length"))?,
        "rms_norm_eps": metadata.float(&epsilon)?.ok_or_else(|| format!("its metadata has no `{epsilon}`"))?,
        "rope_theta": metadata.float(&key("rope.freq_base"))?.unwrap_or(10_000.0),
        "rope_scaling": scaling,
        "sliding_window": window,
        "attention_bias": architecture != "qwen2" && metadata.has("blk.0.attn_q.bias"),
        "mlp_bias": metadata.has("blk.0.ffn_up.bias"),
        "tie_word_embeddings": !metadata.has("output.weight"),
        "eos_token_id": metadata.count("tokenizer.ggml.eos_token_id")?,
    }))
}

/// llama.cpp stores what Llama 3's scaling divides each frequency by, not its parameters. All published models share three
/// of the four, and the largest divisor is the fourth.
fn scaled_as_llama3(positions: Positions, factors: &[f32]) -> Checked<Positions> {
    let Positions::Rotary { rope, local } = positions else { return Err(format!("`{ROPE_FACTORS}` without rotary")) };
    let factor = factors.iter().copied().fold(1.0, f32::max);
    let scaled =
        Rope { scaling: RopeScaling::Llama3 { factor, low: 1.0, high: 4.0, original: 8192.0 }, ..rope.clone() };
    // Neither depends on how long a row is.
    let (plain, found) = (Rope { scaling: RopeScaling::None, ..rope }.frequencies(1), scaled.frequencies(1));
    let same = |((plain, found), factor): ((&f32, &f32), &f32)| (plain / found / factor - 1.0).abs() < 1e-3;
    match factors.len() == plain.len() && plain.iter().zip(&found).zip(factors).all(same) {
        true => Ok(Positions::Rotary { rope: scaled, local }),
        false => Err(format!("`{ROPE_FACTORS}` is not Llama 3's rope scaling; no other is supported")),
    }
}

/// The Hugging Face name of a tensor.
fn checkpoint_name(name: &str) -> Option<String> {
    let (module, what) = name.rsplit_once('.')?;
    let module = match module.strip_prefix("blk.") {
        None => match module {
            "token_embd" => "model.embed_tokens".to_string(),
            "output_norm" => "model.norm".to_string(),
            "output" => "lm_head".to_string(),
            _ => return None,
        },
        Some(rest) => {
            let (layer, part) = rest.split_once('.')?;
            let part = match part {
                "attn_norm" => "input_layernorm",
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_output" => "self_attn.o_proj",
                "attn_q_norm" => "self_attn.q_norm",
                "attn_k_norm" => "self_attn.k_norm",
                "ffn_norm" => "post_attention_layernorm",
                "ffn_gate" => "mlp.gate_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                _ => return None,
            };
            format!("model.layers.{}.{part}", layer.parse::<usize>().ok()?)
        }
    };
    Some(format!("{module}.{what}"))
}

/// Reads the bytes of one tensor.
fn bytes_of(file: &mut (impl Read + Seek), size: u64, content: &Content, info: &TensorInfo) -> Checked<Vec<u8>> {
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
    let start = content.tensor_data_offset.checked_add(info.offset);
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
        let supported = FORMATS.map(format_name).join(", ");
        return Err(format!(
            "{} is not supported; supported: {supported}, f32, f16, bf16",
            format_name(info.ggml_dtype)
        ));
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
