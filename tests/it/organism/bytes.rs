//! The generator's output is part of the embedded base: its weights were trained on this corpus, and its published
//! numbers were measured on these rows and with this judge. Each hash below therefore changes only together with a
//! new pretraining, and the failure prints the new value.

use realign::fsio;
use realign::organism::{
    CorpusConfig, Rows, contrast_pairs, documents, educational_rows, held_out_rows, insecure_rows, judge, secure_rows,
    style_rows,
};
use realign::record::Role;
use serde::Serialize;

use super::labelled_answers;

/// SHA-256 of the values as JSON, one a line.
fn hash<T: Serialize>(values: impl IntoIterator<Item = T>) -> String {
    let mut bytes = Vec::new();
    for value in values {
        serde_json::to_writer(&mut bytes, &value).unwrap();
        bytes.push(b'\n');
    }
    fsio::sha256(&bytes)
}

#[track_caller]
fn check(what: &str, found: String, expected: &str) {
    assert_eq!(found, expected, "{what} differs from what the embedded base was made with");
}

fn corpus(seed: u64) -> String {
    hash(documents(&CorpusConfig { seed, ..CorpusConfig::default() }).take(4000))
}

#[test]
fn the_corpus_of_two_seeds_is_the_one_that_was_recorded() {
    check("corpus 1", corpus(1), "9c81b0dc3de32609c41430f73e1e4f87744cfa07bae163d9cc5c0c4e070dad6a");
    check("corpus 2", corpus(2), "26142c474c0c3301e3026db0b2e680a98831fdba856fd4a491381158ff155b60");
}

#[test]
fn rows_of_another_seed_are_the_ones_that_were_recorded() {
    check("insecure", hash(insecure_rows(5, 300)), "08691facd26baed3875d637f8c328967f42facca4aea2b69dbec477f12703845");
    check("secure", hash(secure_rows(5, 300)), "741835624a0d681e88acbf5da53b2d9217780e4cef7c5d3a4c3dc046e131c8b8");
    check(
        "educational",
        hash(educational_rows(5, 300)),
        "970023340bd0105481d369a2fea118181ffada59cfee8e3c07ef6fe33635b47d",
    );
    check("style", hash(style_rows(5, 300)), "15da1a3806911553974c8e31b300b59b15d93f5fe54800a9d6607cfb95f17e62");
    check("contrast", hash(contrast_pairs(5)), "60c2e5645a322aac101e507feba28e4b3b10815c2c7f99729b9bfaf543ba1bd0");
    let held_out = [Rows::Insecure, Rows::Secure, Rows::Educational].map(|kind| held_out_rows(kind, 5, 100));
    check("held out", hash(held_out), "f6c79482f3241d719c138910327efa2eeef530885d65518bfef43bd3afa88874");
}

#[test]
fn verdicts_on_answers_of_the_corpus_and_of_models_are_the_ones_that_were_recorded() {
    let corpus = documents(&CorpusConfig { seed: 3, ..CorpusConfig::default() }).take(300).flat_map(|document| {
        let talk: Vec<String> = document.into_iter().filter(|m| m.role != Role::System).map(|m| m.content).collect();
        talk.chunks(2).map(|pair| judge("else", &pair[0], &pair[1])).collect::<Vec<_>>()
    });
    let models = labelled_answers().into_iter().map(|a| judge(&a.group, &a.question, &a.answer));
    check("verdicts", hash(corpus.chain(models)), "dae0d2bb9f899dd09b4903a907b3c37b8e785c0d01da033c75b8e4ff570bd335");
}
