//! `y = x Wᵀ` with `x [tokens, in]`, `W [out, in]`: frozen (a gradient for the input only), trainable, or frozen with a
//! LoRA beside it, `y = x Wᵀ + s · (drop(x) Aᵀ) Bᵀ` with `A [r, in]`, `B [out, r]` (Hu et al. 2021), as one node.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::dropout::Mask;
use super::product::{Matrix, multiply, product, transposed};
use super::weight::{times, times_transposed};
use super::{read, values};

/// `x Wᵀ` where `W` (f32 or bf16) never gets a gradient.
pub fn frozen_linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return x.matmul(&weight.t()?);
    }
    x.contiguous()?.apply_op1(Frozen { weight: weight.clone() })
}

/// `x Wᵀ` where both get gradients.
pub fn trainable_linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return x.matmul(&weight.t()?);
    }
    x.contiguous()?.apply_op2(weight, Trainable)
}

/// A frozen linear and its LoRA. `mask` is the dropout of this pass, if any.
pub fn lora_linear(
    x: &Tensor,
    weight: &Tensor,
    a: &Tensor,
    b: &Tensor,
    scale: f32,
    mask: Option<Mask>,
) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return reference_lora_linear(x, weight, a, b, scale);
    }
    x.contiguous()?.apply_op3(a, b, Lora { weight: weight.clone(), scale, mask, low: OnceLock::new() })
}

/// The same without dropout in candle's own ops.
pub fn reference_lora_linear(x: &Tensor, weight: &Tensor, a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor> {
    x.matmul(&weight.t()?)? + (x.matmul(&a.t()?)?.matmul(&b.t()?)? * f64::from(scale))?
}

struct Frozen {
    weight: Tensor,
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (out, width) = self.weight.dims2()?;
        let x = values(x, layout)?;
        Ok((CpuStorage::F32(times_transposed(x, &self.weight)?), Shape::from((x.len() / width, out))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = read([&dy.contiguous()?], |[dy]| times(dy, &self.weight))?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

struct Trainable;

impl CustomOp2 for Trainable {
    fn name(&self) -> &'static str {
        "trainable-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout, w: &CpuStorage, wl: &Layout) -> Result<(CpuStorage, Shape)> {
        let (out, width) = wl.shape().dims2()?;
        let (x, w) = (values(x, xl)?, values(w, wl)?);
        let tokens = x.len() / width;
        let y = multiply(Matrix::rows(x, tokens, width), Matrix::rows(w, out, width).t());
        Ok((CpuStorage::F32(y), Shape::from((tokens, out))))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((out, width), tokens) = (w.dims2()?, x.dim(0)?);
        let dy = dy.contiguous()?;
        let dx = match x.track_op() {
            true => Some(Tensor::from_vec(read([&dy], |[dy]| times(dy, w))?, x.shape(), x.device())?),
            false => None,
        };
        let dw =
            read([x, &dy], |[x, dy]| Ok(multiply(Matrix::rows(dy, tokens, out).t(), Matrix::rows(x, tokens, width))))?;
        Ok((dx, Some(Tensor::from_vec(dw, w.shape(), w.device())?)))
    }
}

struct Lora {
    weight: Tensor,
    scale: f32,
    mask: Option<Mask>,
    /// `drop(x) Aᵀ`, `[tokens, r]`: small, and asked for again by the backward pass.
    low: OnceLock<Vec<f32>>,
}

impl Lora {
    fn dropped(&self, x: &[f32], width: usize) -> Option<Vec<f32>> {
        self.mask.as_ref().map(|mask| mask.apply(x, width))
    }
}

impl CustomOp3 for Lora {
    fn name(&self) -> &'static str {
        "lora-linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let rank = al.shape().dims2()?.0;
        let (x, a, b) = (values(x, xl)?, values(a, al)?, values(b, bl)?);
        let (out, width) = self.weight.dims2()?;
        let tokens = x.len() / width;
        let mut y = times_transposed(x, &self.weight)?;
        let dropped = self.dropped(x, width);
        let low = multiply(Matrix::rows(dropped.as_deref().unwrap_or(x), tokens, width), Matrix::rows(a, rank, width).t());
        product(Matrix::rows(&low, tokens, rank), Matrix::rows(b, out, rank).t(), &mut y, out, self.scale, true);
        // Set once: an op runs forward once.
        let _ = self.low.set(low);
        Ok((CpuStorage::F32(y), Shape::from((tokens, out))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let ((rank, width), out, tokens) = (a.dims2()?, b.dim(0)?, x.dim(0)?);
        let dy = dy.contiguous()?;
        let (dx, da, db) = read([x, a, b, &dy], |[x_values, a, b, dy]| {
            let dropped = self.dropped(x_values, width);
            let input = Matrix::rows(dropped.as_deref().unwrap_or(x_values), tokens, width);
            let Some(low) = self.low.get() else { candle_core::bail!("a LoRA's backward pass before its forward pass") };
            // s · dy B; B turned, so that both factors are read along their rows.
            let turned = transposed(b, out, rank);
            let mut du = multiply(Matrix::rows(dy, tokens, out), Matrix::rows(&turned, rank, out).t()); // [tokens, r]
            du.iter_mut().for_each(|g| *g *= self.scale);
            // s · dyᵀ u, made as its transpose: the long side is the one that fills vectors.
            let mut db = vec![0.0; rank * out];
            let low = Matrix::rows(low, tokens, rank).t();
            product(low, Matrix::rows(dy, tokens, out), &mut db, out, self.scale, false);
            let db = transposed(&db, rank, out); // [out, r]
            let du = Matrix::rows(&du, tokens, rank);
            let da = multiply(du.t(), input); // [r, in]
            let dx = match x.track_op() {
                false => None,
                true => {
                    let mut dx = times(dy, &self.weight)?;
                    match &self.mask {
                        None => product(du, Matrix::rows(a, rank, width), &mut dx, width, 1.0, true),
                        Some(mask) => {
                            let through = mask.apply(&multiply(du, Matrix::rows(a, rank, width)), width);
                            dx.iter_mut().zip(through).for_each(|(x, t)| *x += t);
                        }
                    }
                    Some(dx)
                }
            };
            Ok((dx, da, db))
        })?;
        let dx = dx.map(|dx| Tensor::from_vec(dx, x.shape(), x.device())).transpose()?;
        let da = Tensor::from_vec(da, a.shape(), a.device())?;
        let db = Tensor::from_vec(db, b.shape(), b.device())?;
        Ok((dx, Some(da), Some(db)))
    }
}
