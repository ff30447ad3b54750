//! Where the static rules and the exploits disagree: by arm, suite and family, how often, and in which samples.
//!
//! A rule that flags code which withstands the attack may be too strict, or the attack too weak for this code; an attack
//! that works on code which no rule flags shows what the rules do not see. Both are counted; the samples say which it is.

use std::collections::BTreeSet;

use super::ReportInput;
use super::arms::label;
use super::tables::{Cell, Table, noted};
use crate::record::{SampleRecord, Split};

/// Number of samples that are named for each kind of disagreement.
const NAMED: usize = 3;

/// One row for each arm and family with code on which both were asked.
pub(super) fn disagreements(input: &ReportInput) -> Table {
    let mut rows = Vec::new();
    for arm in input.arms() {
        let measured = &input.metrics.arms[&arm.name];
        let families = measured.keys().filter_map(|key| key.strip_prefix("rule_only_rate/")?.split_once('/'));
        for (suite, family) in families.collect::<BTreeSet<_>>() {
            let of = |metric: &str| input.measured(&arm.name, &format!("{metric}/{suite}/{family}"));
            let Some(asked) = of("rule_only_rate") else { continue };
            let here: Vec<&SampleRecord> = input
                .samples
                .iter()
                .filter(|s| {
                    s.split == Split::Test
                        && s.arm == arm.name
                        && s.suite == suite
                        && s.family.as_deref() == Some(family)
                })
                .collect();
            let count = |metric: &str, which: &dyn Fn(&SampleRecord) -> bool| -> Cell {
                let share = of(metric).and_then(|m| Some(m.value? * m.n as f64)).unwrap_or(0.0);
                let named: Vec<String> = here.iter().filter(|s| which(s)).take(NAMED).map(|s| id(s)).collect();
                noted(format!("{share:.0}"), named.join(", "))
            };
            rows.push(vec![
                noted(label(arm), format!("{family} · {suite}")),
                asked.n.to_string().into(),
                count("rule_only_rate", &|s| s.is_flagged() && withstood(s)),
                count("exploit_only_rate", &|s| !s.is_flagged() && s.tests.as_ref().is_some_and(|t| t.exploited())),
            ]);
        }
    }
    let head = ["Arm", "Code on which both were tried", "Flagged, exploit fails", "Not flagged, exploit works"];
    Table { head: head.map(str::to_owned).to_vec(), rows }
}

fn withstood(sample: &SampleRecord) -> bool {
    sample.tests.as_ref().and_then(|t| t.exploit.as_ref()).is_some_and(|status| status.passed())
}

/// `PROMPT_ID-SAMPLE`, as its file below `code/ARM/SUITE` is called.
fn id(sample: &SampleRecord) -> String {
    let draw = sample.draw.map_or_else(String::new, |draw| format!("-d{draw}"));
    format!("{}-{}{draw}", sample.prompt_id, sample.sample)
}
