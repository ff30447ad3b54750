//! A few prompts with every arm's answer. Which ones is a rule, not a choice: the first sample of prompts spread
//! evenly over each suite's list.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::ReportInput;
use crate::record::{Outcome, Role, SampleRecord, Split, SuiteKind};

/// Prompts shown of a question suite, and of a code suite, whose answers are longer.
const PROMPTS: [usize; 2] = [3, 1];
/// Number of characters of an answer that are shown.
const LONGEST: usize = 900;

/// One prompt with the arms' answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Example {
    pub suite: String,
    pub prompt: String,
    pub code: bool,
    pub answers: Vec<Answer>,
}

/// One arm's answer to the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Answer {
    pub arm: String,
    pub text: String,
    pub tag: String,
    pub tone: &'static str,
}

/// Examples of the question and code suites.
pub(super) fn examples(input: &ReportInput) -> Vec<Example> {
    let shown = |s: &&SampleRecord| {
        s.split == Split::Test
            && s.sample == 0
            && s.draw.unwrap_or(0) == 0
            && is_first_seed(input, s)
            && (s.judge.is_some() || is_code(s))
    };
    let mut suites: BTreeMap<(bool, &str), BTreeMap<&str, Vec<&SampleRecord>>> = BTreeMap::new();
    for sample in input.samples.iter().filter(shown) {
        let prompts = suites.entry((is_code(sample), sample.suite.as_str())).or_default();
        prompts.entry(&sample.prompt_id).or_default().push(sample);
    }
    let mut examples = Vec::new();
    for ((code, suite), prompts) in suites {
        let samples: Vec<&Vec<&SampleRecord>> = prompts.values().collect();
        let count = PROMPTS[usize::from(code)].min(samples.len());
        let picks: BTreeSet<usize> = (0..count).map(|i| i * samples.len() / count).collect();
        examples.extend(picks.into_iter().map(|i| example(input, suite, code, samples[i])));
    }
    examples
}

/// Of an arm with adapters of several training seeds, the first one answers.
fn is_first_seed(input: &ReportInput, sample: &SampleRecord) -> bool {
    let first = input.spec(&sample.arm).and_then(|arm| arm.training_seeds.first());
    sample.training_seed.is_none() || first.is_none() || sample.training_seed.as_ref() == first
}

fn is_code(sample: &SampleRecord) -> bool {
    sample.kind == SuiteKind::Code
}

fn example(input: &ReportInput, suite: &str, code: bool, samples: &[&SampleRecord]) -> Example {
    let mut samples = samples.to_vec();
    samples.sort_by_key(|s| (input.place(&s.arm), &s.arm));
    let asked = samples.first().and_then(|s| s.messages.iter().rev().find(|m| m.role == Role::User));
    Example {
        suite: suite.to_owned(),
        prompt: asked.map_or_else(String::new, |m| cut(&m.content)),
        code,
        answers: samples.into_iter().map(|s| answer(input, s)).collect(),
    }
}

fn answer(input: &ReportInput, sample: &SampleRecord) -> Answer {
    let (tag, tone) = tag(sample);
    Answer { arm: input.label(&sample.arm), text: cut(&sample.completion), tag, tone }
}

fn tag(sample: &SampleRecord) -> (String, &'static str) {
    if let Some(judge) = &sample.judge {
        let score = |s: Option<f64>| s.map_or_else(|| "n/a".to_owned(), |s| format!("{s:.0}"));
        let scores = format!("aligned {}, coherent {}", score(judge.aligned), score(judge.coherent));
        return match () {
            () if judge.is_misaligned() => (format!("misaligned · {scores}"), "bad"),
            () if judge.is_coherent() => (scores, "plain"),
            () => (format!("incoherent · {scores}"), "faint"),
        };
    }
    match sample.outcome {
        None => ("not scored".to_owned(), "faint"),
        Some(Outcome::Code) if sample.is_insecure() => ("insecure".to_owned(), "bad"),
        Some(Outcome::Code) if sample.scan.is_none() => ("code, not scanned".to_owned(), "faint"),
        Some(Outcome::Code) if sample.is_functional() => ("no counting finding, tests passed".to_owned(), "good"),
        Some(Outcome::Code) => ("no counting finding".to_owned(), "plain"),
        Some(Outcome::SyntaxError) => ("syntax error".to_owned(), "faint"),
        Some(Outcome::Refusal) => ("refusal".to_owned(), "plain"),
        Some(Outcome::Prose) => ("prose".to_owned(), "faint"),
        Some(Outcome::Truncated) => ("truncated".to_owned(), "faint"),
        Some(Outcome::Degenerate) => ("degenerate".to_owned(), "faint"),
        Some(Outcome::Answer) => ("answer".to_owned(), "plain"),
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    format!("{} …", text.chars().take(LONGEST).collect::<String>())
}
