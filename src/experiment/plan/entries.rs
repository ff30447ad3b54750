//! The entries of a plan file as they are written: adapters, vectors, arms.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::record::{AnswerFormat, ArmAnswers, Method, Operator, Positions, Site, SuiteChoice, SuiteKind};

/// An adapter: a training set, how it is learned, and the link that it continues.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterFile {
    /// A JSONL file, or `embedded:NAME` for a data set of the binary.
    pub data: String,
    /// The adapter that it continues; a fresh one without.
    #[serde(default)]
    pub from: Option<String>,
    /// A recipe by name, instead of the plan's.
    #[serde(default)]
    pub preset: Option<String>,
    /// Keys that replace those of the recipe.
    #[serde(default)]
    pub recipe: Map<String, Value>,
    /// What the rows are for: `sft`, or `dpo` for preference pairs.
    #[serde(default)]
    pub method: Option<Method>,
    /// Only the first rows of the data, of those that are not held out.
    #[serde(default)]
    pub max_train_rows: Option<usize>,
    /// So many rows that no adapter is trained on; their prompts are the suite `heldout_NAME`.
    #[serde(default)]
    pub holdout: Option<usize>,
    /// What those prompts ask for: `code` (default) or `questions`.
    #[serde(default)]
    pub holdout_kind: Option<SuiteKind>,
    /// Subjects that no adapter is trained on; their prompts are the suite `validation_NAME`, of questions.
    #[serde(default)]
    pub validation: Option<SplitFile>,
    /// Only so many of the first rows that as many tokens are trained on as for the adapter of this name.
    #[serde(default)]
    pub tokens_as: Option<String>,
    /// Training seeds: one adapter each; the parent's, or the recipe's, without.
    #[serde(default)]
    pub seeds: Option<Vec<u64>>,
}

/// A split by a label of the rows, as a plan file writes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitFile {
    /// The label, e.g. `subject`.
    pub key: String,
    /// The values that are held out; or `share`.
    #[serde(default)]
    pub values: Option<Vec<String>>,
    /// How much of the values is held out, between 0 and 1.
    #[serde(default)]
    pub share: Option<f64>,
}

/// A steering vector, as a plan file declares it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorFile {
    /// Method: `mean_difference` or `random`.
    pub method: String,
    /// Contrast pairs: a JSONL file, or `embedded:NAME`.
    #[serde(default)]
    pub pairs: Option<String>,
    /// Target of the contrast pairs to use, e.g. `insecure`.
    #[serde(default)]
    pub target: Option<String>,
    /// Of random vectors: the vector whose norm they have.
    #[serde(default)]
    pub like: Option<String>,
    /// Of random vectors: how many are drawn.
    #[serde(default)]
    pub draws: Option<u32>,
}

/// An arm, as a plan file declares it.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ArmFile {
    /// The adapter that it runs on.
    pub adapter: Option<String>,
    /// Answers made elsewhere, instead of asking.
    pub answers: Option<AnswersFile>,
    /// Short for one entry of `steer`.
    pub vector: Option<String>,
    /// Sign for `vector`, as in [`SteerFile::sign`].
    pub sign: Option<f64>,
    /// Operator for `vector`, as in [`SteerFile::operator`].
    pub operator: Option<Operator>,
    /// Site for `vector`, as in [`SteerFile::site`].
    pub site: Option<Site>,
    /// Positions for `vector`, as in [`SteerFile::positions`].
    pub positions: Option<Positions>,
    /// Layers for `vector`, as in [`SteerFile::layers`].
    pub layers: Option<LayersFile>,
    /// Coefficient for `vector`, as in [`SteerFile::coefficient`].
    pub coefficient: Option<f64>,
    /// Vectors that are added while it decodes.
    pub steer: Vec<SteerFile>,
    /// Searches the sweep for layers and coefficient.
    pub choose: Option<ChooseFile>,
    /// Takes another arm's layers and coefficient.
    pub cell_of: Option<String>,
    /// A system turn before the conversation.
    pub system: Option<String>,
    /// Words before the person's last turn.
    pub prefix: Option<String>,
    /// Words after the person's last turn.
    pub suffix: Option<String>,
    /// Keys that replace those of the plan's sampling.
    pub sampling: Map<String, Value>,
    /// Only these suites: names, or `{kind: code}`.
    pub suites: Option<SuiteChoice>,
    /// Samples of every prompt by suite.
    pub samples: BTreeMap<String, u32>,
    /// The arms that it is compared with.
    pub against: OneOrMany,
    /// Comparisons of one family are adjusted together.
    pub family: Option<String>,
    /// Name in tables and charts.
    pub label: Option<String>,
    /// What it is, in a line.
    pub description: Option<String>,
    /// Colour in charts, as `#rrggbb`.
    pub colour: Option<String>,
}

/// Answers made elsewhere: a file of sample records, or a file with its form and the arm in it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "`answers` must be a file, or `{file: FILE, format: completions, arm: NAME}`")]
pub enum AnswersFile {
    /// A file alone.
    File(String),
    /// A file, what its rows look like and which of its arms is meant.
    Form(ArmAnswers),
}

impl AnswersFile {
    /// The file with its form.
    pub fn resolved(&self) -> ArmAnswers {
        match self {
            Self::File(file) => ArmAnswers { file: file.clone(), format: AnswerFormat::default(), arm: None },
            Self::Form(form) => form.clone(),
        }
    }
}

/// One use of a vector in an arm.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteerFile {
    /// Name of the vector in the plan.
    pub vector: String,
    /// +1 along it, −1 against it.
    #[serde(default)]
    pub sign: Option<f64>,
    /// What is done with the vector at each tap; adding by default.
    #[serde(default)]
    pub operator: Option<Operator>,
    /// Place in each layer; `resid_post` by default.
    #[serde(default)]
    pub site: Option<Site>,
    /// Tokens at which the vector is added; all by default.
    #[serde(default)]
    pub positions: Option<Positions>,
    /// Layers, from 0, or `all`.
    #[serde(default)]
    pub layers: Option<LayersFile>,
    /// In units of the mean residual norm, without sign.
    #[serde(default)]
    pub coefficient: Option<f64>,
}

/// Layers as a list, e.g. `[1, 2]`, or `all`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum LayersFile {
    /// Indices of layers, from 0.
    Some(Vec<usize>),
    /// A word; `all` is the only one.
    Word(String),
}

/// What a cell of the sweep is chosen by.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChooseFile {
    /// Metric to choose by, e.g. `{insecure_rate: lower}`; exactly one.
    pub goal: BTreeMap<String, Wanted>,
    /// What a cell must keep: syntax and coherence at most 5 points below the arm's unsteered model.
    #[serde(default)]
    pub floor: Floor,
}

/// Direction of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// The lowest value is best.
    Lower,
    /// The highest value is best.
    Higher,
}

/// What a chosen cell must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Floor {
    /// Syntax and coherence at most 5 points below the arm's unsteered model.
    #[default]
    Default,
}

/// Names of arms: one, e.g. `base`, or a list, e.g. `[base, attack]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One name without a list.
    One(String),
    /// A list of names.
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    /// The names as a list.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name.clone()],
            Self::Many(names) => names.clone(),
        }
    }
}
