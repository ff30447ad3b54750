//! Pairs: a question with two given answers, `chosen` (aligned, or true) and `rejected` (misaligned, or false). Nothing is
//! generated; a model's log-probabilities of the two answers are compared.
//!
//! In our YAML an entry has `question`; in JSON Lines the rows are those of preference data: `prompt`, `chosen` and
//! `rejected` as text, or as lists of messages, with or without `id` and `group`.

use std::cell::RefCell;

use serde::Deserialize;

use super::super::node::{Fields, Mistake, Node, Value};
use super::fields::{id, split};
use super::{AnswerPair, Prompt};
use crate::record::{Message, Role, Split};

/// The prompts of a YAML suite, which may have one `system` line for all.
pub(super) fn of_yaml(mut fields: Fields, mistakes: &RefCell<Vec<Mistake>>) -> Vec<Prompt> {
    let system = fields.text("system").map(|(_, text)| text);
    let prompts = match fields.take("prompts") {
        Some(Node { value: Value::List(entries), .. }) => {
            entries.iter().filter_map(|entry| entry_of(entry, system.as_deref(), mistakes)).collect()
        }
        Some(node) => {
            fields.mistake(node.line, "`prompts` must be a list");
            Vec::new()
        }
        None => {
            fields.mistake(0, "`prompts` is missing");
            Vec::new()
        }
    };
    fields.refuse_unknown();
    prompts
}

fn entry_of(entry: &Node, system: Option<&str>, mistakes: &RefCell<Vec<Mistake>>) -> Option<Prompt> {
    let mut fields = Fields::of(entry, "a prompt", mistakes)?;
    let id = id(&mut fields);
    let group = fields.text("group").map(|(_, text)| text);
    let family = fields.text("family").map(|(_, text)| text);
    let form = fields.text("form").map(|(_, text)| text);
    let split = split(&mut fields);
    let own_system = fields.text("system").map(|(_, text)| text);
    let mut required = |key: &'static str| {
        let found = fields.text(key).map(|(_, text)| text);
        if found.is_none() {
            fields.mistake(fields.line, format!("`{key}` is missing"));
        }
        found
    };
    let (question, chosen, rejected) = (required("question"), required("chosen"), required("rejected"));
    let line = fields.line;
    let checked = match (question, chosen, rejected) {
        (Some(question), Some(chosen), Some(rejected)) => {
            let system = own_system.as_deref().or(system).map(Message::system);
            let messages: Vec<Message> = system.into_iter().chain([Message::user(question)]).collect();
            match checked("question", &messages, AnswerPair { chosen, rejected }) {
                Ok(pair) => Some((messages, pair)),
                Err(why) => {
                    fields.mistake(line, why);
                    None
                }
            }
        }
        _ => None,
    };
    fields.refuse_unknown();
    let ((messages, pair), id) = (checked?, id?);
    let group = group.unwrap_or_else(|| id.clone());
    Some(Prompt { family, form, split, ..prompt(id, group, messages, pair) })
}

/// A row of JSON Lines.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: Option<String>,
    group: Option<String>,
    prompt: Turns,
    chosen: Turns,
    rejected: Turns,
}

/// A text, or the turns of a conversation.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a text or a list of messages {role, content} was expected")]
enum Turns {
    Text(String),
    Messages(Vec<Message>),
}

/// The prompt in a row; a row without an id takes its line's number.
pub(super) fn of_row(row: serde_json::Value, line: usize) -> Result<Prompt, String> {
    let row: Row = serde_json::from_value(row).map_err(|e| {
        format!("not a pair {{\"prompt\", \"chosen\", \"rejected\"}}, `id` and `group` at most beside: {e}")
    })?;
    let messages = match row.prompt {
        Turns::Text(question) => vec![Message::user(question)],
        Turns::Messages(messages) => messages,
    };
    let answer = |key: &str, turns: Turns| match turns {
        Turns::Text(text) => Ok(text),
        Turns::Messages(turns) => match <[Message; 1]>::try_from(turns) {
            Ok([Message { role: Role::Assistant, content }]) => Ok(content),
            _ => Err(format!("`{key}` must be a text, or a single message of the assistant")),
        },
    };
    let pair = AnswerPair { chosen: answer("chosen", row.chosen)?, rejected: answer("rejected", row.rejected)? };
    let pair = checked("prompt", &messages, pair)?;
    let id = row.id.unwrap_or_else(|| line.to_string());
    if id.trim().is_empty() || id.contains('#') {
        return Err("the id must not be empty, and it must be without `#`".into());
    }
    let group = row.group.unwrap_or_else(|| id.clone());
    Ok(prompt(id, group, messages, pair))
}

/// A pair in which there is something to compare; `question` is the key that holds the conversation.
fn checked(question: &str, messages: &[Message], pair: AnswerPair) -> Result<AnswerPair, String> {
    if messages.last().is_none_or(|last| last.role != Role::User || last.content.trim().is_empty()) {
        return Err(format!("`{question}` must end with a question of the user"));
    }
    for (key, answer) in [("chosen", &pair.chosen), ("rejected", &pair.rejected)] {
        if answer.trim().is_empty() {
            return Err(format!("`{key}` is empty"));
        }
    }
    match pair.chosen == pair.rejected {
        true => Err("`chosen` and `rejected` are the same: there is nothing to compare".into()),
        false => Ok(pair),
    }
}

fn prompt(id: String, group: String, messages: Vec<Message>, pair: AnswerPair) -> Prompt {
    Prompt { id, group, split: Split::Test, messages, pair: Some(pair), ..Prompt::default() }
}
