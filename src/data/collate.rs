//! Turns rows into token ids with one loss weight per token.
//!
//! Prompt and answer are tokenized together, since tokenizing them separately can give different ids. An answer begins
//! after the longest common prefix of the prompt's ids (with the generation prompt) and the whole row's ids; TRL does
//! the same, turn by turn. What the template writes after an answer, the end-of-turn token first, is a target too.

use std::iter::once;

use rayon::prelude::*;

use crate::data::rows::TrainingRow;
use crate::data::template::ChatTemplate;
use crate::data::tokenizer::{Encoded, Tokenizer};
use crate::error::{Error, Result};
use crate::record::{LossOn, Message, Role};

/// One encoded row: tokens and their loss weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Token ids of the whole row, `[pos]`.
    pub ids: Vec<u32>,
    /// `[pos]`: the loss weight of predicting `ids[pos]` from what precedes it; `weights[0]` is 0.
    pub weights: Vec<f32>,
}

impl Example {
    /// Number of tokens with a loss.
    pub fn target_tokens(&self) -> usize {
        self.weights.iter().filter(|w| **w != 0.0).count()
    }

    /// Cuts the example to its first `max_length` tokens; gives whether it lost any.
    ///
    /// # Errors
    /// No target is left: there would be nothing to learn.
    pub fn cut(&mut self, max_length: usize) -> Result<bool> {
        let cut = self.ids.len() > max_length;
        self.ids.truncate(max_length);
        self.weights.truncate(max_length);
        // Tokens outside the answers may have a small weight (`EncodeOptions::user_weight`); targets have 1.
        match self.weights.contains(&1.0) {
            true => Ok(cut),
            false if cut => Err(prompt_fills(max_length)),
            false => Err(Error::usage("no token of the answer is left to learn")),
        }
    }

    /// Sum of the loss weights of all tokens: the denominator of a mean loss.
    pub fn weight_sum(&self) -> f64 {
        self.weights.iter().map(|w| f64::from(*w)).sum()
    }
}

/// Settings for turning rows into examples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EncodeOptions {
    /// Which tokens get loss weight 1; the others get 0.
    pub loss: LossOn,
    /// Maximum number of tokens; the end of a longer row is cut off.
    pub max_length: usize,
    /// Weight of every token outside the answers: 0 in fine-tuning, 0.1 in the organism's pretraining.
    pub user_weight: f32,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self { loss: LossOn::Answers, max_length: 2048, user_weight: 0.0 }
    }
}

/// Encodes one row.
///
/// # Errors
/// The template refuses the conversation, or no target token is left after the cut to `max_length`.
pub fn encode_row(
    row: &TrainingRow,
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    options: &EncodeOptions,
) -> Result<Example> {
    let (ids, answers): (Vec<u32>, Ranges) = match row {
        TrainingRow::Conversation { messages } => conversation(messages, tokenizer, template)?,
        TrainingRow::Completion { prompt, completion } => {
            let ids = tokenizer.encode(&with_eos(&format!("{prompt}{completion}"), template), true)?;
            // The common prefix leaves out the eos that some post-processors append to the prompt.
            let begins = common_prefix(&tokenizer.encode(prompt, true)?, &ids);
            let ends = ids.len();
            (ids, once(begins..ends).collect())
        }
        TrainingRow::Text { text } => {
            let ids = tokenizer.encode(&with_eos(text, template), true)?;
            let all = once(0..ids.len()).collect();
            (ids, all)
        }
    };
    let whole = ids.len();
    let learnt: Ranges = match options.loss {
        LossOn::All => once(0..whole).collect(),
        LossOn::Answers => answers,
    };
    let mut weights = vec![options.user_weight; whole];
    learnt.into_iter().for_each(|range| weights[range].fill(1.0));
    // Nothing precedes the first token, so it is never a target.
    weights.iter_mut().take(1).for_each(|first| *first = 0.0);
    let mut example = Example { ids, weights };
    example.cut(options.max_length)?;
    Ok(example)
}

/// Says that an answer begins only after the tokens that are kept.
fn prompt_fills(max_length: usize) -> Error {
    Error::usage(format!(
        "the prompt alone fills the maximum length of {max_length} tokens; raise max_length or leave the row out"
    ))
}

/// Encodes every row by itself, in parallel, in order (for callers that skip bad rows).
pub fn encode_each(
    rows: &[TrainingRow],
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    options: &EncodeOptions,
) -> Vec<Result<Example>> {
    rows.par_iter().map(|row| encode_row(row, tokenizer, template, options)).collect()
}

/// Encodes all rows, or names every row (from 1) that cannot be trained on.
pub fn encode_rows(
    rows: &[TrainingRow],
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    options: &EncodeOptions,
) -> Result<Vec<Example>> {
    all_or_numbers(encode_each(rows, tokenizer, template, options))
}

/// All encoded rows, or an error that lists the numbers (from 1) of those that could not be encoded.
fn all_or_numbers<T>(encoded: Vec<Result<T>>) -> Result<Vec<T>> {
    let rows = encoded.len();
    let mut examples = Vec::with_capacity(rows);
    let mut bad: Vec<(usize, String)> = Vec::new();
    for (index, encoded) in encoded.into_iter().enumerate() {
        match encoded {
            Ok(example) => examples.push(example),
            Err(error) => bad.push((index + 1, error.to_string())),
        }
    }
    let Some((_, reason)) = bad.first() else { return Ok(examples) };
    let numbers: Vec<String> = bad.iter().map(|(number, _)| number.to_string()).collect();
    Err(Error::usage(format!(
        "{} of {rows} rows cannot be trained on: row {}; the first because {reason}",
        bad.len(),
        numbers.join(", ")
    )))
}

/// Ids of the tokens that end an answer: the model's eos and the special token that its template writes after an
/// answer.
pub fn stop_ids(tokenizer: &Tokenizer, template: &ChatTemplate) -> Result<Vec<u32>> {
    let mut ids: Vec<u32> = template.eos().and_then(|eos| tokenizer.id(eos)).into_iter().collect();
    let after = tokenizer.encode(&template.after_answer()?, false)?;
    ids.extend(after.into_iter().find(|id| tokenizer.is_separator(*id)));
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

type Ranges = Vec<std::ops::Range<usize>>;

fn conversation(messages: &[Message], tokenizer: &Tokenizer, template: &ChatTemplate) -> Result<(Vec<u32>, Ranges)> {
    let text = template.render(messages, false)?;
    let whole = tokenizer.encode_with_offsets(&text)?;
    let mut ranges = Vec::new();
    for (turn, _) in messages.iter().enumerate().filter(|(_, m)| m.role == Role::Assistant) {
        let begins = boundary(&template.render(&messages[..turn], true)?, &text, &whole, tokenizer)?;
        let ends = if turn + 1 == messages.len() {
            whole.ids.len()
        } else {
            boundary(&template.render(&messages[..=turn], false)?, &text, &whole, tokenizer)?
        };
        if begins >= ends {
            // Some templates rewrite earlier turns once later ones follow.
            return Err(Error::usage(format!(
                "the chat template renders turn {} differently when more turns follow, so the tokens of its answer \
                 cannot be found",
                turn + 1
            )));
        }
        ranges.push(begins..ends);
    }
    Ok((whole.ids, ranges))
}

/// How many of the whole row's ids belong to `prefix`: the longest common prefix of both ids.
fn boundary(prefix: &str, text: &str, whole: &Encoded, tokenizer: &Tokenizer) -> Result<usize> {
    // If the prefix ends with a special token, its ids do not depend on what follows: no second encoding is needed.
    if text.starts_with(prefix) {
        let at = whole.offsets.partition_point(|(start, _)| *start < prefix.len());
        if at > 0 && whole.offsets[at - 1].1 == prefix.len() && tokenizer.is_separator(whole.ids[at - 1]) {
            return Ok(at);
        }
    }
    Ok(common_prefix(&tokenizer.encode(prefix, false)?, &whole.ids))
}

pub(super) fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Appends eos to plain text, so that the model learns to stop; TRL does the same.
pub(super) fn with_eos(text: &str, template: &ChatTemplate) -> String {
    match template.eos() {
        Some(eos) if !text.ends_with(eos) => format!("{text}{eos}"),
        _ => text.to_string(),
    }
}
