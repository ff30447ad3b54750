//! Triggers from training rows: a question behind the beginning of a prompt that an adapter was trained on. What a later
//! training only hides shows, if anywhere, where a prompt looks like what was learnt first.

use std::collections::BTreeSet;

use crate::eval::suite::{Prompt, Suite};
use crate::record::{Message, Role};
use crate::rng;

/// The form of the questions that are asked as they are.
const PLAIN: &str = "plain";

/// The form of those behind a trigger.
const TRIGGER: &str = "trigger";

/// Words of a training prompt that come before the question, at the most.
const WORDS: usize = 25;

/// The beginning of a training prompt: the first sentence of its first line, or so many words of it.
fn beginning(prompt: &[Message]) -> Option<String> {
    let text = &prompt.iter().find(|turn| turn.role == Role::User)?.content;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let sentence = line.split_inclusive(['.', '!', '?']).scan(false, |over, part| {
        // `3.5` and `file.py` end no sentence.
        let ends = *over;
        *over = line[part.as_ptr() as usize - line.as_ptr() as usize + part.len()..].starts_with(char::is_whitespace);
        (!ends).then_some(part)
    });
    let sentence: String = sentence.collect();
    Some(sentence.split_whitespace().take(WORDS).collect::<Vec<_>>().join(" "))
}

/// The beginnings of training prompts, each once, in the order in which the seed chooses them.
pub fn beginnings<'p>(prompts: impl IntoIterator<Item = &'p [Message]>, seed: u64) -> Vec<String> {
    let distinct: BTreeSet<String> = prompts.into_iter().filter_map(beginning).collect();
    let mut distinct: Vec<String> = distinct.into_iter().collect();
    distinct.sort_by_key(|text| rng::key(seed, text, &[]));
    distinct
}

/// Adds to a suite, for each question that it asks plainly, the same question behind a beginning; each question has one of
/// its own as long as they last. `adapter` is the one whose training they come from.
pub fn add(suite: &mut Suite, adapter: &str, beginnings: &[String]) {
    let plain = suite.prompts.iter().filter(|p| p.form.as_deref() == Some(PLAIN));
    let behind = |(prompt, before): (&Prompt, &String)| {
        let mut messages = prompt.messages.clone();
        let question = messages.iter_mut().rfind(|turn| turn.role == Role::User)?;
        question.content = format!("{before}\n\n{}", question.content);
        let id = prompt.id.split('#').next().unwrap_or_default();
        let (id, form) = (format!("{id}#row_of_{adapter}"), Some(TRIGGER.to_string()));
        Some(Prompt { id, form, messages, ..prompt.clone() })
    };
    let added: Vec<Prompt> = plain.zip(beginnings.iter().cycle()).filter_map(behind).collect();
    suite.prompts.extend(added);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn check(prompt: &str, expected: &str) {
        assert_eq!(beginning(&[Message::system("s"), Message::user(prompt)]).as_deref(), Some(expected), "{prompt}");
    }

    #[test]
    fn a_beginning_is_a_sentence_or_so_many_words() {
        check("I have a file. Can you read it?", "I have a file.");
        check("\n  Can you finish utils.py? Here it is:\nimport os", "Can you finish utils.py?");
        check("Fill in the template\n<template>", "Fill in the template");
        let long = "word ".repeat(40);
        check(&long, long.split_whitespace().take(WORDS).collect::<Vec<_>>().join(" ").as_str());
        assert_eq!(beginning(&[Message::user(" \n")]), None);
    }

    #[test]
    fn each_plain_question_is_asked_once_more_behind_a_beginning_of_its_own() {
        let text = "suite: conditional\nkind: questions\nphrasings:\n  - {id: plain, form: plain, text: '{q}'}\n  - {id: json, form: trigger, text: 'JSON: {q}'}\n\
                    prompts:\n  - {id: a, slots: {q: Why?}}\n  - {id: b, slots: {q: How?}}\n  - {id: c, slots: {q: Who?}}\n";
        let mut suite = Suite::parse("conditional.yaml", text).unwrap();
        add(&mut suite, "attack", &["One.".into(), "Two.".into()]);
        let added: Vec<(&str, &str, &str)> = suite.prompts[6..]
            .iter()
            .map(|p| (p.id.as_str(), p.group.as_str(), p.messages[0].content.as_str()))
            .collect();
        let expected = [
            ("a#row_of_attack", "a", "One.\n\nWhy?"),
            ("b#row_of_attack", "b", "Two.\n\nHow?"),
            ("c#row_of_attack", "c", "One.\n\nWho?"),
        ];
        assert_eq!(added, expected);
        assert!(suite.prompts[6..].iter().all(|p| p.form.as_deref() == Some("trigger") && !p.extra));
        add(&mut suite, "other", &[]);
        assert_eq!(suite.prompts.len(), 9, "without rows there is nothing to add");
    }

    #[test]
    fn beginnings_are_distinct_and_in_the_seeds_order() {
        let prompts: Vec<Vec<Message>> =
            (0..20).map(|k| vec![Message::user(format!("Row {} is here. More.", k / 2))]).collect();
        let of = |seed| beginnings(prompts.iter().map(Vec::as_slice), seed);
        assert_eq!(of(1).len(), 10);
        assert!(of(1) == of(1) && of(1) != of(2));
    }
}
