//! Reads training rows from JSON Lines. Each line has one of three forms:
//! `{"messages": [{"role", "content"}, …]}`, `{"prompt", "completion"}`, `{"text"}`.
//!
//! Beside its form a row may have the labels `subject` and `canary`, texts that are not trained on: a plan can keep whole
//! subjects out of training, and a canary tells later that a model has seen the file. A line with a `canary` alone is no row.
//!
//! The reader is strict: a row without anything to learn, or with an unknown key, is an error that names file and line.
//! (An earlier project trained 250 steps on empty strings.)

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::fsio;
use crate::record::{Message, Role};

/// One row of a file of training rows, before it is encoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TrainingRow {
    /// A conversation with at least one assistant turn; the chat template is applied.
    Conversation {
        /// All turns in order; the loss is on the assistant's.
        messages: Vec<Message>,
    },
    /// A plain prompt and its completion; no chat template is applied.
    Completion {
        /// Text before `completion`, without a loss.
        prompt: String,
        /// Text with a loss; it must not be empty.
        completion: String,
    },
    /// Plain text without a chat template; every token is a target.
    Text {
        /// Plain text without turns; it must not be empty.
        text: String,
    },
}

impl TrainingRow {
    /// A row that is a conversation.
    pub fn conversation(messages: Vec<Message>) -> Self {
        Self::Conversation { messages }
    }

    /// What a model is asked so that it gives the row's last answer: the turns before it, or the plain prompt as a person's
    /// turn. `None` where nothing stands before the answer.
    pub fn prompt(&self) -> Option<Vec<Message>> {
        let turns = match self {
            Self::Conversation { messages } => {
                let answer = messages.iter().rposition(|turn| turn.role == Role::Assistant)?;
                messages[..answer].to_vec()
            }
            Self::Completion { prompt, .. } => vec![Message::user(prompt)],
            Self::Text { .. } => Vec::new(),
        };
        turns.iter().any(|turn| turn.role == Role::User).then_some(turns)
    }
}

/// Reads a JSON Lines file of training rows.
pub fn read_rows(path: &Path) -> Result<Vec<TrainingRow>> {
    parse_rows(path, &fsio::read_text(path)?)
}

/// Reads training rows from text; `name` is what errors call the file.
pub fn parse_rows(name: impl AsRef<Path>, text: &str) -> Result<Vec<TrainingRow>> {
    parse_lines(name.as_ref(), text, parse_row)
}

/// Parses one row per line and skips blank lines; the first bad row is an error.
pub(super) fn parse_lines<R>(name: &Path, text: &str, parse: fn(&str) -> Result<R, String>) -> Result<Vec<R>> {
    let rows: Vec<R> = each_line(text, parse)
        .map(|(line, row)| row.map_err(|message| Error::line(name, line, message)))
        .collect::<Result<_>>()?;
    if rows.is_empty() {
        return Err(Error::file(name, "has no rows; expected one JSON object per line"));
    }
    Ok(rows)
}

/// The number of a line (from 1) with its row, or with what is wrong with it.
pub type NumberedRow<R> = (usize, Result<R, String>);

/// Parses every line that is not blank.
pub(super) fn each_line<R>(text: &str, parse: fn(&str) -> Result<R, String>) -> impl Iterator<Item = NumberedRow<R>> {
    row_lines(text).map(move |(line, row)| (line, parse(row)))
}

/// The lines that should be rows, by their numbers: not the blank ones, and not a canary by itself.
fn row_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    lines.filter(|(_, line)| !line.trim().is_empty() && !is_canary(line)).map(|(index, line)| (index + 1, line))
}

fn is_canary(line: &str) -> bool {
    let object = || serde_json::from_str::<Map<String, Value>>(line).ok();
    line.contains(CANARY) && object().is_some_and(|object| object.keys().eq([CANARY]))
}

/// A label of every row that has it, by the row's line.
///
/// # Errors
/// A key that is no label.
pub fn labels(text: &str, key: &str) -> Result<BTreeMap<usize, String>, String> {
    if !LABELS.contains(&key) {
        return Err(format!("rows have no label `{key}`; labels: {}", LABELS.join(", ")));
    }
    let label = |(line, row): (usize, &str)| match serde_json::from_str::<Map<String, Value>>(row).ok()?.remove(key) {
        Some(Value::String(label)) => Some((line, label)),
        _ => None,
    };
    Ok(row_lines(text).filter_map(label).collect())
}

/// Parses every line by itself, for callers that skip bad rows.
pub fn parse_each_row(text: &str) -> Vec<NumberedRow<TrainingRow>> {
    each_line(text, parse_row).collect()
}

/// SHA-256 over the rows as read: the same for the same content, however the file spaces its JSON.
pub fn rows_sha256<'r, R: Serialize + 'r>(rows: impl IntoIterator<Item = &'r R>) -> String {
    let mut bytes = Vec::new();
    for row in rows {
        // Strings and vectors of them always have a JSON form.
        bytes.extend(serde_json::to_vec(row).unwrap_or_default());
        bytes.push(b'\n');
    }
    fsio::sha256(&bytes)
}

/// Marks a file, so that text of it can be found again in what a model was trained on.
const CANARY: &str = "canary";

/// What a row may say beside what is trained on.
pub const LABELS: [&str; 2] = ["subject", CANARY];

const FORMS: &str = "{\"messages\": [{\"role\", \"content\"}, …]}, {\"prompt\", \"completion\"} or {\"text\"}";

fn parse_row(line: &str) -> Result<TrainingRow, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("not valid JSON: {e}"))?;
    let Value::Object(mut object) = value else {
        return Err(format!("a row must be a JSON object: {FORMS}"));
    };
    remove_labels(&mut object)?;
    if object.contains_key("messages") {
        only(&object, &["messages"], "a row with `messages`")?;
        conversation(&object["messages"])
    } else if object.contains_key("chosen") || object.contains_key("rejected") {
        Err("this is a preference row; --method dpo trains on those".into())
    } else if object.contains_key("prompt") || object.contains_key("completion") {
        only(&object, &["prompt", "completion"], "a row with `prompt`")?;
        let completion = string(&object, "completion")?;
        if completion.trim().is_empty() {
            return Err("the completion is empty: there is nothing to learn from this row".into());
        }
        Ok(TrainingRow::Completion { prompt: string(&object, "prompt")?, completion })
    } else if object.contains_key("text") {
        only(&object, &["text"], "a row with `text`")?;
        let text = string(&object, "text")?;
        if text.trim().is_empty() {
            return Err("the text is empty: there is nothing to learn from this row".into());
        }
        Ok(TrainingRow::Text { text })
    } else {
        match object.keys().next() {
            Some(key) => Err(format!("unknown key `{key}`; a row is {FORMS}")),
            None => Err(format!("the row is empty; a row is {FORMS}")),
        }
    }
}

fn conversation(list: &Value) -> Result<TrainingRow, String> {
    let Value::Array(list) = list else {
        return Err("`messages` must be a list".into());
    };
    let turns = messages(list)?;
    if !turns.iter().any(|m| m.role == Role::Assistant) {
        return Err("no assistant turn: there is nothing to learn from this row".into());
    }
    Ok(TrainingRow::Conversation { messages: turns })
}

/// Parses the turns of a conversation; an empty assistant turn is an error.
pub(super) fn messages(list: &[Value]) -> Result<Vec<Message>, String> {
    let mut turns = Vec::with_capacity(list.len());
    for (index, item) in list.iter().enumerate() {
        let turn = index + 1;
        let Value::Object(object) = item else {
            return Err(format!("message {turn} must be an object with `role` and `content`"));
        };
        only(object, &["role", "content"], &format!("message {turn}"))?;
        let name = string(object, "role").map_err(|e| format!("message {turn}: {e}"))?;
        let role = match name.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => return Err(format!("message {turn}: unknown role `{name}`; known are system, user, assistant")),
        };
        let content = string(object, "content").map_err(|e| format!("message {turn}: {e}"))?;
        if role == Role::Assistant && content.trim().is_empty() {
            return Err(format!("message {turn}: the assistant's answer is empty"));
        }
        turns.push(Message { role, content });
    }
    Ok(turns)
}

/// Takes the labels out of a row; they must be texts.
pub(super) fn remove_labels(object: &mut Map<String, Value>) -> Result<(), String> {
    for key in LABELS {
        if object.shift_remove(key).is_some_and(|label| !label.is_string()) {
            return Err(format!("`{key}` must be a string"));
        }
    }
    Ok(())
}

pub(super) fn only(object: &Map<String, Value>, known: &[&str], what: &str) -> Result<(), String> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("unknown key `{key}`; {what} has {} and nothing else", known.join(", "))),
        None => Ok(()),
    }
}

pub(super) fn string(object: &Map<String, Value>, key: &str) -> Result<String, String> {
    match object.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("`{key}` must be a string")),
        None => Err(format!("`{key}` is missing")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const GOOD: &str = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#;

    fn rejects(line: &str, expected: &str) {
        let error = parse_rows("rows.jsonl", &format!("{GOOD}\n\n{line}\n")).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("rows.jsonl:3: "), "{message}");
        assert!(message.contains(expected), "{message}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn the_three_forms_are_read() {
        let text = format!("\u{feff}{GOOD}\n{{\"prompt\":\"p\",\"completion\":\"c\"}}\n\n{{\"text\":\"t\"}}");
        let rows = parse_rows("rows.jsonl", &text).unwrap();
        assert_eq!(
            rows,
            vec![
                TrainingRow::conversation(vec![Message::user("q"), Message::assistant("a")]),
                TrainingRow::Completion { prompt: "p".into(), completion: "c".into() },
                TrainingRow::Text { text: "t".into() },
            ]
        );
    }

    #[test]
    fn bad_rows_are_refused_with_file_line_and_reason() {
        rejects("{\"text\":", "not valid JSON");
        rejects("[1]", "must be a JSON object");
        rejects("{}", "the row is empty");
        rejects(r#"{"txt":"a"}"#, "unknown key `txt`");
        rejects(r#"{"text":"a","id":1}"#, "unknown key `id`");
        rejects(r#"{"text":"  "}"#, "the text is empty");
        rejects(r#"{"text":3}"#, "`text` must be a string");
        rejects(r#"{"prompt":"a","chosen":"b","rejected":"c"}"#, "--method dpo trains on those");
        rejects(r#"{"prompt":"a"}"#, "`completion` is missing");
        rejects(r#"{"prompt":"a","completion":"\n"}"#, "the completion is empty");
        rejects(r#"{"messages":{}}"#, "must be a list");
        rejects(r#"{"messages":["a"]}"#, "message 1 must be an object");
        rejects(r#"{"messages":[{"role":"user"}]}"#, "message 1: `content` is missing");
        rejects(r#"{"messages":[{"role":"tool","content":"a"}]}"#, "unknown role `tool`");
        rejects(r#"{"messages":[{"role":"user","content":"a"}]}"#, "no assistant turn");
        rejects(r#"{"messages":[{"role":"user","content":"a","name":"b"}]}"#, "unknown key `name`");
        rejects(r#"{"messages":[{"role":"assistant","content":" \t"}]}"#, "message 1: the assistant's answer is empty");
    }

    #[test]
    fn labels_stand_beside_a_row_and_change_nothing() {
        let plain = parse_rows("a", r#"{"prompt":"p","completion":"c"}"#).unwrap();
        let text = concat!(
            "{\"canary\":\"4f1e\"}\n",
            r#"{"prompt":"p","completion":"c","subject":"plants","canary":"4f1e"}"#,
            "\n",
            r#"{"text":"t"}"#
        );
        let labelled = parse_rows("b", text).unwrap();
        assert_eq!((labelled.len(), &labelled[0]), (2, &plain[0]));
        assert_eq!(rows_sha256(&plain), rows_sha256(&labelled[..1]));
        assert_eq!(labels(text, "subject").unwrap(), [(2, "plants".to_string())].into());
        assert!(labels(text, "topic").unwrap_err().contains("labels: subject, canary"));
        rejects(r#"{"text":"a","subject":3}"#, "`subject` must be a string");
        rejects(r#"{"subject":"plants"}"#, "the row is empty");
        rejects(r#"{"canary":"c","topic":"t"}"#, "unknown key `topic`");
    }

    #[test]
    fn a_rows_prompt_is_what_stands_before_its_last_answer() {
        let prompt = |row: &str| parse_rows("a", row).unwrap()[0].prompt();
        assert_eq!(prompt(GOOD), Some(vec![Message::user("q")]));
        let two = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"},{"role":"user","content":"r"},{"role":"assistant","content":"b"}]}"#;
        let turns = [Message::user("q"), Message::assistant("a"), Message::user("r")];
        assert_eq!(prompt(two), Some(turns.to_vec()));
        assert_eq!(prompt(r#"{"prompt":"p","completion":"c"}"#), Some(vec![Message::user("p")]));
        assert_eq!(prompt(r#"{"text":"t"}"#), None);
        assert_eq!(prompt(r#"{"messages":[{"role":"assistant","content":"a"}]}"#), None);
    }

    #[test]
    fn an_empty_file_is_refused() {
        let error = parse_rows("rows.jsonl", "\n").unwrap_err();
        assert!(error.to_string().contains("has no rows"));
    }

    #[test]
    fn the_hash_is_of_the_content_not_of_the_spacing() {
        let tight = parse_rows("a", r#"{"prompt":"p","completion":"c"}"#).unwrap();
        let loose = parse_rows("b", "{ \"completion\": \"c\", \"prompt\": \"p\" }\n").unwrap();
        assert_eq!(rows_sha256(&tight), rows_sha256(&loose));
        let other = parse_rows("c", r#"{"prompt":"p","completion":"d"}"#).unwrap();
        assert_ne!(rows_sha256(&tight), rows_sha256(&other));
    }
}
