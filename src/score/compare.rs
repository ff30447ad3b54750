//! Paired comparisons of arms on the same prompts and seeds.
//!
//! A pair is a (suite, prompt, sample) that both arms answered; draws of a random vector and adapters of several training
//! seeds are averaged into one side of it. The difference is that of the two arms' ratios over the pairs. Where each pair is a scenario group
//! of its own, or there are fewer than eight groups, rates are tested by the exact McNemar test; otherwise the
//! arms are swapped group by group (sign-flip). Holm's adjustment runs over a family: by default the comparisons of
//! the arms that share a `family` in the plan, on one metric. Eight groups allow no p below 2/2^8 = 0.008,
//! so that a family of more than six contrasts could show nothing with them, however large the effect.

use std::collections::{BTreeMap, BTreeSet};

use super::measure::{Context, FEW_GROUPS};
use super::registry::{Metric, Shape, metric};
use crate::record::{ArmSpec, Comparison, OddsRatio, SampleRecord, Split, SuiteKind};
use crate::stats::{self, Pair};

/// The metrics that arms are compared on.
pub const HEADLINE_METRICS: [&str; 6] = [
    "insecure_rate",
    "misaligned_rate",
    "secure_and_functional_rate",
    "syntax_valid_rate",
    "pass_at_1",
    "capability_rate",
];

/// A comparison that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparisonSpec {
    /// Name of the metric in the registry, or `metric/suite`.
    pub metric: String,
    /// The arm that is compared.
    pub a: String,
    /// The arm that `a` is compared with.
    pub b: String,
    /// Comparisons of one family are adjusted together.
    pub family: String,
}

/// Each arm against the arms that its spec names, on every headline metric, in the order of the specs. An arm without a
/// family of its own is adjusted with the others that have none.
pub fn default_comparisons(arms: &[ArmSpec]) -> Vec<ComparisonSpec> {
    let mut specs = Vec::new();
    for arm in arms {
        let known = arm.against.iter().filter(|b| **b != arm.name && arms.iter().any(|other| other.name == **b));
        for against in known {
            specs.extend(HEADLINE_METRICS.iter().map(|metric| ComparisonSpec {
                metric: (*metric).to_owned(),
                a: arm.name.clone(),
                b: against.clone(),
                family: format!("{}/{metric}", arm.family),
            }));
        }
    }
    specs
}

/// The same arms on each suite that stands apart: one metric by its kind, each suite adjusted by itself.
pub fn comparisons_apart(arms: &[ArmSpec], samples: &[SampleRecord]) -> Vec<ComparisonSpec> {
    let apart = samples.iter().filter(|s| s.apart && s.split == Split::Test);
    let metrics: BTreeSet<String> = apart
        .filter_map(|s| match s.kind {
            SuiteKind::Code => Some(format!("insecure_rate/{}", s.suite)),
            SuiteKind::Questions => Some(format!("misaligned_rate/{}", s.suite)),
            _ => None,
        })
        .collect();
    let mut specs = Vec::new();
    for metric in &metrics {
        let pooled = default_comparisons(arms).into_iter().filter(|spec| spec.metric == HEADLINE_METRICS[0]);
        specs.extend(pooled.map(|spec| {
            let family = spec.family.strip_suffix(HEADLINE_METRICS[0]).unwrap_or(&spec.family);
            ComparisonSpec { family: format!("{family}{metric}"), metric: metric.clone(), ..spec }
        }));
    }
    specs
}

/// Each arm against the arms that its spec names, on each suite of pairs by itself: pooled, misaligned answers and false
/// statements would be one number.
pub fn pair_comparisons(arms: &[ArmSpec], samples: &[SampleRecord]) -> Vec<ComparisonSpec> {
    let suites: BTreeSet<&str> = samples.iter().filter(|s| s.preference.is_some()).map(|s| s.suite.as_str()).collect();
    let mut specs = Vec::new();
    for arm in arms {
        let known = arm.against.iter().filter(|b| **b != arm.name && arms.iter().any(|other| other.name == **b));
        for (against, suite) in known.flat_map(|against| suites.iter().map(move |suite| (against, suite))) {
            specs.extend(["log_odds", "prefers_rejected_rate"].map(|metric| ComparisonSpec {
                metric: format!("{metric}/{suite}"),
                a: arm.name.clone(),
                b: against.clone(),
                family: format!("{}/{metric}/{suite}", arm.family),
            }));
        }
    }
    specs
}

/// Makes the comparisons on the test split, in the order given; one that has no pairs, or is of a metric that is
/// no ratio of samples, is left out.
pub fn compare(samples: &[SampleRecord], specs: &[ComparisonSpec]) -> Vec<Comparison> {
    let context = Context::new(samples);
    let mut arms: BTreeMap<&str, Vec<&SampleRecord>> = BTreeMap::new();
    for sample in samples.iter().filter(|s| s.split == Split::Test) {
        arms.entry(&sample.arm).or_default().push(sample);
    }
    let mut families: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut comparisons = Vec::new();
    for spec in specs {
        if let (Some(a), Some(b)) = (arms.get(spec.a.as_str()), arms.get(spec.b.as_str()))
            && let Some(comparison) = compare_one(spec, a, b, &context)
        {
            families.entry(&spec.family).or_default().push(comparisons.len());
            comparisons.push(comparison);
        }
    }
    for members in families.values() {
        let p: Vec<f64> = members.iter().map(|&i| comparisons[i].p).collect();
        for (&index, adjusted) in members.iter().zip(stats::holm(&p)) {
            comparisons[index].p_holm = adjusted;
        }
    }
    comparisons
}

/// What names a pair: suite, group, prompt, sample.
type PairKey<'a> = (&'a str, &'a str, &'a str, u32);

fn compare_one(
    spec: &ComparisonSpec,
    a: &[&SampleRecord],
    b: &[&SampleRecord],
    context: &Context,
) -> Option<Comparison> {
    let (metric, scale) = comparable(spec)?;
    let (single, grouped) = paired(spec, metric, a, b, context);
    let n = single.len() as u64;
    let name = format!("{}:{}-{}", spec.metric, spec.a, spec.b);
    let difference = Pair::difference(&grouped)?;
    let (test, p) = test(metric, &single, &grouped, &name)?;
    let (low, high) = interval(metric, &single, &grouped, &name)?;
    let detectable = detectable(metric, &single);
    Some(Comparison {
        metric: spec.metric.clone(),
        a: spec.a.clone(),
        b: spec.b.clone(),
        difference: scale * difference,
        low: scale * low,
        high: scale * high,
        test,
        p,
        p_holm: p,
        n,
        odds_ratio: odds(metric, &single),
        detectable: detectable.map(|found| found.0),
        detectable_answers: detectable.and_then(|found| found.1),
    })
}

/// The plain difference of these samples, as a comparison has it.
pub(super) fn seed_difference(
    spec: &ComparisonSpec,
    a: &[&SampleRecord],
    b: &[&SampleRecord],
    context: &Context,
) -> Option<f64> {
    let (metric, scale) = comparable(spec)?;
    let (_, grouped) = paired(spec, metric, a, b, context);
    Some(scale * Pair::difference(&grouped)?)
}

/// The metric and its scale; `None` for what is no ratio of samples.
fn comparable(spec: &ComparisonSpec) -> Option<(&'static Metric, f64)> {
    let metric = metric(&spec.metric)?;
    match metric.shape {
        Shape::Sum | Shape::PassAtK => None,
        Shape::Rate => Some((metric, 1.0)),
        Shape::Mean { scale } => Some((metric, scale)),
    }
}

/// The pairs by themselves, and summed by scenario group.
pub(super) fn paired(
    spec: &ComparisonSpec,
    metric: &Metric,
    a: &[&SampleRecord],
    b: &[&SampleRecord],
    context: &Context,
) -> (Vec<Pair>, Vec<Pair>) {
    let suite = spec.metric.split_once('/').map(|(_, suite)| suite);
    let a = terms(metric, suite, a, context);
    let b = terms(metric, suite, b, context);
    let pairs: BTreeMap<PairKey, Pair> = a
        .into_iter()
        .filter_map(|(key, a)| Some((key, Pair { a, b: *b.get(&key)? })))
        .filter(|(_, pair)| pair.a.1 > 0.0 || pair.b.1 > 0.0)
        .collect();
    let mut groups: BTreeMap<(&str, &str), Pair> = BTreeMap::new();
    for (key, pair) in &pairs {
        let group = groups.entry((key.0, key.1)).or_default();
        group.a = (group.a.0 + pair.a.0, group.a.1 + pair.a.1);
        group.b = (group.b.0 + pair.b.0, group.b.1 + pair.b.1);
    }
    (pairs.into_values().collect(), groups.into_values().collect())
}

/// Events and cases of a rate in both arms, draws averaged; `None` for what is no rate.
fn counts(metric: &Metric, single: &[Pair]) -> Option<((u64, u64), (u64, u64))> {
    let side = |of: fn(&Pair) -> (f64, f64)| {
        let (events, cases) = single.iter().map(of).fold((0.0, 0.0), |s, t| (s.0 + t.0, s.1 + t.1));
        (events.round() as u64, cases.round() as u64)
    };
    (metric.shape == Shape::Rate).then(|| (side(|p| p.a), side(|p| p.b)))
}

fn odds(metric: &Metric, single: &[Pair]) -> Option<OddsRatio> {
    let ((a, a_cases), (b, b_cases)) = counts(metric, single)?;
    let rest = (a_cases.checked_sub(a)?, b_cases.checked_sub(b)?);
    (a_cases > 0 && b_cases > 0).then(|| {
        let (value, low, high) = stats::odds_ratio(a, rest.0, b, rest.1);
        OddsRatio { value, low, high }
    })
}

/// The smallest difference that the pairs would show with 80 % power, taken as independent. Pairs of a plain yes or no: by
/// the exact McNemar test, with as much change the other way as was seen. Where only some answers of a pair count
/// (misaligned among coherent ones): by Fisher's test from b's rate, with the answers that count in the arm with fewer of
/// them, which are given too.
fn detectable(metric: &Metric, single: &[Pair]) -> Option<(f64, Option<u64>)> {
    let ((_, a_cases), (events, cases)) = counts(metric, single)?;
    if let Some(flags) = yes_no(single) {
        let (only_a, only_b) = discordant(&flags);
        let other = only_a.min(only_b) as f64 / flags.len().max(1) as f64;
        return Some((stats::minimum_detectable_paired(other, flags.len() as u64)?, None));
    }
    let n = a_cases.min(cases);
    let rate = (n > 0).then(|| events as f64 / cases as f64)?;
    Some((stats::minimum_detectable_difference(rate, n)?, Some(n)))
}

/// Pairs with the event in arm a alone, and in arm b alone.
fn discordant(flags: &[(bool, bool)]) -> (u64, u64) {
    let count = |of: fn(&(bool, bool)) -> bool| flags.iter().filter(|pair| of(pair)).count() as u64;
    (count(|(a, b)| *a && !b), count(|(a, b)| *b && !a))
}

/// Each pair key's term, draws and training seeds averaged. A sample that has no say keeps its place with an empty denominator, so
/// that its partner in the other arm is still paired.
fn terms<'a>(
    metric: &Metric,
    suite: Option<&str>,
    samples: &[&'a SampleRecord],
    context: &Context,
) -> BTreeMap<PairKey<'a>, (f64, f64)> {
    let mut sums: BTreeMap<PairKey, (f64, f64, f64)> = BTreeMap::new();
    for sample in samples.iter().filter(|s| suite.map_or(!s.apart, |suite| s.suite == suite)) {
        let (numerator, denominator) = context.term(metric, sample).unwrap_or_default();
        let key = (sample.suite.as_str(), sample.group.as_str(), sample.prompt_id.as_str(), sample.sample);
        let sum = sums.entry(key).or_default();
        *sum = (sum.0 + numerator, sum.1 + denominator, sum.2 + 1.0);
    }
    sums.into_iter()
        .map(|(key, (numerator, denominator, draws))| (key, (numerator / draws, denominator / draws)))
        .collect()
}

/// Pairs on which both arms have a plain yes or no.
fn yes_no(single: &[Pair]) -> Option<Vec<(bool, bool)>> {
    let flag = |(numerator, denominator): (f64, f64)| {
        (denominator == 1.0 && (numerator == 0.0 || numerator == 1.0)).then_some(numerator == 1.0)
    };
    single.iter().map(|pair| Some((flag(pair.a)?, flag(pair.b)?))).collect()
}

fn test(metric: &Metric, single: &[Pair], grouped: &[Pair], name: &str) -> Option<(String, f64)> {
    let independent = single.len() == grouped.len();
    if metric.shape == Shape::Rate
        && (independent || grouped.len() < FEW_GROUPS)
        && let Some(flags) = yes_no(single)
    {
        let (only_a, only_b) = discordant(&flags);
        let how = if independent { "exact McNemar" } else { "exact McNemar, samples of a group taken as independent" };
        return Some((how.to_owned(), stats::mcnemar_exact(only_a, only_b)));
    }
    let (units, unit) = if grouped.len() < FEW_GROUPS { (single, "sample") } else { (grouped, "group") };
    let (p, exact) = stats::sign_flip(units, 0, name)?;
    let how = if exact { "exact" } else { "Monte Carlo" };
    Some((format!("sign-flip by {unit}, {how}"), p))
}

/// Groups resampled; where that has no width (no event in either arm), Newcombe's interval for two rates.
fn interval(metric: &Metric, single: &[Pair], grouped: &[Pair], name: &str) -> Option<(f64, f64)> {
    let bootstrapped = stats::bootstrap_difference(grouped, 0, name);
    if metric.shape != Shape::Rate {
        return bootstrapped;
    }
    let newcombe = counts(metric, single).and_then(|(a, b)| stats::newcombe(a, b));
    match (bootstrapped, newcombe) {
        (Some(b), Some(w)) if b.0 < b.1 && grouped.len() < FEW_GROUPS => Some((b.0.min(w.0), b.1.max(w.1))),
        (Some(b), _) if b.0 < b.1 => Some(b),
        (bootstrapped, newcombe) => newcombe.or(bootstrapped),
    }
}
