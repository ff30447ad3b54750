//! What a product in integers asks of a processor: vectors with one 32-bit lane for each of some rows of the weight.

use super::formats::Format;

/// A vector of 32-bit lanes, one a row of the weight; bytes of a lane are neighbouring columns.
///
/// # Safety
/// Every method needs the instructions that the type stands for, and pointers to what it reads.
pub(super) unsafe trait Unit: Copy {
    /// As many f32.
    type Floats: Copy;
    /// Number of lanes.
    const ROWS: usize;
    /// What [`Unit::bytes`] adds to signed bytes: products take the weight's bytes unsigned, or as they are.
    const BYTE_OFFSET: u32;

    /// The same word in every lane.
    unsafe fn every_word(word: u32) -> Self;
    /// Four bytes of each row, which lie `stride` bytes apart.
    unsafe fn words(from: *const u8, stride: usize) -> Self;
    /// Sixteen bytes of each row: four vectors of four bytes a row.
    unsafe fn quads(from: *const u8, stride: usize) -> [Self; 4];
    unsafe fn and(self, other: Self) -> Self;
    unsafe fn or(self, other: Self) -> Self;
    /// Each lane's bits moved up.
    unsafe fn up(self, bits: u32) -> Self;
    /// Each lane's bits moved down, zeros coming in.
    unsafe fn down(self, bits: u32) -> Self;
    /// The uppermost byte of each lane as a signed integer.
    unsafe fn signed_top_byte(self) -> Self;
    /// Signed bytes as [`Unit::dot`] takes them for a format whose largest byte is 255.
    unsafe fn bytes(self) -> Self;
    /// Byte `at` of each lane in all four bytes of it.
    unsafe fn spread(self, at: usize) -> Self;
    /// Sets the fifth bit of byte b where bit b of `bits`' bytes is set, or bit b + 4 where `upper`.
    unsafe fn with_fifth(self, bits: Self, upper: bool) -> Self;
    /// Σ of products of `4 · N` bytes of each row (`N` vectors) with as many of `values`, plus the format's offset times
    /// `minus_sum`, which is −Σ `values`.
    unsafe fn dot<const N: usize, F: Format>(weights: *const Self, values: *const i8, minus_sum: i32) -> Self;
    /// Lanes as signed integers.
    unsafe fn floats(self) -> Self::Floats;
    /// The f16 in the lower half of each lane.
    unsafe fn halves(self) -> Self::Floats;

    unsafe fn zero() -> Self::Floats;
    unsafe fn every(value: f32) -> Self::Floats;
    unsafe fn load(from: *const f32) -> Self::Floats;
    unsafe fn store(values: Self::Floats, to: *mut f32);
    unsafe fn times(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a · b + c`, rounded once.
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// Asks for a cache line that will be read soon; the address may be anything.
    fn fetch(at: *const u8);
}

/// 32 columns of as many rows as a vector has lanes, unpacked.
#[derive(Clone, Copy)]
pub(super) struct Piece<V: Unit> {
    /// Vector i holds columns 4 i to 4 i + 3.
    pub bytes: [V; 8],
    /// The blocks' scales.
    pub scale: V::Floats,
    /// What is added to each weight (a minimum, with its sign), or the integer scales of the two halves.
    pub more: [V::Floats; 2],
}
