//! The Gaussian error linear unit in its tanh form, `½x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))` (Hendrycks and Gimpel
//! 2016), which transformers calls `gelu_pytorch_tanh` and `gelu_new`. As ½(1 + tanh z) = 1/(1 + e⁻²ᶻ), it is computed as
//! `x / (1 + e⁻²ᶻ)`. Nothing but the input is kept.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{f32_slice, uses_cpu_kernels, with_slices};
use crate::model::cpu::simd::{exp, vectorised};

/// 2·√(2/π), the factor in the tanh approximation written with a sigmoid.
const SCALE: f32 = 1.595_769;
const CUBE: f32 = 0.044_715;

/// GELU in its tanh approximation, of each value of `x`.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if !uses_cpu_kernels(x) {
        return reference_gelu(x);
    }
    x.contiguous()?.apply_op1(Gelu)
}

/// The same in candle's own ops.
pub fn reference_gelu(x: &Tensor) -> Result<Tensor> {
    let inner = ((x.powf(3.0)? * f64::from(CUBE))? + x)?;
    let tanh = (inner * f64::from(SCALE / 2.0))?.tanh()?;
    (x * 0.5)? * (tanh + 1.0)?
}

struct Gelu;

vectorised! {
    fn forward(x: &[f32], out: &mut [f32]) {
        for (x, y) in x.iter().zip(out) {
            *y = x / (1.0 + exp(-SCALE * (x + CUBE * x * x * x)));
        }
    }
}

vectorised! {
    /// With s = 1/(1 + e⁻²ᶻ): d(x·s)/dx = s + x·s·(1 − s)·2z′.
    fn backward(x: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((x, dy), dx) in x.iter().zip(dy).zip(dx) {
            let share = 1.0 / (1.0 + exp(-SCALE * (x + CUBE * x * x * x)));
            let slope = SCALE * (1.0 + 3.0 * CUBE * x * x);
            *dx = dy * (share + x * share * (1.0 - share) * slope);
        }
    }
}

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(x, layout)?;
        let mut out = vec![0.0; x.len()];
        forward(x, &mut out);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = with_slices([x, &dy.contiguous()?], |[x, dy]| {
            let mut dx = vec![0.0; x.len()];
            backward(x, dy, &mut dx);
            Ok(dx)
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
