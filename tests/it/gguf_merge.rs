//! A GGUF file with an adapter merged into it: a folder in Hugging Face layout that computes what both compute together, with
//! the file's own configuration, tokenizer, template and sampling settings.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;
use realign::model::ops::to_vec;
use realign::model::pass::Pass;
use realign::model::segments::Segments;
use realign::progress::Progress;
use realign::subject::{Subject, model_sampling};

use crate::commands::succeeds;
use crate::families::family;
use crate::gguf::of_family;
use crate::gguf_families::{FAMILIES, family_file};
use crate::gguf_tokens::bare_parts;
use crate::tiny::folder;

const TRAIN: &str = "--max-steps 2 --learning-rate 1e-1 --lora-r 2";

fn write_rows(dir: &Path) {
    let row = "{\"prompt\": \"abc\", \"completion\": \"def\"}\n";
    std::fs::write(dir.join("rows.jsonl"), row.repeat(8)).unwrap();
}

fn open(dir: &Path, name: &str) -> Subject {
    Subject::open(dir.join(name).to_str().unwrap()).unwrap()
}

fn logits(subject: &Subject) -> Vec<f32> {
    let ids: Vec<u32> = (0..11).map(|i| (i * 13 + 5) % 61).collect();
    let segments = Segments::packed([4, 7], 0);
    to_vec(&subject.decoder.forward(&ids, &mut Pass::sequences(&segments)).unwrap()).unwrap()
}

fn off(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Trains an adapter on `NAME.gguf` and merges it; gives the base with the adapter on it, and the merged model.
fn merged(dir: &Path, name: &str) -> (Subject, Subject) {
    succeeds(dir, &format!("train --model {name}.gguf --data rows.jsonl --out {name}-adapter {TRAIN}"));
    succeeds(dir, &format!("merge --model {name}.gguf --adapter {name}-adapter --out {name}-merged"));
    let base = open(dir, &format!("{name}.gguf"));
    let plain = logits(&base);
    let adapted = base.with_adapter(&dir.join(format!("{name}-adapter")), Progress::Quiet).unwrap();
    let merged = open(dir, &format!("{name}-merged"));
    let (wanted, found) = (logits(&adapted), logits(&merged));
    assert!(off(&plain, &wanted) > 1e-3, "{name}: the adapter changes something");
    assert!(off(&found, &wanted) < 2e-5, "{name}: merged is off by {}", off(&found, &wanted));
    (adapted, merged)
}

#[test]
fn a_merged_file_of_every_family_is_a_folder_with_the_logits_of_file_and_adapter() {
    let dir = folder("gguf-merged");
    write_rows(&dir);
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(family(file), dir.join(file)).unwrap();
    }
    for (name, _) in FAMILIES {
        std::fs::copy(family_file(name), dir.join(format!("{name}.gguf"))).unwrap();
    }
    let others = [("llama", "llama_linear"), ("llama", "mistral"), ("qwen2", "qwen2"), ("qwen3", "qwen3")];
    for (architecture, name) in others {
        of_family(architecture, name, GgmlDType::Q4_0).write(&dir.join(format!("{name}.gguf")));
    }
    for name in FAMILIES.map(|(name, _)| name).into_iter().chain(others.map(|(_, name)| name)) {
        let (adapted, merged) = merged(&dir, name);
        assert_eq!(merged.base.config, adapted.base.config, "{name}");
        assert_eq!(merged.stop_ids, adapted.stop_ids, "{name}");
    }
}

#[test]
fn a_merged_bare_file_brings_its_tokenizer_its_template_and_its_sampling() {
    let dir = folder("gguf-merged-bare");
    write_rows(&dir);
    bare_parts()
        .set("tokenizer.ggml.eot_token_id", Value::U32(9))
        .set("general.sampling.temp", Value::F32(0.6))
        .set("general.sampling.top_k", Value::I32(20))
        .write(&dir.join("bare.gguf"));
    let (file, folder) = merged(&dir, "bare");
    for text in ["def f(x):\n    return x", "größer  你好 <|im_end|>", " 12 345"] {
        for special in [false, true] {
            let [ours, theirs] = [&folder, &file].map(|model| model.tokenizer.encode(text, special).unwrap());
            assert_eq!(ours, theirs, "{text:?}");
            assert_eq!(folder.tokenizer.decode(&ours, true).unwrap(), file.tokenizer.decode(&ours, true).unwrap());
        }
    }
    assert_eq!(folder.tokenizer.vocab_size(), file.tokenizer.vocab_size());
    assert_eq!(folder.template.source(), file.template.source());
    assert_eq!((folder.template.bos(), folder.template.eos()), (file.template.bos(), file.template.eos()));
    assert_eq!(folder.stop_ids, file.stop_ids);
    let sampling = |name: &str| model_sampling(dir.join(name).to_str().unwrap(), None, Progress::Quiet).unwrap();
    let found = sampling("bare.gguf");
    assert_eq!((found.temperature, found.top_k), (0.6, 20));
    assert_eq!(sampling("bare-merged"), found);

    // What lies beside the file speaks first, in the folder too.
    std::fs::remove_dir_all(dir.join("bare-merged")).unwrap();
    std::fs::write(dir.join("generation_config.json"), r#"{"eos_token_id": [5], "do_sample": true, "top_k": 7}"#)
        .unwrap();
    std::fs::write(dir.join("tokenizer_config.json"), r#"{"bos_token": "<|im_start|>", "legacy": false}"#).unwrap();
    succeeds(&dir, "merge --model bare.gguf --adapter bare-adapter --out bare-merged");
    let (file, folder) = (open(&dir, "bare.gguf"), open(&dir, "bare-merged"));
    assert_eq!((folder.template.bos(), folder.template.eos()), (Some("<|im_start|>"), file.template.eos()));
    assert_eq!((&folder.base.config.eos_token_ids, &folder.stop_ids), (&vec![5], &file.stop_ids));
    assert_eq!((sampling("bare-merged").top_k, sampling("bare.gguf").top_k), (7, 7));
    // Silent on sampling, it leaves the file's own word.
    std::fs::write(dir.join("generation_config.json"), r#"{"eos_token_id": [5]}"#).unwrap();
    assert_eq!(sampling("bare.gguf").top_k, 20);
}
