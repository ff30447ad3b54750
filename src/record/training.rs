//! What training writes down: `trainer_state.json` in the Hugging Face form, and the lineage of an adapter.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One optimiser step, or an evaluation between two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// 1-based.
    pub step: u64,
    /// Mean loss over the step's target tokens.
    pub loss: f64,
    /// Before clipping.
    pub grad_norm: f64,
    /// Used for this step.
    pub learning_rate: f64,
    /// Input tokens without padding, over the whole step.
    pub tokens_per_second: f64,
    /// Tokens with a loss.
    pub target_tokens: u64,
    /// Of the process, so far.
    pub peak_memory_bytes: u64,
    /// Fractional epoch after the step.
    pub epoch: f64,
    /// Mean KL(trained ‖ base) over the target tokens, where it is penalised; the loss holds coefficient × this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// Of a step on preference pairs.
    #[serde(flatten)]
    pub rewards: Option<Rewards>,
}

/// Means over a step's preference pairs; a reward is β · (log-probability − the reference's). Names are TRL's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rewards {
    /// Of the preferred answers.
    #[serde(rename = "rewards/chosen")]
    pub chosen: f64,
    /// Of the others.
    #[serde(rename = "rewards/rejected")]
    pub rejected: f64,
    /// Share of the pairs whose preferred answer has the higher reward.
    #[serde(rename = "rewards/accuracies")]
    pub accuracies: f64,
    /// Preferred less other.
    #[serde(rename = "rewards/margins")]
    pub margins: f64,
}

/// `trainer_state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Steps done.
    pub global_step: u64,
    /// Fractional epoch.
    pub epoch: f64,
    /// Steps planned.
    pub max_steps: u64,
    /// Step by step.
    pub log_history: Vec<StepRecord>,
}

/// Rows that were interleaved with the training file's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenignRows {
    /// Their file.
    pub data: String,
    /// SHA-256 of those that were drawn, in the order drawn.
    pub data_sha256: String,
    /// How many were drawn.
    pub rows: u64,
    /// Their share of all rows, as asked for.
    pub share: f64,
}

/// `realign.json` beside an adapter: where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// The base model's name or folder.
    pub base: String,
    /// SHA-256 over its weights.
    pub base_sha256: String,
    /// SHA-256 of the adapter that training went on from; `None` for a fresh one.
    pub parent_sha256: Option<String>,
    /// The training file.
    pub data: String,
    /// SHA-256 of the training rows as read.
    pub data_sha256: String,
    /// Rows trained on, `benign` ones among them.
    pub rows: u64,
    /// Rows of another file that were interleaved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benign: Option<BenignRows>,
    /// Optimiser steps.
    pub steps: u64,
    /// Seed of order, initial weights and dropout.
    pub seed: u64,
    /// The recipe as resolved.
    pub recipe: serde_json::Value,
    /// Held-out loss per data set before and after, where it was measured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_out_loss: BTreeMap<String, (f64, f64)>,
}
