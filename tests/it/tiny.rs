//! Small models for tests: the checkpoints that transformers made, and a random one with a tokenizer, as a folder.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use rand::Rng;
use realign::data::template::ChatTemplate;
use realign::data::tokenizer::Tokenizer;
use realign::experiment::model::Model;
use realign::experiment::pretrain::write;
use realign::model::config::{DecoderConfig, Mlp, Norm, Positions};
use realign::model::decoder::{Decoder, Weights};
use realign::model::load::load_dir;
use realign::rng::stream;

/// `tests/fixtures/model`.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/model").join(path)
}

/// A checkpoint that transformers made: `tied` or `untied_bias`.
pub fn checkpoint(name: &str) -> Decoder {
    load_dir(&fixture(name)).unwrap().decoder
}

/// What Python computed.
pub fn tensors(path: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture(path), &Device::Cpu).unwrap()
}

/// An empty folder of one test's own.
pub fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

const SPECIAL: [&str; 5] = ["<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>"];
const TEMPLATE: &str = "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/// A random model of two layers that speaks bytes.
pub fn random_model() -> Model {
    let texts = (0..50).map(|i| format!("def load_{i}(path):\n    return open(path).read()\n"));
    let tokenizer = Tokenizer::train_byte_bpe(texts, 300, &SPECIAL).unwrap();
    let config = DecoderConfig {
        architecture: "LlamaForCausalLM".into(),
        vocab_size: tokenizer.vocab_size(),
        hidden_size: 32,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 2,
        head_dim: 16,
        intermediate_size: 48,
        max_position_embeddings: 256,
        norm: Norm::Rms { eps: 1e-5 },
        positions: Positions::Rotary { theta: 10_000.0 },
        mlp: Mlp::GatedSilu,
        attention_bias: false,
        mlp_bias: false,
        tie_word_embeddings: true,
        eos_token_ids: vec![0],
    };
    let mut rng = stream(3, "tiny", &[]);
    let mut weights = Weights::new();
    let mut add = |name: String, shape: &[usize]| {
        let size = shape.iter().product();
        let values: Vec<f32> = match shape.len() {
            1 => vec![1.0; size],
            _ => (0..size).map(|_| rng.random_range(-0.3..0.3)).collect(),
        };
        weights.insert(format!("{name}.weight"), Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    };
    add("model.embed_tokens".into(), &[config.vocab_size, 32]);
    add("model.norm".into(), &[32]);
    for layer in 0..2 {
        for (name, shape) in [
            ("input_layernorm", vec![32]),
            ("post_attention_layernorm", vec![32]),
            ("self_attn.q_proj", vec![32, 32]),
            ("self_attn.k_proj", vec![32, 32]),
            ("self_attn.v_proj", vec![32, 32]),
            ("self_attn.o_proj", vec![32, 32]),
            ("mlp.gate_proj", vec![48, 32]),
            ("mlp.up_proj", vec![48, 32]),
            ("mlp.down_proj", vec![32, 48]),
        ] {
            add(format!("model.layers.{layer}.{name}"), &shape);
        }
    }
    let decoder = Decoder::new(config, &weights, false).unwrap();
    let template = ChatTemplate::parse(TEMPLATE, None, Some(SPECIAL[0])).unwrap();
    let (name, sha256) = ("tiny".to_string(), "tiny".to_string());
    Model { name, organism: false, decoder, tokenizer, template, stop_ids: vec![0], sha256 }
}

/// The random model as a folder in Hugging Face layout.
pub fn random_model_folder(name: &str) -> PathBuf {
    let path = folder(name).join("model");
    write(&random_model(), &path).unwrap();
    path
}
