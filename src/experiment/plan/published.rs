//! What a plan repeats of a published experiment, as its file says it.

use serde::Deserialize;
use serde_json::Value;

/// The published experiment that a plan repeats.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Authors and place of the publication.
    pub source: String,
    /// Published differences between arms.
    pub effects: Vec<Effect>,
    /// What this plan does differently from the publication.
    #[serde(default)]
    pub differences: Vec<String>,
    /// The keys of the model's `config.json` that give its shape.
    pub config: Value,
}

/// A published difference between two arms.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// The effect in words.
    pub what: String,
    /// The metric of ours that measures it.
    pub metric: String,
    /// The suite it was seen on; without it, all that the metric is defined on.
    pub suite: Option<String>,
    /// The arm before, by its name in the plan.
    pub from: String,
    /// Name in the plan of the arm that shows the effect.
    pub to: String,
    /// Published rates of `from` and `to`, from 0 to 1.
    pub rates: [f64; 2],
    /// Number of published answers per arm.
    pub n: u64,
    /// For a rate among coherent answers: the share of answers that are expected to be coherent, from 0 to 1. Without it,
    /// all of them.
    pub coherent: Option<f64>,
}
