//! Decoding from a GGUF file's blocks: exact products against products in integers, in turns, and what the rounding costs.
//!
//! `REALIGN_GGUF=model.gguf cargo bench --bench quantised [-- ROWS[xWORKERS]… --rounds N --tokens N --json --error]`; see
//! `benches/README.md`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use realign::data::tokenizer::Tokenizer;
use realign::generate::{EngineOptions, Job, generate};
use realign::model::cpu::team::with_helpers;
use realign::model::decoder::Decoder;
use realign::model::ops::quantised::Products;
use realign::model::ops::to_vec;
use realign::model::pass::Pass;
use realign::model::segments::Segments;
use realign::record::Sampling;
use realign::subject::Subject;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIDES: [Products; 2] = [Products::Exact, Products::Integer];

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Tokens a second of greedy answers, the four tokens of the prompt not counted.
fn decoding(decoder: &Decoder, rows: usize, workers: usize, tokens: usize) -> f64 {
    let sampling = Arc::new(Sampling { temperature: 0.0, ..Sampling::default() });
    let prompt = |row: u32| (0..4).map(|at| 1000 + (at * 7 + row * 13) % 900).collect();
    let jobs = |count| -> Vec<Job> {
        (0..rows as u32).map(|row| Job::new(prompt(row), 0, count, &sampling, &[].into())).collect()
    };
    let tokenizer = Tokenizer::train_byte_bpe(std::iter::empty(), 256, &[]).unwrap();
    let options = EngineOptions { workers, ..EngineOptions::new(&tokenizer) };
    let timed = |jobs: &[Job]| {
        let started = Instant::now();
        let made = generate(decoder, jobs, &options, &|_, _| Ok(())).unwrap();
        (started.elapsed().as_secs_f64(), made.iter().flatten().map(|made| made.tokens).sum::<u32>())
    };
    // The first token comes from reading the prompt.
    let (prompts, first) = timed(&jobs(1));
    let (all, made) = timed(&jobs(tokens + 1));
    f64::from(made - first) / (all - prompts)
}

/// A text for the error.
const TEXT: &str = "def read_user(connection, name):\n    \"\"\"Reads one user from the database.\"\"\"\n    cursor = \
    connection.cursor()\n    cursor.execute(\"SELECT id, name, email FROM users WHERE name = ?\", (name,))\n    row = \
    cursor.fetchone()\n    if row is None:\n        raise KeyError(name)\n    return {\"id\": row[0], \"name\": row[1], \
    \"email\": row[2]}\n";

/// Logits behind each of `ids` but the first four, which are read as a prompt.
fn logits(decoder: &Decoder, products: Products, ids: &[u32]) -> Vec<Vec<f32>> {
    let segments = Segments::packed([4], 0);
    let mut caches = [decoder.new_cache(ids.len())];
    decoder.forward(&ids[..4], &mut Pass::prefill(&segments, &mut caches)).unwrap();
    let [mut cache] = caches;
    let step = |&token: &u32| {
        let mut rows = [&mut cache];
        let mut pass = Pass::step(&mut rows).with_products(products);
        to_vec(&decoder.forward(&[token], &mut pass).unwrap()).unwrap()
    };
    ids[4..].iter().map(step).collect()
}

/// −ln p of a token.
fn loss(logits: &[f32], token: u32) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let total: f64 = logits.iter().map(|&v| (f64::from(v) - largest).exp()).sum();
    largest + total.ln() - f64::from(logits[token as usize])
}

/// What rounding does to the logits of a text, token by token.
fn error(decoder: &Decoder, ids: &[u32]) {
    let exact = logits(decoder, Products::Exact, ids);
    let near = logits(decoder, Products::Integer, ids);
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let best = |values: &[f32]| (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap();
    let (mut errors, mut same, mut losses) = (Vec::new(), 0, [0.0; 2]);
    for (at, (exact, near)) in exact.iter().zip(&near).enumerate() {
        let mean = exact.iter().map(|&v| f64::from(v)).sum::<f64>() / exact.len() as f64;
        let size = norm(&mut exact.iter().map(|&v| f64::from(v) - mean));
        errors.push(norm(&mut exact.iter().zip(near).map(|(&a, &b)| f64::from(a) - f64::from(b))) / size);
        same += usize::from(best(exact) == best(near));
        if let Some(&next) = ids.get(at + 5) {
            losses[0] += loss(exact, next);
            losses[1] += loss(near, next);
        }
    }
    let count = errors.len();
    let most = errors.iter().copied().fold(0.0, f64::max);
    let perplexity = losses.map(|loss| (loss / (count - 1) as f64).exp());
    println!(
        "{count} tokens of a text: relative error of the logits {:.4} (median), {most:.4} (largest); {same} with the same \
         most likely token; perplexity {:.3} exact, {:.3} in integers",
        median(errors),
        perplexity[0],
        perplexity[1]
    );
}

fn main() {
    realign::process::claim_machine();
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |name: &str, usual: usize| {
        let given = args.iter().position(|arg| arg == name).map(|at| args[at + 1].parse().unwrap());
        given.unwrap_or(usual)
    };
    let Some(path) = std::env::var_os("REALIGN_GGUF").map(PathBuf::from) else {
        println!("REALIGN_GGUF names no file; nothing is measured");
        return;
    };
    let (rounds, tokens) = (number("--rounds", 5), number("--tokens", 48));
    let Subject { mut decoder, tokenizer, .. } = Subject::open(path.to_str().unwrap()).unwrap();
    let loaded = realign::process::peak_memory_bytes();
    let case = |arg: &String| {
        let (rows, workers) = arg.split_once('x').unwrap_or((arg, "0"));
        Some((rows.parse::<usize>().ok()?, workers.parse::<usize>().ok()?))
    };
    let named: Vec<_> = args.iter().filter(|arg| arg.contains('x')).filter_map(case).collect();
    let cases = if named.is_empty() { vec![(1, 1), (1, 2), (16, 1), (16, 2), (32, 1), (32, 2)] } else { named };
    let mut rates = vec![[vec![], vec![]]; cases.len()];
    for _ in 0..rounds {
        for (&(rows, workers), rates) in cases.iter().zip(&mut rates) {
            for (side, rates) in SIDES.iter().zip(rates) {
                decoder.step_products = *side;
                rates.push(decoding(&decoder, rows, workers, tokens.min(if rows > 1 { 24 } else { tokens })));
            }
        }
    }
    let peak = realign::process::peak_memory_bytes();
    for (&(rows, workers), rates) in cases.iter().zip(rates) {
        let ratio = median(rates[0].iter().zip(&rates[1]).map(|(exact, integer)| integer / exact).collect());
        let [exact, integer] = rates.map(median);
        if args.iter().any(|arg| arg == "--json") {
            println!(
                "{{\"rows\": {rows}, \"workers\": {workers}, \"exact\": {exact}, \"integer\": {integer}, \"peak_mib\": {}}}",
                peak >> 20
            );
        } else {
            println!(
                "{rows} rows, {workers} workers: exact {exact:.1} tokens/s, in integers {integer:.1}; ratio {ratio:.2}"
            );
        }
    }
    if args.iter().any(|arg| arg == "--error") {
        with_helpers(1, || error(&decoder, &tokenizer.encode(TEXT, false).unwrap()));
        println!("peak memory {} MiB, {} MiB of it after loading", peak >> 20, loaded >> 20);
    }
}
