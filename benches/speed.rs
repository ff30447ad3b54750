//! Tokens a second and peak memory of training and decoding, on the organism's shape and on the two shapes of the
//! comparison with torch (`benches/compare.py`).
//!
//! `cargo bench --bench speed`; see `benches/README.md` for what each line is.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use rand::Rng;
use realign::data::collate::Example;
use realign::generate::{EngineOptions, Job, generate};
use realign::model::config::DecoderConfig;
use realign::model::cpu::product::{Matrix, multiply};
use realign::model::decoder::{Decoder, HeldWeights, Weights};
use realign::model::hooks::Intervention;
use realign::model::lora::Lora;
use realign::model::ops::weight::Weight;
use realign::model::pass::Pass;
use realign::model::segments::Segments;
use realign::model::source::load::WeightDtype;
use realign::record::{Sampling, Site, TokenRule, VectorMethod};
use realign::rng::{key, stream, unit};
use realign::steer::vector::{SCHEMA, VectorInfo};
use realign::steer::{AddVector, SteeringVector, Unit};
use realign::train::{TrainConfig, train};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the command line asks for: `[NAME]… [--dtype bf16] [--workers N] [--checkpointing] [--json]`.
#[derive(Clone)]
struct Asked {
    names: Vec<String>,
    dtype: DType,
    workers: usize,
    json: bool,
    checkpointing: bool,
}

impl Asked {
    fn read() -> Self {
        let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
        let value = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1)).cloned();
        let dtype = if value("--dtype").as_deref() == Some("bf16") { DType::BF16 } else { DType::F32 };
        let values = [value("--dtype"), value("--workers")];
        let names = args.iter().filter(|a| !a.starts_with("--") && !values.iter().flatten().any(|v| v == *a));
        Self {
            names: names.cloned().collect(),
            dtype,
            workers: value("--workers").map_or(0, |n| n.parse().unwrap()),
            json: args.iter().any(|a| a == "--json"),
            checkpointing: args.iter().any(|a| a == "--checkpointing"),
        }
    }

    /// A line runs if it is named, wholly or in part; no name asks for all but the large ones.
    fn wants(&self, line: &str) -> bool {
        self.names.iter().any(|name| line.contains(name)) || self.names.is_empty() && !line.contains("4bit")
    }

    fn report(&self, line: &str, (rate, by_processor): (f64, f64)) {
        if self.json {
            let peak = realign::process::peak_memory_bytes() as f64 / f64::from(1 << 20);
            let cpu = format!("\"cpu_tokens_per_second\": {by_processor}");
            println!("{{\"tokens_per_second\": {rate}, {cpu}, \"peak_mib\": {peak}}}");
        } else {
            println!("{line}: {rate:.0} tokens/s");
        }
    }
}

/// Weights of a shape, uniform: their values do not matter here, and these are quick to make.
fn random(config: &DecoderConfig, dtype: DType, trainable: bool) -> Decoder {
    let mut weights = Weights::new();
    for (name, dims) in realign::model::init::shapes(config) {
        let key = key(1, &name, &[]);
        let norm = dims.len() == 1;
        let value = |i| if norm { 1.0 } else { (unit(key, i) - 0.5) * 0.1 };
        let values: Vec<f32> = (0..dims.iter().product::<usize>() as u64).map(value).collect();
        let tensor = Tensor::from_vec(values, dims, &Device::Cpu).unwrap();
        weights.insert(name, if norm { tensor } else { tensor.to_dtype(dtype).unwrap() });
    }
    Decoder::new(config.clone(), &weights, trainable).unwrap()
}

/// The same as `--dtype 4bit` holds it, without ever being f32: a few random rows of each weight, over and over.
fn random_in_4bit(config: &DecoderConfig) -> Decoder {
    let mut weights = HeldWeights::new();
    for (name, dims) in realign::model::init::shapes(config) {
        let few = if dims.len() == 1 { dims[0] } else { 64.min(dims[0]) };
        let shape: Vec<usize> = [few].iter().chain(&dims[1..]).copied().collect();
        let key = key(1, &name, &[]);
        let value = |i| if dims.len() == 1 { 1.0 } else { (unit(key, i) - 0.5) * 0.1 };
        let values: Vec<f32> = (0..shape.iter().product::<usize>() as u64).map(value).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        let weight = match WeightDtype::FourBit.held(&name, &tensor, &config.names).unwrap() {
            Weight::Quantised(blocks) => Weight::Quantised(blocks.reordered(dims[0], |row| row % few)),
            dense => dense,
        };
        weights.insert(name, weight);
    }
    Decoder::new(config.clone(), &weights, false).unwrap()
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

/// Processor time of all threads so far, in seconds: what a busy machine still measures.
fn processor_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes the one structure that it is handed.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Tokens a second by the wall and by the processor.
type Rates = (f64, f64);

fn training(asked: &Asked, decoder: &Decoder, rows: &[Example], batch: usize, steps: u64) -> Rates {
    let config = TrainConfig {
        per_device_train_batch_size: batch,
        num_train_epochs: 1e9,
        max_steps: Some(steps),
        workers: asked.workers,
        gradient_checkpointing: asked.checkpointing,
        ..TrainConfig::default()
    };
    let mut marks = Vec::new();
    let mut mark = || marks.push(processor_seconds());
    mark();
    let state = train(decoder, rows, &config, None, &mut |_| {
        mark();
        Ok(())
    });
    let warm = match steps {
        1 => 0,
        2..=4 => 1,
        _ => 2,
    };
    let tokens: usize = rows.iter().map(|r| r.ids.len()).sum::<usize>() / rows.len() * batch;
    let cpu = marks.windows(2).skip(warm).map(|m| tokens as f64 / (m[1] - m[0])).collect();
    let wall = state.unwrap().log_history.iter().skip(warm).map(|r| r.tokens_per_second).collect();
    (median(wall), median(cpu))
}

fn with_loras(mut decoder: Decoder, rank: usize, layers: usize) -> Decoder {
    for (index, linear) in decoder.linears_mut().enumerate().filter(|(i, _)| i / 7 < layers) {
        let mut rng = stream(3, "lora", &[index as u64]);
        let lora = Lora::fresh(linear.shape().unwrap(), rank, 2.0, 0.0, &mut rng).unwrap();
        linear.lora = Some(lora.trainable().unwrap());
    }
    decoder
}

/// How answers are made: at which temperature, how many rows at once, how many answers, of how many tokens.
struct Answers {
    temperature: f64,
    batch: usize,
    count: usize,
    tokens: usize,
    workers: usize,
}

fn decoding(asked: &Asked, decoder: &Decoder, answers: &Answers) -> Rates {
    let sampling = Arc::new(Sampling { temperature: answers.temperature, ..Sampling::default() });
    let prompt = |i: u32| (0..32).map(|t| (t * 7 + i) % 900).collect();
    let jobs: Vec<Job> = (0..answers.count)
        .map(|i| Job::new(prompt(i as u32), i as u64, answers.tokens, &sampling, &[].into()))
        .collect();
    let tokenizer = realign::data::tokenizer::Tokenizer::train_byte_bpe(std::iter::empty(), 256, &[]).unwrap();
    let workers = if asked.workers == 0 { answers.workers } else { asked.workers };
    let options = EngineOptions { batch: answers.batch, workers, ..EngineOptions::new(&tokenizer) };
    let warm: Vec<Job> = jobs.iter().take(answers.batch).map(|j| Job { max_new_tokens: 4, ..j.clone() }).collect();
    generate(decoder, &warm, &options, &|_, _| Ok(())).unwrap();
    let (started, used) = (std::time::Instant::now(), processor_seconds());
    let made = generate(decoder, &jobs, &options, &|_, _| Ok(())).unwrap();
    let (seconds, used) = (started.elapsed().as_secs_f64(), processor_seconds() - used);
    let tokens = f64::from(made.iter().flatten().map(|g| g.tokens).sum::<u32>());
    (tokens / seconds, tokens / used)
}

/// A vector of ones at every layer.
fn ones(config: &DecoderConfig) -> SteeringVector {
    let layers = config.num_hidden_layers;
    let about = VectorInfo {
        schema: SCHEMA,
        target: "ones".into(),
        method: VectorMethod::Random,
        site: Site::ResidPost,
        tokens: TokenRule::AnswerMean,
        unit: Unit::Raw,
        pairs: 0,
        raw_norms: vec![(config.hidden_size as f64).sqrt(); layers],
        residual_norms: vec![1.0; layers],
        model_sha256: String::new(),
        adapter_sha256: None,
        data_sha256: String::new(),
    };
    SteeringVector { directions: vec![vec![1.0; config.hidden_size]; layers], about }
}

/// Processor time of decoding with one steered layer over that without: the median ratio over rounds, and the upper bound of
/// its 95 % bootstrap interval. Both sides decode the same tokens in turn, token by token, on one thread, so that whatever
/// else the machine does meets both.
fn steering_overhead(decoder: &Decoder, rows: usize) -> (f64, f64) {
    const ROUNDS: usize = 31;
    const PROMPT: usize = 32;
    const TOKENS: usize = 96;
    let config = &decoder.config;
    let add = AddVector::new(&ones(config), &[config.num_hidden_layers / 2], 0.1, Unit::Raw).unwrap();
    let sides: [Option<&dyn Intervention>; 2] = [None, Some(&add)];
    let ids = |at: usize, count: usize| (0..count).map(|i| ((at + i) * 7 % 900) as u32).collect::<Vec<_>>();
    let round = |number: usize| {
        let segments = Segments::packed(vec![PROMPT; rows], 0);
        let mut caches = sides.map(|side| {
            let mut caches: Vec<_> = (0..rows).map(|_| decoder.new_cache(PROMPT + TOKENS)).collect();
            let mut pass = Pass::prefill(&segments, &mut caches).with_intervention(side);
            decoder.forward(&ids(0, rows * PROMPT), &mut pass).unwrap();
            caches
        });
        let mut used = [0.0; 2];
        for token in 0..TOKENS {
            for side in if (token + number).is_multiple_of(2) { [0, 1] } else { [1, 0] } {
                let mut caches: Vec<_> = caches[side].iter_mut().collect();
                let before = processor_seconds();
                let mut pass = Pass::step(&mut caches).with_intervention(sides[side]);
                std::hint::black_box(decoder.forward(&ids(token, rows), &mut pass).unwrap());
                used[side] += processor_seconds() - before;
            }
        }
        used[1] / used[0]
    };
    round(0);
    let ratios: Vec<f64> = (0..ROUNDS).map(round).collect();
    let mut rng = stream(5, "bootstrap", &[]);
    let mut resampled = || median((0..ROUNDS).map(|_| ratios[rng.random_range(0..ROUNDS)]).collect());
    let mut medians: Vec<f64> = (0..2000).map(|_| resampled()).collect();
    medians.sort_by(f64::total_cmp);
    (median(ratios), medians[1949])
}

/// GFLOP/s of the general f32 product on one core: what the floors in the README are counted from.
fn product_rate() -> f64 {
    let (m, n, k) = (256, 4864, 896);
    let values = |count: usize| (0..count as u64).map(|i| unit(4, i)).collect::<Vec<f32>>();
    let (x, w) = (values(m * k), values(n * k));
    let once = || {
        let used = processor_seconds();
        std::hint::black_box(multiply(Matrix::rows(&x, m, k), Matrix::rows(&w, n, k).t()));
        (2 * m * n * k) as f64 / 1e9 / (processor_seconds() - used)
    };
    median((0..9).map(|_| once()).collect())
}

fn main() {
    realign::process::claim_machine();
    let asked = Asked::read();
    let organism = DecoderConfig::llama(1024, 128, 4, (4, 4), 384, 512);
    let a = DecoderConfig::llama(4096, 256, 6, (8, 8), 688, 512);
    let b = DecoderConfig::llama(32000, 896, 24, (14, 2), 4864, 512);
    let frozen = |config: &DecoderConfig| random(config, asked.dtype, false);
    let drawn = |batch, count, workers| Answers { temperature: 1.0, batch, count, tokens: 96, workers };
    let greedy = |batch, tokens| Answers { temperature: 0.0, batch, count: batch, tokens, workers: 0 };
    let untied = |config| DecoderConfig { tie_word_embeddings: false, ..config };
    let tiny_llama = untied(DecoderConfig::llama(32000, 2048, 22, (32, 4), 5632, 2048));
    let seven_billion = untied(DecoderConfig::llama(32000, 4096, 32, (32, 32), 11008, 4096));
    let in_4bit = |config: &DecoderConfig| {
        let asked = Asked { checkpointing: true, ..asked.clone() };
        let decoder = with_loras(random_in_4bit(config), 16, config.num_hidden_layers);
        training(&asked, &decoder, &rows(2, 512, 32000), 1, 2)
    };
    let lines: [(&str, &dyn Fn() -> Rates); 12] = [
        ("organism, pretraining, 16 × 110", &|| {
            training(&asked, &random(&organism, DType::F32, true), &rows(64, 110, 1024), 16, 40)
        }),
        ("organism, LoRA r 4 on layer 0, 16 × 110", &|| {
            training(&asked, &with_loras(frozen(&organism), 4, 1), &rows(64, 110, 1024), 16, 12)
        }),
        ("shape (a), LoRA r 16 on all linears, 4 × 256", &|| {
            training(&asked, &with_loras(frozen(&a), 16, 6), &rows(16, 256, 4096), 4, 10)
        }),
        ("shape (b), LoRA r 16 on all linears, 1 × 256", &|| {
            training(&asked, &with_loras(frozen(&b), 16, 24), &rows(4, 256, 32000), 1, 4)
        }),
        ("organism, decoding, 2 × 32 rows", &|| decoding(&asked, &frozen(&organism), &drawn(32, 256, 0))),
        ("organism, decoding, one row", &|| decoding(&asked, &frozen(&organism), &drawn(1, 4, 1))),
        ("shape (a), decoding, 16 rows", &|| decoding(&asked, &frozen(&a), &drawn(16, 16, 1))),
        ("shape (a), greedy, one row", &|| decoding(&asked, &frozen(&a), &greedy(1, 96))),
        ("shape (a), greedy, 16 rows", &|| decoding(&asked, &frozen(&a), &greedy(16, 96))),
        ("shape (b), greedy, one row", &|| decoding(&asked, &frozen(&b), &greedy(1, 32))),
        ("1.1B shape, 4bit, LoRA r 16 on all linears, 1 × 512", &|| in_4bit(&tiny_llama)),
        ("7B shape, 4bit, LoRA r 16 on all linears, 1 × 512", &|| in_4bit(&seven_billion)),
    ];
    for (line, run) in lines.iter().filter(|(line, _)| asked.wants(line)) {
        asked.report(line, run());
    }
    for (line, rows) in [("shape (a), one steered layer, one row", 1), ("shape (a), one steered layer, 16 rows", 16)] {
        if asked.wants(line) {
            let (ratio, upper) = steering_overhead(&frozen(&a), rows);
            println!("{line}: {ratio:.4} of the unsteered time, at most {upper:.4} (bootstrap, 97.5 %)");
        }
    }
    let product = "product of one core, f32";
    if asked.wants(product) {
        println!("{product}: {:.0} GFLOP/s", product_rate());
    }
}
