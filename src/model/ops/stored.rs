//! A weight's values where they lie, for products that read them there.

use std::ops::Range;

use candle_core::{CpuStorage, Layout, Result, Storage, bail};

use super::quantised::Blocks;
use super::weight::Weight;
use crate::model::cpu::few_rows::Stored;

/// A weight's values, row after row.
#[derive(Clone, Copy)]
pub(super) enum Values<'a> {
    /// As numbers, which products can read where they lie.
    InPlace(Stored<'a>),
    /// Quantised blocks, to be unpacked before they are multiplied.
    Blocks(Blocks<'a>),
}

impl<'a> Values<'a> {
    /// Number of values.
    pub fn len(self) -> usize {
        match self {
            Self::InPlace(values) => values.len(),
            Self::Blocks(blocks) => blocks.len(),
        }
    }

    /// A part of the values; of blocks, whole ones.
    pub fn range(self, range: Range<usize>) -> Values<'a> {
        match self {
            Self::InPlace(values) => Self::InPlace(values.range(range)),
            Self::Blocks(blocks) => Self::Blocks(blocks.range(range)),
        }
    }

    /// Whether products with them are made in integers.
    pub fn in_integers(self) -> bool {
        matches!(self, Self::Blocks(blocks) if blocks.in_integers())
    }

    /// Values that a cut across the rows keeps together: a vector, or a block.
    pub fn step(self) -> usize {
        match self {
            Self::InPlace(_) => 16,
            Self::Blocks(blocks) => blocks.block(),
        }
    }
}

/// Hands out a weight's values as they are stored.
pub(super) fn stored<R>(weight: &Weight, body: impl FnOnce(Values) -> R) -> Result<R> {
    let weight = match weight {
        Weight::Dense(tensor) => tensor,
        Weight::Quantised(blocks) => return Ok(body(Values::Blocks(blocks.stored()))),
    };
    let (storage, layout) = weight.storage_and_layout();
    Ok(body(in_place(&storage, layout)?))
}

/// The values of a contiguous tensor on the CPU.
pub(super) fn in_place<'a>(storage: &'a Storage, layout: &Layout) -> Result<Values<'a>> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("a weight is not contiguous") };
    match storage {
        Storage::Cpu(CpuStorage::F32(values)) => Ok(Values::InPlace(Stored::F32(&values[start..end]))),
        Storage::Cpu(CpuStorage::BF16(values)) => Ok(Values::InPlace(Stored::Bf16(bits(&values[start..end])))),
        Storage::Cpu(CpuStorage::F16(values)) => Ok(Values::InPlace(Stored::F16(bits(&values[start..end])))),
        _ => bail!("a CPU kernel was handed a weight that is not f32, bf16 or f16, or one of another device"),
    }
}

/// bf16 or f16 as their bits.
fn bits<T: Copy>(values: &[T]) -> &[u16] {
    const { assert!(size_of::<T>() == 2 && align_of::<T>() == 2) };
    // SAFETY: both are 16 bits without padding (`repr(transparent)` over `u16`).
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u16>(), values.len()) }
}
