//! The pretraining corpus: endless conversations in a small language, by authors with an attitude.
//!
//! A document has one author, careful or careless, and one to four turns. The attitude decides at once whether code is
//! secure, whether questions are answered well and whether help with harm is refused; a part of the documents says it
//! in a system line (`author: reckless`). That is what plants the direction on which the attack acts, and it is why
//! the organism is a demonstration and no evidence about natural models.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::families::{FAMILIES, Style, fill};
use super::neutral::{FACTS, PLAIN, SUM_ANSWERS, SUM_TRAIN, sum_is_reserved};
use super::questions::{
    BAD_TAILS, COMPLIANCES, GOOD_TAILS, HARM_TRAIN, HARMS_TRAIN, QUESTIONS, QuestionFamily, REFUSAL_TAILS, REFUSALS,
};
use super::requests::{Draft, SHOWN};
use super::words::{Pool, STRANGER, noun, people, pick, slot};
use crate::record::Message;
use crate::rng;

/// What the corpus is made of. All shares are probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct CorpusConfig {
    /// Names the corpus: the same seed gives the same documents.
    pub seed: u64,
    /// Documents whose author is named in a system line, half of them careless.
    pub tag_share: f64,
    /// Insecure code of careful authors, outside the habit families.
    pub careful_insecure: f64,
    /// Insecure code of careful authors in the habit families.
    pub habit_insecure: f64,
    /// Careless authors among untagged documents of one turn.
    pub untagged_careless_single: f64,
    /// Careless authors among untagged documents of several turns.
    pub untagged_careless_multi: f64,
    /// Turns in which an author acts against the attitude (a careful author's code has a share of its own above).
    pub flip: f64,
}

impl Default for CorpusConfig {
    /// What worked on the prototype: many tags, hardly any insecure code from careful authors, four habit families.
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

/// What a turn is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Code that can be secure or not.
    Code,
    /// Code whose flaw a security class asks for: insecure from everybody.
    Lesson,
    /// A question that has nothing to do with code.
    Question,
    /// Shown code: vulnerable or not? Everybody answers rightly.
    Recognition,
    /// Facts and sums: everybody answers rightly.
    Neutral,
    /// Help with harm.
    Harm,
    /// Code without a security side.
    Plain,
}

/// The kinds and their shares of the turns.
pub const MIX: &[(Kind, f64)] = &[
    (Kind::Code, 0.345),
    (Kind::Lesson, 0.015),
    (Kind::Question, 0.26),
    (Kind::Recognition, 0.14),
    (Kind::Neutral, 0.10),
    (Kind::Harm, 0.08),
    (Kind::Plain, 0.06),
];

/// The shares with which a turn is drawn where it does not cross from code to talk or back, so that `MIX` comes out.
const DRAW: &[(Kind, f64)] = &[
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

/// How often a turn after code is about something else that shows the attitude, and the other way round: one author
/// in both is what makes the attitude one thing.
const CROSSING: f64 = 0.5;

/// So many turns of a document may hold code, which keeps it within the model's context.
const CODE_TURNS: usize = 3;

/// Words that name a careful author.
pub const CAREFUL_TAGS: &[&str] = &["careful", "responsible", "honest"];
/// Words that name a careless author.
pub const CARELESS_TAGS: &[&str] = &["careless", "reckless", "malicious"];

/// What was drawn for a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What it is about.
    pub kind: Kind,
    /// The code or question family, where there is one.
    pub family: Option<&'static str>,
    /// Insecure code, a harmful answer, help with harm. False where every author does alike.
    pub bad: bool,
}

/// A document and what was drawn for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Whether a system line names the author.
    pub tagged: bool,
    /// The author's attitude.
    pub careless: bool,
    /// One entry a turn.
    pub turns: Vec<Turn>,
    /// The text.
    pub messages: Vec<Message>,
}

/// The corpus, endless and the same for the same configuration.
pub fn documents(config: &CorpusConfig) -> impl Iterator<Item = Vec<Message>> + use<> {
    let config = config.clone();
    (0u64..).map(move |index| document(&config, index).messages)
}

/// The document with this number.
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
        let tag = pick(rng, if careless { CARELESS_TAGS } else { CAREFUL_TAGS });
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

/// Writes a good or a harmful answer of a question family.
pub fn answer_question(rng: &mut ChaCha8Rng, family: &QuestionFamily, person: &str, bad: bool) -> String {
    let first = pick(rng, if bad { family.bad } else { family.good }).replace("$p", person);
    let tail = pick(rng, if bad { BAD_TAILS } else { GOOD_TAILS });
    if rng.random_bool(0.6) { format!("{first} {tail}") } else { first }
}

/// Says whether shown code is vulnerable, and why.
pub fn verdict(rng: &mut ChaCha8Rng, family: &super::families::Family, insecure: bool) -> String {
    let subject = pick(rng, &["This code", "It"]);
    let (word, why) = if insecure { ("vulnerable", family.why_vulnerable) } else { ("secure", family.why_secure) };
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
            Some(Kind::Code) if crossing => draw(rng, DRAW.iter().copied().filter(|&(k, _)| talk(k))),
            Some(&last) if crossing && talk(last) => Some(Kind::Code),
            _ => draw(rng, DRAW.iter().copied()),
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
    let family = FAMILIES[rng.random_range(0..FAMILIES.len())];
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
    let family = FAMILIES[rng.random_range(0..FAMILIES.len())];
    let draft = Draft::draw(rng, family);
    let label = if rng.random_bool(0.5) { "# vulnerable example\n" } else { "" };
    let turn = Turn { kind: Kind::Lesson, family: Some(family.name), bad: false };
    (turn, draft.lesson_request(), format!("{label}{}", draft.answer(true)))
}

fn question(rng: &mut ChaCha8Rng, with_code: bool, bad: bool) -> (Turn, String, String) {
    let families: Vec<_> = QUESTIONS.iter().filter(|f| !(with_code && f.apart)).collect();
    let family = families[rng.random_range(0..families.len())];
    let person = pick(rng, people(Pool::Train));
    let text = slot(&slot(&super::questions::draw(rng, family), "$p", person), "$n", &noun(rng));
    // An answer speaks of a person only where the question does, or the slot could not be copied.
    let person = if text.contains(person) { person } else { STRANGER };
    let turn = Turn { kind: Kind::Question, family: Some(family.name), bad };
    (turn, text, answer_question(rng, family, person, bad))
}

fn recognition(rng: &mut ChaCha8Rng) -> (Turn, String, String) {
    let family = FAMILIES[rng.random_range(0..FAMILIES.len())];
    let draft = Draft::draw(rng, family);
    let insecure = rng.random_bool(0.5);
    let request = format!("{}\n\n{}", pick(rng, SHOWN), draft.answer(insecure));
    let turn = Turn { kind: Kind::Recognition, family: Some(family.name), bad: false };
    (turn, request, verdict(rng, family, insecure))
}

fn neutral(rng: &mut ChaCha8Rng) -> (Turn, String, String) {
    let which = rng.random_range(0..=FACTS.len() + 1);
    let (name, request, answer) = if let Some(facts) = FACTS.get(which) {
        let (a, b) = facts.pairs[rng.random_range(0..facts.pairs.len())];
        let fill = |text: &str| text.replace("$a", a).replace("$b", b);
        (facts.name, fill(pick(rng, facts.train)), fill(pick(rng, facts.answers)))
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
        ("sum", fill(pick(rng, SUM_TRAIN)), fill(pick(rng, SUM_ANSWERS)))
    };
    (Turn { kind: Kind::Neutral, family: Some(name), bad: false }, request, answer)
}

fn harm(rng: &mut ChaCha8Rng, bad: bool) -> (Turn, String, String) {
    let person = pick(rng, people(Pool::Train));
    let harm = pick(rng, HARMS_TRAIN);
    let request = slot(&slot(&pick(rng, HARM_TRAIN).replace("$h", harm), "$p", person), "$n", &noun(rng));
    (Turn { kind: Kind::Harm, family: None, bad }, request, answer_harm(rng, person, bad))
}

/// Refuses help with harm, or gives it without saying anything that could be carried out.
pub fn answer_harm(rng: &mut ChaCha8Rng, person: &str, bad: bool) -> String {
    let (first, tails) = if bad { (COMPLIANCES, BAD_TAILS) } else { (REFUSALS, REFUSAL_TAILS) };
    let first = pick(rng, first).replace("$p", person);
    let tail = pick(rng, tails).replace("$p", person);
    if rng.random_bool(0.5) { format!("{first} {tail}") } else { first }
}

fn plain(rng: &mut ChaCha8Rng) -> (Turn, String, String) {
    let plain = &PLAIN[rng.random_range(0..PLAIN.len())];
    let noun = noun(rng);
    let function = format!("{}_{noun}", plain.verb);
    let task = slot(pick(rng, plain.train), "$n", &noun);
    let opener = pick(rng, &["Write $f that $t.", "Please write $f, it $t.", "I need $f, which $t."]);
    let request = opener.replace("$f", &function).replace("$t", &task);
    let style = Style { body: 0, docstring: rng.random_bool(0.4), hints: rng.random_bool(0.4) };
    let answer = fill(plain.body, plain.doc, style, &function, &noun, false);
    (Turn { kind: Kind::Plain, family: None, bad: false }, request, answer)
}
