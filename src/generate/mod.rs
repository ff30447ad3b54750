//! Answers from a model: sampling, and decoding many prompts at once over a KV cache.
//!
//! Invariant: an answer depends on the model, its prompt, its seed and the sampling settings alone, to the bit; not on the
//! batch, the order of jobs, the number of workers, or when a neighbour ended. (On a processor with AVX2 or better; without
//! one, and on other devices, the last bits of a product depend on how many rows it has.)

mod batch;
mod choices;
mod options;
pub mod sampling;
pub mod text;
mod worker;

pub use batch::generate;
pub use choices::{Choices, choice_probabilities};
pub use options::{GenerateOptions, Generated, Job, MOST_ROWS};
