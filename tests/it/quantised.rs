//! Quantised weights against the same weights unpacked to f32, and against the model they were made of: products,
//! gradients, logits, training, the commands; on a checkpoint of every family.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::{Device, Tensor, Var};
use realign::adapter::{self, AdapterConfig};
use realign::data::collate::Example;
use realign::generate::{EngineOptions, Job};
use realign::model::config::DecoderConfig;
use realign::model::cpu::simd::{Path, force};
use realign::model::cpu::team::with_helpers;
use realign::model::decoder::{Decoder, HeldWeights};
use realign::model::init::initial_weights;
use realign::model::ops::linear::{frozen_linear, lora_linear};
use realign::model::ops::quantised::Quantised;
use realign::model::ops::to_vec;
use realign::model::ops::weight::{Weight, times, times_transposed};
use realign::model::pass::Pass;
use realign::model::segments::Segments;
use realign::model::source::load::{WeightDtype, load_dir};
use realign::record::Sampling;
use realign::train::packed::Packed;
use realign::train::step::{ChunkGrad, StepOptions, forward_backward};
use realign::train::trainable::Trainable;
use realign::train::{TrainConfig, train};

use crate::commands::{refused, succeeds, workplace};
use crate::families::{FAMILIES, family};
use crate::generation::{BYTES, run};
use crate::gradients::random;

const FORMATS: [GgmlDType; 4] = [GgmlDType::Q8_0, GgmlDType::Q4_0, GgmlDType::Q4K, GgmlDType::Q6K];
const BITS: [WeightDtype; 2] = [WeightDtype::EightBit, WeightDtype::FourBit];

pub fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1f32, |most, v| most.max(v.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < tolerance * size, "{what}: off by {worst} of {size}");
}

/// Root mean square of the difference, by that of the second.
fn relative(found: &[f32], expected: &[f32]) -> f32 {
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
    let apart = squares(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    (apart / squares(&mut expected.iter().copied())).sqrt()
}

/// Enough columns for Q4_K: as wide as one of its blocks.
fn wide(dtype: WeightDtype) -> Decoder {
    let config = DecoderConfig { tie_word_embeddings: false, ..DecoderConfig::llama(64, 256, 2, (4, 2), 512, 64) };
    let weights = initial_weights(&config, 5).unwrap();
    let names = config.names;
    let held = weights.iter().map(|(name, tensor)| (name.clone(), dtype.held(name, tensor, &names).unwrap()));
    Decoder::new(config, &held.collect::<HeldWeights>(), false).unwrap()
}

/// A checkpoint of each family, and a model that is wide enough for Q4_K.
fn models(dtype: WeightDtype) -> impl Iterator<Item = (&'static str, Decoder)> {
    let families = FAMILIES.iter().map(move |(name, _)| (*name, load_dir(&family(name), dtype).unwrap().decoder));
    families.chain([("wide", wide(dtype))])
}

/// The same with every weight unpacked to f32.
pub fn unpacked(decoder: &Decoder) -> Decoder {
    Decoder::new(decoder.config.clone(), &decoder.weights(), false).unwrap()
}

pub fn logits(decoder: &Decoder) -> Vec<f32> {
    let ids: Vec<u32> = (0..11).map(|i| (i * 13 + 5) % 61).collect();
    to_vec(&decoder.forward(&ids, &mut Pass::sequences(&Segments::packed([4, 7], 0))).unwrap()).unwrap()
}

fn with_adapter(decoder: &Decoder) -> Decoder {
    let fresh = adapter::fresh(decoder, &AdapterConfig { r: 2, ..AdapterConfig::default() }, 1).unwrap();
    adapter::attach(decoder, &fresh, true).unwrap()
}

fn rows() -> Vec<Example> {
    (3..11).map(|from: u32| Example { ids: (from..from + 12).collect(), weights: vec![1.0; 12] }).collect()
}

#[test]
fn products_with_blocks_are_those_with_the_unpacked_weight_on_every_path() {
    // Several pieces, panels that do not come out even, few tokens and many.
    for (tokens, out, width) in [(1, 7, 256), (3, 640, 768), (40, 640, 768), (45, 300, 256)] {
        for format in FORMATS {
            let blocks = Quantised::of(&random(&[out, width], 1), format).unwrap();
            let weight = Weight::Quantised(blocks.clone());
            let (x, dy) = (random(&[tokens, width], 2), random(&[tokens, out], 3));
            let dense = blocks.to_tensor();
            let (y, dx) = (x.matmul(&dense.t().unwrap()).unwrap(), dy.matmul(&dense).unwrap());
            let (x, dy) = (to_vec(&x).unwrap(), to_vec(&dy).unwrap());
            for path in [Path::Scalar, Path::Avx2, Path::Avx512] {
                force(path);
                let what = format!("{format:?} {path:?} {tokens} × {out} × {width}");
                let work = || (times_transposed(&x, &weight).unwrap(), times(&dy, &weight).unwrap());
                let alone = work();
                close(&what, &alone.0, &to_vec(&y).unwrap(), 1e-5);
                close(&what, &alone.1, &to_vec(&dx).unwrap(), 1e-5);
                assert!(with_helpers(2, work) == alone, "{what}: helpers change no bit");
            }
        }
    }
}

#[test]
fn what_is_quantised_is_within_its_formats_error() {
    let weight = random(&[150, 768], 1);
    let whole = to_vec(&weight).unwrap();
    // A uniform weight's step is 2/255 or 2/15 of the block's reach: a deviation of step/√12 against 1/√3.
    for (format, most) in
        [(GgmlDType::Q8_0, 0.006), (GgmlDType::Q6K, 0.03), (GgmlDType::Q4K, 0.08), (GgmlDType::Q4_0, 0.09)]
    {
        let blocks = Quantised::of(&weight, format).unwrap();
        assert_eq!(blocks.bytes(), 150 * 768 / format.block_size() * format.type_size());
        let error = relative(&to_vec(&blocks.to_tensor()).unwrap(), &whole);
        assert!(error < most && error > most / 4.0, "{format:?}: {error}");
        let alone = with_helpers(2, || Quantised::of(&weight, format).unwrap());
        assert_eq!(to_vec(&alone.to_tensor()).unwrap(), to_vec(&blocks.to_tensor()).unwrap());
    }
}

#[test]
fn the_input_gradient_of_a_quantised_linear_matches_difference_quotients() {
    for format in FORMATS {
        let weight = Weight::Quantised(Quantised::of(&random(&[9, 256], 1), format).unwrap());
        let (x, towards) = (random(&[3, 256], 2), random(&[3, 9], 3));
        let (a, b) = (random(&[2, 256], 4), random(&[9, 2], 5));
        for with_lora in [false, true] {
            let value = |x: &Tensor| {
                let y = match with_lora {
                    true => lora_linear(x, &weight, &a, &b, 0.5, None).unwrap(),
                    false => frozen_linear(x, &weight).unwrap(),
                };
                (y * &towards).unwrap().sum_all().unwrap()
            };
            let var = Var::from_tensor(&x).unwrap();
            let grad = to_vec(value(var.as_tensor()).backward().unwrap().get(&var).unwrap()).unwrap();
            let at = |i: usize, by: f32| {
                let mut moved = to_vec(&x).unwrap();
                moved[i] += by;
                let moved = Tensor::from_vec(moved, (3, 256), &Device::Cpu).unwrap();
                value(&moved).to_scalar::<f32>().unwrap()
            };
            // The product is linear in its input: a long step is as exact as a short one, and less rounded.
            for i in (0..3 * 256).step_by(37) {
                let quotient = (at(i, 1.0) - at(i, -1.0)) / 2.0;
                assert!((quotient - grad[i]).abs() < 1e-3, "{format:?}, {i}: {quotient} against {}", grad[i]);
            }
            assert!(grad.iter().any(|g| g.abs() > 0.1));
        }
    }
}

#[test]
fn a_quantised_model_of_every_family_has_the_logits_of_its_unpacked_weights() {
    for dtype in BITS {
        for (name, decoder) in models(dtype) {
            let formats: Vec<&str> = decoder.linears().map(|linear| linear.weight.format_name()).collect();
            assert!(formats.iter().filter(|format| format.starts_with('q')).count() * 4 >= formats.len() * 3, "{name}");
            assert_eq!(decoder.embedding.format_name(), "q8_0", "{name}");
            close(name, &logits(&decoder), &logits(&unpacked(&decoder)), 1e-5);
        }
    }
}

#[test]
fn a_quantised_model_of_every_family_is_within_its_formats_error_of_the_original() {
    for (name, whole) in models(WeightDtype::F32) {
        let whole = logits(&whole);
        let error = |dtype| {
            let decoder = models(dtype).find(|(other, _)| *other == name).unwrap().1;
            relative(&logits(&decoder), &whole)
        };
        let [eight, four] = BITS.map(error);
        println!("{name}: 8bit {eight:.4}, 4bit {four:.4}");
        assert!(eight < 0.03 && four < 0.5 && eight < four / 4.0, "{name}: 8bit {eight}, 4bit {four}");
    }
}

#[test]
fn a_lora_step_on_quantised_weights_of_every_family_is_the_step_on_the_unpacked_ones() {
    for dtype in BITS {
        for (name, decoder) in models(dtype) {
            let step = |decoder: &Decoder| -> ChunkGrad {
                let adapted = with_adapter(decoder);
                // B begins at zero, and A would get no gradient.
                for linear in adapted.linears() {
                    let b = &linear.lora.as_ref().unwrap().b;
                    Var::from_tensor(b).unwrap().set(&(random(b.dims(), 7) * 0.1).unwrap()).unwrap();
                }
                let rows = rows();
                let chunk = Packed::new(&rows.iter().take(2).collect::<Vec<_>>(), 0, 1.0);
                let options = StepOptions { recompute: true, ..StepOptions::default() };
                forward_backward(&adapted, &Trainable::of(&adapted).unwrap(), &chunk, &options).unwrap()
            };
            let (ours, expected) = (step(&decoder), step(&unpacked(&decoder)));
            close(name, &ours.losses, &expected.losses, 1e-5);
            assert_eq!(ours.grads.len(), 2 * decoder.linears().count(), "{name}");
            for (ours, expected) in ours.grads.iter().zip(&expected.grads) {
                assert!(expected.iter().any(|g| g.abs() > 1e-4), "{name}");
                close(name, ours, expected, 2e-5);
            }
        }
    }
}

#[test]
fn every_family_learns_on_a_quantised_base_which_stays_as_it_is() {
    for dtype in BITS {
        for (name, decoder) in models(dtype) {
            let before = logits(&decoder);
            let adapted = with_adapter(&decoder);
            let config = TrainConfig {
                max_steps: Some(12),
                learning_rate: 2e-2,
                gradient_checkpointing: true,
                ..TrainConfig::default()
            };
            let state = train(&adapted, &rows(), &config, None, &mut |_| Ok(())).unwrap();
            let loss = |at: usize| state.log_history[at].loss;
            assert!(loss(11) < 0.8 * loss(0), "{name} {dtype:?}: {} to {}", loss(0), loss(11));
            assert_eq!(logits(&decoder), before, "{name}");
        }
    }
}

#[test]
fn quantised_weights_answer_token_by_token_as_their_unpacked_ones() {
    for (name, decoder) in models(WeightDtype::FourBit) {
        let greedy = Arc::new(Sampling { temperature: 0.0, ..Sampling::default() });
        let jobs: Vec<Job> =
            (0..3).map(|i| Job::new((i..i + 5).collect(), u64::from(i), 9, &greedy, &[].into())).collect();
        let options = EngineOptions { batch: 2, workers: 2, ..EngineOptions::new(&BYTES) };
        let ids = |decoder: &Decoder| -> Vec<Vec<u32>> {
            run(decoder, &jobs, &options).into_iter().map(|made| made.ids).collect()
        };
        assert_eq!(ids(&decoder), ids(&unpacked(&decoder)), "{name}");
    }
}

#[test]
fn an_adapter_remembers_how_its_base_was_held() {
    let dir = workplace("quantised", &[]);
    let train = "train --model MODEL --data good.jsonl --out adapter --max-steps 4 --lora-r 2";
    succeeds(&dir, &format!("{train} --quantize 4bit"));
    let lineage = std::fs::read(dir.join("adapter/realign.json")).unwrap();
    let lineage: serde_json::Value = serde_json::from_slice(&lineage).unwrap();
    // The model's MLP is 48 wide, which is no whole blocks: one linear stays as it is.
    assert_eq!(lineage["base_dtype"], "f32+q4_0");
    refused(&dir, &format!("{train} --resume"), &["was started with different settings", "dtype was f32+q4_0, is f32"]);
    refused(&dir, &format!("{train} --resume --dtype 8bit"), &["dtype was f32+q4_0, is f32+q8_0"]);
    assert!(succeeds(&dir, &format!("{train} --resume --dtype 4bit")).stderr.contains("finished"));

    let answer = "generate --model MODEL --adapter adapter --prompt load --max-new-tokens 3";
    let word = "was trained on a base held as f32+q4_0; here the base is held as f32";
    let other = succeeds(&dir, answer);
    assert!(other.stderr.contains(word), "{}", other.stderr);
    let same = succeeds(&dir, &format!("{answer} --quantize 4bit"));
    assert!(!same.stderr.contains("was trained on"), "{}", same.stderr);
}
