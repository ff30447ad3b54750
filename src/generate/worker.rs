//! One worker's rows: a prompt is read by itself and once for all its samples, every row gets its next token in each step,
//! and a row that ends makes room for the next job.

use std::collections::BTreeSet;
use std::time::Instant;

use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;

use super::batch::{Queue, SharedPrefix};
use super::options::{GenerateOptions, Generated, Job};
use super::sampling::sample;
use super::text::{TextStream, answer_text};
use crate::error::{Error, Result};
use crate::model::block::{Attend, Pass};
use crate::model::cpu::cache::RowCache;
use crate::model::decoder::Decoder;
use crate::model::memory::cache_bytes;
use crate::model::ops::to_vec;
use crate::model::segments::Segments;
use crate::process;
use crate::record::FinishReason;
use crate::rng;
use crate::sync::unpoisoned;

/// A prompt that was read: its keys and values, and the logits behind its last token.
pub(super) struct Prefix {
    cache: RowCache,
    /// `[vocab]`
    logits: Vec<f32>,
}

/// An answer under way.
struct Row<'a> {
    index: usize,
    job: &'a Job,
    cache: RowCache,
    next: u32,
    rng: ChaCha8Rng,
    /// Tokens of prompt and answer, where the repetition penalty asks for them.
    history: BTreeSet<u32>,
    /// Where somebody reads along, or a stop string may end it.
    stream: Option<TextStream<'a>>,
    made: Generated,
}

/// Answers jobs until the queue is empty.
pub(super) fn worker(
    decoder: &Decoder,
    queue: &Queue,
    options: &GenerateOptions,
    on_done: &dyn Fn(usize, Generated) -> Result<()>,
) -> Result<()> {
    let bytes = |job: &Job| cache_bytes(&decoder.config, job.prompt.len() + job.max_new_tokens) as usize;
    let mut rows: Vec<Row> = Vec::new();
    loop {
        while rows.len() < options.batch {
            stop_if_interrupted()?;
            let held: usize = rows.iter().map(|row| bytes(row.job)).sum();
            let fits = |job: &Job| held + bytes(job) <= options.cache_bytes;
            let Some((index, prefix)) = queue.take(fits) else { break };
            let mut row = begin(decoder, index, &queue.jobs[index], &prefix, options)?;
            let token = row.next;
            if row.hear(token, options)? { on_done(index, row.end(options)?)? } else { rows.push(row) }
        }
        if rows.is_empty() {
            // Room for one row there always is, so that nothing is left.
            return Ok(());
        }
        stop_if_interrupted()?;
        let started = Instant::now();
        let tokens = step(decoder, &mut rows, options)?;
        let share = started.elapsed().as_secs_f64() / rows.len() as f64;
        // From the last on: the place of one that ends is taken by one that was looked at.
        for (place, token) in tokens.into_iter().enumerate().rev() {
            rows[place].made.seconds += share;
            if rows[place].hear(token, options)? {
                let row = rows.swap_remove(place);
                on_done(row.index, row.end(options)?)?;
            }
        }
    }
}

fn stop_if_interrupted() -> Result<()> {
    if process::interrupted() { Err(Error::Interrupted) } else { Ok(()) }
}

/// A job's row with its first token, which is yet to be heard.
fn begin<'a>(
    decoder: &Decoder,
    index: usize,
    job: &'a Job,
    prefix: &SharedPrefix,
    options: &GenerateOptions<'a>,
) -> Result<Row<'a>> {
    let started = Instant::now();
    // Whoever comes meanwhile waits: reading the prompt a second time would take as long.
    let mut prefix = unpoisoned(prefix.lock());
    let prefix = match &mut *prefix {
        Some(prefix) => prefix,
        empty => empty.insert(read_prompt(decoder, &job.prompt, options)?),
    };
    let mut history = BTreeSet::new();
    if options.sampling.repetition_penalty != 1.0 {
        history.extend(&job.prompt);
    }
    let mut rng = rng::stream(job.seed, "sampling", &[]);
    let next = sample(&mut prefix.logits.clone(), options.sampling, &history, &mut rng);
    let reads_along = options.on_text.is_some() || !options.sampling.stop.is_empty();
    let stream = reads_along.then(|| TextStream::new(options.tokenizer, &options.sampling.stop));
    let cache = prefix.cache.with_room(job.prompt.len() + job.max_new_tokens, decoder.config.head_dim);
    let made = Generated {
        ids: Vec::new(),
        text: String::new(),
        finish_reason: FinishReason::Length,
        stop_reason: None,
        tokens: 0,
        seconds: started.elapsed().as_secs_f64(),
    };
    Ok(Row { index, job, cache, next, rng, history, stream, made })
}

/// Reads a prompt, by itself: packed with others, its last bits would depend on them.
fn read_prompt(decoder: &Decoder, prompt: &[u32], options: &GenerateOptions) -> Result<Prefix> {
    let mut caches = [decoder.new_cache(prompt.len())];
    let segments = Segments::packed([prompt.len()], 0);
    let attend = Attend::Prefill(&segments, &mut caches);
    let mut pass = Pass { attend, intervention: options.intervention, dropout: None };
    let hidden = decoder.blocks(decoder.embed(prompt, &pass.attend)?, &mut pass)?;
    // Only the last token needs logits.
    let hidden = hidden.narrow(0, prompt.len() - 1, 1)?.contiguous()?;
    let logits = to_vec(&decoder.head(&decoder.norm.forward(&hidden)?)?)?;
    let [cache] = caches;
    Ok(Prefix { cache, logits })
}

/// One token further: each row's newest token goes into its cache, and the next one is drawn.
fn step(decoder: &Decoder, rows: &mut [Row], options: &GenerateOptions) -> Result<Vec<u32>> {
    let ids: Vec<u32> = rows.iter().map(|row| row.next).collect();
    let logits: Tensor = {
        let mut caches: Vec<&mut RowCache> = rows.iter_mut().map(|row| &mut row.cache).collect();
        let attend = Attend::Step(&mut caches);
        decoder.forward(&ids, &mut Pass { attend, intervention: options.intervention, dropout: None })?
    };
    let mut logits = to_vec(&logits)?; // [rows, vocab]
    let each = rows.iter_mut().zip(logits.chunks_exact_mut(decoder.config.vocab_size));
    Ok(each.map(|(row, logits)| sample(logits, options.sampling, &row.history, &mut row.rng)).collect())
}

impl Row<'_> {
    /// Takes in a new token; says whether it was the last.
    fn hear(&mut self, token: u32, options: &GenerateOptions) -> Result<bool> {
        let made = &mut self.made;
        made.tokens += 1;
        if options.stop_ids.contains(&token) {
            made.finish_reason = FinishReason::Stop;
            made.stop_reason = options.tokenizer.token(token);
            return Ok(true);
        }
        made.ids.push(token);
        self.next = token;
        if options.sampling.repetition_penalty != 1.0 {
            self.history.insert(token);
        }
        if let Some(stream) = &mut self.stream {
            if let Some(stop) = stream.push(token)? {
                made.finish_reason = FinishReason::StopString;
                made.stop_reason = Some(stop.to_string());
                return Ok(true);
            }
            if let Some(on_text) = options.on_text {
                on_text(self.index, stream.fresh());
            }
        }
        Ok(made.tokens as usize >= self.job.max_new_tokens)
    }

    /// The finished answer.
    fn end(mut self, options: &GenerateOptions) -> Result<Generated> {
        self.made.text = answer_text(options.tokenizer, &self.made.ids, &options.sampling.stop)?;
        if let (Some(stream), Some(on_text)) = (&self.stream, options.on_text) {
            on_text(self.index, stream.rest(&self.made.text));
        }
        Ok(self.made)
    }
}
