//! The unit of processors without vector instructions that we know: plain loops over eight lanes.

use super::formats::Format;
use super::unit::Unit;
use crate::model::cpu::blocks::half;

/// Eight words.
#[derive(Clone, Copy)]
pub(super) struct Words([u32; 8]);

impl Words {
    #[inline(always)]
    fn each(self, f: impl Fn(u32) -> u32) -> Self {
        Self(self.0.map(f))
    }

    #[inline(always)]
    fn both(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self {
        Self(std::array::from_fn(|lane| f(self.0[lane], other.0[lane])))
    }

    #[inline(always)]
    fn each_byte(self, f: impl Fn(usize, u8) -> u8) -> Self {
        self.each(|word| {
            let bytes = word.to_le_bytes();
            u32::from_le_bytes(std::array::from_fn(|at| f(at, bytes[at])))
        })
    }
}

// SAFETY (of each method): needs no instructions; pointers are the caller's.
unsafe impl Unit for Words {
    type Floats = [f32; 8];
    const ROWS: usize = 8;
    const BYTE_OFFSET: u32 = 128;

    unsafe fn every_word(word: u32) -> Self {
        Self([word; 8])
    }

    unsafe fn words(from: *const u8, stride: usize) -> Self {
        // SAFETY: the caller's.
        Self(std::array::from_fn(|row| unsafe { from.add(row * stride).cast::<u32>().read_unaligned().to_le() }))
    }

    unsafe fn quads(from: *const u8, stride: usize) -> [Self; 4] {
        // SAFETY: the caller's.
        std::array::from_fn(|at| unsafe { Self::words(from.add(4 * at), stride) })
    }

    unsafe fn and(self, other: Self) -> Self {
        self.both(other, |a, b| a & b)
    }

    unsafe fn or(self, other: Self) -> Self {
        self.both(other, |a, b| a | b)
    }

    unsafe fn up(self, bits: u32) -> Self {
        self.each(|word| word << bits)
    }

    unsafe fn down(self, bits: u32) -> Self {
        self.each(|word| word >> bits)
    }

    unsafe fn signed_top_byte(self) -> Self {
        self.each(|word| (word as i32 >> 24) as u32)
    }

    unsafe fn bytes(self) -> Self {
        self.each_byte(|_, byte| byte ^ 0x80)
    }

    unsafe fn spread(self, at: usize) -> Self {
        self.each(|word| u32::from(word.to_le_bytes()[at]) * 0x0101_0101)
    }

    unsafe fn with_fifth(self, bits: Self, upper: bool) -> Self {
        let set = bits.each_byte(|at, byte| (byte >> (at + if upper { 4 } else { 0 }) & 1) << 4);
        self.both(set, |a, b| a | b)
    }

    unsafe fn dot<const N: usize, F: Format>(weights: *const Self, values: *const i8, minus_sum: i32) -> Self {
        let mut sums = [F::offset::<Self>() as i32 * minus_sum; 8];
        for at in 0..N {
            // SAFETY: the caller's.
            let (words, values) = unsafe { ((*weights.add(at)).0, values.add(4 * at).cast::<[i8; 4]>().read()) };
            for (sum, word) in sums.iter_mut().zip(words) {
                let products = word.to_le_bytes().into_iter().zip(values);
                *sum += products.map(|(weight, value)| i32::from(weight) * i32::from(value)).sum::<i32>();
            }
        }
        Self(sums.map(|sum| sum as u32))
    }

    unsafe fn floats(self) -> [f32; 8] {
        self.0.map(|word| word as i32 as f32)
    }

    unsafe fn halves(self) -> [f32; 8] {
        self.0.map(|word| half(word as u8, (word >> 8) as u8))
    }

    unsafe fn zero() -> [f32; 8] {
        [0.0; 8]
    }

    unsafe fn every(value: f32) -> [f32; 8] {
        [value; 8]
    }

    unsafe fn load(from: *const f32) -> [f32; 8] {
        // SAFETY: the caller's.
        unsafe { from.cast::<[f32; 8]>().read() }
    }

    unsafe fn store(values: [f32; 8], to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; 8]>().write(values) }
    }

    unsafe fn times(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|lane| a[lane] * b[lane])
    }

    unsafe fn multiply_add(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }

    fn fetch(_: *const u8) {}
}
