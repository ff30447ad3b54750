//! A run that is fitted to a budget of time: its manifest says what it gave up, and a resumed run measures nothing again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use realign::experiment::plan::GiveUp;
use realign::fsio::{read_json, read_jsonl, read_text};
use realign::record::{Manifest, SampleRecord};

use crate::commands::{refused, succeeds, workplace};

/// Far too much for its budget on any machine; one last entry makes it small.
const PLAN: &str = "
schema: 2
adapters:
  attack: {data: 'embedded:insecure.jsonl'}
arms:
  attack: {adapter: attack, against: base}
  words: {suffix: Please., against: base}
suites: [code, free-form]
samples: {code: 2000, free-form: 2000}
budget: 25s
give_up:
  - {arm: words}
  - {arm: nobody}
  - {max_tokens: 0.3}
  - {samples: 0.0005}
  - {prompts: 0.1}
  - {rows: 0.02}
";

#[test]
fn a_run_gives_up_what_does_not_fit_its_budget_and_goes_on_without_measuring() {
    let dir = workplace("budget", &[("plan.yaml", PLAN)]);
    let said = succeeds(&dir, "run plan.yaml --out run").stderr;
    assert!(said.contains("left out: for the budget: the arm words"), "{said}");
    assert!(said.contains("insecure code: ") && said.contains("with 80 % power (attack − base)"), "{said}");
    let manifest: Manifest = read_json(&dir.join("run/manifest.json")).unwrap();
    let budget = &manifest.plan["budget"];
    assert_eq!(budget["seconds"], 25.0);
    let given_up: Vec<GiveUp> = serde_json::from_value(budget["given_up"].clone()).unwrap();
    // `nobody` is no arm of the plan.
    assert_eq!(given_up[..2], [GiveUp::Arm("words".into()), GiveUp::MaxTokens(0.3)]);
    let share = given_up[2].share().unwrap();
    assert!(matches!(given_up[2], GiveUp::Samples(_)) && (0.0005..1.0).contains(&share), "{given_up:?}");
    let names: Vec<&str> = manifest.arms.iter().map(|arm| arm.name.as_str()).collect();
    assert_eq!(names, ["base", "attack"]);
    let samples: Vec<SampleRecord> = read_jsonl(&dir.join("run/samples/attack.jsonl")).unwrap();
    let each = samples.iter().filter(|s| s.prompt_id == samples[0].prompt_id).count();
    assert_eq!(each, ((share * 2000.0).ceil() as usize).max(1));
    assert!(read_text(&dir.join("run/report.md")).unwrap().contains("for the budget: the arm words"));

    // The same command finds its work done, on a machine of any speed.
    let estimated = manifest.estimated_seconds;
    succeeds(&dir, "run plan.yaml --out run");
    let again: Manifest = read_json(&dir.join("run/manifest.json")).unwrap();
    assert_eq!((again.plan, again.estimated_seconds), (manifest.plan, estimated));
    refused(&dir, "run plan.yaml --out run --budget 2h", &["another plan", "budget"]);
}

#[test]
fn a_budget_is_a_time_and_a_share_is_a_share() {
    let cases = [
        ("budget: soon", "`soon` is no time such as 90m, 2h"),
        ("budget: -2h", "is no time"),
        ("budget: 0s", "is no time"),
        ("give_up: [{samples: 1.5}]", "1.5 is not a share between 0 and 1"),
        ("give_up: [{sample: 0.5}]", "sample"),
        ("give_up: {samples: 0.5}", "give_up"),
    ];
    for (yaml, complaint) in cases {
        let dir = workplace("budget-words", &[("plan.yaml", &format!("schema: 2\nextends: default\n{yaml}\n"))]);
        refused(&dir, "run plan.yaml --dry-run", &[complaint]);
    }
    let dir = workplace("budget-none", &[]);
    refused(&dir, "run --budget 1ms --dry-run", &["raise the budget"]);
}
