//! A weight `[out, in]` and the products with it in both directions. There is one copy of it, in f32, 16 bits or quantised.
//! Products of a few rows read bf16 in place. Larger ones convert it to f32 a piece at a time (exact), or multiply in 16 bits
//! where the processor is quicker at that (`cpu::dots`, `cpu::halves`, which round the other factor). f16 and quantised
//! blocks are converted a piece at a time, but for decoding steps whose blocks are multiplied in integers ([`Products`]).
//!
//! A large product is cut into pieces by its shape alone and shared with this worker's helpers ([`team`]).

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor, bail};

use super::quantised::{Products, Quantised};
use super::stored::{Values, in_place, stored};
use super::uses_cpu_kernels;
#[cfg(target_arch = "x86_64")]
use crate::model::cpu::dots::{self, Pairs};
use crate::model::cpu::few_rows::{self, Stored, few_rows};
#[cfg(target_arch = "x86_64")]
use crate::model::cpu::halves::{self, Halves};
use crate::model::cpu::integer::rounded::Rounded as EightBits;
#[cfg(target_arch = "x86_64")]
use crate::model::cpu::panels::{self, Left, Right};
use crate::model::cpu::product::{Matrix, into};
use crate::model::cpu::simd::{Path, path, vectorised};
use crate::model::cpu::target::Target;
use crate::model::cpu::team;

/// Weights of a piece at least, for a few rows and for many: some 5 µs of work, well above what it costs to share, and
/// for many rows no cut that would cost a general product its reuse.
const PIECE: (usize, usize) = (1 << 15, 1 << 18);
/// Maximum number of pieces that a product is split into.
const PIECES: usize = 16;
/// Widened weights at a time: 512 KiB, so that they stay in the second-level cache.
const WIDENED: usize = 1 << 17;

/// A weight `[out, in]` as it is held; cloning shares it.
#[derive(Debug, Clone)]
pub enum Weight {
    /// f32, bf16 or f16. A variable while it is trained.
    Dense(Tensor),
    /// Quantised blocks, which are always frozen.
    Quantised(Quantised),
}

impl From<Tensor> for Weight {
    fn from(tensor: Tensor) -> Self {
        Self::Dense(tensor)
    }
}

impl From<&Tensor> for Weight {
    fn from(tensor: &Tensor) -> Self {
        Self::Dense(tensor.clone())
    }
}

impl From<&Weight> for Weight {
    fn from(weight: &Weight) -> Self {
        weight.clone()
    }
}

impl Weight {
    /// Shape of the weight, `(out, in)`.
    pub fn dims2(&self) -> Result<(usize, usize)> {
        match self {
            Self::Dense(tensor) => tensor.dims2(),
            Self::Quantised(blocks) => Ok(blocks.dims2()),
        }
    }

    /// Its dimensions; a vector has one.
    pub fn dims(&self) -> Vec<usize> {
        match self {
            Self::Dense(tensor) => tensor.dims().to_vec(),
            Self::Quantised(blocks) => vec![blocks.dims2().0, blocks.dims2().1],
        }
    }

    /// The tensor, unless the weight is quantised.
    pub fn dense(&self) -> Option<&Tensor> {
        match self {
            Self::Dense(tensor) => Some(tensor),
            Self::Quantised(_) => None,
        }
    }

    /// Whether the weight is a variable that gets gradients.
    pub fn is_trained(&self) -> bool {
        self.dense().is_some_and(Tensor::is_variable)
    }

    /// Where it lies; blocks are in the processor's memory always.
    pub fn device(&self) -> Device {
        self.dense().map_or(Device::Cpu, |tensor| tensor.device().clone())
    }

    /// Whether products with this weight go through our own kernels.
    pub(crate) fn uses_cpu_kernels(&self) -> bool {
        self.dense().map_or_else(|| path() != Path::Plain, uses_cpu_kernels)
    }

    /// The same weight without a graph, so that it gets no gradient.
    pub fn detach(&self) -> Self {
        match self {
            Self::Dense(tensor) => Self::Dense(tensor.detach()),
            Self::Quantised(_) => self.clone(),
        }
    }

    /// The same weight, whose products are made like this where it is quantised.
    pub(crate) fn with_products(&self, products: Products) -> Self {
        match self {
            Self::Dense(_) => self.clone(),
            Self::Quantised(blocks) => Self::Quantised(blocks.with_products(products)),
        }
    }

    /// As a tensor: itself, or unpacked to f32.
    pub fn to_tensor(&self) -> Tensor {
        match self {
            Self::Dense(tensor) => tensor.clone(),
            Self::Quantised(blocks) => blocks.to_tensor(),
        }
    }

    /// Some of its rows as f32, without a graph, `[ids, in]`.
    pub fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        match self {
            Self::Dense(tensor) => {
                let ids = Tensor::from_slice(ids, ids.len(), tensor.device())?;
                tensor.detach().index_select(&ids, 0)?.to_dtype(DType::F32)
            }
            Self::Quantised(blocks) => {
                let width = blocks.dims2().1;
                let mut out = vec![0.0; ids.len() * width];
                for (&id, out) in ids.iter().zip(out.chunks_exact_mut(width)) {
                    blocks.unpack_rows(id as usize..id as usize + 1, out);
                }
                Tensor::from_vec(out, (ids.len(), width), &Device::Cpu)
            }
        }
    }

    /// Name of the format, e.g. `f32`, `bf16` or `q4_k`.
    pub fn format_name(&self) -> &'static str {
        match self {
            Self::Dense(tensor) => tensor.dtype().as_str(),
            Self::Quantised(blocks) => blocks.format_name(),
        }
    }
}

/// `x Wᵀ`, `[tokens, in] → [tokens, out]`.
pub fn times_transposed(x: &[f32], weight: impl Into<Weight>) -> Result<Vec<f32>> {
    let [y] = each_times_transposed(x, [&weight.into()])?;
    Ok(y)
}

/// The same for several weights of one width, shared with the helpers in one call: a decoding step has little to do
/// between two meetings of its cores.
pub(crate) fn each_times_transposed<const N: usize>(x: &[f32], weights: [&Weight; N]) -> Result<[Vec<f32>; N]> {
    let guards = weights.map(|weight| weight.dense().map(Tensor::storage_and_layout));
    let mut width = 1;
    let mut all = [Values::InPlace(Stored::F32(&[])); N];
    for ((values, guard), weight) in all.iter_mut().zip(&guards).zip(weights) {
        *values = match (weight, guard) {
            (Weight::Quantised(blocks), _) => Values::Blocks(blocks.stored()),
            (Weight::Dense(_), Some((storage, layout))) => in_place(storage, layout)?,
            (Weight::Dense(_), None) => bail!("a weight without values"),
        };
        width = weight.dims2()?.1;
    }
    if !x.len().is_multiple_of(width) || weights.iter().any(|weight| !weight.dims2().is_ok_and(|dims| dims.1 == width))
    {
        bail!("{} values are no rows of {width}", x.len());
    }
    let tokens = x.len() / width;
    let rows = all.map(|w| w.len() / width);
    let sixteen = all.map(|w| in_sixteen_bits(w, tokens, w.len() / width));
    let rounded = sixteen.contains(&true).then(|| rounded(x, width, true)).flatten();
    let eight = all.map(Values::in_integers).contains(&true).then(|| EightBits::new(x, width)).flatten();
    let mut ys = rows.map(|rows| Vec::with_capacity(tokens * rows));
    let mut next = 0;
    let mut parts = [(0, 0, Target { values: std::ptr::null_mut(), stride: 0 }); N]; // first piece, lines of a piece
    for ((part, y), rows) in parts.iter_mut().zip(&mut ys).zip(rows) {
        let lines = lines_of_a_piece(rows, 16, rows * width, tokens);
        *part = (next, lines, Target { values: y.as_mut_ptr(), stride: rows });
        next += rows.div_ceil(lines);
    }
    team::each(next, &|piece| {
        let which = parts.iter().rposition(|(first, ..)| *first <= piece).unwrap_or(0);
        let (first, lines, y) = parts[which];
        let range = (piece - first) * lines..((piece - first + 1) * lines).min(rows[which]);
        let w = all[which].range(range.start * width..range.end * width);
        // SAFETY: every piece writes all rows of its own columns.
        unsafe {
            match (w, &eight) {
                (Values::Blocks(w), Some(x)) if w.in_integers() => w.times_transposed(x, y.at_column(range.start)),
                _ => forward(x, rounded.as_ref().filter(|_| sixteen[which]), w, width, y.at_column(range.start)),
            }
        };
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
            over_pieces(out, 16, out * width, tokens, |rows| {
                let part = Matrix::strided(&dy[rows.start..], tokens, rows.len(), out).t();
                into(part, Matrix::rows(x, tokens, width), dw.at_column(rows.start * width), 1.0, false);
            });
            Ok(())
        })
    }
}

/// `dy W`, `[tokens, out] → [tokens, in]`.
pub fn times(dy: &[f32], weight: impl Into<Weight>) -> Result<Vec<f32>> {
    let weight = &weight.into();
    let (out, width) = weight.dims2()?;
    // SAFETY: without accumulation every value is written.
    unsafe { filled(dy.len() / out, width, |dx| times_to(dy, weight, dx, false)) }
}

/// Adds the input's gradient to `dx`: `dx += dy W`.
pub(crate) fn add_times(dy: &[f32], weight: &Weight, dx: &mut [f32]) -> Result<()> {
    let (out, width) = weight.dims2()?;
    if dx.len() * out != dy.len() * width {
        bail!("{} gradients for {} inputs of a weight of {out} × {width}", dy.len(), dx.len());
    }
    // SAFETY: `dx` was just seen to have the rows and columns.
    unsafe { times_to(dy, weight, Target { values: dx.as_mut_ptr(), stride: width }, true) }
}

/// # Safety
/// `dx` must hold `dy`'s rows of the weight's width, touched by nobody else.
unsafe fn times_to(dy: &[f32], weight: &Weight, dx: Target, add: bool) -> Result<()> {
    let (out, width) = weight.dims2()?;
    if !dy.len().is_multiple_of(out) {
        bail!("{} values are no rows of {out}", dy.len());
    }
    stored(weight, |w| {
        let sixteen = in_sixteen_bits(w, dy.len() / out, width);
        let rounded = sixteen.then(|| rounded(dy, out, false)).flatten();
        over_pieces(width, w.step(), out * width, dy.len() / out, |columns| {
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

/// Whether a product with this weight is made in sixteen bits.
fn in_sixteen_bits(weight: Values, tokens: usize, columns: usize) -> bool {
    let bf16 = matches!(weight, Values::InPlace(Stored::Bf16(_)));
    bf16 && path() >= Path::Avx512Bf16 && !few_rows::applies(tokens, columns)
}

/// Rounds the left-hand side for such a product.
#[cfg(target_arch = "x86_64")]
fn rounded(x: &[f32], width: usize, forward: bool) -> Option<Rounded> {
    match path() {
        Path::Avx512Bf16 => Some(Rounded::Pairs(Pairs::new(x, width))),
        // SAFETY: this path is that of a processor which has the unit.
        Path::Avx512Fp16 if forward => Some(Rounded::Along(unsafe { Halves::along(x, width) })),
        // SAFETY: as above.
        Path::Avx512Fp16 => Some(Rounded::Doubled(unsafe { Halves::doubled(x, width) })),
        _ => None,
    }
}

/// Only x86-64 has these products.
#[cfg(not(target_arch = "x86_64"))]
fn rounded(_: &[f32], _: usize, _: bool) -> Option<Rounded> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
enum Rounded {}

/// One piece of the forward product: every row of `x` against rows of the weight.
///
/// # Safety
/// `y` must hold `x`'s rows, as many columns as `w` has rows, touched by nobody else.
unsafe fn forward(x: &[f32], rounded: Option<&Rounded>, w: Values, width: usize, y: Target) {
    let (tokens, rows) = (x.len() / width, w.len() / width);
    // SAFETY: the caller's.
    unsafe {
        match (w, rounded) {
            #[cfg(target_arch = "x86_64")]
            (Values::InPlace(Stored::Bf16(w)), Some(Rounded::Pairs(x))) => {
                dots::times_transposed(x, w, width, y.values, y.stride)
            }
            #[cfg(target_arch = "x86_64")]
            (Values::InPlace(Stored::Bf16(w)), Some(Rounded::Along(x))) => {
                halves::times_transposed(x, w, width, y.values, y.stride)
            }
            (Values::InPlace(w @ (Stored::F32(_) | Stored::Bf16(_))), _) if few_rows::applies(tokens, rows) => {
                few_rows(x, w, width, y.values, y.stride)
            }
            (Values::InPlace(Stored::F32(w)), _) => {
                into(Matrix::rows(x, tokens, width), Matrix::rows(w, rows, width).t(), y, 1.0, false)
            }
            #[cfg(target_arch = "x86_64")]
            (Values::InPlace(Stored::Bf16(w)), _) if path() >= Path::Avx512 => {
                let left = Left { values: x.as_ptr(), row: width, column: 1 };
                let right = Right { values: w.as_ptr(), stride: width, transposed: true };
                panels::product(left, right, (tokens, width, rows), y, 1.0, false);
            }
            (Values::InPlace(Stored::Bf16(_) | Stored::F16(_)) | Values::Blocks(_), _) => {
                let few = few_rows::applies(tokens, rows);
                // A few rows take four of weights at a time, and nothing is gained by more.
                let at_once = if few { 4 } else { lines(width) };
                let mut panel = Vec::new();
                for first in (0..rows).step_by(at_once) {
                    let last = (first + at_once).min(rows);
                    panel.resize((last - first) * width, 0.0);
                    as_f32(w.range(first * width..last * width), &mut panel);
                    let part = y.at_column(first);
                    if few {
                        few_rows(x, Stored::F32(&panel), width, part.values, part.stride);
                    } else {
                        let panel = Matrix::rows(&panel, last - first, width);
                        into(Matrix::rows(x, tokens, width), panel.t(), part, 1.0, false);
                    }
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
    w: Values,
    width: usize,
    columns: Range<usize>,
    dx: Target,
    add: bool,
) {
    let out = w.len() / width;
    let tokens = dy.len() / out;
    let count = columns.len();
    // SAFETY: the caller's.
    unsafe {
        match (w, rounded) {
            (Values::InPlace(Stored::F32(w)), _) => {
                let w = Matrix::strided(&w[columns.start..], out, count, width);
                into(Matrix::rows(dy, tokens, out), w, dx, 1.0, add);
            }
            #[cfg(target_arch = "x86_64")]
            (Values::InPlace(Stored::Bf16(w)), Some(Rounded::Pairs(dy))) => {
                dots::times(dy, w, width, columns, dx.values, dx.stride, add)
            }
            #[cfg(target_arch = "x86_64")]
            (Values::InPlace(Stored::Bf16(w)), Some(Rounded::Doubled(dy))) => {
                halves::times(dy, w, width, columns, dx.values, dx.stride, add)
            }
            #[cfg(target_arch = "x86_64")]
            (Values::InPlace(Stored::Bf16(w)), _) if path() >= Path::Avx512 => {
                let left = Left { values: dy.as_ptr(), row: out, column: 1 };
                let right = Right { values: w[columns.start..].as_ptr(), stride: width, transposed: false };
                panels::product(left, right, (tokens, out, count), dx, 1.0, add);
            }
            (Values::InPlace(Stored::Bf16(_) | Stored::F16(_)) | Values::Blocks(_), _) => {
                let mut panel = Vec::new();
                for first in (0..out).step_by(lines(count)) {
                    let last = (first + lines(count)).min(out);
                    panel.resize((last - first) * count, 0.0);
                    for (row, part) in (first..last).zip(panel.chunks_exact_mut(count)) {
                        as_f32(w.range(row * width + columns.start..row * width + columns.end), part);
                    }
                    let dy = Matrix::strided(&dy[first..], tokens, last - first, out);
                    into(dy, Matrix::rows(&panel, last - first, count), dx, 1.0, add || first > 0);
                }
            }
        }
    }
}

/// Rows of this width that are widened at a time.
fn lines(width: usize) -> usize {
    (WIDENED / width.max(1)).clamp(16, 1024)
}

/// As f32, into room for as many values.
fn as_f32(w: Values, out: &mut [f32]) {
    vectorised! {
        fn widen(bits: &[u16], out: &mut [f32]) {
            for (x, bits) in out.iter_mut().zip(bits) {
                *x = f32::from_bits(u32::from(*bits) << 16);
            }
        }
    }
    vectorised! {
        fn widen_half(bits: &[u16], out: &mut [f32]) {
            for (x, bits) in out.iter_mut().zip(bits) {
                *x = few_rows::half(*bits);
            }
        }
    }
    match w {
        Values::InPlace(Stored::F32(values)) => out.copy_from_slice(values),
        Values::InPlace(Stored::Bf16(bits)) => widen(bits, out),
        Values::InPlace(Stored::F16(bits)) => widen_half(bits, out),
        Values::Blocks(blocks) => blocks.unpack(out),
    }
}

/// Cuts `lines` lines of a weight of `size` values into pieces of whole `step`s.
fn over_pieces(lines: usize, step: usize, size: usize, tokens: usize, work: impl Fn(Range<usize>) + Sync) {
    let each = lines_of_a_piece(lines, step, size, tokens);
    team::each(lines.div_ceil(each), &|piece| work(piece * each..((piece + 1) * each).min(lines)));
}

fn lines_of_a_piece(lines: usize, step: usize, size: usize, tokens: usize) -> usize {
    let piece = if tokens <= few_rows::MAX_ROWS { PIECE.0 } else { PIECE.1 };
    let pieces = (size / piece).clamp(1, PIECES);
    lines.div_ceil(pieces).next_multiple_of(step)
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
