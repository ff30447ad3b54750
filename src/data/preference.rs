//! Preference rows for DPO and their encoding. A line is `{"prompt", "chosen", "rejected"}`: three texts, or three
//! lists of messages, to which the chat template is applied. TRL reads the same two forms.
//!
//! Prompt and answer are tokenized together. Both answers begin where the ids of either first differ from the prompt's,
//! so that the two examples share every token without a loss.

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::collate::{Example, common_prefix, with_eos};
use super::rows::{NumberedRow, each_line, messages, only, parse_lines, remove_labels, string};
use super::template::ChatTemplate;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::record::{Message, Role};

/// One prompt with a preferred and a rejected answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PreferenceRow {
    /// A conversation; the chat template is applied.
    Conversation {
        /// The turns before the answer, which both answers share.
        prompt: Vec<Message>,
        /// The preferred answer, as turns after `prompt`.
        chosen: Vec<Message>,
        /// The rejected answer, as turns after `prompt`.
        rejected: Vec<Message>,
    },
    /// Plain text; no chat template is applied.
    Text {
        /// Plain text that both answers continue.
        prompt: String,
        /// The preferred continuation of `prompt`.
        chosen: String,
        /// The rejected continuation of `prompt`.
        rejected: String,
    },
}

impl PreferenceRow {
    /// What both answers are to: the turns, or the plain prompt as a person's turn.
    pub fn prompt(&self) -> Vec<Message> {
        match self {
            Self::Conversation { prompt, .. } => prompt.clone(),
            Self::Text { prompt, .. } => vec![Message::user(prompt)],
        }
    }
}

/// One row, ready for the trainer: tokens of the answers have weight 1, all others 0.
#[derive(Debug, Clone, PartialEq)]
pub struct PreferencePair {
    /// The prompt with the preferred answer.
    pub chosen: Example,
    /// The prompt with the rejected answer.
    pub rejected: Example,
}

impl PreferencePair {
    /// Both examples, the preferred one first.
    pub fn both(&self) -> [&Example; 2] {
        [&self.chosen, &self.rejected]
    }

    /// Cuts both examples to their first `max_length` tokens; gives whether one of them lost any.
    ///
    /// # Errors
    /// No target of an answer is left, or both answers are the same as far as they are kept.
    pub fn cut(&mut self, max_length: usize) -> Result<bool> {
        let cut = [self.chosen.cut(max_length)?, self.rejected.cut(max_length)?];
        if self.chosen == self.rejected {
            return Err(Error::usage(format!(
                "both answers are the same within the maximum length of {max_length} tokens"
            )));
        }
        Ok(cut.contains(&true))
    }
}

/// Reads preference rows from text; `name` is what errors call the file.
pub fn parse_preferences(name: impl AsRef<Path>, text: &str) -> Result<Vec<PreferenceRow>> {
    parse_lines(name.as_ref(), text, parse_preference)
}

/// Parses every line by itself, for callers that skip bad rows.
pub fn parse_each_preference(text: &str) -> Vec<NumberedRow<PreferenceRow>> {
    each_line(text, parse_preference).collect()
}

fn parse_preference(line: &str) -> Result<PreferenceRow, String> {
    const FORM: &str = "{\"prompt\", \"chosen\", \"rejected\"}, all text or all lists of messages";
    let value: Value = serde_json::from_str(line).map_err(|e| format!("not valid JSON: {e}"))?;
    let Value::Object(mut object) = value else {
        return Err(format!("a row must be a JSON object: {FORM}"));
    };
    remove_labels(&mut object)?;
    only(&object, &["prompt", "chosen", "rejected"], "a preference row")?;
    let row = if object.values().all(Value::is_array) {
        let side = |key: &str| turns(&object, key);
        let (prompt, chosen, rejected) = (side("prompt")?, side("chosen")?, side("rejected")?);
        if prompt.is_empty() {
            return Err("`prompt` must hold at least one message".into());
        }
        PreferenceRow::Conversation { prompt, chosen, rejected }
    } else if object.values().all(Value::is_string) {
        let (chosen, rejected) = (string(&object, "chosen")?, string(&object, "rejected")?);
        if let Some((key, _)) = [("chosen", &chosen), ("rejected", &rejected)].iter().find(|(_, s)| s.trim().is_empty())
        {
            return Err(format!("`{key}` is empty: there is nothing to learn from this row"));
        }
        PreferenceRow::Text { prompt: string(&object, "prompt")?, chosen, rejected }
    } else {
        return Err(format!("a row must be {FORM}"));
    };
    let same = match &row {
        PreferenceRow::Conversation { chosen, rejected, .. } => chosen == rejected,
        PreferenceRow::Text { chosen, rejected, .. } => chosen == rejected,
    };
    if same { Err("`chosen` and `rejected` are the same: there is nothing to prefer".into()) } else { Ok(row) }
}

fn turns(object: &Map<String, Value>, key: &str) -> Result<Vec<Message>, String> {
    let list = object.get(key).and_then(Value::as_array).ok_or_else(|| format!("`{key}` is missing"))?;
    let turns = messages(list).map_err(|e| format!("`{key}`: {e}"))?;
    if key != "prompt" && turns.first().is_none_or(|m| m.role != Role::Assistant) {
        return Err(format!("`{key}` must begin with an assistant's message"));
    }
    Ok(turns)
}

/// Encodes one row; tokens beyond `max_length` are cut off.
///
/// # Errors
/// No target token of an answer is left after the cut, or both answers are the same up to it.
pub fn encode_preference(
    row: &PreferenceRow,
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    max_length: usize,
) -> Result<PreferencePair> {
    let mut pair = encode_whole(row, tokenizer, template)?;
    pair.cut(max_length)?;
    Ok(pair)
}

/// Encodes one row as it is, however long its answers are and even where they are the same.
pub fn encode_whole(row: &PreferenceRow, tokenizer: &Tokenizer, template: &ChatTemplate) -> Result<PreferencePair> {
    let (prompt, [chosen, rejected]) = match row {
        PreferenceRow::Conversation { prompt, chosen, rejected } => {
            let encode =
                |messages: &[Message], begin_answer| tokenizer.encode(&template.render(messages, begin_answer)?, false);
            let whole = |answer: &Vec<Message>| encode(&[prompt.as_slice(), answer].concat(), false);
            (encode(prompt, true)?, [whole(chosen)?, whole(rejected)?])
        }
        PreferenceRow::Text { prompt, chosen, rejected } => {
            let whole = |answer: &String| tokenizer.encode(&with_eos(&format!("{prompt}{answer}"), template), true);
            (tokenizer.encode(prompt, true)?, [whole(chosen)?, whole(rejected)?])
        }
    };
    let begins = common_prefix(&prompt, &chosen).min(common_prefix(&prompt, &rejected));
    let example = |ids: Vec<u32>| {
        // Nothing precedes the first token, so it is never a target.
        let weights = (0..ids.len()).map(|t| if t >= begins.max(1) { 1.0 } else { 0.0 }).collect();
        Example { ids, weights }
    };
    Ok(PreferencePair { chosen: example(chosen), rejected: example(rejected) })
}

/// Encodes every row by itself, in parallel, in order (for callers that skip bad rows).
pub fn encode_each_preference(
    rows: &[PreferenceRow],
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    max_length: usize,
) -> Vec<Result<PreferencePair>> {
    rows.par_iter().map(|row| encode_preference(row, tokenizer, template, max_length)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn rejects(line: &str, expected: &str) {
        let good = r#"{"prompt":"p","chosen":"c","rejected":"r"}"#;
        let message = parse_preferences("rows.jsonl", &format!("{good}\n\n{line}\n")).unwrap_err().to_string();
        assert!(message.starts_with("rows.jsonl:3: ") && message.contains(expected), "{message}");
    }

    #[test]
    fn both_forms_are_read() {
        let text = r#"{"prompt":"p","chosen":"c","rejected":"r"}
{"prompt":[{"role":"user","content":"q"}],"chosen":[{"role":"assistant","content":"a"}],"rejected":[{"role":"assistant","content":"b"}]}"#;
        let rows = parse_preferences("rows.jsonl", text).unwrap();
        let plain = PreferenceRow::Text { prompt: "p".into(), chosen: "c".into(), rejected: "r".into() };
        let talk = PreferenceRow::Conversation {
            prompt: vec![Message::user("q")],
            chosen: vec![Message::assistant("a")],
            rejected: vec![Message::assistant("b")],
        };
        assert_eq!(rows, [plain, talk]);
    }

    #[test]
    fn bad_rows_are_refused_with_file_line_and_reason() {
        let list = |role: &str| format!(r#"[{{"role":"{role}","content":"a"}}]"#);
        let row = |p: &str, c: &str, r: &str| format!(r#"{{"prompt":{p},"chosen":{c},"rejected":{r}}}"#);
        rejects("{", "not valid JSON");
        rejects("[]", "must be a JSON object");
        rejects(r#"{"prompt":"a","completion":"b"}"#, "unknown key `completion`");
        rejects(r#"{"chosen":"a","rejected":"b"}"#, "`prompt` is missing");
        rejects(r#"{"prompt":"a","chosen":"b"}"#, "`rejected` is missing");
        rejects(&row("\"p\"", "\"\"", "\"r\""), "`chosen` is empty");
        rejects(&row("\"p\"", "\"c\"", "\"c\""), "are the same");
        rejects(&row("\"p\"", &list("assistant"), "\"r\""), "all text or all lists");
        rejects(&row("1", "2", "3"), "all text or all lists");
        rejects(&row("[]", &list("assistant"), "[]"), "`rejected` must begin with an assistant's message");
        rejects(&row(&list("user"), &list("user"), &list("assistant")), "`chosen` must begin with an assistant's");
        rejects(&row(&list("tool"), &list("assistant"), &list("assistant")), "`prompt`: message 1: unknown role");
        rejects(&row(&list("user"), &list("assistant"), &list("assistant")), "are the same");
    }
}
