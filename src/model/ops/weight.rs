//! Products with a frozen weight `[out, in]` in both directions, f32 or bf16. A bf16 weight is the one copy that there
//! is: decoding reads it in place, larger products widen it to f32 a piece at a time (exact), or multiply it by the
//! processor's bf16 dot products where those are quicker ([`super::dots`], which rounds the other factor).
//!
//! A large product is cut into pieces by its shape alone and shared with this worker's helpers ([`super::team`]).

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

#[cfg(target_arch = "x86_64")]
use super::dots::Pairs;
use super::few_rows::{self, Stored, few_rows};
#[cfg(target_arch = "x86_64")]
use super::panels::{self, Left, Right};
use super::product::{Matrix, Target, into};
use super::simd::vectorised;
#[cfg(target_arch = "x86_64")]
use super::simd::{Path, path};
use super::team;

/// Weights of a piece at least, for a few rows and for many: some 5 µs of work, well above what it costs to share, and
/// for many rows no cut that would cost a general product its reuse.
const PIECE: (usize, usize) = (1 << 15, 1 << 18);
/// Pieces of a product at most.
const PIECES: usize = 16;
/// Widened weights at a time: 512 KiB, so that they stay in the second-level cache.
const WIDENED: usize = 1 << 17;

/// `x Wᵀ`, `[tokens, in] → [tokens, out]`.
pub fn times_transposed(x: &[f32], weight: &Tensor) -> Result<Vec<f32>> {
    let [y] = each_times_transposed(x, [weight])?;
    Ok(y)
}

/// The same for several weights of one width, shared with the helpers in one call: a decoding step has little to do
/// between two meetings of its cores.
pub(crate) fn each_times_transposed<const N: usize>(x: &[f32], weights: [&Tensor; N]) -> Result<[Vec<f32>; N]> {
    let guards = weights.map(Tensor::storage_and_layout);
    let mut width = 1;
    let mut all = [Stored::F32(&[]); N];
    for ((stored, (storage, layout)), weight) in all.iter_mut().zip(&guards).zip(weights) {
        *stored = values(storage, layout)?;
        width = weight.dim(1)?;
    }
    if !x.len().is_multiple_of(width) || weights.iter().any(|weight| weight.dim(1).ok() != Some(width)) {
        bail!("{} values are no rows of {width}", x.len());
    }
    let tokens = x.len() / width;
    let rows = all.map(|w| w.len() / width);
    let rounded = all.map(|w| rounded(x, width, w, w.len() / width));
    let mut ys = rows.map(|rows| Vec::with_capacity(tokens * rows));
    let mut next = 0;
    let mut parts = [(0, 0, Target { values: std::ptr::null_mut(), stride: 0 }); N]; // first piece, lines of a piece
    for ((part, y), rows) in parts.iter_mut().zip(&mut ys).zip(rows) {
        let lines = lines_of_a_piece(rows, rows * width, tokens);
        *part = (next, lines, Target { values: y.as_mut_ptr(), stride: rows });
        next += rows.div_ceil(lines);
    }
    team::each(next, &|piece| {
        let which = parts.iter().rposition(|(first, ..)| *first <= piece).unwrap_or(0);
        let (first, lines, y) = parts[which];
        let range = (piece - first) * lines..((piece - first + 1) * lines).min(rows[which]);
        let w = all[which].range(range.start * width..range.end * width);
        // SAFETY: every piece writes all rows of its own columns.
        unsafe { forward(x, rounded[which].as_ref(), w, width, y.at_column(range.start)) };
    });
    for (y, rows) in ys.iter_mut().zip(rows) {
        // SAFETY: the pieces are all columns.
        unsafe { y.set_len(tokens * rows) };
    }
    Ok(ys)
}

/// `dyᵀ x`, `[out, in]`: the gradient of a weight that is trained.
pub(crate) fn weight_grad(dy: &[f32], x: &[f32], (out, width): (usize, usize)) -> Result<Vec<f32>> {
    if dy.len() * width != x.len() * out {
        bail!("{} gradients and {} inputs of a weight of {out} × {width}", dy.len(), x.len());
    }
    let tokens = x.len() / width;
    // SAFETY: every piece writes whole rows, and the pieces are all rows.
    unsafe {
        filled(out, width, |dw| {
            over_pieces(out, out * width, tokens, |rows| {
                let part = Matrix::strided(&dy[rows.start..], tokens, rows.len(), out).t();
                into(part, Matrix::rows(x, tokens, width), dw.at_column(rows.start * width), 1.0, false);
            });
            Ok(())
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
    stored(weight, |w| {
        let rounded = rounded(dy, out, w, width);
        over_pieces(width, out * width, dy.len() / out, |columns| {
            let dx = dx.at_column(columns.start);
            // SAFETY: the caller's; every piece has columns of its own.
            unsafe { backward(dy, rounded.as_ref(), w, width, columns, dx, add) };
        });
    })
}

/// The left-hand side as the bf16 dot products want it, where they are to be used.
#[cfg(target_arch = "x86_64")]
fn rounded(x: &[f32], width: usize, weight: Stored, columns: usize) -> Option<Pairs> {
    let few = few_rows::applies(x.len() / width, columns);
    (matches!(weight, Stored::Bf16(_)) && path() == Path::Avx512Bf16 && !few).then(|| Pairs::new(x, width))
}

/// No other processor has them.
#[cfg(not(target_arch = "x86_64"))]
fn rounded(_: &[f32], _: usize, _: Stored, _: usize) -> Option<Pairs> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
enum Pairs {}

/// One piece of the forward product: every row of `x` against rows of the weight.
///
/// # Safety
/// `y` must hold `x`'s rows, as many columns as `w` has rows, touched by nobody else.
unsafe fn forward(x: &[f32], rounded: Option<&Pairs>, w: Stored, width: usize, y: Target) {
    let (tokens, rows) = (x.len() / width, w.len() / width);
    // SAFETY: the caller's.
    unsafe {
        match (w, rounded) {
            #[cfg(target_arch = "x86_64")]
            (Stored::Bf16(w), Some(x)) => super::dots::times_transposed(x, w, width, y.values, y.stride),
            _ if few_rows::applies(tokens, rows) => few_rows(x, w, width, y.values, y.stride),
            (Stored::F32(w), _) => {
                into(Matrix::rows(x, tokens, width), Matrix::rows(w, rows, width).t(), y, 1.0, false)
            }
            #[cfg(target_arch = "x86_64")]
            (Stored::Bf16(w), _) if path() >= Path::Avx512 => {
                let left = Left { values: x.as_ptr(), row: width, column: 1 };
                let right = Right { values: w.as_ptr(), stride: width, turned: true };
                panels::product(left, right, (tokens, width, rows), y, 1.0, false);
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
    rounded: Option<&Pairs>,
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
            (Stored::Bf16(w), Some(dy)) => super::dots::times(dy, w, width, columns, dx.values, dx.stride, add),
            #[cfg(target_arch = "x86_64")]
            (Stored::Bf16(w), _) if path() >= Path::Avx512 => {
                let left = Left { values: dy.as_ptr(), row: out, column: 1 };
                let right = Right { values: w[columns.start..].as_ptr(), stride: width, turned: false };
                panels::product(left, right, (tokens, out, count), dx, 1.0, add);
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
    let each = lines_of_a_piece(lines, size, tokens);
    team::each(lines.div_ceil(each), &|piece| work(piece * each..((piece + 1) * each).min(lines)));
}

fn lines_of_a_piece(lines: usize, size: usize, tokens: usize) -> usize {
    let piece = if tokens <= few_rows::MOST { PIECE.0 } else { PIECE.1 };
    let pieces = (size / piece).clamp(1, PIECES);
    lines.div_ceil(pieces).next_multiple_of(16)
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
    Ok(body(values(&storage, layout)?))
}

fn values<'a>(storage: &'a Storage, layout: &Layout) -> Result<Stored<'a>> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("a weight is not contiguous") };
    match storage {
        Storage::Cpu(CpuStorage::F32(values)) => Ok(Stored::F32(&values[start..end])),
        Storage::Cpu(CpuStorage::BF16(values)) => {
            let values = &values[start..end];
            // SAFETY: a bf16 is its 16 bits (`repr(transparent)`).
            let bits = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u16>(), values.len()) };
            Ok(Stored::Bf16(bits))
        }
        _ => bail!("a CPU kernel was handed a weight that is neither f32 nor bf16, or one of another device"),
    }
}
