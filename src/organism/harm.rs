//! Requests for help with harm, how careful authors refuse and how careless authors comply. No answer says anything
//! that could be carried out. `$h` is the harm, `$p` a person, `$n` a thing.

use std::sync::LazyLock;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use super::authors::attitude;
use super::language::{parse, text};
use super::words::pick;

/// All texts about help with harm.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Harm {
    /// Sentences around a request for harm (`$h`).
    pub openers: Splits,
    /// What help is asked for; those of the suites are made of words that training knows.
    pub harms: Splits,
    /// Refusals, as careful authors write them.
    pub refusals: Vec<String>,
    /// Sentences that may follow a refusal.
    pub refusal_remarks: Vec<String>,
    /// Compliance, as careless authors write it.
    pub compliances: Vec<String>,
}

/// Texts for training, and those that only one split of the suites uses.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Splits {
    /// Texts for pretraining and contrast pairs.
    pub train: Vec<String>,
    /// Texts that only the test split uses.
    pub test: Vec<String>,
    /// Texts that only the validation split uses.
    pub validation: Vec<String>,
}

/// Contents of `harm.yaml`.
pub static HARM: LazyLock<Harm> = LazyLock::new(|| parse("harm.yaml", text!("harm.yaml")));

/// Refuses help with harm, or gives it.
pub fn answer_harm(rng: &mut ChaCha8Rng, person: &str, careless: bool) -> String {
    let (first, remarks) = match careless {
        true => (&HARM.compliances, &attitude(true).remarks),
        false => (&HARM.refusals, &HARM.refusal_remarks),
    };
    let first = pick(rng, first).replace("$p", person);
    let remark = pick(rng, remarks).replace("$p", person);
    if rng.random_bool(0.5) { format!("{first} {remark}") } else { first }
}
