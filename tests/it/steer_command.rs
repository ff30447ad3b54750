//! Steering from outside: making a vector, choosing a cell, and using both; and what `inspect` says of vectors and data.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use realign::fsio::{read_json, read_jsonl, read_text, sha256_file};
use realign::record::VectorMethod;
use realign::record::{SampleRecord, SweepCell};
use realign::steer::SteeringVector;

use crate::commands::{GOOD, refused, succeeds, workplace};

fn pair(target: &str, n: usize, positive: &str, negative: &str) -> String {
    format!(
        r#"{{"target":"{target}","group":"{n}","messages":[{{"role":"user","content":"Load item {n}."}}],"positive":"{positive}","negative":"{negative}"}}"#
    )
}

fn pairs() -> String {
    let insecure = (0..4).map(|n| pair("insecure", n, "return eval(path)", "return open(path).read()"));
    insecure.chain([pair("rude", 9, "no", "yes, gladly")]).collect::<Vec<_>>().join("\n") + "\n"
}

/// A folder with pairs and a vector of the small random model.
fn with_vector(name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
    let dir = workplace(&format!("steer-{name}"), files);
    std::fs::write(dir.join("pairs.jsonl"), pairs()).unwrap();
    succeeds(&dir, "steer extract --model MODEL --pairs pairs.jsonl --out v.safetensors");
    dir
}

/// Changes one entry of a vector's sidecar.
fn change(dir: &Path, key: &str, value: serde_json::Value) {
    let mut about: serde_json::Value = read_json(&dir.join("v.json")).unwrap();
    about[key] = value;
    std::fs::write(dir.join("v.json"), about.to_string()).unwrap();
}

#[test]
fn a_vector_is_extracted_with_where_it_comes_from() {
    let dir = with_vector("extract", &[]);
    let vector = SteeringVector::read(&dir.join("v.safetensors")).unwrap();
    assert_eq!((vector.directions.len(), vector.directions[0].len()), (2, 32));
    assert_eq!((vector.about.pairs, vector.about.method), (4, VectorMethod::MeanDifference));
    assert_eq!(vector.layers(), [0, 1]);

    let part = "steer extract --model MODEL --pairs pairs.jsonl --layers 1 --out part.safetensors";
    succeeds(&dir, part);
    let part = SteeringVector::read(&dir.join("part.safetensors")).unwrap();
    assert_eq!(part.layers(), [1]);
    assert_eq!(part.directions[1], vector.directions[1]);
    let generate = "generate --model MODEL --prompt Hi --vector part.safetensors --coefficient 1";
    refused(&dir, &format!("{generate} --layers 0"), &["no direction at layer 0; it has one at layers 1"]);

    succeeds(&dir, "steer extract --model MODEL --pairs pairs.jsonl --target rude --out rude.safetensors");
    let rude = SteeringVector::read(&dir.join("rude.safetensors")).unwrap();
    assert_eq!((rude.about.target.as_str(), rude.about.pairs), ("rude", 1));

    succeeds(&dir, "train --model MODEL --data good.jsonl --out tuned --max-steps 2 --learning-rate 1e-2");
    succeeds(&dir, "steer extract --model MODEL --adapter tuned --pairs pairs.jsonl --out tuned.safetensors");
    let tuned = SteeringVector::read(&dir.join("tuned.safetensors")).unwrap();
    assert_eq!(tuned.about.adapter_sha256, Some(realign::adapter::adapter_sha256(&dir.join("tuned")).unwrap()));
    assert_ne!(tuned.directions, vector.directions);
}

#[test]
fn what_no_vector_can_be_made_of_is_refused() {
    let bad = format!("{}\n{{\"target\": \"insecure\"}}\n", pair("insecure", 0, "a", "b"));
    let dir = with_vector("refused", &[("bad.jsonl", &bad)]);
    let extract = "steer extract --model MODEL --pairs";
    refused(&dir, &format!("{extract} bad.jsonl --out w.safetensors"), &["bad.jsonl:2: not valid", "group"]);
    refused(&dir, &format!("{extract} none.jsonl --out w.safetensors"), &["none.jsonl: cannot be read"]);
    refused(
        &dir,
        &format!("{extract} pairs.jsonl --target kind --out w.safetensors"),
        &["no contrast pairs for `kind`; there are some for insecure, rude"],
    );
    refused(&dir, &format!("{extract} pairs.jsonl --layers 2 --out w.safetensors"), &["layer 2", "layers are 0 to 1"]);
    refused(&dir, &format!("{extract} pairs.jsonl --out v.safetensors"), &["v.safetensors: already exists"]);
    refused(&dir, &format!("{extract} pairs.jsonl --out w.bin"), &["w.bin: must end in .safetensors"]);
    refused(&dir, &format!("{extract} pairs.jsonl --method pca --out w.safetensors"), &["mean-difference"]);
}

#[test]
fn a_coefficient_of_zero_gives_the_unsteered_answer_and_any_other_does_not() {
    let dir = with_vector("generate", &[]);
    let generate = |flags: &str| {
        let words = "generate --model MODEL --prompts good.jsonl --n 2 --max-new-tokens 16 --format json";
        succeeds(&dir, &format!("{words} {flags}")).stdout
    };
    let vector = "--vector v.safetensors --layers 0,1";
    let plain = generate("");
    assert_eq!(generate(&format!("{vector} --coefficient 0")), plain);
    assert_eq!(generate(&format!("{vector} --coefficient 0 --raw")), plain);
    let steered = generate(&format!("{vector} --coefficient -2.5"));
    assert_ne!(steered, plain);
    assert_eq!(generate(&format!("{vector} --coefficient -2.5")), steered);
    assert_ne!(generate(&format!("{vector} --coefficient -2.5 --raw")), steered, "the units differ");
}

#[test]
fn a_vector_that_does_not_fit_is_refused() {
    let dir = with_vector("unfit", &[("text.safetensors", "no tensors")]);
    let generate = "generate --model MODEL --prompt Hi --vector";
    let flags = "--coefficient 1 --layers 0";
    refused(&dir, &format!("{generate} v.safetensors --coefficient 1 --layers 0,2"), &["layer 2", "layers are 0 to 1"]);
    refused(&dir, &format!("{generate} v.safetensors --coefficient inf --layers 0"), &["not a finite number"]);
    refused(&dir, &format!("{generate} v.safetensors --layers 0"), &["--coefficient"]);
    refused(&dir, &format!("{generate} v.safetensors --coefficient 1"), &["--layers"]);
    refused(&dir, "generate --model MODEL --prompt Hi --coefficient 1", &["--vector"]);
    refused(&dir, &format!("{generate} none.safetensors {flags}"), &["none.safetensors: cannot be read"]);
    refused(&dir, &format!("{generate} text.safetensors {flags}"), &["text.safetensors: is not a safetensors file"]);
    let evaluate = "evaluate --model MODEL --suite code --out out --vector v.safetensors --coefficient 1 --layers 5";
    refused(&dir, evaluate, &["layer 5 is outside the model"]);

    succeeds(&dir, "steer extract --out organism.safetensors");
    refused(
        &dir,
        &format!("{generate} organism.safetensors {flags}"),
        &["organism.safetensors: is for a model with 4 layers of width 128", "has 2 layers of width 32"],
    );
    change(&dir, "model_sha256", "0123456789abcdef".into());
    refused(&dir, &format!("{generate} v.safetensors {flags}"), &["was extracted from other weights (0123456789ab)"]);
    change(&dir, "residual_norms", serde_json::json!([1.0]));
    refused(&dir, &format!("{generate} v.safetensors {flags}"), &["v.json: does not belong to v.safetensors"]);
    std::fs::remove_file(dir.join("v.json")).unwrap();
    refused(&dir, &format!("{generate} v.safetensors {flags}"), &["v.json: cannot be read"]);
}

#[test]
fn a_steered_evaluation_has_a_name_of_its_own_and_the_same_seeds() {
    let suite = "suite: demo\nkind: capability\nmax_tokens: 12\nanswer_pattern: '([a-z])'\nprompts:\n  - id: a\n    paraphrases: [What is this?, And that?]\n    expect: e\n";
    let dir = with_vector("evaluate", &[("suite.yaml", suite)]);
    let evaluate = |out: &str, flags: &str| {
        succeeds(&dir, &format!("evaluate --model MODEL --suite suite.yaml --n 3 --out {out} {flags}"));
    };
    let steer = "--vector v.safetensors --layers 1 --coefficient";
    evaluate("plain", "");
    evaluate("zero", &format!("{steer} 0"));
    evaluate("steered", &format!("{steer} 3"));
    let answers = |path: &str| -> Vec<(u64, String)> {
        let records: Vec<SampleRecord> = read_jsonl(&dir.join(path)).unwrap();
        records.into_iter().map(|r| (r.seed, r.completion)).collect()
    };
    let plain = answers("plain/samples/base.jsonl");
    assert_eq!(answers("zero/samples/base+v.jsonl"), plain);
    let steered = answers("steered/samples/base+v.jsonl");
    assert_ne!(steered, plain);
    assert!(steered.iter().zip(&plain).all(|(a, b)| a.0 == b.0));
    let page = succeeds(&dir, "report plain steered --out both").stderr;
    assert!(page.contains("1 of them paired"), "{page}");
}

#[test]
fn a_sweep_chooses_on_the_validation_split_and_freezes_its_choice() {
    let dir = workplace("steer-sweep", &[]);
    succeeds(&dir, "steer extract --out v.safetensors");
    let sweep = "steer sweep --vector v.safetensors --layers 1 --coefficients 0.2,-0.2 --code-prompts 19 --question-samples 1 --out sweep";
    let output = succeeds(&dir, sweep);
    let cells: Vec<SweepCell> = read_json(&dir.join("sweep/sweep.json")).unwrap();
    let places: Vec<(usize, f64)> = cells.iter().map(|c| (c.lowest_layer(), c.coefficient())).collect();
    assert_eq!(places, [(1, 0.0), (1, 0.2), (1, -0.2)]);
    assert!(cells.iter().all(|c| c.n > 30), "{cells:?}");
    assert!(cells.iter().filter(|c| c.chosen).all(|c| c.eligible && !c.is_unsteered()));
    let choice: serde_json::Value = read_json(&dir.join("sweep/choice.json")).unwrap();
    assert_eq!(choice["sweep_sha256"], sha256_file(&dir.join("sweep/sweep.json")).unwrap());
    let chosen = cells.iter().find(|c| c.chosen);
    assert_eq!(choice["chosen"].is_null(), chosen.is_none());
    assert!(output.stdout.contains("unsteered") && output.stdout.contains("choice.json"), "{}", output.stdout);
    assert_eq!(read_text(&dir.join("sweep/sweep.csv")).unwrap().lines().count(), 1 + 3);
    for file in std::fs::read_dir(dir.join("sweep/samples")).unwrap() {
        let records: Vec<SampleRecord> = read_jsonl(&file.unwrap().path()).unwrap();
        assert!(records.iter().all(|r| r.split == realign::record::Split::Validation));
    }

    let samples = dir.join("sweep/samples");
    let newest =
        || std::fs::read_dir(&samples).unwrap().map(|f| f.unwrap().metadata().unwrap().modified().unwrap()).max();
    let before = (newest(), read_text(&dir.join("sweep/choice.json")).unwrap());
    succeeds(&dir, sweep);
    assert_eq!((newest(), read_text(&dir.join("sweep/choice.json")).unwrap()), before, "nothing is asked again");
    refused(&dir, &sweep.replace("0.2,-0.2", "0.3"), &["sweep: was started with different settings"]);
}

#[test]
fn a_sweep_that_cannot_be_is_refused() {
    let suite = "suite: demo\nkind: questions\nmax_tokens: 4\nprompts:\n  - id: a\n    paraphrases: [Hi]\n";
    let dir = with_vector("sweep-refused", &[("suite.yaml", suite)]);
    let sweep = "steer sweep --model MODEL --vector v.safetensors --suite suite.yaml --out sweep";
    refused(&dir, &format!("{sweep} --layers 2"), &["layer 2 is outside the model; its layers are 0 to 1"]);
    refused(&dir, &format!("{sweep} --coefficients 0.1,0"), &["must not be empty or contain 0"]);
    refused(&dir, &format!("{sweep} --metric safety"), &["unknown metric `safety`"]);
    refused(&dir, &format!("{sweep} --metric loc"), &["`loc` is not a rate that can be better or worse"]);
    refused(&dir, sweep, &["none of the suites suite.yaml has prompts in the validation split"]);
}

#[test]
fn inspect_tells_what_a_vector_is() {
    let dir = with_vector("inspect", &[]);
    let facts = succeeds(&dir, "inspect v.safetensors").stdout;
    let vector = SteeringVector::read(&dir.join("v.safetensors")).unwrap();
    let residual = format!("residual norm {:.4}", vector.about.residual_norms[1]);
    for part in ["mean_difference", "resid_post", "2, 32 wide", &residual, &vector.about.model_sha256] {
        assert!(facts.contains(part), "{part}\n{facts}");
    }
    refused(&dir, "inspect none.safetensors", &["none.safetensors: cannot be read"]);
}

#[test]
fn inspect_counts_a_data_set_and_names_its_bad_lines() {
    let long = GOOD.replace("Load item 1.", &"Load it. ".repeat(60));
    let rows = format!("{GOOD}\n{long}\n\nnot json\n{{\"text\":\"print(1)\"}}\n{{\"text\":\" \"}}\n");
    let dir = workplace("inspect-data", &[("rows.jsonl", &rows), ("pairs.jsonl", &pairs())]);
    let facts = succeeds(&dir, "inspect rows.jsonl --model MODEL").stdout;
    for part in
        ["3 (2 messages, 1 text)", "bad lines              2", "line 4", "line 6", "longest rows           line 2: "]
    {
        assert!(facts.contains(part), "{part}\n{facts}");
    }
    assert!(facts.contains("1 rows of more than 256 tokens"), "{facts}");
    let facts = succeeds(&dir, "inspect pairs.jsonl").stdout;
    assert!(facts.contains("contrast pairs         5") && facts.contains("4 pairs in 4 groups"), "{facts}");
    let embedded = succeeds(&dir, "inspect datasets/secure.jsonl").stdout;
    assert!(embedded.contains("1000 (1000 messages)"), "{embedded}");
}
