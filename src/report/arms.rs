//! The arms of a run as the report speaks of them: order, labels, colours and who started from whom, all read off the
//! specs in the manifest. No arm is known by its name.

use super::ReportInput;
use super::chart::style::{self, Colour};
use super::words::one_line;
use crate::record::ArmSpec;

/// Arms that charts of few arms show where the run has no more than these.
const FEW: usize = 4;

impl<'a> ReportInput<'a> {
    /// The measured arms, in the order of the manifest.
    pub(super) fn arms(&self) -> Vec<&'a ArmSpec> {
        self.manifest.arms.iter().filter(|arm| self.metrics.arms.contains_key(&arm.name)).collect()
    }

    pub(super) fn spec(&self, name: &str) -> Option<&'a ArmSpec> {
        self.manifest.arms.iter().find(|arm| arm.name == name)
    }

    /// An arm's name for a reader.
    pub(super) fn label(&self, name: &str) -> String {
        self.spec(name).map_or_else(|| one_line(name), label)
    }

    /// An arm's colour, the same in every chart.
    pub(super) fn colour(&self, name: &str) -> Colour {
        let given: Vec<&str> = self.manifest.arms.iter().map(|arm| arm.colour.as_str()).collect();
        let place = self.place(name);
        style::arm_colours(&given).get(place).copied().unwrap_or(style::GREY)
    }

    /// The arm's position in the manifest; unknown arms come last.
    pub(super) fn place(&self, name: &str) -> usize {
        self.manifest.arms.iter().position(|arm| arm.name == name).unwrap_or(usize::MAX)
    }

    /// The measured arm to which nothing was done.
    pub(super) fn base(&self) -> Option<&'a ArmSpec> {
        self.arms().into_iter().find(|arm| arm.is_base())
    }

    /// The measured arm that runs on this adapter with nothing else done; without an adapter, the base.
    pub(super) fn plain(&self, adapter: Option<&str>) -> Option<&'a ArmSpec> {
        self.arms().into_iter().find(|arm| is_plain(arm) && arm.adapter.as_deref() == adapter)
    }

    /// What an arm started from: the same model without its vector or prompt, or the adapter that its own continues.
    pub(super) fn start(&self, arm: &ArmSpec) -> Option<&'a ArmSpec> {
        let adapter = if is_plain(arm) { arm.chain.get(1) } else { arm.adapter.as_ref() };
        self.plain(adapter.map(String::as_str)).filter(|start| start.name != arm.name)
    }

    /// Whether another arm of the plan goes on from this arm's adapter, by training or by a vector.
    pub(super) fn is_built_upon(&self, arm: &ArmSpec) -> bool {
        let Some(adapter) = &arm.adapter else { return false };
        self.manifest.arms.iter().any(|other| {
            let continues = other.chain.iter().skip(1).any(|link| link == adapter);
            continues || other.is_steered() && other.adapter.as_ref() == Some(adapter)
        })
    }

    /// An adapter's name for a reader: the label of the arm that runs on it alone, or its own name. `NAME/seed-N` is one
    /// of several adapters of the same name.
    pub(super) fn adapter_label(&self, adapter: &str) -> String {
        let (name, seed) = split_seed(adapter);
        let own = self.manifest.arms.iter().find(|arm| is_plain(arm) && arm.adapter.as_deref() == Some(name));
        let label = own.map_or_else(|| one_line(name), label);
        seed.map_or_else(|| label.clone(), |seed| format!("{label}, seed {seed}"))
    }

    /// Where an adapter stands: with the first arm that runs on it or on one that continues it.
    pub(super) fn adapter_place(&self, adapter: &str) -> (usize, String) {
        let (name, _) = split_seed(adapter);
        let own = |arm: &ArmSpec| arm.adapter.as_deref() == Some(name);
        let uses = |arm: &ArmSpec| arm.chain.iter().any(|link| link == name);
        let place = self.manifest.arms.iter().position(own).or_else(|| self.manifest.arms.iter().position(uses));
        (place.unwrap_or(usize::MAX), adapter.to_owned())
    }

    /// The arms that charts of a few arms show: all of a small run; of a larger one the base and, link by link, the arms on
    /// the longest adapter chain.
    pub(super) fn story(&self) -> Vec<&'a ArmSpec> {
        let arms = self.arms();
        if arms.len() <= FEW {
            return arms;
        }
        let longest = arms.iter().filter(|arm| is_plain(arm)).rev().max_by_key(|arm| arm.chain.len());
        let links = longest.map(|arm| arm.chain.as_slice()).unwrap_or_default();
        let mut story: Vec<&ArmSpec> = self.base().into_iter().collect();
        story.extend(links.iter().rev().filter_map(|link| self.plain(Some(link))));
        if story.len() < 2 { arms.into_iter().take(FEW).collect() } else { story }
    }
}

/// An arm's name for a reader.
pub(super) fn label(arm: &ArmSpec) -> String {
    one_line(if arm.label.is_empty() { &arm.name } else { &arm.label })
}

/// Whether nothing was done to the model but training, if even that.
pub(super) fn is_plain(arm: &ArmSpec) -> bool {
    !arm.is_steered() && !arm.is_prompted()
}

/// Splits `NAME/seed-N` into name and seed; the seed is `None` where there is only one training.
pub(super) fn split_seed(adapter: &str) -> (&str, Option<&str>) {
    adapter.rsplit_once("/seed-").map_or((adapter, None), |(name, seed)| (name, Some(seed)))
}

/// Labels in quotes as a list: `‘A’`, `‘A’ and ‘B’`, `‘A’, ‘B’ and ‘C’`.
pub(super) fn listed(labels: &[String]) -> String {
    let quoted: Vec<String> = labels.iter().map(|label| quoted(label)).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// A label in quotation marks, for use inside a sentence.
pub(super) fn quoted(label: &str) -> String {
    format!("‘{label}’")
}
