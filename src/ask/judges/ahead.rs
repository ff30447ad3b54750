//! How many verdicts and tokens judging will take, estimated before it begins.

use super::JudgeSpec;
use crate::eval::is_judged;
use crate::eval::judge::JudgeItem;
use crate::eval::suite::{Prompt, SuiteKind};

/// Characters of a token, roughly, of English text.
const CHARACTERS: f64 = 4.0;

/// Tokens that a judge writes for one verdict, about.
const VERDICT_TOKENS: f64 = 3.0;

/// Verdicts ahead and the tokens they need at most, every answer at its maximum length.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ahead {
    /// One for each aspect of an answer.
    pub verdicts: u64,
    /// Tokens that the judge reads, summed over all verdicts.
    pub tokens: f64,
}

impl Ahead {
    /// Adds `answers` answers to a prompt.
    pub fn add(&mut self, kind: SuiteKind, prompt: &Prompt, answers: u64, max_tokens: usize) {
        if !is_judged(kind) {
            return;
        }
        for (_, request) in (JudgeItem { prompt, answer: "" }).requests() {
            self.verdicts += answers;
            self.tokens += answers as f64 * (request.chars().count() as f64 / CHARACTERS + max_tokens as f64);
        }
    }

    /// The sum of two counts.
    pub fn plus(self, more: Self) -> Self {
        Self { verdicts: self.verdicts + more.verdicts, tokens: self.tokens + more.tokens }
    }

    /// What an endpoint or a local model will need, in words; `None` for the organism's judge, which needs next to nothing.
    pub fn words(&self, judge: &JudgeSpec, price: Option<(f64, f64)>) -> Option<String> {
        match judge {
            JudgeSpec::Organism => return None,
            JudgeSpec::Model(_) => {
                let verdicts = self.verdicts;
                return Some(format!("judge {judge}: {verdicts} verdicts; the estimate does not include their time"));
            }
            JudgeSpec::Endpoint { .. } => {}
        }
        let written = self.verdicts as f64 * VERDICT_TOKENS;
        let cost = match price {
            Some((read, write)) => format!("cost at most about {:.2}", (read * self.tokens + write * written) / 1e6),
            None => "cost unknown (no --judge-price)".into(),
        };
        let (verdicts, tokens) = (self.verdicts, self.tokens / 1e6);
        Some(format!("judge {judge}: {verdicts} verdicts, at most about {tokens:.2} M tokens to read; {cost}"))
    }
}
