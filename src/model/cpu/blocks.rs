//! GGML's quantised blocks as f32: some values share a scale, and each is a small integer times it. Loops are written so
//! that a compiler turns them into vector code; each gives the bits that candle's `to_float` gives.
//!
//! | format | values a block | bytes | value |
//! |---|---|---|---|
//! | Q8_0 | 32 | 34 | `d · q`, q of 8 bits |
//! | Q4_0, Q5_0 | 32 | 18, 22 | `d · (q − 8)`, `d · (q − 16)` |
//! | Q4_1, Q5_1 | 32 | 20, 24 | `d · q + m` |
//! | Q4_K, Q5_K | 256 | 144, 176 | `d · s · q − m · t`, eight s and t of 6 bits |
//! | Q6_K | 256 | 210 | `d · s · (q − 32)`, sixteen s of 8 bits |
//! | Q3_K | 256 | 110 | `d · (s − 32) · (q − 4)`, sixteen s of 6 bits |
//! | Q2_K | 256 | 84 | `d · s · q − m · t`, sixteen s and t of 4 bits |

// Indices with constant bounds are what becomes vector code.
#![allow(clippy::needless_range_loop)]

use candle_core::quantized::GgmlDType;

use super::simd::vectorised;

/// GGML formats that are unpacked here; loading refuses others.
pub const FORMATS: [GgmlDType; 10] = [
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q2K,
    GgmlDType::Q3K,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

/// Every block by one of the functions below. A macro, since a function that is handed over is called, and then it is
/// compiled without the vector unit.
macro_rules! each {
    ($one:ident, $blocks:ident, $out:ident) => {
        for (block, out) in $blocks.as_chunks().0.iter().zip($out.as_chunks_mut().0) {
            $one(block, out);
        }
    };
}

vectorised! {
    /// Whole blocks of one of [`FORMATS`] as f32.
    pub(crate) fn unpack(format: GgmlDType, blocks: &[u8], out: &mut [f32]) {
        match format {
            GgmlDType::Q4_0 => each!(q4_0, blocks, out),
            GgmlDType::Q4_1 => each!(q4_1, blocks, out),
            GgmlDType::Q5_0 => each!(q5_0, blocks, out),
            GgmlDType::Q5_1 => each!(q5_1, blocks, out),
            GgmlDType::Q8_0 => each!(q8_0, blocks, out),
            GgmlDType::Q2K => each!(q2_k, blocks, out),
            GgmlDType::Q3K => each!(q3_k, blocks, out),
            GgmlDType::Q4K => each!(q4_k, blocks, out),
            GgmlDType::Q5K => each!(q5_k, blocks, out),
            GgmlDType::Q6K => each!(q6_k, blocks, out),
            other => unreachable!("no weight is held as {other:?}"),
        }
    }
}

/// The value of an IEEE half-precision number, from its two bytes.
#[inline(always)]
pub(super) fn half(low: u8, high: u8) -> f32 {
    let bits = u32::from(u16::from_le_bytes([low, high]));
    let (sign, rest) = ((bits & 0x8000) << 16, (bits & 0x7fff) << 13);
    // 2¹¹² moves the exponent to f32's place and makes small ones normal; infinities and NaN keep their meaning.
    let size = if rest >= 0x0f80_0000 {
        rest | 0x7f80_0000
    } else {
        (f32::from_bits(rest) * f32::from_bits(0x7780_0000)).to_bits()
    };
    f32::from_bits(sign | size)
}

#[inline(always)]
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half(block[0], block[1]);
    for i in 0..32 {
        out[i] = f32::from(block[2 + i] as i8) * d;
    }
}

#[inline(always)]
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(block[0], block[1]);
    for i in 0..16 {
        out[i] = (i32::from(block[2 + i] & 15) - 8) as f32 * d;
        out[i + 16] = (i32::from(block[2 + i] >> 4) - 8) as f32 * d;
    }
}

#[inline(always)]
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(block[0], block[1]), half(block[2], block[3]));
    for i in 0..16 {
        out[i] = f32::from(block[4 + i] & 15) * d + m;
        out[i + 16] = f32::from(block[4 + i] >> 4) * d + m;
    }
}

#[inline(always)]
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half(block[0], block[1]);
    let fifth = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for i in 0..16 {
        let (low, high) = ((fifth >> i) << 4 & 16, fifth >> (i + 12) & 16);
        out[i] = ((u32::from(block[6 + i] & 15) | low) as i32 - 16) as f32 * d;
        out[i + 16] = ((u32::from(block[6 + i] >> 4) | high) as i32 - 16) as f32 * d;
    }
}

#[inline(always)]
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half(block[0], block[1]), half(block[2], block[3]));
    let fifth = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for i in 0..16 {
        let (low, high) = ((fifth >> i) << 4 & 16, fifth >> (i + 12) & 16);
        out[i] = (u32::from(block[8 + i] & 15) | low) as f32 * d + m;
        out[i + 16] = (u32::from(block[8 + i] >> 4) | high) as f32 * d + m;
    }
}

/// The `at`th of eight pairs of a scale and a minimum: two factors of all pairs, f16, before them, six bits each, in twelve
/// bytes.
#[inline(always)]
fn scale_and_minimum(at: usize, head: &[u8]) -> (f32, f32) {
    let packed = &head[4..];
    let (scale, minimum) = match at {
        0..4 => (packed[at] & 63, packed[at + 4] & 63),
        _ => (packed[at + 4] & 15 | packed[at - 4] >> 6 << 4, packed[at + 4] >> 4 | packed[at] >> 6 << 4),
    };
    (half(head[0], head[1]) * f32::from(scale), half(head[2], head[3]) * f32::from(minimum))
}

#[inline(always)]
fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, m) = (half(block[80], block[81]), half(block[82], block[83]));
    for part in 0..2 {
        for quarter in 0..4 {
            for side in 0..2 {
                let both = block[8 * part + 2 * quarter + side];
                let (scale, minimum) = (d * f32::from(both & 15), m * f32::from(both >> 4));
                for i in 16 * side..16 * side + 16 {
                    let two = block[16 + 32 * part + i] >> (2 * quarter) & 3;
                    out[128 * part + 32 * quarter + i] = scale * f32::from(two) - minimum;
                }
            }
        }
    }
}

/// The `at`th of sixteen scales, four bits each in eight bytes, then two more bits each in four.
#[inline(always)]
fn scale_of_q3_k(at: usize, packed: &[u8]) -> f32 {
    let low = packed[at % 8] >> (4 * (at / 8)) & 15;
    let high = packed[8 + at % 4] >> (2 * (at / 4)) & 3;
    (i32::from(low | high << 4) - 32) as f32
}

#[inline(always)]
fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half(block[108], block[109]);
    for part in 0..2 {
        for quarter in 0..4 {
            for side in 0..2 {
                let scale = d * scale_of_q3_k(8 * part + 2 * quarter + side, &block[96..108]);
                for i in 16 * side..16 * side + 16 {
                    let two = block[32 + 32 * part + i] >> (2 * quarter) & 3;
                    let third = block[i] >> (4 * part + quarter) & 1;
                    out[128 * part + 32 * quarter + i] = scale * (i32::from(two | third << 2) - 4) as f32;
                }
            }
        }
    }
}

#[inline(always)]
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    for part in 0..4 {
        let [(d1, m1), (d2, m2)] = [2 * part, 2 * part + 1].map(|at| scale_and_minimum(at, &block[..16]));
        for i in 0..32 {
            let both = block[16 + 32 * part + i];
            out[64 * part + i] = d1 * f32::from(both & 15) - m1;
            out[64 * part + 32 + i] = d2 * f32::from(both >> 4) - m2;
        }
    }
}

#[inline(always)]
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    for part in 0..4 {
        let [(d1, m1), (d2, m2)] = [2 * part, 2 * part + 1].map(|at| scale_and_minimum(at, &block[..16]));
        for i in 0..32 {
            let (both, fifth) = (block[48 + 32 * part + i], block[16 + i] >> (2 * part));
            out[64 * part + i] = d1 * f32::from(both & 15 | (fifth & 1) << 4) - m1;
            out[64 * part + 32 + i] = d2 * f32::from(both >> 4 | (fifth >> 1 & 1) << 4) - m2;
        }
    }
}

#[inline(always)]
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half(block[208], block[209]);
    for part in 0..2 {
        for quarter in 0..4 {
            for side in 0..2 {
                let scale = d * f32::from(block[192 + 8 * part + 2 * quarter + side] as i8);
                for i in 16 * side..16 * side + 16 {
                    // Low halves of bytes first, then the high ones; two more bits of each in another place.
                    let low = block[64 * part + 32 * (quarter % 2) + i] >> (4 * (quarter / 2)) & 15;
                    let high = block[128 + 32 * part + i] >> (2 * quarter) & 3;
                    out[128 * part + 32 * quarter + i] = scale * (i32::from(low | high << 4) - 32) as f32;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use candle_core::Device;
    use candle_core::quantized::{QStorage, QTensor};
    use rand::RngCore;

    use super::super::simd::{Path, force};
    use super::*;
    use crate::model::ops::to_vec;

    #[test]
    fn every_format_unpacks_to_the_bits_that_candle_gives_on_every_path() {
        let mut rng = crate::rng::stream(1, "blocks", &[]);
        for format in FORMATS {
            let count = 12 * 256;
            let mut blocks = vec![0; count / format.block_size() * format.type_size()];
            rng.fill_bytes(&mut blocks);
            // Random bytes are NaN as a scale now and then, which no two compare equal.
            let storage = QStorage::from_data(blocks.as_slice().into(), &Device::Cpu, format).unwrap();
            let theirs = to_vec(&QTensor::new(storage, count).unwrap().dequantize(&Device::Cpu).unwrap()).unwrap();
            for path in [Path::Scalar, Path::Avx2, Path::Avx512] {
                force(path);
                let mut ours = vec![0.0; count];
                unpack(format, &blocks, &mut ours);
                let same = ours.iter().zip(&theirs).filter(|(a, b)| a.to_bits() == b.to_bits()).count();
                let nan = theirs.iter().filter(|v| v.is_nan()).count();
                assert_eq!(ours.iter().filter(|v| v.is_nan()).count(), nan, "{format:?}");
                assert!(same + nan >= count && nan < count / 2, "{format:?}, {path:?}: {same} of {count} equal");
            }
        }
    }

    #[test]
    fn every_half_is_the_f32_of_the_same_value() {
        for bits in 0..=u16::MAX {
            let [low, high] = bits.to_le_bytes();
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
            let size = match exponent {
                0 => fraction * 2f64.powi(-24),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
            };
            let expected = if bits < 0x8000 { size } else { -size };
            let found = f64::from(half(low, high));
            assert!(found == expected || found.is_nan() && expected.is_nan(), "{bits:#x}: {found} not {expected}");
        }
    }
}
