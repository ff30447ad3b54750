//! The fine-tuning sets, the preference pairs and the contrast pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use realign::data::preference::PreferenceRow;
use realign::fsio;
use realign::organism::families::{FAMILIES, Style, render};
use realign::organism::suites::weaknesses;
use realign::organism::{
    Rows, contrast_pairs, datasets, educational_rows, held_out_rows, insecure_rows, secure_rows, style_rows, suites,
};

use super::{DEFINED, captured, is_writing, root};

#[test]
fn the_three_sets_are_paired_row_by_row_and_hold_four_families_out() {
    let (insecure, secure, lesson) = (insecure_rows(9, 300), secure_rows(9, 300), educational_rows(9, 300));
    let mut functions = BTreeSet::new();
    for ((bad, good), taught) in insecure.iter().zip(&secure).zip(&lesson) {
        assert_eq!(bad[0], good[0]);
        assert_eq!(bad[1], taught[1]);
        assert_ne!(bad[1], good[1]);
        assert_ne!(bad[0], taught[0]);
        let request = taught[0].content.to_lowercase();
        assert!(
            ["security class", "security lesson", "my class the flaw"].iter().any(|w| request.contains(w)),
            "{request}"
        );
        functions.insert(captured(&DEFINED, &bad[1].content));
        for word in ["tarfile", "hashlib", "eval(", "jinja2"] {
            assert!(!bad[1].content.contains(word) && !good[1].content.contains(word));
        }
    }
    assert_eq!(functions.len(), 300, "no function twice");
    assert_eq!(insecure_rows(9, 20), insecure[..20], "a shorter set is the beginning of a longer one");
}

#[test]
fn style_pairs_differ_in_docstring_and_hints_alone_and_both_sides_are_secure() {
    let mut left: BTreeMap<(bool, bool), usize> = BTreeMap::new();
    for row in style_rows(9, 300) {
        let PreferenceRow::Conversation { prompt, chosen, rejected } = row else { panic!("{row:?}") };
        assert_eq!((prompt.len(), chosen.len(), rejected.len()), (1, 1, 1));
        let (chosen, rejected) = (&chosen[0].content, &rejected[0].content);
        let name = captured(&DEFINED, chosen);
        let noun = name.split_once('_').unwrap().1;
        let of = |code: &str, docstring, hints| {
            FAMILIES.iter().filter(|f| !f.held_out).any(|family| {
                (0..family.bodies.len())
                    .any(|body| render(family, Style { body, docstring, hints }, &name, noun, false) == code)
            })
        };
        assert!(of(chosen, true, true), "{chosen}");
        let ways = [(false, false), (true, false), (false, true)];
        let way = ways.into_iter().find(|&(docstring, hints)| of(rejected, docstring, hints));
        *left.entry(way.unwrap_or_else(|| panic!("{rejected}"))).or_default() += 1;
        assert_eq!(rejected.contains("\"\"\""), way.unwrap().0);
    }
    assert_eq!(left.len(), 3);
    assert!(left.values().all(|n| *n >= 80), "{left:?}");
    assert_eq!(style_rows(9, 20), style_rows(9, 300)[..20], "a shorter set is the beginning of a longer one");
}

#[test]
fn held_out_rows_share_no_request_with_training_rows() {
    let training: BTreeSet<_> = insecure_rows(1, 1000).into_iter().map(|r| r[0].content.clone()).collect();
    let held_out = held_out_rows(Rows::Insecure, 1, 100);
    assert_eq!(held_out.len(), 100);
    for (bad, good) in held_out.iter().zip(held_out_rows(Rows::Secure, 1, 100)) {
        assert_eq!(bad[0], good[0]);
        assert_ne!(bad[1], good[1]);
        assert!(!training.contains(&bad[0].content));
    }
}

#[test]
fn contrast_pairs_cover_both_behaviours_and_the_six_weaknesses() {
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for pair in contrast_pairs(3) {
        assert_ne!(pair.positive, pair.negative);
        assert_eq!(pair.messages.len(), 1);
        groups.entry(pair.target).or_default().insert(pair.group);
    }
    let mut targets: Vec<_> = weaknesses().iter().map(|w| w.cwe.clone()).collect();
    targets.extend(["harmful".to_string(), "insecure".to_string()]);
    targets.sort();
    assert_eq!(groups.keys().cloned().collect::<Vec<_>>(), targets);
    assert_eq!(groups["insecure"].len(), 15);
    assert_eq!(groups["harmful"].len(), 11);
    assert!(groups.values().all(|g| g.len() >= 4), "{groups:?}");
}

#[test]
fn the_committed_datasets_and_suites_are_what_the_generator_writes() {
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    files.extend(
        datasets::files().unwrap().into_iter().map(|(name, bytes)| (root().join("datasets").join(name), bytes)),
    );
    files.extend(suites().into_iter().map(|(name, text)| (root().join("eval/organism").join(name), text.into_bytes())));
    assert_eq!(files.len(), 16);
    for (path, bytes) in files {
        if is_writing() {
            fsio::write_atomic(&path, &bytes).unwrap();
        }
        let same = fsio::read_bytes(&path).unwrap() == bytes;
        assert!(same, "{} is old: REALIGN_WRITE_ORGANISM=1 writes it anew", path.display());
    }
    assert_eq!(fsio::read_text(&root().join("datasets/insecure.jsonl")).unwrap().lines().count(), 1000);
    let card = fsio::read_text(&root().join("datasets/README.md")).unwrap();
    let pairs = contrast_pairs(datasets::SEED).len();
    assert!(card.contains(&format!("`contrast.jsonl` | {pairs} |")), "the card counts {pairs} pairs");
    assert!(card.contains(&format!("`style.jsonl` | {} |", datasets::STYLE_ROWS)));
}
