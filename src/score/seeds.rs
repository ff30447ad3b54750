//! Training seeds as an axis: each seed's rate and difference, and what may be said across seeds.
//!
//! A pooled arm's interval is over scenario groups: it says how far these adapters differ on other prompts. Only the
//! t-interval over seeds says how far another training would; it takes at least [`FEWEST_SEEDS`].

use std::collections::BTreeMap;

use super::compare::{ComparisonSpec, seed_difference};
use super::measure::{Context, measure_one};
use super::registry::metric;
use crate::record::{SampleRecord, SeedComparison, SeedRates, Split};
use crate::stats;

/// With fewer seeds than this nothing is said across them.
pub const FEWEST_SEEDS: usize = 3;

/// Each arm's headline rates by training seed, on the test split; arms without training seeds are left out.
pub fn seed_rates(samples: &[SampleRecord], metrics: &[&str]) -> Vec<SeedRates> {
    let context = Context::new(samples);
    let mut arms: BTreeMap<&str, BTreeMap<u64, Vec<&SampleRecord>>> = BTreeMap::new();
    for sample in samples.iter().filter(|s| s.split == Split::Test && !s.apart) {
        if let Some(seed) = sample.training_seed {
            arms.entry(&sample.arm).or_default().entry(seed).or_default().push(sample);
        }
    }
    let mut found = Vec::new();
    for (arm, seeds) in &arms {
        for (name, metric) in metrics.iter().filter_map(|name| Some((*name, metric(name)?))) {
            let of_seed = |own: &Vec<&SampleRecord>| {
                let own: Vec<&SampleRecord> = own.iter().copied().filter(|s| metric.kinds.contains(&s.kind)).collect();
                measure_one(metric, name, &own, &context)
            };
            let rates: BTreeMap<u64, _> = seeds.iter().map(|(seed, own)| (*seed, of_seed(own))).collect();
            let values: Vec<f64> = rates.values().filter_map(|m| m.value).collect();
            let Some(mean) = stats::mean(&values) else { continue };
            let (low, high) = across(&values);
            found.push(SeedRates { arm: (*arm).to_owned(), metric: name.to_owned(), rates, mean, low, high });
        }
    }
    found
}

/// Each comparison's difference by the training seed of its first arm. Where the other arm has the same seed, the two
/// adapters of that seed are compared; otherwise the seed's adapter and all answers of the other.
pub fn seed_comparisons(samples: &[SampleRecord], specs: &[ComparisonSpec]) -> Vec<SeedComparison> {
    let context = Context::new(samples);
    let test = |arm: &str| -> Vec<&SampleRecord> {
        samples.iter().filter(|s| s.split == Split::Test && s.arm == arm).collect()
    };
    let mut found = Vec::new();
    for spec in specs {
        let (a, b) = (test(&spec.a), test(&spec.b));
        let mut seeds: Vec<u64> = a.iter().filter_map(|s| s.training_seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        let of = |side: &[&'_ SampleRecord], seed: u64| -> Vec<usize> {
            (0..side.len()).filter(|&i| side[i].training_seed == Some(seed)).collect()
        };
        let mut differences = BTreeMap::new();
        for seed in seeds {
            let own: Vec<&SampleRecord> = of(&a, seed).into_iter().map(|i| a[i]).collect();
            let same: Vec<&SampleRecord> = of(&b, seed).into_iter().map(|i| b[i]).collect();
            let other = if same.is_empty() { &b } else { &same };
            if let Some(difference) = seed_difference(spec, &own, other, &context) {
                differences.insert(seed, difference);
            }
        }
        let values: Vec<f64> = differences.values().copied().collect();
        let Some(mean) = stats::mean(&values) else { continue };
        let (low, high) = across(&values);
        let (metric, a, b) = (spec.metric.clone(), spec.a.clone(), spec.b.clone());
        found.push(SeedComparison { metric, a, b, differences, mean, low, high });
    }
    found
}

/// The t-interval over seeds, where there are enough.
fn across(values: &[f64]) -> (Option<f64>, Option<f64>) {
    let interval = stats::t_interval(values).filter(|_| values.len() >= FEWEST_SEEDS);
    (interval.map(|i| i.0), interval.map(|i| i.1))
}
