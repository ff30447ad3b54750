//! The gated activation `silu(gate) · up`, `silu(x) = x / (1 + e⁻ˣ)` (Shazeer 2020). Nothing but the inputs is kept.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{f32_slice, filled_vec, uses_cpu_kernels, with_slices};
use crate::model::cpu::simd::{exp, vectorised};
use crate::model::cpu::team::each_slice;

/// Values per unit of work for the thread pool.
const PIECE: usize = 1 << 16;

/// `silu(gate) · up`, both `[tokens, intermediate]`.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if !uses_cpu_kernels(gate) {
        return reference_swiglu(gate, up);
    }
    gate.apply_op2(up, SwiGlu)
}

/// The same in candle's own ops.
pub fn reference_swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()? * up
}

/// `silu(gate) · up` on slices of equal length.
pub(crate) fn gated(gate: &[f32], up: &[f32]) -> Vec<f32> {
    assert_eq!(gate.len(), up.len(), "a gate for each value");
    // SAFETY: the pieces are all values, and each writes its own.
    unsafe { filled_vec(gate.len(), |out| each_slice([out], PIECE, |r, [out]| forward(&gate[r.clone()], &up[r], out))) }
}

/// Puts the gradients of gate and up, from the result's, in their places.
pub(crate) fn gated_backward(gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    each_slice([gate, up], PIECE, |r, [gate, up]| backward(gate, up, &dy[r]));
}

struct SwiGlu;

vectorised! {
    fn forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((g, u), y) in gate.iter().zip(up).zip(out) {
            *y = g / (1.0 + exp(-g)) * u;
        }
    }
}

vectorised! {
    /// silu'(g) = σ + g·σ·(1 − σ).
    fn backward(gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
        for ((gate, up), dy) in gate.iter_mut().zip(up).zip(dy) {
            let sigmoid = 1.0 / (1.0 + exp(-*gate));
            let silu = *gate * sigmoid;
            *gate = dy * *up * (sigmoid + silu * (1.0 - sigmoid));
            *up = dy * silu;
        }
    }
}

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, gate: &CpuStorage, gl: &Layout, up: &CpuStorage, ul: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(gated(f32_slice(gate, gl)?, f32_slice(up, ul)?)), gl.shape().clone()))
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dgate, dup) = with_slices([gate, up, &dy.contiguous()?], |[gate, up, dy]| {
            let (mut dgate, mut dup) = (gate.to_vec(), up.to_vec());
            gated_backward(&mut dgate, &mut dup, dy);
            Ok((dgate, dup))
        })?;
        let tensor = |values| Tensor::from_vec(values, gate.shape(), gate.device());
        Ok((Some(tensor(dgate)?), Some(tensor(dup)?)))
    }
}
