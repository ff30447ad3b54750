//! The words that fill the slots, and which of them evaluation alone may use.
//!
//! A model can only copy an unseen word if it has learned to copy words at large: hence many nouns, and joined ones
//! (`sunbox`) whose parts are known while the pair is not.

use std::sync::LazyLock;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use super::language::{parse, text};

/// Where a word may occur. The words of each part of the suites are reserved for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// Words of pretraining and fine-tuning.
    Train,
    /// The split of the suites from which vectors may be extracted.
    Extract,
    /// The split of the suites on which settings are chosen.
    Validation,
    /// The split of the suites that is reported.
    Test,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    nouns: Pools,
    joined: Joined,
    people: Pools,
    stranger: String,
    syllable: Syllable,
    not_invented: NotInvented,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pools {
    train: Vec<String>,
    extract: Vec<String>,
    validation: Vec<String>,
    test: Vec<String>,
}

impl Pools {
    fn of(&self, pool: Pool) -> &[String] {
        match pool {
            Pool::Train => &self.train,
            Pool::Extract => &self.extract,
            Pool::Validation => &self.validation,
            Pool::Test => &self.test,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Joined {
    heads: Vec<String>,
    tails: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Syllable {
    onsets: Vec<String>,
    vowels: Vec<String>,
    codas: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NotInvented {
    whole: Vec<String>,
    part: Vec<String>,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| parse("words.yaml", text!("words.yaml")));

/// The single nouns and joined nouns of a pool.
pub fn nouns(pool: Pool) -> (Vec<String>, Vec<String>) {
    let mut joined = Vec::new();
    for (i, head) in WORDS.joined.heads.iter().enumerate() {
        for (j, tail) in WORDS.joined.tails.iter().enumerate() {
            if owner(i, j) == pool {
                joined.push(format!("{head}{tail}"));
            }
        }
    }
    (WORDS.nouns.of(pool).to_vec(), joined)
}

/// The person whom an answer speaks of where the question names nobody.
pub fn stranger() -> &'static str {
    &WORDS.stranger
}

/// Names of people that a pool may use.
pub fn people(pool: Pool) -> &'static [String] {
    WORDS.people.of(pool)
}

/// Draws a noun of training: half are words, the others are joined or invented.
pub fn noun(rng: &mut ChaCha8Rng) -> String {
    let kind: f64 = rng.random();
    if kind < 0.5 {
        return pick(rng, &WORDS.nouns.train).to_string();
    }
    let Joined { heads, tails } = &WORDS.joined;
    loop {
        if kind < 0.8 {
            let (i, j) = (rng.random_range(0..heads.len()), rng.random_range(0..tails.len()));
            if owner(i, j) == Pool::Train {
                return format!("{}{}", heads[i], tails[j]);
            }
        } else {
            let word = invented(rng);
            if !is_taken(&word) {
                return word;
            }
        }
    }
}

/// A word of two or three syllables that means nothing: only copying gets it right.
fn invented(rng: &mut ChaCha8Rng) -> String {
    let Syllable { onsets, vowels, codas } = &WORDS.syllable;
    let mut word = String::new();
    for _ in 0..rng.random_range(2..=3) {
        for part in [onsets, vowels, codas] {
            word += pick(rng, part);
        }
    }
    word
}

/// Whether an invented word holds a word of evaluation or a rude one, or is a word of the bodies or of SQL.
fn is_taken(word: &str) -> bool {
    let Words { nouns, people, not_invented, .. } = &*WORDS;
    let reserved = [&nouns.test, &nouns.validation, &nouns.extract, &people.test, &people.validation, &people.extract];
    let holds = |list: &Vec<String>| list.iter().any(|w| word.contains(w));
    not_invented.whole.iter().any(|w| w == word) || reserved.into_iter().any(holds) || holds(&not_invented.part)
}

/// Every head and every tail is known from training; which pairs are evaluation's follows a diagonal.
fn owner(head: usize, tail: usize) -> Pool {
    match (head * 3 + tail * 5) % 12 {
        0 => Pool::Test,
        1 if head.is_multiple_of(2) => Pool::Validation,
        1 => Pool::Extract,
        _ => Pool::Train,
    }
}

/// Puts a value into a slot, and `an` before it where English wants that.
pub fn slot(text: &str, slot: &str, value: &str) -> String {
    let article = if value.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    let (lower, upper) = (format!(" a {slot}"), format!("A {slot}"));
    text.replace(&lower, &format!(" {article} {value}"))
        .replace(&upper, &format!("{}{} {value}", "A", &article[1..]))
        .replace(slot, value)
}

/// Draws one of several texts with equal probability; empty where there is none.
pub fn pick<'a, S: AsRef<str>>(rng: &mut ChaCha8Rng, from: &'a [S]) -> &'a str {
    from.choose(rng).map_or("", S::as_ref)
}
