//! A LoRA linear on a gated activation, `y = g Wᵀ + s · (drop(g) Aᵀ) Bᵀ` with `g = silu(gate) · up`, without keeping `g`:
//! it is the widest tensor of a block, and making it again from `gate` and `up`, which are kept anyway, costs little.
//!
//! Two nodes, since a node takes three inputs: the first gives `g Wᵀ` and `drop(g) Aᵀ` one behind the other, the second
//! puts them together.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::dropout::Mask;
use super::linear::lora_linear;
use super::product::{Matrix, multiply, product, transposed};
use super::swiglu::{gated, gated_backward, swiglu};
use super::weight::{times, times_transposed};
use super::{read, values};

/// `gate` and `up` are `[tokens, in]`, the result is `[tokens, out]`. `mask` is the dropout of this pass, if any.
pub fn gated_lora_linear(
    [gate, up]: [&Tensor; 2],
    weight: &Tensor,
    a: &Tensor,
    b: &Tensor,
    scale: f32,
    mask: Option<Mask>,
) -> Result<Tensor> {
    if !gate.device().is_cpu() {
        return lora_linear(&swiglu(gate, up)?, weight, a, b, scale, mask);
    }
    let first = Both { weight: weight.clone(), mask };
    gate.contiguous()?.apply_op3(&up.contiguous()?, a, first)?.apply_op2(b, Together { tokens: gate.dim(0)?, scale })
}

/// `[tokens · out]` values of `g Wᵀ`, then `[tokens · r]` of `drop(g) Aᵀ`.
struct Both {
    weight: Tensor,
    mask: Option<Mask>,
}

impl CustomOp3 for Both {
    fn name(&self) -> &'static str {
        "gated-lora-linear"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gl: &Layout,
        up: &CpuStorage,
        ul: &Layout,
        a: &CpuStorage,
        al: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rank, width) = al.shape().dims2()?;
        let g = gated(values(gate, gl)?, values(up, ul)?);
        let tokens = g.len() / width;
        let mut both = times_transposed(&g, &self.weight)?;
        let dropped = self.mask.as_ref().map(|mask| mask.apply(&g, width));
        let dropped = Matrix::rows(dropped.as_deref().unwrap_or(&g), tokens, width);
        both.extend(multiply(dropped, Matrix::rows(values(a, al)?, rank, width).t()));
        let len = both.len();
        Ok((CpuStorage::F32(both), Shape::from(len)))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        a: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let ((tokens, width), rank) = (gate.dims2()?, a.dim(0)?);
        let (dgate, dup, da) = read([gate, up, a, &grad.contiguous()?], |[gate, up, a, grad]| {
            let (dy, dlow) = grad.split_at(grad.len() - tokens * rank);
            let dlow = Matrix::rows(dlow, tokens, rank);
            let a = Matrix::rows(a, rank, width);
            let mut dg = times(dy, &self.weight)?;
            let g = gated(gate, up);
            let da = match &self.mask {
                None => {
                    product(dlow, a, &mut dg, width, 1.0, true);
                    multiply(dlow.t(), Matrix::rows(&g, tokens, width))
                }
                Some(mask) => {
                    let through = mask.apply(&multiply(dlow, a), width);
                    dg.iter_mut().zip(through).for_each(|(sum, t)| *sum += t);
                    multiply(dlow.t(), Matrix::rows(&mask.apply(&g, width), tokens, width))
                }
            };
            let (dgate, dup) = gated_backward(gate, up, &dg);
            Ok((dgate, dup, da))
        })?;
        let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device()).map(Some);
        Ok((tensor(dgate, gate)?, tensor(dup, up)?, tensor(da, a)?))
    }
}

/// `y + s · low Bᵀ` from both, `B [out, r]`.
struct Together {
    tokens: usize,
    scale: f32,
}

impl CustomOp2 for Together {
    fn name(&self) -> &'static str {
        "gated-lora-linear-sum"
    }

    fn cpu_fwd(&self, both: &CpuStorage, layout: &Layout, b: &CpuStorage, bl: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((out, rank), tokens) = (bl.shape().dims2()?, self.tokens);
        let (y, low) = values(both, layout)?.split_at(tokens * out);
        let mut y = y.to_vec();
        let b = Matrix::rows(values(b, bl)?, out, rank).t();
        product(Matrix::rows(low, tokens, rank), b, &mut y, out, self.scale, true);
        Ok((CpuStorage::F32(y), Shape::from((tokens, out))))
    }

    fn bwd(&self, both: &Tensor, b: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((out, rank), tokens) = (b.dims2()?, self.tokens);
        let (dboth, db) = read([both, b, &dy.contiguous()?], |[both, b, dy]| {
            let turned = transposed(b, out, rank);
            let mut dlow = multiply(Matrix::rows(dy, tokens, out), Matrix::rows(&turned, rank, out).t()); // [tokens, r]
            dlow.iter_mut().for_each(|g| *g *= self.scale);
            let low = Matrix::rows(&both[tokens * out..], tokens, rank).t();
            let mut db = vec![0.0; rank * out];
            product(low, Matrix::rows(dy, tokens, out), &mut db, out, self.scale, false);
            Ok(([dy, dlow.as_slice()].concat(), transposed(&db, rank, out)))
        })?;
        let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device()).map(Some);
        Ok((tensor(dboth, both)?, tensor(db, b)?))
    }
}
