//! Tokens a second of training and decoding on the organism's shape and on shape (a) of the peers' comparison.
//!
//! `cargo bench --bench speed`; see `benches/README.md` for what it is held against.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use candle_core::{Device, Tensor};
use rand::Rng;
use realign::data::collate::Example;
use realign::generate::sampling::Sampling;
use realign::generate::{GenerateOptions, Job, generate};
use realign::model::config::{DecoderConfig, Mlp, Norm, Positions};
use realign::model::decoder::{Decoder, Weights};
use realign::model::lora::Lora;
use realign::rng::stream;
use realign::train::{TrainConfig, train};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn shape(hidden: usize, layers: usize, heads: usize, kv: usize, intermediate: usize, vocab: usize) -> DecoderConfig {
    DecoderConfig {
        architecture: "LlamaForCausalLM".into(),
        vocab_size: vocab,
        hidden_size: hidden,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: kv,
        head_dim: hidden / heads,
        intermediate_size: intermediate,
        max_position_embeddings: 512,
        norm: Norm::Rms { eps: 1e-5 },
        positions: Positions::Rotary { theta: 10_000.0 },
        mlp: Mlp::GatedSilu,
        attention_bias: false,
        mlp_bias: false,
        tie_word_embeddings: true,
        eos_token_ids: vec![1],
    }
}

fn random(config: DecoderConfig, trainable: bool) -> Decoder {
    let mut rng = stream(1, "weights", &[]);
    let (h, kv) = (config.hidden_size, config.num_key_value_heads * config.head_dim);
    let mut weights = Weights::new();
    let mut add = |name: String, shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| if shape.len() == 1 { 1.0 } else { rng.random_range(-0.04..0.04) })
            .collect();
        weights.insert(format!("{name}.weight"), Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    };
    add("model.embed_tokens".into(), &[config.vocab_size, h]);
    add("model.norm".into(), &[h]);
    for layer in 0..config.num_hidden_layers {
        let mut at = |name: &str, shape: &[usize]| add(format!("model.layers.{layer}.{name}"), shape);
        at("input_layernorm", &[h]);
        at("post_attention_layernorm", &[h]);
        at("self_attn.q_proj", &[h, h]);
        at("self_attn.k_proj", &[kv, h]);
        at("self_attn.v_proj", &[kv, h]);
        at("self_attn.o_proj", &[h, h]);
        at("mlp.gate_proj", &[config.intermediate_size, h]);
        at("mlp.up_proj", &[config.intermediate_size, h]);
        at("mlp.down_proj", &[h, config.intermediate_size]);
    }
    Decoder::new(config, &weights, trainable).unwrap()
}

fn rows(count: usize, len: usize, vocab: u32) -> Vec<Example> {
    let mut rng = stream(2, "rows", &[]);
    let row = |_| Example {
        ids: (0..len).map(|_| rng.random_range(0..vocab)).collect(),
        weights: (0..len).map(|t| if t > len / 3 { 1.0 } else { 0.0 }).collect(),
    };
    (0..count).map(row).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Whether the command line asks for this line: no argument asks for all.
fn wanted(name: &str) -> bool {
    let mut filters = std::env::args().skip(1).filter(|a| !a.starts_with("--")).peekable();
    filters.peek().is_none() || filters.any(|f| name.contains(&f))
}

fn training(name: &str, decoder: &Decoder, rows: &[Example], batch: usize, steps: u64) {
    if !wanted(name) {
        return;
    }
    let config = TrainConfig {
        per_device_train_batch_size: batch,
        num_train_epochs: 1e9,
        max_steps: Some(steps),
        ..TrainConfig::default()
    };
    let state = train(decoder, rows, &config, None, &mut |_| Ok(())).unwrap();
    let rate = median(state.log_history.iter().skip(2).map(|r| r.tokens_per_second).collect());
    println!("{name}: {rate:.0} tokens/s");
}

fn with_loras(mut decoder: Decoder, rank: usize, layers: usize) -> Decoder {
    for (index, linear) in decoder.linears_mut().enumerate().filter(|(i, _)| i / 7 < layers) {
        let mut rng = stream(3, "lora", &[index as u64]);
        let lora = Lora::fresh(linear.shape().unwrap(), rank, 2.0, 0.0, &mut rng).unwrap();
        linear.lora = Some(lora.trainable().unwrap());
    }
    decoder
}

fn decoding(name: &str, decoder: &Decoder, batch: usize, jobs: usize, workers: usize) {
    if !wanted(name) {
        return;
    }
    let jobs: Vec<Job> = (0..jobs)
        .map(|i| Job {
            prompt: (0..32).map(|t| (t * 7 + i as u32) % 900).collect(),
            seed: i as u64,
            max_new_tokens: 96,
        })
        .collect();
    let options = GenerateOptions { sampling: Sampling::default(), stop_ids: &[], intervention: None, batch, workers };
    let started = std::time::Instant::now();
    let made = generate(decoder, &jobs, &options, &|_, _| Ok(())).unwrap();
    let tokens: u32 = made.iter().map(|g| g.tokens).sum();
    println!("{name}: {:.0} tokens/s", f64::from(tokens) / started.elapsed().as_secs_f64());
}

fn main() {
    realign::process::claim_machine();
    let organism = shape(128, 4, 4, 4, 384, 1024);
    let a = shape(256, 6, 8, 8, 688, 4096);
    training("organism, pretraining, 16 × 110", &random(organism.clone(), true), &rows(64, 110, 1024), 16, 40);
    let adapted = with_loras(random(organism.clone(), false), 4, 1);
    training("organism, LoRA r 4 on layer 0, 16 × 110", &adapted, &rows(64, 110, 1024), 16, 12);
    let adapted = with_loras(random(a.clone(), false), 16, 6);
    training("shape (a), LoRA r 16 on all linears, 4 × 256", &adapted, &rows(16, 256, 4096), 4, 10);
    let organism = random(organism, false);
    decoding("organism, decoding, 2 × 32 rows", &organism, 32, 256, 0);
    decoding("organism, decoding, one row", &organism, 1, 4, 1);
    decoding("shape (a), decoding, 16 rows", &random(a, false), 16, 16, 1);
}
