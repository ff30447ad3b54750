//! Many answers at once: workers take jobs from one open queue, and each decodes its own batch of rows. When a row is
//! finished, the next job takes its place. Samples of one prompt share the prompt's cache.

use std::sync::Mutex;

use super::job::{Event, Generated, Job, Sink};
use super::queue::Queue;
use super::worker::worker;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::cpu::team::side_by_side;
use crate::model::decoder::Decoder;
use crate::model::ops::MAX_BATCH_INVARIANT_ROWS;
use crate::process::{self, CancellationToken};
use crate::sync::unpoisoned;

/// Maximum number of rows in one product: with more, a product's last bits depend on how many rows it has.
pub const MAX_BATCH: usize = MAX_BATCH_INVARIANT_ROWS;

/// How an engine works. None of this changes an answer.
#[derive(Clone)]
pub struct EngineOptions<'a> {
    /// Decodes answers, and finds stop strings in them.
    pub tokenizer: &'a Tokenizer,
    /// Rows that a worker has under way before it begins no more, [`MAX_BATCH`] at most. Jobs with the same prompt and seed
    /// begin together, and may be more.
    pub batch: usize,
    /// Number of worker threads; 0 means one per core.
    pub workers: usize,
    /// Limit in bytes for the KV caches of all rows together; 0 means half of the free memory.
    pub cache_bytes: usize,
    /// Stops the engine when it is cancelled; unfinished answers are dropped.
    pub cancel: CancellationToken,
}

impl<'a> EngineOptions<'a> {
    /// Full batches on every core; the program's own token (SIGINT, SIGTERM) ends it.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, batch: MAX_BATCH, workers: 0, cache_bytes: 0, cancel: process::root_token() }
    }
}

/// An open queue of jobs and the workers that answer them.
pub struct Engine<'a> {
    decoder: &'a Decoder,
    options: EngineOptions<'a>,
    queue: Queue<'a>,
}

impl<'a> Engine<'a> {
    /// An engine with an empty queue.
    pub fn new(decoder: &'a Decoder, options: EngineOptions<'a>) -> Self {
        let bytes = match (options.cache_bytes, process::free_memory_bytes().unwrap_or(0) as usize / 2) {
            // A system that does not tell.
            (0, 0) => usize::MAX,
            (0, half) => half,
            (asked, _) => asked,
        };
        Self { decoder, options, queue: Queue::new(bytes) }
    }

    /// Adds a job, before or while [`Engine::run`] works. Its sink is sent what becomes of it.
    ///
    /// # Errors
    /// Refuses a job that the model's positions or the caches' bytes have no room for, before anything is computed; also
    /// once the engine is closed.
    pub fn push(&self, job: Job<'a>, sink: Sink<'a>) -> Result<()> {
        let longest = self.decoder.config.max_position_embeddings;
        if job.prompt.is_empty() || job.prompt.len().saturating_add(job.max_new_tokens) > longest {
            return Err(Error::usage(format!(
                "a prompt of {} tokens and up to {} new tokens do not fit: the model takes 1 to {longest} tokens in \
                 all",
                job.prompt.len(),
                job.max_new_tokens
            )));
        }
        self.queue.push(&self.decoder.config, job, sink)
    }

    /// No more jobs will come: [`Engine::run`] returns when all are answered.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Answers jobs until the engine is closed and all are done.
    ///
    /// # Errors
    /// What a sink or the model returns; [`Error::Interrupted`] once the engine's token is cancelled.
    pub fn run(&self) -> Result<()> {
        // Whatever ends this, a job that is pushed later is refused instead of waiting for ever.
        let result = self.run_workers();
        self.queue.abandon();
        result
    }

    fn run_workers(&self) -> Result<()> {
        let cores = self.decoder.workers(self.options.workers);
        let batch = self.options.batch.clamp(1, MAX_BATCH);
        // Where all jobs are known, no core waits for one.
        let workers = self.queue.final_count().map_or(cores, |jobs| cores.min(jobs).max(1));
        let options = EngineOptions { batch, ..self.options.clone() };
        let results = side_by_side(workers, process::workers(self.options.workers), |_| {
            let result = worker(self.decoder, &self.queue, &options, workers);
            if result.is_err() {
                self.queue.abandon();
            }
            result
        });
        results.into_iter().collect()
    }
}

/// Answers every job, in the order of the jobs; `on_event` hears of each by its index, from any worker, in no fixed order. A
/// job that is cancelled has no answer.
///
/// # Errors
/// As [`Engine::push`] and [`Engine::run`].
pub fn generate(
    decoder: &Decoder,
    jobs: &[Job],
    options: &EngineOptions,
    on_event: &(dyn Fn(usize, &Event) -> Result<()> + Sync),
) -> Result<Vec<Option<Generated>>> {
    let answers: Mutex<Vec<Option<Generated>>> = Mutex::new(vec![None; jobs.len()]);
    {
        let (engine, answers) = (Engine::new(decoder, options.clone()), &answers);
        for (index, job) in jobs.iter().enumerate() {
            let sink = move |event: Event| {
                on_event(index, &event)?;
                if let Event::Done(made) = event {
                    unpoisoned(answers.lock())[index] = Some(made);
                }
                Ok(())
            };
            engine.push(job.clone(), Box::new(sink))?;
        }
        engine.close();
        engine.run()?;
    }
    Ok(unpoisoned(answers.into_inner()))
}
