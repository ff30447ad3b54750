//! Asking a subject and scoring what came back: the jobs of a suite, sample records, and the judges, those backed by a
//! model and those behind an endpoint included.

pub mod judges;
mod pairs;
pub mod scoring;
mod suite_jobs;

pub use pairs::encode_pair;
pub use suite_jobs::{Ask, ask, ask_all, sample_seed};
