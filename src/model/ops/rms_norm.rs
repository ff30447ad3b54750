//! Root mean square normalisation, `y = w · x / √(mean(x²) + ε)` over the last dimension (Zhang and Sennrich 2019), with
//! a backward pass: candle's fast one has none and drops the graph without a word.

use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor};

use super::{f32_slice, filled_vec, uses_cpu_kernels, with_slices};
use crate::model::cpu::simd::{dot, vectorised};

/// Normalises each row of `x [tokens, width]` with `weight [width]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    if !uses_cpu_kernels(x) {
        return reference_rms_norm(x, weight, eps);
    }
    x.contiguous()?.apply_op2(weight, RmsNorm { eps })
}

/// The same in candle's own ops.
pub fn reference_rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    x.broadcast_div(&scale)?.broadcast_mul(weight)
}

/// RMS norm of each row of `x` on slices; rows are as long as `weight`.
pub(crate) fn normed(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    assert!(x.len().is_multiple_of(weight.len()), "rows of {} values", weight.len());
    // SAFETY: every value of every row is written.
    unsafe { filled_vec(x.len(), |out| forward(x, weight, eps, out)) }
}

/// Adds the input's gradient to `dx`, and the weight's to `dw`, if that is wanted.
pub(crate) fn add_grads(x: &[f32], weight: &[f32], dy: &[f32], eps: f32, dx: &mut [f32], dw: Option<&mut [f32]>) {
    let with_dw = dw.is_some();
    backward(x, weight, dy, eps, dx, dw.unwrap_or_default(), with_dw);
}

struct RmsNorm {
    eps: f32,
}

vectorised! {
    fn forward(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let width = weight.len();
        for (x, y) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let scale = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
            for i in 0..width {
                y[i] = x[i] * scale * weight[i];
            }
        }
    }
}

vectorised! {
    /// With r = 1/√(mean(x²)+ε): dx += r·(w·dy) − x·r³·⟨w·dy, x⟩/width, dw += Σ dy·x·r.
    fn backward(x: &[f32], weight: &[f32], dy: &[f32], eps: f32, dx: &mut [f32], dw: &mut [f32], with_dw: bool) {
        let width = weight.len();
        let mut upstream = vec![0f32; width];
        for ((x, dy), dx) in x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
            let scale = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
            for i in 0..width {
                upstream[i] = dy[i] * weight[i];
            }
            let pull = dot(&upstream, x) * scale * scale * scale / width as f32;
            for i in 0..width {
                dx[i] += upstream[i] * scale - x[i] * pull;
            }
            if with_dw {
                for i in 0..width {
                    dw[i] += dy[i] * x[i] * scale;
                }
            }
        }
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout, w: &CpuStorage, wl: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(x, xl)?;
        Ok((CpuStorage::F32(normed(x, f32_slice(w, wl)?, self.eps)), xl.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = with_slices([x, w, &dy.contiguous()?], |[x, weight, dy]| {
            let mut dx = vec![0.0; x.len()];
            let mut dw = vec![0.0; weight.len()];
            add_grads(x, weight, dy, self.eps, &mut dx, w.track_op().then_some(&mut dw[..]));
            Ok((dx, dw))
        })?;
        let dw = w.track_op().then(|| Tensor::from_vec(dw, w.shape(), w.device())).transpose()?;
        Ok((Some(Tensor::from_vec(dx, x.shape(), x.device())?), dw))
    }
}
