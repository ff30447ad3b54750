//! Models out of GGUF files: what transformers' checkpoints give once they are written as llama.cpp writes them, with blocks
//! and without; the commands on them; files that are refused, by what is wrong with them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use realign::model::config::{DecoderConfig, Positions};
use realign::model::decoder::{Decoder, Weights};
use realign::model::init::initial_weights;
use realign::model::rope::{Rope, RopeScaling};
use realign::model::source::gguf::load_gguf;
use realign::model::source::load::{WeightDtype, load_dir};

use crate::commands::{refused, succeeds};
use crate::families::family;
use crate::parity::{Expected, check_batch, check_steps};
use crate::quantised::{close, logits, unpacked};
use crate::tiny::folder;

/// llama.cpp's name of a part of a block.
const PARTS: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

fn gguf_name(name: &str) -> String {
    let (module, what) = name.rsplit_once('.').unwrap();
    let module = match module {
        "model.embed_tokens" => "token_embd".to_string(),
        "model.norm" => "output_norm".to_string(),
        "lm_head" => "output".to_string(),
        _ => {
            let (layer, part) = module.strip_prefix("model.layers.").unwrap().split_once('.').unwrap();
            format!("blk.{layer}.{}", PARTS.iter().find(|(theirs, _)| *theirs == part).unwrap().1)
        }
    };
    format!("{module}.{what}")
}

/// As llama.cpp's converter has it: `reshape(heads, 2, head_dim / 2, …).swapaxes(1, 2)`.
fn permuted(tensor: &Tensor, head_dim: usize) -> Tensor {
    let (shape, columns) = (tensor.dims().to_vec(), tensor.elem_count() / tensor.dims()[0]);
    let split = tensor.reshape((shape[0] / head_dim, 2, head_dim / 2, columns)).unwrap();
    split.transpose(1, 2).unwrap().contiguous().unwrap().reshape(shape).unwrap()
}

/// What a file holds.
pub struct Parts {
    metadata: Vec<(String, Value)>,
    tensors: Vec<(String, QTensor)>,
}

impl Parts {
    pub fn set(self, key: &str, value: Value) -> Self {
        let mut set = self.without(key);
        set.metadata.push((key.to_string(), value));
        set
    }

    pub fn without(mut self, key: &str) -> Self {
        self.metadata.retain(|(name, _)| name != key);
        self
    }

    pub fn without_tensor(mut self, name: &str) -> Self {
        self.tensors.retain(|(known, _)| known != name);
        self
    }

    /// The parts of a file of types that candle reads.
    pub fn read(path: &Path) -> Self {
        let mut file = std::fs::File::open(path).unwrap();
        let content = gguf_file::Content::read(&mut file).unwrap();
        let tensor =
            |name: &String| content.tensor(&mut std::fs::File::open(path).unwrap(), name, &Device::Cpu).unwrap();
        let tensors = content.tensor_infos.keys().map(|name| (name.clone(), tensor(name))).collect();
        Self { metadata: content.metadata.into_iter().collect(), tensors }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let metadata: Vec<_> = self.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<_> = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut out = std::io::Cursor::new(Vec::new());
        gguf_file::write(&mut out, &metadata, &tensors).unwrap();
        out.into_inner()
    }

    pub fn write(&self, path: &Path) -> PathBuf {
        std::fs::write(path, self.bytes()).unwrap();
        path.to_path_buf()
    }
}

/// A model as llama.cpp converts it, its matrices as `format` where their width allows it.
pub fn parts(architecture: &str, config: &DecoderConfig, weights: &Weights, format: GgmlDType) -> Parts {
    let count = |n: usize| Value::U32(n as u32);
    let (Positions::Rotary { rope, .. }, realign::model::config::Norm::Rms { eps }) =
        (config.positions.clone(), config.norm)
    else {
        panic!("llama.cpp's llama and qwen2 have both")
    };
    let mut metadata = vec![("general.architecture".to_string(), Value::String(architecture.into()))];
    let mut own = |key: &str, value: Value| metadata.push((format!("{architecture}.{key}"), value));
    own("embedding_length", count(config.hidden_size));
    own("block_count", count(config.num_hidden_layers));
    own("attention.head_count", count(config.num_attention_heads));
    own("attention.head_count_kv", count(config.num_key_value_heads));
    own("attention.key_length", count(config.head_dim));
    own("feed_forward_length", count(config.intermediate_size));
    own("context_length", count(config.max_position_embeddings));
    own("attention.layer_norm_rms_epsilon", Value::F32(eps));
    own("rope.freq_base", Value::F32(rope.theta as f32));
    if let RopeScaling::Linear { factor } = rope.scaling {
        own("rope.scaling.type", Value::String("linear".into()));
        own("rope.scaling.factor", Value::F32(factor));
    }
    if let Some(window) = config.windows[0] {
        own("attention.sliding_window", count(window));
    }
    metadata.push(("tokenizer.ggml.eos_token_id".into(), Value::U32(2)));
    let mut tensors: Vec<(String, QTensor)> = Vec::new();
    for (name, tensor) in weights {
        let turns = name.contains("q_proj") || name.contains("k_proj");
        let tensor = if turns && architecture == "llama" { permuted(tensor, config.head_dim) } else { tensor.clone() };
        let whole = tensor.rank() == 2 && tensor.dims()[1].is_multiple_of(format.block_size());
        let format = if whole { format } else { GgmlDType::F32 };
        tensors.push((gguf_name(name), QTensor::quantize(&tensor, format).unwrap()));
    }
    if matches!(rope.scaling, RopeScaling::Llama3 { .. }) {
        let plain = Rope { scaling: RopeScaling::None, ..rope.clone() }.frequencies(1);
        let factors: Vec<f32> = plain.iter().zip(rope.frequencies(1)).map(|(plain, scaled)| plain / scaled).collect();
        let factors = Tensor::from_vec(factors, plain.len(), &Device::Cpu).unwrap();
        tensors.push(("rope_freqs.weight".into(), QTensor::quantize(&factors, GgmlDType::F32).unwrap()));
    }
    Parts { metadata, tensors }
}

pub fn of_family(architecture: &str, name: &str, format: GgmlDType) -> Parts {
    let decoder = load_dir(&family(name), WeightDtype::F32).unwrap().decoder;
    parts(architecture, &decoder.config, &decoder.weights(), format)
}

fn decoder(path: &Path) -> Decoder {
    load_gguf(path, WeightDtype::Auto).unwrap().decoder
}

#[test]
fn a_checkpoint_written_as_gguf_gives_transformers_logits_and_step_by_step() {
    let dir = folder("gguf-parity");
    for (architecture, name) in [
        ("llama", "llama_linear"),
        ("llama", "mistral"),
        ("llama", "mistral_full"),
        ("qwen2", "qwen2"),
        ("qwen3", "qwen3"),
    ] {
        println!("{name}");
        let path = of_family(architecture, name, GgmlDType::F32).write(&dir.join(format!("{name}.gguf")));
        let decoder = decoder(&path);
        let original = load_dir(&family(name), WeightDtype::F32).unwrap().decoder;
        // A Mistral without a window is a Llama to llama.cpp.
        let architecture = decoder.config.architecture.clone();
        assert_eq!(decoder.config, DecoderConfig { architecture, ..original.config }, "{name}");
        let expected = Expected::read(&format!("../families/{name}/expected.safetensors"));
        check_batch(&decoder, &expected);
        check_steps(&decoder, &expected);
    }
}

#[test]
fn blocks_of_a_gguf_file_are_kept_and_give_the_logits_of_their_values() {
    let dir = folder("gguf-blocks");
    let llama = DecoderConfig { tie_word_embeddings: false, ..DecoderConfig::llama(64, 256, 2, (4, 2), 512, 64) };
    let weights = initial_weights(&llama, 5).unwrap();
    let whole = Decoder::new(llama.clone(), &weights, false).unwrap();
    for (format, name, most) in [
        (GgmlDType::Q4_0, "q4_0", 0.3),
        (GgmlDType::Q4_1, "q4_1", 0.3),
        (GgmlDType::Q5_0, "q5_0", 0.15),
        (GgmlDType::Q5_1, "q5_1", 0.15),
        (GgmlDType::Q8_0, "q8_0", 0.02),
        (GgmlDType::Q4K, "q4_k", 0.3),
        (GgmlDType::Q5K, "q5_k", 0.15),
        (GgmlDType::Q6K, "q6_k", 0.08),
        (GgmlDType::Q2K, "q2_k", 1.5),
        (GgmlDType::Q3K, "q3_k", 0.7),
    ] {
        let path = parts("llama", &llama, &weights, format).write(&dir.join("model.gguf"));
        let found = decoder(&path);
        assert!(found.held_weights().values().all(|weight| weight.dims().len() == 1 || weight.format_name() == name));
        close(name, &logits(&found), &logits(&unpacked(&found)), 1e-5);
        // The rows of queries and keys are where they belong: else nothing would be left of the original.
        let (found, whole) = (logits(&found), logits(&whole));
        let apart = found.iter().zip(&whole).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        let error = (apart / whole.iter().map(|v| v.powi(2)).sum::<f32>()).sqrt();
        assert!(error < most && error > 1e-4, "{name}: {error}");
        let widened = load_gguf(&path, WeightDtype::F32).unwrap().decoder;
        assert!(widened.held_weights().values().all(|weight| weight.format_name() == "f32"), "{name}");
        close(name, &logits(&widened), &found, 1e-5);
    }
}

#[test]
fn llama_3s_rope_factors_become_its_scaling() {
    let dir = folder("gguf-rope");
    let scaling = RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original: 8192.0 };
    let rope = Rope { theta: 500_000.0, dim: 64, scaling };
    let llama = DecoderConfig {
        positions: Positions::Rotary { rope, local: None },
        ..DecoderConfig::llama(64, 256, 1, (4, 2), 256, 64)
    };
    let weights = initial_weights(&llama, 5).unwrap();
    let path = parts("llama", &llama, &weights, GgmlDType::F32).write(&dir.join("model.gguf"));
    assert_eq!(decoder(&path).config.positions, llama.positions);
    let odd = Tensor::new(&[2f32; 32], &Device::Cpu).unwrap();
    let mut other = parts("llama", &llama, &weights, GgmlDType::F32);
    other.tensors.retain(|(name, _)| name != "rope_freqs.weight");
    other.tensors.push(("rope_freqs.weight".into(), QTensor::quantize(&odd, GgmlDType::F32).unwrap()));
    refuses(&other.write(&path), "`rope_freqs.weight` is not Llama 3's rope scaling");
}

pub fn refuses(path: &Path, words: &str) {
    let error = load_gguf(path, WeightDtype::Auto).err().expect(words).to_string();
    assert!(error.contains(words) && error.contains(&path.display().to_string()), "{error}");
}

#[test]
fn a_damaged_or_foreign_gguf_file_is_refused_by_what_is_wrong() {
    let dir = folder("gguf-refused");
    let path = dir.join("model.gguf");
    let good = || of_family("qwen2", "qwen2", GgmlDType::Q4_0);
    let bytes = good().bytes();
    let written = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();

    written(b"PK\x03\x04 not at all");
    refuses(&path, "not a GGUF file");
    written(&bytes[..40]);
    refuses(&path, "is not a GGUF file, or is damaged");
    written(&bytes[..bytes.len() - 200]);
    refuses(&path, "the file ends before them: it is incomplete");
    good().set("general.alignment", Value::U32(0)).write(&path);
    refuses(&path, "its header is invalid (`general.alignment` 0)");

    good().set("general.architecture", Value::String("mamba".into())).write(&path);
    refuses(
        &path,
        "the architecture `mamba` is not supported in GGUF files; llama, qwen2, qwen3, gemma2, gemma3, phi3",
    );
    good().set("qwen2.block_count", Value::String("two".into())).write(&path);
    refuses(&path, "`qwen2.block_count` in its metadata is not a whole number");
    good().set("qwen2.rope.scaling.type", Value::String("yarn".into())).write(&path);
    refuses(&path, "`qwen2.rope.scaling.type` yarn is not supported");
    good().set("qwen2.expert_count", Value::U32(8)).write(&path);
    refuses(&path, "mixtures of experts");
    good().set("qwen2.attention.head_count", Value::U32(0)).write(&path);
    refuses(&path, "`num_attention_heads` is 0");
    good().set("qwen2.feed_forward_length", Value::U32(48)).write(&path);
    refuses(&path, "by the configuration it is [48, 32]");
    good().set("qwen2.rope.dimension_count", Value::U32(4)).write(&path);
    refuses(&path, "with 4 rotated dimensions");

    let mut lacking = good();
    lacking.metadata.retain(|(key, _)| key != "qwen2.embedding_length");
    lacking.write(&path);
    refuses(&path, "has no `qwen2.embedding_length`");
    let mut lacking = good();
    lacking.tensors.retain(|(name, _)| name != "blk.1.ffn_up.weight");
    lacking.write(&path);
    refuses(&path, "`model.layers.1.mlp.up_proj.weight` is missing");
    let ones = |shape: &[usize], format| {
        QTensor::quantize(&Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu).unwrap(), format).unwrap()
    };
    let mut more = good();
    more.tensors.push(("blk.0.ffn_gate_inp.weight".into(), ones(&[4, 32], GgmlDType::F32)));
    more.write(&path);
    refuses(&path, "unknown tensor `blk.0.ffn_gate_inp.weight`");
    let mut more = good();
    more.tensors.push(("blk.7.ffn_up.weight".into(), ones(&[4, 32], GgmlDType::F32)));
    more.write(&path);
    refuses(&path, "`model.layers.7.mlp.up_proj.weight`");
    let mut odd = good();
    odd.tensors.retain(|(name, _)| name != "blk.0.ffn_up.weight");
    odd.tensors.push(("blk.0.ffn_up.weight".into(), ones(&[40, 256], GgmlDType::Q8K)));
    odd.write(&path);
    refuses(&path, "`blk.0.ffn_up.weight`: q8_k is not supported; supported: q4_0");
    good().write(&path);
    let error = load_gguf(&path, WeightDtype::FourBit).err().unwrap().to_string();
    assert!(error.contains("is already quantised"), "{error}");
}

/// A GGUF file with the families' tokenizer of 63 characters beside it.
fn model_file(name: &str) -> PathBuf {
    let dir = folder(name);
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(family(file), dir.join(file)).unwrap();
    }
    of_family("qwen2", "qwen2", GgmlDType::Q4_0).write(&dir.join("model.gguf"));
    dir
}

#[test]
fn a_gguf_file_trains_and_answers_through_the_commands() {
    let dir = model_file("gguf-commands");
    let row = "{\"prompt\": \"abc\", \"completion\": \"def\"}\n";
    std::fs::write(dir.join("rows.jsonl"), row.repeat(8)).unwrap();
    succeeds(&dir, "train --model model.gguf --data rows.jsonl --out adapter --max-steps 2 --lora-r 2");
    let lineage: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("adapter/realign.json")).unwrap()).unwrap();
    assert_eq!(lineage["base_dtype"], "f32+q4_0", "one width of 40 is no whole blocks");
    let facts = succeeds(&dir, "inspect model.gguf").stdout;
    assert!(facts.contains("Qwen2ForCausalLM") && facts.contains(" as f32, q4_0"), "{facts}");
    let answer = "generate --model model.gguf --prompt abc --max-new-tokens 3";
    assert!(!succeeds(&dir, &format!("{answer} --adapter adapter")).stdout.is_empty());
}

#[test]
fn a_tokenizer_beside_a_gguf_file_must_be_its_own() {
    let dir = model_file("gguf-tokenizer");
    let answer = "generate --model model.gguf --prompt abc --max-new-tokens 3";
    let tokens = (0..64).map(|i| Value::String(format!("token {i}"))).collect();
    let parts = of_family("qwen2", "qwen2", GgmlDType::Q4_0).set("tokenizer.ggml.tokens", Value::Array(tokens));
    parts.write(&dir.join("model.gguf"));
    refused(&dir, answer, &["tokenizer.json", "is the tokenizer of another model"]);
    std::fs::remove_file(dir.join("tokenizer.json")).unwrap();
    refused(
        &dir,
        answer,
        &["model.gguf", "no `tokenizer.ggml.model`; put the tokenizer.json of the original model beside"],
    );
}
