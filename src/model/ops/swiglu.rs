//! The gated activation `silu(gate) · up`, `silu(x) = x / (1 + e⁻ˣ)` (Shazeer 2020). Nothing but the inputs is kept.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::simd::{exp, vectorised};
use super::team::each_slice;
use super::{by_kernels, read, values};

/// Values of a piece of work.
const PIECE: usize = 1 << 16;

/// `silu(gate) · up`, both `[tokens, intermediate]`.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if !by_kernels(gate) {
        return reference_swiglu(gate, up);
    }
    gate.apply_op2(up, SwiGlu)
}

/// The same in candle's own ops.
pub fn reference_swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()? * up
}

/// The same on slices.
pub(crate) fn gated(gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; gate.len()];
    each_slice([&mut out], PIECE, |r, [out]| forward(&gate[r.clone()], &up[r], out));
    out
}

/// Gradients of gate and up from the result's.
pub(crate) fn gated_backward(gate: &[f32], up: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mut dgate, mut dup) = (vec![0.0; gate.len()], vec![0.0; gate.len()]);
    each_slice([&mut dgate, &mut dup], PIECE, |r, [dgate, dup]| {
        backward(&gate[r.clone()], &up[r.clone()], &dy[r], dgate, dup);
    });
    (dgate, dup)
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
    fn backward(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        for ((((g, u), dy), dg), du) in gate.iter().zip(up).zip(dy).zip(dgate).zip(dup) {
            let sigmoid = 1.0 / (1.0 + exp(-g));
            let silu = g * sigmoid;
            *du = dy * silu;
            *dg = dy * u * (sigmoid + silu * (1.0 - sigmoid));
        }
    }
}

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, gate: &CpuStorage, gl: &Layout, up: &CpuStorage, ul: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(gated(values(gate, gl)?, values(up, ul)?)), gl.shape().clone()))
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dgate, dup) = read([gate, up, &dy.contiguous()?], |[gate, up, dy]| Ok(gated_backward(gate, up, dy)))?;
        let tensor = |values| Tensor::from_vec(values, gate.shape(), gate.device());
        Ok((Some(tensor(dgate)?), Some(tensor(dup)?)))
    }
}
