//! Rows rounded to 8 bits by pieces of 32 values: a piece is `scale · q`, with `scale` = largest size / 127 and whole q in
//! −127 … 127. Each value is off by at most half a scale, 1/254 of the largest size in its piece.

// Indices with constant bounds are what becomes vector code.
#![allow(clippy::needless_range_loop)]

use crate::model::cpu::simd::vectorised;

/// Number of values that share a scale.
pub(crate) const PIECE: usize = 32;

/// Rounded rows, with what a product needs to know of each piece.
pub(crate) struct Rounded {
    width: usize,
    values: Vec<i8>,
    pieces: Vec<About>,
}

/// A piece's scale and sums.
#[derive(Clone, Copy, Default)]
pub(super) struct About {
    pub scale: f32,
    /// `scale · Σ q`.
    pub scaled_sum: f32,
    /// −Σ q.
    pub minus_sum: i32,
    /// The same of the first sixteen values and of the others.
    pub minus_sums: [i32; 2],
}

impl Rounded {
    /// Rounds whole rows of `width` values; `None` where a row has no whole pieces.
    pub fn new(x: &[f32], width: usize) -> Option<Self> {
        if width == 0 || !width.is_multiple_of(PIECE) || !x.len().is_multiple_of(width) {
            return None;
        }
        let mut rounded = Self { width, values: vec![0; x.len()], pieces: vec![About::default(); x.len() / PIECE] };
        round(x, &mut rounded.values, &mut rounded.pieces);
        Some(rounded)
    }

    /// Number of values in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    pub fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// Where a piece's values lie, and its scale and sums.
    #[inline(always)]
    pub(super) fn piece(&self, row: usize, piece: usize) -> (*const i8, &About) {
        let index = row * (self.width / PIECE) + piece;
        (self.values[index * PIECE..][..PIECE].as_ptr(), &self.pieces[index])
    }

    /// The rounded values as f32, for tests.
    #[cfg(test)]
    pub(super) fn to_f32(&self) -> Vec<f32> {
        self.values.iter().enumerate().map(|(at, q)| f32::from(*q) * self.pieces[at / PIECE].scale).collect()
    }
}

vectorised! {
    fn round(x: &[f32], values: &mut [i8], pieces: &mut [About]) {
        /// 1.5 · 2²³: adding it leaves the nearest whole number in the low bits, ties to even.
        const ROUND: f32 = 12_582_912.0;
        let each = x.as_chunks::<PIECE>().0.iter().zip(values.as_chunks_mut::<PIECE>().0).zip(pieces);
        for ((x, values), about) in each {
            let mut sizes = [0f32; 16];
            let mut finite = true;
            for at in 0..16 {
                let (a, b) = (x[at].abs(), x[at + 16].abs());
                sizes[at] = if a > b { a } else { b };
                finite &= x[at].is_finite() & x[at + 16].is_finite();
            }
            let largest = sizes.iter().fold(0f32, |most, &size| if size > most { size } else { most });
            if !finite {
                // One such value makes every product of its row one: nothing that is broken looks like an answer.
                *about = About { scale: f32::NAN, scaled_sum: f32::NAN, ..About::default() };
                *values = [0; PIECE];
                continue;
            }
            // What is smaller than this adds nothing that an f32 sum would show.
            let (scale, by) = if largest > 1e-30 { (largest / 127.0, 127.0 / largest) } else { (0.0, 0.0) };
            let mut sums = [0i32; 2];
            for half in 0..2 {
                for at in 16 * half..16 * half + 16 {
                    let whole = (x[at] * by + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
                    values[at] = whole as i8;
                    sums[half] += whole;
                }
            }
            let sum = sums[0] + sums[1];
            *about = About {
                scale,
                scaled_sum: scale * sum as f32,
                minus_sum: -sum,
                minus_sums: [-sums[0], -sums[1]],
            };
        }
    }
}
