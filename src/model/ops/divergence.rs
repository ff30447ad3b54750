//! KL(trained ‖ base), the reverse KL that reinforcement learning from human feedback penalises, over the whole
//! vocabulary at every token with a weight: `KL_t = Σ_v p_v (ln p_v − ln q_v)` with p from the trained model's hidden
//! states and q from the base's under the same head; and the gradient of `Σ weight_t · KL_t`, which in the logits is
//! `p_v (ln p_v − ln q_v − KL_t)`.
//!
//! Plain candle ops on every device, in chunks, so that the logits of all tokens never exist at once.

use candle_core::{DType, Result, Tensor};
use candle_nn::ops::log_softmax;

use super::linear::{frozen_linear, times_plain};
use super::softcap::softcap;
use super::weight::{Weight, times};
use super::{uses_cpu_kernels, with_slices};

const CHUNK: usize = 128;

/// Per-token divergences and the gradient of their weighted sum.
pub struct Divergence {
    /// `KL_t` of every token, 0 where the weight is 0; not multiplied by the weight.
    pub values: Vec<f32>,
    /// d(Σ weight · KL)/dh, `[tokens, d_model]`.
    pub hidden_grad: Tensor,
}

/// For `hidden` and `base`, both `[tokens, d_model]` without a graph, under a frozen `head [vocab, d_model]` whose logits are
/// kept within ± `cap`, if there is one.
pub fn kl_divergence(
    hidden: &Tensor,
    base: &Tensor,
    head: impl Into<Weight>,
    cap: Option<f32>,
    weights: &[f32],
) -> Result<Divergence> {
    let head = &head.into();
    let mut values = vec![0.0; weights.len()];
    let mut hidden_grad = hidden.zeros_like()?;
    let wanted: Vec<u32> = (0..weights.len()).filter(|&t| weights[t] != 0.0).map(|t| t as u32).collect();
    for chunk in wanted.chunks(CHUNK) {
        let tokens = Tensor::from_slice(chunk, chunk.len(), hidden.device())?;
        let logits = |hidden: &Tensor| -> Result<Tensor> {
            let logits = frozen_linear(&hidden.index_select(&tokens, 0)?, head)?.to_dtype(DType::F32)?; // [chunk, vocab]
            cap.map_or_else(|| Ok(logits.clone()), |cap| softcap(&logits, cap))
        };
        let trained = logits(hidden)?;
        let (p, q) = (log_softmax(&trained, 1)?, log_softmax(&logits(base)?, 1)?);
        let (ratio, p) = ((&p - q)?, p.exp()?);
        let kl = (&p * &ratio)?.sum_keepdim(1)?; // [chunk, 1]
        let weight: Vec<f32> = chunk.iter().map(|&t| weights[t as usize]).collect();
        let weight = Tensor::from_vec(weight, (chunk.len(), 1), hidden.device())?;
        let logits_grad = (p * ratio.broadcast_sub(&kl)?)?.broadcast_mul(&weight)?;
        let logits_grad = match cap {
            // The cap's slope is 1 − tanh².
            Some(cap) => (logits_grad * (1.0 - (trained / f64::from(cap))?.sqr()?)?)?,
            None => logits_grad,
        };
        hidden_grad = hidden_grad.index_add(&tokens, &back(&logits_grad, head)?, 0)?;
        for (&t, kl) in chunk.iter().zip(kl.flatten_all()?.to_vec1::<f32>()?) {
            values[t as usize] = kl;
        }
    }
    Ok(Divergence { values, hidden_grad })
}

/// `dy W`: the gradient of the hidden states from that of the logits.
fn back(dy: &Tensor, head: &Weight) -> Result<Tensor> {
    if !uses_cpu_kernels(dy) {
        return times_plain(dy, &head.to_tensor());
    }
    let (rows, width) = (dy.dim(0)?, head.dims2()?.1);
    Tensor::from_vec(with_slices([&dy.contiguous()?], |[dy]| times(dy, head))?, (rows, width), dy.device())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use candle_core::Device;
    use rand::Rng;

    use super::*;
    use crate::model::ops::to_vec;

    fn matrix(name: &str, rows: usize, columns: usize) -> Vec<f32> {
        let mut rng = crate::rng::stream(5, name, &[]);
        (0..rows * columns).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    fn weighted(hidden: &[f32], cap: Option<f32>, weights: &[f32]) -> (f64, Divergence) {
        let tensor = |values: &[f32], rows| Tensor::from_slice(values, (rows, 6), &Device::Cpu).unwrap();
        let (base, head) = (matrix("base", 4, 6), matrix("head", 9, 6));
        let found = kl_divergence(&tensor(hidden, 4), &tensor(&base, 4), tensor(&head, 9), cap, weights).unwrap();
        let sum = found.values.iter().zip(weights).map(|(&v, &w)| f64::from(v) * f64::from(w)).sum();
        (sum, found)
    }

    #[test]
    fn the_gradient_matches_difference_quotients() {
        let (hidden, weights) = (matrix("hidden", 4, 6), [0.5, 0.0, 1.0, 0.25]);
        for cap in [None, Some(0.8)] {
            let grad = to_vec(&weighted(&hidden, cap, &weights).1.hidden_grad).unwrap();
            for i in 0..hidden.len() {
                let shifted = |by: f32| {
                    let mut moved = hidden.clone();
                    moved[i] += by;
                    weighted(&moved, cap, &weights).0
                };
                let numeric = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
                assert!((numeric - f64::from(grad[i])).abs() < 2e-4, "{i}: {numeric} against {}", grad[i]);
            }
            assert!(grad.iter().any(|g| g.abs() > 0.02), "{grad:?}");
            assert!(grad[6..12].iter().all(|g| *g == 0.0), "a token without weight has no gradient");
        }
    }

    #[test]
    fn the_model_itself_is_at_no_distance() {
        let (base, weights) = (matrix("base", 4, 6), [1.0; 4]);
        let (sum, found) = weighted(&base, None, &weights);
        assert!(sum.abs() < 1e-6);
        assert!(to_vec(&found.hidden_grad).unwrap().iter().all(|g| g.abs() < 1e-6));
        assert!(weighted(&matrix("hidden", 4, 6), None, &weights).1.values.iter().all(|kl| *kl > 1e-3));
    }
}
