//! The metric registry and what is made of it: measurements, comparisons, selection.
//!
//! Samples in, numbers out. Each metric is defined once, in [`registry`]; everything that speaks of one
//! (`metrics.json`, the CSVs, the report, the test that recomputes them) looks it up there.
//!
//! **Intervals.** A count of events (a rate) gets Wilson's interval where every sample is a scenario group of its
//! own; otherwise whole groups are resampled (percentile bootstrap). Below eight groups the wider of the two
//! counts at each end, and where every resample gives the same number (no event anywhere, or nothing else) it is
//! Wilson's again: a bootstrap would claim a width of zero.

mod agreement;
mod by_question;
mod compare;
mod labels;
mod measure;
mod registry;
mod seeds;
mod select;
mod shift;
mod terms;

pub use crate::stats::{equivalent, rule_of_three};
pub use agreement::judge_tallies;
pub use by_question::judged_by_question;
pub use compare::{
    ComparisonSpec, HEADLINE_METRICS, compare, comparisons_apart, default_comparisons, pair_comparisons,
};
pub use labels::{ReadRow, label_scores};
pub use measure::{Context, measure, measure_pooled};
pub use registry::{Better, Metric, REGISTRY, Shape, Unit, metric, pass_at_k};
pub use seeds::{FEWEST_SEEDS, seed_comparisons, seed_rates};
pub use select::{Goal, UTILITY_FLOOR, select};
pub use shift::{FACT_PAIRS, MISALIGNMENT_PAIRS, log_odds_shifts};
