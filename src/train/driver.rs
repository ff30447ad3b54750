//! The loop over optimiser steps: rows in order, chunks over workers, one update.

use std::time::Instant;

use super::adamw::{AdamW, Update, clip_factor};
use super::checkpoint::Snapshot;
use super::explosion;
use super::objective::{Objective, StepMetrics};
use super::packed::packed_chunks;
use super::schedule::factor;
use super::step::{ChunkGrad, StepOptions, forward};
use super::trainable::Trainable;
use super::workers::over_workers;
use crate::data::batches::epoch_order;
use crate::data::collate::Example;
use crate::error::{Error, Result};
use crate::model::cpu::simd::{add, squares};
use crate::model::decoder::Decoder;
use crate::model::hooks::Intervention;
use crate::process;
use crate::record::TrainConfig;
use crate::record::{StepRecord, TrainerState};
use crate::rng;

/// A finished optimiser step, as `on_step` sees it.
pub struct StepEnd<'a> {
    /// The step's line in the log.
    pub record: &'a StepRecord,
    /// The rows or pairs of its batch, by their numbers in the data.
    pub rows: &'a [usize],
    /// A signal asked the training to stop after this step: what is not saved now is lost.
    pub stopping: bool,
    state: &'a TrainerState,
    trained: &'a Trainable,
    optimiser: &'a AdamW,
}

impl StepEnd<'_> {
    /// Everything that is needed to resume after this step.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot {
            weights: self.trained.values()?,
            moments: self.optimiser.moments(self.trained),
            state: self.state.clone(),
            directions: Vec::new(),
        })
    }
}

/// Trains from the first step on; see [`train_from`].
pub fn train<'a>(
    decoder: &Decoder,
    objective: impl Into<Objective<'a>>,
    config: &TrainConfig,
    intervention: Option<&dyn Intervention>,
    on_step: &mut dyn FnMut(&StepRecord) -> Result<()>,
) -> Result<TrainerState> {
    train_from(decoder, objective, config, intervention, None, &mut |end| on_step(end.record))
}

/// Trains the decoder's variables in place and calls `on_step` after every step. From a snapshot the training continues
/// as if it had never been stopped: order, dropout and learning rate follow from (seed, step) alone.
///
/// Rows alone are an objective: their loss is `Σ weight · loss / Σ weight` over the whole effective batch, the last short
/// one included.
///
/// # Errors `Diverged` before an update with a loss or gradient that is not finite or far too large; `Interrupted`
/// after a signal, once `on_step` has seen the step that it fell into.
pub fn train_from<'a>(
    decoder: &Decoder,
    objective: impl Into<Objective<'a>>,
    config: &TrainConfig,
    intervention: Option<&dyn Intervention>,
    from: Option<&Snapshot>,
    on_step: &mut dyn FnMut(&StepEnd) -> Result<()>,
) -> Result<TrainerState> {
    let trained = Trainable::of(decoder)?;
    if trained.vars.is_empty() {
        return Err(Error::usage("nothing to train: no linear of the model matches target_modules"));
    }
    let objective = objective.into();
    let count = objective.count();
    if count == 0 {
        return Err(Error::usage("nothing to train on: there are no rows"));
    }
    if trained.output.is_some() && !objective.reaches_head() {
        return Err(Error::usage("DPO and a KL penalty train adapters, not whole models"));
    }
    let total = config.steps(count);
    let per_epoch = count.div_ceil(config.effective_batch());
    let (optimiser, mut state) = match from {
        Some(snapshot) => {
            trained.restore(&snapshot.weights)?;
            (AdamW::resume(&trained, &snapshot.moments)?, snapshot.state.clone())
        }
        None => {
            let state = TrainerState { global_step: 0, epoch: 0.0, max_steps: total, log_history: Vec::new() };
            (AdamW::new(&trained.vars), state)
        }
    };
    if process::interrupted() {
        return Err(Error::Interrupted);
    }
    let workers = decoder.workers(config.workers);
    let mut order = Vec::new();
    for step in state.global_step..total {
        let (epoch, place) = (step as usize / per_epoch, step as usize % per_epoch);
        if place == 0 || order.is_empty() {
            order = epoch_order(config.seed, epoch as u64, count, config.shuffle);
        }
        let started = Instant::now();
        let first = place * config.effective_batch();
        let batch = &order[first..(first + config.effective_batch()).min(order.len())];
        let rows = objective.rows(batch);
        let chunks = objective.chunks(&rows, config.per_device_train_batch_size);
        let options = StepOptions {
            dropout: Some(rng::key(config.seed, "dropout", &[step])),
            recompute: config.gradient_checkpointing,
            intervention,
            ..StepOptions::default()
        };
        let done = over_workers(workers, chunks.len(), |i| {
            objective.backward(decoder, &trained, &chunks[i], batch, &options)
        })?;
        let StepMetrics { loss, kl, rewards } = objective.metrics(&chunks, &done, batch);
        let grads = over_workers(workers, trained.vars.len(), |i| Ok(sum_in_order(&done, i)))?;
        let grad_norm = grads.iter().map(|(_, squares)| squares).sum::<f64>().sqrt();
        check_finite_and_bounded(
            step,
            loss,
            grad_norm,
            explosion::limit(&state.log_history, config.max_grad_explosion),
        )?;
        let learning_rate = config.learning_rate * factor(config.lr_scheduler_type, step, config.warmup_steps, total);
        let update = Update::new(step, learning_rate, clip_factor(grad_norm, config.max_grad_norm), config);
        let finite =
            over_workers(workers, trained.vars.len(), |i| optimiser.step(i, &trained.vars[i], &grads[i].0, &update))?;
        if let Some(index) = finite.iter().position(|finite| !finite) {
            return Err(diverged(step, &format!("`{}` would not be finite after this step", trained.names[index])));
        }
        let tokens: usize = rows.iter().map(|r| r.ids.len()).sum();
        let record = StepRecord {
            step: step + 1,
            loss,
            grad_norm,
            learning_rate,
            tokens_per_second: tokens as f64 / started.elapsed().as_secs_f64(),
            target_tokens: rows.iter().map(|r| r.target_tokens() as u64).sum(),
            peak_memory_bytes: process::peak_memory_bytes(),
            epoch: (step + 1) as f64 / per_epoch as f64,
            kl,
            rewards,
            direction: None,
        };
        let record = record.rounded();
        (state.global_step, state.epoch) = (record.step, record.epoch);
        state.log_history.push(record.clone());
        // Read once: a signal between `on_step` and the end of the loop would stop a training that was not told to save.
        let stopping = process::interrupted();
        on_step(&StepEnd {
            record: &record,
            rows: batch,
            stopping,
            state: &state,
            trained: &trained,
            optimiser: &optimiser,
        })?;
        if stopping && record.step < total {
            return Err(Error::Interrupted);
        }
    }
    Ok(state)
}

/// Stops before an update by a loss or gradient that is not finite or far too large.
fn check_finite_and_bounded(step: u64, loss: f64, grad_norm: f64, limit: f64) -> Result<()> {
    if !loss.is_finite() || !grad_norm.is_finite() {
        return Err(diverged(step, &format!("loss {loss}, gradient norm {grad_norm}")));
    }
    if grad_norm > limit {
        let words = format!("gradient norm {grad_norm:.3e}, above the limit of {limit:.3e} (max_grad_explosion)");
        return Err(diverged(step, &words));
    }
    Ok(())
}

fn diverged(step: u64, what: &str) -> Error {
    Error::Diverged(format!(
        "step {}: {what}; training stopped before the weights were changed. A lower learning_rate or a longer warm-up usually \
         helps",
        step + 1
    ))
}

/// Mean loss over the target tokens of rows, weights counted.
pub fn mean_loss(decoder: &Decoder, examples: &[Example], workers: usize) -> Result<f64> {
    let rows: Vec<&Example> = examples.iter().collect();
    let weight: f64 = rows.iter().map(|r| r.weight_sum()).sum();
    let chunks = packed_chunks(&rows, 1, rows.len(), (1.0 / weight) as f32);
    let losses = over_workers(decoder.workers(workers), chunks.len(), |i| forward(decoder, &chunks[i]))?;
    Ok(chunks.iter().zip(&losses).map(|(chunk, losses)| chunk.weighted_sum(losses)).sum())
}

/// One weight's gradient over all chunks, in their order, and its sum of squares.
fn sum_in_order(chunks: &[ChunkGrad], index: usize) -> (Vec<f32>, f64) {
    let mut parts = chunks.iter().map(|c| &c.grads[index]);
    let mut sum = parts.next().cloned().unwrap_or_default();
    parts.for_each(|part| add(&mut sum, part));
    let squares = squares(&sum);
    (sum, squares)
}
