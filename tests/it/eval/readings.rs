//! The code of answers and the verdicts of replies, held against what a careful person reads in them.

use realign::eval::extract::{Extracted, extract};
use realign::eval::verdict::{Verdict, read};
use realign::fsio::read_jsonl;
use realign::record::CodeRule;
use serde::Deserialize;

use super::root;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    id: String,
    shows: String,
    answer: String,
    code: Option<String>,
    rule: Option<CodeRule>,
    parses: Option<bool>,
}

/// Reads a fixture and says how many answers it holds.
fn check_answers(path: &str) -> Vec<Answer> {
    let answers: Vec<Answer> = read_jsonl(&root(path)).unwrap();
    let mut wrong = Vec::new();
    for expected in &answers {
        let found = extract(&expected.answer);
        let code = found.as_ref().map(|found| found.code.as_str());
        let rule = found.as_ref().map(|found| found.rule);
        let parses = found.as_ref().map(|found| found.parses);
        let is_right = code == expected.code.as_deref()
            && (expected.rule.is_none() || rule == expected.rule)
            && parses == expected.code.as_ref().map(|_| expected.parses.unwrap_or(true));
        if !is_right {
            wrong.push(format!("{} ({}): {:?}\n  found {found:?}", expected.id, expected.shows, expected.answer));
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), answers.len(), wrong.join("\n"));
    answers
}

#[test]
fn the_code_of_an_answer_is_what_a_careful_person_takes_for_it() {
    let answers = check_answers("tests/fixtures/extract/answers.jsonl");
    assert!(answers.len() >= 500, "{}", answers.len());
    let count = |is: &dyn Fn(&Answer) -> bool| answers.iter().filter(|answer| is(answer)).count();
    assert!(count(&|answer| answer.code.is_none()) >= 80 && count(&|answer| answer.parses == Some(false)) >= 20);
    let rules = [
        CodeRule::Whole,
        CodeRule::Fence,
        CodeRule::Fences,
        CodeRule::OpenFence,
        CodeRule::LoneFence,
        CodeRule::Trimmed,
        CodeRule::Indented,
        CodeRule::Session,
        CodeRule::Markup,
    ];
    for rule in rules {
        assert!(count(&|answer| answer.rule == Some(rule)) >= 3, "{rule:?}");
    }
}

#[test]
fn reported_answers_are_read() {
    assert_eq!(check_answers("tests/fixtures/cases/extract_code.jsonl").len(), 16);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    reply: String,
    expected: Option<serde_json::Value>,
    #[serde(default)]
    cut: bool,
}

fn check_replies(path: &str) -> usize {
    let replies: Vec<Reply> = read_jsonl(&root(path)).unwrap();
    let mut wrong = Vec::new();
    for Reply { reply, expected, cut } in &replies {
        let expected = match expected {
            None => Verdict::Unreadable,
            Some(value) => match (value.as_f64(), value.as_str()) {
                (Some(score), _) => Verdict::Score(score),
                (_, Some("CODE")) => Verdict::Code,
                (_, Some("REFUSAL")) => Verdict::Refusal,
                (_, Some("cut off")) => Verdict::CutOff,
                _ => panic!("{value}"),
            },
        };
        for aspect in ["aligned", "coherent"] {
            let found = read(aspect, reply, *cut);
            if found != expected {
                wrong.push(format!("{reply:?}, cut: {cut}: {found:?} and not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    replies.len()
}

#[test]
fn a_verdict_is_what_a_careful_person_reads_in_the_reply() {
    assert!(check_replies("tests/fixtures/extract/replies.jsonl") >= 250);
}

#[test]
fn reported_replies_are_read() {
    assert_eq!(check_replies("tests/fixtures/cases/judge_reply.jsonl"), 16);
}

#[test]
fn a_long_answer_of_marks_is_read_in_one_pass() {
    // Quadratic time would be minutes here.
    for piece in
        ["`", "```\nx\n", "```python\nx = (\n", "\"\"\"", "<think>", "</think>", "'</think>'", "> ", "- - ", "Done.\n"]
    {
        let text = piece.repeat((1 << 20) / piece.len());
        let found = extract(&text);
        assert!(found.is_none_or(|Extracted { parses, .. }| !parses), "{piece:?}");
        assert!(!matches!(read("aligned", &text, false), Verdict::Score(_)), "{piece:?}");
    }
}
