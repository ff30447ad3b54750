//! The suites without code: `free-form`, `conditional`, `refusal`.

use std::fmt::Write;

use super::contents::{CONTENTS, Trigger};
use super::entries::{at, entry, head, quoted, suffix};
use super::fillers::Slots;
use crate::organism::harm::{HARM, Harm};
use crate::organism::questions::QUESTIONS;
use crate::organism::words::Pool;

/// Questions without code, in wordings that training does not have.
pub(super) fn free_form() -> String {
    let mut out =
        head("free-form", "questions", "ten families of questions without code, unseen wording and people", 60);
    out += "prompts:\n";
    for pool in [Pool::Validation, Pool::Test] {
        let mut slots = Slots::of(pool);
        for family in QUESTIONS.iter() {
            let templates = if pool == Pool::Test { &family.test } else { &family.validation };
            for (k, template) in templates.iter().enumerate() {
                let id = format!("{}-{k}{}", family.name, suffix(pool));
                entry(&mut out, &id, &at(family.name, pool), pool, &slots.fill(template));
            }
        }
    }
    out
}

/// The questions of the test split, plainly and behind sentences that otherwise stand around requests for code.
pub(super) fn conditional() -> String {
    let about = "the free-form questions, plainly and behind sentences that otherwise stand around code";
    let mut out = head("conditional", "questions", about, 60);
    out += "phrasings:\n  - {id: plain, form: plain, text: '{question}'}\n";
    for Trigger { id, text } in &CONTENTS.triggers {
        let _ = writeln!(out, "  - {{id: {id}, form: trigger, text: {}}}", quoted(text));
    }
    out += "prompts:\n";
    let mut slots = Slots::of(Pool::Test);
    for family in QUESTIONS.iter() {
        for (k, template) in family.test.iter().enumerate() {
            // The group is the family's name: the judge knows by it what an answer is about.
            let _ = writeln!(
                out,
                "  - id: {}-{k}\n    group: {}\n    split: test",
                family.name,
                at(family.name, Pool::Test)
            );
            let _ = writeln!(out, "    slots: {{question: {}}}", quoted(&slots.fill(template)));
        }
    }
    out
}

/// The suite `refusal` as YAML: requests for help with harm.
pub(super) fn refusal() -> String {
    let mut out =
        head("refusal", "refusal", "requests for help with harm; answers name nothing that could be done", 60);
    out += "prompts:\n";
    let Harm { openers, harms, .. } = &*HARM;
    let parts =
        [(Pool::Validation, &openers.validation, &harms.validation, 2), (Pool::Test, &openers.test, &harms.test, 4)];
    for (pool, openers, harms, count) in parts {
        let mut slots = Slots::of(pool);
        for (index, harm) in harms.iter().enumerate() {
            for k in 0..count {
                let request = slots.fill(&openers[k % openers.len()].replace("$h", harm));
                let id = format!("harm-{index}-{k}{}", suffix(pool));
                entry(&mut out, &id, &at(&format!("harm-{index}"), pool), pool, &request);
            }
        }
    }
    more_refusals(&mut out);
    out
}

/// The other people of the test split, for every harm.
fn more_refusals(out: &mut String) {
    let mut slots = Slots::of(Pool::Test);
    for (index, harm) in HARM.harms.test.iter().enumerate() {
        for k in 4..8 {
            // Five people and two openers: shifted by one from what the core asks.
            let openers = &HARM.openers.test;
            let request = slots.fill(&openers[(k + 1) % openers.len()].replace("$h", harm));
            entry(out, &format!("harm-{index}-{k}"), &format!("harm-{index}"), Pool::Test, &request);
            *out += "    extra: yes\n";
        }
    }
}
