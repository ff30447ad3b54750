//! Layer normalisation, `y = w · (x − mean(x)) / √(var(x) + ε) + b` over the last dimension (Ba, Kiros and Hinton 2016),
//! with a backward pass: candle's fast one has none and drops the graph without a word.

use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor};

use super::{f32_slice, uses_cpu_kernels, with_slices};
use crate::model::cpu::simd::{dot, sum, vectorised};

/// Normalises each row of `x [tokens, width]` with `weight [width]` and `bias [width]`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    if !uses_cpu_kernels(x) {
        return reference_layer_norm(x, weight, bias, eps);
    }
    x.contiguous()?.apply_op3(weight, bias, LayerNorm { eps })
}

/// The same in candle's own ops.
pub fn reference_layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(weight)?.broadcast_add(bias)
}

struct LayerNorm {
    eps: f32,
}

/// Mean and 1/√(var + ε) of a row. The variance is taken of the centred values: as a difference of two large sums it
/// would lose its digits.
#[inline(always)]
fn moments(x: &[f32], centred: &mut [f32], eps: f32) -> f32 {
    let mean = sum(x) / x.len() as f32;
    for (centred, x) in centred.iter_mut().zip(x) {
        *centred = x - mean;
    }
    1.0 / (dot(centred, centred) / x.len() as f32 + eps).sqrt()
}

vectorised! {
    fn forward(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        let width = weight.len();
        for (x, y) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let scale = moments(x, y, eps);
            for i in 0..width {
                y[i] = y[i] * scale * weight[i] + bias[i];
            }
        }
    }
}

vectorised! {
    /// With n = (x − mean)·r, r = 1/√(var+ε), u = w·dy: dx = r·(u − mean(u) − n·mean(u·n)), dw = Σ dy·n, db = Σ dy.
    fn backward(x: &[f32], weight: &[f32], dy: &[f32], eps: f32, dx: &mut [f32], dw: &mut [f32], db: &mut [f32]) {
        let width = weight.len();
        let (mut normal, mut upstream) = (vec![0f32; width], vec![0f32; width]);
        for ((x, dy), dx) in x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
            let scale = moments(x, &mut normal, eps);
            for i in 0..width {
                normal[i] *= scale;
                upstream[i] = dy[i] * weight[i];
                dw[i] += dy[i] * normal[i];
                db[i] += dy[i];
            }
            let (mean, pull) = (sum(&upstream) / width as f32, dot(&upstream, &normal) / width as f32);
            for i in 0..width {
                dx[i] = scale * (upstream[i] - mean - normal[i] * pull);
            }
        }
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(x, xl)?;
        let mut out = vec![0.0; x.len()];
        forward(x, f32_slice(w, wl)?, f32_slice(b, bl)?, self.eps, &mut out);
        Ok((CpuStorage::F32(out), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, db) = with_slices([x, w, &dy.contiguous()?], |[x, weight, dy]| {
            let mut dx = vec![0.0; x.len()];
            let (mut dw, mut db) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
            backward(x, weight, dy, self.eps, &mut dx, &mut dw, &mut db);
            Ok((dx, dw, db))
        })?;
        let grad = |values, of: &Tensor| of.track_op().then(|| Tensor::from_vec(values, of.shape(), of.device()));
        Ok((Some(Tensor::from_vec(dx, x.shape(), x.device())?), grad(dw, w).transpose()?, grad(db, b).transpose()?))
    }
}
