//! What is asked and what the answers are worth: suites, code extraction, outcomes, tests of generated code, judging.
//!
//! This module sees text, never a model; a judge backed by a model is handed in.

mod answers;
pub mod confine;
pub mod elsewhere;
pub mod extract;
pub mod interpreter;
pub mod judge;
pub mod judge_prompt;
mod node;
pub mod outcome;
mod python;
pub mod runner;
pub mod sandbox;
pub mod suite;
pub(crate) mod thoughts;
pub mod verdict;

pub use answers::{Tools, is_judged, score_answers};
