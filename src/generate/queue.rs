//! The queue of waiting jobs, with the memory that unfinished ones hold, and the rule which worker gets the next job.
//! Jobs can be pushed until the queue is closed; until then, idle workers wait for more.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::job::{Job, Sink, same_intervention};
use super::prompt::{Prefix, Prompt, Shared};
use crate::error::{Error, Result};
use crate::model::config::DecoderConfig;
use crate::model::hooks::Intervention;
use crate::model::memory::cache_bytes;
use crate::process::CancellationToken;
use crate::sync::unpoisoned;

/// How long a worker without work sleeps before it looks at the cancellation token again.
const NAP: Duration = Duration::from_millis(50);

/// Jobs that begin together may exceed a worker's batch by this many rows.
const MAX_COMPANIONS: usize = 64;

/// A job that a worker has taken.
pub(super) struct Taken<'a> {
    /// Jobs are numbered as they are pushed.
    pub number: usize,
    pub job: Job<'a>,
    pub sink: Sink<'a>,
    /// The forward pass of its prompt, shared by all jobs with that prompt.
    pub prompt: Shared<Prompt>,
    /// The prompt read under the job's intervention; `None` without one.
    pub prefix: Shared<Option<Prefix>>,
    /// Bytes of KV cache that its row may take; [`Queue::done`] gives them back.
    pub bytes: usize,
}

pub(super) struct Queue<'a> {
    state: Mutex<State<'a>>,
    /// Condition variable that wakes workers when a job comes, a row ends, or the queue is closed.
    bell: Condvar,
    /// Limit in bytes for all caches together.
    bytes: usize,
}

#[derive(Default)]
struct State<'a> {
    waiting: VecDeque<(usize, Job<'a>, Sink<'a>)>,
    pushed: usize,
    closed: bool,
    /// Rows under way, of all workers.
    active: usize,
    /// Bytes that they and the last prompt may take.
    held: usize,
    /// Of the prompt that was taken last.
    last: Option<Last<'a>>,
}

/// A prompt as it was read under an intervention, or without one.
type ReadPrefix<'a> = (Option<Arc<dyn Intervention + 'a>>, Shared<Option<Prefix>>);

struct Last<'a> {
    ids: Vec<u32>,
    prompt: Shared<Prompt>,
    /// As it was read under each intervention.
    prefixes: Vec<ReadPrefix<'a>>,
    bytes: usize,
}

impl<'a> Queue<'a> {
    pub fn new(bytes: usize) -> Self {
        Self { state: Mutex::default(), bell: Condvar::new(), bytes }
    }

    /// # Errors
    /// The caches have no room for it even alone; the queue is closed.
    pub fn push(&self, config: &DecoderConfig, job: Job<'a>, sink: Sink<'a>) -> Result<()> {
        let (row, prompt) = needs(config, &job);
        if row + prompt > self.bytes {
            let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
            return Err(Error::usage(format!(
                "an answer of {} tokens, prompt included, needs {:.2} GiB of KV cache, but only {:.2} GiB are \
                 allowed: lower --max-new-tokens or raise --kv-cache-gib",
                job.prompt.len() + job.max_new_tokens,
                gib(row + prompt),
                gib(self.bytes)
            )));
        }
        let mut state = self.state();
        if state.closed {
            return Err(Error::usage("a job was pushed to a closed engine"));
        }
        let number = state.pushed;
        state.pushed += 1;
        state.waiting.push_back((number, job, sink));
        drop(state);
        self.bell.notify_one();
        Ok(())
    }

    /// Says that no more jobs will come: workers end once the queue is empty.
    pub fn close(&self) {
        self.state().closed = true;
        self.bell.notify_all();
    }

    /// Nothing that waits is begun any more.
    pub fn abandon(&self) {
        let mut state = self.state();
        state.closed = true;
        let dropped = std::mem::take(&mut state.waiting);
        drop(state);
        drop(dropped);
        self.bell.notify_all();
    }

    /// Number of waiting jobs once the queue is closed; `None` before.
    pub fn final_count(&self) -> Option<usize> {
        let state = self.state();
        state.closed.then_some(state.waiting.len())
    }

    /// The next jobs for a worker that already has `rows` of at most `batch`: the first that waits, and those behind it
    /// with the same prompt and seed. Only rows that begin together can share a trunk ([`super::trunk`]); those of a sweep
    /// share half of their blocks. Empty if no job waits, if there is no memory for one, or if one of the other `workers`
    /// should take it. A worker without rows waits for a job; for it, empty means that all jobs are done or that `cancel`
    /// was cancelled.
    pub fn take(
        &self,
        config: &DecoderConfig,
        rows: usize,
        (batch, workers): (usize, usize),
        cancel: &CancellationToken,
    ) -> Vec<Taken<'a>> {
        let mut state = self.state();
        loop {
            // Fewer jobs than full batches for every worker are shared out evenly.
            let share = (state.waiting.len() + state.active).div_ceil(workers);
            let mut taken = Vec::new();
            if rows < share.min(batch) {
                taken.extend(state.take(config, self.bytes));
            }
            while let (Some(first), Some((_, next, _))) = (taken.first(), state.waiting.front()) {
                let together = next.seed == first.job.seed && next.prompt == first.job.prompt;
                if !together || rows + taken.len() >= share.min(batch + MAX_COMPANIONS) {
                    break;
                }
                match state.take(config, self.bytes) {
                    Some(companion) => taken.push(companion),
                    None => break,
                }
            }
            let ended = state.closed && state.waiting.is_empty();
            if rows > 0 || !taken.is_empty() || ended || cancel.is_cancelled() {
                return taken;
            }
            state = unpoisoned(self.bell.wait_timeout(state, NAP)).0;
        }
    }

    /// A row has ended; what it held is free again.
    pub fn done(&self, bytes: usize) {
        let mut state = self.state();
        state.active -= 1;
        state.held -= bytes;
        drop(state);
        self.bell.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        unpoisoned(self.state.lock())
    }
}

impl<'a> State<'a> {
    /// The first of those that wait, if there is room for it. Neighbours with one prompt share what was read.
    fn take(&mut self, config: &DecoderConfig, limit: usize) -> Option<Taken<'a>> {
        let (_, job, _) = self.waiting.front()?;
        let (row, prompt) = needs(config, job);
        let last = self.last.as_ref().filter(|last| last.ids == job.prompt);
        let same = |prefix: &&(Option<Arc<dyn Intervention + 'a>>, _)| {
            same_intervention(prefix.0.as_ref(), job.intervention.as_ref())
        };
        let known = last.and_then(|last| last.prefixes.iter().find(same)).map(|(_, prefix)| prefix.clone());
        let replaced = if last.is_none() { self.last.as_ref().map_or(0, |last| last.bytes) } else { 0 };
        let more = if known.is_some() { 0 } else { prompt };
        let held = self.held - replaced + row + more;
        // One row alone always fits: what does not was refused when it was pushed.
        if held > limit && self.active > 0 {
            return None;
        }
        if last.is_none() {
            let (ids, prompt) = (job.prompt.clone(), Shared::default());
            self.last = Some(Last { ids, prompt, prefixes: Vec::new(), bytes: 0 });
        }
        let (number, job, sink) = self.waiting.pop_front()?;
        let last = self.last.as_mut()?;
        let prefix = known.unwrap_or_default();
        if more > 0 {
            last.prefixes.push((job.intervention.clone(), prefix.clone()));
            last.bytes += more;
        }
        self.held = held;
        self.active += 1;
        Some(Taken { number, job, sink, prompt: last.prompt.clone(), prefix, bytes: row })
    }
}

/// Bytes of a job's row, and of its prompt, which is kept beside it while others may share it.
fn needs(config: &DecoderConfig, job: &Job) -> (usize, usize) {
    let bytes = |tokens| cache_bytes(config, tokens) as usize;
    (bytes(job.prompt.len() + job.max_new_tokens), bytes(job.prompt.len()))
}
