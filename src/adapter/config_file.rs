//! `adapter_config.json`: read from older and newer PEFT versions, written as PEFT 0.21.2 writes it.

use serde_json::{Map, Value, json};

use super::config::{AdapterConfig, TargetModules};
use super::targets::check_patterns;
use crate::error::{Error, Result};

/// The PEFT version whose form is written.
const PEFT_VERSION: &str = "0.21.2";

/// Keys that say nothing about what a finished adapter computes.
const WITHOUT_EFFECT: [&str; 15] = [
    "auto_mapping",
    "inference_mode",
    "init_lora_weights",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "velora_config",
    "megatron_core",
    "qalora_group_size",
    "peft_type",
    "peft_version",
    "task_type",
    "bias",
    "runtime_config",
];

impl AdapterConfig {
    /// Reads the text of `adapter_config.json`; every mistake is in the error.
    pub fn from_json(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|e| Error::usage(format!("not valid JSON: {e}")))?;
        let Value::Object(mut keys) = value else {
            return Err(Error::usage("an adapter configuration must be a JSON object"));
        };
        let mut wrong = Vec::new();
        refuse_foreign_kinds(&keys, &mut wrong);
        let defaults = Self::default();
        let mut take = |key: &str| keys.shift_remove(key).filter(|v| !v.is_null());
        let config = Self {
            r: field(take("r"), "r", &mut wrong, whole).unwrap_or(defaults.r),
            lora_alpha: field(take("lora_alpha"), "lora_alpha", &mut wrong, Value::as_f64)
                .unwrap_or(defaults.lora_alpha),
            lora_dropout: field(take("lora_dropout"), "lora_dropout", &mut wrong, Value::as_f64).unwrap_or(0.0),
            target_modules: match take("target_modules") {
                // PEFT then guesses from the model's type; what it saves itself always has them.
                None => {
                    wrong.push("`target_modules` is missing".into());
                    defaults.target_modules
                }
                some => field(some, "target_modules", &mut wrong, modules).unwrap_or(defaults.target_modules),
            },
            exclude_modules: field(take("exclude_modules"), "exclude_modules", &mut wrong, modules),
            layers_to_transform: field(take("layers_to_transform"), "layers_to_transform", &mut wrong, layers)
                .filter(|l| !l.is_empty()),
            layers_pattern: field(take("layers_pattern"), "layers_pattern", &mut wrong, names)
                .unwrap_or_default()
                .into_iter()
                .filter(|pattern| !pattern.is_empty())
                .collect(),
            rank_pattern: field(take("rank_pattern"), "rank_pattern", &mut wrong, |v| pairs(v, whole))
                .unwrap_or_default(),
            alpha_pattern: field(take("alpha_pattern"), "alpha_pattern", &mut wrong, |v| pairs(v, Value::as_f64))
                .unwrap_or_default(),
            use_rslora: field(take("use_rslora"), "use_rslora", &mut wrong, Value::as_bool).unwrap_or(false),
            use_dora: field(take("use_dora"), "use_dora", &mut wrong, Value::as_bool).unwrap_or(false),
            fan_in_fan_out: field(take("fan_in_fan_out"), "fan_in_fan_out", &mut wrong, Value::as_bool)
                .unwrap_or(false),
            base_model_name_or_path: field(
                take("base_model_name_or_path"),
                "base_model_name_or_path",
                &mut wrong,
                text_of,
            ),
            revision: field(take("revision"), "revision", &mut wrong, text_of),
        };
        for (key, value) in &keys {
            if !WITHOUT_EFFECT.contains(&key.as_str()) && is_set(value) {
                wrong.push(format!(
                    "`{key}` is set to {value}, which is not supported: the adapter would compute something else"
                ));
            }
        }
        if config.r == 0 || config.rank_pattern.iter().any(|(_, r)| *r == 0) {
            wrong.push("a rank must be at least 1".into());
        }
        if !(0.0..1.0).contains(&config.lora_dropout) {
            wrong.push(format!("`lora_dropout` is {}; it must be in [0, 1)", config.lora_dropout));
        }
        if let Err(error) = check_patterns(&config) {
            wrong.push(error.to_string());
        }
        if wrong.is_empty() { Ok(config) } else { Err(Error::usage(wrong.join("; "))) }
    }

    /// The file's text: PEFT's keys, sorted, with PEFT's defaults where we have no setting.
    pub fn to_json(&self) -> Result<String> {
        let rank_pattern: Map<String, Value> = self.rank_pattern.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        let alpha_pattern: Map<String, Value> =
            self.alpha_pattern.iter().map(|(k, v)| (k.clone(), number(*v))).collect();
        let value = json!({
            "alora_invocation_tokens": null,
            "alpha_pattern": alpha_pattern,
            "arrow_config": null,
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": "none",
            "corda_config": null,
            "ensure_weight_tying": false,
            "eva_config": null,
            "exclude_modules": self.exclude_modules.as_ref().map(TargetModules::to_value),
            "fan_in_fan_out": self.fan_in_fan_out,
            "inference_mode": true,
            "init_lora_weights": true,
            "kasa_config": null,
            "layer_replication": null,
            "layers_pattern": if self.layers_pattern.is_empty() { Value::Null } else { json!(self.layers_pattern) },
            "layers_to_transform": self.layers_to_transform,
            "loftq_config": {},
            "lora_alpha": number(self.lora_alpha),
            "lora_bias": false,
            // A Python float keeps its point.
            "lora_dropout": self.lora_dropout,
            "lora_ga_config": null,
            "megatron_config": null,
            "megatron_core": "megatron.core",
            "modules_to_save": null,
            "monteclora_config": null,
            "peft_type": "LORA",
            "peft_version": PEFT_VERSION,
            "qalora_group_size": 16,
            "r": self.r,
            "rank_pattern": rank_pattern,
            "revision": self.revision,
            "target_modules": self.target_modules.to_value(),
            "target_parameters": null,
            "task_type": "CAUSAL_LM",
            "trainable_token_indices": null,
            "use_bdlora": null,
            "use_dora": self.use_dora,
            "use_qalora": false,
            "use_rslora": self.use_rslora,
            "velora_config": null,
        });
        serde_json::to_string_pretty(&value)
            .map_err(|e| Error::internal(format!("the configuration cannot be written: {e}")))
    }
}

impl TargetModules {
    fn to_value(&self) -> Value {
        match self {
            Self::Names(names) => json!(names),
            Self::Pattern(pattern) => json!(pattern),
        }
    }
}

/// Settings whose meaning is in their value rather than in being set.
fn refuse_foreign_kinds(keys: &Map<String, Value>, wrong: &mut Vec<String>) {
    let word = |key: &str| keys.get(key).and_then(Value::as_str);
    match word("peft_type") {
        Some("LORA") => {}
        Some(other) => wrong.push(format!("`peft_type` is {other}; only LORA is supported")),
        None => wrong.push("`peft_type` is missing; is this an adapter configuration?".into()),
    }
    if let Some(other) = word("task_type").filter(|t| *t != "CAUSAL_LM") {
        wrong.push(format!("`task_type` is {other}; only CAUSAL_LM is supported"));
    }
    if let Some(other) = keys.get("bias").filter(|b| !b.is_null() && *b != "none") {
        wrong.push(format!("`bias` is {other}; trained biases are not supported, only \"none\""));
    }
    // These change the base's weights before training, so that the adapter alone is not the whole difference.
    if let Some(method) = word("init_lora_weights")
        .filter(|m| ["pissa", "olora", "loftq", "corda", "lora_ga"].iter().any(|bad| m.starts_with(bad)))
    {
        wrong.push(format!(
            "`init_lora_weights` is {method}, which changes the base model too; convert the adapter to plain LoRA with PEFT"
        ));
    }
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

fn field<T>(value: Option<Value>, key: &str, wrong: &mut Vec<String>, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
    let value = value?;
    let read = read(&value);
    if read.is_none() {
        wrong.push(format!("`{key}` cannot be {value}"));
    }
    read
}

fn whole(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

fn text_of(value: &Value) -> Option<String> {
    value.as_str().map(str::to_string)
}

fn modules(value: &Value) -> Option<TargetModules> {
    match value {
        Value::String(pattern) => Some(TargetModules::Pattern(pattern.clone())),
        Value::Array(_) => names(value).filter(|n| !n.is_empty()).map(TargetModules::Names),
        _ => None,
    }
}

/// A string, or a list of them.
fn names(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(list) => list.iter().map(text_of).collect(),
        _ => None,
    }
}

/// A layer, or a list of them.
fn layers(value: &Value) -> Option<Vec<usize>> {
    match value {
        Value::Array(list) => list.iter().map(whole).collect(),
        one => whole(one).map(|layer| vec![layer]),
    }
}

fn pairs<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<(String, T)>> {
    value.as_object()?.iter().map(|(key, value)| Some((key.clone(), read(value)?))).collect()
}

/// A whole number without a point, as PEFT's integers are written.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}
