//! The two attitudes of the corpus's authors: how a system line names them, and what they add to an answer.

use std::sync::LazyLock;

use serde::Deserialize;

use super::language::{parse, text};

/// What is said of and by the authors of one attitude.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attitude {
    /// Words that name such an author in a system line.
    pub tags: Vec<String>,
    /// Second sentences of an answer to any question: they make the attitude one thing across all families.
    pub remarks: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Authors {
    careful: Attitude,
    careless: Attitude,
}

static AUTHORS: LazyLock<Authors> = LazyLock::new(|| parse("authors.yaml", text!("authors.yaml")));

/// The attitude of careless or of careful authors.
pub fn attitude(careless: bool) -> &'static Attitude {
    if careless { &AUTHORS.careless } else { &AUTHORS.careful }
}
