//! What is asked for, and what comes back.

use std::sync::Arc;

use crate::error::Result;
use crate::model::hooks::Intervention;
use crate::process::CancellationToken;
use crate::record::{FinishReason, Sampling};

/// A request for one answer, with its own settings. Clones share them.
#[derive(Clone)]
pub struct Job<'a> {
    /// Token ids of the rendered prompt.
    pub prompt: Vec<u32>,
    /// Seed of the answer's random numbers.
    pub seed: u64,
    /// Limit on the answer's tokens, its stop token included.
    pub max_new_tokens: usize,
    /// How its tokens are chosen, and the strings that end it.
    pub sampling: Arc<Sampling>,
    /// Token ids that end the answer.
    pub stop_ids: Arc<[u32]>,
    /// How the model is steered for it. Jobs that share one intervention should share this pointer: a prompt is read once
    /// for all of them.
    pub intervention: Option<Arc<dyn Intervention + 'a>>,
    /// Whether the sink gets text while the answer is generated.
    pub streams: bool,
    /// Ends this job alone; `None` for one that only the engine's own token ends.
    pub cancel: Option<CancellationToken>,
}

impl<'a> Job<'a> {
    /// A job without steering, whose text is sent once it is complete.
    pub fn new(
        prompt: Vec<u32>,
        seed: u64,
        max_new_tokens: usize,
        sampling: &Arc<Sampling>,
        stop_ids: &Arc<[u32]>,
    ) -> Self {
        let (sampling, stop_ids) = (sampling.clone(), stop_ids.clone());
        Self { prompt, seed, max_new_tokens, sampling, stop_ids, intervention: None, streams: false, cancel: None }
    }

    /// Whether it was asked to stop.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(CancellationToken::is_cancelled)
    }
}

/// Whether two jobs share one intervention: the same object, since nothing else tells that two do the same.
pub(super) fn same_intervention(
    a: Option<&Arc<dyn Intervention + '_>>,
    b: Option<&Arc<dyn Intervention + '_>>,
) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b)),
        _ => false,
    }
}

/// What a job's sink is sent.
#[derive(Debug)]
pub enum Event<'e> {
    /// New text of a job that streams; the pieces together are the answer.
    Text(&'e str),
    /// The answer is complete. Nothing follows.
    Done(Generated),
    /// The job was cancelled before its answer was complete. Nothing follows.
    Cancelled,
}

/// Receives a job's events in order, from the worker that generates the answer. An error ends the whole engine.
pub type Sink<'a> = Box<dyn FnMut(Event) -> Result<()> + Send + 'a>;

/// A complete answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Token ids as generated, those of a stop string included, without the stop token.
    pub ids: Vec<u32>,
    /// Their text up to the stop string, if one came up.
    pub text: String,
    /// Why the answer ended.
    pub finish_reason: FinishReason,
    /// The stop string, or the stop token as the vocabulary writes it; `None` at the token limit.
    pub stop_reason: Option<String>,
    /// Number of generated tokens, the stop token included.
    pub tokens: u32,
    /// This answer's share of its batches' wall time.
    pub seconds: f64,
}
