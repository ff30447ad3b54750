//! What the processor does: vector units and their loops, matrix products, the worker's helpers, the KV cache. Nothing
//! here knows a graph or a gradient; [`super::ops`] makes differentiable functions of it.

pub(crate) mod blocks;
pub mod cache;
#[cfg(target_arch = "x86_64")]
pub(crate) mod dots;
pub(crate) mod few_rows;
#[cfg(target_arch = "x86_64")]
pub(crate) mod halves;
pub(crate) mod integer;
#[cfg(target_arch = "x86_64")]
pub(crate) mod lanes;
#[cfg(target_arch = "x86_64")]
pub(crate) mod panels;
pub mod product;
pub mod simd;
pub(crate) mod target;
pub mod team;
