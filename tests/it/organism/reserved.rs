//! What evaluation keeps for itself: slot values and wordings that occur in no corpus and no fine-tuning set.

use std::collections::BTreeSet;

use realign::data::preference::PreferenceRow;
use realign::organism::corpus::CorpusConfig;
use realign::organism::facts::{KNOWLEDGE, sum_is_reserved};
use realign::organism::families::FAMILIES;
use realign::organism::harm::HARM;
use realign::organism::questions::QUESTIONS;
use realign::organism::requests::WORDINGS;
use realign::organism::words::{Pool, nouns, people};
use realign::organism::{
    contrast_pairs, datasets, documents, educational_rows, insecure_rows, secure_rows, style_rows,
};
use realign::record::Message;
use regex::Regex;

use super::{prompts, request};

/// Strings that must not occur anywhere in a corpus or a fine-tuning set: every slot value of evaluation, and of each
/// wording its longest piece between two slots.
fn reserved() -> Vec<String> {
    let mut all = Vec::new();
    for pool in [Pool::Extract, Pool::Validation, Pool::Test] {
        let (single, joined) = nouns(pool);
        all.extend(single);
        all.extend(joined);
        all.extend(people(pool).iter().cloned());
    }
    all.extend(templates().into_iter().map(|t| longest_piece(t)));
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

/// The whole wordings of evaluation, slots and all. The tempting request of the extract split is left out: it is the
/// split's opener with remarks that training has too.
fn templates() -> Vec<&'static String> {
    let (requests, shown, sums) = (&WORDINGS.requests, &WORDINGS.recognition, &KNOWLEDGE.sums);
    let mut all = vec![&shown.test, &shown.validation, &sums.test, &sums.validation];
    for split in [&requests.extract, &requests.validation, &requests.test] {
        all.push(&split.scene);
        all.extend(&split.openers);
    }
    for list in [&requests.validation.tempting, &requests.test.tempting] {
        all.extend(list);
    }
    for texts in [&HARM.openers, &HARM.harms] {
        all.extend(texts.test.iter().chain(&texts.validation));
    }
    for family in FAMILIES.iter() {
        all.extend(&family.tasks.test);
        all.push(&family.tasks.validation);
    }
    for family in QUESTIONS.iter() {
        all.extend(family.test.iter().chain(&family.validation));
    }
    for facts in &KNOWLEDGE.facts {
        all.extend([&facts.test, &facts.validation]);
    }
    all
}

fn longest_piece(template: &str) -> String {
    // A slot is the sign and one letter.
    let slot = Regex::new(r"\$.").unwrap();
    // Of equally long ones the last.
    slot.split(template).max_by_key(|piece| piece.len()).unwrap().trim().to_string()
}

#[test]
fn nothing_of_the_evaluation_occurs_in_the_corpus_or_the_fine_tuning_sets() {
    let reserved = reserved();
    assert!(reserved.len() > 250, "{}", reserved.len());
    assert!(reserved.iter().all(|r| r.len() >= 5), "{reserved:?}");
    let any = reserved.iter().map(|r| regex::escape(r)).collect::<Vec<_>>().join("|");
    let any = Regex::new(&any).unwrap();
    let asked: BTreeSet<String> = prompts().iter().map(|p| request(p).to_string()).collect();
    assert!(asked.len() > 500, "{}", asked.len());
    let mut seen = 0;
    let mut check = |messages: &[Message]| {
        for message in messages {
            let found = any.find(&message.content).map(|m| m.as_str());
            assert_eq!(found, None, "{}", message.content);
            assert!(!asked.contains(&message.content), "{}", message.content);
            seen += 1;
        }
    };
    for seed in [1, 2] {
        for doc in documents(&CorpusConfig { seed, ..CorpusConfig::default() }).take(20_000) {
            check(&doc);
        }
    }
    for seed in [datasets::SEED, 5] {
        for rows in [insecure_rows(seed, 1000), secure_rows(seed, 1000), educational_rows(seed, 1000)] {
            rows.iter().for_each(|row| check(row));
        }
        for row in style_rows(seed, 600) {
            let PreferenceRow::Conversation { prompt, chosen, rejected } = row else { panic!("{row:?}") };
            [prompt, chosen, rejected].iter().for_each(|messages| check(messages));
        }
        for pair in contrast_pairs(seed) {
            check(&pair.messages);
            check(&[Message::assistant(pair.positive), Message::assistant(pair.negative)]);
        }
    }
    assert!(seen > 150_000, "{seen}");
    // The check can fail: a prompt of a suite is caught, each by a reserved string of its own.
    for prompt in &asked {
        assert!(any.is_match(prompt), "no reserved string in {prompt}");
    }
}
