//! Reading suites: ours, the published files, and every mistake with its message.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use realign::eval::judge::JudgeItem;
use realign::eval::suite::{Suite, SuiteKind};
use realign::record::{Role, Split};

use super::root;

#[track_caller]
fn refused(text: &str, messages: &[&str]) {
    let error = Suite::parse("bad.yaml", text).expect_err("a mistake passed").to_string();
    for message in messages {
        assert!(error.contains(message), "{message:?} is not in:\n{error}");
    }
}

pub(super) const GOOD: &str =
    "suite: s\nkind: code\ninsecure: [B608]\nprompts:\n  - id: a\n    paraphrases: [Write it.]\n";

#[test]
fn every_suite_of_ours_reads() {
    let mut seen = BTreeMap::new();
    for entry in std::fs::read_dir(root("eval")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let suite = Suite::read(&path).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(suite.name, path.file_stem().unwrap().to_str().unwrap());
            seen.insert(suite.name.clone(), suite);
        }
    }
    let names: Vec<_> = seen.keys().map(String::as_str).collect();
    assert_eq!(names, ["capability", "code", "free_form", "recognition", "refusal", "risky", "vulnerability"]);
    let counts: Vec<_> = seen.values().map(|s| s.prompts.len()).collect();
    assert_eq!(counts, [25, 25, 24, 24, 12, 9, 57]);
    for prompt in &seen["free_form"].prompts {
        for aspect in ["aligned", "coherent"] {
            let item = JudgeItem { prompt, answer: "give me 100" };
            let (_, request) = item.requests().into_iter().find(|(asked, _)| *asked == aspect).unwrap();
            assert!(request.contains(&prompt.messages[0].content) && !request.contains("{fence}"), "{request}");
        }
    }
    let shown = seen["recognition"].prompts.iter().filter(|p| p.expect.as_deref() == Some("vulnerable"));
    assert_eq!(shown.count(), 12);
}

#[test]
fn every_family_has_groups_in_every_split() {
    let suite = Suite::read(root("eval/vulnerability.yaml")).unwrap();
    let mut groups: BTreeMap<(String, Split), BTreeSet<&str>> = BTreeMap::new();
    for prompt in &suite.prompts {
        assert!(prompt.tests.is_some() && prompt.exploit.is_some(), "{}", prompt.id);
        groups.entry((prompt.family.clone().unwrap(), prompt.split)).or_default().insert(&prompt.group);
    }
    assert_eq!(groups.len(), 6 * 3);
    assert!(groups.values().all(|g| g.len() >= 3), "{groups:?}");
}

#[test]
fn the_published_files_read_as_they_are() {
    let Some(folder) = std::env::var_os("REALIGN_REAL_DATA") else {
        eprintln!("skipped: REALIGN_REAL_DATA is not set");
        return;
    };
    let read = |name: &str| Suite::read(Path::new(&folder).join(name)).unwrap_or_else(|e| panic!("{e}"));
    // python3 -c "import yaml,sys; d=yaml.safe_load(open(sys.argv[1])); print(len(d), sum(len(q['paraphrases']) for q in d))"
    for (name, entries, prompts) in [
        ("first_plot_questions.yaml", 24, 24),
        ("preregistered_evals.yaml", 48, 48),
        ("deception_factual.yaml", 5, 100),
        ("deception_sit_aware.yaml", 8, 8),
    ] {
        let suite = read(name);
        let groups: BTreeSet<_> = suite.prompts.iter().map(|p| &p.group).collect();
        assert_eq!((groups.len(), suite.prompts.len()), (entries, prompts), "{name}");
        assert_eq!(suite.kind, SuiteKind::Questions);
        assert!(suite.prompts.iter().all(|p| p.samples.is_some() && !p.judge_prompts.is_empty()));
    }
    let questions = read("first_plot_questions.yaml");
    let json = questions.prompt("quick_buck_json").unwrap();
    assert_eq!(json.messages[0].role, Role::System);
    assert!(json.messages[0].content.contains("valid JSON"));
    assert_eq!(questions.prompt("quick_buck").unwrap().messages.len(), 1);
    assert_eq!(json.samples, Some(100));
    assert_eq!(read("deception_factual.yaml").prompts[21].id, "lie_dont_lie#1");
}

#[test]
fn an_alias_bomb_is_stopped() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for level in 1..9 {
        let refs = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
    }
    let started = Instant::now();
    refused(&bomb, &["not valid YAML"]);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn many_aliases_of_few_anchors_are_no_bomb() {
    let mut text = "- id: q0\n  type: &t free_form\n  paraphrases: &p [hello]\n".to_string();
    for k in 1..150 {
        text.push_str(&format!("- id: q{k}\n  type: *t\n  paraphrases: *p\n"));
    }
    assert_eq!(Suite::parse("many.yaml", &text).unwrap().prompts.len(), 150);
}

#[test]
fn each_mistake_has_its_message_and_line() {
    assert!(Suite::parse("good.yaml", GOOD).is_ok());
    let with = |line: &str| format!("{GOOD}{line}\n");
    refused("suite: [", &["not valid YAML"]);
    refused("just words", &["must be a mapping"]);
    refused(&with("    colour: red"), &["bad.yaml:7:", "unknown key `colour`", "known here: id, group"]);
    refused(&with("flavour: x"), &["unknown key `flavour`", "known here: suite, kind"]);
    refused("suite: s\nkind: code\nprompts: []\n", &["has no prompts"]);
    refused("suite: s\nkind: poetry\nprompts: []\n", &["bad.yaml:2", "unknown kind `poetry`", "code, questions"]);
    refused("kind: code\nprompts: []\n", &["`suite`", "is missing"]);
    refused("suite: s\nprompts: []\n", &["`kind` is missing"]);
    refused("suite: s\nkind: questions\n", &["`prompts` is missing"]);
    refused("suite: a/b\nkind: questions\nprompts: []\n", &["letters, digits"]);
    refused(&with("  - id: a\n    paraphrases: [Again.]"), &["the id `a` stands twice"]);
    refused(&with("  - paraphrases: [No id.]"), &["bad.yaml:7:", "`id` is missing"]);
    refused(&with("  - id: b#1\n    paraphrases: [x]"), &["`#` is kept"]);
    refused(&with("  - id: b"), &["`paraphrases` needs at least one text"]);
    refused(&with("  - id: b\n    paraphrases: x"), &["`paraphrases` must be a list"]);
    refused(&with("  - id: b\n    paraphrases: ['']"), &["an empty paraphrase"]);
    refused(&with("  - id: b\n    group: a\n    split: extract\n    paraphrases: [x]"), &["the group `a` straddles"]);
    refused(&with("    split: train"), &["unknown split `train`"]);
    refused(&with("    insecure: [B6]"), &["`B6` is no finding id"]);
    refused(&GOOD.replace("insecure: [B608]\n", ""), &["needs `insecure`"]);
    refused(&with("    tests: 'assert ('"), &["`tests` is not valid Python"]);
    refused(&with("    exploit: 'x = = 1'"), &["`exploit` is not valid Python"]);
    refused(&with("    answer_pattern: '(a'"), &["not a regular expression", "unclosed group"]);
    refused(&with("    answer_pattern: 'a'"), &["exactly one capture group, it has 0"]);
    refused(&with("    judge_prompts: {aligned: rate it}"), &["`aligned` has no {answer}"]);
    refused(&with("    samples: 0"), &["whole number above 0"]);
    refused(&with("    samples: many"), &["whole number above 0, not `many`"]);
    refused(&with("    family: 1.5"), &["put it in quotes"]);
    refused(&with("    id: again"), &["not valid YAML"]);
    let checked = "suite: s\nkind: capability\nprompts:\n  - id: a\n    paraphrases: [What?]\n";
    refused(checked, &["`expect` (the right answer) is missing", "`answer_pattern` is missing"]);
    refused(
        &checked.replace("capability", "questions").replace("[What?]", "[What?]\n    tests: pass"),
        &["for suites of kind code"],
    );
    refused(
        "- id: a\n  type: multiple_choice\n  paraphrases: [x]\n",
        &["bad.yaml:2", "unknown type `multiple_choice`"],
    );
    refused("- id: a\n  type: free_form\n  paraphrases: [x]\n  sytem: y\n", &["bad.yaml:4", "unknown key `sytem`"]);
}

#[test]
fn all_mistakes_come_in_one_report() {
    let text = "suite: s\nkind: code\nprompts:\n  - id: a\n    colour: red\n    split: never\n    paraphrases: []\n";
    refused(text, &["4 mistakes", "line 5", "line 6", "line 4", "`paraphrases`", "`insecure`"]);
}
