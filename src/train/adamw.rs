//! AdamW (Loshchilov and Hutter 2019) as torch computes it, moments open to be saved.

use std::collections::BTreeMap;
use std::sync::Mutex;

use candle_core::{Result, Tensor, Var};

use super::trainable::Trainable;
use crate::error::Error;
use crate::model::cpu::simd::{all_finite, vectorised};
use crate::model::ops::to_vec;
use crate::record::TrainConfig;
use crate::sync::unpoisoned;

/// Running means of a weight's gradient and of its square.
pub type Moments = (Vec<f32>, Vec<f32>);

/// First and second moments of every trained weight, each behind its own lock: weights are updated side by side.
pub struct AdamW {
    moments: Vec<Mutex<Moments>>,
}

/// What one step does to every weight.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    clip: f32,
    betas: (f32, f32),
    step: f32,
    root: f32,
    eps: f32,
    keep: f32,
}

impl Update {
    /// Step `step` (0-based) at `learning_rate`, gradients multiplied by `clip` first.
    pub fn new(step: u64, learning_rate: f64, clip: f64, config: &TrainConfig) -> Self {
        let correction = |beta: f64| 1.0 - beta.powi(step as i32 + 1);
        Self {
            clip: clip as f32,
            betas: (config.adam_beta1 as f32, config.adam_beta2 as f32),
            step: (learning_rate / correction(config.adam_beta1)) as f32,
            root: (1.0 / correction(config.adam_beta2).sqrt()) as f32,
            eps: config.adam_epsilon as f32,
            keep: (1.0 - learning_rate * config.weight_decay) as f32,
        }
    }
}

vectorised! {
    fn update(p: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32], u: &Update, keep: f32) {
        let (b1, b2) = u.betas;
        for i in 0..p.len() {
            let g = grad[i] * u.clip;
            first[i] = b1 * first[i] + (1.0 - b1) * g;
            second[i] = b2 * second[i] + (1.0 - b2) * g * g;
            p[i] = p[i] * keep - u.step * first[i] / (second[i].sqrt() * u.root + u.eps);
        }
    }
}

impl AdamW {
    /// An optimiser with zero moments for these weights.
    pub fn new(vars: &[Var]) -> Self {
        let zeros = |var: &Var| Mutex::new((vec![0.0; var.elem_count()], vec![0.0; var.elem_count()]));
        Self { moments: vars.iter().map(zeros).collect() }
    }

    /// Goes on with moments that were saved, one pair for every weight by its name.
    pub fn resume(trained: &Trainable, saved: &BTreeMap<String, Moments>) -> crate::error::Result<Self> {
        let of = |(name, var): (&String, &Var)| match saved.get(name) {
            Some((first, second)) if first.len() == var.elem_count() && second.len() == var.elem_count() => {
                Ok(Mutex::new((first.clone(), second.clone())))
            }
            _ => Err(Error::usage(format!("the checkpoint has no moments for `{name}` of {:?}", var.shape()))),
        };
        let moments = trained.names.iter().zip(&trained.vars).map(of).collect::<crate::error::Result<_>>()?;
        Ok(Self { moments })
    }

    /// The moments as they stand, by the weights' names.
    pub fn moments(&self, trained: &Trainable) -> BTreeMap<String, Moments> {
        let of = |moments: &Mutex<Moments>| unpoisoned(moments.lock()).clone();
        trained.names.iter().cloned().zip(self.moments.iter().map(of)).collect()
    }

    /// Updates one weight. Decay is decoupled and spares vectors (norms, biases). Tells whether the weight is still
    /// finite; one that would not be is left as it was.
    pub fn step(&self, index: usize, var: &Var, grad: &[f32], u: &Update) -> Result<bool> {
        let keep = if var.rank() > 1 { u.keep } else { 1.0 };
        let mut values = to_vec(var)?;
        let mut moments = unpoisoned(self.moments[index].lock());
        let (first, second) = &mut *moments;
        update(&mut values, grad, first, second, u, keep);
        let finite = all_finite(&values);
        if finite {
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
        }
        Ok(finite)
    }
}

/// The factor by which torch's `clip_grad_norm_` scales gradients of this norm; `max_norm` 0 turns it off.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    if max_norm > 0.0 { (max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 }
}
