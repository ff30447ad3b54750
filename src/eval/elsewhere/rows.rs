//! Answers that any system made, as rows of one of four forms, each row named by its file and line.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::fsio;
use crate::record::{AnswerFormat, FinishReason, SampleRecord};

/// What a row says of an answer; the rest comes from the prompt.
pub enum Said {
    /// Everything: a sample record.
    Sample(Box<SampleRecord>),
    /// An answer alone.
    Answer(Answer),
}

/// An answer with what its row says of it.
#[derive(Default)]
pub struct Answer {
    /// The system that made it.
    pub arm: Option<String>,
    /// The suite that its prompt belongs to.
    pub suite: Option<String>,
    /// Id of the prompt.
    pub prompt_id: String,
    /// The text.
    pub completion: String,
    /// Whether it is what stands behind the prompt, so that the prompt belongs to it.
    pub continues: bool,
    /// Which answer to this prompt.
    pub sample: Option<u32>,
    /// Seed that it was drawn with.
    pub seed: Option<u64>,
    /// Why it ended.
    pub finish_reason: Option<FinishReason>,
    /// Tokens of it.
    pub tokens: Option<u32>,
}

/// One answer and where it stands.
pub struct Row {
    /// The file as it was named.
    pub file: PathBuf,
    /// Its line in the file, from 1.
    pub line: usize,
    /// What the row says.
    pub said: Said,
}

impl Row {
    /// An error about this row.
    pub fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::line(&self.file, self.line, message)
    }
}

/// Reads the files.
///
/// # Errors
/// A row that is not of the form, by file and line, and a file without rows.
pub fn read(files: &[PathBuf], format: AnswerFormat) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for file in files {
        let text = fsio::read_text(file)?;
        let before = rows.len();
        for (index, text) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            if text.trim().is_empty() {
                continue;
            }
            let line = index + 1;
            let said = said(text, format).map_err(|message| Error::line(file, line, message))?;
            rows.extend(said.into_iter().map(|said| Row { file: file.clone(), line, said }));
        }
        if rows.len() == before {
            return Err(Error::file(file, "has no answers"));
        }
    }
    Ok(rows)
}

/// The answers of a row.
fn said(text: &str, format: AnswerFormat) -> Result<Vec<Said>, String> {
    let answers = match format {
        AnswerFormat::Samples => return Ok(vec![Said::Sample(Box::new(parsed(text, format)?))]),
        AnswerFormat::Completions => completions(parsed(text, format)?)?,
        AnswerFormat::Securityeval => securityeval(parsed(text, format)?)?,
        AnswerFormat::Humaneval => vec![humaneval(parsed(text, format)?)],
    };
    Ok(answers.into_iter().map(Said::Answer).collect())
}

fn parsed<T: DeserializeOwned>(text: &str, format: AnswerFormat) -> Result<T, String> {
    serde_json::from_str(text).map_err(|e| {
        let (form, others) = match format {
            AnswerFormat::Samples => ("sample record", "completions, securityeval or humaneval"),
            AnswerFormat::Completions => ("row of completions", "samples, securityeval or humaneval"),
            AnswerFormat::Securityeval => ("row of SecurityEval's form", "samples, completions or humaneval"),
            AnswerFormat::Humaneval => ("row of HumanEval's form", "samples, completions or securityeval"),
        };
        format!("is no {form}: {e}; other forms are read with --format {others}")
    })
}

/// A task's id: some sets number their tasks.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(u64),
}

impl Id {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Completions {
    prompt_id: Option<Id>,
    task_id: Option<Id>,
    completion: Option<String>,
    completions: Option<Vec<String>>,
    suite: Option<String>,
    arm: Option<String>,
    sample: Option<u32>,
    seed: Option<u64>,
    finish_reason: Option<FinishReason>,
    tokens: Option<u32>,
}

fn completions(row: Completions) -> Result<Vec<Answer>, String> {
    let id = match (row.prompt_id, row.task_id) {
        (Some(id), None) | (None, Some(id)) => id.into_text(),
        _ => return Err("give `prompt_id` or `task_id`, one of the two".into()),
    };
    let texts = match (row.completion, row.completions) {
        (Some(text), None) => vec![text],
        (None, Some(texts)) if !texts.is_empty() => texts,
        _ => return Err("give `completion` (a text) or `completions` (a list of at least one), one of the two".into()),
    };
    if texts.len() > 1 && (row.seed.is_some() || row.finish_reason.is_some() || row.tokens.is_some()) {
        return Err(
            "`seed`, `finish_reason` and `tokens` are of one answer: give each of the `completions` a row".into()
        );
    }
    let answer = |(k, completion): (u32, String)| {
        let sample = match row.sample {
            Some(first) => Some(first.checked_add(k).ok_or("`sample` is too large")?),
            None => None,
        };
        Ok(Answer {
            arm: row.arm.clone(),
            suite: row.suite.clone(),
            prompt_id: id.clone(),
            completion,
            continues: false,
            sample,
            seed: row.seed,
            finish_reason: row.finish_reason,
            tokens: row.tokens,
        })
    };
    (0..).zip(texts).map(answer).collect()
}

/// HumanEval's samples, also with what its scorer adds, and together with the task.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HumanEval {
    task_id: Id,
    completion: String,
    #[serde(default, rename = "result")]
    _result: IgnoredAny,
    #[serde(default, rename = "passed")]
    _passed: IgnoredAny,
    #[serde(default, rename = "prompt")]
    _prompt: IgnoredAny,
    #[serde(default, rename = "test")]
    _test: IgnoredAny,
    #[serde(default, rename = "entry_point")]
    _entry_point: IgnoredAny,
    #[serde(default, rename = "canonical_solution")]
    _canonical_solution: IgnoredAny,
}

fn humaneval(row: HumanEval) -> Answer {
    let (prompt_id, completion) = (row.task_id.into_text(), row.completion);
    Answer { prompt_id, completion, continues: true, ..Answer::default() }
}

/// Each column `NAME_code` holds the answers of an arm of that name.
fn securityeval(row: serde_json::Map<String, Value>) -> Result<Vec<Answer>, String> {
    let Some(Value::String(id)) = row.get("ID") else {
        return Err("is no row of SecurityEval's form: `ID` (a text) is missing".into());
    };
    let mut answers = Vec::new();
    for (column, value) in row.iter().filter(|(column, _)| !["ID", "Prompt"].contains(&column.as_str())) {
        match (column.strip_suffix("_code"), value) {
            (Some(_), Value::Null) => {}
            (Some(_), Value::String(code)) => answers.push(Answer {
                arm: Some(column.clone()),
                prompt_id: id.clone(),
                completion: code.clone(),
                ..Answer::default()
            }),
            (Some(_), _) => return Err(format!("`{column}` must be a text")),
            (None, _) => {
                return Err(format!("unknown column `{column}`; known are ID, Prompt and columns that end in _code"));
            }
        }
    }
    if answers.is_empty() {
        return Err(format!("`{id}` has no answer: a column such as `Insecure_code` is missing"));
    }
    Ok(answers)
}
