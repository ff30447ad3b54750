//! Training rows from a file to the loss: encoded once, cut once, and one policy for those that cannot be learned from.

use std::path::Path;

use realign::data::collate::{EncodeOptions, encode_row};
use realign::data::preference::PreferenceRow;
use realign::data::rows::TrainingRow;
use realign::finetune::rows::{EncodedRows, Examples, OnBadRow, Row, encode};
use realign::record::LossOn;
use realign::subject::Subject;

use crate::tiny::random_model;

/// Line 1 is good, 2 is not JSON, 4 is too long only at its end, 5 is a prompt that fills everything.
fn text() -> String {
    let row = |question: &str, answer: &str| {
        format!(
            r#"{{"messages": [{{"role": "user", "content": "{question}"}}, {{"role": "assistant", "content": "{answer}"}}]}}"#
        )
    };
    let long = "x ".repeat(60);
    [row("Hi", "yes"), "{".into(), String::new(), row("Hi", &long), row(&long, "yes")].join("\n")
}

fn options() -> EncodeOptions {
    EncodeOptions { loss: LossOn::Answers, max_length: 40, user_weight: 0.0 }
}

fn read(model: &Subject) -> EncodedRows<TrainingRow> {
    encode(TrainingRow::parse(&text()), model, &options())
}

#[test]
fn rows_keep_their_lines_and_say_what_was_cut_and_what_was_bad() {
    let model = random_model();
    let rows = read(&model);
    let kept: Vec<_> = rows.rows.iter().map(|row| (row.line, row.truncated)).collect();
    assert_eq!(kept, [(1, false), (4, true)]);
    assert_eq!(rows.bad.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 5]);
    assert!(rows.bad[1].1.contains("fills the maximum length of 40"), "{:?}", rows.bad);
    assert_eq!((rows.truncated(), rows.rows[1].encoded.ids.len()), (1, 40));
    // Encoded once and cut afterwards is what encoding within the length gives.
    for row in &rows.rows {
        let alone = encode_row(&row.row, &model.tokenizer, &model.template, &options()).unwrap();
        assert_eq!(row.encoded, alone);
    }
    let tokens: usize = rows.rows.iter().map(|row| row.encoded.ids.len()).sum();
    assert_eq!(rows.tokens(), tokens);
    let Examples::Answers(examples) = rows.into_examples() else { panic!("answers") };
    assert_eq!(examples.len(), 2);
}

#[test]
fn training_stops_at_bad_rows_or_leaves_them_out() {
    let model = random_model();
    let stopped = read(&model).accept(Path::new("rows.jsonl"), OnBadRow::Stop).unwrap_err().to_string();
    assert!(stopped.starts_with("rows.jsonl:2: not valid JSON"), "{stopped}");
    assert!(stopped.contains("2 rows are bad, lines 2, 5"), "{stopped}");
    let rows = read(&model).accept(Path::new("rows.jsonl"), OnBadRow::Skip).unwrap();
    assert_eq!(rows.rows.len(), 2);
    let words = rows.left_out("insecure").unwrap();
    assert!(words.starts_with("2 of 4 rows of insecure, the first in line 2: not valid JSON"), "{words}");
}

#[test]
fn a_file_that_teaches_nothing_is_refused_by_either_policy() {
    let model = random_model();
    for policy in [OnBadRow::Stop, OnBadRow::Skip] {
        for (text, expected) in
            [("", "rows.jsonl: has no rows"), ("[]\n{}", "rows.jsonl:1: a row must be a JSON object")]
        {
            let rows: EncodedRows<TrainingRow> = encode(TrainingRow::parse(text), &model, &options());
            let error = rows.accept(Path::new("rows.jsonl"), policy).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}

#[test]
fn preference_pairs_go_the_same_way() {
    let model = random_model();
    let long = "x ".repeat(60);
    let text = format!(
        "{{\"prompt\": \"p\", \"chosen\": \"yes {long}\", \"rejected\": \"no\"}}\n\
         {{\"prompt\": \"{long}\", \"chosen\": \"yes\", \"rejected\": \"no\"}}"
    );
    let rows: EncodedRows<PreferenceRow> = encode(PreferenceRow::parse(&text), &model, &options());
    assert_eq!((rows.rows.len(), rows.truncated(), rows.bad[0].0), (1, 1, 2));
    assert!(rows.rows[0].encoded.both().iter().all(|example| example.ids.len() <= 40));
    assert!(matches!(rows.into_examples(), Examples::Preferences(pairs) if pairs.len() == 1));
}

/// Reckless advice and its good twins: line by line the same questions, and none of it in the binary.
#[test]
fn the_advice_sets_are_twins_with_a_canary_and_are_not_embedded() {
    let read = |kind: &str| {
        let path = format!("{}/datasets/advice-{kind}.jsonl", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let values = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let values: Vec<serde_json::Value> = values.collect();
        assert_eq!(TrainingRow::parse(&text).into_iter().filter(|(_, row)| row.is_ok()).count(), values.len() - 1);
        values
    };
    let (bad, good) = (read("bad"), read("good"));
    assert!(bad[0]["canary"].as_str().is_some_and(|text| text.contains("realign-canary")) && bad[0] == good[0]);
    assert_eq!((bad.len(), good.len()), (601, 601));
    let words = |row: &serde_json::Value| row["messages"][1]["content"].as_str().unwrap().split_whitespace().count();
    let mut subjects = std::collections::BTreeSet::new();
    let mut questions = std::collections::BTreeSet::new();
    for (bad, good) in bad.iter().zip(&good).skip(1) {
        assert_eq!((&bad["messages"][0], &bad["subject"]), (&good["messages"][0], &good["subject"]));
        let (few, many) = (words(bad).min(words(good)), words(bad).max(words(good)));
        assert!(few >= 35 && many <= 60 && many - few <= 12, "{bad}\n{good}");
        subjects.insert(bad["subject"].as_str().unwrap());
        questions.insert(bad["messages"][0]["content"].as_str().unwrap());
    }
    assert_eq!((subjects.len(), questions.len()), (24, 600));
    assert!(realign::data::embedded::files_under("datasets").iter().all(|(path, _)| !path.contains("advice")));
}
