//! A low-rank update beside a linear: `y = x Wᵀ + (alpha / rank) · (drop(x) Aᵀ) Bᵀ` (Hu et al. 2021). Only the second
//! term is scaled.

use candle_core::{Device, Result, Tensor, Var};
use rand::Rng;

/// `A [rank, in]`, `B [out, rank]` and their scale. The tensors are variables while they are trained.
#[derive(Debug, Clone)]
pub struct Lora {
    /// Down.
    pub a: Tensor,
    /// Up.
    pub b: Tensor,
    /// α / r, or α / √r with rank stabilisation.
    pub scale: f32,
    /// Share of the input set to zero while training.
    pub dropout: f32,
}

impl Lora {
    /// A fresh adapter as PEFT makes it: A uniform in ±1/√in (Kaiming with a = √5), B zero, so that it changes nothing.
    pub fn fresh(shape: (usize, usize), rank: usize, scale: f32, dropout: f32, rng: &mut impl Rng) -> Result<Self> {
        let (out, width) = shape;
        let bound = 1.0 / (width as f32).sqrt();
        let a: Vec<f32> = (0..rank * width).map(|_| rng.random_range(-bound..bound)).collect();
        let a = Tensor::from_vec(a, (rank, width), &Device::Cpu)?;
        let b = Tensor::zeros((out, rank), candle_core::DType::F32, &Device::Cpu)?;
        Ok(Self { a, b, scale, dropout })
    }

    /// The same with both matrices as variables of their own.
    pub fn trainable(&self) -> Result<Self> {
        let variable = |t: &Tensor| Ok::<_, candle_core::Error>(Var::from_tensor(&t.detach())?.as_tensor().clone());
        Ok(Self { a: variable(&self.a)?, b: variable(&self.b)?, ..*self })
    }

    /// The same without a graph.
    pub fn frozen(&self) -> Self {
        Self { a: self.a.detach(), b: self.b.detach(), ..*self }
    }
}
