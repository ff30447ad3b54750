//! Products with a frozen weight `[out, in]` in both directions, f32 or bf16. A bf16 weight is the one copy that there
//! is: decoding reads it in place, larger products widen it to f32 a piece at a time (exact), or multiply it in sixteen
//! bits where the processor is quicker at that ([`super::dots`], [`super::halves`], which round the other factor).
//!
//! A large product is cut into pieces by its shape alone and shared with this worker's helpers ([`super::team`]).

#[cfg(target_arch = "x86_64")]
use candle_core::DType;
use candle_core::{CpuStorage, Result, Storage, Tensor, bail};

#[cfg(target_arch = "x86_64")]
use super::dots::{self, Pairs};
use super::few_rows::{self, Stored, few_rows};
#[cfg(target_arch = "x86_64")]
use super::halves::{self, Halves};
use super::product::{Matrix, Target, into};
use super::simd::vectorised;
#[cfg(target_arch = "x86_64")]
use super::simd::{Path, path};
use super::team;

/// Weights of a piece at least, for a few rows and for many: some 10 µs of work, well above what it costs to share, and
/// for many rows no cut that would cost a general product its reuse.
const PIECE: (usize, usize) = (1 << 16, 1 << 18);
/// Pieces of a product at most.
const PIECES: usize = 16;
/// Widened weights at a time: 512 KiB, so that they stay in the second-level cache.
const WIDENED: usize = 1 << 17;

/// `x Wᵀ`, `[tokens, in] → [tokens, out]`.
pub fn times_transposed(x: &[f32], weight: &Tensor) -> Result<Vec<f32>> {
    let (out, width) = weight.dims2()?;
    if !x.len().is_multiple_of(width) {
        bail!("{} values are no rows of {width}", x.len());
    }
    let tokens = x.len() / width;
    let rounded = rounded(x, width, weight, out, true);
    // SAFETY: every piece writes all rows of its own columns, and the pieces are all columns.
    unsafe {
        filled(tokens, out, |y| {
            stored(weight, |w| {
                over_pieces(out, out * width, tokens, |rows| {
                    let w = w.range(rows.start * width..rows.end * width);
                    forward(x, rounded.as_ref(), w, width, y.at_column(rows.start));
                });
            })
        })
    }
}

/// `dy W`, `[tokens, out] → [tokens, in]`.
pub fn times(dy: &[f32], weight: &Tensor) -> Result<Vec<f32>> {
    let (out, width) = weight.dims2()?;
    // SAFETY: without accumulation every value is written.
    unsafe { filled(dy.len() / out, width, |dx| times_to(dy, weight, dx, false)) }
}

/// `dx += dy W`.
pub(crate) fn add_times(dy: &[f32], weight: &Tensor, dx: &mut [f32]) -> Result<()> {
    let (out, width) = weight.dims2()?;
    if dx.len() * out != dy.len() * width {
        bail!("{} gradients for {} inputs of a weight of {out} × {width}", dy.len(), dx.len());
    }
    // SAFETY: `dx` was just seen to have the rows and columns.
    unsafe { times_to(dy, weight, Target { values: dx.as_mut_ptr(), stride: width }, true) }
}

/// # Safety
/// `dx` must hold `dy`'s rows of the weight's width, touched by nobody else.
unsafe fn times_to(dy: &[f32], weight: &Tensor, dx: Target, add: bool) -> Result<()> {
    let (out, width) = weight.dims2()?;
    if !dy.len().is_multiple_of(out) {
        bail!("{} values are no rows of {out}", dy.len());
    }
    let rounded = rounded(dy, out, weight, width, false);
    stored(weight, |w| {
        over_pieces(width, out * width, dy.len() / out, |columns| {
            let dx = dx.at_column(columns.start);
            // SAFETY: the caller's; every piece has columns of its own.
            unsafe { backward(dy, rounded.as_ref(), w, width, columns, dx, add) };
        });
    })
}

/// A left-hand side in sixteen bits, as the product that takes it wants it.
#[cfg(target_arch = "x86_64")]
enum Rounded {
    Pairs(Pairs),
    Along(Halves<u16>),
    Doubled(Halves<u32>),
}

/// The left-hand side for a product in sixteen bits, where that is to be used.
#[cfg(target_arch = "x86_64")]
fn rounded(x: &[f32], width: usize, weight: &Tensor, columns: usize, forward: bool) -> Option<Rounded> {
    if weight.dtype() != DType::BF16 || few_rows::applies(x.len() / width, columns) {
        return None;
    }
    match path() {
        Path::Avx512Bf16 => Some(Rounded::Pairs(Pairs::new(x, width))),
        // SAFETY: this path is that of a processor which has the unit.
        Path::Avx512Fp16 if forward => Some(Rounded::Along(unsafe { Halves::along(x, width) })),
        // SAFETY: as above.
        Path::Avx512Fp16 => Some(Rounded::Doubled(unsafe { Halves::doubled(x, width) })),
        _ => None,
    }
}

/// No other processor has them.
#[cfg(not(target_arch = "x86_64"))]
fn rounded(_: &[f32], _: usize, _: &Tensor, _: usize, _: bool) -> Option<Rounded> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
enum Rounded {}

/// One piece of the forward product: every row of `x` against rows of the weight.
///
/// # Safety
/// `y` must hold `x`'s rows, as many columns as `w` has rows, touched by nobody else.
unsafe fn forward(x: &[f32], rounded: Option<&Rounded>, w: Stored, width: usize, y: Target) {
    let (tokens, rows) = (x.len() / width, w.len() / width);
    // SAFETY: the caller's.
    unsafe {
        match (w, rounded) {
            #[cfg(target_arch = "x86_64")]
            (Stored::Bf16(w), Some(Rounded::Pairs(x))) => dots::times_transposed(x, w, width, y.values, y.stride),
            #[cfg(target_arch = "x86_64")]
            (Stored::Bf16(w), Some(Rounded::Along(x))) => halves::times_transposed(x, w, width, y.values, y.stride),
            _ if few_rows::applies(tokens, rows) => few_rows(x, w, width, y.values, y.stride),
            (Stored::F32(w), _) => {
                into(Matrix::rows(x, tokens, width), Matrix::rows(w, rows, width).t(), y, 1.0, false)
            }
            (Stored::Bf16(w), _) => {
                for (index, w) in w.chunks(lines(width) * width).enumerate() {
                    let w = widened(w);
                    let part = y.at_column(index * lines(width));
                    into(
                        Matrix::rows(x, tokens, width),
                        Matrix::rows(&w, w.len() / width, width).t(),
                        part,
                        1.0,
                        false,
                    );
                }
            }
        }
    }
}

/// One piece of the backward product: some columns of `dy W`, added to what is there if `add` says so.
///
/// # Safety
/// `dx` must hold `dy`'s rows and these columns, touched by nobody else.
unsafe fn backward(
    dy: &[f32],
    rounded: Option<&Rounded>,
    w: Stored,
    width: usize,
    columns: std::ops::Range<usize>,
    dx: Target,
    add: bool,
) {
    let out = w.len() / width;
    let tokens = dy.len() / out;
    let count = columns.len();
    // SAFETY: the caller's.
    unsafe {
        match (w, rounded) {
            (Stored::F32(w), _) => {
                let w = Matrix::strided(&w[columns.start..], out, count, width);
                into(Matrix::rows(dy, tokens, out), w, dx, 1.0, add);
            }
            #[cfg(target_arch = "x86_64")]
            (Stored::Bf16(w), Some(Rounded::Pairs(dy))) => {
                dots::times(dy, w, width, columns, dx.values, dx.stride, add)
            }
            #[cfg(target_arch = "x86_64")]
            (Stored::Bf16(w), Some(Rounded::Doubled(dy))) => {
                halves::times(dy, w, width, columns, dx.values, dx.stride, add)
            }
            (Stored::Bf16(w), _) => {
                for first in (0..out).step_by(lines(count)) {
                    let last = (first + lines(count)).min(out);
                    let mut part = Vec::with_capacity((last - first) * count);
                    for row in first..last {
                        part.extend_from_slice(&w[row * width + columns.start..row * width + columns.end]);
                    }
                    let part = widened(&part);
                    let dy = Matrix::strided(&dy[first..], tokens, last - first, out);
                    into(dy, Matrix::rows(&part, last - first, count), dx, 1.0, add || first > 0);
                }
            }
        }
    }
}

/// Rows of this width that are widened at a time.
fn lines(width: usize) -> usize {
    (WIDENED / width.max(1)).clamp(16, 1024)
}

/// bf16 as f32.
fn widened(bits: &[u16]) -> Vec<f32> {
    vectorised! {
        fn widen(bits: &[u16], out: &mut [f32]) {
            for (x, bits) in out.iter_mut().zip(bits) {
                *x = f32::from_bits(u32::from(*bits) << 16);
            }
        }
    }
    let mut out = vec![0.0; bits.len()];
    widen(bits, &mut out);
    out
}

/// Cuts `lines` lines of a weight of `size` values into pieces of whole vectors.
fn over_pieces(lines: usize, size: usize, tokens: usize, work: impl Fn(std::ops::Range<usize>) + Sync) {
    let piece = if tokens <= few_rows::MOST { PIECE.0 } else { PIECE.1 };
    let pieces = (size / piece).clamp(1, PIECES);
    let each = lines.div_ceil(pieces).next_multiple_of(16);
    team::each(lines.div_ceil(each), &|piece| work(piece * each..((piece + 1) * each).min(lines)));
}

/// A new `[rows, columns]` that `fill` writes.
///
/// # Safety
/// `fill` must write every value unless it fails.
unsafe fn filled(rows: usize, columns: usize, fill: impl FnOnce(Target) -> Result<()>) -> Result<Vec<f32>> {
    let mut values: Vec<f32> = Vec::with_capacity(rows * columns);
    fill(Target { values: values.as_mut_ptr(), stride: columns })?;
    // SAFETY: the caller's.
    unsafe { values.set_len(rows * columns) };
    Ok(values)
}

/// Hands out a weight's values as they are stored.
fn stored<R>(weight: &Tensor, body: impl FnOnce(Stored) -> R) -> Result<R> {
    let (storage, layout) = weight.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("a weight is not contiguous") };
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => Ok(body(Stored::F32(&values[start..end]))),
        Storage::Cpu(CpuStorage::BF16(values)) => {
            let values = &values[start..end];
            // SAFETY: a bf16 is its 16 bits (`repr(transparent)`).
            let bits = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u16>(), values.len()) };
            Ok(body(Stored::Bf16(bits)))
        }
        _ => bail!("a CPU kernel was handed a weight that is neither f32 nor bf16, or one of another device"),
    }
}
