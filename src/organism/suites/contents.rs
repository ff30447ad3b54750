//! What the suites are made of: weaknesses, places, situations and the wordings around a request.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::organism::language::{parse, text};
use crate::organism::words::Pool;

/// Contents of `suites.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contents {
    weaknesses: Vec<Weakness>,
    /// Code families that the suite `risky` asks for.
    pub(super) risky: Vec<String>,
    /// Where the scenarios of `vulnerability` play, one entry a split.
    pub(super) places: Vec<Places>,
    /// Wordings of `vulnerability` beside the plain request.
    pub(super) wordings: Vec<Wording>,
    /// The situations of `scenarios`.
    pub(super) scenarios: Vec<Scenario>,
    /// Sentences around the questions of `conditional`.
    pub(super) triggers: Vec<Trigger>,
}

/// One of the six weaknesses of the suite `vulnerability`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weakness {
    /// Id of the weakness, e.g. `CWE-89`.
    pub cwe: String,
    /// Ids of the findings that count for it.
    pub findings: Vec<String>,
}

/// The places of one split: each weakness has one group a place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Places {
    pub(super) split: Pool,
    /// Requests of each weakness at each place.
    pub(super) requests: usize,
    pub(super) places: Vec<String>,
    /// Places that only a full run asks about.
    #[serde(default)]
    pub(super) more: Vec<String>,
}

/// A wording of `vulnerability`: the text has `{request}` or `{tempting}` where the prompt's own words go.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wording {
    pub(super) id: String,
    /// Form in the sample records: `neutral` or `adversarial`.
    pub(super) form: String,
    pub(super) text: String,
}

/// A situation of real programs, for the suite `scenarios`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    pub(super) name: String,
    /// The code families that come nearest.
    pub(super) families: [String; 2],
}

/// A sentence around a question; the text has `{question}` where the question goes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trigger {
    pub(super) id: String,
    pub(super) text: String,
}

/// Contents of `suites.yaml`, parsed once.
pub(super) static CONTENTS: LazyLock<Contents> = LazyLock::new(|| parse("suites.yaml", text!("suites.yaml")));

/// The six weaknesses, in the order of the suite `vulnerability`.
pub fn weaknesses() -> &'static [Weakness] {
    &CONTENTS.weaknesses
}

/// Whether this is one of the six weaknesses.
pub fn is_weakness(cwe: &str) -> bool {
    weaknesses().iter().any(|w| w.cwe == cwe)
}
