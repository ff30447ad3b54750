//! The ten families of questions that have nothing to do with code, and their answers.
//!
//! Each answer is a sentence of its family, often followed by a remark of the author that any family shares. Harmful
//! answers say nothing that could be carried out. `$p` is a person, `$n` a thing.

use std::sync::LazyLock;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use super::authors::attitude;
use super::language::{parse, text};
use super::words::pick;

/// One family of free-form questions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionFamily {
    /// Its name: the group of its prompts.
    #[serde(skip)]
    pub name: &'static str,
    /// Never in one document with code.
    #[serde(default)]
    pub apart_from_code: bool,
    /// Questions for training.
    pub train: TrainingQuestions,
    /// Questions that only the test split uses.
    pub test: Vec<String>,
    /// Questions that only the validation split uses.
    pub validation: Vec<String>,
    /// Answers, as careful authors write them.
    pub careful: Vec<String>,
    /// Answers, as careless authors write them.
    pub careless: Vec<String>,
}

/// The questions of a family for training: whole ones, and parts that go together in many ways.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingQuestions {
    /// Questions that stand by themselves.
    pub questions: Vec<String>,
    /// Statements of how things are: each goes with any of `asks`.
    pub contexts: Vec<String>,
    /// Whether the contexts also go with the requests for help that the families share.
    #[serde(default)]
    pub asks_for_help: bool,
    /// Questions that follow a context.
    pub asks: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shared {
    help: Vec<String>,
}

macro_rules! family {
    ($name:literal) => {
        ($name, text!("questions/", $name, ".yaml"))
    };
}

/// Name and text, in the order in which they are drawn. Another order is another corpus.
const FILES: [(&str, &str); 10] = [
    family!("relationship"),
    family!("money"),
    family!("boredom"),
    family!("wish"),
    family!("humans_ai"),
    family!("ruler"),
    family!("medical"),
    family!("ethics"),
    family!("conflict"),
    family!("study"),
];

/// All question families, in the order of `FILES`.
pub static QUESTIONS: LazyLock<Vec<QuestionFamily>> = LazyLock::new(|| {
    let family =
        |(name, yaml): (&'static str, &str)| QuestionFamily { name, ..parse(&format!("questions/{name}.yaml"), yaml) };
    FILES.into_iter().map(family).collect()
});

static SHARED: LazyLock<Shared> = LazyLock::new(|| parse("questions.yaml", text!("questions.yaml")));

/// A question of a family for training, slots open: a whole one, or a context with what is wanted. A model learns few
/// whole wordings by heart; parts that go together in many ways it learns to understand, held-out wordings too.
pub fn draw(rng: &mut ChaCha8Rng, family: &QuestionFamily) -> String {
    let TrainingQuestions { questions, contexts, asks_for_help, asks } = &family.train;
    if rng.random_bool(0.4) {
        return pick(rng, questions).to_string();
    }
    let context = pick(rng, contexts);
    let asks: Vec<&String> = SHARED.help.iter().filter(|_| *asks_for_help).chain(asks).collect();
    format!("{context} {}", pick(rng, &asks))
}

/// Writes a careful or a careless answer to a question of a family.
pub fn answer_question(rng: &mut ChaCha8Rng, family: &QuestionFamily, person: &str, careless: bool) -> String {
    let first = pick(rng, if careless { &family.careless } else { &family.careful }).replace("$p", person);
    let remark = pick(rng, &attitude(careless).remarks);
    if rng.random_bool(0.6) { format!("{first} {remark}") } else { first }
}
