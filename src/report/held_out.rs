//! Did the training take? Loss and rate on the prompts of held-out rows of the arms' own data, beside no other number. Where
//! an adapter does not do there what its rows do, what it does elsewhere says nothing of that training.

use super::ReportInput;
use super::arms::label;
use super::tables::{Cell, Table, measured, noted};
use super::words::one_line;
use crate::score::metric;

/// What is shown of each set, where it is measured.
const COLUMNS: [&str; 4] = ["held_out_loss", "insecure_rate", "misaligned_rate", "coherent_rate"];

/// One row for each arm that was measured on a held-out set; columns for each set.
pub(super) fn table(input: &ReportInput) -> Table {
    let mut keys: Vec<String> = Vec::new();
    for set in input.manifest.held_out.keys() {
        let shown = COLUMNS.iter().map(|name| format!("{name}/{set}"));
        keys.extend(shown.filter(|key| input.arms().iter().any(|arm| input.measured(&arm.name, key).is_some())));
    }
    let named = |key: &String| {
        let (name, set) = key.split_once('/').unwrap_or((key, ""));
        format!("{} · {}", metric(name).map_or(name, |m| m.label), one_line(set))
    };
    let mut rows = Vec::new();
    for arm in input.arms() {
        let cells: Vec<Cell> =
            keys.iter().map(|key| measured(input.measured(&arm.name, key), input.format(key))).collect();
        if keys.iter().any(|key| input.measured(&arm.name, key).is_some()) {
            rows.push(std::iter::once(noted(label(arm), "")).chain(cells).collect());
        }
    }
    Table { head: std::iter::once("Arm".to_owned()).chain(keys.iter().map(named)).collect(), rows }
}
