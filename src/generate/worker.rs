//! One worker's rows. A prompt is read once for all its samples; each step gives every row its next token; a row that
//! ends makes room for the next job.

use std::collections::BTreeSet;
use std::time::Instant;

use rand_chacha::ChaCha8Rng;

use super::engine::EngineOptions;
use super::job::{Event, Generated, Job, Sink};
use super::mixed::untouched_blocks;
use super::prompt::read_prompt;
use super::queue::{Queue, Taken};
use super::sampling::sample;
use super::text::{TextStream, answer_text};
use super::trunk::{Branch, Trunks};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::hooks::Intervention;
use crate::model::ops::to_vec;
use crate::process::CancellationToken;
use crate::record::FinishReason;
use crate::rng;
use crate::sync::unpoisoned;

/// An unfinished answer: a row of the worker's batch.
struct Row<'a> {
    job: Job<'a>,
    sink: Sink<'a>,
    /// Bytes that the queue counts for this row.
    bytes: usize,
    branch: Branch<'a>,
    rng: ChaCha8Rng,
    /// Tokens of prompt and answer, kept only where the repetition penalty needs them.
    history: BTreeSet<u32>,
    /// Text so far, kept only where the sink wants text or a stop string may end the answer.
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
    let (mut rows, mut trunks) = (Vec::<Box<Row<'a>>>::new(), Trunks::default());
    loop {
        stop_if_cancelled(&options.cancel)?;
        loop {
            let taken = queue.take(&decoder.config, rows.len(), (options.batch, workers), &options.cancel);
            if taken.is_empty() {
                break;
            }
            for taken in taken {
                stop_if_cancelled(&options.cancel)?;
                let mut row = match begin(decoder, taken, options.tokenizer, &mut trunks)? {
                    Begun::Row(row) => row,
                    Begun::Cancelled(bytes) => {
                        queue.done(bytes);
                        continue;
                    }
                };
                let token = row.branch.next;
                match row.push_token(token, options.tokenizer)? {
                    true => row.end(queue, options.tokenizer)?,
                    false => rows.push(row),
                }
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
        trunks.keep(&rows.iter().map(|row| row.branch.trunk).collect());
        let started = Instant::now();
        let tokens = step(decoder, &mut rows, &mut trunks)?;
        let share = started.elapsed().as_secs_f64() / rows.len() as f64;
        // From the last on: the place of one that ends is taken by one that was looked at.
        for (place, token) in tokens.into_iter().enumerate().rev() {
            rows[place].made.seconds += share;
            if rows[place].push_token(token, options.tokenizer)? {
                rows.swap_remove(place).end(queue, options.tokenizer)?;
            }
        }
        trunks.regroup(&mut rows.iter_mut().map(|row| &mut row.branch).collect::<Vec<_>>());
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

/// Reads a job's prompt, or takes it from another job, and draws the first token.
fn begin<'a>(decoder: &Decoder, taken: Taken<'a>, tokenizer: &'a Tokenizer, trunks: &mut Trunks) -> Result<Begun<'a>> {
    let Taken { number, job, mut sink, prompt, prefix, bytes } = taken;
    if job.is_cancelled() {
        sink(Event::Cancelled)?;
        return Ok(Begun::Cancelled(bytes));
    }
    let started = Instant::now();
    // Whoever comes meanwhile waits: reading the prompt a second time would take as long.
    let mut prefix = unpoisoned(prefix.lock());
    let prefix = match &mut *prefix {
        Some(prefix) => prefix,
        empty => {
            let mut read = unpoisoned(prompt.lock());
            empty.insert(read_prompt(decoder, number, &job, &mut read)?)
        }
    };
    let mut history = BTreeSet::new();
    if job.sampling.repetition_penalty != 1.0 {
        history.extend(&job.prompt);
    }
    let mut rng = rng::stream(job.seed, "sampling", &[]);
    let next = sample(&mut prefix.logits.clone(), &job.sampling, &history, &mut rng);
    let reads_along = job.streams || !job.sampling.stop.is_empty();
    let stream = reads_along.then(|| TextStream::new(tokenizer, &job.sampling.stop));
    let intervention = job.intervention.clone();
    let depth = untouched_blocks(decoder.blocks.len(), intervention.as_deref().map(|one| one as &dyn Intervention));
    let trunk = trunks.begin(decoder, &prompt, depth, next);
    let cache = prefix.cache.with_room(job.prompt.len() + job.max_new_tokens, decoder.config.head_dim);
    let position = job.prompt.len() as u32;
    let branch = Branch { number, intervention, depth, trunk, cache, next, position };
    let made = Generated {
        ids: Vec::new(),
        text: String::new(),
        finish_reason: FinishReason::Length,
        stop_reason: None,
        tokens: 0,
        seconds: started.elapsed().as_secs_f64(),
    };
    Ok(Begun::Row(Box::new(Row { job, sink, bytes, branch, rng, history, stream, made })))
}

/// One token further for all rows: the newest token of each is read, and the next one is drawn.
fn step(decoder: &Decoder, rows: &mut [Box<Row>], trunks: &mut Trunks) -> Result<Vec<u32>> {
    let mut branches: Vec<&mut Branch> = rows.iter_mut().map(|row| &mut row.branch).collect();
    let logits = trunks.step(decoder, &mut branches)?;
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
        self.branch.next = token;
        self.branch.position = (self.job.prompt.len() + made.ids.len() - 1) as u32;
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

    /// Sends the finished answer to its sink.
    fn end(mut self: Box<Self>, queue: &Queue<'a>, tokenizer: &Tokenizer) -> Result<()> {
        self.made.text = answer_text(tokenizer, &self.made.ids, &self.job.sampling.stop)?;
        if let Some(stream) = self.stream.as_ref().filter(|_| self.job.streams) {
            (self.sink)(Event::Text(stream.rest(&self.made.text)))?;
        }
        let Self { mut sink, made, bytes, branch, .. } = *self;
        drop(branch);
        queue.done(bytes);
        sink(Event::Done(made))
    }

    fn cancel(mut self: Box<Self>, queue: &Queue<'a>) -> Result<()> {
        queue.done(self.bytes);
        (self.sink)(Event::Cancelled)
    }
}
