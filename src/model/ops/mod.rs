//! Differentiable kernels of our own. On the CPU each runs on raw `f32` slices, single-threaded, so that callers
//! can give every core its own rows; on other devices, and in tests, the same function in plain candle ops.
//!
//! candle's own fast `rms_norm`, `softmax_last_dim` and `rope` return results without a graph, and its matmul
//! computes the gradient of a frozen weight too: neither may stand on the training path.

pub mod attention;
pub mod cached_attention;
pub mod cross_entropy;
pub mod divergence;
pub mod dropout;
pub mod gelu;
pub mod layer_norm;
pub mod linear;
pub mod quantised;
pub mod rms_norm;
pub mod rope;
pub mod softcap;
mod stored;
pub mod swiglu;
pub mod weight;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

/// Rows up to which products are batch-invariant: a row's result does not depend on the rows beside it.
pub(crate) use super::cpu::few_rows::MAX_ROWS as MAX_BATCH_INVARIANT_ROWS;

/// Whether a tensor goes through our own kernels: if it is on the CPU, unless [`super::cpu::simd::Path::Plain`] asks for candle's ops.
pub(crate) fn uses_cpu_kernels(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && super::cpu::simd::path() != super::cpu::simd::Path::Plain
}

/// The values of a contiguous f32 tensor on the CPU, without a copy; an error for any other.
pub(crate) fn f32_slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        (CpuStorage::F32(_), None) => bail!("a kernel was handed a tensor that is not contiguous"),
        _ => bail!("a CPU kernel was handed a dtype other than f32"),
    }
}

/// Calls `body` with the values of contiguous f32 CPU tensors, which stay locked for reading meanwhile.
pub(crate) fn with_slices<const N: usize, R>(
    tensors: [&Tensor; N],
    body: impl FnOnce([&[f32]; N]) -> Result<R>,
) -> Result<R> {
    let guards = tensors.map(Tensor::storage_and_layout);
    let mut slices: [&[f32]; N] = [&[]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        *slice = match &**storage {
            Storage::Cpu(storage) => f32_slice(storage, layout)?,
            _ => bail!("a CPU kernel was handed a tensor of another device"),
        };
    }
    body(slices)
}

/// The values of any tensor, copied out as f32.
pub fn to_vec(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1()
}

/// A new vector of `len` values that `fill` writes. It is not zeroed first: zeroing is a visible share of a training step.
///
/// # Safety
/// `fill` must write every value, and read none before.
pub(crate) unsafe fn filled_vec(len: usize, fill: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::with_capacity(len);
    // SAFETY: there is room for so many, and the caller promises that they are written before they count.
    unsafe {
        fill(std::slice::from_raw_parts_mut(values.as_mut_ptr(), len));
        values.set_len(len);
    }
    values
}
