//! How the tokens of an answer are chosen: plans and arms hold it, `generate` draws by it.

use serde::{Deserialize, Serialize};

/// How the tokens of an answer are chosen, and what ends it beside the model's own stop tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the largest.
    pub temperature: f64,
    /// So many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// The smallest set of tokens with this much probability; 1 keeps all.
    pub top_p: f64,
    /// Tokens with at least this share of the likeliest one's probability; 0 keeps all.
    pub min_p: f64,
    /// Logits of tokens that the prompt or the answer holds are divided by it, negative ones multiplied; 1 changes none.
    pub repetition_penalty: f64,
    /// An answer ends before the first of these that comes up in its text.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, stop: Vec::new() }
    }
}
