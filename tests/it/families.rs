//! Every family against transformers and PEFT (`tests/fixtures/families`, see its README): logits, residual streams, the
//! KV cache, LoRA and its gradients; training, steering and the commands on each; what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use realign::adapter;
use realign::data::collate::Example;
use realign::model::config::{DecoderConfig, Positions};
use realign::model::cpu::simd::{self, Path as SimdPath, force};
use realign::model::decoder::Decoder;
use realign::model::families::SUPPORTED;
use realign::model::hooks::{HookContext, Intervention, Site, Tap};
use realign::model::ops::to_vec;
use realign::model::pass::Pass;
use realign::model::rope::RopeScaling;
use realign::model::segments::Segments;
use realign::model::source::load::{WeightDtype, load_dir};
use realign::steer::{AddVector, SteeringVector, Unit};
use realign::train::packed::Packed;
use realign::train::step::{StepOptions, forward_backward};
use realign::train::trainable::Trainable;
use realign::train::{TrainConfig, train};

use crate::commands::{succeeds, workplace};
use crate::parity::{Expected, check_batch, check_steps};
use crate::tiny::fixture;

/// A checkpoint of each family for what is tested once a family, with the linears of its blocks.
pub const FAMILIES: [(&str, &str); 10] = [
    ("llama3", "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"),
    ("mistral", "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"),
    ("qwen2", "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"),
    ("qwen3", "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"),
    ("starcoder2", "q_proj k_proj v_proj o_proj c_fc c_proj"),
    ("gpt_bigcode", "c_attn c_proj c_fc c_proj"),
    ("phi3", "qkv_proj o_proj gate_up_proj down_proj"),
    ("gemma2", "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"),
    ("gemma3", "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"),
    ("gemma3_vision", "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"),
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

/// Where a token's turn depends on how long its row is by then, decoding gives other numbers than reading at once: those of
/// transformers over its own cache.
fn steps(name: &str) -> Option<Expected> {
    let file = format!("{name}/expected_steps.safetensors");
    family(&file).exists().then(|| expected(name, "expected_steps.safetensors"))
}

/// Every checkpoint there is.
fn all() -> Vec<String> {
    let entries = std::fs::read_dir(family("")).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut names: BTreeSet<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with("whole_"));
    assert_eq!(names.len(), 25);
    names.into_iter().collect()
}

#[test]
fn logits_and_residual_streams_are_those_of_transformers_padded_packed_and_step_by_step() {
    for name in all() {
        println!("{name}");
        let (decoder, expected) = (decoder(&name), expected(&name, "expected.safetensors"));
        assert_eq!(expected.values.len(), 3, "{name}: the logits and two layers");
        check_batch(&decoder, &expected);
        check_steps(&decoder, &steps(&name).unwrap_or(expected));
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
        if steps(&name).is_none() {
            check_steps(&adapted, &expected);
        }
        let merged = adapter::merged(&adapted).unwrap();
        check_batch(&merged, &expected);
    }
}

/// How far the logits of the first row are from those expected, at most.
fn off_by(decoder: &Decoder, expected: &Expected) -> f32 {
    let segments = Segments::packed([expected.row(0).len()], 0);
    let logits = decoder.forward(expected.row(0), &mut Pass::sequences(&segments)).unwrap();
    let theirs = expected.values["logits"][0].concat();
    to_vec(&logits).unwrap().iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn weights_in_bf16_give_transformers_logits_of_the_same_rounded_weights() {
    let dir = workplace("families-bf16", &[]);
    for (name, _) in FAMILIES {
        folder(&dir, name);
        let plain = candle_core::safetensors::load(family(name).join("model.safetensors"), &Device::Cpu).unwrap();
        let half = |tensor: Tensor| tensor.to_dtype(DType::BF16).unwrap();
        let rounded: HashMap<String, Tensor> = plain.into_iter().map(|(weight, t)| (weight, half(t))).collect();
        candle_core::safetensors::save(&rounded, dir.join(name).join("model.safetensors")).unwrap();
        let expected = expected(name, "expected_bf16.safetensors");
        for dtype in [WeightDtype::Auto, WeightDtype::Bf16] {
            println!("{name}");
            let decoder = load_dir(&dir.join(name), dtype).unwrap().decoder;
            assert_eq!(decoder.embedding.dense().unwrap().dtype(), DType::BF16, "{name}");
            force(SimdPath::Avx512); // widening is exact; bf16 dot products round the activations too
            check_batch(&decoder, &expected);
            check_steps(&decoder, &expected);
            force(SimdPath::Avx512Bf16);
            let off = off_by(&decoder, &expected);
            assert!(off < 0.15, "{name}: off by {off} with activations in bf16");
        }
        let off = off_by(&decoder(name), &expected);
        assert!(off > 2e-3, "{name}: rounding the weights changes something, {off}");
        // An f32 file that is rounded on loading keeps its norms and biases.
        let off = off_by(&load_dir(&family(name), WeightDtype::Bf16).unwrap().decoder, &expected);
        assert!(off < 0.15, "{name}: off by {off}");
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
fn the_commands_inspect_trace_train_and_merge_every_family() {
    let row = r#"{"messages": [{"role": "user", "content": "sort"}, {"role": "assistant", "content": "def f(x):"}]}"#;
    let dir = workplace("families", &[("rows.jsonl", &format!("{row}\n").repeat(4))]);
    for (name, linears) in FAMILIES {
        folder(&dir, name);
        let about = succeeds(&dir, &format!("inspect {name}")).stdout;
        let parameters = decoder(name).config.parameters();
        assert!(about.contains("architecture") && about.contains(&parameters.to_string()), "{about}");

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
    }
}

#[test]
fn a_vector_is_extracted_from_and_added_to_every_family() {
    let pair = r#"{"target": "short", "group": "1", "messages": [{"role": "user", "content": "sort"}], "positive": "ab", "negative": "cdef"}"#;
    let dir = workplace("families-steered", &[("pairs.jsonl", pair)]);
    for (name, _) in FAMILIES {
        folder(&dir, name);
        let ids = expected(name, "expected.safetensors").row(0).to_vec();
        let extract = format!("steer extract --model {name} --pairs pairs.jsonl --target short");
        succeeds(&dir, &format!("{extract} --out {name}.safetensors"));
        let vector = SteeringVector::read(&dir.join(format!("{name}.safetensors"))).unwrap();
        let with = |coefficient: Option<f64>| {
            let add = AddVector::new(&vector, &[1], coefficient.unwrap_or(0.0), Unit::ResidualNorm).unwrap();
            let segments = Segments::packed([ids.len()], 0);
            let intervention: Option<&dyn Intervention> = coefficient.is_some().then_some(&add as _);
            let mut pass = Pass::sequences(&segments).with_intervention(intervention);
            to_vec(&decoder(name).forward(&ids, &mut pass).unwrap()).unwrap()
        };
        let base = with(None);
        assert_eq!(with(Some(0.0)), base, "{name}: coefficient 0 is the base");
        let moved = with(Some(1.0)).iter().zip(&base).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(moved > 1e-3, "{name}: a vector changes something");
        let steered = format!("--vector {name}.safetensors --coefficient 1 --layers 1 --max-new-tokens 4");
        succeeds(&dir, &format!("generate --model {name} --prompt sort {steered}"));
    }
}

/// Changes the residual stream around some blocks; with `inside`, it also watches inside all of them.
struct Around {
    taps: Vec<Tap>,
}

impl Around {
    fn new(inside: bool, layers: usize) -> Self {
        let taps = [Tap { layer: 0, site: Site::ResidPost }, Tap { layer: 1, site: Site::ResidPre }].into_iter();
        let inside = (0..layers).filter(|_| inside);
        Self { taps: taps.chain(inside.map(|layer| Tap { layer, site: Site::HeadOut })).collect() }
    }
}

impl Intervention for Around {
    fn taps(&self) -> &[Tap] {
        &self.taps
    }

    fn apply(&self, tap: Tap, x: &Tensor, _: &HookContext) -> candle_core::Result<Option<Tensor>> {
        if tap.site == Site::HeadOut { Ok(None) } else { x.affine(1.1, 0.02).map(Some) }
    }
}

#[test]
fn taps_around_a_block_give_every_family_what_a_tap_inside_it_gives() {
    for (name, _) in FAMILIES {
        let decoder = decoder(name);
        let ids = expected(name, "expected.safetensors").row(0).to_vec();
        let (prompt, answer) = ids.split_at(4);
        let logits = |intervention: Option<&dyn Intervention>| {
            let mut caches = [decoder.new_cache(ids.len())];
            let segments = Segments::packed([prompt.len()], 0);
            let mut pass = Pass::prefill(&segments, &mut caches).with_intervention(intervention);
            let mut all = to_vec(&decoder.forward(prompt, &mut pass).unwrap()).unwrap();
            for token in answer {
                let mut rows: Vec<_> = caches.iter_mut().collect();
                let mut pass = Pass::step(&mut rows).with_intervention(intervention);
                all.extend(to_vec(&decoder.forward(&[*token], &mut pass).unwrap()).unwrap());
            }
            all
        };
        let [around, inside] = [false, true].map(|inside| logits(Some(&Around::new(inside, decoder.blocks.len()))));
        let off = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off(&around, &inside) < 1e-5, "{name}: off by {}", off(&around, &inside));
        assert!(off(&around, &logits(None)) > 1e-3, "{name}: it changes something");
    }
}

#[test]
fn of_a_gemma_3_that_sees_the_text_part_is_read_and_merged_into_a_model_by_itself() {
    let dir = workplace("families-vision", &[]);
    folder(&dir, "gemma3_vision");
    let said = succeeds(&dir, "inspect gemma3_vision").stdout;
    assert!(said.contains("Gemma3ForConditionalGeneration; its vision tower is not read"), "{said}");
    let adapter = family("gemma3_vision/adapter");
    succeeds(&dir, &format!("merge --model gemma3_vision --adapter {} --out merged", adapter.display()));
    let merged = load_dir(&dir.join("merged"), WeightDtype::F32).unwrap().decoder;
    assert_eq!(merged.config.architecture, "Gemma3ForCausalLM");
    check_batch(&merged, &expected("gemma3_vision", "expected_adapter.safetensors"));
    // Files of transformers 5.0 and before name the text model's weights in either order.
    let path = dir.join("gemma3_vision/model.safetensors");
    let renamed = candle_core::safetensors::load(&path, &Device::Cpu).unwrap().into_iter().map(|(name, tensor)| {
        let name = name.replace("language_model.model.", "model.language_model.");
        (name.replace("vision_tower.", "model.vision_tower."), tensor)
    });
    candle_core::safetensors::save(&renamed.collect::<HashMap<_, _>>(), &path).unwrap();
    let again = load_dir(&dir.join("gemma3_vision"), WeightDtype::F32).unwrap().decoder;
    check_batch(&again, &expected("gemma3_vision", "expected.safetensors"));
}

/// Published Gemma 3 folders name only what differs between sizes.
#[test]
fn what_a_gemma_3_that_sees_leaves_out_has_the_value_that_transformers_gives_it() {
    let text = r#"{"architectures": ["Gemma3ForConditionalGeneration"], "eos_token_id": [1, 106], "model_type": "gemma3",
        "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
            "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024},
        "vision_config": {"hidden_size": 1152}}"#;
    let config = DecoderConfig::parse(Path::new("config.json"), text).unwrap();
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (8, 4, 256));
    assert_eq!((config.vocab_size, config.max_position_embeddings), (262_208, 131_072));
    assert_eq!((config.windows[4], config.windows[5]), (Some(1024), None));
    assert_eq!(config.eos_token_ids, [1, 106]);
    let Positions::Rotary { rope, local: Some(local) } = config.positions else { panic!("two ropes") };
    assert_eq!((rope.theta, rope.scaling), (1e6, RopeScaling::Linear { factor: 8.0 }));
    assert_eq!((local.theta, local.scaling), (1e4, RopeScaling::None));
}

#[test]
fn a_scaled_context_is_as_long_as_it_was_made() {
    let longest = |name: &str| decoder(name).config.max_position_embeddings;
    assert_eq!((longest("llama_dynamic"), longest("qwen2_yarn"), longest("llama_yarn_old")), (32, 32, 32)); // 8 · 4
    assert_eq!((longest("phi3_long"), longest("llama_linear")), (32, 64)); // as the file says
}

/// The table of families in docs/models.md, the families in the code and those that are tested are the same; every test that
/// the page names exists.
#[test]
fn the_docs_list_the_families_that_there_are_and_the_tests_behind_each_cell() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/models.md")).unwrap();
    let table = page.split("| family |").nth(1).unwrap().split("\n\n").next().unwrap();
    let header: Vec<&str> = table.lines().next().unwrap().split('|').map(str::trim).filter(|c| !c.is_empty()).collect();
    let mut listed = Vec::new();
    for row in table.lines().skip(2) {
        let cells: Vec<&str> = row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert!(cells.len() == 2 + header.len() - 1 && cells[2..].iter().all(|cell| *cell == "✓"), "{row}");
        listed.push(cells[1].trim_matches('`').to_string());
    }
    assert_eq!(listed, SUPPORTED);
    let tested = FAMILIES.map(|(name, _)| decoder(name).config.architecture);
    assert_eq!(tested.iter().collect::<BTreeSet<_>>(), listed.iter().collect());

    let legend = page.split("A column is a test").nth(1).unwrap().split("The rope scalings").next().unwrap();
    let source = [include_str!("families.rs"), include_str!("quantised.rs")].concat();
    for column in &header[1..] {
        let line = legend.lines().find(|line| line.starts_with(&format!("- *{column}*"))).expect(column);
        let tests: Vec<&str> =
            line.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() > 3).collect();
        assert!(!tests.is_empty(), "{column}: {line}");
        for test in tests {
            assert!(source.contains(&format!("#[test]\nfn {test}() {{")), "{column}: there is no test `{test}`");
        }
    }
}

/// `REALIGN_REFERENCE_PYTHON=python cargo test --release -- --ignored the_ten_lines_of_the_docs`
#[test]
#[ignore = "needs a Python with transformers in REALIGN_REFERENCE_PYTHON"]
fn the_ten_lines_of_the_docs_find_every_family_equal_to_transformers() {
    let python = std::env::var("REALIGN_REFERENCE_PYTHON").expect("REALIGN_REFERENCE_PYTHON names a Python");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/models.md")).unwrap();
    let lines = page.split("```python\n# realign ").nth(1).unwrap().split("```").next().unwrap();
    let (command, script) = lines.split_once('\n').unwrap();
    let dir = workplace("families-ten-lines", &[("check.py", script)]);
    for (name, _) in FAMILIES {
        folder(&dir, name);
        let _ = std::fs::remove_dir_all(dir.join("my-model"));
        std::fs::rename(dir.join(name), dir.join("my-model")).unwrap();
        succeeds(&dir, command);
        let output = std::process::Command::new(&python).arg("check.py").current_dir(&dir).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let off: f32 = said.trim().parse().unwrap();
        println!("{name}: off by {off}");
        assert!(off < 1e-4, "{name}: off by {off}");
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
    for of_experts in ["MixtralForCausalLM", "Qwen2MoeForCausalLM", "DeepseekV3ForCausalLM", "GptOssForCausalLM"] {
        refused("llama3", &[("architectures", json!([of_experts]))], &format!("architecture `{of_experts}` is not"));
    }
    refused("qwen3", &[("num_experts", json!(8))], "`num_experts`: mixtures of experts");
    refused("qwen2", &[("rope_parameters", json!({"rope_type": "proportional"}))], "rope scaling `proportional`");
    let long = json!({"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]});
    refused("phi3", &[("rope_parameters", json!(null)), ("rope_scaling", long)], "`short_factor` is not 4 numbers");
    refused("qwen2", &[("rope_parameters", json!({"rope_type": "dynamic"}))], "`factor` is missing");
    refused("llama3", &[("rope_parameters", json!({"rope_type": "llama3", "factor": 8.0}))], "`low_freq_factor`");
    refused("qwen3", &[("partial_rotary_factor", json!(0.5))], "`partial_rotary_factor` 0.5");
    refused("starcoder2", &[("hidden_act", json!("relu6"))], "hidden_act `relu6` is not supported");
    refused("starcoder2", &[("norm_type", json!("rms_norm"))], "`norm_type` rms_norm");
    refused("gpt_bigcode", &[("scale_attn_weights", json!(false))], "`scale_attn_weights` false");
    refused("gpt_bigcode", &[("add_cross_attention", json!(true))], "`add_cross_attention` true");
    refused("gemma3", &[("use_bidirectional_attention", json!(true))], "`use_bidirectional_attention` true");
    refused("gemma2", &[("layer_types", json!(["sliding_attention"]))], "`layer_types` has 1 entries for 2 layers");
    refused("qwen2", &[("layer_types", json!(["full_attention", "chunked_attention"]))], "\"chunked_attention\"");
    refused("mistral", &[("layer_types", json!(["full_attention", "sliding_attention"]))], "`layer_types` contradicts");
    refused("llama3", &[("quantization_config", json!({"quant_method": "gptq"}))], "`quantization_config`");
    refused("mistral", &[("num_key_value_heads", json!(3))], "num_key_value_heads must divide");
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
