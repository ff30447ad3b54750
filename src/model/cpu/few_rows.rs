//! `x Wᵀ` for a handful of rows on either side (decoding; a LoRA's narrow products): both are read in place, along
//! their rows. A general product packs its operands anew on each call, which with few rows costs more than the product.
//!
//! Each output is summed in the same order whatever stands beside it, so a row's result does not depend on its batch.
//! Only for vector units: where there is none, the general product does it.

use super::simd::{Path, path};

/// Number of rows on the narrower side up to which this product is faster than the general one.
pub(crate) const MAX_ROWS: usize = 32;

/// The weights of a product as they are stored, row after row.
#[derive(Clone, Copy)]
pub(crate) enum Stored<'a> {
    F32(&'a [f32]),
    /// bf16 values as their bits.
    Bf16(&'a [u16]),
    /// f16 values as their bits.
    F16(&'a [u16]),
}

impl<'a> Stored<'a> {
    /// A part of the values.
    pub(crate) fn range(self, range: std::ops::Range<usize>) -> Stored<'a> {
        match self {
            Self::F32(values) => Self::F32(&values[range]),
            Self::Bf16(bits) => Self::Bf16(&bits[range]),
            Self::F16(bits) => Self::F16(&bits[range]),
        }
    }

    pub(crate) fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(bits) | Self::F16(bits) => bits.len(),
        }
    }
}

/// An f16 as f32, exactly: its exponent is put 112 lower than f32's, which one multiplication mends, subnormals included.
/// (Infinite ones come out finite: no weight is one.)
#[inline(always)]
pub(crate) fn half(bits: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(magnitude.to_bits() | u32::from(bits & 0x8000) << 16)
}

/// Whether a product of `x [m, ·]` with `w [n, ·]` is one for [`few_rows`].
pub(crate) fn applies(m: usize, n: usize) -> bool {
    m.min(n) <= MAX_ROWS && path() > Path::Scalar
}

/// `x [m, width]` times `w [n, width]` transposed, into the first `n` columns of rows that lie `stride` apart.
///
/// # Safety
/// `out` must hold `m` rows of `n` values, `stride` apart, which nobody else touches meanwhile.
pub(crate) unsafe fn few_rows(x: &[f32], w: Stored, width: usize, out: *mut f32, stride: usize) {
    assert!(width > 0 && x.len().is_multiple_of(width) && w.len().is_multiple_of(width), "rows of {width} values");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `path` never answers with a unit that this processor lacks; the rest is the caller's.
    unsafe {
        match (path(), w) {
            (Path::Plain | Path::Scalar, _) | (_, Stored::F16(_)) => {}
            (Path::Avx2, Stored::F32(w)) => return x86::avx2(x, w, width, out, stride),
            (Path::Avx2, Stored::Bf16(w)) => return x86::avx2(x, w, width, out, stride),
            (_, Stored::F32(w)) => return x86::avx512(x, w, width, out, stride),
            (_, Stored::Bf16(w)) => return x86::avx512(x, w, width, out, stride),
        }
    }
    let value = |i: usize| match w {
        Stored::F32(w) => w[i],
        Stored::Bf16(w) => f32::from_bits(u32::from(w[i]) << 16),
        Stored::F16(w) => half(w[i]),
    };
    for token in 0..x.len() / width {
        for row in 0..w.len() / width {
            let sum = (0..width).map(|i| x[token * width + i] * value(row * width + i)).sum();
            // SAFETY: the caller's.
            unsafe { *out.add(token * stride + row) = sum };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    // Indices with constant bounds are what turns the sums into registers.
    #![allow(clippy::needless_range_loop)]

    use std::arch::x86_64::{__m256, __m512, _MM_HINT_T0, _mm_prefetch};

    use crate::model::cpu::lanes::Lanes;

    /// A type that weights are stored in, which can be loaded as f32 lanes.
    pub trait Weight: Copy {
        fn value(self) -> f32;
        /// # Safety
        /// As [`Lanes`].
        unsafe fn lanes<V: Lanes>(from: *const Self) -> V;
    }

    impl Weight for f32 {
        #[inline(always)]
        fn value(self) -> f32 {
            self
        }

        #[inline(always)]
        unsafe fn lanes<V: Lanes>(from: *const f32) -> V {
            // SAFETY: the caller's.
            unsafe { V::load(from) }
        }
    }

    impl Weight for u16 {
        #[inline(always)]
        fn value(self) -> f32 {
            f32::from_bits(u32::from(self) << 16)
        }

        #[inline(always)]
        unsafe fn lanes<V: Lanes>(from: *const u16) -> V {
            // SAFETY: the caller's.
            unsafe { V::widen(from) }
        }
    }

    /// # Safety
    /// The unit must be there, and `out` as [`super::few_rows`] asks.
    #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
    pub unsafe fn avx512<W: Weight>(x: &[f32], w: &[W], width: usize, out: *mut f32, stride: usize) {
        // SAFETY: the caller's.
        unsafe { every_row::<__m512, W>(x, w, width, out, stride) }
    }

    /// # Safety
    /// The unit must be there, and `out` as [`super::few_rows`] asks.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2<W: Weight>(x: &[f32], w: &[W], width: usize, out: *mut f32, stride: usize) {
        // SAFETY: the caller's.
        unsafe { every_row::<__m256, W>(x, w, width, out, stride) }
    }

    /// How far ahead each stream of weights is prefetched. Rows are too short for the processor's own prefetcher; with
    /// this and four streams, decoding reads bf16 weights at the memory's rate (1.7 times what four neighbouring rows
    /// reach without).
    const AHEAD: usize = 2048;

    // Loops instead of closures in what follows: a closure is a function of its own, without the vector unit.
    #[inline(always)]
    unsafe fn every_row<V: Lanes, W: Weight>(x: &[f32], w: &[W], width: usize, out: *mut f32, stride: usize) {
        let (m, n) = (x.len() / width, w.len() / width);
        // Four streams, each through a quarter of the rows.
        let apart = n.div_ceil(4);
        for row in 0..apart {
            let rows = (n - row).div_ceil(apart);
            // SAFETY: the pointers are to whole rows of `w` and `x` (the last one repeated where four are not left), and
            // what is written lies within the first n columns.
            unsafe {
                let first = w.as_ptr().add(row * width);
                let at = [
                    first,
                    first.add(1.min(rows - 1) * apart * width),
                    first.add(2.min(rows - 1) * apart * width),
                    first.add(3.min(rows - 1) * apart * width),
                ];
                let mut token = 0;
                while token < m {
                    let (from, to) = (x.as_ptr().add(token * width), out.add(token * stride + row));
                    token += match m - token {
                        4.. if V::COUNT == 16 => tile::<V, W, 4>(from, at, width, to, (stride, apart), rows),
                        2.. => tile::<V, W, 2>(from, at, width, to, (stride, apart), rows),
                        _ => tile::<V, W, 1>(from, at, width, to, (stride, apart), rows),
                    };
                }
            }
        }
    }

    /// `T` rows of `x` against four of weights; the sums of the first `rows` of the four are written, `apart` from each
    /// other. Gives `T`.
    #[inline(always)]
    unsafe fn tile<V: Lanes, W: Weight, const T: usize>(
        x: *const f32,
        w: [*const W; 4],
        width: usize,
        out: *mut f32,
        (stride, apart): (usize, usize),
        rows: usize,
    ) -> usize {
        let line = 64 / size_of::<W>();
        // SAFETY: the caller's: `T` rows of `x` and the four of `w` hold `width` values each. What is asked for ahead is not
        // read.
        unsafe {
            let mut sums = [[V::zero(); 4]; T];
            let mut i = 0;
            while i + line <= width {
                for r in 0..4 {
                    _mm_prefetch::<_MM_HINT_T0>(w[r].add(i).cast::<i8>().wrapping_add(AHEAD));
                }
                for part in 0..line / V::COUNT {
                    add_vector(x, w, width, i + part * V::COUNT, &mut sums);
                }
                i += line;
            }
            while i + V::COUNT <= width {
                add_vector(x, w, width, i, &mut sums);
                i += V::COUNT;
            }
            for t in 0..T {
                let mut total = V::sums(sums[t]);
                for i in i..width {
                    for r in 0..4 {
                        total[r] += *x.add(t * width + i) * (*w[r].add(i)).value();
                    }
                }
                for r in 0..rows {
                    *out.add(t * stride + r * apart) = total[r];
                }
            }
        }
        T
    }

    /// The products of one vector's columns.
    #[inline(always)]
    unsafe fn add_vector<V: Lanes, W: Weight, const T: usize>(
        x: *const f32,
        w: [*const W; 4],
        width: usize,
        i: usize,
        sums: &mut [[V; 4]; T],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let weights = [
                W::lanes::<V>(w[0].add(i)),
                W::lanes::<V>(w[1].add(i)),
                W::lanes::<V>(w[2].add(i)),
                W::lanes::<V>(w[3].add(i)),
            ];
            for t in 0..T {
                let values = V::load(x.add(t * width + i));
                for r in 0..4 {
                    sums[t][r] = values.multiply_add(weights[r], sums[t][r]);
                }
            }
        }
    }
}
