//! Intervals, tests and power: plain functions of numbers, checked against scipy and statsmodels
//! (`tests/fixtures/stats/`).
//!
//! The functions do not know what is measured. Random numbers come from named streams, so the same input gives the same
//! interval on any machine.

mod agreement;
mod binomial;
mod paired;
mod power;
mod resample;
mod stratified;
mod student;

pub use agreement::{cohen_kappa, gwet_ac1, krippendorff_interval, krippendorff_nominal};
pub use binomial::{binomial_cdf, clopper_pearson, mcnemar_exact, newcombe, odds_ratio, rule_of_three, wilson};
pub use paired::{Pair, bootstrap_difference, bootstrap_difference_of_two, sign_flip};
pub use power::{
    answers_to_ask, fisher_power, mcnemar_power, minimum_detectable_difference, minimum_detectable_paired,
    pairs_needed, samples_needed,
};
pub use resample::{bootstrap_ratio, percentile};
pub use stratified::{Stratified, exact_stratified};
pub use student::{t_95, t_interval};

/// The 97.5 % quantile of the standard normal distribution: half the width of a 95 % interval in standard errors.
pub const Z95: f64 = 1.959_963_984_540_054;

/// Number of resamples in every bootstrap.
pub const RESAMPLES: usize = 2000;

/// The arithmetic mean; `None` for an empty list.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The median; of an even number of values, the mean of the middle two. `None` for an empty list.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 0.5)
}

/// Holm's step-down adjustment of p-values for multiple tests (Holm 1979). The result is in the order of the input.
///
/// ```
/// let adjusted = realign::stats::holm(&[0.01, 0.04, 0.03]);
/// assert_eq!(adjusted, vec![0.03, 0.06, 0.06]);
/// ```
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&i, &j| p[i].total_cmp(&p[j]));
    let mut adjusted = vec![0.0; p.len()];
    let mut running = 0.0_f64;
    for (rank, &index) in order.iter().enumerate() {
        running = running.max((p.len() - rank) as f64 * p[index]).min(1.0);
        adjusted[index] = running;
    }
    adjusted
}

/// Equivalence by two one-sided tests: whether the interval of the difference lies strictly within ± `margin`.
///
/// With a 95 % interval each side is tested at 2.5 %, stricter than the customary 5 %.
pub fn equivalent(low: f64, high: f64, margin: f64) -> bool {
    low > -margin && high < margin
}
