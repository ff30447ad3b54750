//! Teacher forcing: how likely a model finds two given answers to a prompt. Nothing is drawn.
//!
//! `log P(answer | prompt) = Σ log P(token | what precedes it)`, in nats, over the tokens whose weight is not 0.
//!
//! Invariant: a result depends on the model, the intervention and the answer's own tokens alone, to the bit. Each answer is
//! one pass of its own, so that neither the number of workers nor its neighbours can change it. An intervention is told
//! which tokens belong to the answer, as while decoding. Products with quantised weights are exact.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use candle_core::Tensor;

use crate::data::collate::Example;
use crate::data::preference::PreferencePair;
use crate::error::{Error, Result};
use crate::model::cpu::team::with_helpers;
use crate::model::decoder::Decoder;
use crate::model::hooks::Intervention;
use crate::model::ops::cross_entropy::token_losses;
use crate::model::pass::Pass;
use crate::model::segments::Segments;
use crate::process::CancellationToken;

/// How likely one answer is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnswerLogProbability {
    /// Sum over the answer's tokens, in nats.
    pub sum: f64,
    /// Number of tokens in the sum.
    pub tokens: u32,
}

/// Both answers of a pair, the chosen one first, with the seconds that they took.
pub type PairLogProbabilities = ([AnswerLogProbability; 2], f64);

/// The log-probability of one answer behind its prompt.
///
/// # Errors
/// A row longer than the model's positions, or without a token to predict.
pub fn answer_log_probability(
    decoder: &Decoder,
    row: &Example,
    intervention: Option<&dyn Intervention>,
) -> Result<AnswerLogProbability> {
    let longest = decoder.config.max_position_embeddings;
    let targets: Vec<usize> = (1..row.ids.len()).filter(|&token| row.weights[token] != 0.0).collect();
    // Nothing is predicted from the last token, which is never fed, as in generation.
    let fed = targets.last().copied().unwrap_or_default();
    if fed == 0 || fed > longest {
        return Err(Error::usage(format!(
            "a prompt with its answer has {} tokens, {} of the answer; the model takes 1 to {longest} tokens in all",
            row.ids.len(),
            targets.len()
        )));
    }
    let segments = Segments::packed([fed], 0);
    let answer: Vec<bool> = row.weights[..fed].iter().map(|weight| *weight != 0.0).collect();
    let mut pass = Pass::sequences(&segments).with_intervention(intervention).with_answer(&answer);
    let hidden = decoder.blocks(decoder.embed(&row.ids[..fed], &pass.attend)?, &mut pass)?; // [fed, d_model]
    let before: Vec<u32> = targets.iter().map(|&token| token as u32 - 1).collect();
    let before = Tensor::from_vec(before, targets.len(), decoder.device())?;
    let normed = decoder.norm.forward(&hidden.index_select(&before, 0)?)?.detach(); // [answer, d_model]
    let ids: Vec<u32> = targets.iter().map(|&token| row.ids[token]).collect();
    let losses = token_losses(&normed, &decoder.output.detach(), decoder.config.logit_softcap, &ids)?;
    Ok(AnswerLogProbability { sum: -losses.iter().map(|&loss| f64::from(loss)).sum::<f64>(), tokens: ids.len() as u32 })
}

/// Computes all pairs, on as many threads as asked for (0 means one per core); `on_done` hears of each by its index, from any
/// thread, in no fixed order.
///
/// # Errors
/// As [`answer_log_probability`], what `on_done` returns, and [`Error::Interrupted`] once `cancel` is cancelled.
pub fn pair_log_probabilities(
    decoder: &Decoder,
    pairs: &[PreferencePair],
    intervention: Option<&dyn Intervention>,
    workers: usize,
    cancel: &CancellationToken,
    on_done: &(dyn Fn(usize, PairLogProbabilities) -> Result<()> + Sync),
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let take = || -> Result<()> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(pair) = pairs.get(index) else { return Ok(()) };
            if cancel.is_cancelled() {
                return Err(Error::Interrupted);
            }
            let started = Instant::now();
            let of = |row: &Example| answer_log_probability(decoder, row, intervention);
            let both = [of(&pair.chosen)?, of(&pair.rejected)?];
            on_done(index, (both, started.elapsed().as_secs_f64()))?;
        }
    };
    let cores = decoder.workers(workers);
    let workers = cores.min(pairs.len()).max(1);
    let work = || {
        let done = with_helpers(cores / workers - 1, take);
        if done.is_err() {
            // Nobody begins another pair.
            next.store(pairs.len(), Ordering::Relaxed);
        }
        done
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for handle in handles {
            // A worker's panic is a bug of ours: it is passed on.
            result = result.and(handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        result
    })
}
