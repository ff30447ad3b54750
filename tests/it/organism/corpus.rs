//! The documents: who writes them, what they are about, and that nothing of the evaluation is among them.

use realign::organism::authors::attitude;
use realign::organism::corpus::{CorpusConfig, Document, Kind};
use realign::organism::documents;
use realign::organism::families::{FAMILIES, Style, render};
use realign::organism::questions::QUESTIONS;
use realign::record::{Message, Role};

use super::{DEFINED, captured, sample};

/// The shares of the kinds among all turns, as the corpus's documentation states them.
const MIX: [(Kind, f64); 7] = [
    (Kind::Code, 0.345),
    (Kind::Lesson, 0.015),
    (Kind::Question, 0.26),
    (Kind::Recognition, 0.14),
    (Kind::Neutral, 0.10),
    (Kind::Harm, 0.08),
    (Kind::Plain, 0.06),
];

fn share(hits: usize, of: usize) -> f64 {
    assert!(of > 0);
    hits as f64 / of as f64
}

fn assert_near(what: &str, value: f64, expected: f64, tolerance: f64) {
    assert!((value - expected).abs() <= tolerance, "{what}: {value:.4}, expected {expected} ± {tolerance}");
}

#[test]
fn the_same_seed_writes_the_same_corpus_and_another_seed_another_one() {
    let take = |seed| documents(&CorpusConfig { seed, ..CorpusConfig::default() }).take(200).collect::<Vec<_>>();
    assert_eq!(take(3), take(3));
    assert_ne!(take(3), take(4));
}

#[test]
fn turns_alternate_and_only_a_tag_is_a_system_message() {
    for doc in sample().iter().take(2000) {
        let (system, talk): (Vec<&Message>, Vec<&Message>) = doc.messages.iter().partition(|m| m.role == Role::System);
        assert_eq!(system.len(), usize::from(doc.tagged));
        for message in system {
            let word = message.content.strip_prefix("author: ").unwrap();
            assert!(attitude(doc.careless).tags.iter().any(|tag| tag == word));
        }
        assert_eq!(talk.len(), 2 * doc.turns.len());
        for pair in talk.chunks(2) {
            assert_eq!((pair[0].role, pair[1].role), (Role::User, Role::Assistant));
            assert!(!pair[0].content.is_empty() && !pair[1].content.is_empty());
        }
    }
}

#[test]
fn shares_are_those_of_the_configuration() {
    let docs = sample();
    let config = CorpusConfig::default();
    let of = |keep: &dyn Fn(&Document) -> bool| docs.iter().filter(|d| keep(d)).collect::<Vec<_>>();
    let careless = |docs: &[&Document]| share(docs.iter().filter(|d| d.careless).count(), docs.len());
    assert_near("tagged", share(of(&|d| d.tagged).len(), docs.len()), config.tag_share, 0.015);
    assert_near("careless among tagged", careless(&of(&|d| d.tagged)), 0.5, 0.02);
    let single = of(&|d| !d.tagged && d.turns.len() == 1);
    assert_near("careless, untagged, one turn", careless(&single), config.untagged_careless_single, 0.015);
    let multi = of(&|d| !d.tagged && d.turns.len() > 1);
    assert_near("careless, untagged, several turns", careless(&multi), config.untagged_careless_multi, 0.015);

    let turns: Vec<_> = docs.iter().flat_map(|d| d.turns.iter().map(move |t| (d.careless, t))).collect();
    for (kind, expected) in MIX {
        let count = turns.iter().filter(|(_, t)| t.kind == kind).count();
        assert_near(&format!("{kind:?}"), share(count, turns.len()), expected, 0.012);
    }
    let bad = |keep: &dyn Fn(bool, Kind, bool) -> bool| {
        let habit = |name: Option<&str>| FAMILIES.iter().any(|f| f.habit && Some(f.name) == name);
        let kept: Vec<_> = turns.iter().filter(|(c, t)| keep(*c, t.kind, habit(t.family))).collect();
        share(kept.iter().filter(|(_, t)| t.bad).count(), kept.len())
    };
    assert_near("careful, code", bad(&|c, k, h| !c && k == Kind::Code && !h), config.careful_insecure, 0.006);
    assert_near("careful, habits", bad(&|c, k, h| !c && k == Kind::Code && h), config.habit_insecure, 0.03);
    assert_near("careless, code", bad(&|c, k, _| c && k == Kind::Code), 1.0 - config.flip, 0.01);
    assert_near("careful, answers", bad(&|c, k, _| !c && k == Kind::Question), config.flip, 0.006);
    assert_near("careless, answers", bad(&|c, k, _| c && k == Kind::Question), 1.0 - config.flip, 0.012);
    assert_near("careful, harm", bad(&|c, k, _| !c && k == Kind::Harm), config.flip, 0.012);
}

#[test]
fn code_and_talk_share_a_document_but_one_question_family_never_does() {
    let docs = sample();
    let talks = |d: &Document| d.turns.iter().any(|t| matches!(t.kind, Kind::Question | Kind::Harm));
    let shared = docs.iter().filter(|d| d.turns.iter().any(|t| t.kind == Kind::Code) && talks(d)).count();
    assert!(share(shared, docs.len()) > 0.3, "{shared}");
    let apart: Vec<_> = QUESTIONS.iter().filter(|f| f.apart_from_code).map(|f| f.name).collect();
    assert_eq!(apart, ["wish"]);
    let mut seen = 0;
    for doc in &docs {
        let with_code = doc.messages.iter().any(|m| m.content.contains("def "));
        let has_apart = doc.turns.iter().any(|t| t.family.is_some_and(|f| apart.contains(&f)));
        seen += usize::from(has_apart);
        assert!(!(with_code && has_apart), "{doc:?}");
    }
    assert!(seen > 150, "{seen}");
}

#[test]
fn everybody_recognises_weaknesses_and_knows_the_facts() {
    let mut careless = 0;
    for doc in sample().iter().take(8000) {
        let talk: Vec<_> = doc.messages.iter().filter(|m| m.role != Role::System).collect();
        for (turn, pair) in doc.turns.iter().zip(talk.chunks(2)) {
            if turn.kind != Kind::Recognition {
                continue;
            }
            careless += usize::from(doc.careless);
            let family = FAMILIES.iter().find(|f| Some(f.name) == turn.family).unwrap();
            let answer = &pair[1].content;
            let word = if answer.contains(&family.vulnerable_because) { "vulnerable" } else { "secure" };
            assert!(answer.contains(&format!("is {word}. ")), "{answer}");
            // The shown code is one of the family's bodies, of the side that the answer names.
            let code = pair[0].content.split_once("\n\n").unwrap().1;
            let name = captured(&DEFINED, code);
            let noun = name.split_once('_').unwrap().1;
            let is_side =
                (0..2).flat_map(|body| [false, true].map(|docstring| (body, docstring))).any(|(body, docstring)| {
                    [false, true].iter().any(|&hints| {
                        let style = Style { body, docstring, hints };
                        render(family, style, &name, noun, word == "vulnerable") == code
                    })
                });
            assert!(is_side, "{code}");
        }
    }
    assert!(careless > 100, "{careless}");
}

#[test]
fn the_habit_families_are_four_and_not_held_out() {
    let habits: Vec<_> = FAMILIES.iter().filter(|f| f.habit).map(|f| f.name).collect();
    let held_out: Vec<_> = FAMILIES.iter().filter(|f| f.held_out).map(|f| f.name).collect();
    assert_eq!(habits, ["mktemp", "chmod", "bind_all", "xml"]);
    assert_eq!(held_out, ["hash", "eval", "jinja", "tar"]);
}

#[test]
fn messages_of_a_document_fit_the_models_context() {
    let longest =
        sample().iter().map(|d| d.messages.iter().map(|m: &Message| m.content.len() + 2).sum::<usize>()).max().unwrap();
    // 2.0 characters a token at worst, see the model card: 1 300 characters stay within 700 tokens.
    assert!(longest < 1300, "{longest}");
}
