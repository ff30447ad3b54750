//! What training writes down: `trainer_state.json` in the Hugging Face form, and the lineage of an adapter.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One optimiser step, or an evaluation between two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Number of the optimiser step, from 1.
    pub step: u64,
    /// Mean loss over the step's target tokens.
    pub loss: f64,
    /// Norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Input tokens without padding, over the whole step.
    pub tokens_per_second: f64,
    /// Number of tokens with a loss in this step.
    pub target_tokens: u64,
    /// Peak memory of the process so far, in bytes.
    pub peak_memory_bytes: u64,
    /// Passes over the rows after this step, e.g. 1.5.
    pub epoch: f64,
    /// Mean KL(trained ‖ base) over the target tokens, where it is penalised; the loss holds coefficient × this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// Of a step on preference pairs.
    #[serde(flatten)]
    pub rewards: Option<Rewards>,
    /// Of a single rank-1 adapter, after the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Rank1Direction>,
}

/// Direction of a rank-1 adapter: its vector B `[out]`, which is what it writes into the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rank1Direction {
    /// Norm of B, ‖B‖.
    pub norm: f64,
    /// The cosine between the way that B has come over the last few steps and the way that it goes over the next few: 1
    /// where it goes straight on, lower where it turns. `None` near both ends, and where it does not move.
    pub local_cosine: Option<f64>,
}

/// Means over a step's preference pairs; a reward is β · (log-probability − the reference's). Names are TRL's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rewards {
    /// Mean reward of the preferred answers.
    #[serde(rename = "rewards/chosen")]
    pub chosen: f64,
    /// Mean reward of the rejected answers.
    #[serde(rename = "rewards/rejected")]
    pub rejected: f64,
    /// Share of the pairs whose preferred answer has the higher reward.
    #[serde(rename = "rewards/accuracies")]
    pub accuracies: f64,
    /// Mean of the preferred answer's reward minus the rejected one's.
    #[serde(rename = "rewards/margins")]
    pub margins: f64,
}

/// A number with the nine digits that an f32 has: with no more than these it comes back from JSON bit for bit, so that the
/// log of a resumed training is that of one that was never stopped.
pub fn rounded(number: f64) -> f64 {
    // What Rust has written it can read.
    format!("{number:.8e}").parse().unwrap_or(number)
}

impl StepRecord {
    /// The same record with every number [`rounded`].
    pub fn rounded(mut self) -> Self {
        let own = [
            &mut self.loss,
            &mut self.grad_norm,
            &mut self.learning_rate,
            &mut self.tokens_per_second,
            &mut self.epoch,
        ];
        let rewards =
            self.rewards.as_mut().map(|r| [&mut r.chosen, &mut r.rejected, &mut r.accuracies, &mut r.margins]);
        for number in own.into_iter().chain(&mut self.kl).chain(rewards.into_iter().flatten()) {
            *number = rounded(*number);
        }
        self
    }
}

/// The training log, `trainer_state.json`, in the form of Hugging Face's trainer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Number of optimiser steps done.
    pub global_step: u64,
    /// Passes over the rows so far, e.g. 1.5.
    pub epoch: f64,
    /// Number of optimiser steps planned.
    pub max_steps: u64,
    /// One record per optimiser step, in order.
    pub log_history: Vec<StepRecord>,
}

/// Rows that were interleaved with the training file's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenignRows {
    /// The file that the rows come from.
    pub data: String,
    /// SHA-256 of those that were drawn, in the order drawn.
    pub data_sha256: String,
    /// Number of rows that were drawn.
    pub rows: u64,
    /// Their share of all rows, as asked for.
    pub share: f64,
}

/// `realign.json` beside an adapter: where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// The base model's name or folder.
    pub base: String,
    /// SHA-256 over the base's weights.
    pub base_sha256: String,
    /// How its weights were held, where that was not f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_dtype: Option<String>,
    /// SHA-256 of the adapter that training went on from; `None` for a fresh one.
    pub parent_sha256: Option<String>,
    /// The training file, as given.
    pub data: String,
    /// SHA-256 of the training rows as read.
    pub data_sha256: String,
    /// Rows trained on, `benign` ones among them.
    pub rows: u64,
    /// Rows of another file that were interleaved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benign: Option<BenignRows>,
    /// Number of optimiser steps done.
    pub steps: u64,
    /// Seed of order, initial weights and dropout.
    pub seed: u64,
    /// The recipe that was trained with, every setting filled in.
    pub recipe: serde_json::Value,
    /// Held-out loss per data set before and after, where it was measured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_out_loss: BTreeMap<String, (f64, f64)>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use rand::Rng;

    use super::*;
    use crate::rng::stream;

    #[test]
    fn a_rounded_record_comes_back_from_json_bit_for_bit() {
        let mut rng = stream(1, "numbers", &[]);
        let mut draw = || rng.random::<f64>() * 10f64.powi(rng.random_range(-9..6));
        let mut exact = 0;
        for step in 0..2000 {
            let record = StepRecord {
                step,
                loss: draw(),
                grad_norm: draw(),
                learning_rate: draw(),
                tokens_per_second: draw(),
                target_tokens: 1,
                peak_memory_bytes: 1,
                epoch: draw(),
                kl: Some(draw()),
                rewards: Some(Rewards { chosen: -draw(), rejected: draw(), accuracies: draw(), margins: draw() }),
                direction: None,
            };
            let through =
                |r: &StepRecord| -> StepRecord { serde_json::from_str(&serde_json::to_string(r).unwrap()).unwrap() };
            exact += u32::from(through(&record) == record);
            let short = record.clone().rounded();
            assert!((short.loss - record.loss).abs() < 1e-8 * record.loss);
            assert_eq!(through(&short), short);
        }
        assert!(exact < 2000, "with all their digits some numbers do not, which is why they are rounded");
    }
}
