//! Answers from a model: sampling, and decoding many prompts at once over a KV cache.

mod batch;
mod choices;
pub mod sampling;

pub use batch::{GenerateOptions, Generated, Job, generate};
pub use choices::{Choices, choice_probabilities};
