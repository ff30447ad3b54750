//! Answers from a model: sampling, and decoding many prompts at once over a KV cache.

mod batch;
pub mod sampling;

pub use batch::{GenerateOptions, Generated, Job, generate};
