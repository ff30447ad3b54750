//! Asking a subject and scoring what came back: the jobs of a suite, sample records, and the judges, those backed by a
//! model and those behind an endpoint included.

mod ask;
pub mod judges;
pub mod scoring;

pub use ask::{Ask, ask, ask_all, sample_seed};
