//! What is loaded and how it is held: types, damaged files, too little memory, devices, and what `inspect` says of memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use realign::fsio;
use realign::model::memory;
use realign::model::source::load::{WeightDtype, load_dir};
use realign::model::source::save::safetensors_bytes;
use realign::subject::Subject;

use crate::commands::{model, realign, refused, succeeds, workplace};

const TRACE: &str = "--ids 5,6,7 --out t.safetensors";

fn logits(dir: &Path, words: &str) -> Vec<f32> {
    succeeds(dir, &format!("trace {words} {TRACE}"));
    let tensors = candle_core::safetensors::load(dir.join("t.safetensors"), &Device::Cpu).unwrap();
    std::fs::remove_file(dir.join("t.safetensors")).unwrap();
    tensors["logits"].flatten_all().unwrap().to_vec1().unwrap()
}

fn off(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The random model's folder, with its weights as some type.
fn copy(dir: &Path, name: &str, dtype: DType) {
    std::fs::create_dir(dir.join(name)).unwrap();
    for entry in std::fs::read_dir(model()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.join(name).join(path.file_name().unwrap())).unwrap();
    }
    let file = dir.join(name).join("model.safetensors");
    let weights = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let weights: Vec<(String, Tensor)> = weights.into_iter().map(|(n, t)| (n, t.to_dtype(dtype).unwrap())).collect();
    std::fs::write(file, safetensors_bytes(weights.iter().map(|(n, t)| (n, t))).unwrap()).unwrap();
}

#[test]
fn f16_and_bf16_files_are_held_as_they_are_and_are_the_same_numbers_in_f32() {
    let dir = workplace("loading-dtypes", &[]);
    for (name, dtype, tolerance) in [("f16", DType::F16, 1e-5), ("bf16", DType::BF16, 1e-5)] {
        copy(&dir, name, dtype);
        let loaded = load_dir(&dir.join(name), WeightDtype::Auto).unwrap().decoder;
        assert_eq!(loaded.embedding.format_name(), dtype.as_str());
        assert!(loaded.linears().all(|linear| linear.weight.format_name() == dtype.as_str()));
        assert_eq!(loaded.norm.weight.dtype(), DType::F32);
        let held = logits(&dir, &format!("--model {name}"));
        let widened = logits(&dir, &format!("--model {name} --dtype f32"));
        // Where bf16 is multiplied by dot products of the processor's, activations are rounded.
        let tolerance = if dtype == DType::BF16 { 2e-2f32 } else { tolerance };
        assert!(off(&held, &widened) < tolerance, "{name}: {}", off(&held, &widened));
    }
    let rounded = logits(&dir, "--model MODEL --dtype f16");
    assert!(off(&rounded, &logits(&dir, "--model f16")) < 1e-6, "rounding at load is rounding before");
    assert!(off(&rounded, &logits(&dir, "--model MODEL")) > 1e-7, "f16 is not f32");
    succeeds(&dir, "train --model f16 --data good.jsonl --out adapter --max-steps 2 --max-length 200");
    succeeds(&dir, "generate --model f16 --adapter adapter --prompt hello --max-new-tokens 4");
}

#[test]
fn damaged_and_foreign_files_are_refused_before_anything_is_loaded() {
    let dir = workplace("loading-damaged", &[]);
    copy(&dir, "model", DType::F32);
    let (file, index) = (dir.join("model/model.safetensors"), dir.join("model/model.safetensors.index.json"));
    let whole = std::fs::read(&file).unwrap();
    let trace = format!("trace --model model {TRACE}");
    std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    refused(&dir, &trace, &["model.safetensors: is cut off", "the file has"]);
    std::fs::write(&file, &whole[..100]).unwrap();
    refused(&dir, &trace, &["model.safetensors: is not a safetensors file"]);
    std::fs::write(&file, [&whole[..], b"x"].concat()).unwrap();
    refused(&dir, &trace, &["does not fit its header"]);
    std::fs::write(&file, b"\x80\x02}q\x00.").unwrap();
    refused(&dir, &trace, &["model.safetensors: is a pickle"]);
    std::fs::write(&file, b"").unwrap();
    refused(&dir, &trace, &["model.safetensors: is empty"]);
    std::fs::rename(&file, dir.join("model/pytorch_model.bin")).unwrap();
    refused(&dir, &trace, &["has no model.safetensors; pickle files are refused"]);
    for (shard, why) in [("../model.safetensors", "not a file of this folder"), ("pytorch_model.bin", "pickle")] {
        std::fs::write(&index, format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#)).unwrap();
        refused(&dir, &trace, &["index.json: names the shard", why]);
    }
    refused(&dir, "inspect model", &["names the shard"]);
}

/// A file as large as its header says, of which the disk holds nothing.
#[test]
fn a_model_that_memory_does_not_suffice_for_is_refused_with_both_numbers() {
    let dir = workplace("loading-memory", &[]);
    copy(&dir, "model", DType::F32);
    let path = dir.join("model/model.safetensors");
    let rows = 1usize << 37;
    let header = format!(
        r#"{{"model.embed_tokens.weight":{{"dtype":"F32","shape":[{rows},8],"data_offsets":[0,{}]}}}}"#,
        rows * 32
    );
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    if file.set_len((8 + header.len() + rows * 32) as u64).is_err() {
        println!("the file system has no files of this size");
        return;
    }
    refused(&dir, &format!("trace --model model {TRACE}"), &["need 4096.0 GiB of memory", "are free", "inspect"]);
    refused(&dir, &format!("trace --model model --dtype bf16 {TRACE}"), &["need 2048.0 GiB"]);
}

#[test]
fn inspect_says_what_a_model_takes_from_its_headers_alone() {
    let dir = workplace("loading-inspect", &[]);
    let json: serde_json::Value = serde_json::from_str(&succeeds(&dir, "inspect organism --json").stdout).unwrap();
    let organism = Subject::open("organism").unwrap();
    let bytes: usize = organism.decoder.weights().values().map(|t| t.elem_count() * 4).sum();
    let all = &json["memory_bytes"];
    assert_eq!(all["weights"]["f32"], bytes);
    assert_eq!(all["KV cache of 1000 tokens of a row"]["f32"], memory::cache_bytes(&organism.decoder.config, 1000));
    let training = |words: &str| {
        let json = succeeds(&dir, &format!("inspect organism --json {words}")).stdout;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let rows = json["memory_bytes"].as_object().unwrap();
        let row = rows.iter().find(|(name, _)| name.starts_with("training") && !name.contains("recomputed")).unwrap();
        row.1["f32"].as_u64().unwrap()
    };
    assert!(training("--batch 1 --length 256") < training("--batch 1 --length 1024"));
    assert!(training("--lora-r 4") < training("--lora-r 64"));

    // Weights are not looked at: these are all zeros that the disk does not hold.
    copy(&dir, "model", DType::F32);
    let text = succeeds(&dir, "inspect model").stdout;
    for part in ["memory (free: ", "f32", "bf16", "8-bit", "4-bit", "recomputed", "KV cache", " as f32"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("SHA-256"));
    let hash = fsio::sha256_file(&dir.join("model/model.safetensors")).unwrap();
    assert!(succeeds(&dir, "inspect model --sha256").stdout.contains(&hash));
}

#[test]
fn devices_that_the_build_lacks_are_refused_by_their_feature() {
    let dir = workplace("loading-device", &[]);
    if cfg!(not(feature = "cuda")) {
        refused(&dir, &format!("trace --model MODEL --device cuda {TRACE}"), &["--features cuda"]);
        refused(&dir, "train --data good.jsonl --out a --device cuda:1", &["no `cuda`"]);
        refused(&dir, "run --device cuda --out a", &["--features cuda"]);
    }
    if cfg!(not(feature = "metal")) {
        refused(&dir, "generate --prompt a --device metal", &["--features metal"]);
    }
    refused(&dir, "generate --prompt a --device gpu", &["unknown device `gpu`"]);
    assert_eq!(logits(&dir, "--model MODEL --device cpu"), logits(&dir, "--model MODEL --device auto"));
}

/// `REALIGN_SIMD=plain` takes every kernel of ours away, as another device does.
#[test]
fn training_and_decoding_in_candles_own_ops_do_what_the_kernels_do() {
    let dir = workplace("loading-plain", &[]);
    let train =
        "train --model MODEL --data good.jsonl --max-steps 3 --max-length 200 --lora-dropout 0.1 --learning-rate 1e-2";
    let ask = "generate --model MODEL --adapter kernels --prompt hello --max-new-tokens 12 --temperature 0";
    let plain = |words: &str| {
        let words = words.replace("MODEL", model());
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_realign"));
        let output = command.env("REALIGN_SIMD", "plain").args(words.split(' ')).current_dir(&dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    succeeds(&dir, &format!("{train} --out kernels"));
    plain(&format!("{train} --out plain"));
    let losses = |name: &str| {
        let state: serde_json::Value = fsio::read_json(&dir.join(name).join("trainer_state.json")).unwrap();
        let log = state["log_history"].as_array().unwrap().clone();
        log.iter().map(|step| step["loss"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    let (kernels, in_plain) = (losses("kernels"), losses("plain"));
    assert_eq!(kernels.len(), 3);
    for (a, b) in kernels.iter().zip(&in_plain) {
        assert!((a - b).abs() < 1e-4 * a.abs(), "{kernels:?} and {in_plain:?}");
    }
    assert!(realign(&dir, ask).stdout == plain(ask), "the same greedy answer");
}
