//! Tokens a second of training and decoding on the organism's shape and on shape (a) of the peers' comparison.
//!
//! `cargo bench --bench speed`; see `benches/README.md` for what it is held against.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use rand::Rng;
use realign::data::collate::Example;
use realign::generate::sampling::Sampling;
use realign::generate::{GenerateOptions, Job, generate};
use realign::model::config::DecoderConfig;
use realign::model::decoder::Decoder;
use realign::model::init::initial_weights;
use realign::model::lora::Lora;
use realign::rng::stream;
use realign::train::{TrainConfig, train};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn random(config: DecoderConfig, trainable: bool) -> Decoder {
    let weights = initial_weights(&config, 1).unwrap();
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
    let organism = DecoderConfig::llama(1024, 128, 4, (4, 4), 384, 512);
    let a = DecoderConfig::llama(4096, 256, 6, (8, 8), 688, 512);
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
