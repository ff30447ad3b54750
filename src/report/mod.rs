//! The report: scores in, bytes out. It computes no metric and writes no file.
//!
//! [`render`] gives every file with its path relative to the run directory; the caller writes them.

mod arms;
mod captions;
pub mod chart;
mod csv;
mod disagreements;
mod examples;
mod figures;
mod held_out;
mod labels;
mod log_odds;
mod page;
mod rank1;
mod seeds;
pub mod side_by_side;
mod tables;
mod verdict;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::record::{Manifest, Measurement, Metrics, SampleRecord, SuiteKind, SweepCell, TrainerState};
use crate::score::{self, Metric, REGISTRY};

pub use csv::{sweep_csv, write as csv_text};
pub use figures::{Figure, figures};
pub use rank1::rank1_trace;
pub use verdict::{EQUIVALENCE_MARGIN, Finding, verdict};

/// Everything a report is made of.
#[derive(Debug, Clone, Copy)]
pub struct ReportInput<'a> {
    /// Manifest of the run.
    pub manifest: &'a Manifest,
    /// Metrics, intervals and comparisons.
    pub metrics: &'a Metrics,
    /// All cells of the steering sweep.
    pub sweep: &'a [SweepCell],
    /// Training logs by the name of the adapter.
    pub training: &'a BTreeMap<String, TrainerState>,
    /// Answers, from which only the examples are taken.
    pub samples: &'a [SampleRecord],
    /// A title for each question group, where it has one.
    pub question_titles: &'a BTreeMap<String, String>,
}

impl ReportInput<'_> {
    /// A measurement that has a value.
    fn measured(&self, arm: &str, key: &str) -> Option<&Measurement> {
        self.metrics.arms.get(arm)?.get(key).filter(|m| m.value.is_some())
    }

    /// Scenario groups of question suites: (suite, group).
    fn question_groups(&self) -> Vec<(String, String)> {
        let mut groups: Vec<(String, String)> = self
            .metrics
            .arms
            .values()
            .flat_map(|metrics| metrics.keys())
            .filter_map(|key| {
                let (suite, group) = key.strip_prefix("misaligned_rate/")?.split_once('/')?;
                Some((suite.to_owned(), group.to_owned()))
            })
            .collect();
        groups.sort();
        groups.dedup();
        groups
    }

    fn question_title(&self, group: &str) -> String {
        words::one_line(self.question_titles.get(group).map_or(group, String::as_str))
    }

    /// The metrics that the report lists: those of pairs only where pairs were asked.
    fn metrics_of_run(&self) -> impl Iterator<Item = &'static Metric> {
        let pairs = self.metrics.arms.values().any(|measured| measured.contains_key("log_odds"));
        REGISTRY.iter().filter(move |metric| pairs || metric.kinds != [SuiteKind::Pairs])
    }

    /// Under which keys a metric is listed: by its name over all suites; of pairs by suite, since misaligned answers and false
    /// statements pooled would be no number of anything.
    fn keys_of(&self, metric: &Metric) -> Vec<String> {
        match metric.kinds {
            [SuiteKind::Pairs] => {}
            // A metric of no suite's answers has nothing to pool.
            [] => return Vec::new(),
            _ => return vec![metric.name.to_owned()],
        }
        let keys = self.metrics.arms.values().flat_map(|measured| measured.keys());
        let own = |key: &&String| key.strip_prefix(metric.name).is_some_and(|rest| rest.starts_with('/'));
        let keys: BTreeSet<&String> = keys.filter(own).collect();
        keys.into_iter().cloned().collect()
    }

    /// How a metric's numbers are written.
    fn format(&self, name: &str) -> words::Format {
        score::metric(name).map_or(words::Format::Plain, words::Format::of)
    }
}

/// Every file of the report: `report.html`, `report.md`, four CSVs, `figures/*.svg` and `figures/*.png`.
///
/// # Errors
/// Scores of an arm that the manifest does not name: every table and chart would leave it out.
pub fn render(input: &ReportInput) -> Result<Vec<(String, Vec<u8>)>> {
    if let Some(arm) = input.metrics.arms.keys().find(|arm| input.spec(arm).is_none()) {
        let message = format!("there are scores of the arm `{arm}`, which the run's manifest does not name");
        return Err(Error::usage(message));
    }
    let figures = figures(input);
    let mut files = Vec::new();
    let mut drawn = Vec::new();
    for figure in &figures {
        let svg = chart::paint::svg(&figure.scene, &figure.title)?;
        files.push((format!("figures/{}.svg", figure.name), svg.clone().into_bytes()));
        files.push((format!("figures/{}.png", figure.name), chart::paint::png(&figure.scene)?));
        drawn.push((figure, svg));
    }
    files.extend(csv::files(input));
    files.push(("report.html".to_owned(), page::html(input, &drawn)?.into_bytes()));
    files.push(("report.md".to_owned(), page::markdown(input, &drawn)?.into_bytes()));
    Ok(files)
}
