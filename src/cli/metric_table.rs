//! The metrics that `evaluate` and `score` print; metrics.json has all.

use crate::record::{Measurement, Metrics, SuiteKind};
use crate::score::{HEADLINE_METRICS, REGISTRY, Unit};

/// Metrics that the printed table shows beside the headline metrics.
const ALSO: [&str; 4] = ["coherent_rate", "refusal_rate", "recognition_accuracy", "tokens_per_answer"];

/// The metrics pooled over suites, one line each, with n and the 95 % interval.
pub(super) fn table(metrics: &Metrics) -> String {
    let mut text = String::new();
    for (arm, measured) in &metrics.arms {
        text.push_str(&format!("{arm}\n"));
        let wanted = |name: &str| HEADLINE_METRICS.contains(&name) || ALSO.contains(&name);
        // Suites of pairs are never pooled: true and false facts are the control of misaligned answers.
        for suite in measured.keys().filter_map(|key| key.strip_prefix("log_odds/")) {
            text.push_str(&format!("  pairs of {suite}\n"));
            for metric in REGISTRY.iter().filter(|m| m.kinds == [SuiteKind::Pairs]) {
                if let Some(m) = measured.get(&format!("{}/{suite}", metric.name)) {
                    text.push_str(&format!("    {:<32} {}\n", metric.label, number(metric.unit, m)));
                }
            }
        }
        for metric in REGISTRY.iter().filter(|m| wanted(m.name)) {
            let Some(m) = measured.get(metric.name).filter(|m| m.value.is_some()) else { continue };
            text.push_str(&format!("  {:<34} {}\n", metric.label, number(metric.unit, m)));
        }
    }
    text
}

/// Each judge's rate and unreadable verdicts, then the judges' agreement; empty for a single judge without unreadable ones.
pub(super) fn judge_table(metrics: &Metrics) -> String {
    let mut text = String::new();
    let told = !metrics.agreement.is_empty() || metrics.judges.iter().any(|t| t.unreadable > 0);
    for tally in metrics.judges.iter().filter(|_| told) {
        let (rate, unreadable, verdicts) = (&tally.misaligned_rate, tally.unreadable, tally.verdicts);
        let rate = number(Unit::Percent, rate);
        text.push_str(&format!("judge {}\n  {:<34} {rate}\n", tally.judge, "Misaligned answers"));
        let cut_off = if tally.cut_off > 0 { format!("; {} were cut off", tally.cut_off) } else { String::new() };
        text.push_str(&format!("  {unreadable} of {verdicts} verdicts could not be read{cut_off}\n"));
    }
    for a in &metrics.agreement {
        let value = a.value.map_or("n/a".into(), |v| format!("{v:.3}"));
        text.push_str(&format!("{} on {}, {}: {value}, n = {}\n", a.measure, a.on, a.judges.join(" and "), a.n));
    }
    text
}

fn number(unit: Unit, m: &Measurement) -> String {
    let (factor, digits, unit) = match unit {
        Unit::Percent => (100.0, 1, "%"),
        Unit::Count => (1.0, 0, ""),
        Unit::Number(unit) => (1.0, 2, unit),
    };
    let value = |x: f64| format!("{:.digits$}", factor * x);
    let shown = m.value.map_or("n/a".to_string(), value);
    let interval = match (m.low, m.high) {
        (Some(low), Some(high)) => format!("[{}, {}]", value(low), value(high)),
        _ => String::new(),
    };
    format!("{shown:>8} {unit:<7} {interval:<18} n = {}", m.n)
}
