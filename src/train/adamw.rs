//! AdamW (Loshchilov and Hutter 2019) as torch computes it, moments open to be saved.

use candle_core::{Result, Tensor, Var};

use super::TrainConfig;
use crate::model::ops::simd::vectorised;
use crate::model::ops::to_vec;

/// First and second moments of every trained weight.
pub struct AdamW {
    first: Vec<Vec<f32>>,
    second: Vec<Vec<f32>>,
    steps: i32,
}

vectorised! {
    fn update(p: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32], betas: (f32, f32), step: f32, root: f32, eps: f32, keep: f32) {
        let (b1, b2) = betas;
        for i in 0..p.len() {
            let g = grad[i];
            first[i] = b1 * first[i] + (1.0 - b1) * g;
            second[i] = b2 * second[i] + (1.0 - b2) * g * g;
            p[i] = p[i] * keep - step * first[i] / (second[i].sqrt() * root + eps);
        }
    }
}

impl AdamW {
    /// Zero moments for these weights.
    pub fn new(vars: &[Var]) -> Self {
        let zeros = || vars.iter().map(|v| vec![0.0; v.elem_count()]).collect();
        Self { first: zeros(), second: zeros(), steps: 0 }
    }

    /// One update at `learning_rate`. Decay is decoupled and spares vectors (norms, biases).
    pub fn step(&mut self, vars: &[Var], grads: &[Vec<f32>], learning_rate: f64, config: &TrainConfig) -> Result<()> {
        self.steps += 1;
        let correction = |beta: f64| 1.0 - beta.powi(self.steps);
        let step = learning_rate / correction(config.adam_beta1);
        let root = 1.0 / correction(config.adam_beta2).sqrt();
        for (i, var) in vars.iter().enumerate() {
            let keep = if var.rank() > 1 { 1.0 - learning_rate * config.weight_decay } else { 1.0 };
            let mut values = to_vec(var)?;
            update(
                &mut values,
                &grads[i],
                &mut self.first[i],
                &mut self.second[i],
                (config.adam_beta1 as f32, config.adam_beta2 as f32),
                step as f32,
                root as f32,
                config.adam_epsilon as f32,
                keep as f32,
            );
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
        }
        Ok(())
    }
}

/// Scales gradients down to `max_norm` as torch's `clip_grad_norm_` does; returns the norm before.
pub fn clip_grad_norm(grads: &mut [Vec<f32>], max_norm: f64) -> f64 {
    let squares: f64 = grads.iter().flatten().map(|&g| f64::from(g) * f64::from(g)).sum();
    let norm = squares.sqrt();
    let factor = (max_norm / (norm + 1e-6)) as f32;
    if max_norm > 0.0 && factor < 1.0 {
        grads.iter_mut().flatten().for_each(|g| *g *= factor);
    }
    norm
}
