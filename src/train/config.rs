//! Everything that a training run will do, resolved. Names are Hugging Face's.

use serde::{Deserialize, Serialize};

use super::schedule::Scheduler;

/// How to train. The defaults are torch's AdamW and Hugging Face's trainer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Passes over the rows.
    pub num_train_epochs: f64,
    /// Ends training earlier or later than the epochs say.
    pub max_steps: Option<u64>,
    /// Rows of a micro-batch.
    pub per_device_train_batch_size: usize,
    /// Micro-batches of an optimiser step.
    pub gradient_accumulation_steps: usize,
    /// How the learning rate falls.
    pub lr_scheduler_type: Scheduler,
    /// Steps over which it rises first.
    pub warmup_steps: u64,
    /// Decoupled; matrices only.
    pub weight_decay: f64,
    /// AdamW's β₁.
    pub adam_beta1: f64,
    /// AdamW's β₂.
    pub adam_beta2: f64,
    /// AdamW's ε.
    pub adam_epsilon: f64,
    /// Gradients are scaled down to this norm; 0 turns that off.
    pub max_grad_norm: f64,
    /// A gradient this many times larger than is usual stops the training ([`super::explosion`]); 0 turns that off.
    pub max_grad_explosion: f64,
    /// Whether rows are shuffled in every epoch.
    pub shuffle: bool,
    /// Of order and dropout.
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
    /// Rows of an optimiser step.
    pub fn effective_batch(&self) -> usize {
        (self.per_device_train_batch_size * self.gradient_accumulation_steps).max(1)
    }

    /// Optimiser steps over `rows` rows; the last, short batch of an epoch is a step too.
    pub fn steps(&self, rows: usize) -> u64 {
        let per_epoch = rows.div_ceil(self.effective_batch()) as f64;
        self.max_steps.unwrap_or((per_epoch * self.num_train_epochs).ceil() as u64)
    }
}
