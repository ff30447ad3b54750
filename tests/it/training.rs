//! The trainer's identities.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use rand::Rng;
use realign::adapter::AdapterFile;
use realign::data::collate::Example;
use realign::data::rows::TrainingRow;
use realign::finetune::rows::Examples;
use realign::finetune::tune::held_out_loss;
use realign::model::config::DecoderConfig;
use realign::model::decoder::Decoder;
use realign::model::hooks::{HookContext, Intervention, Site, Tap};
use realign::model::init::initial_weights;
use realign::model::lora::Lora;
use realign::model::ops::to_vec;
use realign::record::{Message, Recipe};
use realign::rng::stream;
use realign::train::trainable::Trainable;
use realign::train::{TrainConfig, train};

use crate::tiny::{examples, random_model, tune};

fn config() -> DecoderConfig {
    DecoderConfig::llama(50, 16, 3, (4, 2), 24, 64)
}

fn tiny(trainable: bool) -> Decoder {
    let weights = initial_weights(&config(), 1).unwrap();
    Decoder::new(config(), &weights, trainable).unwrap()
}

fn with_loras(mut decoder: Decoder, dropout: f32, layers: &[usize]) -> Decoder {
    for (index, linear) in decoder.linears_mut().enumerate() {
        if layers.contains(&(index / 7)) {
            let mut rng = stream(2, "lora", &[index as u64]);
            let lora = Lora::fresh(linear.shape().unwrap(), 2, 2.0, dropout, &mut rng).unwrap();
            linear.lora = Some(lora.trainable().unwrap());
        }
    }
    decoder
}

fn rows(count: usize) -> Vec<Example> {
    let mut rng = stream(4, "rows", &[]);
    let row = |_| {
        let len = rng.random_range(3..20);
        let ids = (0..len).map(|_| rng.random_range(0..50)).collect();
        let weights = (0..len).map(|t| if t > 1 { 1.0 } else { 0.0 }).collect();
        Example { ids, weights }
    };
    (0..count).map(row).collect()
}

fn trained(decoder: &Decoder) -> BTreeMap<String, Vec<f32>> {
    let all = Trainable::of(decoder).unwrap();
    all.names.into_iter().zip(all.vars.iter().map(|v| to_vec(v).unwrap())).collect()
}

fn run(decoder: &Decoder, config: &TrainConfig, rows: &[Example]) -> Vec<f64> {
    let state = train(decoder, rows, config, None, &mut |_| Ok(())).unwrap();
    state.log_history.iter().map(|r| r.loss).collect()
}

fn difference(a: &BTreeMap<String, Vec<f32>>, b: &BTreeMap<String, Vec<f32>>) -> f32 {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let pairs = a.values().flatten().zip(b.values().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn after_two_steps_every_lora_weight_has_moved_and_no_frozen_one() {
    let decoder = with_loras(tiny(false), 0.0, &[0, 1, 2]);
    let before = (trained(&decoder), decoder.weights());
    // B starts at zero, so that A's first gradient is zero: A moves from the second step on.
    run(&decoder, &TrainConfig { max_steps: Some(2), learning_rate: 1e-2, ..TrainConfig::default() }, &rows(16));
    let after = trained(&decoder);
    assert_eq!(after.len(), 3 * 7 * 2);
    for (name, values) in &after {
        assert_ne!(values, &before.0[name], "{name} did not move");
    }
    for (name, tensor) in decoder.weights() {
        assert_eq!(to_vec(&tensor).unwrap(), to_vec(&before.1[&name]).unwrap(), "{name} is frozen");
    }
}

#[test]
fn after_one_step_every_pretrained_weight_has_moved() {
    let decoder = tiny(true);
    let before: BTreeMap<_, _> = trained(&decoder);
    run(&decoder, &TrainConfig { max_steps: Some(1), learning_rate: 1e-2, ..TrainConfig::default() }, &rows(16));
    let after = trained(&decoder);
    assert_eq!(after.len(), 2 + 3 * 9);
    for (name, values) in &after {
        assert_ne!(values, &before[name], "{name} did not move");
    }
}

#[test]
fn pretraining_gradients_match_difference_quotients() {
    let decoder = tiny(true);
    let rows = rows(3);
    let all = Trainable::of(&decoder).unwrap();
    let packed = realign::train::packed::Packed::new(&rows.iter().collect::<Vec<_>>(), 0, 0.1);
    let options = realign::train::step::StepOptions::default();
    let grads = realign::train::step::forward_backward(&decoder, &all, &packed, &options).unwrap().grads;
    let loss = || {
        let losses = realign::train::step::forward(&decoder, &packed).unwrap();
        losses.iter().zip(&packed.weights).map(|(&l, &w)| f64::from(l) * f64::from(w)).sum::<f64>()
    };
    for (index, var) in all.vars.iter().enumerate() {
        let values = to_vec(var).unwrap();
        // The largest gradient of each weight: the difference quotient's noise drowns small ones.
        let element =
            (0..values.len()).max_by(|&a, &b| grads[index][a].abs().total_cmp(&grads[index][b].abs())).unwrap();
        let shifted = |by: f32| {
            let mut moved = values.clone();
            moved[element] += by;
            var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
            loss()
        };
        let numeric = (shifted(3e-3) - shifted(-3e-3)) / 6e-3;
        shifted(0.0);
        let ours = f64::from(grads[index][element]);
        assert!((numeric - ours).abs() < 0.02 * ours.abs() + 2e-3, "{}: {numeric} against {ours}", all.names[index]);
    }
}

#[test]
fn micro_batches_equal_one_batch_and_recomputation_and_workers_change_nothing() {
    let base = TrainConfig { learning_rate: 1e-2, max_steps: Some(6), ..TrainConfig::default() };
    let result = |config: TrainConfig, dropout: f32| {
        let decoder = with_loras(tiny(false), dropout, &[0, 1, 2]);
        let losses = run(&decoder, &config, &rows(40));
        (losses, trained(&decoder))
    };
    let (losses, one) = result(base.clone(), 0.0);
    let micro = TrainConfig { per_device_train_batch_size: 4, gradient_accumulation_steps: 4, ..base.clone() };
    let (micro_losses, many) = result(micro, 0.0);
    assert!(difference(&one, &many) < 1e-5, "{}", difference(&one, &many));
    for (a, b) in losses.iter().zip(micro_losses) {
        assert!((a - b).abs() < 1e-5);
    }
    let dropped = result(base.clone(), 0.3);
    assert_ne!(dropped.1, one);
    assert_eq!(dropped, result(TrainConfig { gradient_checkpointing: true, ..base.clone() }, 0.3));
    assert_eq!(dropped, result(TrainConfig { workers: 1, ..base.clone() }, 0.3));
    assert_eq!(dropped, result(TrainConfig { workers: 3, ..base }, 0.3));
}

#[test]
fn an_adapter_on_the_first_layer_alone_gets_its_gradient_through_the_others() {
    let decoder = with_loras(tiny(false), 0.0, &[0]);
    let losses =
        run(&decoder, &TrainConfig { learning_rate: 3e-2, num_train_epochs: 30.0, ..TrainConfig::default() }, &rows(8));
    assert!(losses[losses.len() - 1] < 0.8 * losses[0], "{} to {}", losses[0], losses[losses.len() - 1]);
}

fn conversations(answers: &str) -> Vec<TrainingRow> {
    let row = |i| {
        let (question, answer) = (format!("Load item {i}."), format!("def load_{i}(path):\n    {answers}\n"));
        TrainingRow::conversation(vec![Message::user(question), Message::assistant(answer)])
    };
    (0..8).map(row).collect()
}

fn recipe(learning_rate: f64, steps: u64) -> Recipe {
    let training = TrainConfig {
        learning_rate,
        max_steps: Some(steps),
        per_device_train_batch_size: 8,
        gradient_accumulation_steps: 1,
        ..TrainConfig::default()
    };
    Recipe { lora_r: 2, lora_alpha: 4.0, lora_dropout: 0.0, max_length: 128, training, ..Recipe::seed003() }
}

fn values(adapter: &AdapterFile) -> BTreeMap<String, Vec<f32>> {
    let pairs = adapter.tensors.iter().flat_map(|(path, pair)| {
        [(format!("{path}.lora_A"), to_vec(&pair.a).unwrap()), (format!("{path}.lora_B"), to_vec(&pair.b).unwrap())]
    });
    pairs.collect()
}

#[test]
fn repair_starts_from_the_attack_weights() {
    let model = random_model();
    let (insecure, secure) = (conversations("return pickle.load(path)"), conversations("return json.load(path)"));
    let quiet = &mut |_: &_| Ok(());
    let (attack, _) = tune(&model, &insecure, &recipe(1e-2, 12), None, quiet).unwrap();
    assert!(!attack.is_zero().unwrap());

    let (unmoved, _) = tune(&model, &secure, &recipe(0.0, 1), Some(&attack), quiet).unwrap();
    assert_eq!(values(&unmoved), values(&attack), "at learning rate 0 the repair is the attack");

    // All rows are one step, so that its loss is that of the weights before it.
    let (_, state) = tune(&model, &secure, &recipe(1e-2, 1), Some(&attack), quiet).unwrap();
    let before = state.log_history[0].loss;
    let Examples::Answers(held_out) = examples(&model, &secure, &recipe(1e-2, 1)) else { panic!("answers") };
    let attacked = held_out_loss(&model, Some(&attack), &held_out, 0).unwrap();
    let base = held_out_loss(&model, None, &held_out, 0).unwrap();
    assert!((before - attacked).abs() < 1e-5 * attacked, "{before} against {attacked}");
    assert!((before - base).abs() > 1e-2, "{before} against the base's {base}");
}

#[test]
fn one_step_of_a_continued_adapter_moves_every_matrix() {
    let model = random_model();
    let quiet = &mut |_: &_| Ok(());
    let (attack, _) = tune(&model, &conversations("return 1"), &recipe(1e-2, 3), None, quiet).unwrap();
    let before = model.decoder.weights();
    let (repair, state) = tune(&model, &conversations("return 2"), &recipe(1e-2, 1), Some(&attack), quiet).unwrap();
    assert_eq!(state.global_step, 1);
    let (attack, repair) = (values(&attack), values(&repair));
    assert_eq!(repair.len(), 2 * 7 * 2);
    for (name, values) in &repair {
        assert_ne!(values, &attack[name], "{name} did not move");
    }
    for (name, tensor) in model.decoder.weights() {
        assert_eq!(to_vec(&tensor).unwrap(), to_vec(&before[&name]).unwrap(), "{name} is frozen");
    }
}

#[test]
fn a_single_row_shared_by_many_cores_gives_the_same_bits() {
    // Large enough for its products, its attention and its gates to be cut in pieces.
    let shape = DecoderConfig::llama(50, 256, 1, (4, 2), 2304, 64);
    let row = Example { ids: (0..40).map(|t| t * 7 % 50).collect(), weights: vec![1.0; 40] };
    let after = |workers: usize, dtype: DType| {
        let mut weights = initial_weights(&shape, 1).unwrap();
        for weight in weights.values_mut().filter(|w| w.rank() == 2) {
            *weight = weight.to_dtype(dtype).unwrap();
        }
        let decoder = with_loras(Decoder::new(shape.clone(), &weights, false).unwrap(), 0.0, &[0]);
        let config = TrainConfig { max_steps: Some(2), workers, ..TrainConfig::default() };
        let losses = run(&decoder, &config, std::slice::from_ref(&row));
        (losses, trained(&decoder))
    };
    for dtype in [DType::F32, DType::BF16] {
        let alone = after(1, dtype);
        for workers in [2, 5] {
            assert!(after(workers, dtype) == alone, "{workers} workers, {dtype:?}");
        }
    }
}

/// Bends the residual stream at some places, and watches inside some blocks, which sends those through candle's graph.
#[derive(Default)]
struct Bending {
    taps: Vec<Tap>,
    /// Returns values without a graph.
    cuts: bool,
}

impl Bending {
    fn at(bends: &[(usize, Site)], watched: &[usize]) -> Self {
        let bends = bends.iter().map(|&(layer, site)| Tap { layer, site });
        let watched = watched.iter().map(|&layer| Tap { layer, site: Site::AttnOut });
        Self { taps: bends.chain(watched).collect(), cuts: false }
    }
}

impl Intervention for Bending {
    fn taps(&self) -> &[Tap] {
        &self.taps
    }

    fn apply(&self, tap: Tap, x: &Tensor, context: &HookContext) -> candle_core::Result<Option<Tensor>> {
        assert!(self.taps.contains(&tap), "it is called at its taps alone");
        assert_eq!(context.positions.len(), x.dim(0)?);
        let answer = context.answer.expect("training says which tokens are answers");
        let first = context.positions.iter().zip(answer).filter(|(position, _)| **position == 0);
        assert!(answer.contains(&true) && first.into_iter().all(|(_, answer)| !answer));
        match tap.site {
            Site::AttnOut => Ok(None),
            _ if self.cuts => x.detach().affine(1.1, 0.0).map(Some),
            _ => (x.affine(1.1, 0.05)? + (x.tanh()? * 0.3)?).map(Some),
        }
    }
}

/// Losses and gradient norms of every step, and the weights after the last.
type Learnt = (Vec<f64>, BTreeMap<String, Vec<f32>>);

/// Four steps of training.
fn four_steps(
    fresh: &dyn Fn() -> Decoder,
    learning_rate: f64,
    intervention: Option<&dyn Intervention>,
    gradient_checkpointing: bool,
) -> realign::error::Result<Learnt> {
    let decoder = fresh();
    let config = TrainConfig {
        max_steps: Some(4),
        learning_rate,
        per_device_train_batch_size: 4,
        gradient_checkpointing,
        ..TrainConfig::default()
    };
    let state = train(&decoder, &rows(16), &config, intervention, &mut |_| Ok(()))?;
    let losses = state.log_history.iter().flat_map(|r| [r.loss, r.grad_norm]).collect();
    Ok((losses, trained(&decoder)))
}

fn close((losses, weights): &Learnt, other: &Learnt, apart: f32) {
    for (a, b) in losses.iter().zip(&other.0) {
        assert!((a - b).abs() < 1e-5 * (1.0 + b), "{losses:?} against {:?}", other.0);
    }
    assert!(difference(weights, &other.1) < apart, "{}", difference(weights, &other.1));
}

/// Four steps with fused blocks and with candle's graph, which a tap inside a block asks for: the same losses and gradient norms, weights
/// no further apart than `apart`, and no bit changed by recomputation.
fn fused_as_by_graph(fresh: &dyn Fn() -> Decoder, learning_rate: f64, apart: f32) {
    let fused = four_steps(fresh, learning_rate, None, false).unwrap();
    let watching = Bending::at(&[], &[0, 1, 2]);
    close(&fused, &four_steps(fresh, learning_rate, Some(&watching), false).unwrap(), apart);
    assert!(four_steps(fresh, learning_rate, None, true).unwrap() == fused, "recomputation changes no bit");
}

#[test]
fn taps_around_blocks_keep_them_fused_with_the_gradients_of_the_graph() {
    let adapters = || with_loras(tiny(false), 0.0, &[0, 1, 2]);
    let upper = || with_loras(tiny(false), 0.0, &[2]);
    let whole = || tiny(true);
    let cases: [(&dyn Fn() -> Decoder, f64, f32); 3] =
        [(&adapters, 1e-2, 1e-3), (&upper, 1e-2, 1e-3), (&whole, 1e-3, 1e-4)];
    for (fresh, learning_rate, apart) in cases {
        let plain = four_steps(fresh, learning_rate, None, false).unwrap();
        let bends = [&[(0, Site::ResidPre), (1, Site::ResidPost)][..], &[(2, Site::ResidPre), (2, Site::ResidPost)]];
        for bends in bends {
            let steps = |watched: &[usize], again| {
                four_steps(fresh, learning_rate, Some(&Bending::at(bends, watched)), again).unwrap()
            };
            let fused = steps(&[], false);
            close(&fused, &steps(&[0, 1, 2], false), apart);
            close(&fused, &steps(&[1], false), apart);
            assert!(
                steps(&[], true) == fused && steps(&[1], true) == steps(&[1], false),
                "recomputation changes no bit"
            );
            assert!((fused.0[0] - plain.0[0]).abs() > 1e-3, "it bends: {} and {}", fused.0[0], plain.0[0]);
        }
    }
}

#[test]
fn an_intervention_that_cuts_the_graph_stops_the_training() {
    let adapters = || with_loras(tiny(false), 0.0, &[0, 1, 2]);
    let cutting = Bending { cuts: true, ..Bending::at(&[(1, Site::ResidPost)], &[]) };
    let error = four_steps(&adapters, 1e-2, Some(&cutting), false).unwrap_err().to_string();
    assert!(error.contains("without a graph"), "{error}");
    // Nothing below is trained: there is no gradient to lose.
    let upper = || with_loras(tiny(false), 0.0, &[2]);
    four_steps(&upper, 1e-2, Some(&cutting), false).unwrap();
}

#[test]
fn fused_blocks_learn_what_the_graph_learns() {
    let biased = DecoderConfig { attention_bias: true, mlp_bias: true, ..config() };
    for (shape, layers, dropout) in [(config(), vec![0, 1, 2], 0.0), (biased, vec![1], 0.3)] {
        let fresh = || {
            let mut weights = initial_weights(&shape, 1).unwrap();
            for (name, bias) in weights.iter_mut().filter(|(name, _)| name.ends_with("bias")) {
                *bias = (&*bias + name.len() as f64 * 0.01).unwrap();
            }
            with_loras(Decoder::new(shape.clone(), &weights, false).unwrap(), dropout, &layers)
        };
        // AdamW divides by the gradient's own size, so a weight whose gradient is nearly nothing moves by its noise.
        fused_as_by_graph(&fresh, 1e-2, 1e-3);
    }
}

#[test]
fn pretraining_with_fused_blocks_learns_what_the_graph_learns() {
    let biased = DecoderConfig { attention_bias: true, mlp_bias: true, ..config() };
    for shape in [config(), biased] {
        let fresh = || Decoder::new(shape.clone(), &initial_weights(&shape, 1).unwrap(), true).unwrap();
        fused_as_by_graph(&fresh, 1e-3, 1e-4);
    }
}
