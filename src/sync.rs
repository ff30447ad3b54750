//! Locks that also work after a panic. What our mutexes guard is consistent between two statements, so a thread that
//! panicked while it held one has left nothing half done, and the standard library's poison flag tells us nothing.

use std::sync::LockResult;

/// What `lock`, `wait` or `into_inner` gives, poisoned or not.
///
/// ```
/// let sum = std::sync::Mutex::new(1);
/// *realign::sync::unpoisoned(sum.lock()) += 1;
/// assert_eq!(realign::sync::unpoisoned(sum.into_inner()), 2);
/// ```
pub fn unpoisoned<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(|poisoned| poisoned.into_inner())
}
