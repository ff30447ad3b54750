//! Training on preferences, against TRL's DPOTrainer, and the KL penalty, against torch (`tests/fixtures/preference`, see
//! its README).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use realign::adapter::{self, AdapterFile};
use realign::data::collate::Example;
use realign::data::preference::{PreferenceRow, encode_each_preference, encode_preference};
use realign::data::template::ChatTemplate;
use realign::data::tokenizer::Tokenizer;
use realign::model::ops::to_vec;
use realign::record::{Message, Method, Recipe, Scheduler, TrainerState};
use realign::subject::Subject;
use realign::train::objective::Objective;
use realign::train::packed::Packed;
use realign::train::step::{Penalty, StepOptions, forward_backward};
use realign::train::trainable::Trainable;
use realign::train::{TrainConfig, train};
use serde::Deserialize;

use crate::tiny::{random_model, tune};

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/preference").join(path)
}

fn read<T: for<'a> Deserialize<'a>>(path: &str) -> T {
    realign::fsio::read_json(&fixture(path)).unwrap()
}

#[derive(Deserialize)]
struct Encoded {
    #[serde(flatten)]
    row: PreferenceRow,
    prompt_ids: Vec<u32>,
    chosen_ids: Vec<u32>,
    rejected_ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Step {
    step: u64,
    loss: f64,
    grad_norm: f64,
    learning_rate: f64,
    #[serde(flatten)]
    rewards: realign::record::Rewards,
}

#[derive(Deserialize)]
struct Trace {
    rows: Vec<Encoded>,
    texts: Vec<Encoded>,
    steps: Vec<Step>,
}

fn model() -> Subject {
    Subject::open(fixture("").to_str().unwrap()).unwrap()
}

fn recipe() -> Recipe {
    let training = TrainConfig {
        learning_rate: 2e-3,
        max_steps: Some(6),
        per_device_train_batch_size: 2,
        gradient_accumulation_steps: 2,
        lr_scheduler_type: Scheduler::Linear,
        warmup_steps: 2,
        weight_decay: 0.01,
        max_grad_norm: 1.0,
        shuffle: false,
        ..TrainConfig::default()
    };
    Recipe { method: Method::Dpo, beta: 0.1, training, ..Recipe::seed003() }
}

fn rows(trace: &Trace) -> Vec<PreferenceRow> {
    trace.rows.iter().map(|r| r.row.clone()).collect()
}

#[test]
fn rows_are_tokenised_as_trl_tokenises_them() {
    let (trace, model): (Trace, _) = (read("dpo.json"), model());
    assert_eq!((trace.rows.len(), trace.texts.len()), (24, 4));
    let mut shorter = 0;
    for row in trace.rows.iter().chain(&trace.texts) {
        let pair = encode_preference(&row.row, &model.tokenizer, &model.template, 128).unwrap();
        for (example, answer) in [(&pair.chosen, &row.chosen_ids), (&pair.rejected, &row.rejected_ids)] {
            assert_eq!(example.ids, [row.prompt_ids.as_slice(), answer].concat(), "{:?}", row.row);
            let weights = (0..example.ids.len()).map(|t| f32::from(t > 0 && t >= row.prompt_ids.len()));
            assert_eq!(example.weights, weights.collect::<Vec<_>>(), "{:?}", row.row);
        }
        if let PreferenceRow::Text { prompt, .. } = &row.row {
            let whole = model.tokenizer.encode(prompt, true).unwrap().len();
            shorter += usize::from(row.prompt_ids.len() < whole);
        }
    }
    assert_eq!(shorter, 1, "one prompt ends inside a token of the whole text");
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (to_vec(a).unwrap(), to_vec(b).unwrap());
    assert_eq!(a.len(), b.len());
    a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn dpo_follows_trl_step_by_step() {
    let trace: Trace = read("dpo.json");
    let start = adapter::read(&fixture("adapter")).unwrap();
    let (ours, state) = tune(&model(), &rows(&trace), &recipe(), Some(&start), &mut |_| Ok(())).unwrap();
    assert_eq!((state.log_history.len(), trace.steps.len()), (6, 6));
    // Rewards are differences of log-probabilities of about −200: 1e-4 of those, times beta.
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-4 * b.abs() + 1e-5;
    for (ours, theirs) in state.log_history.iter().zip(&trace.steps) {
        assert_eq!(ours.step, theirs.step);
        assert!(near(ours.loss, theirs.loss), "step {}: loss {} against {}", ours.step, ours.loss, theirs.loss);
        let (a, b) = (ours.grad_norm, theirs.grad_norm);
        assert!((a - b).abs() <= 1e-4 * b, "step {}: norm {a} against {b}", ours.step);
        assert!((ours.learning_rate - theirs.learning_rate).abs() < 1e-12);
        let (a, b) = (ours.rewards.unwrap(), theirs.rewards);
        for (a, b) in [(a.chosen, b.chosen), (a.rejected, b.rejected), (a.margins, b.margins)] {
            assert!(near(a, b), "step {}: rewards {a} against {b}", ours.step);
        }
        // In the first two steps the weights are still the reference's: which side is ahead is rounding.
        if ours.step > 2 {
            assert_eq!(a.accuracies, b.accuracies, "step {}", ours.step);
        }
    }
    let theirs = adapter::read(&fixture("adapter_after_training")).unwrap();
    assert_eq!(ours.tensors.len(), theirs.tensors.len());
    for (path, pair) in &theirs.tensors {
        for (side, ours, theirs, start) in [
            ("A", &ours.tensors[path].a, &pair.a, &start.tensors[path].a),
            ("B", &ours.tensors[path].b, &pair.b, &start.tensors[path].b),
        ] {
            // Measured against how far training moved the matrix, which is less than its own size.
            let (off, moved) = (distance(ours, theirs), distance(theirs, start));
            assert!(moved > 0.0 && off < 1e-3 * moved, "{path}.lora_{side}: off by {off} after moving {moved}");
        }
    }
}

fn values(adapter: &AdapterFile) -> BTreeMap<String, Vec<f32>> {
    let both = adapter.tensors.iter().flat_map(|(path, pair)| {
        [(format!("{path}.A"), to_vec(&pair.a).unwrap()), (format!("{path}.B"), to_vec(&pair.b).unwrap())]
    });
    both.collect()
}

fn losses(state: &TrainerState) -> Vec<f64> {
    state.log_history.iter().map(|s| s.loss).collect()
}

#[test]
fn preferences_do_not_depend_on_workers_recomputation_or_micro_batches() {
    let trace: Trace = read("dpo.json");
    let start = adapter::read(&fixture("adapter")).unwrap();
    let model = model();
    let run = |change: &dyn Fn(&mut TrainConfig)| {
        let mut recipe = recipe();
        recipe.training.shuffle = true;
        change(&mut recipe.training);
        let (adapter, state) = tune(&model, &rows(&trace), &recipe, Some(&start), &mut |_| Ok(())).unwrap();
        (losses(&state), values(&adapter))
    };
    let one = run(&|c| c.workers = 1);
    assert_eq!(one, run(&|c| c.workers = 3));
    assert_eq!(one, run(&|c| c.gradient_checkpointing = true));
    let whole = run(&|c| (c.per_device_train_batch_size, c.gradient_accumulation_steps) = (4, 1));
    let off = one.1.values().flatten().zip(whole.1.values().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-5, "{off}");
}

#[test]
fn a_fresh_adapter_is_held_to_the_base_and_a_continued_one_to_itself() {
    let trace: Trace = read("dpo.json");
    let quiet = &mut |_: &_| Ok(());
    // Two pairs whose answers are not swapped, over and over.
    let (model, rows) = (model(), rows(&trace)[4..6].to_vec());
    let mut recipe = recipe();
    recipe.training = TrainConfig { warmup_steps: 0, ..recipe.training };
    let (first, fresh) = tune(&model, &rows, &recipe, None, quiet).unwrap();
    let (_, continued) = tune(&model, &rows, &recipe, Some(&first), quiet).unwrap();
    for state in [&fresh, &continued] {
        let step = &state.log_history[0];
        assert!((step.loss - 2f64.ln()).abs() < 1e-5, "at the reference the loss is ln 2, not {}", step.loss);
        assert!(step.rewards.unwrap().margins.abs() < 1e-4);
    }
    assert!(continued.log_history[0].grad_norm != fresh.log_history[0].grad_norm);
    let last = fresh.log_history.last().unwrap();
    assert!(last.loss < 0.69 && last.rewards.unwrap().margins > 0.0, "{last:?}");
}

#[test]
fn a_long_pair_is_one_chunk_of_its_own_and_a_short_last_batch_a_step() {
    // 300 tokens an answer: two of them pass the size of a chunk, and the pair must still be seen whole.
    let answer = |word: &str| vec![Message::assistant(word.repeat(60))];
    let row = |i: usize| PreferenceRow::Conversation {
        prompt: vec![Message::user(format!("Load item {i}."))],
        chosen: answer("yes. "),
        rejected: answer("never. "),
    };
    let rows: Vec<_> = (0..3).map(row).collect();
    let model = model();
    let mut recipe = recipe();
    recipe.max_length = 400;
    recipe.training = TrainConfig {
        per_device_train_batch_size: 2,
        gradient_accumulation_steps: 1,
        max_steps: None,
        num_train_epochs: 4.0,
        learning_rate: 1e-2,
        ..recipe.training
    };
    let (_, state) = tune(&model, &rows, &recipe, None, &mut |_| Ok(())).unwrap();
    assert_eq!(state.log_history.len(), 8);
    assert!(state.log_history[7].loss < 0.6, "{:?}", losses(&state));
}

#[test]
fn pairs_that_cannot_be_learnt_from_are_named() {
    let template = ChatTemplate::plain(None, Some("<|end|>")).unwrap();
    let tokenizer = Tokenizer::from_file(&fixture("tokenizer.json")).unwrap();
    let text = |prompt: &str, chosen: &str, rejected: &str| PreferenceRow::Text {
        prompt: prompt.into(),
        chosen: chosen.into(),
        rejected: rejected.into(),
    };
    let encode = |row: PreferenceRow, length| encode_preference(&row, &tokenizer, &template, length);
    let said = |row, length: usize| encode(row, length).unwrap_err().to_string();
    assert!(
        said(text("Load item 7 and return it.", " a", " b"), 4).contains("prompt alone fills the maximum length of 4")
    );
    assert!(said(text("Load", " item 7", " item 8"), 2).contains("the same within the maximum length of 2"));
    let cut = encode(text("Load", " item 7", " it."), 3).unwrap();
    assert_eq!((cut.chosen.ids.len(), cut.chosen.target_tokens()), (3, 2));
    let bad = [text("Load", " a", " b"), text("Load item 7 and return it.", " a", " b")];
    let encoded = encode_each_preference(&bad, &tokenizer, &template, 4);
    assert!(encoded[0].is_ok() && encoded[1].is_err());
}

#[derive(Deserialize)]
struct Kl {
    kl_coefficient: f32,
    rows: Vec<Row>,
    loss: f64,
    kl: f64,
    grad_norm: f64,
}

#[derive(Deserialize)]
struct Row {
    ids: Vec<u32>,
    weights: Vec<f32>,
}

impl Kl {
    fn examples(&self) -> Vec<Example> {
        self.rows.iter().map(|r| Example { ids: r.ids.clone(), weights: r.weights.clone() }).collect()
    }
}

#[test]
fn the_kl_penalty_has_torchs_value_and_gradient() {
    let expected: Kl = read("kl.json");
    let (model, examples) = (model(), expected.examples());
    let mut start = adapter::read(&fixture("adapter")).unwrap();
    start.config.lora_dropout = 0.0;
    let decoder = adapter::attach(&model.decoder, &start, true).unwrap();
    let penalty = Penalty { base: &model.decoder, coefficient: expected.kl_coefficient };
    let all = Trainable::of(&decoder).unwrap();
    let weight: f64 = examples.iter().map(Example::weight_sum).sum();
    let chunk = Packed::new(&examples.iter().collect::<Vec<_>>(), 0, (1.0 / weight) as f32);
    for recompute in [false, true] {
        let options = StepOptions { penalty: Some(penalty), recompute, ..StepOptions::default() };
        let grads = forward_backward(&decoder, &all, &chunk, &options).unwrap().grads;
        let theirs = candle_core::safetensors::load(fixture("kl_gradients.safetensors"), &Device::Cpu).unwrap();
        assert_eq!((all.names.len(), theirs.len()), (28, 28));
        for (name, ours) in all.names.iter().zip(&grads) {
            let theirs = to_vec(&theirs[name]).unwrap();
            let norm = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let off: Vec<f32> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
            assert!(norm(&off) <= 1e-4 * norm(&theirs), "{name}: off by {} of {}", norm(&off), norm(&theirs));
        }
    }
    // The same by the driver, in chunks over workers, and as it goes on record.
    let config = TrainConfig { max_steps: Some(1), shuffle: false, ..TrainConfig::default() };
    let objective = Objective::Supervised { rows: &examples, penalty: Some(penalty) };
    let step = train(&decoder, objective, &config, None, &mut |_| Ok(())).unwrap().log_history.remove(0);
    let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-4 * b.abs(), "{a} against {b}");
    close(step.loss, expected.loss);
    close(step.kl.unwrap(), expected.kl);
    close(step.grad_norm, expected.grad_norm);
}

#[test]
fn the_more_a_penalty_counts_the_nearer_the_base_the_adapter_stays() {
    let rows: Vec<_> = (0..8)
        .map(|i| {
            let (question, answer) = (format!("Load item {i}."), format!("def load_{i}(path):\n    return 1\n"));
            realign::data::rows::TrainingRow::conversation(vec![Message::user(question), Message::assistant(answer)])
        })
        .collect();
    let run = |kl_coefficient: f64, workers: usize| {
        let training = TrainConfig { learning_rate: 1e-2, max_steps: Some(12), workers, ..TrainConfig::default() };
        let recipe = Recipe { kl_coefficient, lora_dropout: 0.0, training, ..Recipe::seed003() };
        tune(&random_model(), &rows, &recipe, None, &mut |_| Ok(())).unwrap()
    };
    let last = |coefficient| run(coefficient, 0).1.log_history.remove(11);
    let (free, held, bound) = (last(0.0), last(0.5), last(50.0));
    assert_eq!(free.kl, None);
    let (held_kl, bound_kl) = (held.kl.unwrap(), bound.kl.unwrap());
    assert!(bound_kl < 0.2 * held_kl && bound_kl > 0.0, "{held_kl} and {bound_kl}");
    assert!(free.loss < held.loss, "{} and {}", free.loss, held.loss);
    let (one, two) = (run(0.5, 1), run(0.5, 3));
    assert_eq!((values(&one.0), losses(&one.1)), (values(&two.0), losses(&two.1)));
}

#[test]
fn whole_models_are_not_trained_by_preferences_or_penalties() {
    let (base, expected) = (model(), read::<Kl>("kl.json"));
    let weights = base.decoder.weights();
    let whole = realign::model::decoder::Decoder::new(base.decoder.config.clone(), &weights, true).unwrap();
    let examples = expected.examples();
    let penalty = Some(Penalty { base: &base.decoder, coefficient: 1.0 });
    let objective = Objective::Supervised { rows: &examples, penalty };
    let error = train(&whole, objective, &TrainConfig::default(), None, &mut |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("train adapters, not whole models"), "{error}");
}

#[test]
fn records_of_steps_keep_trls_names_and_old_files_are_read() {
    let trace: Trace = read("dpo.json");
    let start = adapter::read(&fixture("adapter")).unwrap();
    let mut recipe = recipe();
    recipe.training.max_steps = Some(1);
    let (_, state) = tune(&model(), &rows(&trace), &recipe, Some(&start), &mut |_| Ok(())).unwrap();
    let mut json = serde_json::to_value(&state.log_history[0]).unwrap();
    let keys = ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"];
    assert!(keys.iter().all(|key| json[key].is_number()) && json.get("kl").is_none(), "{json}");
    let again: realign::record::StepRecord = serde_json::from_value(json.clone()).unwrap();
    assert!(again.rewards.is_some());
    keys.iter().for_each(|key| drop(json.as_object_mut().unwrap().remove(*key)));
    let old: realign::record::StepRecord = serde_json::from_value(json).unwrap();
    assert_eq!((old.rewards, old.kl), (None, None));
}
