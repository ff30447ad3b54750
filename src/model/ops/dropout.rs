//! Dropout whose masks are counted, not drawn: keyed by (seed, step, row, layer, module), so that recomputation and
//! any number of workers give the same mask.

use candle_core::{Result, Tensor};

use crate::model::segments::Segments;
use crate::rng;

/// The masks of one linear's input in one forward pass.
#[derive(Debug, Clone)]
pub struct Mask {
    /// Probability that an input is set to zero, in [0, 1).
    pub probability: f32,
    /// Key of the mask, made of seed, step, layer and module: the same key gives the same mask.
    pub key: u64,
    /// Row of each token, so that a mask does not depend on how rows are batched.
    pub segments: Segments,
}

impl Mask {
    /// What [`Mask::apply`] multiplies `x` by, as a tensor like it.
    pub fn factors(&self, x: &Tensor) -> Result<Tensor> {
        Tensor::from_vec(self.apply(&vec![1.0; x.elem_count()], x.dim(1)?), x.shape(), x.device())
    }

    /// A copy of `x` (`[tokens, width]`), masked and scaled by `1 / (1 − p)`.
    pub fn apply(&self, x: &[f32], width: usize) -> Vec<f32> {
        let mut out = x.to_vec();
        let scale = 1.0 / (1.0 - self.probability);
        for segment in self.segments.iter() {
            let key = rng::key(self.key, "row", &[segment.row]);
            let values = &mut out[segment.start * width..(segment.start + segment.len) * width];
            for (counter, value) in values.iter_mut().enumerate() {
                let kept = rng::unit(key, counter as u64) >= self.probability;
                *value = if kept { *value * scale } else { 0.0 };
            }
        }
        out
    }
}
