#![allow(clippy::unwrap_used, clippy::expect_used)]
use candle_core::quantized::GgmlDType;
use rand::{Rng, RngCore};

use super::rounded::{PIECE, Rounded};
use super::{Kind, kind, multiplies, product_by};
use crate::model::cpu::blocks::{FORMATS, unpack};
use crate::model::cpu::target::Target;

/// Everything that this processor can run; the portable unit first.
fn kinds() -> Vec<Kind> {
    let mut kinds = vec![Kind::Portable];
    #[cfg(target_arch = "x86_64")]
    {
        let f16c = is_x86_feature_detected!("f16c") && is_x86_feature_detected!("fma");
        if f16c && is_x86_feature_detected!("avx2") {
            kinds.push(Kind::Avx2);
        }
        if f16c && is_x86_feature_detected!("avxvnni") {
            kinds.push(Kind::AvxVnni);
        }
        if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw") {
            kinds.push(Kind::Avx512Vnni);
        }
    }
    kinds
}

fn formats() -> impl Iterator<Item = GgmlDType> {
    FORMATS.into_iter().filter(|format| multiplies(*format))
}

/// Random blocks whose scales and minima are between 0.03 and 0.13, so that every bit of them counts.
fn blocks(format: GgmlDType, values: usize, seed: u64) -> Vec<u8> {
    let mut rng = crate::rng::stream(seed, "integer blocks", &[]);
    let size = format.type_size();
    let mut bytes = vec![0; values / format.block_size() * size];
    rng.fill_bytes(&mut bytes);
    let halves: &[usize] = match format {
        GgmlDType::Q6K => &[208],
        GgmlDType::Q3K => &[108],
        GgmlDType::Q4_0 | GgmlDType::Q5_0 | GgmlDType::Q8_0 => &[0],
        _ => &[0, 2],
    };
    for block in bytes.chunks_exact_mut(size) {
        for &at in halves {
            block[at + 1] = 0x28 | block[at + 1] & 0x87; // exponent of 2⁻⁵ to 2⁻³, any sign
        }
    }
    bytes
}

fn rows(count: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut rng = crate::rng::stream(seed, "integer rows", &[]);
    (0..count * width)
        .map(|at| rng.random_range(-1.0f32..1.0) * if (at / PIECE).is_multiple_of(3) { 8.0 } else { 0.5 })
        .collect()
}

fn product(kind: Kind, x: &Rounded, format: GgmlDType, blocks: &[u8]) -> Vec<f32> {
    let rows = blocks.len() / format.type_size() * format.block_size() / x.width();
    let mut out = vec![f32::NAN; x.rows() * rows];
    // SAFETY: `out` has a column for each row of the weight.
    unsafe { product_by(kind, x, format, blocks, Target { values: out.as_mut_ptr(), stride: rows }) };
    out
}

#[test]
fn every_unit_gives_the_same_bits_for_every_format_and_number_of_rows() {
    for format in formats() {
        for (width, out) in [(256, 16), (512, 21), (768, 3), (2816, 17)] {
            let blocks = blocks(format, width * out, 1);
            for tokens in [1, 2, 3, 4, 7, 32, 33] {
                let x = Rounded::new(&rows(tokens, width, 2), width).unwrap();
                let expected = product(Kind::Portable, &x, format, &blocks);
                assert!(expected.iter().all(|y| y.is_finite()), "{format:?}");
                for kind in kinds() {
                    let found = product(kind, &x, format, &blocks);
                    let same = found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{format:?}, {kind:?}, {tokens} rows of {width}");
                }
            }
        }
    }
}

#[test]
fn widths_of_some_small_blocks_need_no_multiple_of_256() {
    for format in formats().filter(|format| format.block_size() == 32) {
        let (width, out) = (32 * 11, 19);
        let blocks = blocks(format, width * out, 3);
        let x = Rounded::new(&rows(5, width, 4), width).unwrap();
        let expected = product(Kind::Portable, &x, format, &blocks);
        kinds().into_iter().for_each(|kind| assert_eq!(product(kind, &x, format, &blocks), expected, "{kind:?}"));
    }
}

/// The product of the rounded rows with the unpacked blocks, in double precision, is what the integers stand for; the
/// product of the rows themselves is within half a step of each value.
#[test]
fn products_are_those_of_the_rounded_rows_and_within_the_rounding_of_the_exact_ones() {
    let (width, out, tokens) = (1024, 24, 3);
    for format in formats() {
        let blocks = blocks(format, width * out, 5);
        let mut weights = vec![0.0; width * out];
        unpack(format, &blocks, &mut weights);
        let x = rows(tokens, width, 6);
        let rounded = Rounded::new(&x, width).unwrap();
        let near = rounded.to_f32();
        let found = product(kind(), &rounded, format, &blocks);
        for token in 0..tokens {
            for row in 0..out {
                let (mut exact, mut same, mut sizes, mut half_steps) = (0.0, 0.0, 0.0, 0.0);
                for at in 0..width {
                    let weight = f64::from(weights[row * width + at]);
                    let (value, near) = (f64::from(x[token * width + at]), f64::from(near[token * width + at]));
                    let piece = &x[token * width + at / PIECE * PIECE..][..PIECE];
                    let largest = piece.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                    exact += weight * value;
                    same += weight * near;
                    sizes += (weight * near).abs();
                    half_steps += weight.abs() * f64::from(largest) / 254.0;
                }
                let y = f64::from(found[token * out + row]);
                assert!((y - same).abs() <= sizes * 4e-6, "{format:?}: {y} is not {same}");
                assert!((y - exact).abs() <= half_steps + sizes * 4e-6, "{format:?}: {y} is too far from {exact}");
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch_nor_on_the_cut_of_the_weight() {
    let (width, out, tokens) = (512, 48, 35);
    for format in formats() {
        let blocks = blocks(format, width * out, 7);
        let x = rows(tokens, width, 8);
        let all = product(kind(), &Rounded::new(&x, width).unwrap(), format, &blocks);
        for (from, to) in [(0, 1), (3, 5), (7, 14), (32, 35)] {
            let some = Rounded::new(&x[from * width..to * width], width).unwrap();
            assert_eq!(product(kind(), &some, format, &blocks), all[from * out..to * out], "{format:?}");
        }
        let one = Rounded::new(&x[..width], width).unwrap();
        let bytes = blocks.len() / out;
        for (first, last) in [(0, 16), (16, 48), (5, 6)] {
            let part = product(kind(), &one, format, &blocks[first * bytes..last * bytes]);
            assert_eq!(part, all[first..last], "{format:?}, rows {first} to {last}");
        }
    }
}

#[test]
fn rounding_keeps_zeros_and_reports_what_is_not_finite() {
    let rounded = Rounded::new(&[0.0; 64], 64).unwrap();
    assert_eq!(rounded.to_f32(), [0.0; 64]);
    let blocks = blocks(GgmlDType::Q4_1, 64 * 16, 9);
    assert_eq!(product(kind(), &rounded, GgmlDType::Q4_1, &blocks), [0.0; 16]);
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = [1.0; 64];
        x[40] = broken;
        let found = product(kind(), &Rounded::new(&x, 64).unwrap(), GgmlDType::Q4_1, &blocks);
        assert!(found.iter().all(|y| y.is_nan()), "{broken} gives {found:?}");
    }
}

#[test]
fn extremes_of_both_factors_do_not_overflow() {
    for format in formats() {
        for byte in [0x00, 0x7f, 0x80, 0xff] {
            let mut blocks = blocks(format, 256 * 16, 10);
            let size = format.type_size();
            let (first, last) = match format {
                GgmlDType::Q6K => (0, 208),
                GgmlDType::Q3K => (0, 108),
                GgmlDType::Q4_0 | GgmlDType::Q5_0 | GgmlDType::Q8_0 => (2, size),
                _ => (4, size),
            };
            blocks.chunks_exact_mut(size).for_each(|block| block[first..last].fill(byte));
            for sign in [1.0, -1.0] {
                let x = Rounded::new(&[sign; 256], 256).unwrap();
                let mut weights = vec![0.0; 256 * 16];
                unpack(format, &blocks, &mut weights);
                for kind in kinds() {
                    let found = product(kind, &x, format, &blocks);
                    for (y, weights) in found.iter().zip(weights.chunks_exact(256)) {
                        let expected: f64 = weights.iter().map(|w| f64::from(*w) * f64::from(sign)).sum();
                        let sizes: f64 = weights.iter().map(|w| f64::from(w.abs())).sum();
                        let close = (f64::from(*y) - expected).abs() <= 1e-5 * sizes;
                        assert!(close, "{format:?}, {kind:?}, {byte:#x}: {y} is not {expected}");
                    }
                }
            }
        }
    }
}

#[test]
fn rows_without_whole_pieces_are_not_rounded() {
    for (count, width) in [(48, 48), (64, 0), (40, 32)] {
        assert!(Rounded::new(&vec![1.0; count], width).is_none(), "{count} values, rows of {width}");
    }
}
