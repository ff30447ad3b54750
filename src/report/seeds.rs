//! Rates and differences by training seed, of arms whose adapter was trained with several. Only a t-interval over the
//! seeds says anything of a training with another seed; where there are too few for one, the page says so instead.

use std::collections::{BTreeMap, BTreeSet};

use super::ReportInput;
use super::arms::{listed, quoted};
use super::tables::{Cell, Table, measured, noted};
use super::words::{Format, difference};
use crate::record::SeedRates;
use crate::score::{FEWEST_SEEDS, metric};

/// One row for each arm and metric; a column for each training seed.
pub(super) fn rates(input: &ReportInput) -> Table {
    let mut rates: Vec<&SeedRates> = input.metrics.seed_rates.iter().collect();
    rates.sort_by_key(|r| input.place(&r.arm));
    let seeds: BTreeSet<u64> = rates.iter().flat_map(|r| r.rates.keys().copied()).collect();
    let rows = rates
        .into_iter()
        .map(|r| {
            let format = input.format(&r.metric);
            let mut row = vec![Cell::from(input.label(&r.arm)), metric_label(&r.metric).into()];
            row.extend(seeds.iter().map(|seed| measured(r.rates.get(seed), format)));
            row.push(format.number(r.mean).into());
            let number = |value| format.number(value).trim_end_matches('%').to_owned();
            row.push(across(r.low.zip(r.high), number, r.rates.values().filter(|m| m.value.is_some()).count()));
            row
        })
        .collect();
    Table { head: head("Arm", &seeds, "Mean of the seeds"), rows }
}

/// One row for each comparison of such an arm.
pub(super) fn differences(input: &ReportInput) -> Table {
    let all = &input.metrics.seed_comparisons;
    let seeds: BTreeSet<u64> = all.iter().flat_map(|c| c.differences.keys().copied()).collect();
    let rows = all
        .iter()
        .map(|c| {
            let format = input.format(&c.metric);
            let number = |value| difference(value, format);
            let arms = format!("{} − {}", input.label(&c.a), input.label(&c.b));
            let mut row = vec![noted(arms, unit(format)), metric_label(&c.metric).into()];
            row.extend(
                seeds.iter().map(|seed| c.differences.get(seed).map_or("n/a".to_owned(), |d| number(*d)).into()),
            );
            row.push(number(c.mean).into());
            row.push(across(c.low.zip(c.high), number, c.differences.len()));
            row
        })
        .collect();
    Table { head: head("Arms", &seeds, "Mean difference"), rows }
}

/// What may be said across seeds, arm by arm.
pub(super) fn said(input: &ReportInput) -> Vec<String> {
    let mut counts: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for r in &input.metrics.seed_rates {
        let arms = counts.entry(r.rates.len()).or_default();
        if !arms.contains(&r.arm.as_str()) {
            arms.push(&r.arm);
        }
    }
    let sentence = |(seeds, mut arms): (usize, Vec<&str>)| {
        arms.sort_by_key(|arm| input.place(arm));
        let labels: Vec<String> = arms.iter().map(|arm| input.label(arm)).collect();
        let (arms, have) = (listed(&labels), if labels.len() == 1 { "has" } else { "have" });
        if seeds < FEWEST_SEEDS {
            return format!(
                "{arms} {have} {seeds} training seeds, too few for an interval across seeds ({FEWEST_SEEDS} are the least). \
                 Nothing is said of a training with another seed; intervals elsewhere are over prompts, with these adapters."
            );
        }
        format!(
            "{arms} {have} {seeds} training seeds. Across seeds: the last column is the 95% t-interval over them, which \
             speaks of a training with another seed; intervals elsewhere are over prompts, with these adapters."
        )
    };
    counts.into_iter().map(sentence).collect()
}

fn head(first: &str, seeds: &BTreeSet<u64>, mean: &str) -> Vec<String> {
    let names = [first.to_owned(), "Metric".to_owned()].into_iter();
    let seeds = seeds.iter().map(|seed| format!("Seed {seed}"));
    names.chain(seeds).chain([mean.to_owned(), "Across seeds".to_owned()]).collect()
}

/// The t-interval over seeds, or why there is none.
fn across(interval: Option<(f64, f64)>, number: impl Fn(f64) -> String, seeds: usize) -> Cell {
    match interval {
        Some((low, high)) => {
            noted(format!("[{}, {}]", number(low), number(high)), format!("95% t-interval over {seeds} seeds"))
        }
        None => noted("n/a", format!("measured with {seeds} of at least {FEWEST_SEEDS} seeds")),
    }
}

fn unit(format: Format) -> &'static str {
    if format == Format::Percent { "percentage points" } else { "" }
}

fn metric_label(name: &str) -> String {
    metric(name).map_or_else(|| quoted(name), |m| m.label.to_owned())
}
