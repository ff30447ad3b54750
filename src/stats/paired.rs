//! Two arms on the same prompts: the difference of their ratios, its interval, and the sign-flip test.
//!
//! A pair is one scenario group with the numerator and denominator of each arm, so that a conditional rate (misaligned
//! among coherent answers) keeps its own denominators while the arms stay paired. The null hypothesis of the test is
//! that the two arms are exchangeable within each group: the test swaps the arms of some groups and compares.

use rand::Rng;

use super::resample;
use crate::rng;

/// Up to this many groups all sign patterns are enumerated; with more groups they are drawn.
const EXACT_GROUPS: usize = 16;

/// Number of drawn patterns.
const DRAWN_PATTERNS: u32 = 9999;

/// One group's (numerator, denominator) in both arms.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pair {
    /// Numerator and denominator of the arm that is compared, in one group.
    pub a: (f64, f64),
    /// The arm that it is compared with.
    pub b: (f64, f64),
}

/// Ratio of a − ratio of b over all groups; `None` where a denominator is empty.
fn difference<'a>(pairs: impl Iterator<Item = (&'a Pair, bool)>) -> Option<f64> {
    let (mut a, mut b) = ((0.0, 0.0), (0.0, 0.0));
    for (pair, swapped) in pairs {
        let (x, y) = if swapped { (pair.b, pair.a) } else { (pair.a, pair.b) };
        a = (a.0 + x.0, a.1 + x.1);
        b = (b.0 + y.0, b.1 + y.1);
    }
    (a.1 > 0.0 && b.1 > 0.0).then(|| a.0 / a.1 - b.0 / b.1)
}

impl Pair {
    /// Ratio of a − ratio of b over all groups; `None` where a denominator is empty.
    pub fn difference(pairs: &[Self]) -> Option<f64> {
        difference(pairs.iter().map(|p| (p, false)))
    }
}

/// The 95 % percentile bootstrap interval of the difference; whole groups are drawn with replacement from the stream
/// (`seed`, `name`). `None` for fewer than two groups.
pub fn bootstrap_difference(pairs: &[Pair], seed: u64, name: &str) -> Option<(f64, f64)> {
    resample::interval(pairs.len(), seed, name, |drawn| difference(drawn.iter().map(|&i| (&pairs[i], false))))
}

/// The 95 % percentile bootstrap interval of one difference − another, of two sets of groups that share none: each set is
/// resampled by itself. `None` where one of them has fewer than two groups.
pub fn bootstrap_difference_of_two(first: &[Pair], second: &[Pair], seed: u64, name: &str) -> Option<(f64, f64)> {
    let of = |pairs: &[Pair], drawn: &[usize]| difference(drawn.iter().map(|&i| (&pairs[i], false)));
    resample::interval_of_two([first.len(), second.len()], seed, name, |one, other| {
        Some(of(first, one)? - of(second, other)?)
    })
}

/// The two-sided p-value of the sign-flip test, and whether it is exact. Up to 16 groups every pattern is enumerated;
/// with more groups 9 999 patterns are drawn and the observed one is counted with them. `None` where the difference has
/// no value.
pub fn sign_flip(pairs: &[Pair], seed: u64, name: &str) -> Option<(f64, bool)> {
    // Sums in another order differ in the last bits: values that are equal up to rounding must count as equal.
    let observed = Pair::difference(pairs)?.abs() - 1e-12;
    let extreme = |swapped: &dyn Fn(usize) -> bool| {
        // A pattern that leaves an arm without a denominator counts as extreme, which is the conservative choice.
        difference(pairs.iter().enumerate().map(|(i, p)| (p, swapped(i)))).is_none_or(|d| d.abs() >= observed)
    };
    if pairs.len() <= EXACT_GROUPS {
        let patterns = 1u32 << pairs.len();
        let count = (0..patterns).filter(|bits| extreme(&|i| bits >> i & 1 == 1)).count();
        return Some((count as f64 / f64::from(patterns), true));
    }
    let mut random = rng::stream(seed, name, &[pairs.len() as u64]);
    let mut pattern = vec![false; pairs.len()];
    let mut count = 1;
    for _ in 0..DRAWN_PATTERNS {
        pattern.fill_with(|| random.random());
        count += u32::from(extreme(&|i| pattern[i]));
    }
    Some((f64::from(count) / f64::from(DRAWN_PATTERNS + 1), false))
}
