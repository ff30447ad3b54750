//! Products with bf16 weights by the processor's bf16 dot products (`vdpbf16ps`): two neighbours along the summed
//! dimension at a time, both factors bf16, sums in f32. The activations are rounded to bf16 (relative error 2⁻⁹ each), so
//! a sum of n terms of like size is off by about 2⁻⁹·√n terms; what torch does in bf16, which rounds the result as well.
//!
//! The weights stay as they are, `[n, k]` row by row. For either direction a panel of 32 columns of the right-hand side
//! is laid out as the instruction wants it: pairs of neighbours, 32 pairs side by side.

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{times, times_transposed};

/// Rounds to the nearest bf16 (ties to even) and puts neighbours of a row together: `[rows, width]` to
/// `[rows, pairs(width)]`, the lower half the first of a pair, a missing second 0.
fn rounded_pairs(x: &[f32], width: usize) -> Vec<u32> {
    let round = |value: f32| {
        let bits = value.to_bits();
        (bits + 0x7fff + ((bits >> 16) & 1)) >> 16
    };
    let pair = |pair: &[f32]| round(pair[0]) | pair.get(1).map_or(0, |&v| round(v)) << 16;
    x.chunks_exact(width).flat_map(|row| row.chunks(2).map(pair)).collect()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::rounded_pairs;

    /// Columns of a panel: two vectors.
    const PANEL: usize = 32;
    /// Rows of a tile: 2 · 12 sums, two weights and one activation are all of the 32 registers but five.
    const TILE: usize = 12;

    /// `x [m, k]` times `w [n, k]` transposed, into the first `n` columns of rows `stride` apart.
    ///
    /// # Safety
    /// The processor must have AVX512-BF16, and `out` must hold `m` rows of `n` values which nobody else touches.
    pub unsafe fn times_transposed(x: &[f32], w: &[u16], k: usize, out: *mut f32, stride: usize) {
        let (n, pairs) = (w.len() / k, k.div_ceil(2));
        let a = rounded_pairs(x, k);
        let mut panel = vec![0u32; pairs * PANEL];
        for first in (0..n).step_by(PANEL) {
            let columns = PANEL.min(n - first);
            for column in 0..columns {
                let row = &w[(first + column) * k..(first + column + 1) * k];
                for (p, pair) in row.chunks(2).enumerate() {
                    panel[p * PANEL + column] = joined(pair[0], pair.get(1).copied().unwrap_or(0));
                }
            }
            // SAFETY: the caller's; the panel's columns lie within the first n.
            unsafe { under_panel(&a, &panel, pairs, columns, out.add(first), stride) };
        }
    }

    /// `dy [m, n]` times columns `columns` of `w [n, width]`, into the first of them of rows `stride` apart.
    ///
    /// # Safety
    /// The processor must have AVX512-BF16, and `out` must hold `m` rows of that many values which nobody else touches.
    pub unsafe fn times(
        dy: &[f32],
        w: &[u16],
        width: usize,
        columns: std::ops::Range<usize>,
        out: *mut f32,
        stride: usize,
    ) {
        let n = w.len() / width;
        let pairs = n.div_ceil(2);
        let a = rounded_pairs(dy, n);
        let mut panel = vec![0u32; pairs * PANEL];
        for first in columns.clone().step_by(PANEL) {
            let count = PANEL.min(columns.end - first);
            for (p, into) in panel.chunks_exact_mut(PANEL).enumerate() {
                let upper = &w[2 * p * width + first..][..count];
                let lower = (2 * p + 1 < n).then(|| &w[(2 * p + 1) * width + first..][..count]);
                for column in 0..count {
                    into[column] = joined(upper[column], lower.map_or(0, |row| row[column]));
                }
            }
            // SAFETY: the caller's; the panel's columns lie within the range.
            unsafe { under_panel(&a, &panel, pairs, count, out.add(first - columns.start), stride) };
        }
    }

    fn joined(low: u16, high: u16) -> u32 {
        u32::from(low) | u32::from(high) << 16
    }

    /// Every row of `a [m, pairs]` against one panel.
    unsafe fn under_panel(a: &[u32], panel: &[u32], pairs: usize, columns: usize, out: *mut f32, stride: usize) {
        let m = a.len() / pairs;
        // Lanes of each of the panel's two vectors that are there.
        let masks = [columns.min(16), columns.saturating_sub(16)].map(|lanes| ((1u32 << lanes) - 1) as u16);
        let mut row = 0;
        while row < m {
            // SAFETY: the caller's; a tile reads and writes the rows that it is told of.
            unsafe {
                let (a, out) = (a.as_ptr().add(row * pairs), out.add(row * stride));
                let panel = panel.as_ptr();
                if row + TILE <= m {
                    tile::<TILE>(a, panel, pairs, masks, out, stride);
                    row += TILE;
                } else if row + 4 <= m {
                    tile::<4>(a, panel, pairs, masks, out, stride);
                    row += 4;
                } else {
                    tile::<1>(a, panel, pairs, masks, out, stride);
                    row += 1;
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn tile<const T: usize>(
        a: *const u32,
        panel: *const u32,
        pairs: usize,
        masks: [u16; 2],
        out: *mut f32,
        stride: usize,
    ) {
        // SAFETY: the caller's: `T` rows of `pairs` activations, a whole panel, and room for `T` rows under the masks.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); 2]; T];
            for p in 0..pairs {
                let first = bf16(_mm512_loadu_si512(panel.add(p * PANEL).cast()));
                let second = bf16(_mm512_loadu_si512(panel.add(p * PANEL + 16).cast()));
                for t in 0..T {
                    let x = bf16(_mm512_set1_epi32(*a.add(t * pairs + p) as i32));
                    sums[t][0] = _mm512_dpbf16_ps(sums[t][0], x, first);
                    sums[t][1] = _mm512_dpbf16_ps(sums[t][1], x, second);
                }
            }
            for t in 0..T {
                _mm512_mask_storeu_ps(out.add(t * stride), masks[0], sums[t][0]);
                if masks[1] != 0 {
                    _mm512_mask_storeu_ps(out.add(t * stride + 16), masks[1], sums[t][1]);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    fn bf16(bits: __m512i) -> __m512bh {
        // SAFETY: both are 512 bits, and every pattern of bits is a value of either.
        unsafe { std::mem::transmute(bits) }
    }
}
