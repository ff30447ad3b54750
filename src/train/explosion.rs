//! When a gradient is too large to be believed: it is not finite, or it is `max_grad_explosion` times larger than the
//! median of the steps before it (and than 1, so that a training that has learnt its rows by heart may meet a new one).
//!
//! Clipping and AdamW's own scale bound what one such gradient does to the weights; but the moments would remember it,
//! and what comes after it is seldom worth its time.

use crate::record::StepRecord;

/// Steps that the median is taken over.
const WINDOW: usize = 50;
/// Steps before there is a median worth the name.
const FEWEST: usize = 10;

/// The largest gradient norm to be believed after these steps, at a ratio of 0 or more; 0 believes every finite one.
pub fn limit(log: &[StepRecord], ratio: f64) -> f64 {
    if ratio == 0.0 || log.len() < FEWEST {
        return f64::INFINITY;
    }
    let mut norms: Vec<f64> = log.iter().rev().take(WINDOW).map(|r| r.grad_norm).collect();
    norms.sort_by(f64::total_cmp);
    ratio * norms[norms.len() / 2].max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(norms: &[f64]) -> Vec<StepRecord> {
        let record = |(i, &grad_norm): (usize, &f64)| StepRecord {
            step: i as u64 + 1,
            loss: 1.0,
            grad_norm,
            learning_rate: 1e-3,
            tokens_per_second: 1.0,
            target_tokens: 1,
            peak_memory_bytes: 1,
            epoch: 0.1,
            kl: None,
            rewards: None,
            direction: None,
        };
        norms.iter().enumerate().map(record).collect()
    }

    #[test]
    fn the_limit_follows_the_median_and_not_an_outlier() {
        let mut norms = [3.0; 20];
        norms[7] = 1e9;
        assert_eq!(limit(&log(&norms), 100.0), 300.0);
    }

    #[test]
    fn the_limit_forgets_what_lies_far_back_and_never_falls_with_tiny_gradients() {
        let norms: Vec<f64> = (0..200).map(|i| if i < 150 { 70.0 } else { 1e-7 }).collect();
        assert_eq!(limit(&log(&norms[..150]), 100.0), 7000.0);
        assert_eq!(limit(&log(&norms), 100.0), 100.0);
    }

    #[test]
    fn nothing_is_judged_by_a_handful_of_steps_or_at_ratio_zero() {
        assert_eq!(limit(&log(&[3.0; 9]), 100.0), f64::INFINITY);
        assert_eq!(limit(&log(&[3.0; 10]), 100.0), 300.0);
        assert_eq!(limit(&log(&[3.0; 10]), 0.0), f64::INFINITY);
    }
}
