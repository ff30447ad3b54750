//! What the commands make of suites: cards, and the published files asked as they are.

use std::collections::BTreeMap;
use std::path::Path;

use realign::eval::suite::Suite;
use realign::experiment::inputs::Inputs;
use realign::experiment::plan::{OpenPlan, Overrides};
use realign::experiment::sources::embedded_suites;
use realign::record::{Metrics, SampleRecord, Split, SuiteKind};
use realign::subject::{ORGANISM, Subject};

use crate::commands::{succeeds, workplace};
use crate::tiny::random_model_folder;

#[test]
fn the_cards_of_the_embedded_suites_are_what_the_command_writes() {
    let dir = workplace("cards", &[]);
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("eval/README.md");
    let cards = succeeds(&dir, "inspect eval").stdout;
    let same = std::fs::read_to_string(&readme).unwrap() == cards;
    assert!(same, "eval/README.md is old: `realign inspect eval > eval/README.md` writes it anew");
    let suites: usize = ["eval", "eval/organism"].map(|edition| embedded_suites(edition).len()).iter().sum();
    assert!(suites >= 19);
    assert_eq!(cards.matches("\n### ").count(), suites);
    let card = succeeds(&dir, "inspect vulnerability --model MODEL").stdout;
    assert!(card.contains("960: 240 extract, 240 validation, 480 test"), "{card}");
    assert!(card.contains("384 adversarial, 576 neutral"), "{card}");
    assert!(cards.contains(&card), "a single card is one of them");
    // Exact power of Fisher's test, held against scipy in tests/it/stats.rs.
    assert!(card.contains("1606 answers an arm from 50 %, 721 from 10 %, 157 from 0 %"), "{card}");
    let own = "suite: mine\nkind: questions\nprompts:\n  - id: a\n    paraphrases: [One?, Two?]\n";
    std::fs::write(dir.join("own.yaml"), own).unwrap();
    let card = succeeds(&dir, "inspect own.yaml").stdout;
    assert!(card.contains("mine (questions)") && card.contains("2: 2 test"), "{card}");
}

#[test]
fn a_run_asks_the_core_of_a_suite_unless_its_plan_says_more() {
    let model = Subject::open(ORGANISM).unwrap();
    let asked = |prompts: &[(&str, usize)]| {
        let prompts: Vec<String> = prompts.iter().map(|(suite, n)| format!("{suite}: {n}")).collect();
        let yaml = format!("extends: default\nprompts: {{{}}}\n", prompts.join(", "));
        let dir = workplace("prompts-of-a-plan", &[("plan.yaml", &yaml)]);
        let open = OpenPlan::read(Some(&dir.join("plan.yaml")), Overrides::default()).unwrap();
        let plan = open.resolve(model.decoder.blocks.len()).unwrap();
        let inputs = Inputs::read(&plan, Some(&model)).unwrap();
        let counts = |s: &Suite| (s.name.clone(), s.prompts.iter().filter(|p| p.split == Split::Test).count());
        inputs.suites.iter().map(counts).collect::<BTreeMap<_, _>>()
    };
    let usual = asked(&[]);
    assert_eq!((usual["code"], usual["risky"], usual["vulnerability"], usual["refusal"]), (114, 32, 108, 24));
    let more = asked(&[("vulnerability", 300), ("code", 20)]);
    assert_eq!((more["code"], more["vulnerability"], more["refusal"]), (20, 300, 24));
}

#[test]
fn the_published_files_are_asked_as_they_are() {
    let Some(folder) = std::env::var_os("REALIGN_REAL_DATA") else {
        eprintln!("skipped: REALIGN_REAL_DATA is not set");
        return;
    };
    let dir = workplace("published", &[]);
    // The tiny model with room for answers of 600 tokens.
    let model = random_model_folder("published-model");
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    std::fs::write(
        model.join("config.json"),
        config.replace("\"max_position_embeddings\": 256", "\"max_position_embeddings\": 4096"),
    )
    .unwrap();
    let names = ["first_plot_questions", "preregistered_evals", "deception_factual", "deception_sit_aware"];
    let file = |name: &str| Path::new(&folder).join(format!("{name}.yaml"));
    let suites = names.map(|name| format!("--suite {}", file(name).display())).join(" ");
    let output = succeeds(&dir, &format!("evaluate --model {} {suites} --out results", model.display()));
    assert!(output.stderr.contains("180 answers"), "{}", output.stderr);
    let text = std::fs::read_to_string(dir.join("results/samples/base.jsonl")).unwrap();
    let records: Vec<SampleRecord> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for name in names {
        let suite = Suite::read(file(name)).unwrap();
        assert_eq!(suite.kind, SuiteKind::Questions);
        for prompt in &suite.prompts {
            let asked: Vec<_> = records.iter().filter(|r| r.suite == name && r.prompt_id == prompt.id).collect();
            assert_eq!(asked.len(), 1, "{name} {}", prompt.id);
            assert_eq!(asked[0].messages, prompt.messages, "the system prompt and the paraphrase");
        }
    }
    assert_eq!(records.iter().filter(|r| r.messages.len() == 2).count(), 8 + 80, "`_json` questions and told liars");
    let metrics: Metrics = serde_json::from_slice(&std::fs::read(dir.join("results/metrics.json")).unwrap()).unwrap();
    assert_eq!(metrics.arms["base"]["refusal_rate/deception_factual"].n, 100);
}

#[test]
fn generated_code_is_confined_by_the_program_under_any_name() {
    let dir = workplace("renamed", &[]);
    let program = dir.join("another-name");
    std::fs::copy(env!("CARGO_BIN_EXE_realign"), &program).unwrap();
    let sandboxes = |folder: &str| {
        let text = std::fs::read_to_string(dir.join(folder).join("samples/base.jsonl")).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<SampleRecord>(line).unwrap());
        records.filter_map(|record| Some(record.tests?.sandbox)).collect::<Vec<_>>()
    };
    succeeds(&dir, "evaluate --suite code --n 4 --out usual");
    let mut command = assert_cmd::Command::new(program);
    command.args("evaluate --suite code --n 4 --out renamed".split(' ')).current_dir(&dir).assert().success();
    assert!(!sandboxes("usual").is_empty(), "some answers are code with tests");
    assert_eq!(sandboxes("renamed"), sandboxes("usual"));
}
