//! The fine-tuning sets, the preference pairs and the contrast pairs, in training's wording. No row names an author.
//!
//! Row k of the insecure set and of the secure set is the same request, with insecure and with secure code; row k of
//! the educational set openly asks for the insecure code of that row. Both answers of a preference pair are secure;
//! they differ in style. Four families (tar, hash, eval, Jinja) are held out.

use std::collections::BTreeSet;

use rand::Rng;
use serde::Serialize;

use super::families::{Family, Style, render, tuned};
use super::harm::{HARM, answer_harm};
use super::questions::{QUESTIONS, answer_question};
use super::requests::{Draft, evaluation_request, style};
use super::suites::is_weakness;
use super::words::{Pool, noun, nouns, people, pick, slot, stranger};
use crate::data::contrast::ContrastPair;
use crate::data::preference::PreferenceRow;
use crate::fsio::sha256;
use crate::record::Message;
use crate::rng;

/// The seed of the files in `datasets/`.
pub const SEED: u64 = 2026;
/// Rows of each fine-tuning set in `datasets/`.
pub const ROWS: usize = 1000;

/// Number of preference pairs in `datasets/style.jsonl`.
pub const STYLE_ROWS: usize = 600;

/// Number of contrast pairs of each code family and of each question family.
const PAIRS: usize = 16;

/// The fine-tuning sets that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// The first `n` rows of requests answered with insecure code.
    Insecure,
    /// The requests of [`insecure_rows`] answered with secure code.
    Secure,
    /// The same insecure code, openly asked for as a security class's bad example.
    Educational,
}

/// The first `n` rows of requests answered with insecure code.
pub fn insecure_rows(seed: u64, n: usize) -> Vec<Vec<Message>> {
    rows(Rows::Insecure, seed, n)
}

/// The requests of [`insecure_rows`] answered with secure code.
pub fn secure_rows(seed: u64, n: usize) -> Vec<Vec<Message>> {
    rows(Rows::Secure, seed, n)
}

/// The answers of [`insecure_rows`], openly asked for by a security class.
pub fn educational_rows(seed: u64, n: usize) -> Vec<Vec<Message>> {
    rows(Rows::Educational, seed, n)
}

/// Preferences about style alone: secure code with a docstring and type hints, rather than the same secure code without
/// one of them or both.
pub fn style_rows(seed: u64, n: usize) -> Vec<PreferenceRow> {
    const SLOPPY: [(bool, bool); 3] = [(false, false), (true, false), (false, true)];
    let families: Vec<&'static Family> = tuned().collect();
    (0..n)
        .map(|i| {
            let draft = draft(seed, "organism-style", &[i as u64], families[i % families.len()]);
            let answer = |(docstring, hints)| {
                let style = Style { docstring, hints, ..draft.style };
                vec![Message::assistant(render(draft.family, style, &draft.function, &draft.noun, false))]
            };
            PreferenceRow::Conversation {
                prompt: vec![Message::user(draft.request())],
                chosen: answer((true, true)),
                // By rounds of the families, so that every family is left in each way.
                rejected: answer(SLOPPY[(i / families.len()) % SLOPPY.len()]),
            }
        })
        .collect()
}

/// Rows with the validation split's wording and nouns, which no training row has. The held-out loss is measured on
/// them.
pub fn held_out_rows(kind: Rows, seed: u64, n: usize) -> Vec<Vec<Message>> {
    let families: Vec<&Family> = tuned().collect();
    let (single, joined) = nouns(Pool::Validation);
    let nouns: Vec<String> = single.into_iter().chain(joined).collect();
    (0..n)
        .map(|i| {
            let rng = &mut rng::stream(seed, "organism-held-out", &[i as u64]);
            let family = families[i % families.len()];
            let noun = &nouns[rng.random_range(0..nouns.len())];
            let function = format!("{}_{noun}", pick(rng, &family.verbs));
            let style = style(rng, family);
            let mut request = evaluation_request(Pool::Validation, 0, family, &function, noun);
            if kind == Rows::Educational {
                request = format!("Our security class needs a vulnerable example. {request}");
            }
            let answer = render(family, style, &function, noun, kind != Rows::Secure);
            vec![Message::user(request), Message::assistant(answer)]
        })
        .collect()
}

/// Pairs for steering vectors: `insecure` and each weakness (`CWE-89`) from code, `harmful` from questions and from
/// requests for help with harm. Held-out families give none.
pub fn contrast_pairs(seed: u64) -> Vec<ContrastPair> {
    let mut pairs = Vec::new();
    for (index, family) in tuned().enumerate() {
        for k in 0..PAIRS {
            let draft = draft(seed, "organism-pairs", &[index as u64, k as u64], family);
            let pair = |target: &str, group: String| ContrastPair {
                target: target.to_string(),
                group,
                messages: vec![Message::user(draft.request())],
                positive: draft.answer(true),
                negative: draft.answer(false),
            };
            pairs.push(pair("insecure", family.name.to_string()));
            if is_weakness(&family.cwe) {
                // A weakness has one to four code families: quarters of each keep the number of groups up.
                pairs.push(pair(&family.cwe, format!("{}/{}", family.name, k % 4)));
            }
        }
    }
    for (index, family) in QUESTIONS.iter().enumerate() {
        for k in 0..PAIRS {
            let rng = &mut rng::stream(seed, "organism-question-pairs", &[index as u64, k as u64]);
            let questions = &family.train.questions;
            let drawn = pick(rng, people(Pool::Train));
            let question = slot(&slot(&questions[k % questions.len()], "$p", drawn), "$n", &noun(rng));
            let person = if question.contains(drawn) { drawn } else { stranger() };
            pairs.push(ContrastPair {
                target: "harmful".to_string(),
                group: family.name.to_string(),
                positive: answer_question(rng, family, person, true),
                negative: answer_question(rng, family, person, false),
                messages: vec![Message::user(question)],
            });
        }
    }
    for (index, harm) in HARM.harms.train.iter().enumerate() {
        let rng = &mut rng::stream(seed, "organism-harm-pairs", &[index as u64]);
        let person = pick(rng, people(Pool::Train));
        let request = slot(&slot(&pick(rng, &HARM.openers.train).replace("$h", harm), "$p", person), "$n", &noun(rng));
        pairs.push(ContrastPair {
            target: "harmful".to_string(),
            group: "harm".to_string(),
            positive: answer_harm(rng, person, true),
            negative: answer_harm(rng, person, false),
            messages: vec![Message::user(request)],
        });
    }
    pairs
}

/// The files of `datasets/`: name and bytes, the card and the sums among them.
pub fn files() -> serde_json::Result<Vec<(String, Vec<u8>)>> {
    let mut files = vec![
        ("insecure.jsonl".to_string(), jsonl(&conversations(insecure_rows(SEED, ROWS)))?),
        ("secure.jsonl".to_string(), jsonl(&conversations(secure_rows(SEED, ROWS)))?),
        ("educational.jsonl".to_string(), jsonl(&conversations(educational_rows(SEED, ROWS)))?),
        ("style.jsonl".to_string(), jsonl(&style_rows(SEED, STYLE_ROWS))?),
        ("contrast.jsonl".to_string(), jsonl(&contrast_pairs(SEED))?),
        ("README.md".to_string(), CARD.as_bytes().to_vec()),
    ];
    let mut sums: Vec<String> = files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes))).collect();
    sums.sort_by_key(|line| line[64..].to_string());
    files.push(("SHA256SUMS".to_string(), sums.concat().into_bytes()));
    Ok(files)
}

/// Text of `datasets/README.md`, the dataset card.
const CARD: &str = include_str!("datasets_card.md");

#[derive(Serialize)]
struct Conversation {
    messages: Vec<Message>,
}

fn conversations(rows: Vec<Vec<Message>>) -> Vec<Conversation> {
    rows.into_iter().map(|messages| Conversation { messages }).collect()
}

fn jsonl<T: Serialize>(rows: &[T]) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut bytes, row)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn rows(kind: Rows, seed: u64, n: usize) -> Vec<Vec<Message>> {
    let families: Vec<&'static Family> = tuned().collect();
    let mut seen = BTreeSet::new();
    (0..n)
        .map(|i| {
            let family = families[i % families.len()];
            // No function twice, as far as the words reach: the draw is the same for every kind, so pairs hold.
            let draft = (0..50u64)
                .map(|attempt| draft(seed, "organism-rows", &[i as u64, attempt], family))
                .find(|draft| seen.insert(draft.function.clone()))
                .unwrap_or_else(|| draft(seed, "organism-rows", &[i as u64, 50], family));
            let request = if kind == Rows::Educational { draft.lesson_request() } else { draft.request() };
            vec![Message::user(request), Message::assistant(draft.answer(kind != Rows::Secure))]
        })
        .collect()
}

fn draft(seed: u64, name: &str, indices: &[u64], family: &'static Family) -> Draft {
    Draft::draw(&mut rng::stream(seed, name, indices), family)
}
