//! The general product for 512-bit units, `out = alpha · a · b` or `out += alpha · a · b`. A panel of up to 64 columns of
//! the right-hand side is packed once (transposed, or widened from bf16, on the way) and meets all rows of the left-hand
//! side, which is read where it lies, one value at a time to all lanes. A general library lays out both sides, and what it
//! turns it turns value by value: a sixth of a product with weights that come from memory.
//!
//! Each output is summed over the inner dimension in order, in steps of [`DEPTH`], whatever stands beside it.

use std::arch::x86_64::*;
use std::cell::Cell;

use super::target::Target;

/// f32 values per vector.
const LANES: usize = 16;
/// Maximum number of vectors that a panel is wide.
const VECTORS: usize = 4;
/// Maximum inner dimension of a panel: 256 KiB, which fits the second-level cache.
const DEPTH: usize = 1024;

/// The left-hand side: where its values lie, and how far apart its rows and columns are.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    pub values: *const f32,
    pub row: usize,
    pub column: usize,
}

/// The right-hand side `[inner, columns]`: its rows start `stride` values apart, or its columns if it is transposed.
#[derive(Clone, Copy)]
pub(crate) struct Right<W> {
    pub values: *const W,
    pub stride: usize,
    pub transposed: bool,
}

/// A type of values that is packed as f32: f32 itself, or the bits of bf16.
pub(crate) trait Value: Copy {
    /// Those of 16 values that `mask` names, zeros for the rest.
    ///
    /// # Safety
    /// The 512-bit unit must be there, and the values that the mask names.
    unsafe fn load(from: *const Self, mask: u16) -> __m512;
}

impl Value for f32 {
    #[inline(always)]
    unsafe fn load(from: *const f32, mask: u16) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }
}

impl Value for u16 {
    #[inline(always)]
    unsafe fn load(from: *const u16, mask: u16) -> __m512 {
        // SAFETY: the caller's.
        unsafe {
            let bits = _mm256_maskz_loadu_epi16(mask, from.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
        }
    }
}

/// A vector of a panel; aligned, since a load across two lines costs two.
#[derive(Clone, Copy)]
#[repr(align(64))]
#[allow(dead_code)] // read as vectors
struct Line([f32; LANES]);

thread_local! {
    static PANEL: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// `out (+)= alpha · a · b` for `a [rows, inner]` and `b [inner, columns]`.
///
/// # Safety
/// The processor must have AVX-512 (F, VL, BW); `a`, `b` and `out` must be there in these sizes, and nobody else may touch
/// `out`.
pub(crate) unsafe fn product<W: Value>(
    a: Left,
    b: Right<W>,
    (rows, inner, columns): (usize, usize, usize),
    out: Target,
    alpha: f32,
    accumulate: bool,
) {
    let mut panel = PANEL.take();
    let size = inner.min(DEPTH) * VECTORS;
    if panel.len() < size {
        panel.resize(size, Line([0.0; LANES]));
    }
    // SAFETY: the caller's; the panel is large enough.
    unsafe { every_panel(a, b, (rows, inner, columns), out, alpha, accumulate, panel.as_mut_ptr()) };
    PANEL.set(panel);
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,fma")]
unsafe fn every_panel<W: Value>(
    a: Left,
    b: Right<W>,
    (rows, inner, columns): (usize, usize, usize),
    out: Target,
    alpha: f32,
    accumulate: bool,
    panel: *mut Line,
) {
    for from in (0..inner).step_by(DEPTH) {
        let depth = DEPTH.min(inner - from);
        let accumulate = accumulate || from > 0;
        for first in (0..columns).step_by(VECTORS * LANES) {
            let count = (VECTORS * LANES).min(columns - first);
            // SAFETY: the caller's; these are rows `from..` and columns `first..` of the right-hand side, and `depth` lines
            // of as many vectors as the columns need of the panel.
            unsafe {
                match b.transposed {
                    true => pack_transposed(b.values.add(first * b.stride + from), b.stride, count, depth, panel),
                    false => lay(b.values.add(from * b.stride + first), b.stride, count, depth, panel),
                }
                let a = Left { values: a.values.add(from * a.column), ..a };
                let out = out.at_column(first);
                let mask = mask(count - (count - 1) / LANES * LANES);
                match count.div_ceil(LANES) {
                    1 => every_row::<12, 1>(a, rows, panel, depth, out, mask, alpha, accumulate),
                    2 => every_row::<12, 2>(a, rows, panel, depth, out, mask, alpha, accumulate),
                    3 => every_row::<8, 3>(a, rows, panel, depth, out, mask, alpha, accumulate),
                    _ => every_row::<6, 4>(a, rows, panel, depth, out, mask, alpha, accumulate),
                }
            }
        }
    }
}

fn mask(lanes: usize) -> u16 {
    ((1u32 << lanes) - 1) as u16
}

/// Packs rows in their own order, widened to f32.
#[inline(always)]
unsafe fn lay<W: Value>(from: *const W, stride: usize, columns: usize, depth: usize, panel: *mut Line) {
    let vectors = columns.div_ceil(LANES);
    for row in 0..depth {
        for v in 0..vectors {
            let mask = mask(LANES.min(columns - v * LANES));
            // SAFETY: the caller's.
            unsafe {
                let values = W::load(from.add(row * stride + v * LANES), mask);
                _mm512_store_ps(panel.add(row * vectors + v).cast(), values);
            }
        }
    }
}

/// Columns as rows, 16 by 16 values at a time.
#[inline(always)]
unsafe fn pack_transposed<W: Value>(from: *const W, stride: usize, columns: usize, depth: usize, panel: *mut Line) {
    let vectors = columns.div_ceil(LANES);
    for v in 0..vectors {
        let count = LANES.min(columns - v * LANES);
        for start in (0..depth).step_by(LANES) {
            let here = LANES.min(depth - start);
            // SAFETY: the caller's; what lies beyond the columns or the depth is neither read nor written.
            unsafe {
                let mut square = [_mm512_setzero_ps(); LANES];
                for (i, row) in square.iter_mut().enumerate() {
                    if i < count {
                        *row = W::load(from.add((v * LANES + i) * stride + start), mask(here));
                    }
                }
                turn(&mut square);
                for (i, row) in square.into_iter().enumerate() {
                    if i < here {
                        _mm512_store_ps(panel.add((start + i) * vectors + v).cast(), row);
                    }
                }
            }
        }
    }
}

/// Exchanges rows and columns: of pairs, of pairs of pairs, then of the quarters of the vectors.
#[inline(always)]
unsafe fn turn(square: &mut [__m512; LANES]) {
    // SAFETY: the caller's.
    unsafe {
        let mut pairs = [_mm512_setzero_pd(); LANES];
        for i in 0..LANES / 2 {
            let (a, b) = (square[2 * i], square[2 * i + 1]);
            pairs[2 * i] = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
            pairs[2 * i + 1] = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
        }
        // Quarter g of fours[4 i + j] is column 4 g + j of rows 4 i to 4 i + 3.
        let mut fours = [_mm512_setzero_ps(); LANES];
        for i in (0..LANES).step_by(4) {
            fours[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pairs[i], pairs[i + 2]));
            fours[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pairs[i], pairs[i + 2]));
            fours[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pairs[i + 1], pairs[i + 3]));
            fours[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pairs[i + 1], pairs[i + 3]));
        }
        for j in 0..4 {
            let (a, b, c, d) = (fours[j], fours[4 + j], fours[8 + j], fours[12 + j]);
            let even = [_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d)]; // quarters 0 and 2
            let odd = [_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d)]; // 1 and 3
            square[j] = _mm512_shuffle_f32x4::<0x88>(even[0], even[1]);
            square[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]);
            square[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even[0], even[1]);
            square[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd[0], odd[1]);
        }
    }
}

/// Every row of the left-hand side against a panel, `R` at a time.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
unsafe fn every_row<const R: usize, const V: usize>(
    a: Left,
    rows: usize,
    panel: *const Line,
    depth: usize,
    out: Target,
    mask: u16,
    alpha: f32,
    accumulate: bool,
) {
    let mut row = 0;
    while row < rows {
        // SAFETY: the caller's; a tile reads and writes the rows that it is told of.
        unsafe {
            let a = Left { values: a.values.add(row * a.row), ..a };
            let out = out.at_column(row * out.stride);
            row += match rows - row {
                left if left >= R => tile::<R, V>(a, panel, depth, out, mask, alpha, accumulate),
                4.. => tile::<4, V>(a, panel, depth, out, mask, alpha, accumulate),
                2.. => tile::<2, V>(a, panel, depth, out, mask, alpha, accumulate),
                _ => tile::<1, V>(a, panel, depth, out, mask, alpha, accumulate),
            };
        }
    }
}

/// `R` rows against the `V` vectors of a panel; the mask names the lanes of the last one. Gives `R`.
#[allow(clippy::needless_range_loop)] // indices with constant bounds are what turns the sums into registers
#[inline(always)]
unsafe fn tile<const R: usize, const V: usize>(
    a: Left,
    panel: *const Line,
    depth: usize,
    out: Target,
    mask: u16,
    alpha: f32,
    accumulate: bool,
) -> usize {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        for p in 0..depth {
            let mut right = [_mm512_setzero_ps(); V];
            for v in 0..V {
                right[v] = _mm512_load_ps(panel.add(p * V + v).cast());
            }
            for r in 0..R {
                let left = _mm512_set1_ps(*a.values.add(r * a.row + p * a.column));
                for v in 0..V {
                    sums[r][v] = _mm512_fmadd_ps(left, right[v], sums[r][v]);
                }
            }
        }
        let alpha = _mm512_set1_ps(alpha);
        for r in 0..R {
            for v in 0..V {
                let to = out.values.add(r * out.stride + v * LANES);
                let mask = if v + 1 == V { mask } else { u16::MAX };
                let before = if accumulate { _mm512_maskz_loadu_ps(mask, to) } else { _mm512_setzero_ps() };
                _mm512_mask_storeu_ps(to, mask, _mm512_fmadd_ps(sums[r][v], alpha, before));
            }
        }
    }
    R
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rest_of_rows_columns_and_depth_is_multiplied() {
        if crate::model::cpu::simd::force(crate::model::cpu::simd::Path::Avx512) < crate::model::cpu::simd::Path::Avx512
        {
            return;
        }
        for (m, n, k) in [(1, 7, 19), (2, 48, 32), (5, 33, 64), (9, 1, 1), (29, 130, 35), (13, 65, 2 * DEPTH + 2)] {
            for case in 0..8 {
                let (transposed, along_columns, accumulate) = (case & 1 != 0, case & 2 != 0, case & 4 != 0);
                // Eighths, which f32 sums exactly.
                let a: Vec<f32> = (0..m * k).map(|i| (i * 7 % 13) as f32 / 8.0 - 0.75).collect();
                let b: Vec<f32> = (0..n * k).map(|i| (i * 5 % 11) as f32 / 8.0 - 0.5).collect();
                let bits: Vec<u16> = b.iter().map(|b| (b.to_bits() >> 16) as u16).collect();
                let (row, column) = if along_columns { (1, m) } else { (k, 1) };
                let stride = if transposed { k } else { n };
                let at = |p: usize, j: usize| if transposed { j * stride + p } else { p * stride + j };
                let dot = |i: usize, j: usize| (0..k).map(|p| a[i * row + p * column] * b[at(p, j)]).sum::<f32>();
                let mut expected: Vec<f32> = (0..m * n).map(|o| 2.0 * dot(o / n, o % n)).collect();
                expected.iter_mut().for_each(|e| *e += f32::from(u8::from(accumulate)));
                let left = Left { values: a.as_ptr(), row, column };
                let (mut whole, mut halves) = (vec![1.0; m * n], vec![1.0; m * n]);
                let [to_whole, to_halves] =
                    [&mut whole, &mut halves].map(|out| Target { values: out.as_mut_ptr(), stride: n });
                // SAFETY: the sizes are those of the vectors, and the unit was just seen to be there.
                unsafe {
                    product(
                        left,
                        Right { values: b.as_ptr(), stride, transposed },
                        (m, k, n),
                        to_whole,
                        2.0,
                        accumulate,
                    );
                    let right = Right { values: bits.as_ptr(), stride, transposed };
                    product(left, right, (m, k, n), to_halves, 2.0, accumulate);
                }
                assert!(whole == expected && halves == expected, "{m} × {n} × {k}, case {case}");
            }
        }
    }
}
