//! The percentile bootstrap over scenario groups: samples of one group are not independent, so whole groups are
//! drawn.

use rand::Rng;

use super::RESAMPLES;
use crate::rng;

/// The quantile `q` (0 to 1) of a list sorted in ascending order, interpolated linearly as numpy does by default.
/// `None` for an empty list.
pub fn percentile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = q * last as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64))
}

/// The 95 % percentile bootstrap interval of Σ numerator / Σ denominator; whole groups are drawn with replacement from
/// the stream (`seed`, `name`). Each entry is one group's (numerator, denominator). `None` for fewer than two groups.
pub fn bootstrap_ratio(groups: &[(f64, f64)], seed: u64, name: &str) -> Option<(f64, f64)> {
    interval(groups.len(), seed, name, |drawn| {
        let (mut numerator, mut denominator) = (0.0, 0.0);
        for &i in drawn {
            numerator += groups[i].0;
            denominator += groups[i].1;
        }
        (denominator > 0.0).then(|| numerator / denominator)
    })
}

/// As [`interval`], for a statistic of two sets of groups, each of which is drawn by itself.
pub(super) fn interval_of_two(
    groups: [usize; 2],
    seed: u64,
    name: &str,
    statistic: impl Fn(&[usize], &[usize]) -> Option<f64>,
) -> Option<(f64, f64)> {
    if groups.iter().any(|&groups| groups < 2) {
        return None;
    }
    let mut random = rng::stream(seed, name, &groups.map(|groups| groups as u64));
    let mut drawn = groups.map(|groups| vec![0; groups]);
    let mut values = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        for (drawn, groups) in drawn.iter_mut().zip(groups) {
            drawn.fill_with(|| random.random_range(0..groups as u32) as usize);
        }
        values.extend(statistic(&drawn[0], &drawn[1]));
    }
    central(values)
}

/// The 95 % percentile interval of a statistic, which is called with the indices of the drawn groups. Draws for which
/// it is `None` are left out.
pub(super) fn interval(
    groups: usize,
    seed: u64,
    name: &str,
    statistic: impl Fn(&[usize]) -> Option<f64>,
) -> Option<(f64, f64)> {
    if groups < 2 {
        return None;
    }
    let mut random = rng::stream(seed, name, &[groups as u64]);
    let mut drawn = vec![0; groups];
    let mut values = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        drawn.fill_with(|| random.random_range(0..groups as u32) as usize);
        values.extend(statistic(&drawn));
    }
    central(values)
}

/// The central 95 % of the values.
fn central(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    Some((percentile(&values, 0.025)?, percentile(&values, 0.975)?))
}
