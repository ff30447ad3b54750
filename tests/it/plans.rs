//! Plans: arms that nobody has heard of run like those of the default plan, and what is written wrongly is refused with its
//! line and the way out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use realign::experiment::plan::{OpenPlan, Overrides, Plan};
use realign::fsio::{read_json, read_jsonl, read_text};
use realign::record::{Manifest, Metrics, SampleRecord};

use crate::commands::{refused, succeeds, workplace};

/// Two adapters, one of them continued from the other, three arms beside base, two vectors.
const STRANGE: &str = "
schema: 2
adapters:
  zinnia: {data: 'embedded:educational.jsonl', max_train_rows: 48, seeds: [3, 4]}
  poppy: {data: 'embedded:secure.jsonl', from: zinnia, max_train_rows: 48}
vectors:
  tide: {method: mean_difference, pairs: 'embedded:contrast.jsonl', target: insecure}
  foam: {method: random, like: tide, draws: 2}
arms:
  marsh: {adapter: poppy, against: [base], family: plants, label: Marsh & <b>mud</b>}
  shore: {vector: tide, sign: -1, layers: [1, 2], coefficient: 0.2, against: base}
  spray: {vector: foam, layers: [1], coefficient: 0.2, against: [base, shore], colour: '#123456'}
suites: [code, free-form]
samples: {free-form: 2, code: 1}
prompts: {code: 12}
";

fn plan(yaml: &str, over: Overrides) -> realign::error::Result<Plan> {
    let dir = workplace("plan-files", &[("plan.yaml", yaml)]);
    OpenPlan::read(Some(&dir.join("plan.yaml")), over)?.resolve(4)
}

fn complaint(yaml: &str) -> String {
    plan(yaml, Overrides::default()).err().map_or_else(|| panic!("accepted: {yaml}"), |e| e.to_string())
}

#[test]
fn arms_that_nobody_has_heard_of_are_trained_asked_compared_and_reported() {
    let dir = workplace("strange-arms", &[("plan.yaml", STRANGE)]);
    let said = succeeds(&dir, "run plan.yaml --out run").stderr;
    assert!(said.contains("adapter poppy, from zinnia"), "{said}");
    let run = dir.join("run");
    let manifest: Manifest = read_json(&run.join("manifest.json")).unwrap();
    let names: Vec<&str> = manifest.arms.iter().map(|arm| arm.name.as_str()).collect();
    assert_eq!(names, ["base", "marsh", "shore", "spray"]);
    assert_eq!(manifest.arms[1].chain, ["poppy", "zinnia"]);
    // One adapter a seed, and a child continues its parent of the same seed.
    let trained: Vec<&String> = manifest.adapters.keys().collect();
    assert_eq!(trained, ["poppy/seed-3", "poppy/seed-4", "zinnia/seed-3", "zinnia/seed-4"]);
    for seed in [3, 4] {
        let parent = realign::adapter::adapter_sha256(&run.join(format!("adapters/zinnia/seed-{seed}"))).unwrap();
        assert_eq!(manifest.adapters[&format!("poppy/seed-{seed}")].parent_sha256, Some(parent));
        assert_eq!(manifest.adapters[&format!("poppy/seed-{seed}")].seed, seed);
    }

    let samples = |arm: &str| read_jsonl::<SampleRecord>(&run.join(format!("samples/{arm}.jsonl"))).unwrap();
    let base = samples("base");
    let marsh = samples("marsh");
    assert_eq!(marsh.len(), 2 * base.len(), "every seed's adapter is asked what base is asked");
    let seeds: std::collections::BTreeSet<Option<u64>> = marsh.iter().map(|s| s.training_seed).collect();
    assert_eq!(seeds, [Some(3), Some(4)].into());
    let code: std::collections::BTreeSet<_> = marsh.iter().filter_map(|s| s.code_path.as_ref()).collect();
    assert_eq!(code.len(), marsh.iter().filter(|s| s.code_path.is_some()).count(), "no code file stands for two");
    assert!(code.len() > 12, "{code:?}");
    assert_eq!(samples("shore").len(), base.len());
    let draws: std::collections::BTreeSet<Option<u32>> = samples("spray").iter().map(|s| s.draw).collect();
    assert_eq!(draws, [Some(0), Some(1)].into());

    let metrics: Metrics = read_json(&run.join("metrics.json")).unwrap();
    assert_eq!(metrics.arms.keys().map(String::as_str).collect::<Vec<_>>(), ["base", "marsh", "shore", "spray"]);
    for (a, b) in [("marsh", "base"), ("shore", "base"), ("spray", "base"), ("spray", "shore")] {
        let found = metrics.comparisons.iter().any(|c| c.a == a && c.b == b && c.metric == "syntax_valid_rate");
        assert!(found, "{a} against {b}: {:?}", metrics.comparisons.iter().map(|c| (&c.a, &c.b)).collect::<Vec<_>>());
    }
    let page = read_text(&run.join("report.html")).unwrap();
    let summary = read_text(&run.join("report.md")).unwrap();
    for label in ["shore", "spray"] {
        assert!(page.contains(label) && summary.contains(label), "{label}");
    }
    assert!(page.contains("Marsh &amp; &lt;b&gt;mud") && !page.contains("<b>mud</b>"), "a label is text");
    // Two seeds are shown one by one, and nothing is claimed across them.
    for text in [&page, &summary.replace('\\', "")] {
        for words in ["By training seed", "Seed 3", "Seed 4", "2 training seeds, too few for an interval across seeds"]
        {
            assert!(text.contains(words), "{words}");
        }
        assert!(!text.contains("t-interval over"), "no interval over two seeds");
        let arms_are_named =
            text.contains("organism: Base, ") && text.contains("The plan gives layers and coefficient of");
        assert!(arms_are_named, "the title and the captions are this plan's");
        for words in ["ttack, repair and steering", "The attack", "the attack switches", "‘Attack’"] {
            assert!(!text.contains(words), "{words}");
        }
    }
    for name in ["static_metrics_comparison.csv", "em_questions.csv"] {
        let csv = read_text(&run.join(name)).unwrap();
        assert!(["marsh", "shore", "spray"].iter().all(|arm| csv.contains(arm)), "{name}");
    }
    let chart = read_text(&run.join("figures/headline.svg")).unwrap();
    assert!(chart.contains("shore") && chart.contains("spray"), "the charts draw them");
    assert!(succeeds(&dir, "run plan.yaml --out run").stderr.lines().all(|line| !line.starts_with("ask ")));
}

#[test]
fn the_default_plan_is_the_plan_without_a_name() {
    let of = |spec: Option<&Path>| OpenPlan::read(spec, Overrides::default()).unwrap().resolve(4).unwrap();
    let default = of(None);
    assert_eq!(default, of(Some(Path::new("default"))));
    assert_eq!(default, plan("extends: default\n", Overrides::default()).unwrap());
    assert_eq!(default.arms.len(), 12);
    let names: Vec<&str> = default.adapters.iter().map(|adapter| adapter.name.as_str()).collect();
    assert_eq!(names, ["attack", "repair", "repair+style", "secure-control", "educational-control"]);
    let real = Overrides { model: Some("elsewhere".into()), ..Overrides::default() };
    let real = OpenPlan::read(None, real).unwrap().resolve(24).unwrap();
    assert_eq!((real.sampling.temperature, default.sampling.temperature), (1.0, 0.8));
    assert_eq!(real.adapters[0].recipe.lora_r, 16);
    let words =
        |plan: &Plan| plan.arms.iter().find(|arm| arm.name == "prompt:verbose").unwrap().suffix.clone().unwrap();
    assert!(words(&real).contains("parameters in SQL") && words(&default).contains("plain Python"));
}

#[test]
fn a_plan_extends_another_by_key_and_null_takes_away() {
    let yaml = "extends: default\nadapters: {attack: {recipe: {learning_rate: 1e-3, lora_r: 2}}}\nvectors: {random: {draws: 3}}\n\
                arms: {educational-control: null, cold: {sampling: {temperature: 0}, against: base}}\n";
    let plan = plan(yaml, Overrides::default()).unwrap();
    assert!(!plan.arms.iter().any(|arm| arm.name == "educational-control"));
    assert!(!plan.adapters.iter().any(|adapter| adapter.name == "educational-control"), "nothing runs on it");
    let recipe = &plan.adapters[0].recipe;
    assert_eq!((recipe.lora_r, recipe.training.learning_rate, recipe.training.num_train_epochs), (2, 1e-3, 3.0));
    assert_eq!(plan.adapters[1].recipe.training.learning_rate, 2e-3, "each adapter has its own");
    assert_eq!(plan.adapters[1].recipe.lora_r, 2, "what continues an adapter has its shape");
    let cold = plan.arms.iter().find(|arm| arm.name == "cold").unwrap();
    assert_eq!(cold.sampling.as_ref().unwrap().temperature, 0.0);
    assert!(!cold.colour.is_empty() && !cold.description.is_empty());
    assert_eq!(plan.arms.iter().find(|arm| arm.name == "random-vector").unwrap().draws().len(), 3);
}

#[test]
fn quick_is_a_patch_of_the_plan() {
    let quick = Overrides { quick: true, ..Overrides::default() };
    let default = OpenPlan::read(None, quick.clone()).unwrap().resolve(4).unwrap();
    assert_eq!(default.arms.len(), 7);
    assert_eq!(default.adapters[0].max_train_rows, Some(700));
    assert!(default.left_out.iter().any(|words| words.contains("prompt:terse")), "{:?}", default.left_out);
    // What a plan says itself counts more than the patch of the one that it extends; so does an arm that is named.
    let own = plan("extends: default\nsamples: {free-form: 7}\narms: [attack, prompt:terse]\n", quick.clone()).unwrap();
    let names: Vec<&str> = own.arms.iter().map(|arm| arm.name.as_str()).collect();
    assert_eq!((names, own.samples["free-form"]), (vec!["base", "attack", "prompt:terse"], 7));
    let named = Overrides { arms: vec!["repair+style".into()], ..quick.clone() };
    let named = OpenPlan::read(None, named).unwrap().resolve(4).unwrap();
    assert_eq!(named.arms.last().unwrap().name, "repair+style");
    assert!(named.adapters.iter().all(|adapter| adapter.max_train_rows == Some(700)), "{:?}", named.adapters);
    let own = plan("extends: default\nquick: {samples: {free-form: 1}, arms: {attack+steer: null}}\n", quick).unwrap();
    assert_eq!((own.arms.len(), own.samples["free-form"]), (6, 1));
}

#[test]
fn own_data_takes_the_place_of_the_embedded_sets_and_of_what_belongs_to_them() {
    let own = Overrides { attack: Some("a.jsonl".into()), repair: Some("b.jsonl".into()), ..Overrides::default() };
    let plan = OpenPlan::read(None, own).unwrap().resolve(4).unwrap();
    let data: Vec<(&str, &str)> = plan.adapters.iter().map(|a| (a.name.as_str(), a.data.as_str())).collect();
    assert_eq!(data, [("attack", "a.jsonl"), ("repair", "b.jsonl"), ("secure-control", "b.jsonl")]);
    assert_eq!(plan.left_out.len(), 2, "{:?}", plan.left_out);
    let arms = Overrides { arms: vec!["repair".into()], ..Overrides::default() };
    let plan = OpenPlan::read(None, arms).unwrap().resolve(4).unwrap();
    assert_eq!(plan.arms.iter().map(|arm| arm.name.as_str()).collect::<Vec<_>>(), ["base", "repair"]);
    assert_eq!(plan.adapters.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["attack", "repair"]);
}

#[test]
fn plans_of_the_first_form_are_refused_with_the_new_spelling() {
    let old = complaint("model: organism\nattack: mine.jsonl\nrandom_draws: 3\narms: [attack]\n");
    assert!(old.contains("plan.yaml:2:"), "{old}");
    for new in ["adapters: {attack: {data: FILE}}", "draws: N"] {
        assert!(old.contains(new), "{old}");
    }
    assert!(complaint("arms: [attack]\n").contains("add `extends: default`"));
    assert!(complaint("quick: true\n").contains("--quick"));
}

#[test]
fn what_is_written_wrongly_is_named_with_its_line() {
    let cases = [
        ("seed: 1\nsede: 2\n", "plan.yaml:2:", "unknown key `sede`"),
        ("extends: default\narms:\n  x: {adaptor: attack}\n", "plan.yaml:3:", "adaptor"),
        ("arms:\n  x: {adapter: nowhere}\n", "plan.yaml:2:", "there is no adapter `nowhere`"),
        ("adapters:\n  a: {data: x, from: b}\n  b: {data: x, from: a}\n", "plan.yaml:2:", "circle: a → b → a"),
        ("adapters:\n  a: {data: x, from: z}\n", "plan.yaml:2:", "`z`, which is not an adapter"),
        ("adapters:\n  a: {data: x, seeds: [1, 1]}\n", "plan.yaml:2:", "none twice"),
        (
            "adapters:\n  a: {data: x, seeds: [1, 2]}\n  b: {data: x, from: a, seeds: [3]}\n",
            "plan.yaml:3:",
            "no training with seed 3",
        ),
        ("adapters:\n  a: {data: x, recipe: {lora_rank: 3}}\n", "plan.yaml:2:", "lora_rank"),
        ("adapters:\n  a: {data: x, recipe: {learning_rate: -1}}\n", "plan.yaml:2:", "must be above 0"),
        (
            "adapters:\n  a: {data: x, recipe: {lora_r: 2}}\n  b: {data: x, from: a, recipe: {lora_r: 3}}\n",
            "plan.yaml:3:",
            "`lora_r` is 3; the adapter that it continues has 2",
        ),
        ("adapters:\n  a/b: {data: x}\n", "plan.yaml:2:", "must be usable as a folder name"),
        ("vectors:\n  v: {method: probe}\n", "plan.yaml:2:", "unknown method `probe`"),
        ("vectors:\n  v: {method: random, like: w}\n", "plan.yaml:2:", "`like: w`"),
        ("extends: default\narms:\n  x: {vector: insecure}\n", "plan.yaml:3:", "layers and coefficient are missing"),
        ("extends: default\narms:\n  x: {vector: none, cell_of: base}\n", "plan.yaml:3:", "there is no vector `none`"),
        (
            "extends: default\narms:\n  x: {vector: insecure, cell_of: attack}\n",
            "plan.yaml:3:",
            "nothing is chosen for that arm",
        ),
        (
            "extends: default\narms:\n  x: {vector: insecure, layers: [4], coefficient: 1}\n",
            "plan.yaml:3:",
            "layer 4 is outside",
        ),
        ("extends: default\narms:\n  x: {vector: insecure, layers: most, coefficient: 1}\n", "plan.yaml:3:", "`most`"),
        ("adapters:\n  x: {data: a}\narms:\n  x: {adapter: z}\n", "plan.yaml:4:", "there is no adapter `z`"),
        ("extends: default\narms:\n  x: {vector: insecure, sign: 2, cell_of: base}\n", "plan.yaml:3:", "`sign` is 2"),
        ("extends: default\narms:\n  x: {suffix: Hm., against: nobody}\n", "plan.yaml:3:", "there is no arm `nobody`"),
        ("extends: default\narms:\n  x: {suffix: Hm., colour: red}\n", "plan.yaml:3:", "\"#rrggbb\""),
        ("extends: default\nsweep: {coefficients: [-1]}\n", "plan.yaml:2:", "not a positive number"),
        ("schema: 3\n", "plan.yaml:1:", "schema 3"),
        (
            "extends: default\narms:\n  atack: null\n",
            "plan.yaml:3:",
            "there is no `atack`; `arms` has base, attack, repair",
        ),
        ("extends: default\narms:\n  attack: {prefx: null}\n", "plan.yaml:3:", "`arms.attack` has adapter, against"),
        ("extends: default\nprompts: null\n", "plan.yaml:2:", "there is no `prompts`"),
        ("arms: null\n", "plan.yaml:1:", "there is no `arms`"),
        ("extends: default\nquick:\n  samples: {cod: null}\n", "plan.yaml:3:", "there is no `cod`"),
        ("extends: default\nsampling:\n  organism: {top_q: null}\n  real: {}\n", "plan.yaml:3:", "there is no `top_q`"),
        ("extends: default\nquick: null\n", "plan.yaml:2:", "`quick` is a mapping"),
        (
            "extends: default\narms:\n  x: {against: base, steer: [{vector: insecure}, {vector: random}]}\n",
            "plan.yaml:3:",
            "2 vectors in one arm",
        ),
        ("extends: nowhere\n", "", "there is no plan `nowhere`"),
        ("extends: plan.yaml\n", "plan.yaml:1:", "in a circle"),
        ("- a\n- b\n", "plan.yaml", "expected a YAML mapping"),
    ];
    for (yaml, place, words) in cases {
        let said = complaint(yaml);
        assert!(said.contains(place) && said.contains(words), "{yaml}\n{said}");
    }
}

#[test]
fn null_takes_away_what_quick_has_taken_away_already_and_what_one_edition_goes_without() {
    let quick = Overrides { quick: true, ..Overrides::default() };
    let yaml = "extends: default\narms: {repair+style: null}\nsamples: {organism: {code: null}, real: null}\n";
    for over in [Overrides::default(), quick] {
        let plan = plan(yaml, over).unwrap();
        assert!(!plan.arms.iter().any(|arm| arm.name == "repair+style"));
        assert_eq!(plan.samples_of("code"), 1);
    }
}

#[test]
fn suites_that_the_plan_does_not_have_are_refused_by_arm_and_line() {
    let yaml = |arm: &str| format!("extends: default\narms:\n  odd: {arm}\nsuites: [code, free-form]\n");
    for (arm, key) in [
        ("{suffix: Hm., suites: [code, freeform]}", "suites: there is no suite `freeform`"),
        ("{suffix: Hm., samples: {freeform: 2}}", "samples: there is no suite `freeform`"),
    ] {
        let dir = workplace("no-such-suite", &[("plan.yaml", &yaml(arm))]);
        let words = ["plan.yaml:3:", &format!("arms.odd.{key}"), "suites: code, free-form"];
        refused(&dir, "run plan.yaml --arm odd --out run", &words);
        assert!(!dir.join("run").exists());
    }
    let dir = workplace("such-suite", &[("plan.yaml", &yaml("{suffix: Hm., suites: [code]}"))]);
    succeeds(&dir, "run plan.yaml --arm odd --dry-run");
    succeeds(&dir, "run plan.yaml --arm odd --suite free-form --dry-run");
}

#[test]
fn an_arm_that_is_not_there_is_refused_by_the_command() {
    let dir = workplace("no-such-arm", &[]);
    refused(&dir, "run --arm attak --out run", &["there is no arm `attak`", "attack+steer"]);
    assert!(!dir.join("run").exists());
}
