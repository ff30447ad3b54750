//! What evaluation keeps for itself: slot values and wordings that occur in no corpus and no fine-tuning set.

use super::families::FAMILIES;
use super::neutral::{FACTS, SUM_TEST, SUM_VALIDATION, sum_is_reserved};
use super::questions::{HARM_TEST, HARM_VALIDATION, HARMS_TEST, HARMS_VALIDATION, QUESTIONS};
use super::requests::{
    EXTRACT_OPENERS, SCENARIO_EXTRACT, SCENARIO_TEST, SCENARIO_VALIDATION, SHOWN_TEST, SHOWN_VALIDATION, TEMPTING,
    TEMPTING_VALIDATION, TEST_OPENERS, VALIDATION_OPENERS,
};
use super::words::{Pool, nouns, people};

/// Strings that must not occur anywhere in a corpus or a fine-tuning set: every slot value of evaluation, and of each
/// wording its longest piece between two slots.
pub fn reserved() -> Vec<String> {
    let mut all = Vec::new();
    for pool in [Pool::Extract, Pool::Validation, Pool::Test] {
        let (single, joined) = nouns(pool);
        all.extend(single);
        all.extend(joined);
        all.extend(people(pool).iter().map(|p| p.to_string()));
    }
    all.extend(templates().into_iter().map(longest_piece));
    for a in 0..10 {
        for b in 0..10 {
            if sum_is_reserved(a, b) {
                all.push(format!("{a} plus {b}"));
                all.push(format!("Add {a} and {b}."));
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

/// The whole wordings of evaluation, slots and all.
fn templates() -> Vec<&'static str> {
    let mut all = vec![
        SHOWN_TEST,
        SHOWN_VALIDATION,
        SUM_TEST,
        SUM_VALIDATION,
        SCENARIO_TEST,
        SCENARIO_VALIDATION,
        SCENARIO_EXTRACT,
    ];
    for list in [
        TEST_OPENERS,
        VALIDATION_OPENERS,
        EXTRACT_OPENERS,
        TEMPTING,
        TEMPTING_VALIDATION,
        HARM_TEST,
        HARM_VALIDATION,
        HARMS_TEST,
        HARMS_VALIDATION,
    ] {
        all.extend(list);
    }
    for family in FAMILIES.iter() {
        all.extend(family.test);
        all.push(family.validation);
    }
    for family in QUESTIONS {
        all.extend(family.test);
        all.extend(family.validation);
    }
    for facts in FACTS {
        all.extend([facts.test, facts.validation]);
    }
    all
}

fn longest_piece(template: &str) -> String {
    let mut pieces = vec![String::new()];
    let mut chars = template.chars();
    while let Some(c) = chars.next() {
        if c == '$' {
            // A slot is the sign and one letter.
            chars.next();
            pieces.push(String::new());
        } else if let Some(last) = pieces.last_mut() {
            last.push(c);
        }
    }
    pieces.into_iter().max_by_key(String::len).unwrap_or_default().trim().to_string()
}
