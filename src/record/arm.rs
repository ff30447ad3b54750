//! An arm: what is done to the base before it is asked. Arms are data; no code compares with an arm's name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Operator, Positions, Sampling, Site, SteerSpec, SuiteKind};
use crate::error::{Error, Result};

/// One treatment of the base model, resolved from a plan. The manifest of a run holds all of them, in the plan's order;
/// scores, tables, charts and the verdict are made from these records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ArmSpec {
    /// As files, records and `--arm` name it.
    pub name: String,
    /// Name in tables, charts and sentences.
    pub label: String,
    /// What it is, in a line.
    pub description: String,
    /// `#rrggbb`, the same in every chart.
    pub colour: String,
    /// The adapter it runs on, by its name in the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// That adapter's chain: itself, the link that it continues, and so on to the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
    /// Where its answers come from, if they were made elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<ArmAnswers>,
    /// Vectors that are added while it decodes. Layers and coefficient of those that are chosen stand in the selection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steer: Vec<ArmSteer>,
    /// A system turn before the conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Words before the person's last turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Words behind the person's last turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// Only these suites; all of the run's without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suites: Option<SuiteChoice>,
    /// How its answers are drawn, where that is not as in the other arms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Samples of every prompt by suite, where they are not as in the other arms.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub samples: BTreeMap<String, u32>,
    /// The arms it is compared with, of those that the run has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub against: Vec<String>,
    /// Comparisons of one family are adjusted together (Holm).
    pub family: String,
    /// The training seeds of its adapter, where there are several; each sample says which one made it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub training_seeds: Vec<u64>,
}

/// Answers made elsewhere that are an arm of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmAnswers {
    /// The file, JSON Lines.
    pub file: String,
    /// Form of its rows.
    #[serde(default)]
    pub format: AnswerFormat,
    /// The arm's name in the file, where the file has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<String>,
}

/// The form of a file of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum AnswerFormat {
    /// Sample records, as `run` and `evaluate` write them into `samples/`.
    #[default]
    Samples,
    /// Rows with a prompt's id and its completions.
    Completions,
    /// SecurityEval's rows: each column that ends in `_code` is an arm.
    Securityeval,
    /// HumanEval's rows: a completion goes on behind its prompt.
    Humaneval,
}

impl AnswerFormat {
    /// As flags and plans spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Completions => "completions",
            Self::Securityeval => "securityeval",
            Self::Humaneval => "humaneval",
        }
    }
}

/// Which suites an arm is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`suites` must be names, `{kind: code}` or `{except: [NAME]}`")]
pub enum SuiteChoice {
    // Before the other, which would read the list as its fields.
    /// The suites with these names.
    Names(Vec<String>),
    /// Those of one kind, or all but some: `{kind: code}`, `{except: [risky]}`.
    Filter(SuiteFilter),
}

/// What a suite must be, and which ones are left out all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct SuiteFilter {
    /// Kind of the suites; any kind without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SuiteKind>,
    /// Names of the suites that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

impl SuiteChoice {
    /// The suites that it names, wanted or left out.
    pub fn named(&self) -> &[String] {
        match self {
            Self::Filter(filter) => &filter.except,
            Self::Names(names) => names,
        }
    }

    /// What is chosen, without the suite `name`.
    pub fn without(choice: Option<Self>, name: &str) -> Self {
        let without = |mut names: Vec<String>| {
            names.retain(|other| other != name);
            names
        };
        match choice {
            Some(Self::Names(names)) => Self::Names(without(names)),
            Some(Self::Filter(filter)) => {
                let except = without(filter.except).into_iter().chain([name.to_string()]).collect();
                Self::Filter(SuiteFilter { except, ..filter })
            }
            None => Self::Filter(SuiteFilter { kind: None, except: vec![name.to_string()] }),
        }
    }

    /// Whether a suite is among them.
    pub fn holds(&self, name: &str, kind: SuiteKind) -> bool {
        match self {
            Self::Filter(filter) => !filter.except.iter().any(|n| n == name) && filter.kind.is_none_or(|k| k == kind),
            Self::Names(names) => names.iter().any(|n| n == name),
        }
    }
}

/// How an arm uses a vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmSteer {
    /// The vector's name in the plan.
    pub vector: String,
    /// +1 along the vector, −1 against it.
    pub sign: f64,
    /// What is done with the vector at each tap.
    #[serde(default)]
    pub operator: Operator,
    /// Place in each layer.
    #[serde(default)]
    pub site: Site,
    /// Tokens at which the vector is added.
    #[serde(default)]
    pub positions: Positions,
    /// Random vectors: how many are drawn; the arm's samples are shared out among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draws: Option<u32>,
    /// Layers and coefficient as given, where they are not chosen; the coefficient has its sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<SteerSpec>,
    /// How they are chosen on the validation split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choose: Option<Choice>,
}

/// How a steered arm's layers and coefficient are chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Choice {
    /// The best cell of the sweep by a metric, of those above the utility floor.
    Goal {
        /// Name of the metric in the registry.
        metric: String,
        /// Whether higher values are better.
        higher: bool,
    },
    /// The cell that another arm's choice fell on.
    CellOf(String),
}

/// Refuses the name of an arm that cannot name a file.
pub fn check_arm_name(arm: &str) -> Result<()> {
    let plain = !arm.starts_with('.') && arm.chars().all(|c| c.is_alphanumeric() || "-_.:+".contains(c));
    if plain && !arm.is_empty() {
        return Ok(());
    }
    Err(Error::usage(format!(
        "`{arm}` cannot be a file name; give the arm a name of letters, digits and -_.:+ that does not start with a dot"
    )))
}

impl ArmSpec {
    /// The name that the arm to which nothing is done gets where a plan does not write one.
    pub const BASE: &str = "base";

    /// Whether nothing is done to the base: what every other arm is held against in the end.
    pub fn is_base(&self) -> bool {
        let untouched = self.adapter.is_none() && !self.is_steered() && !self.is_prompted();
        untouched && self.sampling.is_none() && self.answers.is_none()
    }

    /// Whether a vector is added while it decodes.
    pub fn is_steered(&self) -> bool {
        !self.steer.is_empty()
    }

    /// Whether its vectors are drawn at random: a control.
    pub fn is_random(&self) -> bool {
        self.steer.iter().any(|s| s.draws.is_some())
    }

    /// How its layers and coefficient are chosen, where they are.
    pub fn choice(&self) -> Option<&Choice> {
        self.steer.iter().find_map(|s| s.choose.as_ref())
    }

    /// The draws of its random vector; `None` alone where it has none.
    pub fn draws(&self) -> Vec<Option<u32>> {
        match self.steer.iter().find_map(|s| s.draws) {
            Some(draws) => (0..draws).map(Some).collect(),
            None => vec![None],
        }
    }

    /// Its adapter's training seeds; `None` alone where there is one or no adapter.
    pub fn seeds(&self) -> Vec<Option<u64>> {
        match self.training_seeds.as_slice() {
            [] => vec![None],
            seeds => seeds.iter().copied().map(Some).collect(),
        }
    }

    /// Whether a system turn or words are added to its prompts.
    pub fn is_prompted(&self) -> bool {
        [&self.system, &self.prefix, &self.suffix].into_iter().any(Option::is_some)
    }
}
