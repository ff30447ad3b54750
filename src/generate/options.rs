//! What is asked for, and what comes back.

use super::sampling::Sampling;
use crate::data::tokenizer::Tokenizer;
use crate::model::hooks::Intervention;
use crate::model::ops::ROWS_APART;
use crate::record::FinishReason;

/// Rows that one worker decodes together at most: beyond it a product's last bits depend on how many rows it has.
pub const MOST_ROWS: usize = ROWS_APART;

/// One answer to be made.
#[derive(Debug, Clone)]
pub struct Job {
    /// The rendered prompt.
    pub prompt: Vec<u32>,
    /// Its sampling seed.
    pub seed: u64,
    /// Its longest answer.
    pub max_new_tokens: usize,
}

/// Hears of an answer's text as it appears: the job and what is new.
pub type OnText<'a> = &'a (dyn Fn(usize, &str) + Sync);

/// How answers are made.
#[derive(Clone, Copy)]
pub struct GenerateOptions<'a> {
    /// How a token is chosen, and the strings that end an answer.
    pub sampling: &'a Sampling,
    /// Tokens to text.
    pub tokenizer: &'a Tokenizer,
    /// Tokens that end an answer.
    pub stop_ids: &'a [u32],
    /// Steering.
    pub intervention: Option<&'a dyn Intervention>,
    /// Rows decoded together by one worker, [`MOST_ROWS`] at most.
    pub batch: usize,
    /// Threads; 0 means one a core.
    pub workers: usize,
    /// Bytes that the keys and values of all rows may take together; 0 means half of the memory that is free.
    pub cache_bytes: usize,
    /// Text as it appears; each answer's pieces are its text.
    pub on_text: Option<OnText<'a>>,
}

impl<'a> GenerateOptions<'a> {
    /// Full batches on every core, without steering.
    pub fn new(sampling: &'a Sampling, tokenizer: &'a Tokenizer, stop_ids: &'a [u32]) -> Self {
        let (intervention, on_text) = (None, None);
        Self { sampling, tokenizer, stop_ids, intervention, batch: MOST_ROWS, workers: 0, cache_bytes: 0, on_text }
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// As made, those of a stop string among them; without the stop token.
    pub ids: Vec<u32>,
    /// Their text up to the stop string, if one came up.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The stop string, or the stop token as the vocabulary writes it; `None` at the token limit.
    pub stop_reason: Option<String>,
    /// Tokens made, the stop token included.
    pub tokens: u32,
    /// This answer's share of its batches' wall time.
    pub seconds: f64,
}
