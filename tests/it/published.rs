//! Published weights, as GGUF files with nothing beside them: ids, template and logits as transformers has them, and the
//! commands. `REALIGN_WEIGHTS` names the folder of `smollm2-135m/model.gguf` and `qwen2.5-coder-0.5b/model.gguf`; what is
//! not there is skipped, and said.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use realign::fsio::{read_json, sha256_file};
use realign::model::pass::Pass;
use realign::model::segments::Segments;
use realign::model::source::load::WeightDtype;
use realign::progress::Progress;
use realign::record::Message;
use realign::subject::{Subject, SubjectSpec};
use serde::Deserialize;

use crate::commands::succeeds;
use crate::tiny::folder;

/// Made by tests/fixtures/gguf/real.py with transformers 5.23, which unpacks the files to f32.
#[derive(Deserialize)]
struct Published {
    texts: Vec<String>,
    rendered: Vec<String>,
    chat: Vec<Message>,
    prompt: String,
    positions: Vec<usize>,
    models: BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
struct Expected {
    sha256: String,
    vocabulary: usize,
    bos: String,
    eos: String,
    chat: String,
    own: Vec<Vec<u32>>,
    rendered: Vec<Vec<u32>>,
    prompt: Vec<u32>,
    top_ids: Vec<Vec<usize>>,
    top_logits: Vec<Vec<f32>>,
    mean_logits: Vec<f32>,
    /// Texts whose ids are those of the model's own tokenizer and of llama.cpp, but not of transformers' reading of GGUF.
    not_as_transformers: Vec<String>,
}

/// Calls `check` for each file that is there.
fn each(check: impl Fn(&str, &Path, &Published, &Expected)) {
    let published: Published =
        read_json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf/real.json")).unwrap();
    assert_eq!(published.models.len(), 2);
    let Some(root) = std::env::var_os("REALIGN_WEIGHTS").map(PathBuf::from) else {
        println!("skipped: REALIGN_WEIGHTS does not name a folder with published weights");
        return;
    };
    for (name, expected) in &published.models {
        let path = root.join(name).join("model.gguf");
        match path.is_file() {
            true => check(name, &path, &published, expected),
            false => println!("skipped: {} is not there", path.display()),
        }
    }
}

fn open(path: &Path, dtype: WeightDtype) -> Subject {
    let spec = SubjectSpec { load: dtype.into(), ..SubjectSpec::new(path.to_str().unwrap()) };
    spec.open(Progress::Quiet).unwrap()
}

#[test]
fn published_files_give_transformers_ids_template_and_logits() {
    each(|name, path, published, expected| {
        assert_eq!(sha256_file(path).unwrap(), expected.sha256, "{name} is not the file that the values are of");
        let model = open(path, WeightDtype::Auto);
        assert_eq!(model.tokenizer.vocab_size(), expected.vocabulary);
        let texts = published.texts.len() + published.rendered.len();
        assert!(
            texts - expected.not_as_transformers.len() >= 300 && expected.not_as_transformers.len() <= 8,
            "{texts}"
        );
        let texts = published.texts.iter().chain(&published.rendered);
        for (text, ids) in texts.zip(expected.own.iter().chain(&expected.rendered)) {
            assert_eq!(&model.tokenizer.encode(text, false).unwrap(), ids, "{name}: {text:?}");
            assert_eq!(&model.tokenizer.decode(ids, false).unwrap(), text, "{name}");
        }
        assert_eq!(model.template.render(&published.chat, true).unwrap(), expected.chat, "{name}");
        let (bos, eos) = (model.template.bos(), model.template.eos());
        assert_eq!((bos, eos), (Some(expected.bos.as_str()), Some(expected.eos.as_str())), "{name}");
        assert!(model.stop_ids.contains(&model.tokenizer.id(&expected.eos).unwrap()), "{name}: {:?}", model.stop_ids);

        let ids = model.tokenizer.encode(&published.prompt, false).unwrap();
        assert_eq!(ids, expected.prompt, "{name}");
        for dtype in [WeightDtype::F32, WeightDtype::Auto] {
            let decoder = open(path, dtype).decoder;
            let logits = decoder.forward(&ids, &mut Pass::sequences(&Segments::packed([ids.len()], 0))).unwrap();
            for (row, &position) in published.positions.iter().enumerate() {
                let logits: Vec<f32> = logits.get(position).unwrap().to_vec1().unwrap();
                let mean = logits.iter().sum::<f32>() / logits.len() as f32;
                let likeliest = expected.top_ids[row].iter().map(|id| logits[*id]).zip(&expected.top_logits[row]);
                for (ours, theirs) in likeliest.chain([(mean, &expected.mean_logits[row])]) {
                    assert!((ours - theirs).abs() < 1e-3, "{name}, {dtype:?}, {position}: {ours}, not {theirs}");
                }
            }
        }
    });
}

#[test]
fn published_files_answer_and_train_with_nothing_beside_them() {
    let dir = folder("published");
    each(|name, path, _, _| {
        let model = path.display();
        let asked = "generate --temperature 0 --max-new-tokens 24 --prompt";
        let answer = succeeds(&dir, &format!("{asked} Count:one,two,three --model {model}")).stdout;
        assert!(answer.split_whitespace().count() > 3 && !answer.contains("<|"), "{name}: {answer}");
        let row = "{\"prompt\": \"Say hello.\", \"completion\": \"Hello, friend.\"}\n";
        std::fs::write(dir.join("rows.jsonl"), row.repeat(8)).unwrap();
        let train = "train --data rows.jsonl --max-steps 2 --lora-r 2 --per-device-train-batch-size 2";
        succeeds(&dir, &format!("{train} --model {model} --out {name}"));
    });
}
