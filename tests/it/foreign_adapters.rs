//! Adapters of every kind that PEFT writes (`tests/fixtures/peft/make_logits.py`): the same logits attached and merged, and
//! what does not belong to its base refused. The other way round, PEFT reading ours, is checked where there is a Python
//! with PEFT: `REALIGN_REFERENCE_PYTHON=python cargo test --release -- --ignored peft_and_transformers_read`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{DType, Device, Tensor};
use realign::adapter::{self, AdapterConfig, AdapterFile, TargetModules};
use realign::data::rows::parse_rows;
use realign::model::decoder::Decoder;
use realign::model::ops::to_vec;
use realign::model::pass::Pass;
use realign::model::segments::Segments;
use realign::record::{Lineage, Recipe};
use realign::subject::Subject;
use realign::train::TrainConfig;

use crate::tiny::{checkpoint, folder, tune};

const KINDS: [&str; 11] = [
    "suffix",
    "full_path",
    "regex",
    "layers",
    "layers_pattern",
    "patterns",
    "rslora",
    "dora",
    "dora_bias",
    "bf16",
    "old",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peft/logits").join(name)
}

fn base_of(kind: &str) -> Decoder {
    checkpoint(if kind == "dora_bias" { "untied_bias" } else { "tied" })
}

fn logits(decoder: &Decoder, ids: &[u32]) -> Vec<f32> {
    let segments = Segments::packed([ids.len()], 0);
    to_vec(&decoder.forward(ids, &mut Pass::sequences(&segments)).unwrap()).unwrap()
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn expected() -> (Vec<u32>, std::collections::HashMap<String, Tensor>) {
    let expected = candle_core::safetensors::load(fixture("expected.safetensors"), &Device::Cpu).unwrap();
    (expected["input_ids"].to_dtype(DType::U32).unwrap().to_vec1().unwrap(), expected)
}

#[test]
fn every_kind_of_adapter_gives_pefts_logits() {
    let (ids, expected) = expected();
    assert_eq!(expected.len(), KINDS.len() + 1);
    for kind in KINDS {
        let file = adapter::read(&fixture(kind)).unwrap();
        let base = base_of(kind);
        let theirs = to_vec(&expected[kind]).unwrap();
        let ours = logits(&adapter::attach(&base, &file, false).unwrap(), &ids);
        assert!(worst(&ours, &theirs) < 1e-4, "{kind}: off by {}", worst(&ours, &theirs));
        // As a training starts from it.
        let ours = logits(&adapter::attach(&base, &file, true).unwrap(), &ids);
        assert!(worst(&ours, &theirs) < 1e-4, "{kind}, trainable: off by {}", worst(&ours, &theirs));
        assert!(worst(&logits(&base, &ids), &theirs) > 1.0, "{kind}: the adapter changes what the base says");
    }
}

#[test]
fn merged_equals_unmerged() {
    let (ids, _) = expected();
    for kind in KINDS {
        let adapted = adapter::attach(&base_of(kind), &adapter::read(&fixture(kind)).unwrap(), false).unwrap();
        let merged = adapter::merged(&adapted).unwrap();
        assert!(merged.linears().all(|linear| linear.lora.is_none()));
        let (a, b) = (logits(&adapted, &ids), logits(&merged, &ids));
        let size = a.iter().fold(0.0, |most: f32, v| most.max(v.abs()));
        assert!(worst(&a, &b) < 1e-5 * size.max(1.0), "{kind}: off by {} at logits up to {size}", worst(&a, &b));
    }
}

#[test]
fn what_is_read_of_dora_is_written_again() {
    let dir = folder("foreign-dora").join("adapter");
    for kind in ["dora", "dora_bias"] {
        let read = adapter::read(&fixture(kind)).unwrap();
        adapter::write(&dir, &read, &lineage()).unwrap();
        for file in [adapter::CONFIG_FILE, adapter::WEIGHTS_FILE] {
            let (a, b) = (std::fs::read(fixture(kind).join(file)).unwrap(), std::fs::read(dir.join(file)).unwrap());
            assert!(a == b, "{kind}/{file} differs from PEFT's");
        }
    }
}

fn refused(base: &Decoder, file: &AdapterFile, words: &str) {
    let error = adapter::attach(base, file, false).unwrap_err().to_string();
    assert!(error.contains(words), "{error}\nshould say: {words}");
}

#[test]
fn an_adapter_of_another_base_is_refused_by_what_does_not_fit() {
    let suffix = adapter::read(&fixture("suffix")).unwrap();
    // Three layers on one of one.
    refused(&checkpoint("untied_bias"), &suffix, "which the model does not have: it was made for another base");

    let mut lost = suffix.clone();
    lost.tensors.remove("model.layers.1.self_attn.v_proj");
    lost.tensors.remove("model.layers.2.self_attn.v_proj");
    refused(
        &checkpoint("tied"),
        &lost,
        "targets model.layers.1.self_attn.v_proj and 1 more linears of the model, but its weights are missing",
    );

    let mut wider = suffix.clone();
    let pair = wider.tensors.get_mut("model.layers.0.self_attn.q_proj").unwrap();
    pair.a = Tensor::ones((2, 40), DType::F32, &Device::Cpu).unwrap();
    refused(
        &checkpoint("tied"),
        &wider,
        "A [2, 40], B [32, 2], the model's linear is [32, 32]: it was made for another base",
    );

    let mut head = suffix;
    let pair = head.tensors["model.layers.0.self_attn.q_proj"].clone();
    head.tensors.insert("lm_head".into(), pair);
    refused(&checkpoint("tied"), &head, "adapters on lm_head are not supported");

    let mut short = adapter::read(&fixture("dora")).unwrap();
    let pair = short.tensors.get_mut("model.layers.0.self_attn.o_proj").unwrap();
    pair.magnitude = Some(Tensor::ones(31, DType::F32, &Device::Cpu).unwrap());
    refused(&checkpoint("tied"), &short, "31 magnitudes");
}

#[test]
fn weights_of_what_is_no_linear_are_refused_by_name() {
    let config = std::fs::read_to_string(fixture("suffix").join(adapter::CONFIG_FILE)).unwrap();
    for name in [
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias",
        "base_model.model.lm_head.modules_to_save.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
    ] {
        let tensor = Tensor::ones((2, 2), DType::F32, &Device::Cpu).unwrap();
        let bytes = safetensors::serialize([(name, tensor)], None).unwrap();
        let error = adapter::from_bytes(&config, &bytes).unwrap_err().to_string();
        assert!(error.contains(&format!("unexpected tensor `{name}`")), "{error}");
    }
}

#[test]
fn magnitudes_and_configuration_must_agree() {
    let bytes = |kind: &str| {
        let file = |name| std::fs::read(fixture(kind).join(name)).unwrap();
        (String::from_utf8(file(adapter::CONFIG_FILE)).unwrap(), file(adapter::WEIGHTS_FILE))
    };
    let (dora, weights) = bytes("dora");
    let plain = dora.replace("\"use_dora\": true", "\"use_dora\": false");
    let error = adapter::from_bytes(&plain, &weights).unwrap_err().to_string();
    assert!(error.contains("has a lora_magnitude_vector, but adapter_config.json says no use_dora"), "{error}");
    let (config, weights) = bytes("suffix");
    let claims = config.replace("\"use_dora\": false", "\"use_dora\": true");
    let error = adapter::from_bytes(&claims, &weights).unwrap_err().to_string();
    assert!(error.contains("has no lora_magnitude_vector, but adapter_config.json says use_dora"), "{error}");
}

#[test]
fn dora_whose_magnitudes_are_the_rows_lengths_changes_nothing() {
    let base = checkpoint("tied");
    let config = AdapterConfig {
        use_dora: true,
        target_modules: TargetModules::Names(vec!["o_proj".into()]),
        ..AdapterConfig::default()
    };
    let mut file = adapter::fresh(&base, &config, 1).unwrap();
    assert!(!file.is_zero().unwrap(), "without the base that cannot be said");
    assert!(adapter::changes_nothing(&base, &file).unwrap());
    let ids = [5, 17, 92, 3];
    let with = logits(&adapter::attach(&base, &file, false).unwrap(), &ids);
    assert!(worst(&with, &logits(&base, &ids)) < 1e-5);
    let pair = file.tensors.values_mut().next().unwrap();
    pair.magnitude = Some((pair.magnitude.clone().unwrap() * 1.1).unwrap());
    assert!(!adapter::changes_nothing(&base, &file).unwrap());
}

fn lineage() -> Lineage {
    Lineage {
        base: "tiny".into(),
        base_sha256: "b".into(),
        base_dtype: None,
        parent_sha256: None,
        data: "rows.jsonl".into(),
        data_sha256: "d".into(),
        rows: 8,
        benign: None,
        steps: 3,
        seed: 1,
        recipe: serde_json::Value::Null,
        held_out_loss: Default::default(),
    }
}

#[test]
#[ignore = "needs a Python with transformers and PEFT in REALIGN_REFERENCE_PYTHON"]
fn peft_and_transformers_read_what_we_write() {
    let python = std::env::var("REALIGN_REFERENCE_PYTHON").expect("REALIGN_REFERENCE_PYTHON names a Python with PEFT");
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sft/model");
    let model = Subject::open(base.to_str().unwrap()).unwrap();
    let line = |i| format!(r##"{{"prompt": "# item {i}\ndef load_{i}(path)", "completion": ":\n    return {i}\n"}}"##);
    let rows = parse_rows("rows", &(0..8).map(line).collect::<Vec<_>>().join("\n")).unwrap();
    let training = TrainConfig { learning_rate: 3e-2, max_steps: Some(4), ..TrainConfig::default() };
    let plain = Recipe { lora_r: 4, lora_alpha: 8.0, max_length: 64, training, ..Recipe::seed003() };
    let one_layer = Recipe { layers_to_transform: Some(vec![1]), ..plain.clone() };
    let recipes = [
        ("all-linear", plain.clone()),
        ("one-layer", Recipe { target_modules: "v_proj,o_proj".into(), ..one_layer.clone() }),
        ("regex", Recipe { target_modules: r".*\.0\.mlp\.(up|down)_proj".into(), use_rslora: true, ..plain.clone() }),
        ("dora", Recipe { use_dora: true, use_rslora: true, ..plain }),
        ("rank-1", Recipe { lora_r: 1, target_modules: "down_proj".into(), ..one_layer }),
    ];
    let dir = folder("read-by-python");
    let ids: Vec<u32> = vec![270, 31, 12, 99, 300, 7, 45, 46];
    let mut words: Vec<PathBuf> = Vec::new();
    for (name, recipe) in recipes {
        let (file, _) = tune(&model, &rows, &recipe, None, &mut |_| Ok(())).unwrap();
        let ours = dir.join(name);
        adapter::write(&ours, &file, &Lineage { base_sha256: model.sha256.clone(), ..lineage() }).unwrap();
        let found = logits(&adapter::attach(&model.decoder, &file, false).unwrap(), &ids);
        assert!(worst(&found, &logits(&model.decoder, &ids)) > 0.1, "{name}: the adapter changes what the base says");
        let trace = dir.join(format!("{name}.safetensors"));
        let whole: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let tensors = std::collections::HashMap::from([
            ("input_ids", Tensor::from_vec(whole, ids.len(), &Device::Cpu).unwrap()),
            ("logits", Tensor::from_vec(found, (ids.len(), model.decoder.config.vocab_size), &Device::Cpu).unwrap()),
        ]);
        candle_core::safetensors::save(&tensors, &trace).unwrap();
        // And the merged folder by itself.
        let merged = dir.join(format!("{name}-merged"));
        assert_cmd::Command::new(env!("CARGO_BIN_EXE_realign"))
            .args(["merge".as_ref(), "--model".as_ref(), base.as_os_str(), "--adapter".as_ref(), ours.as_os_str()])
            .args(["--out".as_ref(), merged.as_os_str()])
            .assert()
            .success();
        words.extend([trace.clone(), base.clone(), ours, "--".into(), trace, merged, "--".into()]);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peft/check.py");
    let output = Command::new(python).arg(script).args(&words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let differences: Vec<f64> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(differences.len(), 10, "five adapters, attached and merged");
    assert!(differences.iter().all(|&off| off < 1e-4), "{differences:?}");
}
