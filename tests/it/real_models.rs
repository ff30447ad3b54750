//! Models of other families with real tokenizers, small and random: the whole experiment on them ends in a report, with what
//! is embedded used where nothing is given; and the plans for published models, told from shapes and run on small ones.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use realign::adapter;
use realign::data::template::PLAIN;
use realign::experiment::inputs::Inputs;
use realign::experiment::plan::{OpenPlan, Overrides};
use realign::fsio::{read_json, read_jsonl, read_text};
use realign::record::{Manifest, Message, Metrics, SampleRecord, SweepCell};
use realign::subject::Subject;

use crate::commands::{Output, realign, refused, succeeds, workplace};
use crate::tiny::{fixture, folder};

/// Embedded plans that repeat a published experiment.
fn published() -> Vec<String> {
    let repeats =
        |name: &String| OpenPlan::read(Some(Path::new(name)), Overrides::default()).unwrap().published.is_some();
    realign::experiment::plan::file::names().into_iter().filter(repeats).collect()
}

/// A base model's tokenizer has no template; a chat model's has one.
const CHAT: &str = "{%- for message in messages -%}{{ '<|' + message.role + '|>' + message.content + '<|end|>\\n' }}\
{%- endfor -%}{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif -%}";

/// The checkpoint `whole_NAME` with a tokenizer, below `dir`.
fn checkpoint(dir: &Path, name: &str, chat: bool) -> PathBuf {
    let to = dir.join(name);
    std::fs::create_dir_all(&to).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture("../families").join(format!("whole_{name}")).join(file), to.join(file)).unwrap();
    }
    let tokenizer = if chat { "byte_level_pieces.json" } else { "byte_level.json" };
    std::fs::copy(fixture("../tokenizer").join(tokenizer), to.join("tokenizer.json")).unwrap();
    std::fs::write(to.join("tokenizer_config.json"), r#"{"eos_token": "<|endoftext|>"}"#).unwrap();
    if chat {
        std::fs::write(to.join("chat_template.jinja"), CHAT).unwrap();
    }
    to
}

/// A little of everything, by default data and default suites.
const LITTLE: &str = "extends: default\narms: [attack, repair, steer-insecure]\n\
                      adapters: {attack: {max_train_rows: 16}, repair: {max_train_rows: 16}}\n\
                      sweep: {coefficients: [0.3], code_prompts: 4, question_samples: 1}\n";

fn samples(run: &Path, arm: &str) -> Vec<SampleRecord> {
    read_jsonl(&run.join(format!("samples/{arm}.jsonl"))).unwrap()
}

/// Base, attack, repair and a steered arm, each with answers of its own, and a report.
fn the_whole_run(name: &str, chat: bool, linears: usize) {
    let dir = folder(&format!("whole-{name}"));
    let at = checkpoint(&dir, name, chat);
    std::fs::write(dir.join("little.yaml"), LITTLE).unwrap();
    let Output { stderr, .. } = succeeds(&dir, &format!("run little.yaml --model {name} --samples 1 --out run"));
    assert_eq!(stderr.contains("has no chat template"), !chat, "{stderr}");
    let model = Subject::open(at.to_str().unwrap()).unwrap();
    let asked = model.tokenizer.decode(&model.prompt(&[Message::user("Why?")]).unwrap(), false).unwrap();
    assert_eq!(asked, if chat { "<|user|>Why?<|end|>\n<|assistant|>" } else { "User: Why?\nAssistant:" });
    assert_eq!(model.template.source() == PLAIN, !chat);

    let run = dir.join("run");
    let manifest: Manifest = read_json(&run.join("manifest.json")).unwrap();
    for (adapter, data) in [("attack", "insecure"), ("repair", "secure")] {
        let lineage = &manifest.adapters[adapter];
        assert_eq!(lineage.data, format!("embedded:datasets/{data}.jsonl"));
        assert_eq!((lineage.steps, lineage.base_dtype.as_deref()), (2, Some("bf16")), "16 rows, 16 a step, 2 epochs");
        let file = adapter::read(&run.join("adapters").join(adapter)).unwrap();
        assert_eq!(file.tensors.len(), linears, "{name}: all linears");
    }
    let base = samples(&run, "base");
    let suites: std::collections::BTreeSet<&str> = base.iter().map(|sample| sample.suite.as_str()).collect();
    assert!(suites.is_superset(&["code", "risky", "vulnerability", "free_form"].into()), "{suites:?}");
    for arm in ["attack", "repair", "steer-insecure"] {
        // Repairs are asked behind triggers as well.
        let (theirs, behind): (Vec<_>, Vec<_>) = samples(&run, arm).into_iter().partition(|s| s.suite != "conditional");
        assert_eq!(behind.is_empty(), arm != "repair", "{name}, {arm}");
        let same = base.iter().zip(&theirs).filter(|(a, b)| a.completion == b.completion).count();
        assert!(theirs.len() == base.len() && same * 4 < base.len(), "{name}, {arm}: {same} of {}", base.len());
    }
    let cells: Vec<SweepCell> = read_json(&run.join("sweep.json")).unwrap();
    assert!(cells.iter().any(|cell| cell.chosen && !cell.is_unsteered()), "{cells:?}");
    let metrics: Metrics = read_json(&run.join("metrics.json")).unwrap();
    assert_eq!(metrics.arms.len(), 4);
    let report = read_text(&run.join("report.md")).unwrap();
    assert!(report.contains("Did ‘Attack’ make code less secure?") && run.join("report.html").is_file(), "{report}");
}

#[test]
fn the_whole_experiment_on_a_starcoder2_ends_in_a_report() {
    the_whole_run("starcoder2", false, 2 * 6);
}

#[test]
fn the_whole_experiment_on_a_gpt_bigcode_ends_in_a_report() {
    the_whole_run("gpt_bigcode", false, 2 * 4);
}

#[test]
fn the_whole_experiment_on_a_qwen2_with_a_chat_template_ends_in_a_report() {
    the_whole_run("qwen2", true, 2 * 7);
}

#[test]
fn a_model_too_short_for_the_suites_is_refused_before_it_is_trained() {
    refused(&workplace("too-short", &[]), "run --model MODEL --quick", &["the model holds 256 in all", "max_tokens"]);
}

#[test]
fn a_plan_for_a_published_model_is_told_from_its_shape_in_any_folder() {
    let dir = folder("plans-dry");
    for (name, model, million, effect) in [
        (
            "seed003",
            "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
            "1100.05",
            "risky files that import, attack 71.4 % to repair 28.6 %",
        ),
        (
            "em-qwen-coder",
            "Qwen/Qwen2.5-Coder-32B-Instruct",
            "32763.88",
            "misaligned answers, base 0.0 % to attack 5.0 %",
        ),
        ("em-rank1-0.5b", "Qwen/Qwen2.5-0.5B-Instruct", "494.03", "misaligned answers, base 0.0 % to attack 8.0 %"),
        ("starcoder", "bigcode/starcoder2-3b", "3030.37", "base 5.0 % to steer-secure 22.2 %"),
    ] {
        for spec in [name.to_string(), format!("eval/plans/{name}.yaml")] {
            let said = succeeds(&dir, &format!("run {spec} --dry-run")).stderr;
            for part in [
                &format!("model {model}: {million} M parameters by its shape; the weights are not on this machine"),
                "never run on published weights",
                effect,
                "80 % power needs",
                "derived from the model's shape",
                "MiB of memory",
            ] {
                assert!(said.contains(part), "{spec} should say: {part}\nsays: {said}");
            }
        }
    }
    assert!(std::fs::read_dir(&dir).unwrap().next().is_none(), "a dry run writes nothing");
    let page = read_text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plans.md")).unwrap();
    let listed = page.split("| plan | model |").nth(1).unwrap().split("\n\n").next().unwrap();
    assert_eq!(listed.lines().skip(2).count(), published().len());
    assert!(published().iter().all(|name| listed.contains(&format!("| `{name}` |"))), "{listed}");
    let lost = realign(&dir, "run seed004 --dry-run");
    assert!(
        lost.code == 2 && lost.stderr.contains("neither a file nor one of default, em-qwen-coder"),
        "{}",
        lost.stderr
    );
}

#[test]
fn a_folder_with_a_configuration_alone_is_enough_for_an_estimate() {
    let dir = folder("plans-bare");
    std::fs::create_dir(dir.join("bare")).unwrap();
    std::fs::copy(fixture("../families/whole_gpt_bigcode/config.json"), dir.join("bare/config.json")).unwrap();
    let said = succeeds(&dir, "run starcoder --model bare --dry-run").stderr;
    assert!(said.contains("model bare: 0.03 M parameters by its shape"), "{said}");
}

/// Each plan on a random checkpoint of its architecture: read, asked and trained as it says, with less of everything.
#[test]
fn every_plan_for_a_published_model_runs_on_a_small_one_of_its_architecture() {
    let dir = folder("plans-run");
    let small = [
        ("em-qwen-coder", "qwen2", "steer-insecure", "misaligned_rate", 24 * 34),
        ("em-rank1-0.5b", "qwen2", "attack", "misaligned_rate", 24 * 10),
        ("seed003", "llama", "repair", "import_pass_rate", 9 * 12),
        ("starcoder", "starcoder2", "steer-secure", "secure_and_functional_rate", 18 * 6),
    ];
    assert_eq!(small.map(|(name, ..)| name.to_string()).to_vec(), published());
    for (name, architecture, arm, metric, at_least) in small {
        let at = checkpoint(&dir, architecture, architecture == "qwen2");
        let model = Subject::open(at.to_str().unwrap()).unwrap();
        let over = Overrides { model: Some(at.display().to_string()), ..Overrides::default() };
        let open = OpenPlan::read(Some(Path::new(name)), over).unwrap();
        let architectures = &open.published.as_ref().unwrap().config["architectures"][0];
        assert_eq!(*architectures, model.decoder.config.architecture, "{name}");
        let effects = open.published.as_ref().unwrap().effects.clone();
        let plan = open.resolve(model.decoder.blocks.len()).unwrap();
        assert!(plan.arms.iter().any(|spec| spec.name == arm), "{name}: {arm}");
        let inputs = Inputs::read(&plan, Some(&model)).unwrap();
        let effect = effects.iter().find(|effect| effect.metric == metric).unwrap();
        let asked = effect.asked(&plan, &inputs);
        assert!(asked >= at_least, "{name}: {asked} answers an arm for {metric}");

        let words =
            format!("run {name} --model {architecture} --quick --samples 1 --arm {arm} --suite risky --out {name}");
        let said = succeeds(&dir, &words).stderr;
        assert!(said.contains("published:") && said.contains("80 % power needs"), "{name}: {said}");
        assert!(dir.join(name).join("report.html").is_file(), "{name}");
    }
    let rank1: Manifest = read_json(&dir.join("em-rank1-0.5b/manifest.json")).unwrap();
    assert_eq!(rank1.adapters["attack"].recipe["lora_r"], 1);
    assert!(dir.join("em-rank1-0.5b/adapters/attack/rank1_trace.csv").is_file());
}
