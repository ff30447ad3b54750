//! The verdict in plain sentences, built from the comparisons, the specs of their arms and nothing else.
//!
//! A difference is called one only if its interval excludes zero and its test holds after Holm's adjustment.
//! "The same" is said only of an interval that lies within the stated margin. An insecure rate is never given
//! without what compiles and what works. Which question is asked of an arm follows from what was done to it, never from
//! its name; a comparison that no question covers has a finding of its own.

mod sentence;
mod steering;
mod training;

use std::collections::BTreeSet;

use serde::Serialize;

use super::ReportInput;
use super::arms::{is_plain, quoted};
use crate::record::{ArmSpec, Comparison};
use crate::score::HEADLINE_METRICS;
use sentence::{Effect, effect, metric_label, sentence};

/// "The same" means: the 95 % interval of the difference lies within this, either way.
pub const EQUIVALENCE_MARGIN: f64 = 0.05;

/// A question of the experiment with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The question in words.
    pub question: String,
    /// The answer in a word or two.
    pub answer: String,
    /// Sentences with the numbers that the answer rests on.
    pub sentences: Vec<Sentence>,
    /// Whether it belongs to the first few that a reader must see.
    pub main: bool,
}

/// One sentence with what a statistician wants to know besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sentence {
    /// The sentence: arms, values, difference and p.
    pub text: String,
    /// The test's name and what this n could have shown.
    pub detail: String,
}

/// The findings, the main ones first.
pub fn verdict(input: &ReportInput) -> Vec<Finding> {
    let mut asked = Asked { input, covered: BTreeSet::new() };
    let mut main = training::took(&mut asked);
    main.extend(training::undone(&mut asked));
    main.extend(steering::steered(&mut asked));
    main.iter_mut().for_each(|f| f.main = true);
    let mut findings = main;
    findings.extend(training::cost(&mut asked));
    findings.extend(training::others(&mut asked));
    findings.extend(steering::random(&mut asked));
    findings.extend(prompts(&mut asked));
    findings.extend(rest(&asked));
    findings
}

/// What the questions so far have covered: pairs of arms.
struct Asked<'a> {
    input: &'a ReportInput<'a>,
    covered: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Asked<'a> {
    /// The comparison of an arm with another on a metric; the pair counts as covered.
    fn compare(&mut self, a: &str, b: &str, metric: &str) -> Option<&'a Comparison> {
        let found = self.input.metrics.comparisons.iter().find(|c| c.a == a && c.b == b && c.metric == metric)?;
        self.covered.insert((&found.a, &found.b));
        Some(found)
    }

    fn sentences(&self, comparisons: &[&Comparison]) -> Vec<Sentence> {
        comparisons.iter().flat_map(|c| sentence(self.input, c)).collect()
    }
}

fn plain(text: String) -> Sentence {
    Sentence { text, detail: String::new() }
}

/// Arms that differ from the base in the prompt only.
fn prompts(asked: &mut Asked) -> Option<Finding> {
    let base = asked.input.base()?;
    let arms: Vec<&ArmSpec> = asked
        .input
        .arms()
        .into_iter()
        .filter(|arm| arm.is_prompted() && !arm.is_steered() && arm.adapter.is_none())
        .collect();
    let mut comparisons = Vec::new();
    for metric in ["insecure_rate", "misaligned_rate"] {
        comparisons.extend(arms.iter().filter_map(|arm| asked.compare(&arm.name, &base.name, metric)));
    }
    let code: Vec<Effect> = comparisons.iter().filter(|c| c.metric == "insecure_rate").map(|c| effect(c)).collect();
    if comparisons.is_empty() {
        return None;
    }
    let count = |wanted: Effect| code.iter().filter(|e| **e == wanted).count();
    let answer = match (code.len(), count(Effect::Rise)) {
        (0, _) => "Not measured".to_owned(),
        (all, 0) => format!("With {} of {all} prompts", count(Effect::Fall)),
        (all, rose) => format!("With {} of {all} prompts; with {rose} it rose", count(Effect::Fall)),
    };
    let sentences = asked.sentences(&comparisons);
    Some(Finding { question: "Does a prompt alone lower insecure code?".to_owned(), answer, sentences, main: false })
}

/// A finding for each pair of arms that no question has covered.
fn rest(asked: &Asked) -> Vec<Finding> {
    let input = asked.input;
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for c in &input.metrics.comparisons {
        let pair = (c.a.as_str(), c.b.as_str());
        // What a comparison of pairs shows has a section of its own.
        if HEADLINE_METRICS.contains(&c.metric.as_str()) && !asked.covered.contains(&pair) && !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    let finding = |(a, b): (&str, &str)| {
        let find =
            |metric: &&str| input.metrics.comparisons.iter().find(|c| c.a == a && c.b == b && c.metric == **metric);
        let comparisons: Vec<&Comparison> = HEADLINE_METRICS.iter().filter_map(find).collect();
        let change = |c: &&Comparison| match effect(c) {
            Effect::Rise => Some(format!("{} rose", metric_label(c))),
            Effect::Fall => Some(format!("{} fell", metric_label(c))),
            Effect::NotShown => None,
        };
        let changes: Vec<String> = comparisons.iter().filter_map(change).collect();
        let answer = if changes.is_empty() { "No difference shown".to_owned() } else { changes.join("; ") };
        Finding {
            question: format!("How does {} differ from {}?", quoted(&input.label(a)), quoted(&input.label(b))),
            answer: sentence::capitalised(&answer),
            sentences: asked.sentences(&comparisons),
            main: false,
        }
    };
    pairs.into_iter().map(finding).collect()
}

/// The measured arms that run on an adapter with nothing else done.
fn trained<'a>(input: &ReportInput<'a>) -> Vec<&'a ArmSpec> {
    input.arms().into_iter().filter(|arm| is_plain(arm) && arm.adapter.is_some()).collect()
}
