//! Units of the x86-64 family. Everything is inlined into a function that enables the instructions.

use std::arch::x86_64::*;

use super::every_row;
use super::formats::Format;
use super::rounded::Rounded;
use super::unit::Unit;
use crate::model::cpu::target::Target;

/// # Safety
/// The instructions must be there; `out` as [`super::product`] asks.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn avx2<F: Format>(x: &Rounded, blocks: &[u8], out: Target) {
    // SAFETY: the caller's.
    unsafe { every_row::<Eight<false>, F>(x, blocks, out) }
}

/// # Safety
/// The instructions must be there; `out` as [`super::product`] asks.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub(super) unsafe fn avx_vnni<F: Format>(x: &Rounded, blocks: &[u8], out: Target) {
    // SAFETY: the caller's.
    unsafe { every_row::<Eight<true>, F>(x, blocks, out) }
}

/// # Safety
/// The instructions must be there; `out` as [`super::product`] asks.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn avx512_vnni<F: Format>(x: &Rounded, blocks: &[u8], out: Target) {
    // SAFETY: the caller's.
    unsafe { every_row::<Sixteen, F>(x, blocks, out) }
}

/// Eight lanes; `VNNI` says whether products of bytes are added to 32 bits by one instruction.
#[derive(Clone, Copy)]
pub(super) struct Eight<const VNNI: bool>(__m256i);

/// Sixteen lanes.
#[derive(Clone, Copy)]
pub(super) struct Sixteen(__m512i);

/// Four words of rows that lie `stride` bytes apart.
#[inline(always)]
unsafe fn four_words(from: *const u8, stride: usize) -> __m128i {
    // SAFETY: the caller's.
    unsafe {
        let (a, b) = (from.cast::<i32>(), from.add(stride).cast::<i32>());
        let (c, d) = (from.add(2 * stride).cast::<i32>(), from.add(3 * stride).cast::<i32>());
        _mm_setr_epi32(a.read_unaligned(), b.read_unaligned(), c.read_unaligned(), d.read_unaligned())
    }
}

// Functions that are always inlined instead of closures: a closure is a function of its own, without the instructions.
/// Sixteen bytes of row `at`.
#[inline(always)]
unsafe fn row(from: *const u8, stride: usize, at: usize) -> __m128i {
    // SAFETY: the caller's.
    unsafe { _mm_loadu_si128(from.add(at * stride).cast()) }
}

/// The same of row `at` and of the fourth after it.
#[inline(always)]
unsafe fn two_rows(from: *const u8, stride: usize, at: usize) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(row(from, stride, at)), row(from, stride, at + 4)) }
}

/// The same of row `at` and of each fourth after it.
#[inline(always)]
unsafe fn four_rows(from: *const u8, stride: usize, at: usize) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        let first = _mm512_castsi128_si512(row(from, stride, at));
        let second = _mm512_inserti32x4::<1>(first, row(from, stride, at + 4));
        let third = _mm512_inserti32x4::<2>(second, row(from, stride, at + 8));
        _mm512_inserti32x4::<3>(third, row(from, stride, at + 12))
    }
}

/// Byte `at` of each of four words, four times: an order for `shuffle_epi8`.
#[inline(always)]
unsafe fn spreading(at: usize) -> __m128i {
    let at = at as i32;
    // SAFETY: the caller's.
    unsafe {
        let words = _mm_setr_epi32(0, 4, 8, 12);
        _mm_or_si128(
            _mm_set1_epi8(at as i8),
            _mm_or_si128(
                _mm_or_si128(words, _mm_slli_epi32::<8>(words)),
                _mm_or_si128(_mm_slli_epi32::<16>(words), _mm_slli_epi32::<24>(words)),
            ),
        )
    }
}

/// Four values of `values` in every lane.
#[inline(always)]
unsafe fn four_values(values: *const i8, at: usize) -> i32 {
    // SAFETY: the caller's.
    unsafe { values.add(4 * at).cast::<i32>().read_unaligned() }
}

// SAFETY (of each method): the caller's, as the trait asks.
unsafe impl<const VNNI: bool> Unit for Eight<VNNI> {
    type Floats = __m256;
    const ROWS: usize = 8;
    /// Products to 16 bits have no room for unsigned bytes up to 255; signs are moved to the other factor instead.
    const BYTE_OFFSET: u32 = if VNNI { 128 } else { 0 };

    #[inline(always)]
    unsafe fn every_word(word: u32) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm256_set1_epi32(word as i32) })
    }

    #[inline(always)]
    unsafe fn words(from: *const u8, stride: usize) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm256_set_m128i(four_words(from.add(4 * stride), stride), four_words(from, stride)) })
    }

    #[inline(always)]
    unsafe fn quads(from: *const u8, stride: usize) -> [Self; 4] {
        // SAFETY: the caller's.
        unsafe {
            let (a, b) = (two_rows(from, stride, 0), two_rows(from, stride, 1));
            let (c, d) = (two_rows(from, stride, 2), two_rows(from, stride, 3));
            let (low_ab, high_ab) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (low_cd, high_cd) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            [
                Self(_mm256_unpacklo_epi64(low_ab, low_cd)),
                Self(_mm256_unpackhi_epi64(low_ab, low_cd)),
                Self(_mm256_unpacklo_epi64(high_ab, high_cd)),
                Self(_mm256_unpackhi_epi64(high_ab, high_cd)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm256_and_si256(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm256_or_si256(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn up(self, bits: u32) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm256_sll_epi32(self.0, _mm_cvtsi32_si128(bits as i32)) })
    }

    #[inline(always)]
    unsafe fn down(self, bits: u32) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm256_srl_epi32(self.0, _mm_cvtsi32_si128(bits as i32)) })
    }

    #[inline(always)]
    unsafe fn signed_top_byte(self) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm256_srai_epi32::<24>(self.0) })
    }

    #[inline(always)]
    unsafe fn bytes(self) -> Self {
        // SAFETY: the caller's.
        if VNNI { Self(unsafe { _mm256_xor_si256(self.0, _mm256_set1_epi8(-128)) }) } else { self }
    }

    #[inline(always)]
    unsafe fn spread(self, at: usize) -> Self {
        // SAFETY: the caller's.
        unsafe { Self(_mm256_shuffle_epi8(self.0, _mm256_broadcastsi128_si256(spreading(at)))) }
    }

    #[inline(always)]
    unsafe fn with_fifth(self, bits: Self, upper: bool) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let wanted = _mm256_set1_epi32(if upper { 0x8040_2010_u32 as i32 } else { 0x0804_0201 });
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(bits.0, wanted), wanted);
            Self(_mm256_or_si256(self.0, _mm256_and_si256(set, _mm256_set1_epi8(16))))
        }
    }

    #[inline(always)]
    unsafe fn dot<const N: usize, F: Format>(weights: *const Self, values: *const i8, minus_sum: i32) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let offset = F::offset::<Self>();
            let start = match offset {
                0 => _mm256_setzero_si256(),
                _ => Self(_mm256_set1_epi32(minus_sum)).up(offset.trailing_zeros()).0,
            };
            let mut sums = [start, _mm256_setzero_si256()];
            if VNNI {
                for at in 0..N {
                    let value = _mm256_set1_epi32(four_values(values, at));
                    sums[at % 2] = _mm256_dpbusd_avx_epi32(sums[at % 2], (*weights.add(at)).0, value);
                }
                return Self(_mm256_add_epi32(sums[0], sums[1]));
            }
            // How many products of two bytes each fit in 16 bits: 2 · 127 · the largest byte.
            let together = (32_767 / (2 * 127 * if F::LARGEST == 255 { 128 } else { usize::from(F::LARGEST) })).min(N);
            for first in (0..N).step_by(together) {
                let mut pairs = _mm256_setzero_si256();
                for at in first..(first + together).min(N) {
                    let (weight, value) = ((*weights.add(at)).0, _mm256_set1_epi32(four_values(values, at)));
                    let pair = match F::LARGEST {
                        255 => _mm256_maddubs_epi16(_mm256_abs_epi8(weight), _mm256_sign_epi8(value, weight)),
                        _ => _mm256_maddubs_epi16(weight, value),
                    };
                    pairs = if at == first { pair } else { _mm256_add_epi16(pairs, pair) };
                }
                sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
            }
            Self(sums[0])
        }
    }

    #[inline(always)]
    unsafe fn floats(self) -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_cvtepi32_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn halves(self) -> __m256 {
        // SAFETY: the caller's.
        unsafe {
            let low = _mm256_and_si256(self.0, _mm256_set1_epi32(0xffff));
            let packed = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256::<1>(low));
            _mm256_cvtph_ps(packed)
        }
    }

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn every(value: f32) -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(values: __m256, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { _mm256_storeu_ps(to, values) }
    }

    #[inline(always)]
    unsafe fn times(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn fetch(at: *const u8) {
        // SAFETY: a hint, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
}

// SAFETY (of each method): the caller's, as the trait asks.
unsafe impl Unit for Sixteen {
    type Floats = __m512;
    const ROWS: usize = 16;
    const BYTE_OFFSET: u32 = 128;

    #[inline(always)]
    unsafe fn every_word(word: u32) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm512_set1_epi32(word as i32) })
    }

    #[inline(always)]
    unsafe fn words(from: *const u8, stride: usize) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let low = _mm256_set_m128i(four_words(from.add(4 * stride), stride), four_words(from, stride));
            let from = from.add(8 * stride);
            let high = _mm256_set_m128i(four_words(from.add(4 * stride), stride), four_words(from, stride));
            Self(_mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high))
        }
    }

    #[inline(always)]
    unsafe fn quads(from: *const u8, stride: usize) -> [Self; 4] {
        // SAFETY: the caller's.
        unsafe {
            let (a, b) = (four_rows(from, stride, 0), four_rows(from, stride, 1));
            let (c, d) = (four_rows(from, stride, 2), four_rows(from, stride, 3));
            let (low_ab, high_ab) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (low_cd, high_cd) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            [
                Self(_mm512_unpacklo_epi64(low_ab, low_cd)),
                Self(_mm512_unpackhi_epi64(low_ab, low_cd)),
                Self(_mm512_unpacklo_epi64(high_ab, high_cd)),
                Self(_mm512_unpackhi_epi64(high_ab, high_cd)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm512_and_si512(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm512_or_si512(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn up(self, bits: u32) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm512_sll_epi32(self.0, _mm_cvtsi32_si128(bits as i32)) })
    }

    #[inline(always)]
    unsafe fn down(self, bits: u32) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm512_srl_epi32(self.0, _mm_cvtsi32_si128(bits as i32)) })
    }

    #[inline(always)]
    unsafe fn signed_top_byte(self) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm512_srai_epi32::<24>(self.0) })
    }

    #[inline(always)]
    unsafe fn bytes(self) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm512_xor_si512(self.0, _mm512_set1_epi8(-128)) })
    }

    #[inline(always)]
    unsafe fn spread(self, at: usize) -> Self {
        // SAFETY: the caller's.
        unsafe { Self(_mm512_shuffle_epi8(self.0, _mm512_broadcast_i32x4(spreading(at)))) }
    }

    #[inline(always)]
    unsafe fn with_fifth(self, bits: Self, upper: bool) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let wanted = _mm512_set1_epi32(if upper { 0x8040_2010_u32 as i32 } else { 0x0804_0201 });
            let set = _mm512_test_epi8_mask(bits.0, wanted);
            Self(_mm512_mask_add_epi8(self.0, set, self.0, _mm512_set1_epi8(16)))
        }
    }

    #[inline(always)]
    unsafe fn dot<const N: usize, F: Format>(weights: *const Self, values: *const i8, minus_sum: i32) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let offset = F::offset::<Self>();
            let start = match offset {
                0 => _mm512_setzero_si512(),
                _ => Self(_mm512_set1_epi32(minus_sum)).up(offset.trailing_zeros()).0,
            };
            let mut sums = [start, _mm512_setzero_si512()];
            for at in 0..N {
                let value = _mm512_set1_epi32(four_values(values, at));
                sums[at % 2] = _mm512_dpbusd_epi32(sums[at % 2], (*weights.add(at)).0, value);
            }
            Self(_mm512_add_epi32(sums[0], sums[1]))
        }
    }

    #[inline(always)]
    unsafe fn floats(self) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_cvtepi32_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn halves(self) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(self.0)) }
    }

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn every(value: f32) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(values: __m512, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { _mm512_storeu_ps(to, values) }
    }

    #[inline(always)]
    unsafe fn times(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn fetch(at: *const u8) {
        // SAFETY: a hint, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
}
