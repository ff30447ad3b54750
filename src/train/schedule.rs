//! Learning-rate schedules with linear warm-up, as Hugging Face's trainer defines them.

use crate::record::Scheduler;

/// The factor on the learning rate of optimiser step `step` (0-based) of `total`.
///
/// ```
/// use realign::record::Scheduler;
/// use realign::train::schedule::factor;
/// assert_eq!(factor(Scheduler::Linear, 0, 2, 10), 0.0);
/// assert_eq!(factor(Scheduler::Linear, 2, 2, 10), 1.0);
/// assert_eq!(factor(Scheduler::Linear, 6, 2, 10), 0.5);
/// ```
pub fn factor(scheduler: Scheduler, step: u64, warmup: u64, total: u64) -> f64 {
    if step < warmup {
        return step as f64 / warmup as f64;
    }
    let progress = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
    match scheduler {
        Scheduler::Linear => (1.0 - progress).max(0.0),
        Scheduler::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0),
        Scheduler::Constant => 1.0,
    }
}
