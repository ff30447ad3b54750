//! One worker's rows: a prompt is read by itself and once for all its samples, every row gets its next token in each step,
//! and a row that ends makes room for the next job.

use std::collections::BTreeSet;
use std::time::Instant;

use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;

use super::engine::EngineOptions;
use super::job::{Event, Generated, Job, Sink};
use super::mixed::Steering;
use super::queue::{Prefix, Queue, Taken, unpoisoned};
use super::sampling::sample;
use super::text::{TextStream, answer_text};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::cpu::cache::RowCache;
use crate::model::decoder::Decoder;
use crate::model::hooks::Intervention;
use crate::model::ops::to_vec;
use crate::model::pass::Pass;
use crate::model::segments::Segments;
use crate::process::CancellationToken;
use crate::record::FinishReason;
use crate::rng;

/// An answer under way.
struct Row<'a> {
    number: usize,
    job: Job<'a>,
    sink: Sink<'a>,
    /// What the queue counts for it.
    bytes: usize,
    cache: RowCache,
    next: u32,
    rng: ChaCha8Rng,
    /// Tokens of prompt and answer, where the repetition penalty asks for them.
    history: BTreeSet<u32>,
    /// Where its sink is sent text, or a stop string may end it.
    stream: Option<TextStream<'a>>,
    made: Generated,
}

/// Answers jobs until the queue is closed and empty.
pub(super) fn worker<'a>(
    decoder: &Decoder,
    queue: &Queue<'a>,
    options: &EngineOptions<'a>,
    workers: usize,
) -> Result<()> {
    let mut rows: Vec<Box<Row<'a>>> = Vec::new();
    loop {
        stop_if_cancelled(&options.cancel)?;
        while let Some(taken) = queue.take(&decoder.config, rows.len(), (options.batch, workers), &options.cancel) {
            stop_if_cancelled(&options.cancel)?;
            let mut row = match begin(decoder, taken, options.tokenizer)? {
                Begun::Row(row) => row,
                Begun::Cancelled(bytes) => {
                    queue.done(bytes);
                    continue;
                }
            };
            let token = row.next;
            match row.push_token(token, options.tokenizer)? {
                true => row.end(queue, options.tokenizer)?,
                false => rows.push(row),
            }
        }
        for place in (0..rows.len()).rev().filter(|&place| rows[place].job.is_cancelled()).collect::<Vec<_>>() {
            rows.swap_remove(place).cancel(queue)?;
        }
        if rows.is_empty() {
            if queue.final_count() == Some(0) {
                return Ok(());
            }
            continue;
        }
        let started = Instant::now();
        let tokens = step(decoder, &mut rows)?;
        let share = started.elapsed().as_secs_f64() / rows.len() as f64;
        // From the last on: the place of one that ends is taken by one that was looked at.
        for (place, token) in tokens.into_iter().enumerate().rev() {
            rows[place].made.seconds += share;
            if rows[place].push_token(token, options.tokenizer)? {
                rows.swap_remove(place).end(queue, options.tokenizer)?;
            }
        }
    }
}

fn stop_if_cancelled(cancel: &CancellationToken) -> Result<()> {
    if cancel.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
}

enum Begun<'a> {
    /// With its first token, which is yet to be pushed.
    Row(Box<Row<'a>>),
    /// The bytes that it does not need any more.
    Cancelled(usize),
}

/// A job's row.
fn begin<'a>(decoder: &Decoder, taken: Taken<'a>, tokenizer: &'a Tokenizer) -> Result<Begun<'a>> {
    let Taken { number, job, mut sink, prefix, bytes } = taken;
    if job.is_cancelled() {
        sink(Event::Cancelled)?;
        return Ok(Begun::Cancelled(bytes));
    }
    let started = Instant::now();
    // Whoever comes meanwhile waits: reading the prompt a second time would take as long.
    let mut prefix = unpoisoned(&prefix);
    let prefix = match &mut *prefix {
        Some(prefix) => prefix,
        empty => empty.insert(read_prompt(decoder, number, &job)?),
    };
    let mut history = BTreeSet::new();
    if job.sampling.repetition_penalty != 1.0 {
        history.extend(&job.prompt);
    }
    let mut rng = rng::stream(job.seed, "sampling", &[]);
    let next = sample(&mut prefix.logits.clone(), &job.sampling, &history, &mut rng);
    let reads_along = job.streams || !job.sampling.stop.is_empty();
    let stream = reads_along.then(|| TextStream::new(tokenizer, &job.sampling.stop));
    let cache = prefix.cache.with_room(job.prompt.len() + job.max_new_tokens, decoder.config.head_dim);
    let made = Generated {
        ids: Vec::new(),
        text: String::new(),
        finish_reason: FinishReason::Length,
        stop_reason: None,
        tokens: 0,
        seconds: started.elapsed().as_secs_f64(),
    };
    Ok(Begun::Row(Box::new(Row { number, job, sink, bytes, cache, next, rng, history, stream, made })))
}

/// Reads a prompt, by itself: packed with others, its last bits would depend on them.
fn read_prompt(decoder: &Decoder, number: usize, job: &Job) -> Result<Prefix> {
    let prompt = &job.prompt;
    let mut caches = [decoder.new_cache(prompt.len())];
    let segments = Segments::packed([prompt.len()], 0);
    let intervention = job.intervention.as_deref().map(|intervention| intervention as &dyn Intervention);
    let mut pass = Pass::prefill(&segments, &mut caches).with_intervention(intervention).with_jobs(&[number]);
    let hidden = decoder.blocks(decoder.embed(prompt, &pass.attend)?, &mut pass)?;
    // Only the last token needs logits.
    let hidden = hidden.narrow(0, prompt.len() - 1, 1)?.contiguous()?;
    let logits = to_vec(&decoder.head(&decoder.norm.forward(&hidden)?)?)?;
    let [cache] = caches;
    Ok(Prefix { cache, logits })
}

/// One token further: each row's newest token goes into its cache, and the next one is drawn.
fn step(decoder: &Decoder, rows: &mut [Box<Row>]) -> Result<Vec<u32>> {
    let ids: Vec<u32> = rows.iter().map(|row| row.next).collect();
    let jobs: Vec<usize> = rows.iter().map(|row| row.number).collect();
    let logits: Tensor = {
        let (interventions, mut caches): (Vec<_>, Vec<&mut RowCache>) = rows
            .iter_mut()
            .map(|row| {
                let Row { job, cache, .. } = &mut **row;
                (job.intervention.as_ref(), cache)
            })
            .unzip();
        let steering = Steering::of(&interventions);
        let mut pass = Pass::step(&mut caches).with_intervention(steering.as_intervention()).with_jobs(&jobs);
        decoder.forward(&ids, &mut pass)?
    };
    let mut logits = to_vec(&logits)?; // [rows, vocab]
    let each = rows.iter_mut().zip(logits.chunks_exact_mut(decoder.config.vocab_size));
    Ok(each.map(|(row, logits)| sample(logits, &row.job.sampling, &row.history, &mut row.rng)).collect())
}

impl<'a> Row<'a> {
    /// Takes in a new token; says whether it was the last.
    fn push_token(&mut self, token: u32, tokenizer: &Tokenizer) -> Result<bool> {
        let made = &mut self.made;
        made.tokens += 1;
        if self.job.stop_ids.contains(&token) {
            made.finish_reason = FinishReason::Stop;
            made.stop_reason = tokenizer.token(token);
            return Ok(true);
        }
        made.ids.push(token);
        self.next = token;
        if self.job.sampling.repetition_penalty != 1.0 {
            self.history.insert(token);
        }
        if let Some(stream) = &mut self.stream {
            if let Some(stop) = stream.push(token)? {
                made.finish_reason = FinishReason::StopString;
                made.stop_reason = Some(stop.to_string());
                return Ok(true);
            }
            if self.job.streams {
                (self.sink)(Event::Text(stream.fresh()))?;
            }
        }
        Ok(made.tokens as usize >= self.job.max_new_tokens)
    }

    /// Hands out the finished answer.
    fn end(mut self: Box<Self>, queue: &Queue<'a>, tokenizer: &Tokenizer) -> Result<()> {
        self.made.text = answer_text(tokenizer, &self.made.ids, &self.job.sampling.stop)?;
        if let Some(stream) = self.stream.as_ref().filter(|_| self.job.streams) {
            (self.sink)(Event::Text(stream.rest(&self.made.text)))?;
        }
        let Self { mut sink, made, bytes, cache, .. } = *self;
        drop(cache);
        queue.done(bytes);
        sink(Event::Done(made))
    }

    fn cancel(mut self: Box<Self>, queue: &Queue<'a>) -> Result<()> {
        queue.done(self.bytes);
        (self.sink)(Event::Cancelled)
    }
}
