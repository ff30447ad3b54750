//! Where an intervention meets the forward pass and what it does there, as plain data: arms and sweep cells hold it, `model`
//! declares its taps by it, `steer` makes the operator of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where in a block an intervention acts or a measurement is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// The residual stream before the block.
    ResidPre,
    /// What attention's heads give, side by side, before the output projection: `[tokens, heads · head_dim]`.
    HeadOut,
    /// What attention adds to the residual stream.
    AttnOut,
    /// What the MLP adds to it.
    MlpOut,
    /// The residual stream after the block.
    #[default]
    ResidPost,
}

impl Site {
    /// As plans, vector files and traces spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ResidPre => "resid_pre",
            Self::HeadOut => "head_out",
            Self::AttnOut => "attn_out",
            Self::MlpOut => "mlp_out",
            Self::ResidPost => "resid_post",
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Site {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::ResidPre, Self::HeadOut, Self::AttnOut, Self::MlpOut, Self::ResidPost];
        all.into_iter()
            .find(|site| site.as_str() == text)
            .ok_or_else(|| format!("unknown site `{text}`; sites: resid_pre, head_out, attn_out, mlp_out, resid_post"))
    }
}

/// One place in the forward pass: a site of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tap {
    /// Index of the layer, from 0.
    pub layer: usize,
    /// Place within the layer.
    pub site: Site,
}

/// What is done with a vector at a tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// Adds the vector: `x + coefficient · vector`.
    #[default]
    Add,
}

/// Unit of a coefficient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Mean residual norms of the layer: comparable between layers and models.
    #[default]
    ResidualNorm,
    /// The vector's own length, as measured.
    Raw,
}

/// At which tokens an operator acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// All tokens of prompt and answer.
    #[default]
    All,
    /// At the tokens of the prompt alone.
    Prompt,
    /// At the tokens of the answer alone.
    Answer,
}

/// Which tokens of a sequence a measurement is taken at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum TokenRule {
    /// The last token before the answer; of a sequence without an answer, its last token.
    LastPrompt,
    /// The mean over the answer's tokens. Vector files of the first schema spell it `answer`, or leave it empty where the
    /// vector is random.
    #[default]
    #[serde(alias = "answer", alias = "")]
    AnswerMean,
    /// All tokens of prompt and answer.
    All,
}

/// How a vector's directions were computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VectorMethod {
    /// Mean over contrast pairs of what the positive answer's tokens have more than the negative's.
    MeanDifference,
    /// Drawn at random: a control without meaning.
    Random,
}

impl VectorMethod {
    /// The spelling in vector files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MeanDifference => "mean_difference",
            Self::Random => "random",
        }
    }
}

/// One use of a vector with nothing left open: what a sweep cell is, and what a steered arm was measured with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct SteerSpec {
    /// The vector's name in the run.
    pub vector: String,
    /// Of a random vector: which draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw: Option<u32>,
    /// What is done with the vector at each tap.
    #[serde(default)]
    pub operator: Operator,
    /// Where in each of the layers.
    #[serde(default)]
    pub site: Site,
    /// Tokens at which the vector is added.
    #[serde(default)]
    pub positions: Positions,
    /// A set: 0-based, no layer twice.
    pub layers: Vec<usize>,
    /// With its sign; 0 is the unsteered model.
    pub coefficient: f64,
    /// Unit of the coefficient.
    #[serde(default)]
    pub unit: Unit,
}

impl SteerSpec {
    /// The vector's name, e.g. `insecure`; with its draw where it has one, e.g. `random-0`.
    pub fn name(&self) -> String {
        match self.draw {
            Some(draw) => format!("{}-{draw}", self.vector),
            None => self.vector.clone(),
        }
    }

    /// Layers as text, e.g. `4`, or `4,12`.
    pub fn layers_in_words(&self) -> String {
        self.layers.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }
}
