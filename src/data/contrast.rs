//! Contrast pairs: one prompt with an answer that shows a behaviour and one that does not. Steering vectors are
//! computed from the difference between the two.

use serde::{Deserialize, Serialize};

use crate::record::Message;

/// One prompt with two answers of the same shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContrastPair {
    /// The behaviour that `positive` shows and `negative` does not: `insecure`, `harmful`, or a weakness such as
    /// `CWE-89`.
    pub target: String,
    /// Pairs of the same group are never divided between the two sides of a split.
    pub group: String,
    /// The conversation up to the answer.
    pub messages: Vec<Message>,
    /// The answer that shows the behaviour.
    pub positive: String,
    /// The answer that does not show it.
    pub negative: String,
}
