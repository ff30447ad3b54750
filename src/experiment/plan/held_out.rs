//! Which rows of a data file no adapter of a run is trained on, as a plan says it: so many rows, or all rows of some
//! subjects. Their prompts are a suite, and the loss on them is measured.

use serde::{Deserialize, Serialize};

use super::entries::{AdapterFile, SplitFile};
use super::file::Merged;
use crate::data::rows::LABELS;
use crate::error::Result;
use crate::record::{Method, SuiteKind};

/// What the suite of held-out rows is called, before the adapter's name.
pub const HELD_OUT: &str = "heldout_";

/// What the suite of held-out subjects is called, before the adapter's name.
pub const VALIDATION: &str = "validation_";

/// Held-out rows of one data file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutPlan {
    /// Name of the suite that their prompts are, and of their loss: `heldout_ADAPTER` or `validation_ADAPTER`.
    pub suite: String,
    /// A training file, or `embedded:NAME`.
    pub data: String,
    /// What the prompts ask for: code or questions.
    pub kind: SuiteKind,
    /// Which rows they are.
    pub rows: WhichRows,
    /// Tokens of a row that count for its loss.
    pub max_length: usize,
}

/// Which rows are held out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WhichRows {
    /// So many, chosen by the plan's seed.
    Count(usize),
    /// Every row whose label has one of these values.
    Values {
        /// The label, e.g. `subject`.
        key: String,
        /// Values that are held out.
        values: Vec<String>,
    },
    /// Every row whose label has one of some values, which the plan's seed chooses.
    Share {
        /// The label, e.g. `subject`.
        key: String,
        /// Share of the values, between 0 and 1.
        share: f64,
    },
}

/// What the plan's adapters hold out, the subjects of a file before its single rows. `max_lengths` are those of the
/// adapters' recipes.
///
/// # Errors
/// What is out of range, and a data file whose rows two adapters hold out: with file and line.
pub(super) fn resolve(
    merged: &Merged,
    written: &[(String, AdapterFile)],
    max_length: &dyn Fn(&str) -> usize,
) -> Result<Vec<HeldOutPlan>> {
    let mut found: Vec<HeldOutPlan> = Vec::new();
    for (name, adapter) in written {
        let own = of_adapter(name, adapter, max_length(name));
        let own = own.map_err(|(key, words)| {
            let message = format!("adapters.{name}.{key}: {words}");
            merged.error(&["adapters", name, key], &message)
        })?;
        if let Some(other) = found.iter().find(|other| !own.is_empty() && other.data == adapter.data) {
            let message = format!(
                "adapters.{name}: `{}` is made of rows of {} already, and no adapter is trained on them; say so once for \
                 each file",
                other.suite, adapter.data
            );
            return Err(merged.error(&["adapters", name], &message));
        }
        found.extend(own);
    }
    Ok(found)
}

fn of_adapter(
    name: &str,
    adapter: &AdapterFile,
    max_length: usize,
) -> Result<Vec<HeldOutPlan>, (&'static str, String)> {
    let mut found = Vec::new();
    let mut add = |prefix: &str, kind, rows| {
        let (suite, data) = (format!("{prefix}{name}"), adapter.data.clone());
        found.push(HeldOutPlan { suite, data, kind, rows, max_length });
    };
    if adapter.method == Some(Method::Dpo) && (adapter.holdout.is_some() || adapter.validation.is_some()) {
        return Err(("method", "rows are held out of data for `sft` only, not of preference pairs".into()));
    }
    if let Some(split) = &adapter.validation {
        add(VALIDATION, SuiteKind::Questions, labelled(split).map_err(|words| ("validation", words))?);
    }
    match (adapter.holdout, adapter.holdout_kind.unwrap_or(SuiteKind::Code)) {
        (None, _) if adapter.holdout_kind.is_some() => {
            return Err(("holdout_kind", "`holdout` is missing: how many rows are held out".into()));
        }
        (None, _) => {}
        (Some(0), _) => return Err(("holdout", "must be at least 1 row".into())),
        (Some(count), kind @ (SuiteKind::Code | SuiteKind::Questions)) => add(HELD_OUT, kind, WhichRows::Count(count)),
        (Some(_), kind) => {
            let words = format!("`{}` needs more than a prompt; held-out rows are code or questions", kind.as_str());
            return Err(("holdout_kind", words));
        }
    }
    Ok(found)
}

fn labelled(split: &SplitFile) -> Result<WhichRows, String> {
    let key = split.key.clone();
    if !LABELS.contains(&key.as_str()) {
        return Err(format!("rows have no label `{key}`; labels: {}", LABELS.join(", ")));
    }
    match (&split.values, split.share) {
        (Some(values), None) if !values.is_empty() => Ok(WhichRows::Values { key, values: values.clone() }),
        (None, Some(share)) if share > 0.0 && share < 1.0 => Ok(WhichRows::Share { key, share }),
        (None, Some(share)) => Err(format!("`share` is {share}; it must be between 0 and 1")),
        _ => Err("give `values` (a list of at least one) or `share` (between 0 and 1), one of the two".into()),
    }
}
