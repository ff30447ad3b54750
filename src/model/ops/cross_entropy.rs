//! Output head and cross-entropy in one: `loss_t = logsumexp(h_t Wᵀ) − (h_t Wᵀ)[target_t]`, and the gradient of
//! `Σ weight_t · loss_t`, in chunks, so that the logits of all tokens never exist at once. Only tokens with a weight
//! cost anything.

use candle_core::{Result, Tensor};

use super::linear::times_plain;
use super::softcap::{softcap, softcap_slopes, through};
use super::weight::{Weight, times, times_transposed};
use super::{uses_cpu_kernels, with_slices};
use crate::model::cpu::product::{Matrix, product};
use crate::model::cpu::simd::{exp, max, sum, vectorised};

/// Maximum tokens per chunk: logits exist for one chunk at a time.
const CHUNK: usize = 256;

/// Per-token losses and gradients of their weighted sum.
pub struct CrossEntropy {
    /// `loss_t` of every token, 0 where the weight is 0; not multiplied by the weight.
    pub losses: Vec<f32>,
    /// d(Σ weight · loss)/dh, `[tokens, d_model]`.
    pub hidden_grad: Tensor,
    /// d(Σ weight · loss)/dW, `[vocab, d_model]`, if asked for.
    pub weight_grad: Option<Tensor>,
}

vectorised! {
    /// Turns rows of logits into `weight · (softmax − onehot)` and returns the losses.
    fn backward_rows(logits: &mut [f32], vocab: usize, targets: &[u32], weights: &[f32], losses: &mut [f32]) {
        for (i, row) in logits.chunks_exact_mut(vocab).enumerate() {
            let target = targets[i] as usize;
            let (largest, wanted) = (max(row), row[target]);
            for x in row.iter_mut() {
                *x = exp(*x - largest);
            }
            let total = sum(row);
            losses[i] = total.ln() + largest - wanted;
            let factor = weights[i] / total;
            for x in row.iter_mut() {
                *x *= factor;
            }
            row[target] -= weights[i];
        }
    }
}

vectorised! {
    /// The losses of rows of logits, which are overwritten; the same numbers as with gradients.
    fn losses_of_rows(logits: &mut [f32], vocab: usize, targets: &[u32], losses: &mut [f32]) {
        for (i, row) in logits.chunks_exact_mut(vocab).enumerate() {
            let (largest, wanted) = (max(row), row[targets[i] as usize]);
            for x in row.iter_mut() {
                *x = exp(*x - largest);
            }
            losses[i] = sum(row).ln() + largest - wanted;
        }
    }
}

/// `−log softmax(h_t Wᵀ)[target_t]` of every row of `hidden [tokens, d_model]`, without any gradient: about half the cost of
/// [`cross_entropy`].
pub fn token_losses(hidden: &Tensor, head: &Weight, cap: Option<f32>, targets: &[u32]) -> Result<Vec<f32>> {
    let (tokens, width) = hidden.dims2()?;
    let vocab = head.dims2()?.0;
    if let Some(bad) = targets.iter().find(|&&t| t as usize >= vocab) {
        candle_core::bail!("token {bad} is outside the model's vocabulary of {vocab}");
    }
    if !uses_cpu_kernels(hidden) {
        return Ok(on_device(hidden, &head.to_tensor(), cap, targets, &vec![1.0; tokens], false)?.losses);
    }
    let mut losses = vec![0.0; tokens];
    // As with gradients, chunks are of one size.
    let size = tokens.div_ceil(tokens.div_ceil(CHUNK).max(1)).max(1);
    with_slices([&hidden.contiguous()?], |[hidden]| {
        let chunks = hidden.chunks(size * width).zip(targets.chunks(size)).zip(losses.chunks_mut(size));
        for ((rows, targets), losses) in chunks {
            let mut logits = times_transposed(rows, head)?; // [chunk, vocab]
            if let Some(cap) = cap {
                softcap_slopes(&mut logits, cap);
            }
            losses_of_rows(&mut logits, vocab, targets, losses);
        }
        Ok(())
    })?;
    Ok(losses)
}

/// Losses and gradients for `hidden [tokens, d_model]` under `head [vocab, d_model]`; `weights[t]` is the weight of
/// predicting `targets[t]` from token t. Logits are kept within ± `cap`, if there is one.
pub fn cross_entropy(
    hidden: &Tensor,
    head: impl Into<Weight>,
    cap: Option<f32>,
    targets: &[u32],
    weights: &[f32],
    with_weight_grad: bool,
) -> Result<CrossEntropy> {
    let (tokens, width) = hidden.dims2()?;
    let head = &head.into();
    let vocab = head.dims2()?.0;
    if let Some(bad) = targets.iter().find(|&&t| t as usize >= vocab) {
        candle_core::bail!("token {bad} is outside the model's vocabulary of {vocab}");
    }
    if !uses_cpu_kernels(hidden) {
        return on_device(hidden, &head.to_tensor(), cap, targets, weights, with_weight_grad);
    }
    let wanted: Vec<usize> = (0..tokens).filter(|&t| weights[t] != 0.0).collect();
    let mut losses = vec![0.0; tokens];
    let mut hidden_grad = vec![0.0; tokens * width];
    let mut weight_grad = vec![0.0; if with_weight_grad { vocab * width } else { 0 }];
    with_slices([&hidden.contiguous()?], |[hidden]| {
        // Chunks of one size: a short last one would lay the head's weights out for few rows.
        for chunk in wanted.chunks(wanted.len().div_ceil(wanted.len().div_ceil(CHUNK).max(1)).max(1)) {
            let n = chunk.len();
            let rows: Vec<f32> = chunk.iter().flat_map(|&t| &hidden[t * width..(t + 1) * width]).copied().collect();
            let (targets, weights): (Vec<u32>, Vec<f32>) = chunk.iter().map(|&t| (targets[t], weights[t])).unzip();
            let mut logits = times_transposed(&rows, head)?; // [n, vocab]
            let slopes = cap.map(|cap| softcap_slopes(&mut logits, cap));
            let mut chunk_losses = vec![0.0; n];
            backward_rows(&mut logits, vocab, &targets, &weights, &mut chunk_losses);
            through(slopes.as_deref(), &mut logits);
            let back = times(&logits, head)?;
            if with_weight_grad {
                let grad = Matrix::rows(&logits, n, vocab);
                product(grad.t(), Matrix::rows(&rows, n, width), &mut weight_grad, width, 1.0, true);
            }
            for (i, &t) in chunk.iter().enumerate() {
                losses[t] = chunk_losses[i];
                hidden_grad[t * width..(t + 1) * width].copy_from_slice(&back[i * width..(i + 1) * width]);
            }
        }
        Ok(())
    })?;
    let hidden_grad = Tensor::from_vec(hidden_grad, (tokens, width), hidden.device())?;
    let weight_grad =
        with_weight_grad.then(|| Tensor::from_vec(weight_grad, (vocab, width), hidden.device())).transpose()?;
    Ok(CrossEntropy { losses, hidden_grad, weight_grad })
}

/// The same in candle's own ops, with the gradient written out.
fn on_device(
    hidden: &Tensor,
    head: &Tensor,
    cap: Option<f32>,
    targets: &[u32],
    weights: &[f32],
    with_weight_grad: bool,
) -> Result<CrossEntropy> {
    let device = hidden.device();
    let wanted: Vec<u32> = (0..weights.len()).filter(|&t| weights[t] != 0.0).map(|t| t as u32).collect();
    let mut losses = vec![0.0; weights.len()];
    let mut hidden_grad = hidden.zeros_like()?;
    let mut weight_grad = if with_weight_grad { Some(head.zeros_like()?) } else { None };
    for chunk in wanted.chunks(CHUNK) {
        let n = chunk.len();
        let column = |of: &dyn Fn(usize) -> f32| {
            Tensor::from_vec(chunk.iter().map(|&t| of(t as usize)).collect::<Vec<_>>(), (n, 1), device)
        };
        let chosen: Vec<u32> = chunk.iter().map(|&t| targets[t as usize]).collect();
        let (at, chosen) = (Tensor::from_slice(chunk, n, device)?, Tensor::from_vec(chosen, (n, 1), device)?);
        let rows = hidden.index_select(&at, 0)?; // [n, d_model]
        let plain = times_plain(&rows, &head.t()?)?; // [n, vocab]
        let logits = cap.map_or_else(|| Ok(plain.clone()), |cap| softcap(&plain, cap))?;
        let of_chunk = (logits.log_sum_exp(1)? - logits.gather(&chosen, 1)?.squeeze(1)?)?;
        for (&t, loss) in chunk.iter().zip(of_chunk.to_vec1::<f32>()?) {
            losses[t as usize] = loss;
        }
        let shares = candle_nn::ops::softmax(&logits, 1)?;
        let grad = shares.scatter_add(&chosen, &column(&|_| -1.0)?, 1)?.broadcast_mul(&column(&|t| weights[t])?)?;
        let grad = match cap {
            // The cap's slope is 1 − tanh².
            Some(cap) => (grad * (1.0 - (logits / f64::from(cap))?.sqr()?)?)?,
            None => grad,
        };
        hidden_grad = hidden_grad.index_add(&at, &times_plain(&grad, head)?, 0)?;
        if let Some(sum) = &mut weight_grad {
            *sum = (&*sum + grad.t()?.matmul(&rows)?)?;
        }
    }
    Ok(CrossEntropy { losses, hidden_grad, weight_grad })
}
