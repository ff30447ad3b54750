//! `x Wᵀ` with quantised blocks in integers, for decoding: the rows of `x` are rounded to 8 bits ([`rounded`]), and the
//! blocks' small integers are multiplied as they are, without becoming f32 first. llama.cpp decodes in the same way.
//!
//! A vector holds one 32-bit lane for each of 8 or 16 rows of the weight, so that no product ever sums across lanes. A piece
//! of 32 columns of these rows is eight vectors of four bytes a lane; it is unpacked once and then meets every row of `x`.
//! For output `(token, row)` and piece `p`, with `u` the block's integers as they are stored,
//!
//! `sum ← sum + (Σ u·q − offset·Σ q) · (d · scale)`, and for a format with a minimum `m`: `sum ← sum + m · (scale · Σ q)`.
//!
//! The bracket is exact, and each step on `sum` is one fused multiply-add, in the order of the pieces. So every unit gives the
//! same bits, and neither the other rows of the batch nor the cut of the weight changes them.

mod formats;
mod portable;
pub(crate) mod rounded;
mod unit;
#[cfg(target_arch = "x86_64")]
mod x86;

use candle_core::quantized::GgmlDType;

use self::formats::{Format, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
use self::portable::Words;
use self::rounded::Rounded;
use self::unit::{Piece, Unit};
use crate::model::cpu::simd::{Path, path};
use crate::model::cpu::target::Target;

/// Pieces that are unpacked before they are multiplied: 4 KiB, which stays in the first-level cache.
const AT_ONCE: usize = 8;
/// Rows of `x` whose sums are kept beside them.
const TOKENS: usize = 32;
/// Largest number of lanes of a unit.
const LANES: usize = 16;

/// Instructions that make the products. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable,
    /// AVX2: products of bytes to 16 bits, summed in pairs.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-VNNI: four products of bytes added to a lane of 32 bits, 256 bits wide.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// The same, 512 bits wide.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

/// The best that this processor has within [`path`]. `REALIGN_SIMD=avx2` stands for a processor with AVX2 and no more.
fn kind() -> Kind {
    #[cfg(target_arch = "x86_64")]
    {
        static AVX2_ALONE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        let alone = || *AVX2_ALONE.get_or_init(|| std::env::var("REALIGN_SIMD").is_ok_and(|wanted| wanted == "avx2"));
        let f16c = is_x86_feature_detected!("f16c");
        match path() {
            Path::Plain | Path::Scalar => {}
            Path::Avx512 | Path::Avx512Bf16 | Path::Avx512Fp16 if is_x86_feature_detected!("avx512vnni") => {
                return Kind::Avx512Vnni;
            }
            _ if f16c && is_x86_feature_detected!("avxvnni") && !alone() => return Kind::AvxVnni,
            _ if f16c => return Kind::Avx2,
            _ => {}
        }
    }
    Kind::Portable
}

/// Whether there are such products with blocks of this format. Q2_K is unpacked: it has a minimum for each 16 values, where
/// a piece has one.
pub(crate) fn multiplies(format: GgmlDType) -> bool {
    format != GgmlDType::Q2K
}

/// `x Wᵀ` for whole rows of blocks of a format that [`multiplies`], into the first columns of `out`'s rows.
///
/// # Safety
/// `out` must hold `x`'s rows with a column for each row of the weight, touched by nobody else.
pub(crate) unsafe fn product(x: &Rounded, format: GgmlDType, blocks: &[u8], out: Target) {
    // SAFETY: `kind` answers with what this processor has; the rest is the caller's.
    unsafe { product_by(kind(), x, format, blocks, out) }
}

/// # Safety
/// As [`product`], and the processor must have the instructions.
unsafe fn product_by(kind: Kind, x: &Rounded, format: GgmlDType, blocks: &[u8], out: Target) {
    // SAFETY: the caller's.
    unsafe {
        match format {
            GgmlDType::Q4_0 => by_unit::<Q4_0>(kind, x, blocks, out),
            GgmlDType::Q4_1 => by_unit::<Q4_1>(kind, x, blocks, out),
            GgmlDType::Q5_0 => by_unit::<Q5_0>(kind, x, blocks, out),
            GgmlDType::Q5_1 => by_unit::<Q5_1>(kind, x, blocks, out),
            GgmlDType::Q8_0 => by_unit::<Q8_0>(kind, x, blocks, out),
            GgmlDType::Q3K => by_unit::<Q3K>(kind, x, blocks, out),
            GgmlDType::Q4K => by_unit::<Q4K>(kind, x, blocks, out),
            GgmlDType::Q5K => by_unit::<Q5K>(kind, x, blocks, out),
            GgmlDType::Q6K => by_unit::<Q6K>(kind, x, blocks, out),
            other => unreachable!("no weight is held as {other:?}"),
        }
    }
}

/// # Safety
/// As [`product_by`].
unsafe fn by_unit<F: Format>(kind: Kind, x: &Rounded, blocks: &[u8], out: Target) {
    // SAFETY: the caller's.
    unsafe {
        match kind {
            Kind::Portable => every_row::<Words, F>(x, blocks, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => x86::avx2::<F>(x, blocks, out),
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => x86::avx_vnni::<F>(x, blocks, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => x86::avx512_vnni::<F>(x, blocks, out),
        }
    }
}

/// # Safety
/// As [`product_by`].
#[inline(always)]
unsafe fn every_row<V: Unit, F: Format>(x: &Rounded, blocks: &[u8], out: Target) {
    assert!(x.width().is_multiple_of(32 * F::PIECES), "rows of {} values in whole blocks", x.width());
    let bytes = x.width() / (32 * F::PIECES) * F::BYTES; // of a row
    assert!(bytes > 0 && blocks.len().is_multiple_of(bytes), "whole rows of {bytes} bytes");
    let rows = blocks.len() / bytes;
    for first in (0..rows).step_by(V::ROWS) {
        let count = V::ROWS.min(rows - first);
        let from = &blocks[first * bytes..(first + count) * bytes];
        // The last rows are put among zeros where they do not fill a vector.
        let padded: Vec<u8> = if count < V::ROWS {
            from.iter().copied().chain(std::iter::repeat(0)).take(V::ROWS * bytes).collect()
        } else {
            Vec::new()
        };
        let from = if count < V::ROWS { padded.as_slice() } else { from };
        // SAFETY: `from` holds as many rows as the unit has lanes; the rest is the caller's.
        unsafe { rows_of_a_vector::<V, F>(x, from, bytes, count, out.at_column(first)) };
    }
}

/// As many rows of the weight as a vector has lanes; `count` of them are written.
#[inline(always)]
unsafe fn rows_of_a_vector<V: Unit, F: Format>(x: &Rounded, from: &[u8], bytes: usize, count: usize, out: Target) {
    let pieces = x.width() / 32;
    // SAFETY: the caller's.
    let mut unpacked = [unsafe { Piece::<V>::zero() }; AT_ONCE];
    let mut sums = [0f32; TOKENS * LANES];
    for start in (0..x.rows()).step_by(TOKENS) {
        let end = (start + TOKENS).min(x.rows());
        sums[..(end - start) * V::ROWS].fill(0.0);
        for first in (0..pieces).step_by(AT_ONCE) {
            let some = AT_ONCE.min(pieces - first);
            // SAFETY: within `from`, whose rows hold all pieces; what is fetched ahead is not read.
            unsafe {
                for piece in (0..some).step_by(F::PIECES) {
                    if F::PIECES == 1 {
                        fetch_ahead::<V>(from, first + piece, pieces);
                    }
                    let at = from.as_ptr().add((first + piece) / F::PIECES * F::BYTES);
                    F::unpack(at, bytes, &mut unpacked[piece..piece + F::PIECES]);
                }
            }
            let unpacked = &unpacked[..some];
            let mut token = start;
            while token < end {
                let to = &mut sums[(token - start) * V::ROWS..];
                let next = (F::PIECES > 1 && token == start).then_some(from);
                // SAFETY: `x` has these rows and pieces, and `to` room for their sums.
                token += unsafe {
                    match end - token {
                        4.. => multiply::<V, F, 4>((unpacked, first), x, token, to, next),
                        2.. => multiply::<V, F, 2>((unpacked, first), x, token, to, next),
                        _ => multiply::<V, F, 1>((unpacked, first), x, token, to, next),
                    }
                };
            }
        }
        for token in start..end {
            let sums = &sums[(token - start) * V::ROWS..][..count];
            // SAFETY: the caller's.
            unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), out.values.add(token * out.stride), count) };
        }
    }
}

/// Asks for this piece's share of the bytes behind `from`, those of the next rows. A few lines between the work on two pieces
/// reach the memory's rate; all of them at once wait for each other (half the rate).
#[inline(always)]
fn fetch_ahead<V: Unit>(from: &[u8], piece: usize, pieces: usize) {
    let (start, end) = (from.len() * piece / pieces, from.len() * (piece + 1) / pieces);
    for line in (start..end).step_by(64) {
        V::fetch(from.as_ptr().wrapping_add(from.len() + line));
    }
}

/// Adds the products of unpacked pieces with `T` rows of `x` to their sums; `first` is the number of the first piece.
/// Gives `T`. With `next`, the rows that are read now, it asks for those behind them on the way.
#[inline(always)]
unsafe fn multiply<V: Unit, F: Format, const T: usize>(
    (unpacked, first): (&[Piece<V>], usize),
    x: &Rounded,
    token: usize,
    sums: &mut [f32],
    next: Option<&[u8]>,
) -> usize {
    assert!(sums.len() >= T * V::ROWS);
    let pieces = x.width() / 32;
    // SAFETY: the caller's.
    unsafe {
        let mut totals = [V::zero(); T];
        for (t, total) in totals.iter_mut().enumerate() {
            *total = V::load(sums.as_ptr().add(t * V::ROWS));
        }
        for (at, piece) in unpacked.iter().enumerate() {
            if let Some(from) = next {
                fetch_ahead::<V>(from, first + at, pieces);
            }
            for (t, total) in totals.iter_mut().enumerate() {
                let (values, about) = x.piece(token + t, first + at);
                let scale = V::times(piece.scale, V::every(about.scale));
                let product = if F::HALVES {
                    let low = V::dot::<4, F>(piece.bytes.as_ptr(), values, about.minus_sums[0]);
                    let high = V::dot::<4, F>(piece.bytes.as_ptr().add(4), values.add(16), about.minus_sums[1]);
                    // Both products and their sum are integers below 2²⁴: exact.
                    V::multiply_add(low.floats(), piece.more[0], V::times(high.floats(), piece.more[1]))
                } else {
                    V::dot::<8, F>(piece.bytes.as_ptr(), values, about.minus_sum).floats()
                };
                *total = V::multiply_add(product, scale, *total);
                if F::MINIMUM {
                    *total = V::multiply_add(piece.more[0], V::every(about.scaled_sum), *total);
                }
            }
        }
        for (t, total) in totals.iter().enumerate() {
            V::store(*total, sums.as_mut_ptr().add(t * V::ROWS));
        }
    }
    T
}

#[cfg(test)]
mod tests;
