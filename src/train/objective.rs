//! What training minimises: cross-entropy over the target tokens of rows, with or without a [`Penalty`] that holds the model
//! to its base, or [`Dpo`] on preference pairs.
//!
//! With a penalty the loss is `cross-entropy + coefficient · KL(trained ‖ base)`, both as means over the target tokens of
//! the whole effective batch.

use super::dpo::Dpo;
use super::packed::{Packed, packed_chunks};
use super::step::{ChunkGrad, Penalty, StepOptions, forward_backward};
use super::trainable::Trainable;
use crate::data::collate::Example;
use crate::data::preference::PreferencePair;
use crate::model::decoder::Decoder;
use crate::record::Rewards;

/// What is minimised, with the data.
pub enum Objective<'a> {
    /// Supervised rows, with targets and their weights.
    Supervised {
        /// Rows with a loss weight for each token.
        rows: &'a [Example],
        /// Holds the model to the base.
        penalty: Option<Penalty<'a>>,
    },
    /// A preferred and a rejected answer to each prompt.
    Dpo(Dpo<'a>),
}

impl<'a> From<&'a [Example]> for Objective<'a> {
    fn from(rows: &'a [Example]) -> Self {
        Self::Supervised { rows, penalty: None }
    }
}

impl<'a> From<&'a Vec<Example>> for Objective<'a> {
    fn from(rows: &'a Vec<Example>) -> Self {
        rows.as_slice().into()
    }
}

/// What is logged of a step beside its gradient: the loss with its penalty, KL(trained ‖ base), DPO's rewards.
pub(super) struct StepMetrics {
    pub loss: f64,
    pub kl: Option<f64>,
    pub rewards: Option<Rewards>,
}

impl<'a> Objective<'a> {
    /// Items to train on: rows, or pairs.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Supervised { rows, .. } => rows.len(),
            Self::Dpo(dpo) => dpo.pairs.len(),
        }
    }

    /// Whether it gives the head, where that is trained, its gradient: only plain cross-entropy does.
    pub(super) fn reaches_head(&self) -> bool {
        matches!(self, Self::Supervised { penalty: None, .. })
    }

    /// The sequences of these items; a pair's are neighbours.
    pub(super) fn rows(&self, items: &[usize]) -> Vec<&'a Example> {
        match self {
            Self::Supervised { rows, .. } => items.iter().map(|&i| &rows[i]).collect(),
            Self::Dpo(dpo) => items.iter().flat_map(|&i| PreferencePair::both(&dpo.pairs[i])).collect(),
        }
    }

    /// An effective batch in chunks; a micro-batch has so many items.
    pub(super) fn chunks(&self, rows: &[&Example], micro_batch: usize) -> Vec<Packed> {
        match self {
            Self::Supervised { .. } => {
                let weight: f64 = rows.iter().map(|r| r.weight_sum()).sum();
                packed_chunks(rows, 1, micro_batch, (1.0 / weight) as f32)
            }
            Self::Dpo(_) => packed_chunks(rows, 2, micro_batch, 1.0),
        }
    }

    /// Losses and gradients of one chunk of the effective batch `items`.
    pub(super) fn backward(
        &self,
        decoder: &Decoder,
        trained: &Trainable,
        chunk: &Packed,
        items: &[usize],
        options: &StepOptions,
    ) -> candle_core::Result<ChunkGrad> {
        match self {
            Self::Supervised { penalty, .. } => {
                let options = StepOptions { penalty: *penalty, ..*options };
                forward_backward(decoder, trained, chunk, &options)
            }
            Self::Dpo(dpo) => {
                let factors = |losses: &[f32]| dpo.factors(chunk, losses, items);
                let options = StepOptions { dropout: None, factors: Some(&factors), ..*options };
                forward_backward(decoder, trained, chunk, &options)
            }
        }
    }

    /// A step's metrics, from all of its chunks.
    pub(super) fn metrics(&self, chunks: &[Packed], done: &[ChunkGrad], items: &[usize]) -> StepMetrics {
        match self {
            Self::Supervised { penalty, .. } => {
                let sum =
                    |of: fn(&ChunkGrad) -> &[f32]| chunks.iter().zip(done).map(|(c, d)| c.weighted_sum(of(d))).sum();
                let loss: f64 = sum(|d| &d.losses);
                let kl = penalty.map(|penalty| (f64::from(penalty.coefficient), sum(|d| &d.divergences)));
                let added = kl.map_or(0.0, |(coefficient, kl)| coefficient * kl);
                StepMetrics { loss: loss + added, kl: kl.map(|(_, kl)| kl), rewards: None }
            }
            Self::Dpo(dpo) => {
                let losses: Vec<_> = chunks.iter().zip(done).map(|(c, d)| (c, d.losses.as_slice())).collect();
                let (loss, rewards) = dpo.metrics(&losses, items);
                StepMetrics { loss, kl: None, rewards: Some(rewards) }
            }
        }
    }
}
