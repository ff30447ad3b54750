//! One tensor of a file: its bytes, and the weight that they are in transformers' order and convention.

use std::io::{Read, Seek, SeekFrom};

use candle_core::{Device, Tensor};

use super::Checked;
use super::header::TensorInfo;
use super::names::unsupported;
use crate::model::ops::quantised::Quantised;
use crate::model::ops::weight::Weight;
use crate::model::source::load::WeightDtype;

/// Bytes of a tensor as it is to be held.
pub(super) fn held_bytes(info: &TensorInfo, dtype: WeightDtype) -> u64 {
    let count = info.count().unwrap_or(usize::MAX) as u64;
    let format = info.kind.held();
    match dtype {
        WeightDtype::F32 => count.saturating_mul(4),
        WeightDtype::Bf16 | WeightDtype::F16 => count.saturating_mul(2),
        _ => (count / format.block_size() as u64).saturating_mul(format.type_size() as u64),
    }
}

/// Reads the bytes of one tensor. The file has `size` bytes, the tensors' begin at `data`.
pub(super) fn bytes_of(file: &mut (impl Read + Seek), size: u64, data: u64, info: &TensorInfo) -> Checked<Vec<u8>> {
    let (block, bytes) = info.kind.block();
    let values = info.count();
    // A row is whole blocks: else its values would lie in blocks with those of the next one.
    let whole = info.shape.last().is_some_and(|width| width.is_multiple_of(block));
    let count = values.filter(|_| whole).and_then(|values| (values / block).checked_mul(bytes));
    let Some(count) = count else {
        return Err(format!(
            "has shape {:?}, which cannot be divided into blocks of {block} values ({})",
            info.shape,
            info.kind.name()
        ));
    };
    let start = data.checked_add(info.offset);
    if start.and_then(|start| start.checked_add(count as u64)).is_none_or(|end| end > size) {
        return Err(format!("needs {count} bytes, but the file ends before them: it is incomplete"));
    }
    let mut read = vec![0; count];
    let from = SeekFrom::Start(start.unwrap_or_default());
    file.seek(from).and_then(|_| file.read_exact(&mut read)).map_err(|e| format!("cannot be read: {e}"))?;
    Ok(read)
}

/// A tensor as it is to be held.
pub(super) fn weight(info: &TensorInfo, bytes: Vec<u8>, dtype: WeightDtype) -> Checked<Weight> {
    let said = |e: candle_core::Error| e.to_string();
    if !info.kind.supported() {
        return Err(unsupported(info.kind.name()));
    }
    if let Some(stored) = info.kind.plain() {
        let tensor = Tensor::from_raw_buffer(&bytes, stored, &info.shape, &Device::Cpu).map_err(said)?;
        return dtype.dense(&tensor).map_err(said);
    }
    let &[rows, width] = info.shape.as_slice() else {
        return Err(format!("has shape {:?}; only matrices are read from blocks", info.shape));
    };
    let blocks = info.kind.as_held(bytes);
    let blocks = Quantised::from_blocks(info.kind.held(), (rows, width), blocks).map_err(said)?;
    match dtype {
        WeightDtype::Auto => Ok(Weight::Quantised(blocks)),
        WeightDtype::F32 | WeightDtype::Bf16 | WeightDtype::F16 => dtype.dense(&blocks.to_tensor()).map_err(said),
        WeightDtype::EightBit | WeightDtype::FourBit => {
            Err("is already quantised, and quantising it again would lose more: leave --dtype out".into())
        }
    }
}

/// Rows of every head from neighbours that turn together to halves that do.
pub(super) fn halves_apart(weight: &Weight, head_dim: usize) -> candle_core::Result<Weight> {
    let rows = weight.dims()[0];
    if head_dim == 0 || !rows.is_multiple_of(head_dim) || !head_dim.is_multiple_of(2) {
        candle_core::bail!("{rows} rows cannot be divided into heads of {head_dim}");
    }
    let order = |row: usize| {
        let (head, place) = (row / head_dim * head_dim, row % head_dim);
        head + 2 * (place % (head_dim / 2)) + place / (head_dim / 2)
    };
    match weight {
        Weight::Quantised(blocks) => Ok(Weight::Quantised(blocks.reordered(rows, order))),
        Weight::Dense(tensor) => {
            let order: Vec<u32> = (0..rows).map(|row| order(row) as u32).collect();
            Ok(tensor.index_select(&Tensor::from_vec(order, rows, &Device::Cpu)?, 0)?.into())
        }
    }
}

/// Gemma's norm weights, to which llama.cpp's converter adds the 1 that transformers adds while it computes.
pub(super) fn less_one(weight: Weight) -> candle_core::Result<Weight> {
    match weight {
        Weight::Dense(tensor) => Ok((tensor - 1.0)?.into()),
        Weight::Quantised(_) => candle_core::bail!("a norm in blocks"),
    }
}
