//! Student's t: the interval of a mean over few values, such as one rate for each training seed.

use std::f64::consts::PI;

use super::mean;

/// The mean's 95 % interval over independent values: mean ± t · s / √n with n − 1 degrees of freedom. `None` for fewer than
/// two values.
///
/// ```
/// let (low, high) = realign::stats::t_interval(&[1.0, 2.0, 3.0]).unwrap();
/// // scipy.stats.t.interval(0.95, 2, loc=2, scale=1 / 3 ** 0.5)
/// assert!((low + 0.484_137_711_750_330).abs() < 1e-9 && (high - 4.484_137_711_750_330).abs() < 1e-9);
/// ```
pub fn t_interval(values: &[f64]) -> Option<(f64, f64)> {
    let middle = mean(values).filter(|_| values.len() > 1)?;
    let n = values.len() as f64;
    let variance = values.iter().map(|v| (v - middle).powi(2)).sum::<f64>() / (n - 1.0);
    let half = t_95(values.len() as u64 - 1) * (variance / n).sqrt();
    Some((middle - half, middle + half))
}

/// The 97.5 % point of Student's distribution with `df` ≥ 1 degrees of freedom, by bisection.
pub fn t_95(df: u64) -> f64 {
    let (mut low, mut high) = (0.0, 1000.0);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if within(middle, df) >= 0.95 { high = middle } else { low = middle }
    }
    (low + high) / 2.0
}

/// P(|T| ≤ t) for whole degrees of freedom: the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4.
fn within(t: f64, df: u64) -> f64 {
    let angle = (t / (df as f64).sqrt()).atan();
    let square = angle.cos().powi(2);
    let (mut term, mut sum) = if df % 2 == 1 { (angle.cos(), 0.0) } else { (1.0, 0.0) };
    // Odd: cos θ + 2/3 cos³ θ + …; even: 1 + 1/2 cos² θ + …; the last power is df − 2.
    let first = df % 2;
    for power in (first..df.saturating_sub(1)).step_by(2) {
        sum += term;
        term *= square * (power + 1) as f64 / (power + 2) as f64;
    }
    if first == 1 { 2.0 / PI * (angle + angle.sin() * sum) } else { angle.sin() * sum }
}
