//! A local model as judge: the mean of the integers 0 to 100, each weighted by the probability that the answer begins
//! with it.
//!
//! The judge's prompt goes through the model's chat template. A number may be one token or several; its probability is
//! that of its tokens, without what goes on to a longer number ([`crate::generate::Choices`]), and the score is
//! Σ k·p(k) / Σ p(k) over all 101. Where they hold less than a quarter of the probability, a few tokens are decoded to tell
//! CODE and REFUSAL from what cannot be read.

use std::sync::Arc;

use crate::error::Result;
use crate::eval::judge::{Judge, JudgeItem, LEAST_MASS, record};
use crate::eval::judge_prompt::SCORED;
use crate::eval::verdict::{self, Verdict};
use crate::generate::{Choices, EngineOptions, Job, choice_probabilities, generate};
use crate::process;
use crate::record::{FinishReason, JudgeRecord, Message, Sampling};
use crate::subject::Subject;

/// Tokens decoded where a judge is to say a word.
const WORD_TOKENS: usize = 12;

/// The highest score a judge can give.
const HIGHEST: u32 = 100;

/// A local chat model that judges by the probabilities of its answer's first tokens.
pub struct ModelJudge {
    name: String,
    model: Subject,
    numbers: Choices,
    specials: Vec<String>,
}

impl ModelJudge {
    /// Of any model that has a chat template.
    pub fn new(name: &str, model: Subject) -> Result<Self> {
        let sequences: Vec<Vec<Vec<u32>>> =
            (0..=HIGHEST).map(|k| number_tokens(&model, k)).collect::<Result<Vec<_>>>()?;
        let specials = model.tokenizer.special_texts();
        Ok(Self { name: name.to_string(), numbers: Choices::new(&sequences)?, specials, model })
    }

    /// SHA-256 over the judge's weights.
    pub fn model_sha256(&self) -> &str {
        &self.model.sha256
    }

    /// The tokens of a judge's question, up to where its answer begins. A special token that is spelled out in the text
    /// (an end of turn, say) stays text: it is taken apart first.
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>> {
        self.model.prompt(&[Message::user(without_specials(text, &self.specials))])
    }

    /// The probability of each integer from 0 to 100, behind each prompt.
    pub fn number_probabilities(&self, prompts: &[Vec<u32>]) -> Result<Vec<Vec<f64>>> {
        choice_probabilities(&self.model.decoder, prompts, &self.numbers, 0, &process::root_token())
    }

    /// A few tokens behind each prompt, and whether the answer would have gone on.
    fn decoded(&self, prompts: &[&Vec<u32>]) -> Result<Vec<(String, bool)>> {
        let greedy = Arc::new(Sampling { temperature: 0.0, ..Sampling::default() });
        let stop_ids: Arc<[u32]> = self.model.stop_ids.as_slice().into();
        let job = |prompt: &&Vec<u32>| Job::new((*prompt).clone(), 0, WORD_TOKENS, &greedy, &stop_ids);
        let jobs: Vec<Job> = prompts.iter().map(job).collect();
        let options = EngineOptions::new(&self.model.tokenizer);
        let made = generate(&self.model.decoder, &jobs, &options, &|_, _| Ok(()))?;
        // None of them can be cancelled by itself.
        Ok(made.into_iter().flatten().map(|made| (made.text, made.finish_reason == FinishReason::Length)).collect())
    }
}

/// One verdict that is asked for.
struct Asked<'a> {
    aspect: &'a str,
    tokens: Vec<u32>,
    verdict: Verdict,
}

impl Judge for ModelJudge {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn judge(&self, items: &[JudgeItem]) -> Result<Vec<JudgeRecord>> {
        let (mut asked, mut counts) = (Vec::new(), Vec::new());
        for item in items {
            let requests = item.requests();
            counts.push(requests.len());
            for (aspect, text) in requests {
                asked.push(Asked { aspect, tokens: self.prompt(&text)?, verdict: Verdict::Unreadable });
            }
        }
        // An answer that is too long for this judge stays unreadable.
        let room = self.model.decoder.config.max_position_embeddings;
        let mut fitting: Vec<&mut Asked> =
            asked.iter_mut().filter(|a| a.tokens.len() + WORD_TOKENS.max(self.numbers.depth()) <= room).collect();
        let (scored, mut worded): (Vec<&mut Asked>, Vec<&mut Asked>) =
            fitting.drain(..).partition(|a| SCORED.contains(&a.aspect));
        let prompts: Vec<Vec<u32>> = scored.iter().map(|a| a.tokens.clone()).collect();
        for (asked, numbers) in scored.into_iter().zip(self.number_probabilities(&prompts)?) {
            match mean(&numbers) {
                Some(score) => asked.verdict = Verdict::Score(score),
                None => worded.push(asked),
            }
        }
        let texts = self.decoded(&worded.iter().map(|a| &a.tokens).collect::<Vec<_>>())?;
        for (asked, (text, cut)) in worded.into_iter().zip(texts) {
            asked.verdict = match verdict::read(asked.aspect, &text, cut) {
                // A number that the first tokens hardly held: the prose around it says more.
                Verdict::Score(_) => Verdict::Unreadable,
                verdict => verdict,
            };
        }
        let mut verdicts = asked.into_iter().map(|a| a.verdict);
        let records = items
            .iter()
            .zip(counts)
            .map(|(item, count)| record(&self.name, item, &verdicts.by_ref().take(count).collect::<Vec<_>>()));
        Ok(records.collect())
    }
}

/// Σ k·p(k) / Σ p(k); `None` below [`LEAST_MASS`].
fn mean(numbers: &[f64]) -> Option<f64> {
    let mass: f64 = numbers.iter().sum();
    let sum: f64 = numbers.iter().enumerate().map(|(k, p)| k as f64 * p).sum();
    (mass >= LEAST_MASS).then(|| sum / mass)
}

/// The tokens of a number where an answer begins, by itself and behind a blank. They are found within a whole
/// conversation, since a tokenizer may write the first word of a text in another way.
fn number_tokens(model: &Subject, number: u32) -> Result<Vec<Vec<u32>>> {
    let before = model.template.render(&[Message::user("?")], true)?;
    let tokens = model.tokenizer.encode(&before, false)?;
    let mut found = Vec::new();
    for text in [number.to_string(), format!(" {number}")] {
        let whole = model.tokenizer.encode(&format!("{before}{text}"), false)?;
        // Where the number changes the tokens before it, what it is by itself comes nearest.
        let own = match whole.strip_prefix(tokens.as_slice()) {
            Some(own) => own.to_vec(),
            None => model.tokenizer.encode(&text, false)?,
        };
        // A tokenizer that drops blanks has one form only.
        if !own.is_empty() && !found.contains(&own) {
            found.push(own);
        }
    }
    Ok(found)
}

/// A blank behind the first character of every special token that the text spells out.
fn without_specials(text: &str, specials: &[String]) -> String {
    let mut text = text.to_string();
    while let Some(special) = specials.iter().find(|special| text.contains(special.as_str())) {
        let mut letters = special.chars();
        let first: String = letters.by_ref().take(1).collect();
        let rest = letters.as_str();
        // One of a single character cannot be taken apart.
        let apart = if rest.is_empty() { " ".to_string() } else { format!("{first} {rest}") };
        let before = text.len();
        text = text.replace(special.as_str(), &apart);
        if text.len() == before {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn special_tokens_in_a_text_are_taken_apart() {
        let specials: Vec<String> = ["<|end|>", "<|e", "</s>"].map(String::from).into();
        assert_eq!(without_specials("a<|end|></s>b<|e", &specials), "a< |end|>< /s>b< |e");
        assert_eq!(without_specials("plain < text", &specials), "plain < text");
    }

    #[test]
    fn the_mean_needs_a_quarter_of_the_probability() {
        let mut numbers = vec![0.0; 101];
        (numbers[90], numbers[80]) = (0.2, 0.1);
        assert!((mean(&numbers).unwrap() - 86.666_666_666_666_67).abs() < 1e-9);
        numbers[90] = 0.1;
        assert_eq!(mean(&numbers), None);
    }
}
