//! Products with bf16 weights by f16 multiply-adds (AVX512-FP16), which come at twice the rate of f32's. Both factors are
//! f16 and at most [`CHAIN`] products are summed in f16; those sums are added up in f32.
//!
//! Each row of the activations and each panel of the weight is scaled by a power of two, so that its largest value lies in
//! `[8, 16)`: no sum overflows (32 · 16² · 4 = 32 768 at most), and what is lost at the small end lies 2⁻²⁰ below the
//! largest. The weights lose nothing by that (a bf16 has 8 digits, an f16 has 11); the activations are rounded (2⁻¹¹
//! each), and so are the short sums: 9·10⁻⁴ of a product's norm, where activations rounded to bf16 cost 1.7·10⁻³.
//!
//! The weights stay as they are, `[n, k]` row by row, and neither direction turns them: forward, lanes run along the
//! summed dimension; backward, along the outputs.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::panels::Value;

/// f16 values per vector.
const LANES: usize = 32;
/// Number of products that are summed in f16 before the sum is added to one in f32.
const CHAIN: usize = 32;
/// Rows of the left-hand side and of the weight in a forward tile: 24 sums, four weights and one activation are all of
/// the 32 registers but three.
const ROWS: usize = 6;
const COLUMNS: usize = 4;
/// Columns of a backward tile, two vectors, and the rows that they are taken against.
const WIDE: usize = 2 * LANES;
const TALL: usize = 12;
/// Values of a weight that are converted to f16 at a time, for either direction: they stay in the second-level cache.
const PANEL: usize = 1 << 17;

/// A product's left-hand side: rows of f16, each scaled by a power of two.
pub(crate) struct Halves<T> {
    values: Vec<T>,
    width: usize,
    /// Factor by row of the left-hand side that undoes its scaling into f16's range.
    back: Vec<f32>,
}

impl Halves<u16> {
    /// Rows of `width` values for [`times_transposed`], filled up with zeros to whole vectors.
    ///
    /// # Safety
    /// The processor must have AVX512-FP16.
    pub unsafe fn along(x: &[f32], width: usize) -> Self {
        let whole = width.next_multiple_of(LANES);
        let (m, mut values) = (x.len() / width, Vec::with_capacity(x.len() / width * whole));
        let rows = x.chunks_exact(width).zip(values.spare_capacity_mut().chunks_exact_mut(whole));
        let back = rows.map(|(row, out)| {
            // SAFETY: the caller's.
            unsafe {
                let scale = scale(largest(row));
                halve(row, scale, out);
                1.0 / scale
            }
        });
        let back = back.collect();
        // SAFETY: every row was written whole.
        unsafe { values.set_len(m * whole) };
        Self { values, width: whole, back }
    }
}

impl Halves<u32> {
    /// Rows of `width` values for [`times`], each value twice: an f16 by itself is not loaded into all lanes in one go.
    ///
    /// # Safety
    /// The processor must have AVX512-FP16.
    pub unsafe fn doubled(dy: &[f32], width: usize) -> Self {
        let mut values = Vec::with_capacity(dy.len());
        let back = dy.chunks_exact(width).zip(values.spare_capacity_mut().chunks_exact_mut(width)).map(|(row, out)| {
            // SAFETY: the caller's.
            unsafe {
                let scale = scale(largest(row));
                halve_twice(row, scale, out);
                1.0 / scale
            }
        });
        let back = back.collect();
        // SAFETY: every row was written.
        unsafe { values.set_len(dy.len()) };
        Self { values, width, back }
    }
}

/// `x [m, k]` times `w [n, k]` transposed, into the first `n` columns of rows `stride` apart.
///
/// # Safety
/// The processor must have AVX512-FP16, and `out` must hold `m` rows of `n` values which nobody else touches.
pub(crate) unsafe fn times_transposed(x: &Halves<u16>, w: &[u16], k: usize, out: *mut f32, stride: usize) {
    let (n, m, width) = (w.len() / k, x.back.len(), x.width);
    let lines = (PANEL / width).next_multiple_of(COLUMNS).min(n.next_multiple_of(COLUMNS));
    let mut panel: Vec<u16> = Vec::with_capacity(lines * width);
    for first in (0..n).step_by(lines) {
        let part = &w[first * k..(first + lines).min(n) * k];
        let count = part.len() / k;
        // SAFETY: the processor has the unit.
        let scale = unsafe { scale(largest_bf16(part)) };
        let mut into = panel.spare_capacity_mut().chunks_exact_mut(width);
        for (row, into) in part.chunks_exact(k).zip(&mut into) {
            // SAFETY: as above.
            unsafe { halve(row, scale, into) };
        }
        // A tile reads four rows; what comes of those that are not there is not stored.
        into.take(COLUMNS - 1).for_each(|row| row.fill(MaybeUninit::new(0)));
        for from in (0..width).step_by(LANES * CHAIN) {
            let steps = ((width - from) / LANES).min(CHAIN);
            let mut row = 0;
            while row < m {
                let (tile, rows): (Dots, usize) = match m - row {
                    ROWS.. => (dots::<ROWS>, ROWS),
                    3.. => (dots::<3>, 3),
                    _ => (dots::<1>, 1),
                };
                for column in (0..count).step_by(COLUMNS) {
                    let to = Part {
                        out: out.wrapping_add(row * stride + first + column),
                        stride,
                        back: &x.back[row..row + rows],
                        unscaled: 1.0 / scale,
                        columns: COLUMNS.min(count - column),
                        add: from > 0,
                    };
                    // SAFETY: rows and columns of the inputs and, by the caller, of the output.
                    unsafe {
                        let a = x.values.as_ptr().add(row * width + from);
                        tile(a, panel.as_ptr().add(column * width + from), width, steps, &to);
                    }
                }
                row += rows;
            }
        }
    }
}

/// `dy [m, n]` times columns `columns` of `w [n, width]`, into the first of them of rows `stride` apart; added to what is
/// there if `add` says so.
///
/// # Safety
/// The processor must have AVX512-FP16, and `out` must hold `m` rows of that many values which nobody else touches.
pub(crate) unsafe fn times(
    dy: &Halves<u32>,
    w: &[u16],
    width: usize,
    columns: Range<usize>,
    out: *mut f32,
    stride: usize,
    add: bool,
) {
    let (n, m, blocks) = (dy.width, dy.back.len(), columns.len().div_ceil(WIDE));
    let deep = (PANEL / (blocks * WIDE)).next_multiple_of(CHAIN).min(n);
    let mut panel: Vec<u16> = Vec::with_capacity(blocks * WIDE * deep);
    for first in (0..n).step_by(deep) {
        let deep = deep.min(n - first);
        let rows = || w[first * width..(first + deep) * width].chunks_exact(width).map(|row| &row[columns.clone()]);
        // SAFETY: the processor has the unit.
        let scale = scale(rows().map(|row| unsafe { largest_bf16(row) }).fold(0.0, f32::max));
        for (i, row) in rows().enumerate() {
            for (block, part) in row.chunks(WIDE).enumerate() {
                // SAFETY: as above.
                unsafe { halve(part, scale, &mut panel.spare_capacity_mut()[(block * deep + i) * WIDE..][..WIDE]) };
            }
        }
        for block in 0..blocks {
            let mut row = 0;
            while row < m {
                let (tile, rows): (Sweep, usize) = match m - row {
                    TALL.. => (sweep::<TALL>, TALL),
                    4.. => (sweep::<4>, 4),
                    _ => (sweep::<1>, 1),
                };
                let to = Part {
                    out: out.wrapping_add(row * stride + block * WIDE),
                    stride,
                    back: &dy.back[row..row + rows],
                    unscaled: 1.0 / scale,
                    columns: WIDE.min(columns.len() - block * WIDE),
                    add: add || first > 0,
                };
                // SAFETY: rows and columns of the inputs and, by the caller, of the output.
                unsafe {
                    let a = dy.values.as_ptr().add(row * n + first);
                    tile(a, n, panel.as_ptr().add(block * deep * WIDE), deep, &to);
                }
                row += rows;
            }
        }
    }
}

/// A tile's destination in the output.
struct Part<'a> {
    out: *mut f32,
    stride: usize,
    /// Factor by row that undoes its scaling; `unscaled` undoes the weight's.
    back: &'a [f32],
    unscaled: f32,
    columns: usize,
    add: bool,
}

impl Part<'_> {
    /// What undoes both scales of a row.
    fn back(&self, row: usize) -> f32 {
        self.back[row] * self.unscaled
    }
}

type Dots = unsafe fn(*const u16, *const u16, usize, usize, &Part);
type Sweep = unsafe fn(*const u32, usize, *const u16, usize, &Part);

/// `R` rows of `a` against four of `b`, over `steps` vectors along both.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512fp16")]
#[allow(clippy::needless_range_loop)] // indices with constant bounds are what turns the sums into registers
unsafe fn dots<const R: usize>(a: *const u16, b: *const u16, width: usize, steps: usize, to: &Part) {
    // SAFETY: the caller's: so many rows, `width` apart, of so many vectors.
    unsafe {
        let mut sums = [[_mm512_setzero_ph(); COLUMNS]; R];
        for i in 0..steps {
            let at = i * LANES;
            let w =
                [load(b.add(at)), load(b.add(width + at)), load(b.add(2 * width + at)), load(b.add(3 * width + at))];
            for t in 0..R {
                let x = load(a.add(t * width + at));
                for c in 0..COLUMNS {
                    sums[t][c] = _mm512_fmadd_ph(x, w[c], sums[t][c]);
                }
            }
        }
        let mask = (1u8 << to.columns) - 1;
        for t in 0..R {
            let sums = four_sums(sums[t]);
            let (scale, out) = (_mm_set1_ps(to.back(t)), to.out.add(t * to.stride));
            let sums = match to.add {
                true => _mm_fmadd_ps(sums, scale, _mm_maskz_loadu_ps(mask, out)),
                false => _mm_mul_ps(sums, scale),
            };
            _mm_mask_storeu_ps(out, mask, sums);
        }
    }
}

/// The sum of each of four vectors: four neighbouring lanes are added in f16, the rest in f32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512fp16")]
fn four_sums(sums: [__m512h; 4]) -> __m128 {
    let [a, b, c, d] = sums.map(|sum| _mm512_castph_si512(sum));
    let add = |x, y| _mm512_castph_si512(_mm512_add_ph(_mm512_castsi512_ph(x), _mm512_castsi512_ph(y)));
    let ab = add(_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b));
    let cd = add(_mm512_unpacklo_epi16(c, d), _mm512_unpackhi_epi16(c, d));
    let all = add(_mm512_unpacklo_epi32(ab, cd), _mm512_unpackhi_epi32(ab, cd)); // a, b, c, d, eight times
    let all = _mm512_add_ps(lower(all), upper(all));
    let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(all)));
    let all = _mm256_add_ps(_mm512_castps512_ps256(all), upper);
    _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all))
}

/// `R` rows of `a`, `stride` apart, against `deep` rows of a block of 64 columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512fp16")]
#[allow(clippy::needless_range_loop)] // as above
unsafe fn sweep<const R: usize>(a: *const u32, stride: usize, panel: *const u16, deep: usize, to: &Part) {
    // SAFETY: the caller's: so many rows and columns.
    unsafe {
        for first in (0..deep).step_by(CHAIN) {
            let mut sums = [[_mm512_setzero_ph(); 2]; R];
            for i in first..(first + CHAIN).min(deep) {
                let w = [load(panel.add(i * WIDE)), load(panel.add(i * WIDE + LANES))];
                for t in 0..R {
                    let x = _mm512_castsi512_ph(_mm512_set1_epi32(*a.add(t * stride + i) as i32));
                    sums[t][0] = _mm512_fmadd_ph(x, w[0], sums[t][0]);
                    sums[t][1] = _mm512_fmadd_ph(x, w[1], sums[t][1]);
                }
            }
            for t in 0..R {
                let scale = _mm512_set1_ps(to.back(t));
                let [left, right] = sums[t].map(|sum| _mm512_castph_si512(sum));
                for (part, sums) in [lower(left), upper(left), lower(right), upper(right)].into_iter().enumerate() {
                    let here = to.columns.saturating_sub(part * 16).min(16);
                    let (mask, out) = (((1u32 << here) - 1) as u16, to.out.wrapping_add(t * to.stride + part * 16));
                    let sums = match to.add || first > 0 {
                        true => _mm512_fmadd_ps(sums, scale, _mm512_maskz_loadu_ps(mask, out)),
                        false => _mm512_mul_ps(sums, scale),
                    };
                    _mm512_mask_storeu_ps(out, mask, sums);
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512fp16")]
unsafe fn load(from: *const u16) -> __m512h {
    // SAFETY: the caller's: a whole vector.
    unsafe { _mm512_castsi512_ph(_mm512_loadu_si512(from.cast())) }
}

#[target_feature(enable = "avx512f")]
fn lower(halves: __m512i) -> __m512 {
    _mm512_cvtph_ps(_mm512_castsi512_si256(halves))
}

#[target_feature(enable = "avx512f")]
fn upper(halves: __m512i) -> __m512 {
    _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(halves))
}

/// The power of two that brings a largest value into `[8, 16)`. Zeros, and what is not finite, stay as they are.
fn scale(largest: f32) -> f32 {
    if largest == 0.0 || !largest.is_finite() {
        return 1.0;
    }
    let exponent = (largest.to_bits() >> 23) as i32 - 127;
    f32::from_bits(((3 - exponent).clamp(-126, 126) + 127) as u32 * (1 << 23))
}

/// The largest absolute value: without the sign, bits are ordered as the values are (and NaN comes last).
#[target_feature(enable = "avx512f")]
fn largest(values: &[f32]) -> f32 {
    f32::from_bits(values.iter().fold(0, |largest, value| largest.max(value.abs().to_bits())))
}

/// The largest absolute value among bf16 values.
#[target_feature(enable = "avx512f,avx512bw")]
fn largest_bf16(values: &[u16]) -> f32 {
    f32::from_bits(u32::from(values.iter().fold(0, |largest, bits| largest.max(bits & 0x7fff))) << 16)
}

/// The nearest f16 of scaled values, f32 or the bits of bf16, and zeros up to the end of `out`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn halve<W: Value>(values: &[W], scale: f32, out: &mut [MaybeUninit<u16>]) {
    let (out, rest) = out.split_at_mut(values.len());
    let scale = _mm512_set1_ps(scale);
    for (values, out) in values.chunks(16).zip(out.chunks_mut(16)) {
        let mask = ((1u32 << values.len()) - 1) as u16;
        // SAFETY: as many values as the mask has lanes, and room for them.
        unsafe {
            let halves = _mm512_cvtps_ph::<0>(_mm512_mul_ps(W::load(values.as_ptr(), mask), scale));
            _mm256_mask_storeu_epi16(out.as_mut_ptr().cast(), mask, halves);
        }
    }
    rest.fill(MaybeUninit::new(0));
}

/// The nearest f16 of scaled values, each twice.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn halve_twice(values: &[f32], scale: f32, out: &mut [MaybeUninit<u32>]) {
    let scale = _mm512_set1_ps(scale);
    for (values, out) in values.chunks(16).zip(out.chunks_mut(16)) {
        let mask = ((1u32 << values.len()) - 1) as u16;
        // SAFETY: as many values as the mask has lanes, and room for them.
        unsafe {
            let halves = _mm512_cvtps_ph::<0>(_mm512_mul_ps(_mm512_maskz_loadu_ps(mask, values.as_ptr()), scale));
            let halves = _mm512_cvtepu16_epi32(halves);
            let twice = _mm512_or_si512(halves, _mm512_slli_epi32::<16>(halves));
            _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), mask, twice);
        }
    }
}
