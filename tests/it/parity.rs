//! Against transformers and PEFT (`tests/fixtures/model`, see its README): logits, residual streams, LoRA, and a
//! training trace; and against candle-transformers' Llama.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Mutex;

use candle_core::{DType, Device, Tensor};
use realign::adapter;
use realign::data::collate::Example;
use realign::model::decoder::Decoder;
use realign::model::hooks::{HookContext, Intervention, Site, Tap};
use realign::model::ops::to_vec;
use realign::model::pass::Pass;
use realign::model::segments::{Segment, Segments};
use realign::record::Scheduler;
use realign::train::{TrainConfig, train};

use crate::tiny::{checkpoint, fixture, tensors};

/// Keeps what every `resid_post` tap sees, call after call.
struct Recorder(Mutex<BTreeMap<usize, Vec<f32>>>, Vec<Tap>);

impl Recorder {
    fn of(decoder: &Decoder) -> Self {
        let tap = |layer| Tap { layer, site: Site::ResidPost };
        Self(Mutex::default(), (0..decoder.blocks.len()).map(tap).collect())
    }
}

impl Intervention for Recorder {
    fn taps(&self) -> &[Tap] {
        &self.1
    }

    fn apply(&self, tap: Tap, x: &Tensor, _: &HookContext) -> candle_core::Result<Option<Tensor>> {
        self.0.lock().unwrap().entry(tap.layer).or_default().extend(to_vec(x)?);
        Ok(None)
    }
}

/// `logits` and every `resid_post.N`, token by token.
type Stream = BTreeMap<String, Vec<Vec<f32>>>;

fn stream(logits: Vec<f32>, recorder: Recorder, decoder: &Decoder) -> Stream {
    let cut = |values: &[f32], width: usize| values.chunks(width).map(<[f32]>::to_vec).collect::<Vec<_>>();
    let mut all = Stream::new();
    all.insert("logits".into(), cut(&logits, decoder.config.vocab_size));
    for (layer, values) in recorder.0.into_inner().unwrap() {
        all.insert(format!("resid_post.{layer}"), cut(&values, decoder.config.hidden_size));
    }
    all
}

fn whole(decoder: &Decoder, ids: &[u32], segments: &Segments) -> Stream {
    let recorder = Recorder::of(decoder);
    let mut pass = Pass::sequences(segments).with_intervention(Some(&recorder));
    let logits = to_vec(&decoder.forward(ids, &mut pass).unwrap()).unwrap();
    stream(logits, recorder, decoder)
}

/// The fixture's batch: its ids as they stand, its pads, and what Python computed at each real token of each row.
pub struct Expected {
    ids: Vec<Vec<u32>>,
    pads: Vec<usize>,
    pub values: BTreeMap<String, Vec<Vec<Vec<f32>>>>,
}

impl Expected {
    pub fn read(path: &str) -> Self {
        let tensors = tensors(path);
        let whole_numbers = |name: &str| {
            let rows = tensors[name].to_dtype(DType::U32).unwrap().to_vec2::<u32>().unwrap();
            assert_eq!(rows.len(), 2);
            rows
        };
        let ids = whole_numbers("input_ids");
        let pads: Vec<usize> =
            whole_numbers("attention_mask").iter().map(|row| row.iter().filter(|&&m| m == 0).count()).collect();
        assert_eq!(pads, [0, 4]);
        let mut values = BTreeMap::new();
        for (name, tensor) in &tensors {
            if name == "logits" || name.starts_with("resid_post.") {
                let rows = tensor.to_vec3::<f32>().unwrap();
                let real = rows.into_iter().zip(&pads).map(|(row, &pad)| row[pad..].to_vec());
                values.insert(name.clone(), real.collect());
            }
        }
        Self { ids, pads, values }
    }

    /// A row without its padding.
    pub fn row(&self, row: usize) -> &[u32] {
        &self.ids[row][self.pads[row]..]
    }

    fn check(&self, row: usize, token: usize, found: &Stream, at: usize, what: &str) {
        for (name, values) in &self.values {
            let (expected, found) = (&values[row][token], &found[name][at]);
            assert_eq!(expected.len(), found.len());
            let worst = expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{what}: {name}, row {row}, token {token}: off by {worst}");
        }
    }
}

/// A batch `[batch, width]` whose row i has `pads[i]` tokens of padding before its sequence.
pub fn left_padded(width: usize, pads: &[usize]) -> Segments {
    let row = |(row, &pad): (usize, &usize)| Segment { start: row * width + pad, len: width - pad, row: row as u64 };
    pads.iter().enumerate().map(row).collect()
}

pub fn check_batch(decoder: &Decoder, expected: &Expected) {
    let width = expected.ids[0].len();
    let padded = whole(decoder, &expected.ids.concat(), &left_padded(width, &expected.pads));
    let packed_ids = [expected.row(0), expected.row(1)].concat();
    let packed = whole(decoder, &packed_ids, &Segments::packed([expected.row(0).len(), expected.row(1).len()], 0));
    let mut first = 0;
    for row in 0..2 {
        let ids = expected.row(row);
        let alone = whole(decoder, ids, &Segments::packed([ids.len()], 0));
        for token in 0..ids.len() {
            let place = row * width + expected.pads[row] + token;
            expected.check(row, token, &padded, place, "left-padded batch");
            expected.check(row, token, &alone, token, "row alone");
            expected.check(row, token, &packed, first + token, "packed rows");
        }
        first += ids.len();
    }
}

pub fn check_steps(decoder: &Decoder, expected: &Expected) {
    const PREFILL: usize = 3;
    let mut caches: Vec<_> = (0..2).map(|row| decoder.new_cache(expected.row(row).len())).collect();
    let prompts: Vec<u32> = (0..2).flat_map(|row| expected.row(row)[..PREFILL].to_vec()).collect();
    let segments = Segments::packed([PREFILL, PREFILL], 0);
    let recorder = Recorder::of(decoder);
    let mut pass = Pass::prefill(&segments, &mut caches).with_intervention(Some(&recorder));
    let logits = to_vec(&decoder.forward(&prompts, &mut pass).unwrap()).unwrap();
    let prefilled = stream(logits, recorder, decoder);
    for token in 0..PREFILL {
        expected.check(0, token, &prefilled, token, "prefill");
        expected.check(1, token, &prefilled, PREFILL + token, "prefill");
    }
    // Row 1 ends first; row 0 goes on alone.
    for token in PREFILL..expected.row(0).len() {
        let going: Vec<usize> = (0..2).filter(|&row| token < expected.row(row).len()).collect();
        let ids: Vec<u32> = going.iter().map(|&row| expected.row(row)[token]).collect();
        let mut rows: Vec<_> = caches.iter_mut().take(going.len()).collect();
        let recorder = Recorder::of(decoder);
        let mut pass = Pass::step(&mut rows).with_intervention(Some(&recorder));
        let logits = to_vec(&decoder.forward(&ids, &mut pass).unwrap()).unwrap();
        let step = stream(logits, recorder, decoder);
        for (at, &row) in going.iter().enumerate() {
            expected.check(row, token, &step, at, "step");
        }
    }
    assert_eq!((caches[0].len(), caches[1].len()), (11, 7));
}

#[test]
fn logits_and_residual_streams_are_those_of_transformers() {
    for (name, layers) in [("tied", 3), ("untied_bias", 1)] {
        let (decoder, expected) = (checkpoint(name), Expected::read(&format!("{name}/expected.safetensors")));
        assert_eq!(expected.values.len(), layers + 1, "{name}: the logits and every layer");
        check_batch(&decoder, &expected);
    }
}

#[test]
fn decoding_step_by_step_over_the_cache_is_the_same() {
    for name in ["tied", "untied_bias"] {
        check_steps(&checkpoint(name), &Expected::read(&format!("{name}/expected.safetensors")));
    }
}

#[test]
fn an_adapter_on_all_linears_gives_pefts_logits() {
    let base = checkpoint("tied");
    let file = adapter::read(&fixture("tied/adapter")).unwrap();
    assert_eq!(file.tensors.len(), 3 * 7);
    let adapted = adapter::attach(&base, &file, false).unwrap();
    let expected = Expected::read("tied/expected_adapter.safetensors");
    check_batch(&adapted, &expected);
    check_steps(&adapted, &expected);
    let row = expected.row(0);
    let without = &whole(&base, row, &Segments::packed([row.len()], 0))["logits"][10];
    let difference = without.iter().zip(&expected.values["logits"][0][10]).map(|(a, b)| (a - b).abs());
    assert!(difference.fold(0.0, f32::max) > 0.5, "the adapter changes what the base says");
}

#[derive(serde::Deserialize)]
struct Trace {
    rows: Vec<Row>,
    steps: Vec<Step>,
}

#[derive(serde::Deserialize)]
struct Row {
    ids: Vec<u32>,
    weights: Vec<f32>,
}

#[derive(serde::Deserialize)]
struct Step {
    step: u64,
    loss: f64,
    grad_norm: f64,
    learning_rate: f64,
    target_tokens: u64,
}

#[test]
fn training_follows_pefts_trace_step_by_step() {
    let trace: Trace = serde_json::from_slice(&std::fs::read(fixture("tied/training.json")).unwrap()).unwrap();
    let examples: Vec<Example> =
        trace.rows.into_iter().map(|row| Example { ids: row.ids, weights: row.weights }).collect();
    let start = adapter::read(&fixture("tied/adapter")).unwrap();
    let decoder = adapter::attach(&checkpoint("tied"), &start, true).unwrap();
    let config = TrainConfig {
        learning_rate: 1e-3,
        per_device_train_batch_size: 2,
        gradient_accumulation_steps: 2,
        lr_scheduler_type: Scheduler::Linear,
        warmup_steps: 2,
        weight_decay: 0.01,
        max_grad_norm: 1.0,
        shuffle: false,
        ..TrainConfig::default()
    };
    let state = train(&decoder, &examples, &config, None, &mut |_| Ok(())).unwrap();
    assert_eq!((state.log_history.len(), trace.steps.len()), (5, 5));
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * b.abs();
    for (ours, theirs) in state.log_history.iter().zip(&trace.steps) {
        assert_eq!((ours.step, ours.target_tokens), (theirs.step, theirs.target_tokens));
        assert!(close(ours.loss, theirs.loss), "step {}: loss {} against {}", ours.step, ours.loss, theirs.loss);
        assert!(close(ours.grad_norm, theirs.grad_norm), "step {}: norm {}", ours.step, ours.grad_norm);
        assert!((ours.learning_rate - theirs.learning_rate).abs() < 1e-12, "step {}", ours.step);
    }
    let ours = adapter::collect(&decoder, &start.config).unwrap();
    let theirs = adapter::read(&fixture("tied/adapter_after_training")).unwrap();
    assert_eq!(ours.tensors.len(), theirs.tensors.len());
    let distance = |a: &Tensor, b: &Tensor| {
        let (a, b) = (to_vec(a).unwrap(), to_vec(b).unwrap());
        a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    for (path, pair) in &theirs.tensors {
        for (side, ours, theirs, start) in [
            ("A", &ours.tensors[path].a, &pair.a, &start.tensors[path].a),
            ("B", &ours.tensors[path].b, &pair.b, &start.tensors[path].b),
        ] {
            // Measured against how far training moved the matrix, which is far less than its own size.
            let (off, moved) = (distance(ours, theirs), distance(theirs, start));
            assert!(moved > 0.0 && off < 1e-3 * moved, "{path}.lora_{side}: off by {off} after moving {moved}");
        }
    }
}

#[test]
fn the_logits_are_those_of_candle_transformers_llama() {
    use candle_transformers::models::llama::{Cache, Llama, LlamaConfig};
    let text = std::fs::read_to_string(fixture("tied/config.json")).unwrap();
    let config = serde_json::from_str::<LlamaConfig>(&text).unwrap().into_config(false);
    let weights = tensors("tied/model.safetensors");
    let weights = candle_nn::VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
    let theirs = Llama::load(weights, &config).unwrap();
    let ids: Vec<u32> = vec![5, 17, 92, 3, 44, 44, 8, 60, 31, 12];
    let ours = &whole(&checkpoint("tied"), &ids, &Segments::packed([ids.len()], 0))["logits"];
    for end in 1..=ids.len() {
        let mut cache = Cache::new(false, DType::F32, &config, &Device::Cpu).unwrap();
        let input = Tensor::from_slice(&ids[..end], (1, end), &Device::Cpu).unwrap();
        let logits = theirs.forward(&input, 0, &mut cache).unwrap().to_vec2::<f32>().unwrap();
        let worst = logits[0].iter().zip(&ours[end - 1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "token {end}: off by {worst}");
    }
}
