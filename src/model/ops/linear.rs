//! `y = x Wᵀ` with `x [tokens, in]`, `W [out, in]`: frozen (a gradient for the input only), trainable, or frozen with a
//! LoRA beside it, `y = x Wᵀ + s · (drop(x) Aᵀ) Bᵀ` with `A [r, in]`, `B [out, r]` (Hu et al. 2021), as one node.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, MetalStorage, Result, Shape, Storage,
    Tensor,
};

use super::dropout::Mask;
use super::weight::{Weight, times, times_transposed};
use super::{f32_slice, uses_cpu_kernels, with_slices};
use crate::model::cpu::few_rows;
use crate::model::cpu::product::{Matrix, multiply, product, scaled, transposed};
use crate::model::cpu::simd::add;

/// `x Wᵀ` where `W` never gets a gradient.
pub fn frozen_linear(x: &Tensor, weight: impl Into<Weight>) -> Result<Tensor> {
    let weight = weight.into();
    if !uses_cpu_kernels(x) {
        return plain_linear(x, &weight.to_tensor());
    }
    x.contiguous()?.apply_op1(Frozen { weight })
}

/// `x Wᵀ` where both get gradients.
pub fn trainable_linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if !uses_cpu_kernels(x) {
        return x.matmul(&weight.t()?);
    }
    x.contiguous()?.apply_op2(weight, Trainable)
}

/// A frozen linear and its LoRA. `mask` is the dropout of this pass, if any.
pub fn lora_linear(
    x: &Tensor,
    weight: impl Into<Weight>,
    a: &Tensor,
    b: &Tensor,
    scale: f32,
    mask: Option<Mask>,
) -> Result<Tensor> {
    let weight = weight.into();
    if !uses_cpu_kernels(x) {
        let dropped = match mask {
            Some(mask) => (x * mask.factors(x)?)?,
            None => x.clone(),
        };
        let y = plain_linear(x, &weight.to_tensor())?;
        return y + (dropped.matmul(&a.t()?)?.matmul(&b.t()?)? * f64::from(scale))?;
    }
    x.contiguous()?.apply_op3(a, b, Lora { weight, scale, mask, low: OnceLock::new() })
}

/// The same without dropout in candle's own ops, whose gradients are candle's.
pub fn reference_lora_linear(x: &Tensor, weight: &Tensor, a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor> {
    x.matmul(&weight.t()?)? + (x.matmul(&a.t()?)?.matmul(&b.t()?)? * f64::from(scale))?
}

/// `x Wᵀ` in candle's own ops, in the weight's type where the device multiplies it; from and to f32. candle's product would
/// make the frozen weight's gradient too: it runs outside the graph, and the node's backward pass is written out.
fn plain_linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let output = times_plain(&x.detach(), &weight.t()?)?;
    x.apply_op1(Plain { weight: weight.clone(), output })
}

/// `a b` from and to f32. The processor multiplies f32 only.
pub(crate) fn times_plain(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dtype = if a.device().is_cpu() { DType::F32 } else { b.dtype() };
    a.to_dtype(dtype)?.matmul(&b.to_dtype(dtype)?)?.to_dtype(DType::F32)
}

/// A frozen linear whose product is made already.
struct Plain {
    weight: Tensor,
    output: Tensor,
}

impl Plain {
    /// A copy of the product's storage, by whichever device it is on.
    fn copied<R>(&self, body: impl FnOnce(&Storage, &Layout) -> Result<R>) -> Result<(R, Shape)> {
        let (storage, layout) = self.output.storage_and_layout();
        Ok((body(&storage, layout)?, self.output.shape().clone()))
    }
}

impl CustomOp1 for Plain {
    fn name(&self) -> &'static str {
        "plain-frozen-linear"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.copied(|storage, layout| match storage {
            Storage::Cpu(storage) => storage.try_clone(layout),
            _ => candle_core::bail!("a product that is not on its argument's device"),
        })
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.copied(|storage, layout| match storage {
            Storage::Cuda(storage) => storage.try_clone(layout),
            _ => candle_core::bail!("a product that is not on its argument's device"),
        })
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        self.copied(|storage, layout| match storage {
            Storage::Metal(storage) => storage.try_clone(layout),
            _ => candle_core::bail!("a product that is not on its argument's device"),
        })
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(times_plain(&dy.detach(), &self.weight)?))
    }
}

struct Frozen {
    weight: Weight,
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (out, width) = self.weight.dims2()?;
        let x = f32_slice(x, layout)?;
        Ok((CpuStorage::F32(times_transposed(x, &self.weight)?), Shape::from((x.len() / width, out))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = with_slices([&dy.contiguous()?], |[dy]| times(dy, &self.weight))?;
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
        let (x, w) = (f32_slice(x, xl)?, f32_slice(w, wl)?);
        let tokens = x.len() / width;
        let y = multiply(Matrix::rows(x, tokens, width), Matrix::rows(w, out, width).t());
        Ok((CpuStorage::F32(y), Shape::from((tokens, out))))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((out, width), tokens) = (w.dims2()?, x.dim(0)?);
        let dy = dy.contiguous()?;
        let dx = match x.track_op() {
            true => Some(Tensor::from_vec(with_slices([&dy], |[dy]| times(dy, w))?, x.shape(), x.device())?),
            false => None,
        };
        let dw = with_slices([x, &dy], |[x, dy]| {
            Ok(multiply(Matrix::rows(dy, tokens, out).t(), Matrix::rows(x, tokens, width)))
        })?;
        Ok((dx, Some(Tensor::from_vec(dw, w.shape(), w.device())?)))
    }
}

/// A LoRA on slices: `A [r, in]`, `B [out, r]`, its scale, and the dropout of this pass, if any.
#[derive(Clone, Copy)]
pub(crate) struct Low<'a> {
    pub a: &'a [f32],
    pub b: &'a [f32],
    pub rank: usize,
    pub scale: f32,
    pub mask: Option<&'a Mask>,
}

impl Low<'_> {
    fn width(&self) -> usize {
        self.a.len() / self.rank
    }

    fn dropped(&self, x: &[f32]) -> Option<Vec<f32>> {
        self.mask.map(|mask| mask.apply(x, self.width()))
    }

    /// `y += s · low Bᵀ` with `low = drop(x) Aᵀ`, `[tokens, r]`, which comes back: it is small, and the backward pass asks
    /// for it again.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) -> Vec<f32> {
        let (width, out) = (self.width(), self.b.len() / self.rank);
        let tokens = x.len() / width;
        let dropped = self.dropped(x);
        let input = Matrix::rows(dropped.as_deref().unwrap_or(x), tokens, width);
        let low = multiply(input, Matrix::rows(self.a, self.rank, width).t());
        let b = Matrix::rows(self.b, out, self.rank).t();
        let factor = Matrix::rows(&low, tokens, self.rank);
        if tokens <= few_rows::MAX_ROWS {
            // Without adding at once it is a product for few rows, in which no row's sum depends on the others.
            y.iter_mut().zip(multiply(factor, b)).for_each(|(y, added)| *y += self.scale * added);
        } else {
            product(factor, b, y, out, self.scale, true);
        }
        low
    }

    /// Gradients of A and B; the input's is added to `dx`, if that is wanted.
    pub fn backward(&self, x: &[f32], low: &[f32], dy: &[f32], dx: Option<&mut [f32]>) -> (Vec<f32>, Vec<f32>) {
        let (width, out, rank) = (self.width(), self.b.len() / self.rank, self.rank);
        let tokens = x.len() / width;
        let dropped = self.dropped(x);
        let input = Matrix::rows(dropped.as_deref().unwrap_or(x), tokens, width);
        // s · dy B; B is transposed, so that both factors are read along their rows.
        let b_transposed = transposed(self.b, out, rank);
        let mut dlow = multiply(Matrix::rows(dy, tokens, out), Matrix::rows(&b_transposed, rank, out).t()); // [tokens, r]
        dlow.iter_mut().for_each(|g| *g *= self.scale);
        // s · dyᵀ low, made as its transpose: the long side is the one that fills vectors.
        let db = scaled(Matrix::rows(low, tokens, rank).t(), Matrix::rows(dy, tokens, out), self.scale);
        let dlow = Matrix::rows(&dlow, tokens, rank);
        let a = Matrix::rows(self.a, rank, width);
        if let Some(dx) = dx {
            match self.mask {
                None => product(dlow, a, dx, width, 1.0, true),
                Some(mask) => add(dx, &mask.apply(&multiply(dlow, a), width)),
            }
        }
        (multiply(dlow.t(), input), transposed(&db, rank, out)) // [r, in], [out, r]
    }
}

struct Lora {
    weight: Weight,
    scale: f32,
    mask: Option<Mask>,
    /// `drop(x) Aᵀ`, kept by the forward pass for the backward pass.
    low: OnceLock<Vec<f32>>,
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
        let (x, a, b) = (f32_slice(x, xl)?, f32_slice(a, al)?, f32_slice(b, bl)?);
        let (out, width) = self.weight.dims2()?;
        let mut y = times_transposed(x, &self.weight)?;
        let low = Low { a, b, rank, scale: self.scale, mask: self.mask.as_ref() }.forward(x, &mut y);
        // Set once: an op runs forward once.
        let _ = self.low.set(low);
        Ok((CpuStorage::F32(y), Shape::from((x.len() / width, out))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let rank = a.dim(0)?;
        let Some(kept) = self.low.get() else {
            candle_core::bail!("the LoRA's backward pass ran before its forward pass")
        };
        let (dx, da, db) = with_slices([x, a, b, &dy.contiguous()?], |[x_values, a, b, dy]| {
            let low = Low { a, b, rank, scale: self.scale, mask: self.mask.as_ref() };
            let mut dx = if x.track_op() { Some(times(dy, &self.weight)?) } else { None };
            let (da, db) = low.backward(x_values, kept, dy, dx.as_deref_mut());
            Ok((dx, da, db))
        })?;
        let dx = dx.map(|dx| Tensor::from_vec(dx, x.shape(), x.device())).transpose()?;
        let da = Tensor::from_vec(da, a.shape(), a.device())?;
        let db = Tensor::from_vec(db, b.shape(), b.device())?;
        Ok((dx, Some(da), Some(db)))
    }
}
