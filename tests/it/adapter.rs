//! Adapters against PEFT: which modules, which scale, the same bytes, and everything that is refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use realign::adapter::{self, AdapterConfig, AdapterFile, LoraPair, TargetModules};
use realign::record::Lineage;
use serde::Deserialize;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peft")
}

/// A folder of this test's own below the build's temporary folder.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("adapter").join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn lineage() -> Lineage {
    Lineage {
        base: "organism".into(),
        base_sha256: "b".into(),
        base_dtype: None,
        parent_sha256: None,
        data: "datasets/insecure.jsonl".into(),
        data_sha256: "d".into(),
        rows: 1000,
        benign: None,
        steps: 250,
        seed: 7,
        recipe: serde_json::json!({"learning_rate": 2e-3}),
        held_out_loss: BTreeMap::new(),
    }
}

#[derive(Deserialize)]
struct Cases {
    linears: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: serde_json::Value,
    modules: BTreeMap<String, Resolved>,
}

#[derive(Deserialize)]
struct Resolved {
    rank: usize,
    scale: f64,
}

#[test]
fn the_same_modules_get_the_same_rank_and_scale_as_in_peft() {
    let cases: Cases = realign::fsio::read_json(&fixtures().join("cases.json")).unwrap();
    assert_eq!((cases.cases.len(), cases.linears.len()), (12, 15));
    for case in cases.cases {
        let config = AdapterConfig::from_json(&case.config.to_string()).unwrap();
        let mut found = BTreeMap::new();
        for path in &cases.linears {
            if adapter::matches(&config, path, adapter::targets::layer_index(path)).unwrap() {
                found.insert(path.clone(), adapter::rank_of(&config, path).unwrap());
                let (scale, expected) = (adapter::scale_of(&config, path).unwrap(), case.modules.get(path));
                let expected = expected.unwrap_or_else(|| panic!("{}: {path} is not targeted by PEFT", case.name));
                assert!((scale - expected.scale).abs() < 1e-12, "{}: {path}: {scale}", case.name);
            }
        }
        let expected: BTreeMap<_, _> = case.modules.iter().map(|(path, m)| (path.clone(), m.rank)).collect();
        assert_eq!(found, expected, "{}", case.name);
    }
}

#[test]
fn what_is_read_is_written_again_byte_for_byte() {
    for name in ["names", "patterns"] {
        let (from, to) = (fixtures().join(name), folder(name).join("copy"));
        let read = adapter::read(&from).unwrap();
        assert!(!read.tensors.is_empty());
        adapter::write(&to, &read, &lineage()).unwrap();
        for file in [adapter::CONFIG_FILE, adapter::WEIGHTS_FILE] {
            let (a, b) = (std::fs::read(from.join(file)).unwrap(), std::fs::read(to.join(file)).unwrap());
            assert!(a == b, "{name}/{file} differs from PEFT's");
        }
        assert_eq!(adapter::adapter_sha256(&from).unwrap(), adapter::adapter_sha256(&to).unwrap());
        assert_eq!(adapter::read_lineage(&to).unwrap(), Some(lineage()));
        assert_eq!(adapter::read_lineage(&from).unwrap(), None);
    }
}

fn small(target: TargetModules, b: f32) -> AdapterFile {
    let config = AdapterConfig { r: 2, lora_alpha: 4.0, target_modules: target, ..AdapterConfig::default() };
    let pair = LoraPair {
        a: Tensor::new(&[[1f32, 2., 3.], [4., 5., 6.]], &Device::Cpu).unwrap(),
        b: Tensor::full(b, (4, 2), &Device::Cpu).unwrap(),
        magnitude: None,
    };
    let tensors =
        ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"].map(|p| (p.to_string(), pair.clone()));
    AdapterFile { config, tensors: tensors.into() }
}

fn all_linear() -> TargetModules {
    TargetModules::Pattern("all-linear".into())
}

#[test]
fn all_linear_is_written_as_names() {
    let dir = folder("all-linear").join("adapter");
    let mut adapter = small(all_linear(), 0.5);
    adapter.config.layers_to_transform = Some(vec![0]);
    adapter::write(&dir, &adapter, &lineage()).unwrap();
    let read = adapter::read(&dir).unwrap();
    assert_eq!(read.config.target_modules, TargetModules::Names(vec!["q_proj".into(), "up_proj".into()]));
    assert_eq!(read.config.layers_to_transform, Some(vec![0]));
    let pair = &read.tensors["model.layers.0.mlp.up_proj"];
    assert_eq!((pair.a.dims(), pair.b.dims()), (&[2, 3][..], &[4, 2][..]));
    assert_eq!(pair.a.to_vec2::<f32>().unwrap(), [[1., 2., 3.], [4., 5., 6.]]);
}

#[test]
fn all_linear_leaves_out_the_output_embedding_and_other_layers() {
    let config = AdapterConfig { layers_to_transform: Some(vec![1]), ..AdapterConfig::default() };
    assert!(adapter::matches(&config, "model.layers.1.mlp.up_proj", 1).unwrap());
    assert!(!adapter::matches(&config, "model.layers.0.mlp.up_proj", 0).unwrap());
    assert!(!adapter::matches(&AdapterConfig::default(), "lm_head", None).unwrap());
    assert!(adapter::matches(&AdapterConfig::default(), "model.layers.0.mlp.up_proj", 0).unwrap());
}

#[test]
fn an_adapter_that_changes_nothing_is_refused_unless_asked_for() {
    let dir = folder("zero").join("adapter");
    adapter::write(&dir, &small(all_linear(), 0.0), &lineage()).unwrap();
    let error = adapter::read(&dir).unwrap_err().to_string();
    assert!(error.contains("every product B A is zero"), "{error}");
    assert!(adapter::read_untrained(&dir).unwrap().is_zero().unwrap());

    // A zero, or a scale of zero, is as little.
    let mut no_a = small(all_linear(), 1.0);
    no_a.tensors.values_mut().for_each(|pair| pair.a = pair.a.zeros_like().unwrap());
    assert!(no_a.is_zero().unwrap());
    let mut no_scale = small(all_linear(), 1.0);
    no_scale.config.lora_alpha = 0.0;
    assert!(no_scale.is_zero().unwrap());
}

#[test]
fn weights_of_a_module_that_is_not_targeted_are_refused() {
    let dir = folder("untargeted").join("adapter");
    adapter::write(&dir, &small(TargetModules::Names(vec!["q_proj".into()]), 1.0), &lineage()).unwrap();
    let error = adapter::read(&dir).unwrap_err().to_string();
    assert!(error.contains("`model.layers.0.mlp.up_proj`, which adapter_config.json does not target"), "{error}");
}

#[test]
fn a_rank_that_is_not_the_configured_one_is_refused() {
    let dir = folder("rank").join("adapter");
    let mut adapter = small(all_linear(), 1.0);
    adapter.config.r = 3;
    adapter::write(&dir, &adapter, &lineage()).unwrap();
    let error = adapter::read(&dir).unwrap_err().to_string();
    assert!(error.contains("its rank is 3"), "{error}");
}

#[test]
fn not_a_number_in_the_weights_is_refused() {
    let dir = folder("nan").join("adapter");
    adapter::write(&dir, &small(all_linear(), f32::NAN), &lineage()).unwrap();
    let error = adapter::read(&dir).unwrap_err().to_string();
    assert!(error.contains("NaN or infinite"), "{error}");
}

#[test]
fn a_pickle_is_refused_and_a_missing_file_named() {
    let dir = folder("pickle");
    std::fs::write(dir.join("adapter_config.json"), "{}").unwrap();
    assert!(adapter::read(&dir).unwrap_err().to_string().contains("adapter_model.safetensors: cannot be read"));
    std::fs::write(dir.join("adapter_model.bin"), "x").unwrap();
    assert!(adapter::read(&dir).unwrap_err().to_string().contains("pickle"));
}

#[test]
fn damaged_weights_are_refused() {
    let config = small(all_linear(), 1.0).config.to_json().unwrap();
    let error = adapter::from_bytes(&config, b"nothing").unwrap_err().to_string();
    assert!(error.contains("not a safetensors file"), "{error}");
    let bytes = std::fs::read(fixtures().join("names/adapter_model.safetensors")).unwrap();
    assert!(adapter::from_bytes(&config, &bytes[..bytes.len() - 4]).is_err());
}

/// A configuration as an early PEFT (0.3) saved it, with one key changed or added.
fn older(key: &str, value: serde_json::Value) -> Result<AdapterConfig, String> {
    let mut config = serde_json::json!({
        "base_model_name_or_path": "some/base", "bias": "none", "fan_in_fan_out": false, "inference_mode": true,
        "init_lora_weights": true, "lora_alpha": 32, "lora_dropout": 0.05, "modules_to_save": null,
        "peft_type": "LORA", "r": 16, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"
    });
    config[key] = value;
    AdapterConfig::from_json(&config.to_string()).map_err(|e| e.to_string())
}

#[test]
fn configurations_of_older_and_newer_versions_are_read() {
    let config = older("revision", serde_json::Value::Null).unwrap();
    assert_eq!((config.r, config.lora_alpha, config.lora_dropout), (16, 32.0, 0.05));
    assert_eq!(config.base_model_name_or_path.as_deref(), Some("some/base"));
    // A key of a version to come, left unset.
    assert!(older("use_something_new", serde_json::json!(false)).is_ok());
    assert!(older("something_config", serde_json::json!({})).is_ok());
    assert!(older("init_lora_weights", serde_json::json!("gaussian")).is_ok());
    assert_eq!(
        older("target_modules", serde_json::json!(".*_proj")).unwrap().target_modules,
        TargetModules::Pattern(".*_proj".into())
    );
}

#[test]
fn settings_that_would_change_the_result_are_refused_by_name() {
    let refused = [
        ("use_bdlora", serde_json::json!(true)),
        ("arrow_config", serde_json::json!({"a": 1})),
        ("monteclora_config", serde_json::json!({"a": 1})),
        ("modules_to_save", serde_json::json!(["lm_head"])),
        ("bias", serde_json::json!("all")),
        ("lora_bias", serde_json::json!(true)),
        ("layer_replication", serde_json::json!([[0, 4], [2, 5]])),
        ("megatron_config", serde_json::json!({"a": 1})),
        ("trainable_token_indices", serde_json::json!([1, 2])),
        ("target_parameters", serde_json::json!(["experts.gate_up_proj"])),
        ("use_qalora", serde_json::json!(true)),
        ("alora_invocation_tokens", serde_json::json!([1])),
        ("kasa_config", serde_json::json!({"a": 1})),
        ("use_something_new", serde_json::json!(true)),
        ("init_lora_weights", serde_json::json!("pissa_niter_4")),
        ("peft_type", serde_json::json!("IA3")),
        ("task_type", serde_json::json!("SEQ_CLS")),
        ("r", serde_json::json!(-1)),
        ("r", serde_json::json!("8")),
        ("lora_dropout", serde_json::json!(1.5)),
        ("target_modules", serde_json::json!([])),
        ("target_modules", serde_json::json!(null)),
        ("target_modules", serde_json::json!("(?!vision).*")),
        ("layers_to_transform", serde_json::json!(["a"])),
        ("rank_pattern", serde_json::json!({"q_proj": "x"})),
    ];
    for (key, value) in refused {
        let error = older(key, value.clone()).expect_err(&format!("{key} = {value}"));
        let name = if value == serde_json::json!("(?!vision).*") { "(?!vision).*" } else { key };
        assert!(error.contains(&format!("`{name}`")), "{key} = {value}: {error}");
    }
    assert!(older("r", serde_json::json!(0)).unwrap_err().contains("at least 1"));
}

#[test]
fn all_mistakes_are_reported_together() {
    let text = r#"{"peft_type": "LORA", "use_qalora": true, "bias": "all", "target_modules": ["q_proj"]}"#;
    let error = AdapterConfig::from_json(text).unwrap_err().to_string();
    assert!(error.contains("`use_qalora`") && error.contains("`bias`"), "{error}");
}
