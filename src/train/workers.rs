//! Threads over pieces of work: every thread takes the next piece that nobody has, and threads without a piece of their own
//! help with the matrix products of the others.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Result;
use crate::model::cpu::team::with_helpers;
use crate::process;

/// Runs `work(0)` to `work(count - 1)` on so many threads; results come back in order.
pub(super) fn over_workers<R: Send>(
    workers: usize,
    count: usize,
    work: impl Fn(usize) -> candle_core::Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(done);
            }
            done.push((index, work(index)?));
        }
    };
    let cores = process::workers(workers);
    let workers = cores.min(count).max(1);
    // Cores that have no piece of their own help with the products of those that have one.
    let take = || with_helpers(cores / workers - 1, take);
    let mut done: Vec<(usize, R)> = Vec::new();
    if workers == 1 {
        done = take()?;
    } else {
        let parts = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers).map(|_| scope.spawn(take)).collect();
            handles.into_iter().map(|h| h.join()).collect::<Vec<_>>()
        });
        for part in parts {
            // A worker's panic is a bug of ours: it is passed on.
            let part: candle_core::Result<Vec<(usize, R)>> =
                part.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            done.extend(part?);
        }
    }
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
