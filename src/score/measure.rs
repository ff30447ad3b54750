//! Samples to measurements: pooled, by suite, by scenario group, by family of weakness.

use std::collections::{BTreeMap, BTreeSet};

use super::registry::{Metric, REGISTRY, Shape, pass_at_k};
use crate::record::{Measurement, SampleRecord, Split};
use crate::stats;

/// With fewer groups than this the bootstrap over groups is too narrow to stand alone.
pub(super) const FEW_GROUPS: usize = 8;

/// What a single sample cannot tell: whether its prompt has tests that could be run.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// By suite: ids of the prompts whose behaviour tests could be run.
    tested: BTreeMap<String, BTreeSet<String>>,
}

impl Context {
    /// From all samples of all arms, so that an arm without any code is held to the same prompts.
    pub fn new<'a>(samples: impl IntoIterator<Item = &'a SampleRecord>) -> Self {
        let mut context = Self::default();
        for sample in samples {
            let behaviour = sample.tests.as_ref().and_then(|t| t.behaviour.as_ref());
            if behaviour.is_some_and(|b| b.counts()) {
                context.tested.entry(sample.suite.clone()).or_default().insert(sample.prompt_id.clone());
            }
        }
        context
    }

    /// The sample's part of a metric.
    pub(super) fn term(&self, metric: &Metric, sample: &SampleRecord) -> Option<(f64, f64)> {
        let tested = self.tested.get(&sample.suite).is_some_and(|prompts| prompts.contains(&sample.prompt_id));
        defined(metric, sample).then(|| (metric.term)(sample, tested)).flatten()
    }
}

fn defined(metric: &Metric, sample: &SampleRecord) -> bool {
    metric.kinds.contains(&sample.kind)
}

/// Everything of the test split: arm → `metric` (over all suites but those apart), `metric/suite`, `metric/suite/group` (or `/family`) → measurement; and
/// `metric/suite/form=FORM` where a suite tells forms of wording apart.
pub fn measure(samples: &[SampleRecord]) -> BTreeMap<String, BTreeMap<String, Measurement>> {
    let context = Context::new(samples);
    let mut arms: BTreeMap<String, Vec<&SampleRecord>> = BTreeMap::new();
    for sample in samples.iter().filter(|s| s.split == Split::Test) {
        arms.entry(sample.arm.clone()).or_default().push(sample);
    }
    arms.into_iter().map(|(arm, samples)| (arm, measure_arm(&samples, &context))).collect()
}

/// An arm's measurements, whatever the split of its samples.
fn measure_arm(samples: &[&SampleRecord], context: &Context) -> BTreeMap<String, Measurement> {
    let mut measurements = BTreeMap::new();
    for metric in REGISTRY {
        let mut keys: BTreeMap<String, Vec<&SampleRecord>> = BTreeMap::new();
        for &sample in samples.iter().filter(|s| defined(metric, s)) {
            if !sample.apart {
                keys.entry(metric.name.to_owned()).or_default().push(sample);
            }
            keys.entry(format!("{}/{}", metric.name, sample.suite)).or_default().push(sample);
            if metric.by_group {
                keys.entry(format!("{}/{}/{}", metric.name, sample.suite, sample.group)).or_default().push(sample);
                if let Some(form) = &sample.form {
                    keys.entry(format!("{}/{}/form={form}", metric.name, sample.suite)).or_default().push(sample);
                }
            }
            if let Some(family) = sample.family.as_ref().filter(|_| metric.by_family) {
                keys.entry(format!("{}/{}/{family}", metric.name, sample.suite)).or_default().push(sample);
            }
        }
        for (key, samples) in keys {
            let measurement = measure_one(metric, &key, &samples, context);
            measurements.insert(key, measurement);
        }
    }
    measurements
}

/// The measurements of samples that belong together (a sweep's cell), whatever their split, all suites in one: `metric` →
/// measurement.
pub fn measure_pooled(samples: &[&SampleRecord], context: &Context) -> BTreeMap<String, Measurement> {
    let pooled = |metric: &Metric| {
        let samples: Vec<&SampleRecord> = samples.iter().copied().filter(|s| defined(metric, s)).collect();
        let measured = || measure_one(metric, metric.name, &samples, context);
        (!samples.is_empty()).then(|| (metric.name.to_owned(), measured()))
    };
    REGISTRY.iter().filter_map(pooled).collect()
}

/// Sums over the samples of one scenario group.
#[derive(Default)]
struct Group {
    samples: u64,
    numerator: f64,
    denominator: f64,
}

/// One metric of these samples; `key` names the bootstrap's stream.
pub(super) fn measure_one(metric: &Metric, key: &str, samples: &[&SampleRecord], context: &Context) -> Measurement {
    let parts: Vec<(&SampleRecord, (f64, f64))> = if metric.shape == Shape::PassAtK {
        prompts_passed(metric, samples, context)
    } else {
        samples.iter().filter_map(|s| Some((*s, context.term(metric, s)?))).collect()
    };
    measured(metric.shape, key, parts)
}

/// One number of samples with their terms, its interval by the shape; `key` names the bootstrap's stream.
pub(super) fn measured<'a>(
    shape: Shape,
    key: &str,
    parts: impl IntoIterator<Item = (&'a SampleRecord, (f64, f64))>,
) -> Measurement {
    let mut groups: BTreeMap<(&str, &str), Group> = BTreeMap::new();
    for (sample, (numerator, denominator)) in parts {
        let group = groups.entry((&sample.suite, &sample.group)).or_default();
        group.samples += 1;
        group.numerator += numerator;
        group.denominator += denominator;
    }
    let numerator: f64 = groups.values().map(|g| g.numerator).sum();
    let denominator: f64 = groups.values().map(|g| g.denominator).sum();
    let n = denominator.round() as u64;
    if denominator <= 0.0 {
        return Measurement { value: None, n: 0, low: None, high: None };
    }
    let independent = groups.values().all(|g| g.samples <= 1);
    let sums: Vec<(f64, f64)> = groups.values().map(|g| (g.numerator, g.denominator)).collect();
    let (value, interval) = match shape {
        Shape::Sum => (numerator, None),
        Shape::Rate | Shape::PassAtK => {
            (numerator / denominator, rate_interval(&sums, independent, numerator, denominator, key))
        }
        Shape::Mean { scale } => {
            let interval = stats::bootstrap_ratio(&sums, 0, key);
            (scale * numerator / denominator, interval.map(|(low, high)| (scale * low, scale * high)))
        }
    };
    Measurement { value: Some(value), n, low: interval.map(|i| i.0), high: interval.map(|i| i.1) }
}

fn rate_interval(sums: &[(f64, f64)], independent: bool, events: f64, cases: f64, key: &str) -> Option<(f64, f64)> {
    let wilson = stats::wilson(events.round() as u64, cases.round() as u64);
    if independent {
        return wilson;
    }
    match (stats::bootstrap_ratio(sums, 0, key), wilson) {
        (Some(b), Some(w)) if b.0 < b.1 && sums.len() < FEW_GROUPS => Some((b.0.min(w.0), b.1.max(w.1))),
        (Some(b), _) if b.0 < b.1 => Some(b),
        _ => wilson,
    }
}

/// Suite, prompt, draw and training seed: pass@k is estimated once for each.
type PromptKey<'a> = (&'a str, &'a str, Option<u32>, Option<u64>);

/// One entry per prompt (and draw, and training seed): any of its samples, and the estimate for k = the most samples a prompt has.
/// A prompt with fewer runs that count is left out.
fn prompts_passed<'a>(
    metric: &Metric,
    samples: &[&'a SampleRecord],
    context: &Context,
) -> Vec<(&'a SampleRecord, (f64, f64))> {
    let mut prompts: BTreeMap<PromptKey, (&SampleRecord, u64, u64)> = BTreeMap::new();
    let mut tries: BTreeMap<PromptKey, u64> = BTreeMap::new();
    for &sample in samples {
        let key = (sample.suite.as_str(), sample.prompt_id.as_str(), sample.draw, sample.training_seed);
        *tries.entry(key).or_default() += 1;
        if let Some((passed, _)) = context.term(metric, sample) {
            let entry = prompts.entry(key).or_insert((sample, 0, 0));
            entry.1 += 1;
            entry.2 += passed as u64;
        }
    }
    let k = tries.values().copied().max().unwrap_or(0);
    prompts.into_values().filter_map(|(sample, n, c)| Some((sample, (pass_at_k(n, c, k)?, 1.0)))).collect()
}
