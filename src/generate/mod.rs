//! Answers from a model: sampling, and decoding many prompts at once over a KV cache.
//!
//! Invariant: an answer depends on the model, its prompt, its seed and the sampling settings alone, to the bit; not on the
//! batch, the order of jobs, the number of workers, or when a neighbour ended.

mod batch;
mod options;
pub mod sampling;
pub mod text;
mod worker;

pub use batch::generate;
pub use options::{GenerateOptions, Generated, Job, MOST_ROWS};
