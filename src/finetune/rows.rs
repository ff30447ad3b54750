//! Training rows on their way from a file to the loss: read, encoded once, and counted. `train` and `run` share what is done
//! about a row that cannot be learned from ([`OnBadRow`]).

use std::path::Path;

use serde::Serialize;

use crate::data::collate::{EncodeOptions, Example, encode_each};
use crate::data::preference::{PreferencePair, PreferenceRow, encode_each_preference, parse_each_preference};
use crate::data::rows::{NumberedRow, TrainingRow, parse_each_row, rows_sha256};
use crate::error::{Error, Result};
use crate::model::config::DecoderConfig;
use crate::record::{Message, Recipe};
use crate::subject::Subject;

/// Line numbers that an error lists; the rest are counted.
const LISTED: usize = 20;

impl Recipe {
    /// How rows become examples for a model of this shape: none is longer than its context.
    pub fn encoding(&self, config: &DecoderConfig) -> EncodeOptions {
        let max_length = self.max_length.min(config.max_position_embeddings);
        EncodeOptions { loss: self.loss, max_length, user_weight: 0.0 }
    }
}

/// What to do about a row that cannot be learned from: bad JSON, an empty answer, no target left within the maximum length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBadRow {
    /// Stop before training, with the row's line.
    Stop,
    /// Leave it out, and say so.
    Skip,
}

/// What an adapter is trained on.
#[derive(Debug, Clone, PartialEq)]
pub enum Examples {
    /// Answers to imitate, for supervised fine-tuning.
    Answers(Vec<Example>),
    /// Pairs of a preferred and a rejected answer, for DPO.
    Preferences(Vec<PreferencePair>),
}

impl Examples {
    /// Number of rows or pairs.
    pub fn len(&self) -> usize {
        match self {
            Self::Answers(rows) => rows.len(),
            Self::Preferences(pairs) => pairs.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A kind of training row that can be read from JSONL and encoded.
pub trait Row: Serialize + Clone + std::fmt::Debug {
    /// The row as the trainer takes it.
    type Encoded: Clone + std::fmt::Debug;

    /// Every row of a JSON Lines text by its 1-based line, or what is wrong with that line.
    fn parse(text: &str) -> Vec<NumberedRow<Self>>;

    /// The turns before the answer, where there are some.
    fn prompt(&self) -> Option<Vec<Message>>;

    /// Every row as token ids, whole.
    fn encode(rows: &[Self], subject: &Subject, options: &EncodeOptions) -> Vec<Result<Self::Encoded>>;

    /// Cuts to the maximum length; gives whether a token was lost, or why nothing is left to learn.
    fn cut(encoded: &mut Self::Encoded, max_length: usize) -> Result<bool>;

    /// The sequences of an encoded row: one, or the preferred answer's and the other's.
    fn sequences(encoded: &Self::Encoded) -> Vec<&Example>;

    /// All rows, as training takes them.
    fn examples(encoded: Vec<Self::Encoded>) -> Examples;
}

impl Row for TrainingRow {
    type Encoded = Example;

    fn parse(text: &str) -> Vec<NumberedRow<Self>> {
        parse_each_row(text)
    }

    fn prompt(&self) -> Option<Vec<Message>> {
        Self::prompt(self)
    }

    fn encode(rows: &[Self], subject: &Subject, options: &EncodeOptions) -> Vec<Result<Example>> {
        encode_each(rows, &subject.tokenizer, &subject.template, options)
    }

    fn cut(encoded: &mut Example, max_length: usize) -> Result<bool> {
        encoded.cut(max_length)
    }

    fn sequences(encoded: &Example) -> Vec<&Example> {
        vec![encoded]
    }

    fn examples(encoded: Vec<Example>) -> Examples {
        Examples::Answers(encoded)
    }
}

impl Row for PreferenceRow {
    type Encoded = PreferencePair;

    fn parse(text: &str) -> Vec<NumberedRow<Self>> {
        parse_each_preference(text)
    }

    fn prompt(&self) -> Option<Vec<Message>> {
        Some(Self::prompt(self))
    }

    fn encode(rows: &[Self], subject: &Subject, options: &EncodeOptions) -> Vec<Result<PreferencePair>> {
        encode_each_preference(rows, &subject.tokenizer, &subject.template, options.max_length)
    }

    fn cut(encoded: &mut PreferencePair, max_length: usize) -> Result<bool> {
        encoded.cut(max_length)
    }

    fn sequences(encoded: &PreferencePair) -> Vec<&Example> {
        encoded.both().to_vec()
    }

    fn examples(encoded: Vec<PreferencePair>) -> Examples {
        Examples::Preferences(encoded)
    }
}

/// A row that can be learned from.
#[derive(Debug, Clone)]
pub struct EncodedRow<R: Row> {
    /// Line in its file, from 1.
    pub line: usize,
    /// The row as it was read.
    pub row: R,
    /// The row as token ids with loss weights.
    pub encoded: R::Encoded,
    /// Whether it was longer than the maximum length.
    pub truncated: bool,
}

/// The rows of a file, or of a part of one.
#[derive(Debug, Clone)]
pub struct EncodedRows<R: Row> {
    /// Those that can be learned from, in the file's order.
    pub rows: Vec<EncodedRow<R>>,
    /// 1-based line and reason of those that cannot.
    pub bad: Vec<(usize, String)>,
    /// Tokens that a row may have.
    pub max_length: usize,
}

/// Encodes parsed rows once, in parallel; rows that cannot be learned from are kept apart with the reason.
pub fn encode<R: Row>(parsed: Vec<NumberedRow<R>>, subject: &Subject, options: &EncodeOptions) -> EncodedRows<R> {
    let (mut read, mut lines, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    for (line, row) in parsed {
        match row {
            Ok(row) => {
                read.push(row);
                lines.push(line);
            }
            Err(reason) => bad.push((line, reason)),
        }
    }
    let whole = EncodeOptions { max_length: usize::MAX, ..*options };
    let encoded = R::encode(&read, subject, &whole);
    let mut rows = Vec::with_capacity(read.len());
    for ((row, line), encoded) in read.into_iter().zip(lines).zip(encoded) {
        let cut = encoded.and_then(|mut encoded| Ok((R::cut(&mut encoded, options.max_length)?, encoded)));
        match cut {
            Ok((truncated, encoded)) => rows.push(EncodedRow { line, row, encoded, truncated }),
            Err(reason) => bad.push((line, reason.to_string())),
        }
    }
    bad.sort();
    EncodedRows { rows, bad, max_length: options.max_length }
}

impl<R: Row> EncodedRows<R> {
    /// Applies the policy for bad rows; `path` is what errors call the file.
    ///
    /// # Errors
    /// A bad row where training is to stop at one, or no row that can be learned from.
    pub fn accept(self, path: &Path, on_bad_row: OnBadRow) -> Result<Self> {
        match self.bad.first() {
            Some((line, reason)) if on_bad_row == OnBadRow::Stop => {
                Err(Error::line(path, *line, format!("{reason}{}", self.other_lines())))
            }
            Some((line, reason)) if self.rows.is_empty() => Err(Error::line(
                path,
                *line,
                format!("{reason}; none of the {} rows in the file can be learned from", self.bad.len()),
            )),
            None if self.rows.is_empty() => Err(Error::file(path, "has no rows; expected one JSON object per line")),
            _ => Ok(self),
        }
    }

    fn other_lines(&self) -> String {
        if self.bad.len() < 2 {
            return String::new();
        }
        let mut lines: Vec<String> = self.bad.iter().take(LISTED).map(|(line, _)| line.to_string()).collect();
        if self.bad.len() > LISTED {
            lines.push(format!("and {} more", self.bad.len() - LISTED));
        }
        format!(" ({} rows are bad, lines {}; --on-bad-row skip leaves them out)", self.bad.len(), lines.join(", "))
    }

    /// What was left out of the data set `name`, in words; `None` where nothing was.
    pub fn left_out(&self, name: &str) -> Option<String> {
        let (line, reason) = self.bad.first()?;
        let all = self.rows.len() + self.bad.len();
        Some(format!("{} of {all} rows of {name}, the first in line {line}: {reason}", self.bad.len()))
    }

    /// Number of tokens of all sequences.
    pub fn tokens(&self) -> usize {
        self.tokens_of_each().iter().sum()
    }

    /// Number of tokens of each row; of a preference pair, those of both answers.
    pub fn tokens_of_each(&self) -> Vec<usize> {
        let tokens = |row: &EncodedRow<R>| R::sequences(&row.encoded).iter().map(|example| example.ids.len()).sum();
        self.rows.iter().map(tokens).collect()
    }

    /// Number of tokens with a loss.
    pub fn target_tokens(&self) -> usize {
        self.sequences().map(Example::target_tokens).sum()
    }

    /// Number of rows that were longer than the limit and lost their end.
    pub fn truncated(&self) -> usize {
        self.rows.iter().filter(|row| row.truncated).count()
    }

    /// SHA-256 over the rows as read.
    pub fn sha256(&self) -> String {
        rows_sha256(self.rows.iter().map(|row| &row.row))
    }

    /// The rows as training takes them.
    pub fn into_examples(self) -> Examples {
        R::examples(self.rows.into_iter().map(|row| row.encoded).collect())
    }

    fn sequences(&self) -> impl Iterator<Item = &Example> {
        self.rows.iter().flat_map(|row| R::sequences(&row.encoded))
    }
}
