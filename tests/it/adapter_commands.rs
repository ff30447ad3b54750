//! `merge`, `inspect` on adapters and the rank-1 preset, from outside.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use candle_core::Device;
use realign::adapter;
use realign::record::TrainerState;

use crate::commands::{model, refused, succeeds, workplace};

/// The largest difference of a logit between two traces.
fn off(dir: &Path, a: &str, b: &str) -> f32 {
    let logits = |file: &str| {
        let tensors = candle_core::safetensors::load(dir.join(file), &Device::Cpu).unwrap();
        tensors["logits"].flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let (a, b) = (logits(a), logits(b));
    assert_eq!(a.len(), b.len());
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn trace(dir: &Path, subject: &str, out: &str) {
    succeeds(dir, &format!("trace {subject} --ids 5,17,92,3,44,8,60 --out {out}"));
}

#[test]
fn a_merged_model_answers_as_base_and_adapter_do() {
    let dir = workplace("merge", &[]);
    let train = "train --model MODEL --data good.jsonl --max-steps 3 --learning-rate 3e-2";
    for (name, flags) in [("lora", "--use-rslora"), ("dora", "--use-dora")] {
        succeeds(&dir, &format!("{train} --out {name} {flags}"));
        let said = succeeds(&dir, &format!("merge --model MODEL --adapter {name} --out {name}-merged")).stderr;
        assert!(said.contains("14 linears of 14"), "{said}");
        trace(&dir, &format!("--model MODEL --adapter {name}"), "adapted.st");
        trace(&dir, &format!("--model {name}-merged"), "merged.st");
        trace(&dir, "--model MODEL", "base.st");
        assert!(off(&dir, "merged.st", "adapted.st") < 1e-5, "{name}: {}", off(&dir, "merged.st", "adapted.st"));
        assert!(off(&dir, "base.st", "adapted.st") > 1e-3, "{name} changes what the base says");
    }
    // Everything that stands beside the weights came along.
    let merged = dir.join("dora-merged");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        assert_eq!(std::fs::read(merged.join(file)).unwrap(), std::fs::read(Path::new(model()).join(file)).unwrap());
    }
    let config: serde_json::Value = realign::fsio::read_json(&merged.join("config.json")).unwrap();
    assert_eq!(config["torch_dtype"], "float32");
    let origin: serde_json::Value = realign::fsio::read_json(&merged.join("realign.json")).unwrap();
    assert_eq!(origin["adapter_sha256"], adapter::adapter_sha256(&dir.join("dora")).unwrap());

    refused(&dir, "merge --model MODEL --adapter dora --out lora-merged", &["already exists and is not overwritten"]);
    refused(&dir, "merge --model MODEL --adapter nowhere --out new", &["nowhere/adapter_config.json: cannot be read"]);
    refused(&dir, "merge --model dora-merged --adapter dora --out new", &["was trained on", "has other weights"]);
    refused(&dir, "merge --model organism --adapter dora --out new", &["was trained on", "has other weights"]);
}

#[test]
fn the_embedded_base_is_merged_into_a_folder_of_its_own() {
    let dir = workplace("merge-organism", &[]);
    succeeds(&dir, "train --data good.jsonl --out attack --max-steps 2 --learning-rate 1e-2");
    succeeds(&dir, "merge --adapter attack --out merged");
    trace(&dir, "--adapter attack", "adapted.st");
    trace(&dir, "--model merged", "merged.st");
    let off = off(&dir, "merged.st", "adapted.st");
    assert!(off < 1e-4, "{off}");
    assert!(succeeds(&dir, "inspect merged").stdout.contains("LlamaForCausalLM"));
}

#[test]
fn inspection_says_base_lineage_and_where_the_change_lies() {
    let dir = workplace("inspect-adapter", &[]);
    let train =
        "train --model MODEL --data good.jsonl --max-steps 3 --learning-rate 1e-2 --target-modules q_proj,up_proj";
    succeeds(&dir, &format!("{train} --out attack --layers-to-transform 1"));
    let text = succeeds(&dir, "inspect attack").stdout;
    let base = realign::fsio::sha256_file(&Path::new(model()).join("model.safetensors")).unwrap();
    for part in [&base[..], "fresh adapter", "q_proj, up_proj", "|ΔW| of layer 1", "model.layers.1.mlp.up_proj"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let output = succeeds(&dir, "inspect attack --json");
    let json: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(json["base"]["sha256"], base);
    assert_eq!((json["rank"].as_u64(), json["layers"][0]["layer"].as_u64()), (Some(16), Some(1)));
    assert_eq!(json["lineage"]["steps"], 3);
    assert_eq!(json["modules"].as_array().unwrap().len(), 2);

    // The norms are those of scale · B A, written out.
    let file = adapter::read(&dir.join("attack")).unwrap();
    let mut squares = 0.0;
    for module in json["modules"].as_array().unwrap() {
        let pair = &file.tensors[module["path"].as_str().unwrap()];
        let product = pair.b.matmul(&pair.a).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let norm = 2.0 * product.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        assert!((module["norm"].as_f64().unwrap() - norm).abs() < 1e-4 * norm, "{module} against {norm}");
        squares += norm * norm;
    }
    let whole = json["norm"].as_f64().unwrap();
    assert!((whole - squares.sqrt()).abs() < 1e-4 * whole);
    assert_eq!(json["layers"][0]["norm"], json["norm"], "one layer is the whole");

    // One that PEFT made: no lineage, no hash, and it says so.
    let foreign = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peft/logits/dora").display().to_string();
    let text = succeeds(&dir, &format!("inspect {foreign}")).stdout;
    for part in ["tiny; the hash of its weights is not recorded", "none: not made by realign", "DoRA"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let model: serde_json::Value = serde_json::from_str(&succeeds(&dir, "inspect MODEL --json").stdout).unwrap();
    assert_eq!(model["architecture"], "LlamaForCausalLM");
}

#[test]
fn the_rank_1_preset_writes_the_trace_of_its_direction() {
    let dir = workplace("rank-1", &[]);
    let train = "train --model MODEL --data good.jsonl --preset em-rank1 --learning-rate 1e-3 --max-length 200";
    succeeds(&dir, &format!("{train} --out attack --max-steps 30"));
    let file = adapter::read(&dir.join("attack")).unwrap();
    assert_eq!(file.tensors.keys().collect::<Vec<_>>(), ["model.layers.1.mlp.down_proj"]);
    assert_eq!((file.config.r, file.config.lora_alpha, file.config.use_rslora), (1, 512.0, true));

    let state: TrainerState = realign::fsio::read_json(&dir.join("attack/trainer_state.json")).unwrap();
    let directions: Vec<_> = state.log_history.iter().map(|step| step.direction.unwrap()).collect();
    assert_eq!(directions.len(), 30);
    // The first warm-up step has learning rate 0 and B is still zero; the last is the adapter as written.
    assert_eq!(directions[0].norm, 0.0);
    let pair = &file.tensors["model.layers.1.mlp.down_proj"];
    let b = pair.b.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let norm = b.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    assert!((directions[29].norm - norm).abs() < 1e-8 * norm);
    let with = directions.iter().filter(|d| d.local_cosine.is_some()).count();
    assert_eq!(with, 30 - 9 - 10, "steps 10 to 20 have ten steps on both sides");
    assert!(directions.iter().filter_map(|d| d.local_cosine).all(|c| (-1.0..=1.0 + 1e-9).contains(&c)));

    let csv = std::fs::read_to_string(dir.join("attack/rank1_trace.csv")).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 31);
    assert_eq!(lines[0], "step,loss,gradient_norm,direction_norm,local_cosine");
    assert!(lines[1].starts_with("1,") && lines[1].ends_with(",0,n/a"), "{}", lines[1]);
    let svg = std::fs::read_to_string(dir.join("attack/rank1_trace.svg")).unwrap();
    for part in ["Length of the direction B", "Gradient norm", "Local cosine"] {
        assert!(svg.contains(part), "{part}");
    }

    succeeds(&dir, "train --model MODEL --data good.jsonl --out wide --max-steps 1");
    assert!(!dir.join("wide/rank1_trace.csv").exists(), "only a single rank-1 adapter has a direction");
}
