//! What a plan repeats of a published experiment, as its file says it.

use serde::Deserialize;
use serde_json::Value;

/// What a plan repeats.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// By whom and where.
    pub source: String,
    /// What was found.
    pub effects: Vec<Effect>,
    /// What this plan does otherwise.
    #[serde(default)]
    pub differences: Vec<String>,
    /// The keys of the model's `config.json` that give its shape.
    pub config: Value,
}

/// One difference between two arms.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// In words.
    pub what: String,
    /// The metric of ours that measures it.
    pub metric: String,
    /// The suite it was seen on; without it, all that the metric is defined on.
    pub suite: Option<String>,
    /// The arm before, by its name in the plan.
    pub from: String,
    /// The arm after.
    pub to: String,
    /// The published rates of both.
    pub rates: [f64; 2],
    /// Published answers an arm.
    pub n: u64,
}
