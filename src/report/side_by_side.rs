//! The page of two runs beside each other. Like the report it computes no metric and writes no file.

use std::collections::BTreeMap;

use minijinja::{Value, context};
use serde::Serialize;

use super::arms::label;
use super::chart::paint::{self, FONT_BOLD, FONT_REGULAR};
use super::chart::rows::{self, Marks, Panel};
use super::chart::style::{self, Colour};
use super::csv;
use super::page;
use super::tables::{Cell, Table, measured, noted, short};
use super::words::{Format, difference, one_line, p_value};
use crate::error::Result;
use crate::record::{ArmSpec, Comparison, Manifest, Measurement, Metrics};
use crate::score::{HEADLINE_METRICS, metric};

/// One arm of the first run and one of the second; either may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArmPair {
    /// Name of the arm in each run; `None` where the run has no such arm.
    pub arms: [Option<String>; 2],
    /// As the numbers name it: run and arm.
    pub labels: [String; 2],
    /// Answers that both gave to the same prompt with the same seed.
    pub paired: u64,
    /// Answers of either that have no partner.
    pub unpaired: u64,
}

/// Everything the page is made of.
#[derive(Debug, Clone, Copy)]
pub struct SideBySideInput<'a> {
    /// Names of the two runs.
    pub names: [&'a str; 2],
    /// What each was; `evaluate` leaves none.
    pub manifests: [Option<&'a Manifest>; 2],
    /// Where their plans, models or data differ, in words.
    pub differences: &'a [String],
    /// Arms of both runs, in order of appearance.
    pub pairs: &'a [ArmPair],
    /// Numbers by label, and the paired comparisons, second − first.
    pub metrics: &'a Metrics,
}

impl SideBySideInput<'_> {
    fn measured(&self, label: &str, key: &str) -> Option<&Measurement> {
        self.metrics.arms.get(label)?.get(key)
    }

    /// The arm's spec, of the first run that has one.
    fn spec(&self, arm: &str) -> Option<&ArmSpec> {
        self.manifests.into_iter().flatten().flat_map(|m| &m.arms).find(|spec| spec.name == arm)
    }

    fn arm_label(&self, arm: &str) -> String {
        self.spec(arm).map_or_else(|| one_line(arm), label)
    }

    /// A colour for each arm by its name, the same for both runs.
    fn colours(&self) -> BTreeMap<&str, Colour> {
        let mut names: Vec<&str> = Vec::new();
        for arm in self.pairs.iter().flat_map(|pair| pair.arms.iter().flatten()) {
            if !names.contains(&arm.as_str()) {
                names.push(arm);
            }
        }
        let given: Vec<&str> = names.iter().map(|arm| self.spec(arm).map_or("", |spec| spec.colour.as_str())).collect();
        names.into_iter().zip(style::arm_colours(&given)).collect()
    }

    fn compared(&self, pair: &ArmPair, metric: &str) -> Option<&Comparison> {
        let [first, second] = &pair.labels;
        self.metrics.comparisons.iter().find(|c| c.metric == metric && c.a == *second && c.b == *first)
    }
}

#[derive(Serialize)]
struct Section {
    title: String,
    pairing: String,
    table: Table,
}

/// Renders `comparison.html`, `comparison.md` and `comparison.csv`.
pub fn render(input: &SideBySideInput) -> Result<Vec<(String, Vec<u8>)>> {
    let svg = paint::svg(&figure(input), "Headline measures of both runs")?;
    let sections: Vec<Section> = input.pairs.iter().map(|pair| section(input, pair)).collect();
    let runs: Vec<Vec<String>> = input.names.iter().zip(input.manifests).map(|(name, m)| about(name, m)).collect();
    let page = context! {
        names => input.names,
        runs => runs,
        differences => input.differences,
        sections => sections,
        organism => input.manifests.iter().flatten().any(|m| m.organism),
        // Our own drawing: its texts were escaped when it was made.
        figure => Value::from_safe_string(svg),
        font => page::font(FONT_REGULAR),
        font_bold => page::font(FONT_BOLD),
    };
    let html = page::fill(&page::html_environment()?, "comparison.html", page.clone())?;
    let markdown = page::fill(&page::markdown_environment()?, "comparison.md", page)?;
    Ok(vec![
        ("comparison.html".to_owned(), html.into_bytes()),
        ("comparison.md".to_owned(), markdown.into_bytes()),
        ("comparison.csv".to_owned(), csv::write(&csv_rows(input)).into_bytes()),
    ])
}

/// What a run was: name, model, when it says so.
fn about(name: &str, manifest: Option<&Manifest>) -> Vec<String> {
    let Some(m) = manifest else { return vec![name.to_owned(), "answers of `evaluate`".to_owned()] };
    let seconds: f64 = m.timings.iter().map(|(_, seconds)| seconds).sum();
    vec![
        name.to_owned(),
        format!("model {}, weights {}", m.model, short(&m.model_sha256)),
        format!("{} arms, judge {}, {seconds:.0} s", m.arms.len(), m.judge.as_deref().unwrap_or("none")),
    ]
}

fn section(input: &SideBySideInput, pair: &ArmPair) -> Section {
    let title = match &pair.arms {
        [Some(a), Some(b)] if a != b => format!("{} and {}", input.arm_label(a), input.arm_label(b)),
        [Some(arm), _] | [None, Some(arm)] => input.arm_label(arm),
        [None, None] => String::new(),
    };
    let pairing = match &pair.arms {
        [Some(_), Some(_)] if pair.paired == 0 => {
            "Not paired: the runs have no prompt with the same seed in common. The numbers stand side by side; no difference is claimed.".to_owned()
        }
        [Some(_), Some(_)] if pair.unpaired == 0 => {
            format!("Paired on all {} answers: same prompts, same seeds.", pair.paired)
        }
        [Some(_), Some(_)] => format!(
            "Paired on the {} answers that both runs have to the same prompt with the same seed; {} answers have no partner and count only in their own column.",
            pair.paired, pair.unpaired
        ),
        _ => "Only one of the runs has this arm.".to_owned(),
    };
    let rows = HEADLINE_METRICS
        .iter()
        .map(|name| {
            let format = metric(name).map_or(Format::Plain, Format::of);
            let mut row = vec![noted(metric(name).map_or(*name, |m| m.label), *name)];
            row.extend(pair.labels.iter().map(|label| measured(input.measured(label, name), format)));
            row.extend(match input.compared(pair, name) {
                Some(c) => [
                    noted(
                        difference(c.difference, format),
                        format!("[{}, {}]", difference(c.low, format), difference(c.high, format)),
                    ),
                    noted(p_value(c.p_holm), c.test.clone()),
                    Cell::from(c.n.to_string()),
                ],
                None => [Cell::from("n/a".to_owned()), Cell::from("n/a".to_owned()), Cell::from("0".to_owned())],
            });
            row
        })
        .collect();
    let [first, second] = input.names;
    let head = ["Metric", first, second, "Difference, second − first", "p (Holm)", "Pairs"];
    Section { title, pairing, table: Table { head: head.map(str::to_owned).to_vec(), rows } }
}

fn figure(input: &SideBySideInput) -> super::chart::Scene {
    let mut labels: Vec<(String, Colour)> = Vec::new();
    let colours = input.colours();
    let mut keys: Vec<&String> = Vec::new();
    for pair in input.pairs {
        for (index, arm) in pair.arms.iter().enumerate() {
            if let Some(arm) = arm {
                let colour = colours.get(arm.as_str()).copied().unwrap_or(style::GREY);
                labels.push((format!("{} · {}", input.arm_label(arm), input.names[index]), colour));
                keys.push(&pair.labels[index]);
            }
        }
    }
    let panel = |name: &str| Panel {
        title: metric(name).map_or(name, |m| m.label).to_owned(),
        format: metric(name).map_or(Format::Plain, Format::of),
        marks: Marks::Bars(keys.iter().map(|k| input.measured(k, name).map(Into::into).unwrap_or_default()).collect()),
    };
    rows::draw(&labels, &[panel("misaligned_rate"), panel("insecure_rate"), panel("secure_and_functional_rate")])
}

fn csv_rows(input: &SideBySideInput) -> Vec<Vec<String>> {
    let head = [
        "first_arm",
        "second_arm",
        "metric",
        "first",
        "first_n",
        "first_low",
        "first_high",
        "second",
        "second_n",
        "second_low",
        "second_high",
        "difference",
        "low",
        "high",
        "test",
        "p",
        "p_holm",
        "pairs",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for pair in input.pairs {
        for name in HEADLINE_METRICS {
            let mut row: Vec<String> = pair.arms.iter().map(|arm| arm.clone().unwrap_or_default()).collect();
            row.push(name.to_owned());
            row.extend(pair.labels.iter().flat_map(|label| csv::four(input.measured(label, name))));
            let c = input.compared(pair, name);
            row.extend([c.map(|c| c.difference), c.map(|c| c.low), c.map(|c| c.high)].map(csv::number));
            row.push(c.map_or_else(String::new, |c| c.test.clone()));
            row.extend([c.map(|c| c.p), c.map(|c| c.p_holm)].map(csv::number));
            row.push(c.map_or(0, |c| c.n).to_string());
            rows.push(row);
        }
    }
    rows
}
