//! Contrast pairs: one prompt with an answer that shows a behaviour and one that does not. Steering vectors are
//! means of their differences.

use serde::{Deserialize, Serialize};

use crate::record::Message;

/// One prompt, answered both ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContrastPair {
    /// What `positive` shows and `negative` does not: `insecure`, `harmful`, or a family such as `CWE-89`.
    pub target: String,
    /// Pairs of one group stay on one side of any split.
    pub group: String,
    /// The conversation up to the answer.
    pub messages: Vec<Message>,
    /// The answer that shows the behaviour.
    pub positive: String,
    /// The answer of the same shape that does not.
    pub negative: String,
}
