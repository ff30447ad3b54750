//! Rotary position embedding (Su et al. 2021) in the half-split layout of transformers: dimension j of a head turns
//! with dimension j + head_dim/2 by the angle `position · θ^(−2j/head_dim)`.

use std::sync::Arc;

use super::simd::vectorised;

/// Cosines and sines of every position, `[positions, head_dim / 2]`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RopeTable(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// Angles for `positions` positions.
    pub fn new(head_dim: usize, theta: f64, positions: usize) -> Self {
        let half = head_dim / 2;
        let angle = |i: usize| {
            let (position, j) = (i / half, i % half);
            // transformers makes the inverse frequencies in f32.
            let inverse = 1.0 / (theta as f32).powf((2 * j) as f32 / head_dim as f32);
            position as f32 * inverse
        };
        let angles: Vec<f32> = (0..positions * half).map(angle).collect();
        let cos = angles.iter().map(|a| a.cos()).collect();
        let sin = angles.iter().map(|a| a.sin()).collect();
        Self(Arc::new(Inner { half, cos, sin }))
    }

    /// How many positions the table holds.
    pub fn positions(&self) -> usize {
        self.0.cos.len() / self.0.half.max(1)
    }

    /// Turns every head of one token's row in place; `backward` turns it the other way.
    pub fn rotate(&self, row: &mut [f32], position: usize, backward: bool) {
        let half = self.0.half;
        let range = position * half..(position + 1) * half;
        rotate(row, &self.0.cos[range.clone()], &self.0.sin[range], if backward { -1.0 } else { 1.0 });
    }

    /// `(cos, sin)` of the first `positions` positions, each `[positions, head_dim / 2]`.
    pub fn tables(&self, positions: usize) -> (&[f32], &[f32]) {
        (&self.0.cos[..positions * self.0.half], &self.0.sin[..positions * self.0.half])
    }
}

vectorised! {
    fn rotate(row: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        let half = cos.len();
        for head in row.chunks_exact_mut(2 * half) {
            let (low, high) = head.split_at_mut(half);
            for j in 0..half {
                let (x, y) = (low[j], high[j]);
                low[j] = x * cos[j] - y * sin[j] * sign;
                high[j] = y * cos[j] + x * sin[j] * sign;
            }
        }
    }
}
