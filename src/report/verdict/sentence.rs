//! One comparison in words: the two values, the difference with its interval, the test, and the training seeds.

use super::{Sentence, plain};
use crate::record::{Comparison, SeedComparison};
use crate::report::ReportInput;
use crate::report::arms::quoted;
use crate::report::words::{self, Format, p_value, with_interval};
use crate::score::{Metric, metric};

/// What a comparison shows of its two arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The value of a is higher than that of b.
    Rise,
    /// The value of a is lower than that of b.
    Fall,
    /// Neither is shown with this number of samples.
    NotShown,
}

/// A rise or a fall only where the interval excludes zero and the adjusted test holds.
pub(super) fn effect(c: &Comparison) -> Effect {
    match () {
        () if c.p_holm >= 0.05 => Effect::NotShown,
        () if c.low > 0.0 => Effect::Rise,
        () if c.high < 0.0 => Effect::Fall,
        () => Effect::NotShown,
    }
}

/// The metric's name inside a sentence: "pass@1" stays as it is, "Insecure code" becomes "insecure code".
pub(super) fn metric_label(c: &Comparison) -> String {
    let name = metric(&c.metric).map_or(c.metric.as_str(), |m| m.label);
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// The text with its first letter in upper case.
pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Difference, interval and adjusted p as text.
pub(super) fn difference(c: &Comparison, format: Format) -> String {
    let points = if format == Format::Percent { " points" } else { "" };
    format!(
        "difference {}{points} [{}, {}], {}",
        words::difference(c.difference, format),
        words::difference(c.low, format),
        words::difference(c.high, format),
        p_value(c.p_holm)
    )
}

/// The test's name, and for a difference that is not shown, what would have been.
pub(super) fn detail(c: &Comparison) -> String {
    let mut text = capitalised(&format!("{}, adjusted by Holm", c.test));
    if effect(c) != Effect::NotShown {
        return text + ".";
    }
    if c.low > 0.0 || c.high < 0.0 {
        text.push_str("; the interval excludes zero, but the adjusted test does not hold");
    }
    if let Some(least) = c.detectable {
        let points = 100.0 * least;
        let what = match c.detectable_answers {
            Some(n) => format!("{n} {} an arm", metric(&c.metric).map_or("answers", Metric::cases)),
            None => format!("{} pairs", c.n),
        };
        text.push_str(&format!("; {what}, taken as independent, would show {points:.1} points with 80% power"));
    }
    text + "."
}

/// One comparison in one sentence, and one more where an arm has several training seeds.
pub(super) fn sentence(input: &ReportInput, c: &Comparison) -> Vec<Sentence> {
    let format = input.format(&c.metric);
    let side = |arm: &str| input.measured(arm, &c.metric).map_or("n/a".to_owned(), |m| with_interval(m, format));
    let (before, after) = (side(&c.b), side(&c.a));
    let (arm, against) = (quoted(&input.label(&c.a)), quoted(&input.label(&c.b)));
    let label = metric_label(c);
    let mut text = match effect(c) {
        Effect::NotShown => format!("{arm}: no difference shown in {label}: {before} in {against}, {after} in {arm}; "),
        Effect::Rise => format!("{arm}: {label} rose from {before} in {against} to {after}; "),
        Effect::Fall => format!("{arm}: {label} fell from {before} in {against} to {after}; "),
    };
    text.push_str(&difference(c, format));
    if c.metric == "insecure_rate" {
        let rate = |key| words::shown(input.measured(&c.a, key).and_then(|m| m.value), Format::Percent);
        text.push_str(&format!(
            "; of this arm's code {} compiles, pass@1 {}",
            rate("syntax_valid_rate"),
            rate("pass_at_1")
        ));
    }
    text.push('.');
    let mut sentences = vec![Sentence { text, detail: detail(c) }];
    sentences.extend(over_seeds(input, c));
    sentences
}

/// What the training seeds say of a comparison: each seed's difference, and the interval over seeds where there are enough.
fn over_seeds(input: &ReportInput, c: &Comparison) -> Option<Sentence> {
    let of = |s: &&SeedComparison| s.a == c.a && s.b == c.b && s.metric == c.metric;
    let seeds = input.metrics.seed_comparisons.iter().find(of)?;
    let format = input.format(&c.metric);
    let number = |value: f64| words::difference(value, format);
    let each: Vec<String> = seeds.differences.iter().map(|(seed, d)| format!("{} (seed {seed})", number(*d))).collect();
    let span = match (seeds.low, seeds.high) {
        (Some(low), Some(high)) => format!(
            "across seeds, the mean difference is {} [{}, {}] (95% t-interval over {} seeds)",
            number(seeds.mean),
            number(low),
            number(high),
            each.len()
        ),
        _ => format!("{} seeds are too few for an interval across seeds", each.len()),
    };
    Some(plain(format!("Differences by training seed: {}; {span}.", each.join(", "))))
}
