//! A frozen weight `[out, in]` in GGML's quantised blocks, held once, row after row. Products unpack a panel of rows at a
//! time ([`super::weight`]), or multiply the blocks in integers ([`Products::Integer`]); nothing ever holds the whole as
//! f32.

use std::ops::Range;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result, Tensor, bail};

use super::to_vec;
use crate::model::cpu::blocks::{FORMATS, unpack};
use crate::model::cpu::integer::rounded::Rounded;
use crate::model::cpu::target::Target;
use crate::model::cpu::{integer, team};

/// Rows that are quantised at a time: with a width of 4 096, 1 MiB of f32.
const PANEL: usize = 64;

/// How products `x Wᵀ` with quantised weights are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Products {
    /// From the blocks' exact values as f32.
    #[default]
    Exact,
    /// In integers, as llama.cpp decodes: each 32 values of `x` are rounded to 8 bits with a scale of their own. Reads the
    /// blocks alone, which is several times faster for a few rows. Candle's own ops (`REALIGN_SIMD=plain`) stay exact, and
    /// so does Q2_K.
    Integer,
}

/// A weight in blocks; cloning shares them.
#[derive(Clone)]
pub struct Quantised {
    held: Arc<Held>,
    products: Products,
}

struct Held {
    format: GgmlDType,
    rows: usize,
    width: usize,
    blocks: Vec<u8>,
}

impl std::fmt::Debug for Quantised {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Quantised[{}, {}; {}]", self.held.rows, self.held.width, self.format_name())
    }
}

impl Quantised {
    /// A weight `[rows, width]` from blocks in GGUF's layout.
    pub fn from_blocks(format: GgmlDType, (rows, width): (usize, usize), blocks: Vec<u8>) -> Result<Self> {
        if !FORMATS.contains(&format) {
            bail!("{} is not supported; supported: {}", name(format), FORMATS.map(name).join(", "));
        }
        if width == 0 || !width.is_multiple_of(format.block_size()) {
            bail!("rows of {width} values cannot be divided into blocks of {} ({})", format.block_size(), name(format));
        }
        if rows.checked_mul(width / format.block_size() * format.type_size()) != Some(blocks.len()) {
            bail!("{} bytes are not {rows} rows of {width} as {}", blocks.len(), name(format));
        }
        Ok(Self::holding(Held { format, rows, width, blocks }))
    }

    fn holding(held: Held) -> Self {
        Self { held: Arc::new(held), products: Products::Exact }
    }

    /// The same blocks, whose products are made like this.
    pub fn with_products(&self, products: Products) -> Self {
        Self { held: self.held.clone(), products }
    }

    /// The blocks of a dense `[out, in]`, a panel of rows at a time, with this thread's helpers if it has any. candle rounds
    /// them.
    pub fn of(weight: &Tensor, format: GgmlDType) -> Result<Self> {
        let (rows, width) = weight.dims2()?;
        let panels = rows.div_ceil(PANEL);
        let done: Vec<std::sync::OnceLock<Result<Vec<u8>>>> = (0..panels).map(|_| Default::default()).collect();
        let panel = |index: usize| -> Result<Vec<u8>> {
            let count = PANEL.min(rows - index * PANEL);
            // A copy: candle quantises from where a tensor's memory begins, wherever its view does.
            let values = to_vec(&weight.narrow(0, index * PANEL, count)?)?;
            let rows = Tensor::from_vec(values, (count, width), &Device::Cpu)?;
            Ok(QTensor::quantize(&rows, format)?.data()?.into_owned())
        };
        team::each(panels, &|index| {
            // Each panel has a place of its own, set once.
            let _ = done[index].set(panel(index));
        });
        let mut blocks = Vec::with_capacity(rows * width / format.block_size() * format.type_size());
        for panel in done {
            match panel.into_inner() {
                Some(bytes) => blocks.extend(bytes?),
                None => bail!("a panel was not quantised"),
            }
        }
        Self::from_blocks(format, (rows, width), blocks)
    }

    /// Shape of the weight, `(out, in)`.
    pub fn dims2(&self) -> (usize, usize) {
        (self.held.rows, self.held.width)
    }

    /// GGML's name of the format, in lower case: `q4_k`.
    pub fn format_name(&self) -> &'static str {
        name(self.held.format)
    }

    /// GGML format of the blocks.
    pub fn format(&self) -> GgmlDType {
        self.held.format
    }

    /// Size of the blocks in bytes.
    pub fn bytes(&self) -> usize {
        self.held.blocks.len()
    }

    /// Writes these rows to `out` as f32, row after row.
    pub fn unpack_rows(&self, rows: Range<usize>, out: &mut [f32]) {
        let whole = self.stored();
        whole.range(rows.start * self.held.width..rows.end * self.held.width).unpack(out);
    }

    /// So many of its rows in another order: row i of the result is row `order(i)`.
    pub fn reordered(&self, rows: usize, order: impl Fn(usize) -> usize) -> Self {
        let bytes = self.held.width / self.held.format.block_size() * self.held.format.type_size();
        let mut blocks = Vec::with_capacity(rows * bytes);
        for index in 0..rows {
            blocks.extend_from_slice(&self.held.blocks[order(index) * bytes..][..bytes]);
        }
        Self::holding(Held { rows, blocks, ..*self.held })
    }

    /// All of it as f32: a copy of several times its size.
    pub fn to_tensor(&self) -> Tensor {
        let mut values = vec![0.0; self.held.rows * self.held.width];
        self.unpack_rows(0..self.held.rows, &mut values);
        match Tensor::from_vec(values, (self.held.rows, self.held.width), &Device::Cpu) {
            Ok(tensor) => tensor,
            Err(e) => unreachable!("the values were counted by the shape: {e}"),
        }
    }

    /// The blocks as matrix products read them.
    pub(crate) fn stored(&self) -> Blocks<'_> {
        Blocks { format: self.held.format, bytes: &self.held.blocks, products: self.products }
    }
}

/// Whole blocks of one format, borrowed.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'a> {
    format: GgmlDType,
    bytes: &'a [u8],
    products: Products,
}

impl<'a> Blocks<'a> {
    /// Number of values per block.
    pub(crate) fn block(self) -> usize {
        self.format.block_size()
    }

    /// Number of values in all blocks.
    pub(crate) fn len(self) -> usize {
        self.bytes.len() / self.format.type_size() * self.block()
    }

    /// Some of them; both ends are ends of blocks.
    pub(crate) fn range(self, range: Range<usize>) -> Blocks<'a> {
        let at = |value: usize| {
            assert!(value.is_multiple_of(self.block()), "value {value} is within a block of {}", self.block());
            value / self.block() * self.format.type_size()
        };
        Self { bytes: &self.bytes[at(range.start)..at(range.end)], ..self }
    }

    /// Whether products with them are made in integers.
    pub(crate) fn in_integers(self) -> bool {
        self.products == Products::Integer && integer::multiplies(self.format)
    }

    /// The product of rounded rows with these rows of blocks, in integers.
    ///
    /// # Safety
    /// `out` must hold `x`'s rows with a column for each row of blocks, touched by nobody else.
    pub(crate) unsafe fn times_transposed(self, x: &Rounded, out: Target) {
        // SAFETY: the caller's.
        unsafe { integer::product(x, self.format, self.bytes, out) }
    }

    /// Writes all values to `out` as f32.
    pub(crate) fn unpack(self, out: &mut [f32]) {
        assert_eq!(out.len(), self.len(), "room for as many values as there are");
        unpack(self.format, self.bytes, out);
    }
}

/// GGML's name of a format, in lower case.
pub fn name(format: GgmlDType) -> &'static str {
    match format {
        GgmlDType::F32 => "f32",
        GgmlDType::F16 => "f16",
        GgmlDType::BF16 => "bf16",
        GgmlDType::Q4_0 => "q4_0",
        GgmlDType::Q4_1 => "q4_1",
        GgmlDType::Q5_0 => "q5_0",
        GgmlDType::Q5_1 => "q5_1",
        GgmlDType::Q8_0 => "q8_0",
        GgmlDType::Q8_1 => "q8_1",
        GgmlDType::Q2K => "q2_k",
        GgmlDType::Q3K => "q3_k",
        GgmlDType::Q4K => "q4_k",
        GgmlDType::Q5K => "q5_k",
        GgmlDType::Q6K => "q6_k",
        GgmlDType::Q8K => "q8_k",
    }
}
