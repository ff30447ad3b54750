//! How one adapter is made, as plain data: where it sits, what its rows are for, and how it is trained. Names are Hugging
//! Face's. The presets are in `finetune::presets`.

use serde::{Deserialize, Serialize};

/// What a training set's rows are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Supervised fine-tuning: imitate the answers.
    Sft,
    /// Direct preference optimisation: prefer one answer to another.
    Dpo,
}

/// Which tokens have a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// The model's answers with the end-of-turn token; in a plain text, every token.
    Answers,
    /// All tokens, those of system and user turns included.
    All,
}

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// To 0 in a straight line.
    Linear,
    /// To 0 along half a cosine.
    Cosine,
    /// Stays at its peak.
    Constant,
}

/// Where the adapter sits and how it is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Rank r of A `[r, in]` and B `[out, r]`.
    pub lora_r: usize,
    /// α: the adapter's output is scaled by α / r.
    pub lora_alpha: f64,
    /// Probability of dropping an input of A in training, in [0, 1).
    pub lora_dropout: f64,
    /// `all-linear`, a regular expression for the whole module path, or names separated by commas.
    pub target_modules: String,
    /// The layers that get an adapter, 0-based; `None` is all.
    pub layers_to_transform: Option<Vec<usize>>,
    /// Scale by α / √r instead (rsLoRA).
    pub use_rslora: bool,
    /// DoRA: also train the lengths of the updated weight's rows.
    pub use_dora: bool,
    /// What the rows are for.
    pub method: Method,
    /// Which tokens are targets; DPO always takes the answers.
    pub loss: LossOn,
    /// Weight of KL(trained ‖ base), the reverse KL over the whole vocabulary, mean over the target tokens; 0 turns it off.
    pub kl_coefficient: f64,
    /// DPO's β: how strongly the model that training starts from holds the trained one.
    pub beta: f64,
    /// Tokens of a row; longer rows lose their end.
    pub max_length: usize,
    /// Optimiser, schedule and batches.
    pub training: TrainConfig,
}

/// How to train. The defaults are torch's AdamW and Hugging Face's trainer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Peak of the learning rate, after the warm-up.
    pub learning_rate: f64,
    /// Passes over the rows; a fraction stops within a pass.
    pub num_train_epochs: f64,
    /// Optimiser steps in all; `None` leaves it to the epochs.
    pub max_steps: Option<u64>,
    /// Number of rows per micro-batch.
    pub per_device_train_batch_size: usize,
    /// Number of micro-batches per optimiser step.
    pub gradient_accumulation_steps: usize,
    /// Schedule of the learning rate after the warm-up.
    pub lr_scheduler_type: Scheduler,
    /// Steps over which the learning rate rises from 0.
    pub warmup_steps: u64,
    /// AdamW's decoupled decay; it is applied to matrices only.
    pub weight_decay: f64,
    /// AdamW's β₁, the decay of the mean gradient.
    pub adam_beta1: f64,
    /// AdamW's β₂, the decay of the mean squared gradient.
    pub adam_beta2: f64,
    /// AdamW's ε, added to the root of the mean squared gradient.
    pub adam_epsilon: f64,
    /// Gradients are scaled down to this norm; 0 turns that off.
    pub max_grad_norm: f64,
    /// A gradient norm this many times the median of the last 50 steps stops the training; 0 turns that off.
    pub max_grad_explosion: f64,
    /// Whether rows are shuffled in every epoch.
    pub shuffle: bool,
    /// Seed for fresh weights, row order and dropout.
    pub seed: u64,
    /// Keep only block inputs and recompute each block in the backward pass.
    pub gradient_checkpointing: bool,
    /// Threads, one a core; 0 means as many as there are cores. The result does not depend on it.
    pub workers: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            learning_rate: 2e-4,
            num_train_epochs: 1.0,
            max_steps: None,
            per_device_train_batch_size: 16,
            gradient_accumulation_steps: 1,
            lr_scheduler_type: Scheduler::Linear,
            warmup_steps: 0,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            max_grad_explosion: 1000.0,
            shuffle: true,
            seed: 0,
            gradient_checkpointing: false,
            workers: 0,
        }
    }
}

impl TrainConfig {
    /// Number of rows per optimiser step.
    pub fn effective_batch(&self) -> usize {
        (self.per_device_train_batch_size * self.gradient_accumulation_steps).max(1)
    }

    /// Optimiser steps over `rows` rows; the last, short batch of an epoch is a step too.
    pub fn steps(&self, rows: usize) -> u64 {
        let per_epoch = rows.div_ceil(self.effective_batch()) as f64;
        self.max_steps.unwrap_or((per_epoch * self.num_train_epochs).ceil() as u64)
    }
}
