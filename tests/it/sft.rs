//! Against TRL's SFTTrainer with PEFT (`tests/fixtures/sft`, see its README): the same rows tokenised, the same twenty
//! steps, the same adapter at the end, for LoRA and for DoRA.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use realign::adapter::{self, AdapterFile};
use realign::data::rows::{TrainingRow, parse_rows};
use realign::model::ops::to_vec;
use realign::subject::Subject;
use realign::train::TrainConfig;

use crate::tiny::tune;
use realign::record::{Recipe, Scheduler};

#[derive(serde::Deserialize)]
struct Trace {
    settings: Settings,
    rows: Vec<serde_json::Value>,
    encoded: Vec<Encoded>,
    steps: BTreeMap<String, Vec<Step>>,
}

#[derive(serde::Deserialize)]
struct Settings {
    per_device_train_batch_size: usize,
    gradient_accumulation_steps: usize,
    num_train_epochs: f64,
    learning_rate: f64,
    warmup_steps: u64,
    weight_decay: f64,
    max_grad_norm: f64,
    adam_beta1: f64,
    adam_beta2: f64,
    adam_epsilon: f64,
    max_length: usize,
}

#[derive(serde::Deserialize)]
struct Encoded {
    input_ids: Vec<u32>,
    labels: Vec<i64>,
}

#[derive(serde::Deserialize)]
struct Step {
    step: u64,
    loss: f64,
    grad_norm: f64,
    learning_rate: f64,
    target_tokens: u64,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sft").join(name)
}

fn read() -> (Subject, Trace, Vec<TrainingRow>, Recipe) {
    let model = Subject::open(fixture("model").to_str().unwrap()).unwrap();
    let trace: Trace = realign::fsio::read_json(&fixture("trace.json")).unwrap();
    let lines: Vec<String> = trace.rows.iter().map(serde_json::Value::to_string).collect();
    let rows = parse_rows("trace.json", &lines.join("\n")).unwrap();
    assert_eq!((rows.len(), trace.encoded.len()), (36, 36));
    let settings = &trace.settings;
    let training = TrainConfig {
        per_device_train_batch_size: settings.per_device_train_batch_size,
        gradient_accumulation_steps: settings.gradient_accumulation_steps,
        num_train_epochs: settings.num_train_epochs,
        learning_rate: settings.learning_rate,
        lr_scheduler_type: Scheduler::Linear,
        warmup_steps: settings.warmup_steps,
        weight_decay: settings.weight_decay,
        max_grad_norm: settings.max_grad_norm,
        adam_beta1: settings.adam_beta1,
        adam_beta2: settings.adam_beta2,
        adam_epsilon: settings.adam_epsilon,
        shuffle: false,
        ..TrainConfig::default()
    };
    let recipe = Recipe { max_length: settings.max_length, training, ..Recipe::seed003() };
    (model, trace, rows, recipe)
}

#[test]
fn rows_are_tokenised_as_trl_tokenises_them_boundary_included() {
    let (model, trace, rows, recipe) = read();
    let options = recipe.encoding(&model.base.config);
    let ours = realign::data::collate::encode_rows(&rows, &model.tokenizer, &model.template, &options).unwrap();
    let mut merged = 0;
    for (row, (ours, theirs)) in rows.iter().zip(ours.iter().zip(&trace.encoded)) {
        assert_eq!(ours.ids, theirs.input_ids, "{row:?}");
        let targets: Vec<bool> = theirs.labels.iter().map(|&label| label != -100).collect();
        assert_eq!(ours.weights.iter().map(|&w| w == 1.0).collect::<Vec<_>>(), targets, "{row:?}");
        if let TrainingRow::Completion { prompt, .. } = row {
            let alone = model.tokenizer.encode(prompt, true).unwrap().len();
            merged += usize::from(targets.iter().position(|&t| t).unwrap() < alone);
        }
    }
    assert_eq!(merged, 18, "rows whose completion merges with the end of its prompt");
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (to_vec(a).unwrap(), to_vec(b).unwrap());
    assert_eq!(a.len(), b.len());
    a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

/// Every tensor of an adapter by name.
fn tensors(adapter: &AdapterFile) -> BTreeMap<String, Tensor> {
    let named = adapter.tensors.iter().flat_map(|(path, pair)| {
        let magnitude = pair.magnitude.clone().map(|m| (format!("{path} magnitude"), m));
        [(format!("{path} A"), pair.a.clone()), (format!("{path} B"), pair.b.clone())].into_iter().chain(magnitude)
    });
    named.collect()
}

fn follows(name: &str, count: usize) {
    let (model, trace, rows, recipe) = read();
    let start = adapter::read_untrained(&fixture(name)).unwrap();
    let (trained, state) = tune(&model, &rows, &recipe, Some(&start), &mut |_| Ok(())).unwrap();
    let theirs = &trace.steps[name];
    assert_eq!((state.log_history.len(), theirs.len()), (20, 20));
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * b.abs();
    for (ours, theirs) in state.log_history.iter().zip(theirs) {
        assert_eq!((ours.step, ours.target_tokens), (theirs.step, theirs.target_tokens), "{name}");
        assert!(close(ours.loss, theirs.loss), "{name}, step {}: {} against {}", ours.step, ours.loss, theirs.loss);
        let norms = (ours.grad_norm, theirs.grad_norm);
        assert!(close(norms.0, norms.1), "{name}, step {}: gradient norms {norms:?}", ours.step);
        assert!(close(ours.learning_rate, theirs.learning_rate), "{name}, step {}", ours.step);
    }
    // Clipping did something in some steps and nothing in others.
    let clipped = theirs.iter().filter(|step| step.grad_norm > recipe.training.max_grad_norm).count();
    assert!((1..20).contains(&clipped), "{name}: {clipped} of 20 steps clipped");
    let (start, ours) = (tensors(&start), tensors(&trained));
    let theirs = tensors(&adapter::read(&fixture(&format!("{name}_after"))).unwrap());
    assert_eq!((ours.len(), theirs.len()), (count, count), "{name}");
    for (tensor, theirs) in &theirs {
        // Measured against how far training moved it, which is less than its own size.
        let (off, moved) = (distance(&ours[tensor], theirs), distance(theirs, &start[tensor]));
        assert!(moved > 0.0 && off < 1e-3 * moved, "{name}, {tensor}: off by {off} after moving {moved}");
    }
}

#[test]
fn twenty_steps_of_lora_are_those_of_trl_and_peft() {
    follows("lora", 2 * 7 * 2);
}

#[test]
fn twenty_steps_of_dora_are_those_of_trl_and_peft() {
    follows("dora", 2 * 3 * 3);
}
