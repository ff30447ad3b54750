//! Counts out of n: intervals, the exact McNemar test and odds ratios.

use super::Z95;

/// Wilson's 95 % score interval of `events` out of `n` (Wilson 1927); `None` for n = 0.
///
/// ```
/// let (low, high) = realign::stats::wilson(0, 100).unwrap();
/// assert!(low == 0.0 && (high - 0.036994).abs() < 1e-6);
/// ```
pub fn wilson(events: u64, n: u64) -> Option<(f64, f64)> {
    if n == 0 {
        return None;
    }
    let (k, n, z2) = (events as f64, n as f64, Z95 * Z95);
    let p = k / n;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    // At the ends the formula gives 0 and 1 up to rounding.
    let low = if k == 0.0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if k == n { 1.0 } else { (centre + half).min(1.0) };
    Some((low, high))
}

/// Clopper and Pearson's exact interval at level 1 − `alpha`; `None` for n = 0.
///
/// Without events the upper end is 1 − (alpha/2)^(1/n).
pub fn clopper_pearson(events: u64, n: u64, alpha: f64) -> Option<(f64, f64)> {
    if n == 0 {
        return None;
    }
    // P(X >= k) rises with p; P(X <= k) falls with it.
    let low = if events == 0 { 0.0 } else { bisect(|p| 1.0 - binomial_cdf(events - 1, n, p) >= alpha / 2.0) };
    let high = if events >= n { 1.0 } else { bisect(|p| binomial_cdf(events, n, p) <= alpha / 2.0) };
    Some((low, high))
}

/// P(X ≤ k), where X is the number of successes in `n` trials with probability `p` each.
pub fn binomial_cdf(k: u64, n: u64, p: f64) -> f64 {
    if k >= n || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    let odds = (p / (1.0 - p)).ln();
    let mut log_term = n as f64 * (1.0 - p).ln();
    let mut sum = log_term.exp();
    for i in 0..k {
        log_term += ((n - i) as f64 / (i + 1) as f64).ln() + odds;
        sum += log_term.exp();
    }
    sum.min(1.0)
}

/// The two-sided p-value of the exact McNemar test. `only_a` pairs have the event in arm a alone, `only_b` in arm b
/// alone.
pub fn mcnemar_exact(only_a: u64, only_b: u64) -> f64 {
    (2.0 * binomial_cdf(only_a.min(only_b), only_a + only_b, 0.5)).min(1.0)
}

/// Newcombe's 95 % hybrid score interval of the difference of two independent rates, a − b (Newcombe 1998, method 10).
/// Each arm is (events, n); `None` where an n is 0.
pub fn newcombe(a: (u64, u64), b: (u64, u64)) -> Option<(f64, f64)> {
    let (a_low, a_high) = wilson(a.0, a.1)?;
    let (b_low, b_high) = wilson(b.0, b.1)?;
    let (pa, pb) = (a.0 as f64 / a.1 as f64, b.0 as f64 / b.1 as f64);
    let difference = pa - pb;
    Some((difference - (pa - a_low).hypot(b_high - pb), difference + (a_high - pa).hypot(pb - b_low)))
}

/// The odds ratio and its 95 % interval after Woolf: (ratio, low, high). One arm has `a` events and `b` non-events, the
/// other `c` and `d`. If a cell is empty, 0.5 is added to every cell (Haldane and Anscombe).
pub fn odds_ratio(a: u64, b: u64, c: u64, d: u64) -> (f64, f64, f64) {
    let half = if [a, b, c, d].contains(&0) { 0.5 } else { 0.0 };
    let [a, b, c, d] = [a, b, c, d].map(|x| x as f64 + half);
    let log = (a * d / (b * c)).ln();
    let error = Z95 * (1.0 / a + 1.0 / b + 1.0 / c + 1.0 / d).sqrt();
    (log.exp(), (log - error).exp(), (log + error).exp())
}

/// The one-sided 95 % upper bound of a rate when no event was seen in `n` cases: 1 − 0.05^(1/n), the exact form of the
/// "rule of three" 3/n (Hanley and Lippman-Hand 1983). `None` for n = 0.
///
/// ```
/// let bound = realign::stats::rule_of_three(100).unwrap();
/// assert!((bound - 0.029513).abs() < 1e-6);
/// ```
pub fn rule_of_three(n: u64) -> Option<f64> {
    (n > 0).then(|| 1.0 - 0.05_f64.powf(1.0 / n as f64))
}

/// Bisection: the point of (0, 1) from which `beyond` is true, within 2⁻⁶⁰.
fn bisect(beyond: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if beyond(middle) { high = middle } else { low = middle }
    }
    (low + high) / 2.0
}
