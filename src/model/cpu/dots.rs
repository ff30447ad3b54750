//! Products with bf16 weights by the processor's bf16 dot products (`vdpbf16ps`): two neighbours along the summed
//! dimension at a time, both factors bf16, sums in f32. The activations are rounded to bf16 (relative error 2⁻⁹ each), so
//! a sum of n terms of like size is off by about 2⁻⁹·√n terms; what torch does in bf16, which rounds the result as well.
//!
//! The weights stay as they are, `[n, k]` row by row. For either direction a panel of 32 columns of the right-hand side
//! is laid out as the instruction wants it: pairs of neighbours, 32 pairs side by side.

use std::arch::x86_64::*;

use super::simd::vectorised;

/// Columns per panel: two vectors of 16 f32 sums.
const PANEL: usize = 32;
/// Rows of a tile: 2 · 12 sums, two weights and one activation are all of the 32 registers but five.
const TILE: usize = 12;

/// The left-hand side of a product, rounded to the nearest bf16 (ties to even), neighbours of a row together.
pub(crate) struct Pairs {
    /// `[rows, width]`, the lower half the first of a pair; a missing second is 0.
    values: Vec<u32>,
    width: usize,
}

impl Pairs {
    /// Rounds rows of `width` values to bf16 and packs them for the dot products.
    pub fn new(x: &[f32], width: usize) -> Self {
        vectorised! {
            fn round(x: &[f32], out: &mut [u32]) {
                for (x, out) in x.chunks_exact(2).zip(out) {
                    *out = bf16(x[0]) | bf16(x[1]) << 16;
                }
            }
        }
        let pairs = width.div_ceil(2);
        let mut values = vec![0; x.len() / width * pairs];
        if width.is_multiple_of(2) {
            round(x, &mut values);
        } else {
            for (row, out) in x.chunks_exact(width).zip(values.chunks_exact_mut(pairs)) {
                round(row, out);
                out[pairs - 1] = bf16(row[width - 1]);
            }
        }
        Self { values, width: pairs }
    }
}

/// The bits of the nearest bf16, in the lower 16 bits of the result.
#[inline(always)]
fn bf16(value: f32) -> u32 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    // Rounding the bits of a NaN could overflow into a finite number or infinity.
    if value.is_nan() { 0x7fc0 } else { nearest }
}

/// `x [m, k]` times `w [n, k]` transposed, into the first `n` columns of rows `stride` apart.
///
/// # Safety
/// The processor must have AVX512-BF16, and `out` must hold `m` rows of `n` values which nobody else touches.
pub(crate) unsafe fn times_transposed(x: &Pairs, w: &[u16], k: usize, out: *mut f32, stride: usize) {
    let (n, whole) = (w.len() / k, k / 2);
    let mut panel = vec![0u32; x.width * PANEL];
    for first in (0..n).step_by(PANEL) {
        let columns = PANEL.min(n - first);
        let rows = &w[first * k..(first + columns) * k];
        for (p, into) in panel.chunks_exact_mut(PANEL).enumerate() {
            for (row, pair) in rows.chunks_exact(k).zip(into) {
                *pair = joined(row[2 * p], if p < whole { row[2 * p + 1] } else { 0 });
            }
        }
        // SAFETY: the caller's; the panel's columns lie within the first n.
        unsafe { under_panel(x, &panel, columns, out.add(first), stride, false) };
    }
}

/// `dy [m, n]` times columns `columns` of `w [n, width]`, into the first of them of rows `stride` apart; added to what is
/// there if `add` says so.
///
/// # Safety
/// The processor must have AVX512-BF16, and `out` must hold `m` rows of that many values which nobody else touches.
pub(crate) unsafe fn times(
    dy: &Pairs,
    w: &[u16],
    width: usize,
    columns: std::ops::Range<usize>,
    out: *mut f32,
    stride: usize,
    add: bool,
) {
    let n = w.len() / width;
    let mut panel = vec![0u32; dy.width * PANEL];
    for first in columns.clone().step_by(PANEL) {
        let count = PANEL.min(columns.end - first);
        for (p, into) in panel.chunks_exact_mut(PANEL).enumerate() {
            let upper = &w[2 * p * width + first..][..count];
            if 2 * p + 1 < n {
                let lower = &w[(2 * p + 1) * width + first..][..count];
                into.iter_mut().zip(upper.iter().zip(lower)).for_each(|(pair, (u, l))| *pair = joined(*u, *l));
            } else {
                into.iter_mut().zip(upper).for_each(|(pair, u)| *pair = joined(*u, 0));
            }
        }
        // SAFETY: the caller's; the panel's columns lie within the range.
        unsafe { under_panel(dy, &panel, count, out.add(first - columns.start), stride, add) };
    }
}

fn joined(low: u16, high: u16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}

/// Every row of `a` against one panel.
///
/// # Safety
/// As the products', of `columns` columns.
unsafe fn under_panel(a: &Pairs, panel: &[u32], columns: usize, out: *mut f32, stride: usize, add: bool) {
    let (pairs, m) = (a.width, a.values.len() / a.width);
    // Lanes of each of the panel's two vectors that are there.
    let masks = [columns.min(16), columns.saturating_sub(16)].map(|lanes| ((1u32 << lanes) - 1) as u16);
    let mut row = 0;
    while row < m {
        // SAFETY: the caller's; a tile reads and writes the rows that it is told of.
        unsafe {
            let (a, out) = (a.values.as_ptr().add(row * pairs), out.add(row * stride));
            let panel = panel.as_ptr();
            if row + TILE <= m {
                tile::<TILE>(a, panel, pairs, masks, out, stride, add);
                row += TILE;
            } else if row + 4 <= m {
                tile::<4>(a, panel, pairs, masks, out, stride, add);
                row += 4;
            } else {
                tile::<1>(a, panel, pairs, masks, out, stride, add);
                row += 1;
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(clippy::needless_range_loop)] // indices with constant bounds are what turns the sums into registers
unsafe fn tile<const T: usize>(
    a: *const u32,
    panel: *const u32,
    pairs: usize,
    masks: [u16; 2],
    out: *mut f32,
    stride: usize,
    add: bool,
) {
    // SAFETY: the caller's: `T` rows of `pairs` activations, a whole panel, and room for `T` rows under the masks.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; T];
        if add {
            for t in 0..T {
                sums[t][0] = _mm512_maskz_loadu_ps(masks[0], out.add(t * stride));
                if masks[1] != 0 {
                    sums[t][1] = _mm512_maskz_loadu_ps(masks[1], out.add(t * stride + 16));
                }
            }
        }
        for p in 0..pairs {
            let first = as_bf16(_mm512_loadu_si512(panel.add(p * PANEL).cast()));
            let second = as_bf16(_mm512_loadu_si512(panel.add(p * PANEL + 16).cast()));
            for t in 0..T {
                let x = as_bf16(_mm512_set1_epi32(*a.add(t * pairs + p) as i32));
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
fn as_bf16(bits: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits, and every pattern of bits is a value of either.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) }
}
