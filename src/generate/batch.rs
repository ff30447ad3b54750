//! Many answers at once: one worker a core, each with a batch of rows of its own; a finished row's place goes to the
//! next job. Samples of one prompt share the prompt's cache.

use std::sync::Mutex;
use std::time::Instant;

use rand_chacha::ChaCha8Rng;

use super::sampling::{Sampling, sample};
use crate::error::{Error, Result};
use crate::model::block::{Attend, Pass};
use crate::model::cache::RowCache;
use crate::model::decoder::Decoder;
use crate::model::hooks::Intervention;
use crate::model::ops::team::with_helpers;
use crate::model::ops::to_vec;
use crate::model::segments::Segments;
use crate::process;
use crate::record::FinishReason;
use crate::rng;

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

/// How answers are made.
pub struct GenerateOptions<'a> {
    /// How a token is chosen.
    pub sampling: Sampling,
    /// Tokens that end an answer.
    pub stop_ids: &'a [u32],
    /// Steering.
    pub intervention: Option<&'a dyn Intervention>,
    /// Rows decoded together by one worker.
    pub batch: usize,
    /// Threads; 0 means one a core.
    pub workers: usize,
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Without the stop token.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens made, the stop token included.
    pub tokens: u32,
    /// This answer's share of its batches' wall time.
    pub seconds: f64,
}

struct Row {
    job: usize,
    cache: RowCache,
    next: u32,
    rng: ChaCha8Rng,
    made: Generated,
}

/// Answers every job; `on_done` hears of each as it ends, from any worker, in no fixed order.
pub fn generate(
    decoder: &Decoder,
    jobs: &[Job],
    options: &GenerateOptions,
    on_done: &(dyn Fn(usize, &Generated) -> Result<()> + Sync),
) -> Result<Vec<Generated>> {
    for (index, job) in jobs.iter().enumerate() {
        let longest = decoder.config.max_position_embeddings;
        if job.prompt.is_empty() || job.prompt.len() + job.max_new_tokens > longest {
            return Err(Error::usage(format!(
                "prompt {index} has {} tokens and asks for {} more; the model holds 1 to {longest} in all",
                job.prompt.len(),
                job.max_new_tokens
            )));
        }
    }
    let answers: Mutex<Vec<Option<Generated>>> = Mutex::new(vec![None; jobs.len()]);
    let finish = |index: usize, made: Generated| {
        on_done(index, &made)?;
        if let Ok(mut answers) = answers.lock() {
            answers[index] = Some(made);
        }
        Ok(())
    };
    let cores = decoder.workers(options.workers);
    // Fewer answers than full batches for every core are shared out evenly; cores without any help with the products.
    let options = GenerateOptions { batch: options.batch.min(jobs.len().div_ceil(cores)).max(1), ..*options };
    let workers = cores.min(jobs.len().div_ceil(options.batch)).max(1);
    // Dealt out beforehand, not taken from a queue: which rows share a batch must not depend on timing, since a
    // product's last bits may depend on how many rows it has.
    let deal = options.batch.div_ceil(2).max(1);
    let hand = |worker: usize| (0..jobs.len()).filter(|job| job / deal % workers == worker).collect::<Vec<_>>();
    let helpers = cores / workers - 1;
    let work = |number: usize| with_helpers(helpers, || worker(decoder, jobs, &hand(number), &options, &finish));
    std::thread::scope(|scope| {
        let work = &work;
        let handles: Vec<_> = (1..workers).map(|n| scope.spawn(move || work(n))).collect();
        let mut result = work(0);
        for handle in handles {
            // A worker's panic is a bug of ours; it goes on as the panic it was.
            result = result.and(handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        result
    })?;
    let answers = answers.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    // Every job was taken from the queue once, and no worker failed.
    Ok(answers.into_iter().flatten().collect())
}

fn worker(
    decoder: &Decoder,
    jobs: &[Job],
    mut hand: &[usize],
    options: &GenerateOptions,
    on_done: &dyn Fn(usize, Generated) -> Result<()>,
) -> Result<()> {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        if process::interrupted() {
            return Err(Error::Interrupted);
        }
        // Refilling half a batch at a time keeps prompts packed and steps full.
        if !hand.is_empty() && rows.len() <= options.batch / 2 {
            let (next, rest) = hand.split_at((options.batch.max(1) - rows.len()).min(hand.len()));
            hand = rest;
            admit(decoder, jobs, next, options, &mut rows, on_done)?;
        }
        if rows.is_empty() {
            if hand.is_empty() {
                return Ok(());
            }
            continue;
        }
        let started = Instant::now();
        let ids: Vec<u32> = rows.iter().map(|r| r.next).collect();
        let logits = {
            let mut caches: Vec<&mut RowCache> = rows.iter_mut().map(|r| &mut r.cache).collect();
            let attend = Attend::Step(&mut caches);
            decoder.forward(&ids, &mut Pass { attend, intervention: options.intervention, dropout: None })?
        };
        let mut logits = to_vec(&logits)?; // [rows, vocab]
        let vocab = decoder.config.vocab_size;
        for (row, logits) in rows.iter_mut().zip(logits.chunks_exact_mut(vocab)) {
            row.next = sample(logits, &options.sampling, &mut row.rng);
        }
        let share = started.elapsed().as_secs_f64() / rows.len() as f64;
        rows.iter_mut().for_each(|row| row.made.seconds += share);
        retire(jobs, options, &mut rows, on_done)?;
    }
}

/// Prefills the prompts of new jobs, equal neighbours once, and draws each row's first token.
fn admit(
    decoder: &Decoder,
    jobs: &[Job],
    next: &[usize],
    options: &GenerateOptions,
    rows: &mut Vec<Row>,
    on_done: &dyn Fn(usize, Generated) -> Result<()>,
) -> Result<()> {
    let started = Instant::now();
    let count = next.len();
    let mut distinct: Vec<usize> = Vec::new(); // the first job of each prompt
    let mut prompt_of: Vec<usize> = Vec::new();
    for &job in next {
        match distinct.last() {
            Some(&last) if jobs[last].prompt == jobs[job].prompt => {}
            _ => distinct.push(job),
        }
        prompt_of.push(distinct.len() - 1);
    }
    let longest_answer = next.iter().map(|&j| jobs[j].max_new_tokens).max().unwrap_or(0);
    let mut caches: Vec<RowCache> =
        distinct.iter().map(|&j| decoder.new_cache(jobs[j].prompt.len() + longest_answer)).collect();
    let ids: Vec<u32> = distinct.iter().flat_map(|&j| &jobs[j].prompt).copied().collect();
    let segments = Segments::packed(distinct.iter().map(|&j| jobs[j].prompt.len()), 0);
    let attend = Attend::Prefill(&segments, &mut caches);
    let mut pass = Pass { attend, intervention: options.intervention, dropout: None };
    let hidden = decoder.blocks(decoder.embed(&ids, &pass.attend)?, &mut pass)?;
    // Only each prompt's last token needs logits.
    let last: Vec<u32> = segments.iter().map(|s| (s.start + s.len - 1) as u32).collect();
    let last = candle_core::Tensor::from_vec(last, segments.len(), decoder.device())?;
    let logits = to_vec(&decoder.head(&decoder.norm.forward(&hidden.index_select(&last, 0)?)?)?)?;
    let vocab = decoder.config.vocab_size;
    for (&job, prompt) in next.iter().zip(prompt_of) {
        let mut rng = rng::stream(jobs[job].seed, "sampling", &[]);
        let mut logits = logits[prompt * vocab..(prompt + 1) * vocab].to_vec();
        let token = sample(&mut logits, &options.sampling, &mut rng);
        let made = Generated { ids: Vec::new(), finish_reason: FinishReason::Length, tokens: 0, seconds: 0.0 };
        rows.push(Row { job, cache: caches[prompt].clone(), next: token, rng, made });
    }
    let share = started.elapsed().as_secs_f64() / count as f64;
    let fresh = rows.len() - count;
    rows[fresh..].iter_mut().for_each(|row| row.made.seconds += share);
    retire(jobs, options, rows, on_done)
}

/// Counts each row's newest token and hands over the rows that it ended.
fn retire(
    jobs: &[Job],
    options: &GenerateOptions,
    rows: &mut Vec<Row>,
    on_done: &dyn Fn(usize, Generated) -> Result<()>,
) -> Result<()> {
    let mut index = 0;
    while index < rows.len() {
        let row = &mut rows[index];
        // The newest token is not yet in the cache: a row that has one counted already is only looked at once.
        let fresh = row.made.tokens as usize + jobs[row.job].prompt.len() == row.cache.len();
        if fresh {
            row.made.tokens += 1;
            if options.stop_ids.contains(&row.next) {
                row.made.finish_reason = FinishReason::Stop;
            } else {
                row.made.ids.push(row.next);
            }
        }
        let ended =
            row.made.finish_reason == FinishReason::Stop || row.made.tokens as usize >= jobs[row.job].max_new_tokens;
        if ended {
            let row = rows.swap_remove(index);
            on_done(row.job, row.made)?;
        } else {
            index += 1;
        }
    }
    Ok(())
}
