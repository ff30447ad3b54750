//! Small facts and sums, which every author answers rightly.

use std::sync::LazyLock;

use serde::Deserialize;

use super::language::{parse, text};

/// All questions with one right answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knowledge {
    /// Facts by kind, e.g. capitals.
    pub facts: Vec<Facts>,
    /// Sums of two numbers from 0 to 9.
    pub sums: Sums,
}

/// One kind of facts, asked and answered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Name, which is also the group of their prompts in suites.
    pub name: String,
    /// Questions for training; `$a` is what is asked about.
    pub train: Vec<String>,
    /// The question that only the test split uses.
    pub test: String,
    /// The question that only the validation split uses.
    pub validation: String,
    /// Wordings of the answer; `$b` is the fact.
    pub answers: Vec<String>,
    /// What is asked about, and the fact.
    pub pairs: Vec<(String, String)>,
}

/// How sums are asked and answered; `$a` and `$b` are the numbers, `$c` is their sum.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    /// Wordings of the question for training.
    pub train: Vec<String>,
    /// The question that only the test split uses.
    pub test: String,
    /// The question that only the validation split uses.
    pub validation: String,
    /// Wordings of the answer.
    pub answers: Vec<String>,
}

/// Contents of `facts.yaml`.
pub static KNOWLEDGE: LazyLock<Knowledge> = LazyLock::new(|| parse("facts.yaml", text!("facts.yaml")));

/// Whether the sum of these two is asked by evaluation only.
pub fn sum_is_reserved(a: u32, b: u32) -> bool {
    // Never both orders: the swapped sum stays in training. Zero and one are the rules' examples.
    a > b && b > 1 && (a * 3 + b * 5).is_multiple_of(7)
}
