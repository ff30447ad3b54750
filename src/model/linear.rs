//! A linear layer: its weight, an optional bias and an optional LoRA.

use candle_core::{Result, Tensor};

use super::block::Pass;
use super::lora::Lora;
use super::ops::dropout::Mask;
use super::ops::linear::{frozen_linear, trainable_linear};
use crate::rng;

/// The weight `[out, in]` and how it is used.
#[derive(Debug, Clone)]
pub enum LinearWeight {
    /// f32 or bf16, never trained: only its input gets a gradient.
    Frozen(Tensor),
    /// A variable (pretraining).
    Trainable(Tensor),
}

impl LinearWeight {
    /// The tensor itself.
    pub fn tensor(&self) -> &Tensor {
        match self {
            Self::Frozen(weight) | Self::Trainable(weight) => weight,
        }
    }

    /// `x Wᵀ`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Frozen(weight) => frozen_linear(x, weight),
            Self::Trainable(weight) => trainable_linear(x, weight),
        }
    }
}

/// A linear with its place in the model.
#[derive(Debug, Clone)]
pub struct Linear {
    /// Module path as in the checkpoint, e.g. `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// `[out, in]`.
    pub weight: LinearWeight,
    /// `[out]`.
    pub bias: Option<Tensor>,
    /// Beside a frozen weight.
    pub lora: Option<Lora>,
}

impl Linear {
    /// `[tokens, in] → [tokens, out]`.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let y = match &self.lora {
            None => self.weight.forward(x)?,
            Some(lora) => lora.forward(x, self.weight.tensor(), self.mask(lora, pass))?,
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

    /// `(out, in)`.
    pub fn shape(&self) -> Result<(usize, usize)> {
        self.weight.tensor().dims2()
    }
}
