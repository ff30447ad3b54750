//! The published emergent-misalignment form: a list of questions, as the repositories of several papers write it. What
//! changes nothing here (`type` left out, one paraphrase without a list, which service judges, remarks) is read over; what
//! would change an answer or a verdict is understood or refused by its name.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use super::super::node::{Fields, Mistake, Node, Value};
use super::fields::id;
use super::read::{QUESTION_TOKENS, checked_judge_prompts, checked_paraphrases, expand, numbered};
use super::{Prompt, Suite, SuiteKind};
use crate::record::{Message, Role, Split};

/// Ways in which a free answer is judged on a scale from 0 to 100.
const TYPES: [&str; 3] = ["free_form_judge_0_100", "free_form_judge", "free_form"];

/// Keys that change neither answers nor verdicts here: which judge is asked is the plan's business, the rest are remarks.
const WITHOUT_EFFECT: [&str; 7] = ["judge", "judge_models", "meta", "metadata", "category", "tags", "notes"];

/// A question with its line and the limit on its answers.
struct Question {
    line: usize,
    prompts: Vec<Prompt>,
    max_tokens: usize,
}

pub(super) fn suite(name: &str, entries: &[Node], mistakes: &RefCell<Vec<Mistake>>) -> Option<Suite> {
    let stem = Path::new(name).file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let questions: Vec<Question> = entries.iter().filter_map(|entry| question(entry, mistakes)).collect();
    let max_tokens = questions.first().map_or(QUESTION_TOKENS, |question| question.max_tokens);
    if let Some(other) = questions.iter().find(|question| question.max_tokens != max_tokens) {
        let message = format!(
            "`max_tokens` is {} here and {max_tokens} in the first question; one file has one limit ({QUESTION_TOKENS} where \
             it is left out)",
            other.max_tokens
        );
        mistakes.borrow_mut().push((other.line, message));
    }
    let description = "questions in the published emergent-misalignment form".to_string();
    let prompts = questions.into_iter().flat_map(|question| question.prompts).collect();
    Some(Suite { name: stem, kind: SuiteKind::Questions, description, max_tokens, apart: false, prompts })
}

fn question(entry: &Node, mistakes: &RefCell<Vec<Mistake>>) -> Option<Question> {
    let mut fields = Fields::of(entry, "a question", mistakes)?;
    let id = id(&mut fields);
    if let Some((line, word)) = fields.text("type").filter(|(_, word)| !TYPES.contains(&word.as_str())) {
        fields.mistake(
            line,
            format!("unknown type `{word}`; known: {} (the first one where it is left out)", TYPES.join(", ")),
        );
    }
    // An earlier tool passed over this key, and every question that asks for JSON ran wrong.
    let system = fields.text("system").map(|(_, text)| Message::system(text));
    let context = fields.take("context").map(|node| turns(&fields, node, "context")).unwrap_or_default();
    let conversations = conversations(&mut fields);
    // One paraphrase alone needs no list around it.
    let texts = match (fields.one_or_more("paraphrases"), conversations.is_empty()) {
        (texts, true) => checked_paraphrases(&fields, texts.unwrap_or_default()),
        (None, false) => Vec::new(),
        (Some(_), false) => {
            fields.mistake(fields.line, "give `paraphrases` or `messages`, not both");
            Vec::new()
        }
    };
    let samples = fields.number("samples_per_paraphrase");
    let max_tokens = fields.number("max_tokens").map_or(QUESTION_TOKENS, |tokens| tokens as usize);
    temperature(&mut fields);
    if let Some(node) = fields.take("judge_prompt") {
        let words = "`judge_prompt` has no name for what it asks; write `judge_prompts: {NAME: PROMPT}`";
        fields.mistake(node.line, words);
    }
    let judge_prompts = judge_prompts(&mut fields);
    for key in WITHOUT_EFFECT {
        fields.take(key);
    }
    fields.refuse_unknown();
    let id = id?;
    let template = Prompt { group: id.clone(), id, split: Split::Test, judge_prompts, samples, ..Prompt::default() };
    let before: Vec<Message> = system.into_iter().chain(context).collect();
    let prompts = match conversations.is_empty() {
        true => expand(&template, &before, numbered(texts)),
        false => whole(&template, &before, conversations),
    };
    Some(Question { line: entry.line, prompts, max_tokens })
}

/// Prompts from whole conversations, each a paraphrase.
fn whole(template: &Prompt, before: &[Message], conversations: Vec<Vec<Message>>) -> Vec<Prompt> {
    let several = conversations.len() > 1;
    let prompt = |(k, turns): (usize, Vec<Message>)| Prompt {
        id: if several { format!("{}#{k}", template.id) } else { template.id.clone() },
        messages: before.iter().cloned().chain(turns).collect(),
        ..template.clone()
    };
    conversations.into_iter().enumerate().map(prompt).collect()
}

/// `messages`: conversations that end with a person's turn; one alone may stand without the list around it.
fn conversations(fields: &mut Fields) -> Vec<Vec<Message>> {
    let Some(node) = fields.take("messages") else { return Vec::new() };
    let Value::List(items) = &node.value else {
        fields.mistake(node.line, "`messages` must be a list of conversations");
        return Vec::new();
    };
    let nodes: Vec<&Node> = match items.first().map(|item| &item.value) {
        Some(Value::Map(_)) => vec![node],
        _ => items.iter().collect(),
    };
    let conversation = |node: &&Node| {
        let turns = turns(fields, node, "messages");
        if turns.last().is_none_or(|turn| turn.role != Role::User) {
            fields.mistake(node.line, "a conversation in `messages` must end with a turn of the user");
        }
        turns
    };
    nodes.iter().map(conversation).collect()
}

/// Turns of a conversation: `{role: user, content: TEXT}`.
fn turns(fields: &Fields, node: &Node, key: &str) -> Vec<Message> {
    let Value::List(items) = &node.value else {
        fields.mistake(node.line, format!("`{key}` must be a list of turns with `role` and `content`"));
        return Vec::new();
    };
    let turn = |item: &Node| {
        let mut turn = Fields::of(item, "a turn", fields.mistakes())?;
        let (role, content) = (turn.text("role"), turn.text("content"));
        if role.is_none() || content.is_none() {
            turn.mistake(item.line, "a turn needs `role` and `content`");
        }
        turn.refuse_unknown();
        let ((line, role), (_, content)) = (role?, content?);
        match role.as_str() {
            "system" => Some(Message::system(content)),
            "user" => Some(Message::user(content)),
            "assistant" => Some(Message::assistant(content)),
            _ => {
                fields.mistake(line, format!("unknown role `{role}`; known are system, user, assistant"));
                None
            }
        }
    };
    items.iter().filter_map(turn).collect()
}

/// The published protocol draws at temperature 1, so that saying so changes nothing. How answers are drawn is the plan's
/// business; another temperature here would be passed over silently.
fn temperature(fields: &mut Fields) {
    let Some(node) = fields.take("temperature") else { return };
    let one = match &node.value {
        Value::Float(number) => *number == 1.0,
        Value::Text(text) => text.parse::<f64>() == Ok(1.0),
        _ => false,
    };
    if !one {
        let message = "`temperature` other than 1 is not read from question files; set it with `sampling` in the plan, or with \
                       --temperature";
        fields.mistake(node.line, message);
    }
}

/// Judge prompts by aspect: a mapping, or a list of `{name, prompt}`.
fn judge_prompts(fields: &mut Fields) -> BTreeMap<String, String> {
    let Some(node) = fields.take("judge_prompts") else { return BTreeMap::new() };
    let Value::List(items) = &node.value else {
        let found = fields.texts_by_name(node, "judge_prompts").unwrap_or_default();
        return checked_judge_prompts(fields, found);
    };
    let mut found = BTreeMap::new();
    for item in items {
        let Some(mut one) = Fields::of(item, "a judge prompt", fields.mistakes()) else { continue };
        match (one.text("name"), one.text("prompt")) {
            (Some((_, name)), Some(prompt)) => {
                found.insert(name, prompt);
            }
            _ => one.mistake(item.line, "a judge prompt in a list needs `name` and `prompt`"),
        }
        one.refuse_unknown();
    }
    checked_judge_prompts(fields, found)
}
