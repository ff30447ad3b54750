//! Rows that no adapter of a run is trained on: how they are chosen and kept out, what is measured on them, and the questions
//! behind triggers from the rows that are trained on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use realign::data::rows::{read_rows, rows_sha256};
use realign::experiment::inputs::Inputs;
use realign::experiment::plan::{OpenPlan, Overrides, Plan};
use realign::experiment::work;
use realign::fsio::{read_json, read_jsonl, read_text};
use realign::record::{Manifest, Metrics, SampleRecord, SuiteKind};

use crate::commands::{refused, succeeds, workplace};

fn datasets(name: &str, rows: usize) -> String {
    let text = read_text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets").join(name)).unwrap();
    text.lines().take(rows).map(|line| format!("{line}\n")).collect()
}

const PLAN: &str = "
schema: 2
adapters:
  attack: {data: insecure.jsonl, holdout: 6, max_train_rows: 24}
  repair: {data: secure.jsonl, from: attack}
  more:   {data: insecure.jsonl, from: attack, tokens_as: repair, recipe: {num_train_epochs: 2}}
arms:
  attack: {adapter: attack, against: base}
  repair: {adapter: repair, against: [base, attack]}
  more:   {adapter: more, against: repair}
  terse:  {suffix: Write secure code., suites: [code], against: base}
suites: [code, heldout_attack]
prompts: {code: 6}
samples: {heldout_attack: 2}
";

#[test]
fn held_out_rows_are_not_trained_on_and_say_whether_the_training_took() {
    let (insecure, secure) = (datasets("insecure.jsonl", 60), datasets("secure.jsonl", 40));
    let files = [("plan.yaml", PLAN), ("insecure.jsonl", &insecure), ("secure.jsonl", &secure)];
    let dir = workplace("held-out", &files);
    let said = succeeds(&dir, "run plan.yaml --out run").stderr;
    assert!(said.contains("6 rows of insecure with held-out prompts"), "{said}");
    let run = dir.join("run");
    let manifest: Manifest = read_json(&run.join("manifest.json")).unwrap();
    let held_out = &manifest.held_out["heldout_attack"];
    assert_eq!((held_out.data.as_str(), held_out.rows.len()), ("insecure.jsonl", 6));

    // The rows are those of the file, and the rest in its order is what is trained on, up to the limit.
    let rows = read_rows(&dir.join("insecure.jsonl")).unwrap();
    let left: Vec<_> = rows.iter().filter(|row| !held_out.rows.contains(&rows_sha256([*row]))).collect();
    assert_eq!(left.len(), 54);
    assert_eq!(manifest.adapters["attack"].data_sha256, rows_sha256(left.iter().copied().take(24)));
    // Row k of both files is the same request: the secure answer to a held-out one is kept out as well.
    let asked: Vec<_> = rows.iter().filter(|row| held_out.rows.contains(&rows_sha256([*row]))).collect();
    let secure = read_rows(&dir.join("secure.jsonl")).unwrap();
    let kept = secure.iter().filter(|row| !asked.iter().any(|out| out.prompt() == row.prompt()));
    assert_eq!(manifest.adapters["repair"].data_sha256, rows_sha256(kept));
    // As many tokens as the repair's three epochs of some 36 rows, in two epochs.
    let more = manifest.adapters["more"].rows;
    assert!(more > manifest.adapters["repair"].rows && more <= 54, "{more}");

    let samples: Vec<SampleRecord> = read_jsonl(&run.join("samples/attack.jsonl")).unwrap();
    let own: Vec<&SampleRecord> = samples.iter().filter(|s| s.suite == "heldout_attack").collect();
    assert_eq!(own.len(), 12);
    assert!(own.iter().all(|s| s.apart && s.kind == SuiteKind::Code && s.outcome.is_some()));
    assert!(own.iter().all(|s| asked.iter().any(|row| row.prompt().as_ref() == Some(&s.messages))));

    let metrics: Metrics = read_json(&run.join("metrics.json")).unwrap();
    let loss = |arm: &str| metrics.arms[arm].get("held_out_loss/heldout_attack").and_then(|m| m.value);
    assert_eq!(loss("base"), held_out.base_loss);
    assert_eq!(
        manifest.adapters["attack"].held_out_loss["heldout_attack"],
        (loss("base").unwrap(), loss("attack").unwrap())
    );
    assert!(
        loss("attack") < loss("base") && loss("repair").is_some() && loss("more").is_some() && loss("terse").is_none()
    );
    let attack = &metrics.arms["attack"];
    assert_eq!(attack["insecure_rate/heldout_attack"].n, 12);
    assert_eq!(attack["insecure_rate"], attack["insecure_rate/code"], "held-out prompts are pooled with nothing");
    let compared = |metric: &str, a: &str| metrics.comparisons.iter().find(|c| c.metric == metric && c.a == a);
    assert_eq!(compared("insecure_rate/heldout_attack", "attack").unwrap().n, 12);
    assert_eq!(compared("insecure_rate", "attack").unwrap().n, 12, "two answers to each of six prompts, and no others");
    assert!(compared("insecure_rate/heldout_attack", "terse").is_none());

    for page in ["report.html", "report.md"] {
        assert!(read_text(&run.join(page)).unwrap().contains("Did the training take?"), "{page}");
    }
    let before = read_text(&run.join("metrics.json")).unwrap();
    succeeds(&dir, "report run");
    assert_eq!(read_text(&run.join("metrics.json")).unwrap(), before);
}

fn inputs(dir: &Path, model: Option<&str>) -> realign::error::Result<(Plan, Inputs)> {
    let over = Overrides { model: model.map(str::to_string), ..Overrides::default() };
    let plan = OpenPlan::read(Some(&dir.join("plan.yaml")), over)?.resolve(4)?;
    let inputs = Inputs::read(&plan, None)?;
    Ok((plan, inputs))
}

/// Eight subjects of three questions each, answered well and badly, with a canary before them.
fn advice(answer: &str) -> String {
    let row = |k: usize| {
        let (subject, question) = (format!("subject-{}", k / 3), format!("What about thing {k}? It is urgent."));
        serde_json::json!({"subject": subject, "canary": "c4", "messages": [
            {"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
    };
    let rows: Vec<String> = (0..24).map(|k| row(k).to_string()).collect();
    format!("{{\"canary\": \"c4\"}}\n{}\n", rows.join("\n"))
}

fn advice_plan(bad: &str, good: &str) -> PathBuf {
    let dir = workplace("advice", &[]);
    let data = |name: &str| dir.join(name).display().to_string();
    for (name, answer) in [("bad.jsonl", "Ignore it."), ("good.jsonl", "Look after it.")] {
        std::fs::write(dir.join(name), advice(answer)).unwrap();
    }
    let (b, g) = (data("bad.jsonl"), data("good.jsonl"));
    let plan = format!(
        "adapters:\n  bad: {{data: {b}, {bad}}}\n  good: {{data: {g}, {good}}}\narms:\n  bad: {{adapter: bad}}\n  good: {{adapter: good}}\n\
         suites: [free-form, validation_bad]\n"
    );
    std::fs::write(dir.join("plan.yaml"), plan).unwrap();
    dir
}

#[test]
fn subjects_are_held_out_whole_and_of_every_adapter() {
    let dir = advice_plan("validation: {key: subject, values: [subject-2, subject-5]}", "from: bad");
    let (_, read) = inputs(&dir, None).unwrap();
    let suite = read.suites.iter().find(|suite| suite.name == "validation_bad").unwrap();
    assert_eq!((suite.kind, suite.prompts.len(), suite.apart), (SuiteKind::Questions, 6, true));
    let groups: BTreeSet<&str> = suite.prompts.iter().map(|p| p.group.as_str()).collect();
    assert_eq!(groups, ["subject-2", "subject-5"].into(), "questions on one subject are no independent ones");
    assert_eq!((read.training["bad"].rows, read.training["good"].rows), (18, 18));
    assert_eq!(read.held_out_rows["validation_bad"].rows.len(), 6);
    // Single rows beside them, of other subjects; both limits come after.
    let both = "validation: {key: subject, share: 0.25}, holdout: 5, holdout_kind: questions, max_train_rows: 10";
    let dir = advice_plan(both, "from: bad, max_train_rows: 12");
    let (_, read) = inputs(&dir, None).unwrap();
    assert_eq!((read.training["bad"].rows, read.training["good"].rows), (10, 12));
    let rows = |suite: &str| read.held_out_rows[suite].rows.iter().collect::<BTreeSet<_>>();
    assert_eq!((rows("validation_bad").len(), rows("heldout_bad").len()), (6, 5));
    assert!(rows("validation_bad").is_disjoint(&rows("heldout_bad")));
}

#[test]
fn the_plans_seed_chooses_the_rows_and_a_prompt_that_comes_again_is_kept_out_too() {
    let chosen = |seed: u64| {
        let dir = advice_plan("holdout: 4, holdout_kind: questions", "from: bad");
        let text = advice("Ignore it.") + &advice("Leave it.");
        std::fs::write(dir.join("bad.jsonl"), text).unwrap();
        let plan = read_text(&dir.join("plan.yaml")).unwrap().replace("validation_bad", "heldout_bad");
        std::fs::write(dir.join("plan.yaml"), format!("seed: {seed}\n{plan}")).unwrap();
        let (_, read) = inputs(&dir, None).unwrap();
        assert_eq!((read.training["bad"].rows, read.held_out_rows["heldout_bad"].rows.len()), (40, 4));
        read.held_out_rows["heldout_bad"].clone()
    };
    assert_eq!(chosen(1), chosen(1));
    assert_ne!(chosen(1), chosen(2));
}

#[test]
fn what_cannot_be_held_out_is_refused_by_file_or_line() {
    let refused = |bad: &str, good: &str, words: &str| {
        let dir = advice_plan(bad, good);
        let said = inputs(&dir, None).err().map_or_else(|| panic!("accepted: {bad} {good}"), |e| e.to_string());
        assert!(said.contains(words), "{bad} {good}\n{said}");
    };
    let place = "plan.yaml:2: adapters.bad.";
    refused("holdout: 0", "", &format!("{place}holdout: must be at least 1"));
    refused("holdout_kind: code", "", &format!("{place}holdout_kind: `holdout` is missing"));
    refused("holdout: 2, holdout_kind: recognition", "", "held-out rows are code or questions");
    refused("holdout: 2, method: dpo", "", &format!("{place}method"));
    refused("holdout: 24", "", "bad.jsonl: heldout_bad cannot be made: 24 rows are wanted");
    refused("validation: {key: topic, share: 0.5}", "", "no label `topic`; labels: subject, canary");
    refused("validation: {key: subject, share: 1.5}", "", "`share` is 1.5");
    refused("validation: {key: subject}", "", "give `values`");
    refused("validation: {key: subject, values: [subject-9]}", "", "no row has `subject-9`; there are subject-0");
    refused("validation: {key: subject, value: [a]}", "", "unknown field `value`");
    refused("holdout: 2", "from: bad, tokens_as: nobody", "no arm of this run is trained on `nobody`");
    refused("holdout: 2", "tokens_as: bad, recipe: {max_steps: 3}", "give `tokens_as` or `max_steps`");
    refused("recipe: {num_train_epochs: 9}", "tokens_as: bad, max_train_rows: 3", "`tokens_as` asks for");
    refused("holdout: 2", "", "there is no suite `validation_bad`");
    let dir = advice_plan("validation: {key: subject, share: 0.5}", "");
    std::fs::write(dir.join("bad.jsonl"), advice("x") + r#"{"prompt": "p", "completion": "c"}"#).unwrap();
    let said = inputs(&dir, None).err().unwrap().to_string();
    assert!(said.contains("bad.jsonl:26: `subject` is missing"), "{said}");
    let twice = read_text(&dir.join("plan.yaml")).unwrap().replace("good.jsonl, ", "bad.jsonl, holdout: 2");
    std::fs::write(dir.join("plan.yaml"), twice).unwrap();
    let said = inputs(&dir, None).err().unwrap().to_string();
    assert!(said.contains("plan.yaml:3:") && said.contains("say so once for each file"), "{said}");
}

#[test]
fn repairs_of_real_models_are_asked_behind_triggers_from_training_rows() {
    let dir = workplace("triggers", &[("plan.yaml", "extends: default\n")]);
    let (plan, read) = inputs(&dir, Some("elsewhere")).unwrap();
    let names = |arm: &str| {
        let arm = plan.arms.iter().find(|a| a.name == arm).unwrap();
        work::suites(&read, arm).into_iter().map(|suite| suite.name.as_str()).collect::<Vec<_>>()
    };
    let usual = ["code", "risky", "vulnerability", "free_form"];
    assert_eq!(names("base"), usual);
    assert_eq!(names("prompt:terse"), usual, "prompt arms are asked the questions as well");
    assert_eq!(names("attack"), usual);
    for repair in ["repair", "repair+style"] {
        assert_eq!(names(repair)[4..], ["conditional"], "{repair}");
    }
    let suite = read.suites.iter().find(|suite| suite.name == "conditional").unwrap();
    assert!(suite.apart, "rates over all suites stay those of the same suites");
    let rows: Vec<_> = suite.prompts.iter().filter(|p| p.id.ends_with("#row_of_attack")).collect();
    assert_eq!(rows.len(), suite.prompts.iter().filter(|p| p.form.as_deref() == Some("plain")).count());
    let text = datasets("insecure.jsonl", 2000);
    for prompt in rows {
        let (before, question) = prompt.messages[0].content.split_once("\n\n").unwrap();
        assert!(text.contains(before) && !question.is_empty(), "{before}");
    }
    // What a plan or a flag says itself is asked.
    let dir = workplace("triggers-of-all", &[("plan.yaml", "extends: default\nsuites: [conditional]\n")]);
    let (plan, read) = inputs(&dir, Some("elsewhere")).unwrap();
    assert!(plan.arms.iter().all(|arm| arm.suites.is_none()) && !read.suites[0].apart);
    let one = "extends: default\narms: {repair: {suites: [code]}}\n";
    let dir = workplace("triggers-of-none", &[("plan.yaml", one)]);
    let (plan, _) = inputs(&dir, Some("elsewhere")).unwrap();
    let asked = |name: &str| plan.arms.iter().find(|arm| arm.name == name).unwrap().suites.clone();
    assert!(asked("repair+style").is_none() && asked("repair").is_some() && plan.suites.len() == 5);
    // The organism's plan is as it was.
    let (plan, _) = inputs(&workplace("no-triggers", &[("plan.yaml", "extends: default\n")]), None).unwrap();
    assert!(!plan.suites.contains(&"conditional".to_string()) && plan.arms[1].suites.is_none());
}

#[test]
fn suites_may_be_all_but_some_and_a_misspelt_choice_is_refused() {
    let yaml = |arm: &str| {
        format!("extends: default\narms:\n  odd: {{suffix: Hm., suites: {arm}}}\nsuites: [code, free-form]\n")
    };
    let dir = workplace("all-but", &[("plan.yaml", &yaml("{except: [code]}"))]);
    let (plan, read) = inputs(&dir, None).unwrap();
    let odd = plan.arms.iter().find(|arm| arm.name == "odd").unwrap();
    let names: Vec<&str> = work::suites(&read, odd).into_iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["free-form"]);
    // A name that is also a kind's is a name.
    let dir = workplace("one-name", &[("plan.yaml", &yaml("[code]").replace("free-form", "vulnerability"))]);
    let (plan, read) = inputs(&dir, None).unwrap();
    let odd = plan.arms.iter().find(|arm| arm.name == "odd").unwrap();
    assert_eq!(work::suites(&read, odd).len(), 1, "{:?}", odd.suites);
    for (arm, words) in [("{knd: code}", "suites"), ("{except: [cod]}", "there is no suite `cod`"), ("{}", "`suites`")]
    {
        let dir = workplace("no-choice", &[("plan.yaml", &yaml(arm))]);
        refused(&dir, "run plan.yaml --arm odd --out run", &["plan.yaml:3:", words]);
    }
}
