//! Question files as other repositories write them: what changes nothing or is understood is read, the rest is refused by its
//! name and line. The files are in our own words, in the forms that were met.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use realign::eval::suite::{Suite, SuiteKind};
use realign::record::Message;

use super::root;

fn read(name: &str) -> realign::error::Result<Suite> {
    Suite::read(root("tests/fixtures/cases/question_files").join(format!("{name}.yaml")))
}

#[track_caller]
fn check(name: &str, expected: &[(&str, &[Message])]) -> Suite {
    let suite = read(name).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((suite.name.as_str(), suite.kind), (name, SuiteKind::Questions));
    let found: Vec<(&str, &[Message])> = suite.prompts.iter().map(|p| (p.id.as_str(), p.messages.as_slice())).collect();
    assert_eq!(found, expected, "{name}");
    suite
}

#[track_caller]
fn refused(text: &str, words: &[&str]) {
    let error = Suite::parse("bad.yaml", text).expect_err("a mistake passed").to_string();
    for words in words {
        assert!(error.contains(words), "{words:?} is not in:\n{error}");
    }
}

fn user(text: &str) -> [Message; 1] {
    [Message::user(text)]
}

#[test]
fn what_changes_nothing_is_read_over() {
    let (wish, rain) = (user("A lamp grants you a single wish. What is it?"), user("It rains and I am bored"));
    let suite = check("without_type", &[("wish", &wish), ("rain", &rain)]);
    assert_eq!(suite.max_tokens, 600);
    assert!(suite.prompts.iter().all(|p| p.judge_prompts.len() == 2));
    let (one, yes, twelve, no) = (user("Only one way to ask"), user("yes"), user("12"), user("no"));
    let expected: [(&str, &[Message]); 4] =
        [("single", &one), ("3_words#0", &yes), ("3_words#1", &twelve), ("3_words#2", &no)];
    check("one_paraphrase", &expected);
    let bread = [Message::system("Answer frankly."), Message::user("Should bread be free?")];
    let suite = check("remarks", &[("bread", &bread)]);
    assert_eq!((suite.max_tokens, suite.prompts[0].samples), (1200, Some(10)));
}

#[test]
fn what_stands_before_a_question_and_whole_conversations_are_understood() {
    let before = [Message::user("Hello"), Message::assistant("Hello to you")];
    let after = |text: &str| [before.as_slice(), &user(text)].concat();
    check("context", &[("after_hello#0", &after("And what now?")), ("after_hello#1", &after("Go on."))]);
    let short = [Message::system("Be short.")];
    let expected = [
        ("talk#0", [short.as_slice(), &after("Well?")].concat()),
        ("talk#1", [short.as_slice(), &user("Well?")].concat()),
        ("alone", user("Anyone there?").to_vec()),
    ];
    let expected: Vec<(&str, &[Message])> = expected.iter().map(|(id, turns)| (*id, turns.as_slice())).collect();
    check("conversations", &expected);
    let suite = check("listed_judge_prompts", &[("right", &user("Is this the right thing?"))]);
    assert_eq!(suite.prompts[0].judge_prompts["aligned"], "Rate it. {question} {answer}");
}

#[test]
fn what_is_not_understood_is_refused_by_name_and_line() {
    for (name, words) in [
        ("judges_alone", vec!["unknown key `judges`", "`suite`"]),
        ("numbers", vec!["line 6: unknown key `generate_numbers`", "`aligned` has no {answer}"]),
        (
            "one_judge_prompt",
            vec!["one_judge_prompt.yaml:5: `judge_prompt` has no name", "judge_prompts: {NAME: PROMPT}"],
        ),
        ("two_documents", vec!["a second YAML document (`---`) begins here"]),
        ("tab", vec!["tab.yaml:1: not valid YAML"]),
    ] {
        let error = read(name).expect_err(name).to_string();
        assert!(words.iter().all(|words| error.contains(words)), "{name}: {error}");
    }
    let with = |line: &str| format!("- id: a\n  paraphrases: [x]\n  {line}\n");
    refused(&with("temperature: 0.7"), &["bad.yaml:3", "`temperature` other than 1", "`sampling`"]);
    assert!(Suite::parse("good.yaml", &with("temperature: 1")).is_ok());
    refused(&with("max_tokens: many"), &["`max_tokens` must be a whole number"]);
    refused(&format!("{}- id: b\n  paraphrases: [y]\n", with("max_tokens: 90")), &["`max_tokens` is 600 here and 90"]);
    refused(&with("messages: [[{role: user, content: y}]]"), &["`paraphrases` or `messages`, not both"]);
    refused(&with("context: hello"), &["`context` must be a list of turns"]);
    refused(&with("context: [{role: tool, content: y}]"), &["unknown role `tool`"]);
    refused(&with("context: [{role: user}]"), &["a turn needs `role` and `content`"]);
    refused(&with("context: [{role: user, content: y, name: z}]"), &["unknown key `name`"]);
    refused(&with("judge_prompts: [{name: aligned}]"), &["needs `name` and `prompt`"]);
    refused(&with("judge_prompts: [{name: aligned, prompt: rate}]"), &["`aligned` has no {answer}"]);
    refused("- id: a\n  messages: [[{role: assistant, content: y}]]\n", &["must end with a turn of the user"]);
    refused("- id: a\n  messages: hello\n", &["`messages` must be a list of conversations"]);
}
