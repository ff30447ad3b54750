//! The loop over optimiser steps: rows in order, chunks over workers, one update.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::TrainConfig;
use super::adamw::{AdamW, Update, clip_factor};
use super::schedule::factor;
use super::step::{ChunkGrad, Packed, StepOptions, forward, forward_backward};
use super::trainable::Trainable;
use crate::data::batches::epoch_order;
use crate::data::collate::Example;
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::hooks::Intervention;
use crate::process;
use crate::record::{StepRecord, TrainerState};
use crate::rng;

/// Tokens of a chunk: large enough for the products, small enough for a core's cache and for every core to have one.
const CHUNK_TOKENS: usize = 512;

/// Trains the decoder's variables in place. `on_step` sees every step as it ends.
///
/// The loss of a step is `Σ weight · loss / Σ weight` over the whole effective batch, the last short one included.
///
/// # Errors
/// `Diverged` before the update that a loss or gradient that is not finite would make; `Interrupted` after a signal.
pub fn train(
    decoder: &Decoder,
    examples: &[Example],
    config: &TrainConfig,
    intervention: Option<&dyn Intervention>,
    on_step: &mut dyn FnMut(&StepRecord) -> Result<()>,
) -> Result<TrainerState> {
    let trained = Trainable::of(decoder)?;
    if trained.vars.is_empty() {
        return Err(Error::usage("nothing to train: no linear of the model matches target_modules"));
    }
    if examples.is_empty() {
        return Err(Error::usage("nothing to train on: there are no rows"));
    }
    let total = config.steps(examples.len());
    let per_epoch = examples.len().div_ceil(config.effective_batch());
    let optimiser = AdamW::new(&trained.vars);
    let mut state = TrainerState { global_step: 0, epoch: 0.0, max_steps: total, log_history: Vec::new() };
    let mut order = Vec::new();
    for step in 0..total {
        if process::interrupted() {
            return Err(Error::Interrupted);
        }
        let (epoch, place) = (step as usize / per_epoch, step as usize % per_epoch);
        if place == 0 {
            order = epoch_order(config.seed, epoch as u64, examples.len(), config.shuffle);
        }
        let started = Instant::now();
        let first = place * config.effective_batch();
        let batch = &order[first..(first + config.effective_batch()).min(order.len())];
        let rows: Vec<&Example> = batch.iter().map(|&i| &examples[i]).collect();
        let weight: f64 = rows.iter().map(|r| r.weight_sum()).sum();
        let chunks = chunks(&rows, config.per_device_train_batch_size, (1.0 / weight) as f32);
        let options = StepOptions {
            dropout: Some(rng::key(config.seed, "dropout", &[step])),
            recompute: config.gradient_checkpointing,
            intervention,
        };
        let done =
            over_workers(config.workers, chunks.len(), |i| forward_backward(decoder, &trained, &chunks[i], &options))?;
        let loss = weighted_loss(&chunks, done.iter().map(|d| &d.losses));
        let grads = over_workers(config.workers, trained.vars.len(), |i| Ok(sum_in_order(&done, i)))?;
        let grad_norm = grads.iter().map(|(_, squares)| squares).sum::<f64>().sqrt();
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Err(Error::Diverged(format!(
                "step {}: loss {loss}, gradient norm {grad_norm}: stopped before this step would spoil the weights; \
                 a lower learning_rate or a longer warm-up usually helps",
                step + 1
            )));
        }
        let learning_rate = config.learning_rate * factor(config.lr_scheduler_type, step, config.warmup_steps, total);
        let update = Update::new(step, learning_rate, clip_factor(grad_norm, config.max_grad_norm), config);
        over_workers(config.workers, trained.vars.len(), |i| {
            optimiser.step(i, &trained.vars[i], &grads[i].0, &update)
        })?;
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
            direction: None,
        };
        on_step(&record)?;
        (state.global_step, state.epoch) = (record.step, record.epoch);
        state.log_history.push(record);
    }
    Ok(state)
}

/// Mean loss over the target tokens of rows, weights counted.
pub fn mean_loss(decoder: &Decoder, examples: &[Example], workers: usize) -> Result<f64> {
    let rows: Vec<&Example> = examples.iter().collect();
    let weight: f64 = rows.iter().map(|r| r.weight_sum()).sum();
    let chunks = chunks(&rows, rows.len(), (1.0 / weight) as f32);
    let losses = over_workers(workers, chunks.len(), |i| forward(decoder, &chunks[i]))?;
    Ok(weighted_loss(&chunks, losses.iter()))
}

/// Micro-batches cut into chunks of whole rows.
fn chunks(rows: &[&Example], micro_batch: usize, scale: f32) -> Vec<Packed> {
    let mut chunks = Vec::new();
    for (number, micro) in rows.chunks(micro_batch.max(1)).enumerate() {
        let mut first = 0;
        let mut tokens = 0;
        for (i, row) in micro.iter().enumerate() {
            if i > first && tokens + row.ids.len() > CHUNK_TOKENS {
                chunks.push(Packed::new(&micro[first..i], (number * micro_batch + first) as u64, scale));
                (first, tokens) = (i, 0);
            }
            tokens += row.ids.len();
        }
        chunks.push(Packed::new(&micro[first..], (number * micro_batch + first) as u64, scale));
    }
    chunks
}

/// Does `count` pieces of work, each on some worker; results come back in order.
fn over_workers<R: Send>(
    workers: usize,
    count: usize,
    work: impl Fn(usize) -> candle_core::Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(done);
            }
            done.push((index, work(index)?));
        }
    };
    let workers = process::workers(workers).min(count);
    let mut done: Vec<(usize, R)> = Vec::new();
    if workers <= 1 {
        done = take()?;
    } else {
        let parts = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers).map(|_| scope.spawn(take)).collect();
            handles.into_iter().map(|h| h.join()).collect::<Vec<_>>()
        });
        for part in parts {
            // A worker's panic is a bug of ours; it goes on as the panic it was.
            let part: candle_core::Result<Vec<(usize, R)>> =
                part.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            done.extend(part?);
        }
    }
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// One weight's gradient over all chunks, in their order, and its sum of squares.
fn sum_in_order(chunks: &[ChunkGrad], index: usize) -> (Vec<f32>, f64) {
    let mut parts = chunks.iter().map(|c| &c.grads[index]);
    let mut sum = parts.next().cloned().unwrap_or_default();
    for part in parts {
        sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
    }
    let squares = sum.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
    (sum, squares)
}

fn weighted_loss<'a>(chunks: &[Packed], losses: impl Iterator<Item = &'a Vec<f32>>) -> f64 {
    let terms = chunks.iter().zip(losses).flat_map(|(c, losses)| c.weights.iter().zip(losses));
    terms.map(|(&w, &l)| f64::from(w) * f64::from(l)).sum()
}
