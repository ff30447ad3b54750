//! Every family against transformers and PEFT (`tests/fixtures/families`, see its README): logits, residual streams, the
//! KV cache, LoRA and its gradients; training, steering and the commands on each; what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use realign::adapter;
use realign::data::collate::Example;
use realign::model::block::{Attend, Pass};
use realign::model::config::DecoderConfig;
use realign::model::decoder::Decoder;
use realign::model::load::{WeightDtype, load_dir};
use realign::model::ops::simd::{self, force};
use realign::model::ops::to_vec;
use realign::model::segments::Segments;
use realign::steer::{AddVector, SteeringVector, Unit};
use realign::train::step::{Packed, StepOptions, forward_backward};
use realign::train::trainable::Trainable;
use realign::train::{TrainConfig, train};

use crate::commands::{succeeds, workplace};
use crate::parity::{Expected, check_batch, check_steps};
use crate::tiny::fixture;

/// A checkpoint of each family for what is tested once a family, with the linears of its blocks.
pub const FAMILIES: [(&str, &str); 9] = [
    ("llama3", "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"),
    ("mistral", "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"),
    ("qwen2", "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"),
    ("qwen3", "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"),
    ("starcoder2", "q_proj k_proj v_proj o_proj c_fc c_proj"),
    ("gpt_bigcode", "c_attn c_proj c_fc c_proj"),
    ("phi3", "qkv_proj o_proj gate_up_proj down_proj"),
    ("gemma2", "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"),
    ("gemma3", "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"),
];

pub fn family(path: &str) -> PathBuf {
    fixture("../families").join(path)
}

fn decoder(name: &str) -> Decoder {
    load_dir(&family(name), WeightDtype::F32).unwrap().decoder
}

fn expected(name: &str, file: &str) -> Expected {
    Expected::read(&format!("../families/{name}/{file}"))
}

/// Every checkpoint there is.
fn all() -> Vec<String> {
    let entries = std::fs::read_dir(family("")).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let names: BTreeSet<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), 19);
    names.into_iter().collect()
}

#[test]
fn logits_and_residual_streams_are_those_of_transformers_padded_packed_and_step_by_step() {
    for name in all() {
        println!("{name}");
        let (decoder, expected) = (decoder(&name), expected(&name, "expected.safetensors"));
        assert_eq!(expected.values.len(), 3, "{name}: the logits and two layers");
        check_batch(&decoder, &expected);
        check_steps(&decoder, &expected);
        let weights: usize = decoder.weights().values().map(Tensor::elem_count).sum();
        assert_eq!(decoder.config.parameters(), weights, "{name}");
    }
}

#[test]
fn adapters_on_all_linears_give_pefts_logits() {
    for name in all() {
        println!("{name}");
        let file = adapter::read(&family(&name).join("adapter")).unwrap();
        let base = decoder(&name);
        assert_eq!(file.tensors.len(), base.linears().count(), "{name}");
        let adapted = adapter::attach(&base, &file, false).unwrap();
        let expected = expected(&name, "expected_adapter.safetensors");
        check_batch(&adapted, &expected);
        check_steps(&adapted, &expected);
        let merged = adapter::merged(&adapted).unwrap();
        check_batch(&merged, &expected);
    }
}

#[test]
fn gradients_of_adapters_are_those_of_pytorch() {
    for name in all() {
        let file = adapter::read(&family(&name).join("adapter")).unwrap();
        let adapted = adapter::attach(&decoder(&name), &file, true).unwrap();
        let ids = expected(&name, "expected.safetensors").row(0).to_vec();
        let weights = vec![1.0; ids.len()];
        let chunk = Packed::new(&[&Example { ids, weights }], 0, 1.0);
        let trained = Trainable::of(&adapted).unwrap();
        let found = forward_backward(&adapted, &trained, &chunk, &StepOptions::default()).unwrap();
        let theirs = candle_core::safetensors::load(family(&name).join("gradients.safetensors"), &Device::Cpu).unwrap();
        assert_eq!(theirs.len(), trained.names.len(), "{name}");
        for (path, ours) in trained.names.iter().zip(&found.grads) {
            let theirs = to_vec(&theirs[&format!("base_model.model.{path}")]).unwrap();
            let largest = theirs.iter().fold(0f32, |most, g| most.max(g.abs()));
            let worst = theirs.iter().zip(ours).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(largest > 1e-3 && worst < 2e-4 * (1.0 + largest), "{name}, {path}: off by {worst} of {largest}");
        }
    }
}

#[test]
fn two_steps_move_every_fresh_adapter_weight_of_every_family() {
    for (name, _) in FAMILIES {
        let base = decoder(name);
        let fresh = adapter::fresh(&base, &adapter::AdapterConfig { r: 2, ..Default::default() }, 1).unwrap();
        let adapted = adapter::attach(&base, &fresh, true).unwrap();
        let row = |from: u32| Example { ids: (from..from + 12).collect(), weights: vec![1.0; 12] };
        let rows: Vec<Example> = (3..11).map(row).collect();
        let config = TrainConfig { max_steps: Some(2), learning_rate: 1e-2, ..TrainConfig::default() };
        train(&adapted, &rows, &config, None, &mut |_| Ok(())).unwrap();
        let after = adapter::collect(&adapted, &fresh.config).unwrap();
        assert_eq!(after.tensors.len(), base.linears().count());
        for (path, pair) in &after.tensors {
            let moved = |a: &Tensor, b: &Tensor| to_vec(a).unwrap() != to_vec(b).unwrap();
            let before = &fresh.tensors[path];
            assert!(moved(&pair.a, &before.a) && moved(&pair.b, &before.b), "{name}: {path} did not move");
        }
        for (weight, before) in base.weights() {
            assert_eq!(to_vec(&adapted.weights()[&weight]).unwrap(), to_vec(&before).unwrap(), "{name}: {weight}");
        }
    }
}

#[test]
fn the_same_holds_in_candles_own_ops_which_other_devices_run() {
    assert_eq!(force(simd::Path::Plain), simd::Path::Plain);
    logits_and_residual_streams_are_those_of_transformers_padded_packed_and_step_by_step();
    adapters_on_all_linears_give_pefts_logits();
    gradients_of_adapters_are_those_of_pytorch();
}

/// A family's folder with a tokenizer of 63 characters.
fn folder(dir: &Path, name: &str) {
    let to = dir.join(name);
    std::fs::create_dir_all(&to).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(family(name).join(file), to.join(file)).unwrap();
    }
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(family(file), to.join(file)).unwrap();
    }
}

#[test]
fn the_commands_inspect_trace_train_steer_and_merge_every_family() {
    let row = r#"{"messages": [{"role": "user", "content": "sort"}, {"role": "assistant", "content": "def f(x):"}]}"#;
    let pair = r#"{"target": "short", "group": "1", "messages": [{"role": "user", "content": "sort"}], "positive": "ab", "negative": "cdef"}"#;
    let files = [("rows.jsonl", format!("{row}\n").repeat(4)), ("pairs.jsonl", format!("{pair}\n"))];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let dir = workplace("families", &files);
    for (name, linears) in FAMILIES {
        folder(&dir, name);
        let about = succeeds(&dir, &format!("inspect {name}")).stdout;
        let parameters = decoder(name).config.parameters();
        assert!(about.contains("ForCausalLM") && about.contains(&parameters.to_string()), "{about}");

        let expected = expected(name, "expected.safetensors");
        let ids: Vec<String> = expected.row(0).iter().map(u32::to_string).collect();
        let logits = |subject: &str| {
            succeeds(&dir, &format!("trace --model {subject} --ids {} --out trace.safetensors", ids.join(",")));
            let tensors = candle_core::safetensors::load(dir.join("trace.safetensors"), &Device::Cpu).unwrap();
            tensors["logits"].to_vec2::<f32>().unwrap().concat()
        };
        let off = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let base = logits(name);
        assert!(off(&base, &expected.values["logits"][0].concat()) < 1e-4, "{name}");

        let targets = linears.split(' ').collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",");
        let recipe = format!("--max-steps 2 --learning-rate 1e-1 --target-modules {targets}");
        succeeds(&dir, &format!("train --model {name} --data rows.jsonl --out {name}-adapter {recipe}"));
        let file = adapter::read(&dir.join(format!("{name}-adapter"))).unwrap();
        assert_eq!(file.tensors.len(), 2 * linears.split(' ').count(), "{name}");
        let adapted = logits(&format!("{name} --adapter {name}-adapter"));
        assert!(off(&base, &adapted) > 1e-3, "{name}: the adapter changes something");
        succeeds(&dir, &format!("merge --model {name} --adapter {name}-adapter --out {name}-merged"));
        let merged = logits(&format!("{name}-merged"));
        assert!(off(&merged, &adapted) < 2e-5, "{name}: merged is off by {}", off(&merged, &adapted));

        let extract = format!("steer extract --model {name} --pairs pairs.jsonl --target short");
        succeeds(&dir, &format!("{extract} --out {name}.safetensors"));
        let vector = SteeringVector::read(&dir.join(format!("{name}.safetensors"))).unwrap();
        let with = |coefficient: f64| {
            let add = AddVector::new(&vector, &[1], coefficient, Unit::ResidualNorm).unwrap();
            let segments = Segments::packed([expected.row(0).len()], 0);
            let attend = Attend::Sequences(&segments);
            let mut pass = Pass { attend, intervention: Some(&add), dropout: None };
            to_vec(&decoder(name).forward(expected.row(0), &mut pass).unwrap()).unwrap()
        };
        assert_eq!(with(0.0), base, "{name}: coefficient 0 is the base");
        assert!(off(&with(1.0), &base) > 1e-3, "{name}: a vector changes something");
        let steered = format!("--vector {name}.safetensors --coefficient 1 --layers 1 --max-new-tokens 4");
        succeeds(&dir, &format!("generate --model {name} --prompt sort {steered}"));
    }
}

fn refused(name: &str, changes: &[(&str, serde_json::Value)], why: &str) {
    let path = family(name).join("config.json");
    let mut json: serde_json::Value = realign::fsio::read_json(&path).unwrap();
    for (key, value) in changes {
        json[*key] = value.clone();
    }
    let error = DecoderConfig::parse(&path, &json.to_string()).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn what_would_change_the_result_and_is_not_supported_is_refused_by_name() {
    use serde_json::json;
    refused("llama3", &[("architectures", json!(["MambaForCausalLM"]))], "architecture `MambaForCausalLM` is not");
    refused("qwen2", &[("rope_parameters", json!({"rope_type": "yarn", "factor": 4.0}))], "rope scaling `yarn`");
    let long = json!({"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]});
    refused("phi3", &[("rope_parameters", json!(null)), ("rope_scaling", long)], "rope scaling `longrope`");
    refused("llama3", &[("rope_parameters", json!({"rope_type": "llama3", "factor": 8.0}))], "`low_freq_factor`");
    refused("qwen3", &[("partial_rotary_factor", json!(0.5))], "`partial_rotary_factor` 0.5");
    refused("starcoder2", &[("hidden_act", json!("relu6"))], "hidden_act `relu6` is not supported");
    refused("starcoder2", &[("norm_type", json!("rms_norm"))], "`norm_type` rms_norm");
    refused("gpt_bigcode", &[("scale_attn_weights", json!(false))], "`scale_attn_weights` false");
    refused("gpt_bigcode", &[("add_cross_attention", json!(true))], "`add_cross_attention` true");
    refused("gemma3", &[("use_bidirectional_attention", json!(true))], "`use_bidirectional_attention` true");
    refused("gemma2", &[("layer_types", json!(["sliding_attention"]))], "`layer_types` names 1 layers of 2");
    refused("qwen2", &[("layer_types", json!(["full_attention", "chunked_attention"]))], "\"chunked_attention\"");
    refused("mistral", &[("layer_types", json!(["full_attention", "sliding_attention"]))], "`layer_types` contradicts");
    refused("llama3", &[("quantization_config", json!({"quant_method": "gptq"}))], "`quantization_config`");
    refused("mistral", &[("num_key_value_heads", json!(3))], "num_key_value_heads divides");
    refused("mistral", &[("num_key_value_heads", json!(null))], "`num_key_value_heads` is missing");
    refused("mistral", &[("attention_bias", json!(1)), ("hidden_size", json!("32"))], "`hidden_size` is \"32\"");
}

#[test]
fn a_weight_that_the_configuration_knows_nothing_of_is_refused_by_name() {
    let dir = workplace("families-left-over", &[]);
    folder(&dir, "qwen3");
    let path = dir.join("qwen3/config.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("Qwen3ForCausalLM", "LlamaForCausalLM");
    std::fs::write(&path, text).unwrap();
    let error = load_dir(&dir.join("qwen3"), WeightDtype::F32).err().unwrap().to_string();
    assert!(error.contains("has the weight `model.layers.0.self_attn.k_norm.weight`"), "{error}");
}
