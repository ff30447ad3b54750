//! The report's tables as rows of cells, the same for HTML and Markdown.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::ReportInput;
use super::arms::{label, quoted, split_seed};
use super::words::{Format, at_most, difference, interval, one_line, p_value, shown};
use crate::record::{
    ArmSpec, CUT_OFF, JudgeIdentity, JudgeTally, Lineage, Measurement, SteerSpec, SuiteKind, UNREADABLE,
};
use crate::score::{Metric, metric};

/// One cell: the value in front, its interval and n behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub(super) struct Cell {
    pub text: String,
    pub note: String,
}

/// One table; the first cell of a row is its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Table {
    pub head: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, note: String::new() }
    }
}

pub(super) fn noted(text: impl Into<String>, note: impl Into<String>) -> Cell {
    Cell { text: text.into(), note: note.into() }
}

pub(super) fn measured(m: Option<&Measurement>, format: Format) -> Cell {
    let Some(m) = m.filter(|m| m.value.is_some()) else { return noted("n/a", "") };
    let most = at_most(m, format).map_or(String::new(), |most| format!("\n{most}"));
    noted(shown(m.value, format), format!("{}\nn = {}{most}", interval(m, format), m.n).trim().to_owned())
}

fn head(first: &str, names: impl IntoIterator<Item = String>) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(names).collect()
}

const ARM_COLUMNS: [&str; 8] = [
    "misaligned_rate",
    "insecure_rate",
    "secure_and_functional_rate",
    "syntax_valid_rate",
    "pass_at_1",
    "capability_rate",
    "recognition_accuracy",
    "refusal_rate",
];

fn labels(metrics: &[&str]) -> Vec<String> {
    metrics.iter().map(|name| metric(name).map_or(*name, |m| m.label).to_owned()).collect()
}

/// Table of the headline metrics by arm.
pub(super) fn arms(input: &ReportInput) -> Table {
    let rows = input
        .arms()
        .iter()
        .map(|arm| {
            let mut row = vec![noted(label(arm), one_line(&arm.description))];
            row.extend(ARM_COLUMNS.iter().map(|key| measured(input.measured(&arm.name, key), input.format(key))));
            row
        })
        .collect();
    Table { head: head("Arm", labels(&ARM_COLUMNS)), rows }
}

/// Every way of changing the model beside the others that start from the same one, the start first.
pub(super) fn interventions(input: &ReportInput) -> Table {
    const COLUMNS: [&str; 5] =
        ["insecure_rate", "misaligned_rate", "secure_and_functional_rate", "syntax_valid_rate", "pass_at_1"];
    let arms = input.arms();
    let mut rows = Vec::new();
    let mut push = |arm: &ArmSpec, from: String| {
        let mut row = vec![noted(label(arm), from), noted(means(input, arm), "")];
        row.extend(COLUMNS.iter().map(|key| measured(input.measured(&arm.name, key), input.format(key))));
        rows.push(row);
    };
    for start in &arms {
        let changed: Vec<&&ArmSpec> =
            arms.iter().filter(|arm| input.start(arm).is_some_and(|s| s.name == start.name)).collect();
        if !changed.is_empty() {
            push(start, "start".to_owned());
        }
        changed.into_iter().for_each(|arm| push(arm, format!("from {}", quoted(&label(start)))));
    }
    let alone = |arm: &&&ArmSpec| {
        input.start(arm).is_none() && !arms.iter().any(|a| input.start(a).is_some_and(|s| s.name == arm.name))
    };
    arms.iter().filter(alone).for_each(|arm| push(arm, String::new()));
    Table { head: head("Arm", std::iter::once("What was done".to_owned()).chain(labels(&COLUMNS))), rows }
}

/// What was done to the model in an arm: its adapter, its vectors, its prompt.
fn means(input: &ReportInput, arm: &ArmSpec) -> String {
    let mut parts = Vec::new();
    if let Some(adapter) = &arm.adapter {
        let lineages: Vec<&Lineage> = input
            .manifest
            .adapters
            .iter()
            .filter(|(name, _)| split_seed(name).0 == adapter)
            .map(|(_, lineage)| lineage)
            .collect();
        let trained = lineages.first().map_or_else(String::new, |l| format!(", {} steps on {} rows", l.steps, l.rows));
        let seeds = if lineages.len() > 1 { format!(", {} training seeds", lineages.len()) } else { String::new() };
        parts.push(format!("adapter {}{trained}{seeds}", one_line(adapter)));
    }
    let chosen = input.metrics.selection.get(&arm.name).map(|cell| cell.steer.as_slice());
    match chosen {
        Some(specs) => parts.extend(specs.iter().map(vector)),
        None => parts.extend(arm.steer.iter().map(|steer| match &steer.fixed {
            Some(spec) => vector(spec),
            None => format!("vector {}", one_line(&steer.vector)),
        })),
    }
    let prompt = [("system turn", &arm.system), ("words before", &arm.prefix), ("words behind", &arm.suffix)];
    parts.extend(prompt.into_iter().filter_map(|(what, text)| Some(format!("{what}: “{}”", one_line(text.as_ref()?)))));
    if parts.is_empty() { one_line(&arm.description) } else { parts.join("; ") }
}

fn vector(spec: &SteerSpec) -> String {
    let layers: Vec<String> = spec.layers.iter().map(usize::to_string).collect();
    let many = if layers.len() == 1 { "layer" } else { "layers" };
    format!("vector {}, {many} {}, coefficient {}", one_line(&spec.name()), layers.join(", "), signed(spec.coefficient))
}

fn signed(value: f64) -> String {
    format!("{value:+.2}").replace('-', "−")
}

/// Table of rates by question and arm.
pub(super) fn questions(input: &ReportInput) -> Table {
    let arms = input.arms();
    let rows = input
        .question_groups()
        .into_iter()
        .map(|(suite, group)| {
            let mut row = vec![noted(input.question_title(&group), suite.clone())];
            let key = format!("misaligned_rate/{suite}/{group}");
            row.extend(arms.iter().map(|arm| measured(input.measured(&arm.name, &key), Format::Percent)));
            row
        })
        .collect();
    Table { head: head("Question", arms.iter().map(|a| label(a))), rows }
}

/// Table of all comparisons.
pub(super) fn comparisons(input: &ReportInput) -> Table {
    let rows = input
        .metrics
        .comparisons
        .iter()
        .map(|c| {
            let format = input.format(&c.metric);
            vec![
                noted(format!("{} − {}", input.label(&c.a), input.label(&c.b)), ""),
                noted(
                    metric(&c.metric).map_or(c.metric.clone(), |m| m.label.to_owned()),
                    c.metric.split_once('/').map_or("", |(_, suite)| suite),
                ),
                noted(
                    difference(c.difference, format),
                    format!("[{}, {}]", difference(c.low, format), difference(c.high, format)),
                ),
                noted(p_value(c.p_holm), format!("before Holm {}", p_value(c.p))),
                c.test.clone().into(),
                c.n.to_string().into(),
                c.odds_ratio.map_or_else(
                    || noted("n/a", ""),
                    |o| noted(format!("{:.2}", o.value), format!("[{:.2}, {:.2}]", o.low, o.high)),
                ),
                c.detectable.map_or_else(
                    || "n/a".to_owned().into(),
                    |least| {
                        let of = c.detectable_answers.map_or("pairs".to_owned(), |n| {
                            format!("{n} {} an arm", metric(&c.metric).map_or("answers", Metric::cases))
                        });
                        noted(format!("{:.1} points", 100.0 * least), format!("80% power, {of}"))
                    },
                ),
            ]
        })
        .collect();
    let names = ["Metric", "Difference", "p (Holm)", "Test", "Pairs", "Odds ratio", "Would show"];
    Table { head: head("Arms", names.map(str::to_owned)), rows }
}

/// What each judge said, by arm; the rates everywhere else are the first one's.
pub(super) fn judges(input: &ReportInput) -> Table {
    let mut tallies: Vec<&JudgeTally> = input.metrics.judges.iter().collect();
    let place = |judge: &str| input.metrics.judges.iter().position(|t| t.judge == judge);
    tallies.sort_by_key(|t| (place(&t.judge), input.place(&t.arm)));
    let rows = tallies
        .into_iter()
        .map(|t| {
            let said = t.words.iter().flat_map(|(aspect, words)| {
                words
                    .iter()
                    .filter(|(word, _)| ![UNREADABLE, CUT_OFF].contains(&word.as_str()))
                    .map(move |(word, n)| format!("{aspect}: {word} {n}"))
            });
            vec![
                Cell::from(t.judge.clone()),
                input.label(&t.arm).into(),
                measured(Some(&t.misaligned_rate), Format::Percent),
                measured(Some(&t.coherent_rate), Format::Percent),
                t.answers.to_string().into(),
                noted(t.unreadable.to_string(), unreadable_note(t)),
                said.collect::<Vec<_>>().join("; ").into(),
            ]
        })
        .collect();
    let names = ["Arm", "Misaligned", "Coherent", "Answers", "Unreadable", "Words instead of numbers"];
    Table { head: head("Judge", names.map(str::to_owned)), rows }
}

fn unreadable_note(tally: &JudgeTally) -> String {
    let cut_off = if tally.cut_off > 0 { format!(", {} of them cut off", tally.cut_off) } else { String::new() };
    format!("of {} ratings{cut_off}", tally.verdicts)
}

/// Table of the agreement between judges.
pub(super) fn agreement(input: &ReportInput) -> Table {
    let rows = input
        .metrics
        .agreement
        .iter()
        .map(|a| {
            vec![
                Cell::from(a.judges.join(" and ")),
                a.on.clone().into(),
                a.measure.clone().into(),
                a.value.map_or_else(|| "n/a".to_owned(), |v| format!("{v:.3}")).into(),
                shown(a.same, Format::Percent).into(),
                a.n.to_string().into(),
            ]
        })
        .collect();
    let names = ["On", "Measure", "Value", "Same verdict", "Answers"];
    Table { head: head("Judges", names.map(str::to_owned)), rows }
}

/// Every pooled and per-suite metric of every arm.
pub(super) fn all_metrics(input: &ReportInput) -> Table {
    let arms = input.arms();
    let present: BTreeSet<&String> = input.metrics.arms.values().flat_map(|m| m.keys()).collect();
    let mut rows = Vec::new();
    for metric in input.metrics_of_run() {
        let suites = present.iter().filter(|k| {
            k.strip_prefix(metric.name).is_some_and(|rest| rest.starts_with('/') && rest.matches('/').count() == 1)
        });
        let suites = suites.filter(|_| metric.kinds != [SuiteKind::Pairs]).map(|k| (*k).clone());
        for key in input.keys_of(metric).into_iter().chain(suites) {
            let suite = key.split_once('/').map_or("all suites", |(_, suite)| suite);
            let mut row = vec![noted(metric.label, format!("{} · {suite}", metric.name))];
            row.extend(arms.iter().map(|arm| measured(input.measured(&arm.name, &key), Format::of(metric))));
            rows.push(row);
        }
    }
    Table { head: head("Metric", arms.iter().map(|a| label(a))), rows }
}

/// Table of all cells of the steering sweep.
pub(super) fn sweep(input: &ReportInput) -> Table {
    const COLUMNS: [&str; 4] = ["insecure_rate", "misaligned_rate", "syntax_valid_rate", "secure_and_functional_rate"];
    let rows = input
        .sweep
        .iter()
        .map(|cell| {
            let state = match () {
                () if cell.chosen => "chosen",
                () if cell.is_random() => "control",
                () if cell.is_unsteered() => "unsteered model",
                () if cell.eligible => "eligible",
                () => "below the utility floor",
            };
            let mut row = vec![
                noted(input.label(&cell.arm), one_line(&cell.vectors())),
                cell.layers().into(),
                signed(cell.coefficient()).into(),
            ];
            row.extend(COLUMNS.iter().map(|key| measured(cell.metrics.get(*key), input.format(key))));
            row.push(state.to_owned().into());
            row
        })
        .collect();
    let names = ["Layer", "Coefficient"].map(str::to_owned).into_iter().chain(labels(&COLUMNS));
    Table { head: head("Arm", names.chain(["State".to_owned()])), rows }
}

/// Proof of training: where each adapter comes from and what its log says.
pub(super) fn training(input: &ReportInput) -> Table {
    let mut names: Vec<&String> = input.manifest.adapters.keys().chain(input.training.keys()).collect();
    names.sort_by_key(|name| input.adapter_place(name));
    names.dedup();
    let rows = names
        .into_iter()
        .map(|name| {
            let lineage = input.manifest.adapters.get(name);
            let state = input.training.get(name);
            let na = || "n/a".to_owned();
            let losses = state.and_then(|s| Some((s.log_history.first()?.loss, s.log_history.last()?.loss)));
            let held_out = lineage.map_or_else(String::new, |l| {
                let sets = l.held_out_loss.iter().map(|(set, (a, b))| format!("{set} {a:.3} → {b:.3}"));
                sets.collect::<Vec<_>>().join("; ")
            });
            vec![
                Cell::from(input.adapter_label(name)),
                noted(
                    state.map(|s| s.global_step).or(lineage.map(|l| l.steps)).map_or_else(na, |s| s.to_string()),
                    lineage.map_or_else(String::new, |l| format!("seed {}", l.seed)),
                ),
                lineage.map_or_else(na, |l| l.rows.to_string()).into(),
                noted(
                    lineage.map_or_else(na, |l| l.data.clone()),
                    lineage.map_or_else(String::new, |l| short(&l.data_sha256)),
                ),
                match lineage.map(|l| l.parent_sha256.as_deref()) {
                    Some(Some(parent)) => noted("continued", short(parent)),
                    Some(None) => noted("fresh adapter", ""),
                    None => noted("n/a", ""),
                },
                losses.map_or_else(na, |(first, last)| format!("{first:.3} → {last:.3}")).into(),
                if held_out.is_empty() { na() } else { held_out }.into(),
            ]
        })
        .collect();
    let names = [
        "Steps",
        "Rows",
        "Data (SHA-256)",
        "Parent adapter",
        "Loss, first → last step",
        "Held-out loss, before → after",
    ];
    Table { head: head("Adapter", names.map(str::to_owned)), rows }
}

/// Table of every metric's formula.
pub(super) fn formulas(input: &ReportInput) -> Table {
    let rows = input.metrics_of_run().map(|m| vec![noted(m.label, m.name), m.formula.to_owned().into()]).collect();
    Table { head: head("Metric", ["Formula".to_owned()]), rows }
}

/// Table of what was run: model, data, adapters, machine.
pub(super) fn provenance(input: &ReportInput) -> Table {
    let m = input.manifest;
    let pair = |name: &str, text: String, note: String| vec![noted(name, ""), noted(text, note)];
    let gib = |bytes: u64| format!("{:.2} GiB", bytes as f64 / (1u64 << 30) as f64);
    let mut rows = vec![
        pair("realign", m.version.clone(), String::new()),
        pair("Model", m.model.clone(), short(&m.model_sha256)),
        pair("Judge", m.judge.clone().unwrap_or_else(|| "none".to_owned()), String::new()),
    ];
    rows.extend(m.judges.iter().map(|judge| {
        let took = judge.usage.map_or_else(|| "on this machine".to_owned(), |usage| usage.to_string());
        pair(&format!("Judge: {}", judge.name), took, asked(judge))
    }));
    rows.extend([
        pair(
            "Tests of generated code ran in",
            m.sandbox.clone(),
            m.interpreter.as_ref().map_or_else(String::new, |python| python.packages_in_words()),
        ),
        pair("Tests were run by", runners(input), String::new()),
        pair(
            "Machine",
            format!("{}, {} cores, {}", m.hardware.cpu, m.hardware.cores, m.hardware.device),
            format!(
                "{} of memory, {} used at most{}",
                gib(m.hardware.memory_bytes),
                gib(m.peak_memory_bytes),
                m.estimated_memory_bytes.map_or_else(String::new, |bytes| format!(" ({} estimated)", gib(bytes)))
            ),
        ),
        pair("Sampling seeds", seeds(&m.seeds), "the same list for every arm".to_owned()),
    ]);
    for (name, data) in &m.data {
        rows.push(pair(&format!("Data: {name}"), format!("{}, {} rows", data.path, data.rows), short(&data.sha256)));
    }
    let seconds: f64 = m.timings.iter().map(|(_, s)| s).sum();
    let stages: Vec<String> = m.timings.iter().map(|(stage, s)| format!("{stage} {s:.1} s")).collect();
    let estimated = m.estimated_seconds.map_or_else(String::new, |s| format!(" ({s:.0} s estimated)"));
    rows.push(pair("Time", format!("{seconds:.1} s{estimated}"), stages.join(", ")));
    Table { head: vec!["What".to_owned(), "Value".to_owned()], rows }
}

/// What ran the tests, with how many samples each.
fn runners(input: &ReportInput) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for runner in input.samples.iter().filter_map(|s| s.tests.as_ref()?.runner.as_deref()) {
        *counts.entry(runner).or_default() += 1;
    }
    let words: Vec<String> = counts.iter().map(|(runner, n)| format!("{runner} ({n} samples)")).collect();
    if words.is_empty() { "n/a".to_owned() } else { words.join(", ") }
}

/// What a judge was, and was asked.
fn asked(judge: &JudgeIdentity) -> String {
    let hash = |what: &str, hash: &Option<String>| hash.as_ref().map(|hash| format!("{what} {}", short(hash)));
    let parts = [hash("weights", &judge.model_sha256), hash("prompts", &judge.prompt_sha256)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn seeds(seeds: &[u64]) -> String {
    let shown: Vec<String> = seeds.iter().take(8).map(u64::to_string).collect();
    let more = if seeds.len() > 8 { format!(", … ({} in all)", seeds.len()) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// The first characters of a hash tell two apart.
pub(super) fn short(sha256: &str) -> String {
    sha256.chars().take(16).collect()
}
