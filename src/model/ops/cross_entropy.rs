//! Output head and cross-entropy in one: `loss_t = logsumexp(h_t Wᵀ) − (h_t Wᵀ)[target_t]`, and the gradient of
//! `Σ weight_t · loss_t`, in chunks, so that the logits of all tokens never exist at once. Only tokens with a weight
//! cost anything.

use candle_core::{Result, Tensor};

use super::product::{Matrix, product};
use super::read;
use super::simd::{exp, max, sum, vectorised};
use super::softcap::{softcap, softcap_slopes, through};
use super::weight::{times, times_transposed};

/// Tokens of a chunk at most.
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

/// Losses and gradients for `hidden [tokens, d_model]` under `head [vocab, d_model]`; `weights[t]` is the weight of
/// predicting `targets[t]` from token t. Logits are kept within ± `cap`, if there is one.
pub fn cross_entropy(
    hidden: &Tensor,
    head: &Tensor,
    cap: Option<f32>,
    targets: &[u32],
    weights: &[f32],
    with_weight_grad: bool,
) -> Result<CrossEntropy> {
    let (tokens, width) = hidden.dims2()?;
    let vocab = head.dim(0)?;
    if let Some(bad) = targets.iter().find(|&&t| t as usize >= vocab) {
        candle_core::bail!("token {bad} is outside the model's vocabulary of {vocab}");
    }
    if !hidden.device().is_cpu() {
        return on_device(hidden, head, cap, targets, weights, with_weight_grad);
    }
    let wanted: Vec<usize> = (0..tokens).filter(|&t| weights[t] != 0.0).collect();
    let mut losses = vec![0.0; tokens];
    let mut hidden_grad = vec![0.0; tokens * width];
    let mut weight_grad = vec![0.0; if with_weight_grad { vocab * width } else { 0 }];
    read([&hidden.contiguous()?], |[hidden]| {
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
        with_weight_grad.then(|| Tensor::from_vec(weight_grad, (vocab, width), head.device())).transpose()?;
    Ok(CrossEntropy { losses, hidden_grad, weight_grad })
}

/// The same by candle's autograd.
fn on_device(
    hidden: &Tensor,
    head: &Tensor,
    cap: Option<f32>,
    targets: &[u32],
    weights: &[f32],
    with_weight_grad: bool,
) -> Result<CrossEntropy> {
    let tokens = hidden.dim(0)?;
    let (hidden_var, head_var) =
        (candle_core::Var::from_tensor(&hidden.detach())?, candle_core::Var::from_tensor(&head.detach())?);
    let head = if with_weight_grad { head_var.as_tensor() } else { head };
    let logits = hidden_var.matmul(&head.t()?)?.to_dtype(candle_core::DType::F32)?;
    let logits = cap.map_or_else(|| Ok(logits.clone()), |cap| softcap(&logits, cap))?;
    let targets = Tensor::from_slice(targets, (tokens, 1), hidden.device())?;
    let losses = (logits.log_sum_exp(1)? - logits.gather(&targets, 1)?.squeeze(1)?)?;
    let weight = Tensor::from_slice(weights, tokens, hidden.device())?;
    let grads = (&losses * &weight)?.sum_all()?.backward()?;
    let grad = |var: &candle_core::Var| match grads.get(var) {
        Some(grad) => Ok(grad.clone()),
        None => var.zeros_like(),
    };
    let mut losses = losses.to_vec1::<f32>()?;
    losses.iter_mut().zip(weights).filter(|(_, w)| **w == 0.0).for_each(|(l, _)| *l = 0.0);
    let weight_grad = if with_weight_grad { Some(grad(&head_var)?) } else { None };
    Ok(CrossEntropy { losses, hidden_grad: grad(&hidden_var)?, weight_grad })
}
