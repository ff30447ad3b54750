//! `cap · tanh(x / cap)`: keeps numbers within ± cap (Bello et al. 2017; Gemma 2 caps attention scores and logits).

use candle_core::{Result, Tensor};

/// In candle's own ops, with a graph.
pub fn softcap(x: &Tensor, cap: f32) -> Result<Tensor> {
    (x / f64::from(cap))?.tanh()? * f64::from(cap)
}

/// In place; hands back the slopes `1 − tanh²(x / cap)`, by which gradients are multiplied on their way back.
pub(crate) fn softcap_slopes(values: &mut [f32], cap: f32) -> Vec<f32> {
    let capped = |value: &mut f32| {
        let tanh = (*value / cap).tanh();
        *value = cap * tanh;
        1.0 - tanh * tanh
    };
    values.iter_mut().map(capped).collect()
}

/// Multiplies a gradient by the slopes, where there is a cap.
pub(crate) fn through(slopes: Option<&[f32]>, grad: &mut [f32]) {
    if let Some(slopes) = slopes {
        grad.iter_mut().zip(slopes).for_each(|(grad, slope)| *grad *= slope);
    }
}
