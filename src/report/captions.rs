//! The sentences of the page that speak of a run's arms: the title, and what stands over the tables. They are made from
//! the specs in the manifest, so that they are true of any plan.

use super::ReportInput;
use super::arms::{label, listed};
use super::words::one_line;
use crate::record::{ArmSpec, Choice};

/// Arms that the title names.
const NAMED: usize = 3;

/// The model and its arms: `organism: Base, Attack, Repair and 4 more arms`.
pub(super) fn title(input: &ReportInput) -> String {
    let labels: Vec<String> = input.arms().into_iter().map(label).collect();
    let model = one_line(&input.manifest.model);
    match labels.len() {
        0 => format!("{model}: no arm was measured"),
        1 => format!("{model}: {}", labels[0]),
        n if n <= NAMED + 1 => format!("{model}: {} and {}", labels[..n - 1].join(", "), labels[n - 1]),
        n => format!("{model}: {} and {} more arms", labels[..NAMED].join(", "), n - NAMED),
    }
}

/// What the arms were asked, with those that were asked something else.
pub(super) fn asked(input: &ReportInput) -> String {
    let arms = input.arms();
    let of = |is: &dyn Fn(&ArmSpec) -> bool| -> Option<String> {
        let labels: Vec<String> = arms.iter().filter(|arm| is(arm)).map(|arm| label(arm)).collect();
        (!labels.is_empty()).then(|| listed(&labels))
    };
    let mut text = "Samples pair by prompt and sampling seed, which are the same in every arm.".to_owned();
    let apart = [
        (of(&|arm| arm.suites.is_some()), "Asked only some of the suites"),
        (of(&|arm| !arm.samples.is_empty()), "Asked another number of times"),
        (of(&ArmSpec::is_prompted), "Asked with other words around the prompt"),
        (of(&|arm| arm.sampling.is_some()), "Sampled with settings of their own"),
    ];
    for (arms, what) in apart {
        if let Some(arms) = arms {
            text.push_str(&format!(" {what}: {arms}."));
        }
    }
    text
}

/// Where the layers and coefficients of the vectors come from.
pub(super) fn places(input: &ReportInput) -> String {
    let arms = input.arms();
    let of = |is: &dyn Fn(&ArmSpec) -> bool| -> Vec<String> {
        arms.iter().filter(|arm| is(arm)).map(|arm| label(arm)).collect()
    };
    let chosen = of(&|arm| matches!(arm.choice(), Some(Choice::Goal { .. })));
    let taken = of(&|arm| matches!(arm.choice(), Some(Choice::CellOf(_))));
    let fixed = of(&|arm| arm.is_steered() && arm.choice().is_none());
    let mut text = "The numbers are from the test split.".to_owned();
    if !chosen.is_empty() {
        let words = "Layers and coefficient were chosen on the validation split under a utility floor in";
        text.push_str(&format!(" {words} {}.", listed(&chosen)));
    }
    if !taken.is_empty() {
        text.push_str(&format!(" They were taken over from another arm in {}.", listed(&taken)));
    }
    if !fixed.is_empty() {
        text.push_str(&format!(" The plan gives layers and coefficient of {}.", listed(&fixed)));
    }
    text
}
