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
    /// Of a single rank-1 adapter, after the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
}

/// Where a rank-1 adapter points: the vector B, which is what it writes into the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Direction {
    /// ‖B‖.
    pub norm: f64,
    /// The cosine between the way that B has come over the last few steps and the way that it goes over the next few: 1
    /// where it goes straight on, lower where it turns. `None` near both ends, and where it does not move.
    pub local_cosine: Option<f64>,
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
    /// Rows trained on.
    pub rows: u64,
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
