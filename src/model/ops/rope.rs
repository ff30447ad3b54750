//! Rotary position embedding (Su et al. 2021) in the half-split layout of transformers: dimension j of a head turns
//! with dimension j + dim/2 by the angle `position · frequency[j]`, usually θ^(−2j/dim). `dim` is the head's width, or less:
//! then the dimensions behind it stay as they are (partial rotary).

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::model::cpu::simd::vectorised;
use crate::model::rope::Rope;

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
    /// Rows longer than so many tokens have angles of their own, made when they are asked for.
    longer: Option<(usize, Rope)>,
}

impl RopeTable {
    /// Angles for `positions` positions of heads of this width; without a rope nothing turns.
    pub fn new(head_dim: usize, rope: Option<&Rope>, positions: usize) -> Self {
        let longer = rope.and_then(|rope| Some((rope.ordinary()?, rope.clone())));
        let rows = longer.as_ref().map_or(positions, |(ordinary, _)| positions.min(*ordinary));
        let (cos, sin) = rope.map(|rope| turns(rope, 0..rows, rows)).unwrap_or_default();
        Self(Arc::new(Inner { head_dim, half: rope.map_or(0, |rope| rope.dim / 2), positions, cos, sin, longer }))
    }

    /// Number of positions that the table has angles for, which limits the length of a sequence.
    pub fn positions(&self) -> usize {
        self.0.positions
    }

    /// Turns every head of one token's row in place, of a sequence of `length` tokens; `backward` turns it the other way.
    pub fn rotate(&self, row: &mut [f32], position: usize, length: usize, backward: bool) {
        let (cos, sin) = self.at(position..position + 1, length);
        rotate(row, self.0.head_dim, &cos, &sin, if backward { -1.0 } else { 1.0 });
    }

    /// `(cos, sin)` of a sequence of `length` tokens, each `[length, dim / 2]`.
    pub fn tables(&self, length: usize) -> (Cow<'_, [f32]>, Cow<'_, [f32]>) {
        self.at(0..length, length)
    }

    fn at(&self, positions: Range<usize>, length: usize) -> (Cow<'_, [f32]>, Cow<'_, [f32]>) {
        match &self.0.longer {
            Some((ordinary, rope)) if length > *ordinary => {
                let (cos, sin) = turns(rope, positions, length);
                (Cow::Owned(cos), Cow::Owned(sin))
            }
            _ => {
                let range = positions.start * self.0.half..positions.end * self.0.half;
                (Cow::Borrowed(&self.0.cos[range.clone()]), Cow::Borrowed(&self.0.sin[range]))
            }
        }
    }
}

/// Cosines and sines of these positions of a row of `length` tokens.
fn turns(rope: &Rope, positions: Range<usize>, length: usize) -> (Vec<f32>, Vec<f32>) {
    let (frequencies, by) = (rope.frequencies(length), rope.attention());
    let angles = positions.flat_map(|position| frequencies.iter().map(move |f| position as f32 * f));
    angles.map(|angle| (by * angle.cos(), by * angle.sin())).unzip()
}

/// Dimension pairs rotated at once: one vector of the lower half of a head and one of the upper.
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
