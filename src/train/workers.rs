//! Threads over pieces of work: every thread takes the next piece that nobody has, and threads without a piece help with the
//! matrix products of the others.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Result;
use crate::model::cpu::team::side_by_side;
use crate::process;

/// Runs `work(0)` to `work(count - 1)` on so many threads; results come back in order.
pub(super) fn over_workers<R: Send>(
    workers: usize,
    count: usize,
    work: impl Fn(usize) -> candle_core::Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let take = || -> candle_core::Result<Vec<(usize, R)>> {
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
    let parts = side_by_side(cores.min(count).max(1), cores, |_| take());
    let mut done: Vec<(usize, R)> = Vec::with_capacity(count);
    for part in parts {
        done.extend(part?);
    }
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
