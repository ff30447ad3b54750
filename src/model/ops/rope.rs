//! Rotary position embedding (Su et al. 2021) in the half-split layout of transformers: dimension j of a head turns
//! with dimension j + dim/2 by the angle `position · frequency[j]`, usually θ^(−2j/dim). `dim` is the head's width, or less:
//! then the dimensions behind it stay as they are (partial rotary).

use std::sync::Arc;

use super::simd::vectorised;

/// Cosines and sines of every position, `[positions, dim / 2]`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RopeTable(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    head_dim: usize,
    half: usize,
    positions: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// Angles for `positions` positions of heads of this width; without frequencies nothing turns.
    pub fn new(head_dim: usize, frequencies: &[f32], positions: usize) -> Self {
        let half = frequencies.len();
        let angles: Vec<f32> =
            (0..positions).flat_map(|position| frequencies.iter().map(move |f| position as f32 * f)).collect();
        let cos = angles.iter().map(|a| a.cos()).collect();
        let sin = angles.iter().map(|a| a.sin()).collect();
        Self(Arc::new(Inner { head_dim, half, positions, cos, sin }))
    }

    /// How many positions the table holds.
    pub fn positions(&self) -> usize {
        self.0.positions
    }

    /// Turns every head of one token's row in place; `backward` turns it the other way.
    pub fn rotate(&self, row: &mut [f32], position: usize, backward: bool) {
        let Inner { head_dim, half, .. } = *self.0;
        let range = position * half..(position + 1) * half;
        rotate(row, head_dim, &self.0.cos[range.clone()], &self.0.sin[range], if backward { -1.0 } else { 1.0 });
    }

    /// `(cos, sin)` of the first `positions` positions, each `[positions, dim / 2]`.
    pub fn tables(&self, positions: usize) -> (&[f32], &[f32]) {
        (&self.0.cos[..positions * self.0.half], &self.0.sin[..positions * self.0.half])
    }
}

/// Dimensions turned together: a vector each of the lower and the upper half.
const LANES: usize = 16;

vectorised! {
    fn rotate(row: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], sign: f32) {
        let half = cos.len();
        for head in row.chunks_exact_mut(head_dim) {
            let (low, high) = head[..2 * half].split_at_mut(half);
            let (low, low_rest) = low.as_chunks_mut::<LANES>();
            let (high, high_rest) = high.as_chunks_mut::<LANES>();
            let ((cos, cos_rest), (sin, sin_rest)) = (cos.as_chunks::<LANES>(), sin.as_chunks::<LANES>());
            for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                // Copies, so that the compiler knows them apart.
                let (x, y) = (*low, *high);
                for j in 0..LANES {
                    low[j] = x[j] * cos[j] - y[j] * sin[j] * sign;
                    high[j] = y[j] * cos[j] + x[j] * sin[j] * sign;
                }
            }
            for (((low, high), cos), sin) in low_rest.iter_mut().zip(high_rest).zip(cos_rest).zip(sin_rest) {
                let (x, y) = (*low, *high);
                *low = x * cos - y * sin * sign;
                *high = y * cos + x * sin * sign;
            }
        }
    }
}
