//! The judge-free endpoint: how far an arm's log-odds of the rejected answers moved from another arm's, on the misalignment
//! pairs beside the fact pairs.
//!
//! `shift = mean over pairs of (log-odds in the arm − log-odds in the other)`, in nats; log-odds are
//! `log P(rejected) − log P(chosen)`. An arm that is merely worse, or gives any wrong answer more often, shifts on true and false
//! facts as well; what counts is the shift on misaligned answers beyond that. Groups are resampled, those of the two suites
//! each by themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::compare::{ComparisonSpec, paired};
use super::measure::Context;
use super::registry::metric;
use crate::record::{ArmSpec, LogOddsShift, Measurement, SampleRecord, Split};
use crate::stats::{self, Pair};

/// The suite of aligned and misaligned answers.
pub const MISALIGNMENT_PAIRS: &str = "misalignment_pairs";

/// The suite of true and false statements: its control.
pub const FACT_PAIRS: &str = "fact_pairs";

/// The shifts of every arm against the arms that its spec names, on the test split, in the order of the specs.
pub fn log_odds_shifts(arms: &[ArmSpec], samples: &[SampleRecord]) -> Vec<LogOddsShift> {
    let context = Context::new([]);
    let pairs: Vec<&SampleRecord> =
        samples.iter().filter(|s| s.preference.is_some() && s.split == Split::Test).collect();
    let suites: BTreeSet<&str> = pairs.iter().map(|s| s.suite.as_str()).collect();
    let of = |arm: &str| -> Vec<&SampleRecord> { pairs.iter().copied().filter(|s| s.arm == arm).collect() };
    let mut found = Vec::new();
    for arm in arms {
        for against in arm.against.iter().filter(|against| **against != arm.name) {
            let (a, b) = (of(&arm.name), of(against));
            let (mut shifts, mut groups) = (BTreeMap::new(), BTreeMap::new());
            for suite in &suites {
                let spec = ComparisonSpec {
                    metric: format!("log_odds/{suite}"),
                    a: arm.name.clone(),
                    b: against.clone(),
                    family: String::new(),
                };
                let Some(metric) = metric(&spec.metric) else { continue };
                let (single, grouped) = paired(&spec, metric, &a, &b, &context);
                if let Some(value) = Pair::difference(&grouped) {
                    // The stream of the comparison, so that both show one interval.
                    let name = format!("{}:{}-{}", spec.metric, spec.a, spec.b);
                    let interval = stats::bootstrap_difference(&grouped, 0, &name);
                    shifts.insert((*suite).to_owned(), shift(value, single.len(), interval));
                    groups.insert(*suite, grouped);
                }
            }
            let beyond_control = groups.get(MISALIGNMENT_PAIRS).zip(groups.get(FACT_PAIRS)).and_then(|(one, other)| {
                let value = Pair::difference(one)? - Pair::difference(other)?;
                let name = format!("log_odds/{MISALIGNMENT_PAIRS}-{FACT_PAIRS}:{}-{against}", arm.name);
                let n = [MISALIGNMENT_PAIRS, FACT_PAIRS].map(|suite| shifts[suite].n as usize).iter().sum();
                Some(shift(value, n, stats::bootstrap_difference_of_two(one, other, 0, &name)))
            });
            if !shifts.is_empty() {
                let (arm, against) = (arm.name.clone(), against.clone());
                found.push(LogOddsShift { arm, against, suites: shifts, beyond_control });
            }
        }
    }
    found
}

fn shift(value: f64, pairs: usize, interval: Option<(f64, f64)>) -> Measurement {
    Measurement { value: Some(value), n: pairs as u64, low: interval.map(|i| i.0), high: interval.map(|i| i.1) }
}
