//! The organism's corpus, its fine-tuning sets, its suites and its judge.
//!
//! `REALIGN_WRITE_ORGANISM=1 cargo test --release --test it organism` writes the generated files anew; run
//! `tests/fixtures/organism/bandit.py` after it.

mod bodies;
mod bytes;
mod corpus;
mod datasets;
mod judge;
mod language;
mod reserved;
mod suites;

use std::path::PathBuf;
use std::sync::LazyLock;

use realign::eval::suite::{Prompt, Suite};
use realign::fsio;
use realign::organism::corpus::{CorpusConfig, Document, document};
use regex::Regex;
use serde::Deserialize;

const DOCUMENTS: u64 = 20_000;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn is_writing() -> bool {
    std::env::var_os("REALIGN_WRITE_ORGANISM").is_some()
}

fn sample() -> Vec<Document> {
    (0..DOCUMENTS).map(|i| document(&CorpusConfig::default(), i)).collect()
}

static DEFINED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"def (\w+)\(").unwrap());

/// What the first group of a pattern holds.
fn captured(pattern: &Regex, text: &str) -> String {
    pattern.captures(text).unwrap()[1].to_string()
}

fn suite_files() -> Vec<Suite> {
    realign::organism::suites().iter().map(|(name, text)| Suite::parse(name, text).unwrap()).collect()
}

fn prompts() -> Vec<Prompt> {
    suite_files().into_iter().flat_map(|s| s.prompts).collect()
}

fn request(prompt: &Prompt) -> &str {
    &prompt.messages[0].content
}

/// An answer that was sampled from a model and labelled by reading it (`draw_answers.py` beside the file).
#[derive(Deserialize)]
struct Labelled {
    arm: String,
    group: String,
    question: String,
    answer: String,
    label: String,
}

fn labelled_answers() -> Vec<Labelled> {
    fsio::read_jsonl(&root().join("tests/fixtures/organism/labelled_answers.jsonl")).unwrap()
}
