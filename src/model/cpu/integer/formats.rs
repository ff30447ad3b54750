//! Blocks of each format as the pieces of a product in integers. `super::super::blocks` has the formats' table.

// Indices with constant bounds are what becomes vector code.
#![allow(clippy::needless_range_loop)]

use super::unit::{Piece, Unit};

/// A format of blocks.
pub(super) trait Format {
    /// Bytes of a block.
    const BYTES: usize;
    /// Pieces of 32 values in a block.
    const PIECES: usize;
    /// The largest byte of an unpacked piece; 255 stands for signed bytes.
    const LARGEST: u8;
    /// What is taken off each unpacked byte.
    const OFFSET: u32;
    /// Whether something is added to each value: `more[0]` of a piece.
    const MINIMUM: bool = false;
    /// Whether the halves of a piece have integer scales of their own: `more` of a piece.
    const HALVES: bool = false;

    /// The unit's own offset for signed bytes, the format's for others.
    fn offset<V: Unit>() -> u32 {
        if Self::LARGEST == 255 { V::BYTE_OFFSET } else { Self::OFFSET }
    }

    /// Unpacks the block at `from` of each row; rows lie `stride` bytes apart.
    ///
    /// # Safety
    /// As [`Unit`]; all rows must hold the block.
    unsafe fn unpack<V: Unit>(from: *const u8, stride: usize, into: &mut [Piece<V>]);
}

impl<V: Unit> Piece<V> {
    /// # Safety
    /// As [`Unit`].
    #[inline(always)]
    pub unsafe fn zero() -> Self {
        // SAFETY: the caller's.
        unsafe { Self { bytes: [V::every_word(0); 8], scale: V::zero(), more: [V::zero(); 2] } }
    }
}

/// The lower four bits of each byte.
#[inline(always)]
unsafe fn low<V: Unit>(words: V) -> V {
    // SAFETY: the caller's.
    unsafe { words.and(V::every_word(0x0f0f_0f0f)) }
}

/// The upper four bits of each byte.
#[inline(always)]
unsafe fn high<V: Unit>(words: V) -> V {
    // SAFETY: the caller's.
    unsafe { low(words.down(4)) }
}

/// Lower halves of sixteen bytes are the first values, upper halves the last ones.
#[inline(always)]
unsafe fn nibbles<V: Unit>(from: *const u8, stride: usize) -> [V; 8] {
    // SAFETY: the caller's.
    unsafe {
        let [a, b, c, d] = V::quads(from, stride);
        [low(a), low(b), low(c), low(d), high(a), high(b), high(c), high(d)]
    }
}

/// The same with one more bit for each value, in a word of each row.
#[inline(always)]
unsafe fn nibbles_and_fifth<V: Unit>(from: *const u8, stride: usize, fifth: V) -> [V; 8] {
    // SAFETY: the caller's.
    unsafe {
        let mut bytes = nibbles::<V>(from, stride);
        for byte in 0..4 {
            let bits = fifth.spread(byte);
            bytes[2 * byte] = bytes[2 * byte].with_fifth(bits, false);
            bytes[2 * byte + 1] = bytes[2 * byte + 1].with_fifth(bits, true);
        }
        bytes
    }
}

pub(super) struct Q4_0;

impl Format for Q4_0 {
    const BYTES: usize = 18;
    const PIECES: usize = 1;
    const LARGEST: u8 = 15;
    const OFFSET: u32 = 8;

    #[inline(always)]
    unsafe fn unpack<V: Unit>(from: *const u8, stride: usize, into: &mut [Piece<V>]) {
        // SAFETY: the caller's.
        unsafe {
            into[0].scale = V::words(from, stride).halves();
            into[0].bytes = nibbles(from.add(2), stride);
        }
    }
}

pub(super) struct Q4_1;

impl Format for Q4_1 {
    const BYTES: usize = 20;
    const PIECES: usize = 1;
    const LARGEST: u8 = 15;
    const OFFSET: u32 = 0;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn unpack<V: Unit>(from: *const u8, stride: usize, into: &mut [Piece<V>]) {
        // SAFETY: the caller's.
        unsafe {
            let head = V::words(from, stride);
            into[0].scale = head.halves();
            into[0].more[0] = head.down(16).halves();
            into[0].bytes = nibbles(from.add(4), stride);
        }
    }
}

pub(super) struct Q5_0;

impl Format for Q5_0 {
    const BYTES: usize = 22;
    const PIECES: usize = 1;
    const LARGEST: u8 = 31;
    const OFFSET: u32 = 16;

    #[inline(always)]
    unsafe fn unpack<V: Unit>(from: *const u8, stride: usize, into: &mut [Piece<V>]) {
        // SAFETY: the caller's.
        unsafe {
            // Scale and fifth bits come with the first of the other bytes.
            let [first, second, ..] = V::quads(from, stride);
            into[0].scale = first.halves();
            into[0].bytes = nibbles_and_fifth(from.add(6), stride, first.down(16).or(second.up(16)));
        }
    }
}

pub(super) struct Q5_1;

impl Format for Q5_1 {
    const BYTES: usize = 24;
    const PIECES: usize = 1;
    const LARGEST: u8 = 31;
    const OFFSET: u32 = 0;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn unpack<V: Unit>(from: *const u8, stride: usize, into: &mut [Piece<V>]) {
        // SAFETY: the caller's.
        unsafe {
            let [first, fifth, ..] = V::quads(from, stride);
            into[0].scale = first.halves();
            into[0].more[0] = first.down(16).halves();
            into[0].bytes = nibbles_and_fifth(from.add(8), stride, fifth);
        }
    }
}

pub(super) struct Q8_0;

impl Format for Q8_0 {
    const BYTES: usize = 34;
    const PIECES: usize = 1;
    const LARGEST: u8 = 255;
    const OFFSET: u32 = 0;

    #[inline(always)]
    unsafe fn unpack<V: Unit>(from: *const u8, stride: usize, into: &mut [Piece<V>]) {
        // SAFETY: the caller's.
        unsafe {
            into[0].scale = V::words(from, stride).halves();
            let ([a, b, c, d], [e, f, g, h]) = (V::quads(from.add(2), stride), V::quads(from.add(18), stride));
            into[0].bytes = [a.bytes(), b.bytes(), c.bytes(), d.bytes(), e.bytes(), f.bytes(), g.bytes(), h.bytes()];
        }
    }
}

/// Scales and minima of the eight pieces of a Q4_K or Q5_K block, from its first sixteen bytes.
#[inline(always)]
unsafe fn scales_and_minima<V: Unit>(from: *const u8, stride: usize, into: &mut [Piece<V>]) {
    // SAFETY: the caller's.
    unsafe {
        let [factors, scales, minima, rest] = V::quads(from, stride);
        let minus = V::every(-1.0);
        let (d, m) = (factors.halves(), V::times(factors.down(16).halves(), minus));
        let six = V::every_word(63);
        let four = V::every_word(15);
        let two = V::every_word(0x30);
        for at in 0..4 {
            let bits = 8 * at as u32;
            let (scale, minimum, rest) = (scales.down(bits), minima.down(bits), rest.down(bits));
            into[at].scale = V::times(d, scale.and(six).floats());
            into[at].more[0] = V::times(m, minimum.and(six).floats());
            // Bits 6 and 7 of the first ones are bits 4 and 5 of the last ones.
            let (upper_scale, upper_minimum) = (scale.down(2).and(two), minimum.down(2).and(two));
            into[at + 4].scale = V::times(d, rest.and(four).or(upper_scale).floats());
            into[at + 4].more[0] = V::times(m, rest.down(4).and(four).or(upper_minimum).floats());
        }
    }
}

pub(super) struct Q4K;

impl Format for Q4K {
    const BYTES: usize = 144;
    const PIECES: usize = 8;
    const LARGEST: u8 = 15;
    const OFFSET: u32 = 0;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn unpack<V: Unit>(from: *const u8, stride: usize, into: &mut [Piece<V>]) {
        // SAFETY: the caller's.
        unsafe {
            scales_and_minima(from, stride, into);
            for part in 0..4 {
                for side in 0..2 {
                    let quads = V::quads(from.add(16 + 32 * part + 16 * side), stride);
                    for at in 0..4 {
                        into[2 * part].bytes[4 * side + at] = low(quads[at]);
                        into[2 * part + 1].bytes[4 * side + at] = high(quads[at]);
                    }
                }
            }
        }
    }
}

pub(super) struct Q5K;

impl Format for Q5K {
    const BYTES: usize = 176;
    const PIECES: usize = 8;
    const LARGEST: u8 = 31;
    const OFFSET: u32 = 0;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn unpack<V: Unit>(from: *const u8, stride: usize, into: &mut [Piece<V>]) {
        // SAFETY: the caller's.
        unsafe {
            scales_and_minima(from, stride, into);
            let fifth = V::every_word(0x1010_1010);
            for side in 0..2 {
                let fifths = V::quads(from.add(16 + 16 * side), stride);
                for part in 0..4 {
                    let quads = V::quads(from.add(48 + 32 * part + 16 * side), stride);
                    for at in 0..4 {
                        // Bit `2 · part` of the byte belongs to the lower half, the next one to the upper half.
                        let both = fifths[at].down(2 * part as u32);
                        into[2 * part].bytes[4 * side + at] = low(quads[at]).or(both.up(4).and(fifth));
                        into[2 * part + 1].bytes[4 * side + at] = high(quads[at]).or(both.up(3).and(fifth));
                    }
                }
            }
        }
    }
}

pub(super) struct Q6K;

impl Format for Q6K {
    const BYTES: usize = 210;
    const PIECES: usize = 8;
    const LARGEST: u8 = 63;
    const OFFSET: u32 = 32;
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn unpack<V: Unit>(from: *const u8, stride: usize, into: &mut [Piece<V>]) {
        // SAFETY: the caller's; the scale is in the last two bytes, read with the two before them.
        unsafe {
            let d = V::words(from.add(206), stride).down(16).halves();
            let scales = V::quads(from.add(192), stride);
            for at in 0..8 {
                let bits = 16 * (at as u32 % 2);
                let (first, second) = (scales[at / 2].up(24 - bits), scales[at / 2].up(16 - bits));
                into[at].scale = d;
                into[at].more = [first.signed_top_byte().floats(), second.signed_top_byte().floats()];
            }
            let two = V::every_word(0x3030_3030);
            for part in 0..2 {
                for side in 0..2 {
                    let upper = V::quads(from.add(128 + 32 * part + 16 * side), stride);
                    for half in 0..2 {
                        let lower = V::quads(from.add(64 * part + 32 * half + 16 * side), stride);
                        for at in 0..4 {
                            let place = 4 * side + at;
                            // Two more bits of each value: quarter by quarter from the lowest.
                            let first = upper[at].down(2 * half as u32).up(4).and(two);
                            let second = upper[at].down(2 * half as u32).and(two);
                            into[4 * part + half].bytes[place] = low(lower[at]).or(first);
                            into[4 * part + 2 + half].bytes[place] = high(lower[at]).or(second);
                        }
                    }
                }
            }
        }
    }
}

pub(super) struct Q3K;

impl Format for Q3K {
    const BYTES: usize = 110;
    const PIECES: usize = 8;
    const LARGEST: u8 = 7;
    const OFFSET: u32 = 4;
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn unpack<V: Unit>(from: *const u8, stride: usize, into: &mut [Piece<V>]) {
        // SAFETY: the caller's; the twelve bytes of scales and the two of the factor are read with the two before them.
        unsafe {
            let [a, b, c, d] = V::quads(from.add(94), stride);
            let factor = d.down(16).halves();
            let lower = [a.down(16).or(b.up(16)), b.down(16).or(c.up(16))];
            let upper = c.down(16).or(d.up(16));
            let two = V::every_word(0x0303_0303);
            let six = V::every_word(63);
            let scale = |four: V, at: u32| {
                let scale = four.down(8 * at).and(six).floats();
                V::multiply_add(scale, V::every(1.0), V::every(-32.0))
            };
            for group in 0..4 {
                // Four bits of four scales, and two more bits of each.
                let four = if group < 2 { low(lower[group]) } else { high(lower[group - 2]) };
                let four = four.or(upper.down(2 * group as u32).and(two).up(4));
                for at in 0..2 {
                    into[2 * group + at].scale = factor;
                    into[2 * group + at].more = [scale(four, 2 * at as u32), scale(four, 2 * at as u32 + 1)];
                }
            }
            let one = V::every_word(0x0101_0101);
            for side in 0..2 {
                let thirds = V::quads(from.add(16 * side), stride);
                for part in 0..2 {
                    let pairs = V::quads(from.add(32 + 32 * part + 16 * side), stride);
                    for quarter in 0..4 {
                        let piece = 4 * part + quarter;
                        for at in 0..4 {
                            let third = thirds[at].down(piece as u32).and(one).up(2);
                            let pair = pairs[at].down(2 * quarter as u32).and(two);
                            into[piece].bytes[4 * side + at] = pair.or(third);
                        }
                    }
                }
            }
        }
    }
}
