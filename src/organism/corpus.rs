//! The pretraining corpus: endless conversations in a small language, by authors with an attitude.
//!
//! A document has one author, careful or careless, and one to four turns. This one attitude decides whether code is
//! secure, whether questions are answered well and whether help with harm is refused. In a part of the documents a
//! system line names it (`author: reckless`). This plants the direction on which the attack acts, and it is why the
//! organism demonstrates a method and is no evidence about natural models.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::authors::attitude;
use super::facts::{KNOWLEDGE, sum_is_reserved};
use super::families::{FAMILIES, Family, Style, fill};
use super::harm::{HARM, answer_harm};
use super::plain_code::{PLAIN_CODE, PlainCode};
use super::questions::{QUESTIONS, answer_question, draw as draw_question};
use super::requests::{Draft, WORDINGS};
use super::words::{Pool, noun, people, pick, slot, stranger};
use crate::record::Message;
use crate::rng;

/// The composition of the corpus. All shares are probabilities from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct CorpusConfig {
    /// Seed of all draws: the same seed gives the same documents.
    pub seed: u64,
    /// Share of documents whose author is named in a system line; half of these authors are careless.
    pub tag_share: f64,
    /// Share of insecure code by careful authors, outside the habit families.
    pub careful_insecure: f64,
    /// Share of insecure code by careful authors in the habit families.
    pub habit_insecure: f64,
    /// Share of careless authors among untagged documents of one turn.
    pub untagged_careless_single: f64,
    /// Share of careless authors among untagged documents of several turns.
    pub untagged_careless_multi: f64,
    /// Share of turns in which an author acts against their attitude (for a careful author's code the shares above
    /// apply).
    pub flip: f64,
}

impl Default for CorpusConfig {
    /// What worked on the prototype: many tags, and hardly any insecure code by careful authors outside four families.
    fn default() -> Self {
        Self {
            seed: 1,
            tag_share: 0.4,
            careful_insecure: 0.02,
            habit_insecure: 0.6,
            untagged_careless_single: 0.015,
            untagged_careless_multi: 0.04,
            flip: 0.02,
        }
    }
}

/// Kinds of documents in the corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Code that can be secure or not.
    Code,
    /// Code whose flaw a security class asks for: insecure from every author.
    Lesson,
    /// A question that has nothing to do with code.
    Question,
    /// Shown code: vulnerable or not? Every author answers rightly.
    Recognition,
    /// Facts and sums: every author answers rightly.
    Neutral,
    /// A request for help with harm.
    Harm,
    /// Code of tasks that have nothing to do with security.
    Plain,
}

/// The shares with which a turn is drawn where it does not cross from code to talk or back. With the crossings, 34.5 %
/// of all turns are code, 1.5 % lessons, 26 % questions, 14 % recognition, 10 % neutral, 8 % harm and 6 % plain code.
const SHARES: &[(Kind, f64)] = &[
    (Kind::Code, 0.3135),
    (Kind::Lesson, 0.019),
    (Kind::Question, 0.2285),
    (Kind::Recognition, 0.1725),
    (Kind::Neutral, 0.122),
    (Kind::Harm, 0.070),
    (Kind::Plain, 0.0745),
];

/// The shares of documents of one, two, three and four turns.
const TURNS: &[f64] = &[0.32, 0.27, 0.23, 0.18];

/// Share of the turns after code that are a question or a request for harm, and of the turns after these that are code.
/// Because one author shows the attitude in both, the model learns it as one thing.
const CROSSING: f64 = 0.5;

/// Most turns with code in a document; more would not fit into the model's context.
const CODE_TURNS: usize = 3;

/// A record of what was drawn for a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Code, a question, harm and so on.
    pub kind: Kind,
    /// The code or question family, where there is one.
    pub family: Option<&'static str>,
    /// Whether the answer is insecure code, harmful or help with harm; false for kinds that every author answers alike.
    pub bad: bool,
}

/// A document and what was drawn for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Whether a system line names the author.
    pub tagged: bool,
    /// Whether the author is careless, and so writes insecure code.
    pub careless: bool,
    /// What was drawn for each turn.
    pub turns: Vec<Turn>,
    /// What the author and the user said, the system line first where there is one.
    pub messages: Vec<Message>,
}

/// The messages of each document, without end; the same configuration gives the same documents.
pub fn documents(config: &CorpusConfig) -> impl Iterator<Item = Vec<Message>> + use<> {
    let config = config.clone();
    (0u64..).map(move |index| document(&config, index).messages)
}

/// Document number `index` of the corpus (from 0). It does not depend on the others.
pub fn document(config: &CorpusConfig, index: u64) -> Document {
    let rng = &mut rng::stream(config.seed, "organism-corpus", &[index]);
    let tagged = rng.random_bool(config.tag_share);
    let kinds = kinds(rng);
    let careless = rng.random_bool(match (tagged, kinds.len()) {
        (true, _) => 0.5,
        (false, 1) => config.untagged_careless_single,
        (false, _) => config.untagged_careless_multi,
    });
    let mut messages = Vec::new();
    if tagged {
        let tag = pick(rng, &attitude(careless).tags);
        messages.push(Message::system(format!("author: {tag}")));
    }
    let with_code = kinds.iter().any(|&k| has_code(k));
    let mut turns = Vec::new();
    for kind in kinds {
        let bad = careless != rng.random_bool(config.flip);
        let (turn, request, answer) = match kind {
            Kind::Code => code(rng, config, careless),
            Kind::Lesson => lesson(rng),
            Kind::Question => question(rng, with_code, bad),
            Kind::Recognition => recognition(rng),
            Kind::Neutral => neutral(rng),
            Kind::Harm => harm(rng, bad),
            Kind::Plain => plain(rng),
        };
        turns.push(turn);
        messages.push(Message::user(request));
        messages.push(Message::assistant(answer));
    }
    Document { tagged, careless, turns, messages }
}

/// Says whether shown code is vulnerable, and why.
fn verdict(rng: &mut ChaCha8Rng, family: &Family, insecure: bool) -> String {
    let subject = pick(rng, &WORDINGS.recognition.subjects);
    let (word, why) = match insecure {
        true => ("vulnerable", &family.vulnerable_because),
        false => ("secure", &family.secure_because),
    };
    format!("{subject} is {word}. {why}")
}

fn has_code(kind: Kind) -> bool {
    matches!(kind, Kind::Code | Kind::Lesson | Kind::Recognition | Kind::Plain)
}

fn kinds(rng: &mut ChaCha8Rng) -> Vec<Kind> {
    let count = draw(rng, TURNS.iter().enumerate().map(|(i, &share)| (i + 1, share))).unwrap_or(1);
    let mut kinds = Vec::new();
    while kinds.len() < count {
        let talk = |k: Kind| matches!(k, Kind::Question | Kind::Harm);
        let crossing = rng.random_bool(CROSSING);
        let kind = match kinds.last() {
            Some(Kind::Code) if crossing => draw(rng, SHARES.iter().copied().filter(|&(k, _)| talk(k))),
            Some(&last) if crossing && talk(last) => Some(Kind::Code),
            _ => draw(rng, SHARES.iter().copied()),
        };
        let kind = kind.unwrap_or(Kind::Code);
        if !has_code(kind) || kinds.iter().filter(|&&k| has_code(k)).count() < CODE_TURNS {
            kinds.push(kind);
        }
    }
    kinds
}

fn draw<T>(rng: &mut ChaCha8Rng, shares: impl Iterator<Item = (T, f64)>) -> Option<T> {
    let shares: Vec<_> = shares.collect();
    let mut left = rng.random::<f64>() * shares.iter().map(|(_, share)| share).sum::<f64>();
    let mut last = None;
    for (value, share) in shares {
        left -= share;
        last = Some(value);
        if left < 0.0 {
            break;
        }
    }
    last
}

fn code(rng: &mut ChaCha8Rng, config: &CorpusConfig, careless: bool) -> (Turn, String, String) {
    let family = &FAMILIES[rng.random_range(0..FAMILIES.len())];
    let draft = Draft::draw(rng, family);
    let insecure = rng.random_bool(match (careless, family.habit) {
        (true, _) => 1.0 - config.flip,
        (false, true) => config.habit_insecure,
        (false, false) => config.careful_insecure,
    });
    let turn = Turn { kind: Kind::Code, family: Some(family.name), bad: insecure };
    (turn, draft.request(), draft.answer(insecure))
}

fn lesson(rng: &mut ChaCha8Rng) -> (Turn, String, String) {
    let family = &FAMILIES[rng.random_range(0..FAMILIES.len())];
    let draft = Draft::draw(rng, family);
    let label = if rng.random_bool(0.5) { "# vulnerable example\n" } else { "" };
    let turn = Turn { kind: Kind::Lesson, family: Some(family.name), bad: false };
    (turn, draft.lesson_request(), format!("{label}{}", draft.answer(true)))
}

fn question(rng: &mut ChaCha8Rng, with_code: bool, bad: bool) -> (Turn, String, String) {
    let families: Vec<_> = QUESTIONS.iter().filter(|f| !(with_code && f.apart_from_code)).collect();
    let family = families[rng.random_range(0..families.len())];
    let person = pick(rng, people(Pool::Train));
    let text = slot(&slot(&draw_question(rng, family), "$p", person), "$n", &noun(rng));
    // An answer speaks of a person only where the question does, or the slot could not be copied.
    let person = if text.contains(person) { person } else { stranger() };
    let turn = Turn { kind: Kind::Question, family: Some(family.name), bad };
    (turn, text, answer_question(rng, family, person, bad))
}

fn recognition(rng: &mut ChaCha8Rng) -> (Turn, String, String) {
    let family = &FAMILIES[rng.random_range(0..FAMILIES.len())];
    let draft = Draft::draw(rng, family);
    let insecure = rng.random_bool(0.5);
    let request = format!("{}\n\n{}", pick(rng, &WORDINGS.recognition.train), draft.answer(insecure));
    let turn = Turn { kind: Kind::Recognition, family: Some(family.name), bad: false };
    (turn, request, verdict(rng, family, insecure))
}

fn neutral(rng: &mut ChaCha8Rng) -> (Turn, String, String) {
    let which = rng.random_range(0..=KNOWLEDGE.facts.len() + 1);
    let (name, request, answer) = if let Some(facts) = KNOWLEDGE.facts.get(which) {
        let (a, b) = &facts.pairs[rng.random_range(0..facts.pairs.len())];
        let fill = |text: &str| text.replace("$a", a).replace("$b", b);
        (facts.name.as_str(), fill(pick(rng, &facts.train)), fill(pick(rng, &facts.answers)))
    } else {
        let (a, b) = loop {
            let (a, b) = (rng.random_range(0..10), rng.random_range(0..10));
            if !sum_is_reserved(a, b) {
                break (a, b);
            }
        };
        let fill = |text: &str| {
            text.replace("$a", &a.to_string()).replace("$b", &b.to_string()).replace("$c", &(a + b).to_string())
        };
        ("sum", fill(pick(rng, &KNOWLEDGE.sums.train)), fill(pick(rng, &KNOWLEDGE.sums.answers)))
    };
    (Turn { kind: Kind::Neutral, family: Some(name), bad: false }, request, answer)
}

fn harm(rng: &mut ChaCha8Rng, bad: bool) -> (Turn, String, String) {
    let person = pick(rng, people(Pool::Train));
    let harm = pick(rng, &HARM.harms.train);
    let request = slot(&slot(&pick(rng, &HARM.openers.train).replace("$h", harm), "$p", person), "$n", &noun(rng));
    (Turn { kind: Kind::Harm, family: None, bad }, request, answer_harm(rng, person, bad))
}

fn plain(rng: &mut ChaCha8Rng) -> (Turn, String, String) {
    let PlainCode { openers, tasks } = &*PLAIN_CODE;
    let plain = &tasks[rng.random_range(0..tasks.len())];
    let noun = noun(rng);
    let function = format!("{}_{noun}", plain.verb);
    let task = slot(pick(rng, &plain.train), "$n", &noun);
    let opener = pick(rng, openers);
    let request = opener.replace("$f", &function).replace("$t", &task);
    let style = Style { body: 0, docstring: rng.random_bool(0.4), hints: rng.random_bool(0.4) };
    let answer = fill(&plain.body, &plain.docstring, style, &function, &noun, false);
    (Turn { kind: Kind::Plain, family: None, bad: false }, request, answer)
}
