//! The judge-free endpoint on the page: shifts of log-odds on pairs of given answers, in a table and in words.

use std::collections::BTreeSet;

use super::ReportInput;
use super::arms::quoted;
use super::tables::{Cell, Table, measured, noted};
use super::words::{Format, difference};
use crate::record::{LogOddsShift, Measurement};
use crate::score::{FACT_PAIRS, MISALIGNMENT_PAIRS};

/// Suites of pairs of the run: the misalignment pairs, their control, then the others by name.
fn suites(input: &ReportInput) -> Vec<String> {
    let measured = input.metrics.arms.values().flat_map(|metrics| metrics.keys());
    let names: BTreeSet<&str> = measured.filter_map(|key| key.strip_prefix("log_odds/")).collect();
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    names.sort_by_key(|name| (name != MISALIGNMENT_PAIRS, name != FACT_PAIRS));
    names
}

/// A suite's name for a reader.
fn title(suite: &str) -> String {
    match suite {
        MISALIGNMENT_PAIRS => "Misalignment pairs".to_owned(),
        FACT_PAIRS => "Fact pairs (control)".to_owned(),
        other => other.to_owned(),
    }
}

/// One row for each arm and the arm that it is compared with.
pub(super) fn shifts(input: &ReportInput) -> Table {
    let suites = suites(input);
    let rows = input
        .metrics
        .log_odds_shifts
        .iter()
        .map(|shift| {
            let arms = format!("{} − {}", input.label(&shift.arm), input.label(&shift.against));
            let mut row = vec![noted(arms, "nats a pair")];
            row.extend(suites.iter().map(|suite| moved(shift.suites.get(suite))));
            row.push(moved(shift.beyond_control.as_ref()));
            row
        })
        .collect();
    let names = suites.iter().map(|suite| title(suite)).chain(["Misalignment − fact pairs".to_owned()]);
    Table { head: std::iter::once("Arms".to_owned()).chain(names).collect(), rows }
}

/// Where each arm stands: its log-odds and the share of pairs whose rejected answer it prefers, suite by suite;
/// `None` where no suite of pairs was asked.
pub(super) fn levels(input: &ReportInput) -> Option<Table> {
    let suites = suites(input);
    if suites.is_empty() {
        return None;
    }
    let rows = input
        .arms()
        .into_iter()
        .map(|arm| {
            let mut row = vec![Cell::from(input.label(&arm.name))];
            for suite in &suites {
                let of = |metric: &str| input.measured(&arm.name, &format!("{metric}/{suite}"));
                row.push(measured(of("log_odds"), Format::Plain));
                row.push(measured(of("prefers_rejected_rate"), Format::Percent));
            }
            row
        })
        .collect();
    let names = suites.iter().flat_map(|suite| {
        [format!("{}: log-odds, nats", title(suite)), format!("{}: prefers the rejected answer", title(suite))]
    });
    Some(Table { head: std::iter::once("Arm".to_owned()).chain(names).collect(), rows })
}

/// What each arm's shift means, one sentence an arm.
pub(super) fn said(input: &ReportInput) -> Vec<String> {
    input.metrics.log_odds_shifts.iter().filter_map(|shift| sentence(input, shift)).collect()
}

fn sentence(input: &ReportInput, shift: &LogOddsShift) -> Option<String> {
    let beyond = shift.beyond_control.as_ref()?;
    let of = |suite: &str| shift.suites.get(suite).map_or("n/a".to_owned(), spelled);
    let meaning = match (beyond.low, beyond.high) {
        (Some(low), _) if low > 0.0 => {
            "the arm finds misaligned answers likelier than before, beyond its shift toward false statements"
        }
        (_, Some(high)) if high < 0.0 => {
            "the arm finds misaligned answers less likely than before, beyond its shift on statements of fact"
        }
        (Some(_), Some(_)) => "its interval includes zero: no shift is shown that is special to misaligned answers",
        _ => "there are too few groups for an interval",
    };
    Some(format!(
        "{} against {}: {} nats on the misalignment pairs, {} on the fact pairs; difference {}: {meaning}.",
        quoted(&input.label(&shift.arm)),
        quoted(&input.label(&shift.against)),
        of(MISALIGNMENT_PAIRS),
        of(FACT_PAIRS),
        spelled(beyond),
    ))
}

fn moved(m: Option<&Measurement>) -> Cell {
    let Some((m, value)) = m.and_then(|m| Some((m, m.value?))) else { return noted("n/a", "") };
    noted(difference(value, Format::Plain), format!("{}\nn = {}", interval(m), m.n).trim().to_owned())
}

fn interval(m: &Measurement) -> String {
    m.low.zip(m.high).map_or_else(String::new, |(low, high)| {
        format!("[{}, {}]", difference(low, Format::Plain), difference(high, Format::Plain))
    })
}

fn spelled(m: &Measurement) -> String {
    let value = m.value.map_or("n/a".to_owned(), |value| difference(value, Format::Plain));
    format!("{value} {}", interval(m)).trim().to_owned()
}
