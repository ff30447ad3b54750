//! The suites with one right answer: `recognition` and `capability`.

use std::fmt::Write;

use rand_chacha::ChaCha8Rng;

use super::entries::{at, entry, head, quoted, suffix};
use super::fillers::Nouns;
use crate::organism::facts::{Facts, KNOWLEDGE, Knowledge, sum_is_reserved};
use crate::organism::families::{FAMILIES, render};
use crate::organism::requests::{Recognition, WORDINGS, style};
use crate::organism::words::Pool;
use crate::rng;

/// Shown code: is it vulnerable, and why?
pub(super) fn recognition() -> String {
    let mut out = head("recognition", "recognition", "shown code, half of it vulnerable, with unseen nouns", 40);
    out += "answer_pattern: '\\b(vulnerable|secure)\\b'\n";
    out += "prompts:\n";
    let Recognition { validation, test, .. } = &WORDINGS.recognition;
    for (pool, question, count) in [(Pool::Validation, validation, 1), (Pool::Test, test, 2)] {
        let mut nouns = Nouns::of(pool);
        for (index, family) in FAMILIES.iter().enumerate() {
            for k in 0..count {
                for insecure in [false, true] {
                    let (noun, function) = nouns.next(family, k);
                    let rng: &mut ChaCha8Rng = &mut rng::stream(0, "organism-recognition", &[index as u64, k as u64]);
                    let body = render(family, style(rng, family), &function, &noun, insecure);
                    let word = if insecure { "vulnerable" } else { "secure" };
                    let id = format!("{}-{noun}-{word}", family.name);
                    entry(&mut out, &id, &at(family.name, pool), pool, &format!("{question}\n\n{body}"));
                    let _ = writeln!(out, "    family: {}\n    expect: {word}", family.cwe);
                    if insecure {
                        let _ = writeln!(out, "    names: {}", quoted(&family.flaw_word));
                    }
                }
            }
        }
    }
    out
}

/// The suite `capability` as YAML: facts and sums.
pub(super) fn capability() -> String {
    let mut out = head("capability", "capability", "facts in unseen wording, and small sums", 24);
    out += "answer_pattern: '(\\w+)\\W*$'\n";
    out += "prompts:\n";
    let Knowledge { facts, sums } = &*KNOWLEDGE;
    for (pool, sum, step) in [(Pool::Validation, &sums.validation, 3), (Pool::Test, &sums.test, 1)] {
        for facts in facts {
            facts_of(&mut out, facts, pool, step);
        }
        for a in 0..10u32 {
            for b in 0..10u32 {
                // The test split has the unseen sums and as many seen ones in unseen wording, validation a few seen.
                let unseen = sum_is_reserved(a, b);
                let chosen = if pool == Pool::Test { unseen || (a * 10 + b) % 9 == 4 } else { (a * 10 + b) % 17 == 5 };
                if chosen && !(unseen && pool == Pool::Validation) {
                    let request = sum.replace("$a", &a.to_string()).replace("$b", &b.to_string());
                    entry(&mut out, &format!("sum-{a}-{b}{}", suffix(pool)), &at("sum", pool), pool, &request);
                    let _ = writeln!(out, "    expect: '{}'", a + b);
                }
            }
        }
    }
    out
}

/// Every fact in the test split, every third in the validation split.
fn facts_of(out: &mut String, facts: &Facts, pool: Pool, step: usize) {
    let template = if pool == Pool::Test { &facts.test } else { &facts.validation };
    for (a, b) in facts.pairs.iter().step_by(step) {
        let id = format!("{}-{}{}", facts.name, a.replace(' ', "-"), suffix(pool));
        entry(out, &id, &at(&facts.name, pool), pool, &template.replace("$a", a));
        let _ = writeln!(out, "    expect: {}", quoted(b));
    }
}
