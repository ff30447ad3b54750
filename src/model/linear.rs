//! A linear layer: its weight, an optional bias and an optional LoRA.

use candle_core::{Result, Tensor};

use super::lora::Lora;
use super::ops::dropout::Mask;
use super::ops::linear::{frozen_linear, trainable_linear};
use super::ops::weight::Weight;
use super::pass::Pass;
use crate::rng;

/// A linear with its place in the model.
#[derive(Debug, Clone)]
pub struct Linear {
    /// Module path as in the checkpoint, e.g. `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// `[out, in]`: frozen, unless it is a variable (pretraining).
    pub weight: Weight,
    /// Bias that is added to every row, `[out]`.
    pub bias: Option<Tensor>,
    /// Low-rank update whose output is added to that of the frozen weight.
    pub lora: Option<Lora>,
}

impl Linear {
    /// `x Wᵀ + bias`, plus the LoRA's output if there is one: `[tokens, in] → [tokens, out]`.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let y = match (&self.lora, &self.weight.with_products(pass.products)) {
            (Some(lora), weight) => lora.forward(x, weight, self.mask(lora, pass))?,
            (None, Weight::Dense(weight)) if weight.is_variable() => trainable_linear(x, weight)?,
            (None, weight) => frozen_linear(x, weight)?,
        };
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    /// The dropout of a pass on the LoRA's input, if there is any.
    pub(crate) fn mask(&self, lora: &Lora, pass: &Pass) -> Option<Mask> {
        pass.dropout.filter(|_| lora.dropout > 0.0).map(|key| Mask {
            probability: lora.dropout,
            key: rng::key(key, &self.path, &[]),
            segments: pass.attend.segments(),
        })
    }

    /// The weight's shape, `(out, in)`.
    pub fn shape(&self) -> Result<(usize, usize)> {
        self.weight.dims2()
    }
}
