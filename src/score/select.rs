//! Choosing a steering cell on the validation split: the best of those that keep the model usable.

use std::collections::BTreeMap;

use crate::record::{Measurement, SweepCell};

/// How far syntax and coherence may fall below base before a cell is out.
pub const UTILITY_FLOOR: f64 = 0.05;

/// What an arm's cell is chosen by.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// Name of the metric in the registry.
    pub metric: String,
    /// Whether more of it is wanted.
    pub higher: bool,
}

/// Marks every cell as eligible or not, chooses the best eligible one of each arm that has a goal, and returns
/// the chosen by arm. `base` holds the unsteered model's metrics on the same prompts.
///
/// A cell is eligible if neither `syntax_valid_rate` nor `coherent_rate` lies more than [`UTILITY_FLOOR`] below
/// base; a rate that base has and the cell has not counts as lost. Ties go to the smaller coefficient, then to
/// the lower layer.
pub fn select(
    cells: &mut [SweepCell],
    base: &BTreeMap<String, Measurement>,
    goals: &BTreeMap<String, Goal>,
) -> BTreeMap<String, SweepCell> {
    for cell in cells.iter_mut() {
        cell.eligible = ["syntax_valid_rate", "coherent_rate"].iter().all(|metric| {
            let Some(floor) = value(base, metric).map(|b| b - UTILITY_FLOOR) else { return true };
            value(&cell.metrics, metric).is_some_and(|v| v >= floor - 1e-9)
        });
        cell.chosen = false;
    }
    let mut chosen = BTreeMap::new();
    for (arm, goal) in goals {
        let score = |cell: &SweepCell| value(&cell.metrics, &goal.metric).map(|v| if goal.higher { v } else { -v });
        let best = cells
            .iter_mut()
            .filter(|cell| cell.arm == *arm && cell.eligible)
            .filter_map(|cell| Some((score(cell)?, cell)))
            .min_by(|(x, a), (y, b)| {
                let weaker = a.coefficient().abs().total_cmp(&b.coefficient().abs());
                y.total_cmp(x).then(weaker).then(a.lowest_layer().cmp(&b.lowest_layer()))
            });
        if let Some((_, cell)) = best {
            cell.chosen = true;
            chosen.insert(arm.clone(), cell.clone());
        }
    }
    chosen
}

fn value(metrics: &BTreeMap<String, Measurement>, name: &str) -> Option<f64> {
    metrics.get(name).and_then(|m| m.value)
}
