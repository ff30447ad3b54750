//! Answers from a model: sampling, and decoding many prompts at once over a KV cache.
//!
//! Jobs go into an [`Engine`]'s queue, each with its own sampling, stop list, token limit, intervention and sink; jobs of
//! all kinds share a batch.
//!
//! Invariant: an answer depends on the model, its prompt, its seed and its own settings alone, to the bit; not on the batch,
//! its neighbours' settings, the order of jobs, the number of workers, or when a neighbour ended. (On a processor with AVX2
//! or better; without one, and on other devices, the last bits of a product depend on how many rows it has.)

mod choices;
mod engine;
mod job;
mod mixed;
mod prompt;
mod queue;
pub mod sampling;
mod teacher_forced;
pub mod text;
mod trunk;
mod worker;

pub use choices::{Choices, choice_probabilities};
pub use engine::{Engine, EngineOptions, MAX_BATCH, generate};
pub use job::{Event, Generated, Job, Sink};
pub use teacher_forced::{AnswerLogProbability, PairLogProbabilities, answer_log_probability, pair_log_probabilities};
