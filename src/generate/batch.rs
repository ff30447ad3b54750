//! Many answers at once: workers take jobs from one queue, each with a batch of rows of its own; a finished row's place
//! goes to the next job at once. Samples of one prompt share the prompt's cache.

use std::sync::{Arc, Mutex};

use super::options::{GenerateOptions, Generated, Job, MOST_ROWS};
use super::worker::{Prefix, worker};
use crate::error::{Error, Result};
use crate::model::cpu::team::with_helpers;
use crate::model::decoder::Decoder;
use crate::model::memory::cache_bytes;
use crate::process;
use crate::sync::unpoisoned;

/// Answers every job; `on_done` hears of each as it ends, from any worker, in no fixed order.
///
/// # Errors
/// Refuses a job that the model's positions or the cache's bytes have no room for, before anything is computed.
pub fn generate(
    decoder: &Decoder,
    jobs: &[Job],
    options: &GenerateOptions,
    on_done: &(dyn Fn(usize, &Generated) -> Result<()> + Sync),
) -> Result<Vec<Generated>> {
    refuse_too_long(decoder, jobs)?;
    let answers: Mutex<Vec<Option<Generated>>> = Mutex::new(vec![None; jobs.len()]);
    let finish = |index: usize, made: Generated| {
        on_done(index, &made)?;
        unpoisoned(answers.lock())[index] = Some(made);
        Ok(())
    };
    let budget = Budget::of(decoder, jobs, options)?;
    let cores = decoder.workers(options.workers).min(budget.workers);
    // Fewer answers than full batches for every core are shared out evenly; cores without any help with the products.
    let batch = options.batch.min(MOST_ROWS).min(jobs.len().div_ceil(cores)).max(1);
    let workers = cores.min(jobs.len().div_ceil(batch)).max(1);
    let helpers = process::workers(options.workers) / workers - 1;
    let options = GenerateOptions { batch, cache_bytes: budget.bytes / workers - budget.prefix, ..*options };
    let queue = Queue { jobs, next: Mutex::new(Next { job: 0, prefix: None }) };
    let work = || {
        let result = with_helpers(helpers, || worker(decoder, &queue, &options, &finish));
        if result.is_err() {
            queue.close();
        }
        result
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for handle in handles {
            // A worker's panic is a bug of ours; it goes on as the panic it was.
            result = result.and(handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        result
    })?;
    let answers = unpoisoned(answers.into_inner());
    // Every job was taken from the queue once, and no worker failed.
    Ok(answers.into_iter().flatten().collect())
}

fn refuse_too_long(decoder: &Decoder, jobs: &[Job]) -> Result<()> {
    let longest = decoder.config.max_position_embeddings;
    for (index, job) in jobs.iter().enumerate() {
        if job.prompt.is_empty() || job.prompt.len() + job.max_new_tokens > longest {
            return Err(Error::usage(format!(
                "prompt {index} has {} tokens and asks for {} more; the model holds 1 to {longest} in all",
                job.prompt.len(),
                job.max_new_tokens
            )));
        }
    }
    Ok(())
}

/// What the caches may take.
struct Budget {
    /// In all.
    bytes: usize,
    /// Workers among whom it can be shared so that each has room for one row of the longest.
    workers: usize,
    /// Of the longest prompt, which is kept once a worker beside its rows.
    prefix: usize,
}

impl Budget {
    fn of(decoder: &Decoder, jobs: &[Job], options: &GenerateOptions) -> Result<Self> {
        let bytes = match (options.cache_bytes, process::free_memory_bytes().unwrap_or(0) as usize / 2) {
            // A system that does not tell.
            (0, 0) => usize::MAX,
            (0, half) => half,
            (asked, _) => asked,
        };
        let prompt = jobs.iter().map(|job| job.prompt.len()).max().unwrap_or(0);
        let row = jobs.iter().map(|job| job.prompt.len() + job.max_new_tokens).max().unwrap_or(0);
        let prefix = cache_bytes(&decoder.config, prompt) as usize;
        let least = cache_bytes(&decoder.config, row) as usize + prefix;
        if least > bytes {
            let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
            return Err(Error::usage(format!(
                "an answer of {row} tokens, its prompt included, needs {:.2} GiB for its keys and values, and they may take \
                 {:.2} GiB: ask for shorter answers (--max-new-tokens), or give them more (--kv-cache-gib)",
                gib(least),
                gib(bytes)
            )));
        }
        Ok(Self { bytes, workers: (bytes / least.max(1)).max(1), prefix })
    }
}

/// The jobs that nobody has taken yet.
pub(super) struct Queue<'a> {
    pub jobs: &'a [Job],
    next: Mutex<Next>,
}

struct Next {
    job: usize,
    /// Of the last prompt that was taken.
    prefix: Option<(usize, SharedPrefix)>,
}

/// A prompt's cache, made by whoever needs it first.
pub(super) type SharedPrefix = Arc<Mutex<Option<Prefix>>>;

impl Queue<'_> {
    /// The next job, if `fits` says that there is room for it, and its prompt's cache: neighbours with equal prompts share
    /// one.
    pub fn take(&self, fits: impl Fn(&Job) -> bool) -> Option<(usize, SharedPrefix)> {
        let mut next = unpoisoned(self.next.lock());
        let index = next.job;
        let job = self.jobs.get(index).filter(|job| fits(job))?;
        next.job += 1;
        let prefix = match &next.prefix {
            Some((owner, prefix)) if self.jobs[*owner].prompt == job.prompt => prefix.clone(),
            _ => next.prefix.insert((index, SharedPrefix::default())).1.clone(),
        };
        Some((index, prefix))
    }

    /// Nothing more is to be taken.
    fn close(&self) {
        unpoisoned(self.next.lock()).job = self.jobs.len();
    }
}
