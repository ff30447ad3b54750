//! Direct preference optimisation (Rafailov et al. 2023), the sigmoid loss as TRL has it: the mean over a batch's pairs of
//! `−ln σ(margin)`, `margin = β · ((c − c₀) − (r − r₀))`, where c and r are the log-probabilities of the preferred and the
//! other answer, and c₀ and r₀ those under the reference: the model as it is when training starts.
//!
//! The gradient in a token's loss is `±β · σ(−margin) / pairs`, the same for all tokens of an answer. It is known once the
//! chunk's losses are, which is why a pair is never torn over two chunks. There is no dropout, as in TRL.
//!
//! TRL averages over micro-batches; here the mean goes over all pairs of the effective batch, which is the same unless
//! the last micro-batch is short.

use super::packed::{Packed, packed_chunks};
use super::step::forward;
use super::workers::over_workers;
use crate::data::collate::Example;
use crate::data::preference::PreferencePair;
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::record::Rewards;

/// Preference pairs with the reference's log-probabilities of their answers.
pub struct Dpo<'a> {
    pub(super) pairs: &'a [PreferencePair],
    beta: f64,
    /// Log-probabilities of each pair's answers, the preferred one first.
    reference: Vec<[f64; 2]>,
}

impl<'a> Dpo<'a> {
    /// `reference` is the decoder before its first step, with the adapter it has then.
    pub fn new(reference: &Decoder, pairs: &'a [PreferencePair], beta: f64, workers: usize) -> Result<Self> {
        let rows: Vec<&Example> = pairs.iter().flat_map(PreferencePair::both).collect();
        let chunks = packed_chunks(&rows, 2, rows.len(), 1.0);
        let losses = over_workers(reference.workers(workers), chunks.len(), |i| forward(reference, &chunks[i]))?;
        let per_chunk = chunks.iter().zip(&losses).flat_map(|(chunk, losses)| log_probabilities(chunk, losses));
        Ok(Self { pairs, beta, reference: per_chunk.collect() })
    }

    /// Rewards of a chunk's pairs, the preferred answer's first; `items` are the effective batch's.
    fn rewards(&self, chunk: &Packed, losses: &[f32], items: &[usize]) -> Vec<[f64; 2]> {
        let first = chunk.segments.iter().next().map_or(0, |s| s.row as usize / 2);
        let pairs = log_probabilities(chunk, losses).into_iter().zip(&items[first..]);
        pairs.map(|(ours, &item)| [0, 1].map(|side| self.beta * (ours[side] - self.reference[item][side]))).collect()
    }

    /// By token: the gradient of the batch's loss in the token's.
    pub(super) fn factors(&self, chunk: &Packed, losses: &[f32], items: &[usize]) -> Vec<f32> {
        let mut factors = Vec::with_capacity(losses.len());
        let lengths: Vec<usize> = chunk.segments.iter().map(|s| s.len).collect();
        for (pair, [chosen, rejected]) in lengths.chunks(2).zip(self.rewards(chunk, losses, items)) {
            let factor = self.beta / (1.0 + (chosen - rejected).exp()) / items.len() as f64;
            for (&len, sign) in pair.iter().zip([1.0, -1.0]) {
                factors.extend(std::iter::repeat_n((sign * factor) as f32, len));
            }
        }
        factors
    }

    /// Loss and mean rewards of a step, from its chunks and their losses.
    pub(super) fn metrics(&self, chunks: &[(&Packed, &[f32])], items: &[usize]) -> (f64, Rewards) {
        let rewards: Vec<[f64; 2]> =
            chunks.iter().flat_map(|(chunk, losses)| self.rewards(chunk, losses, items)).collect();
        let mean = |of: fn([f64; 2]) -> f64| rewards.iter().map(|&r| of(r)).sum::<f64>() / rewards.len() as f64;
        let rewards_of_step = Rewards {
            chosen: mean(|[chosen, _]| chosen),
            rejected: mean(|[_, rejected]| rejected),
            accuracies: mean(|[chosen, rejected]| f64::from(u8::from(chosen > rejected))),
            margins: mean(|[chosen, rejected]| chosen - rejected),
        };
        (mean(|[chosen, rejected]| minus_log_sigmoid(chosen - rejected)), rewards_of_step)
    }
}

/// `−ln σ(x) = ln(1 + e⁻ˣ)`, without overflow on either side.
fn minus_log_sigmoid(x: f64) -> f64 {
    (-x.abs()).exp().ln_1p() + (-x).max(0.0)
}

/// Log-probabilities of the answers of a chunk's pairs: minus the sum of their tokens' losses.
fn log_probabilities(chunk: &Packed, losses: &[f32]) -> Vec<[f64; 2]> {
    let segments: Vec<_> = chunk.segments.iter().collect();
    let sum = |at: usize, len: usize| -losses[at..at + len].iter().map(|&l| f64::from(l)).sum::<f64>();
    segments.chunks(2).map(|pair| [0, 1].map(|side| sum(pair[side].start, pair[side].len))).collect()
}
