//! Threads that share the large products of a few workers. A product is cut into pieces by shape alone, and a free thread
//! takes the next piece. A piece is computed in the same way by any thread, so results do not depend on who helps whom.
//!
//! ```
//! use realign::model::cpu::team::{each, side_by_side};
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! let sum = AtomicUsize::new(0);
//! side_by_side(1, 2, |_| each(10, &|piece| { sum.fetch_add(piece, Ordering::Relaxed); }));
//! assert_eq!(sum.into_inner(), 45);
//! ```

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};

use super::simd::{force, path};
use super::target::Target;
use crate::sync::unpoisoned;

/// Spin count: how often a helper polls the wake-up flag (the bell) before it blocks. Some 20 µs, longer than the gap
/// between two products of a layer.
const PATIENCE: usize = 600;

/// The pieces of work of one call. The references live until [`Team::each`] returns, which waits for every helper
/// inside.
#[derive(Clone, Copy)]
struct Pieces {
    work: &'static (dyn Fn(usize) + Sync),
    next: &'static AtomicUsize,
    count: usize,
}

impl Pieces {
    fn take_all(self) {
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= self.count {
                return;
            }
            (self.work)(piece);
        }
    }
}

#[derive(Default)]
struct State {
    pieces: Option<Pieces>,
    asleep: usize,
    closed: bool,
}

#[derive(Default)]
struct Team {
    state: Mutex<State>,
    called: Condvar,
    /// Counts calls; helpers watch it without the lock.
    bell: AtomicUsize,
    /// Helpers at the pieces. Counted up under the lock, so that none comes once the pieces are taken back.
    inside: AtomicUsize,
    panicked: AtomicBool,
    /// Threads that chose this team to help.
    helpers: AtomicUsize,
}

thread_local! {
    static TEAM: Cell<*const Team> = const { Cell::new(std::ptr::null()) };
}

/// Runs `work(0)` to `work(workers - 1)` at the same time on `threads` threads in all, this one among them; results come
/// back in order. A thread without work of its own, and one whose work is done, helps with the products of the others.
pub fn side_by_side<R: Send>(workers: usize, threads: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    /// The team of a worker at work; helpers leave it when it ends, on a panic too.
    struct Open<'a>(&'a Team);
    impl Drop for Open<'_> {
        fn drop(&mut self) {
            TEAM.set(std::ptr::null());
            self.0.lock().closed = true;
            self.0.called.notify_all();
        }
    }
    if workers == 1 && threads <= 1 {
        return vec![work(0)];
    }
    let teams: Vec<Team> = (0..workers).map(|_| Team::default()).collect();
    let mine = |number: usize| {
        let result = teams.get(number).map(|team| {
            let open = Open(team);
            TEAM.set(open.0);
            work(number)
        });
        help_all(&teams);
        result
    };
    let vectors = path();
    let others = |number: usize| {
        force(vectors);
        mine(number)
    };
    std::thread::scope(|scope| {
        let others = &others;
        let handles: Vec<_> = (1..threads.max(workers)).map(|n| scope.spawn(move || others(n))).collect();
        let mut results: Vec<R> = mine(0).into_iter().collect();
        for handle in handles {
            // A worker's panic is a bug of ours: it is passed on.
            results.extend(handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    })
}

/// Does `work` with so many helper threads at its side.
pub fn with_helpers<R: Send>(helpers: usize, work: impl Fn() -> R + Sync) -> R {
    side_by_side(1, helpers + 1, |_| work()).swap_remove(0)
}

/// Helps whoever is still at work and has the fewest helpers, until all are done.
fn help_all(teams: &[Team]) {
    let open = || teams.iter().filter(|team| !team.lock().closed);
    while let Some(team) = open().min_by_key(|team| team.helpers.load(Ordering::Relaxed)) {
        team.helpers.fetch_add(1, Ordering::Relaxed);
        team.help();
    }
}

/// Does every piece of `count`, with this thread's helpers if it has any.
pub fn each(count: usize, work: &(dyn Fn(usize) + Sync)) {
    let team = TEAM.get();
    if team.is_null() || count <= 1 {
        return (0..count).for_each(work);
    }
    // SAFETY: `side_by_side` takes the pointer back before its team goes.
    unsafe { &*team }.each(count, work);
}

/// Cuts outputs of one length into pieces of `piece` values and has each written by `work`.
pub(crate) fn each_slice<const N: usize>(
    outs: [&mut [f32]; N],
    piece: usize,
    work: impl Fn(Range<usize>, [&mut [f32]; N]) + Sync,
) {
    let len = outs.iter().map(|out| out.len()).min().unwrap_or(0);
    let starts = outs.map(|out| Target { values: out.as_mut_ptr(), stride: 0 });
    each(len.div_ceil(piece), &|index| {
        let range = index * piece..((index + 1) * piece).min(len);
        // SAFETY: within the outputs, and no two pieces overlap.
        let parts = starts
            .map(|start| unsafe { std::slice::from_raw_parts_mut(start.at_column(range.start).values, range.len()) });
        work(range, parts);
    });
}

impl Team {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        unpoisoned(self.state.lock())
    }

    fn each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        /// Takes the pieces back and waits for those who are still at one, on a panic too. Meanwhile the team is not to be
        /// called: a piece that has pieces of its own does them alone.
        struct Closing<'a>(&'a Team);
        impl Drop for Closing<'_> {
            fn drop(&mut self) {
                TEAM.set(self.0);
                self.0.lock().pieces = None;
                let mut looks = 0;
                while self.0.inside.load(Ordering::Acquire) > 0 {
                    looks += 1;
                    if looks % 64 == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
                }
            }
        }
        let next = AtomicUsize::new(0);
        // SAFETY: only the lifetimes change; `closing` ends before `work` and `next` do, and no helper uses them after.
        let pieces = unsafe {
            Pieces {
                work: std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(work),
                next: std::mem::transmute::<&AtomicUsize, &'static AtomicUsize>(&next),
                count,
            }
        };
        let closing = Closing(self);
        TEAM.set(std::ptr::null());
        let mut state = self.lock();
        state.pieces = Some(pieces);
        self.bell.fetch_add(1, Ordering::Release);
        if state.asleep > 0 {
            self.called.notify_all();
        }
        drop(state);
        pieces.take_all();
        drop(closing);
        if self.panicked.load(Ordering::Relaxed) {
            // A helper's panic is a bug of ours: it is passed on.
            std::panic::resume_unwind(Box::new("a helper's piece of work panicked"));
        }
    }

    fn help(&self) {
        struct Inside<'a>(&'a Team);
        impl Drop for Inside<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.panicked.store(true, Ordering::Relaxed);
                }
                self.0.inside.fetch_sub(1, Ordering::Release);
            }
        }
        let mut heard = 0;
        loop {
            let mut looks = 0;
            while looks < PATIENCE && self.bell.load(Ordering::Acquire) == heard {
                looks += 1;
                std::hint::spin_loop();
            }
            let mut state = self.lock();
            while !state.closed && self.bell.load(Ordering::Acquire) == heard {
                state.asleep += 1;
                state = unpoisoned(self.called.wait(state));
                state.asleep -= 1;
            }
            if state.closed {
                return;
            }
            heard = self.bell.load(Ordering::Acquire);
            let Some(pieces) = state.pieces else { continue };
            self.inside.fetch_add(1, Ordering::Relaxed);
            drop(state);
            let inside = Inside(self);
            pieces.take_all();
            drop(inside);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn every_piece_is_done_once_call_after_call() {
        side_by_side(1, 4, |_| {
            for round in 0..2000 {
                let count = round % 17;
                let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                each(count, &|piece| {
                    done[piece].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|d| d.load(Ordering::Relaxed) == 1), "round {round}");
            }
        });
    }

    #[test]
    fn a_piece_with_pieces_of_its_own_does_them_alone() {
        let sum = AtomicUsize::new(0);
        side_by_side(1, 3, |_| {
            for _ in 0..50 {
                each(4, &|_| {
                    each(5, &|inner| {
                        sum.fetch_add(inner, Ordering::Relaxed);
                    });
                });
            }
        });
        assert_eq!(sum.into_inner(), 50 * 4 * 10);
    }

    #[test]
    fn helpers_that_lay_down_come_when_called() {
        let by_others = AtomicUsize::new(0);
        let me = std::thread::current().id();
        side_by_side(1, 2, |_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            // Each piece waits until two threads are at work: it ends only if the helper comes.
            let at_work = std::sync::Barrier::new(2);
            each(2, &|_| {
                at_work.wait();
                by_others.fetch_add(usize::from(std::thread::current().id() != me), Ordering::Relaxed);
            });
        });
        assert_eq!(by_others.into_inner(), 1);
    }

    #[test]
    fn a_worker_that_is_done_helps_the_one_that_is_not() {
        let done = AtomicUsize::new(0);
        let results = side_by_side(2, 2, |number| {
            if number == 1 {
                // Two pieces at once need a second thread, and only the first worker's is there.
                let at_work = std::sync::Barrier::new(2);
                each(2, &|_| {
                    at_work.wait();
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            number
        });
        assert_eq!((results, done.into_inner()), (vec![0, 1], 2));
    }

    #[test]
    fn a_piece_that_panics_ends_the_work_with_a_panic() {
        for guilty in 0..2 {
            let result = std::panic::catch_unwind(|| {
                side_by_side(1, 2, |_| each(2, &|piece| assert_ne!(piece, guilty, "planted")));
            });
            assert!(result.is_err());
        }
    }
}
