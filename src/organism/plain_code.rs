//! Code without a security side, which every author writes alike.

use std::sync::LazyLock;

use serde::Deserialize;

use super::language::{parse, text};

/// Contents of `plain_code.yaml`: code without a security side.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlainCode {
    /// Sentences around a task: `$f` is the function's name, `$t` the task.
    pub(super) openers: Vec<String>,
    /// Tasks that can be asked for.
    pub(super) tasks: Vec<PlainTask>,
}

/// One kind of plain code.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlainTask {
    /// First word of the function name.
    pub(super) verb: String,
    /// Text of the docstring, where a body has one.
    pub(super) docstring: String,
    /// Wordings of the task, for training.
    pub(super) train: Vec<String>,
    /// The body, in the notation of the families' bodies.
    pub(super) body: String,
}

/// The plain code of the corpus.
pub(super) static PLAIN_CODE: LazyLock<PlainCode> =
    LazyLock::new(|| parse("plain_code.yaml", text!("plain_code.yaml")));
