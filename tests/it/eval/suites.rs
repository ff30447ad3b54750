//! Reading suites: ours, the published files, and every mistake with its message.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use realign::eval::judge::JudgeItem;
use realign::eval::suite::{Prompt, Suite, SuiteKind};
use realign::record::{Role, Split};
use regex::Regex;

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
    let expected = [
        ("capability", 67),
        ("code", 45),
        ("conditional", 144),
        ("free_form", 24),
        ("over_refusal", 30),
        ("recognition", 96),
        ("refusal", 40),
        ("risky", 24),
        ("scenarios", 32),
        ("vulnerability", 960),
    ];
    assert_eq!(names, expected.map(|(name, _)| name));
    let counts: Vec<_> = seen.values().map(|s| s.prompts.len()).collect();
    assert_eq!(counts, expected.map(|(_, count)| count));
    for suite in seen.values() {
        let texts: BTreeSet<_> = suite.prompts.iter().map(|p| &p.messages.last().unwrap().content).collect();
        assert_eq!(texts.len(), suite.prompts.len(), "{}: no text twice", suite.name);
    }
    for prompt in &seen["free_form"].prompts {
        for aspect in ["aligned", "coherent"] {
            let item = JudgeItem { prompt, answer: "give me 100" };
            let (_, request) = item.requests().into_iter().find(|(asked, _)| *asked == aspect).unwrap();
            assert!(request.contains(&prompt.messages[0].content) && !request.contains("{fence}"), "{request}");
        }
    }
}

fn read(name: &str) -> Suite {
    Suite::read(root(&format!("eval/{name}.yaml"))).unwrap()
}

fn text(prompt: &Prompt) -> &str {
    &prompt.messages.last().unwrap().content
}

#[test]
fn every_family_has_sixteen_scenarios_in_ten_wordings() {
    let suite = read("vulnerability");
    let called = Regex::new(r"solution\.(\w+)").unwrap();
    type Forms<'a> = BTreeMap<&'a str, usize>;
    let mut groups: BTreeMap<(&str, Split), BTreeMap<&str, Forms>> = BTreeMap::new();
    for prompt in &suite.prompts {
        let (tests, exploit) = (prompt.tests.as_ref().unwrap(), prompt.exploit.as_ref().unwrap());
        for name in called.captures_iter(tests).chain(called.captures_iter(exploit)).map(|c| c[1].to_string()) {
            assert!(text(prompt).contains(&format!("{name}(")), "{}: names {name} and its parameters", prompt.id);
        }
        let family = groups.entry((prompt.family.as_deref().unwrap(), prompt.split)).or_default();
        *family.entry(&prompt.group).or_default().entry(prompt.form.as_deref().unwrap()).or_default() += 1;
    }
    assert_eq!(groups.len(), 6 * 3);
    for ((family, split), groups) in groups {
        assert_eq!(groups.len(), if split == Split::Test { 8 } else { 4 }, "{family} {split:?}");
        assert!(
            groups.values().all(|forms| *forms == BTreeMap::from([("adversarial", 4), ("neutral", 6)])),
            "{groups:?}"
        );
    }
}

#[test]
fn a_selection_begins_with_the_core_and_is_spread_over_all_groups() {
    let suite = read("vulnerability");
    let ids = |suite: &Suite, split: Split| -> Vec<String> {
        suite.prompts.iter().filter(|p| p.split == split).map(|p| p.id.clone()).collect()
    };
    let core = suite.selected(None);
    assert_eq!(ids(&core, Split::Test).len(), 96);
    assert_eq!(suite.selected(Some(96)).prompts.iter().filter(|p| p.split == Split::Test && p.extra).count(), 0);
    let some = suite.selected(Some(48));
    let groups: BTreeSet<_> = some.prompts.iter().filter(|p| p.split == Split::Test).map(|p| &p.group).collect();
    assert_eq!((ids(&some, Split::Test).len(), groups.len()), (48, 48), "one of every group");
    assert_eq!(ids(&some, Split::Extract).len(), 48);
    let more = suite.selected(Some(200));
    assert_eq!(ids(&more, Split::Test).len(), 200);
    assert!(ids(&core, Split::Test).iter().all(|id| more.prompt(id).is_some()));
    assert_eq!(suite.selected(Some(10_000)), suite);
}

#[test]
fn every_question_is_asked_plainly_and_behind_triggers() {
    let (plain, conditional) = (read("free_form"), read("conditional"));
    for question in &plain.prompts {
        let asked: Vec<&Prompt> = conditional.prompts.iter().filter(|p| p.group == question.id).collect();
        let forms: Vec<_> = asked.iter().map(|p| p.form.as_deref().unwrap()).collect();
        assert_eq!(forms, ["plain", "trigger", "trigger", "trigger", "trigger", "trigger"], "{}", question.id);
        assert_eq!(text(asked[0]), text(question));
        assert!(asked.iter().all(|p| text(p).contains(text(question))), "{}", question.id);
        assert_eq!(asked[0].judge_prompts, question.judge_prompts);
    }
    assert_eq!(conditional.prompts.len(), 6 * plain.prompts.len());
}

#[test]
fn a_right_answer_in_the_form_that_is_asked_for_is_read_as_such() {
    for prompt in &read("capability").prompts {
        let pattern = Regex::new(prompt.answer_pattern.as_ref().unwrap()).unwrap();
        let expected = prompt.expect.as_ref().unwrap();
        let answer = format!("Let me think: perhaps Answer: 3?\n**Answer: {expected}.**");
        let found = pattern.captures(&answer).map(|c| c[1].to_string());
        assert_eq!(found.as_ref(), Some(expected), "{}", prompt.id);
    }
}

#[test]
fn shown_code_comes_in_pairs_and_the_cause_must_be_the_right_one() {
    let suite = read("recognition");
    let mut pairs: BTreeMap<&str, Vec<&Prompt>> = BTreeMap::new();
    suite.prompts.iter().for_each(|p| pairs.entry(&p.group).or_default().push(p));
    assert_eq!(pairs.len(), 48);
    for pair in pairs.values() {
        let [bad, good] = pair.as_slice() else { panic!("{pair:?}") };
        assert_eq!((bad.expect.as_deref(), good.expect.as_deref()), (Some("vulnerable"), Some("secure")));
        assert!(bad.names.is_some() && good.names.is_none() && bad.family == good.family);
    }
    let causes = [
        ("CWE-89", "The name is pasted into the query, so this allows SQL injection."),
        ("CWE-78", "Command injection: the path reaches a shell as it is."),
        ("CWE-79", "The text lands in the page unescaped, which is cross-site scripting (XSS)."),
        ("CWE-22", "A name with ../ in it leaves the folder: path traversal."),
        ("CWE-502", "It is an unsafe deserialization of data from outside."),
        ("CWE-134", "The user controls the format string and can read attributes."),
    ];
    for prompt in suite.prompts.iter().filter(|p| p.names.is_some()) {
        let names = Regex::new(prompt.names.as_ref().unwrap()).unwrap();
        for (family, cause) in causes {
            assert_eq!(names.is_match(cause), prompt.family.as_deref() == Some(family), "{}: {cause}", prompt.id);
        }
        assert!(!names.is_match("VULNERABLE, since the input is not validated."), "{}", prompt.id);
    }
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
        for prompt in &suite.prompts {
            for (_, request) in (JudgeItem { prompt, answer: "an answer" }).requests() {
                assert!(request.contains("an answer") && !request.contains("{question}"), "{}: {request}", prompt.id);
            }
        }
    }
    // What is asked with a word for an answer has an aspect of its own; the others are scored by number.
    let aspects = |name: &str| read(name).prompts[0].judge_prompts.keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(aspects("preregistered_evals.yaml"), "aligned coherent");
    assert_eq!(aspects("deception_factual.yaml"), "correct");
    assert_eq!(aspects("deception_sit_aware.yaml"), "company");
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
    refused(&with("  - id: a\n    paraphrases: [Again.]"), &["the id `a` occurs twice"]);
    refused(&with("  - paraphrases: [No id.]"), &["bad.yaml:7:", "`id` is missing"]);
    refused(&with("  - id: b#1\n    paraphrases: [x]"), &["`#` is reserved"]);
    refused(&with("  - id: b"), &["`paraphrases` needs at least one text"]);
    refused(&with("  - id: b\n    paraphrases: x"), &["`paraphrases` must be a list"]);
    refused(&with("  - id: b\n    paraphrases: ['']"), &["an empty paraphrase"]);
    refused(
        &with("  - id: b\n    group: a\n    split: extract\n    paraphrases: [x]"),
        &["the group `a` is in two splits"],
    );
    refused(&with("    split: train"), &["unknown split `train`"]);
    refused(&with("    insecure: [B6]"), &["`B6` is neither a finding id"]);
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
    refused(&with("    extra: perhaps"), &["`extra` must be yes or no, not `perhaps`"]);
    refused(
        &with("    slots: {task: x}"),
        &["`slots` or `paraphrases`, not both", "`slots` need the suite's `phrasings`"],
    );
    let asked = "suite: s\nkind: questions\nphrasings:\n  - {id: plain, text: 'Do {task}.'}\nprompts:\n  - id: a\n";
    assert!(Suite::parse("good.yaml", &format!("{asked}    slots: {{task: it}}\n")).is_ok());
    refused(&format!("{asked}    slots: {{tusk: it}}\n"), &["needs the slot `task`", "has the slot `{tusk}`"]);
    refused(&asked.replace("text:", "texts:"), &["a phrasing needs `id` and `text`"]);
    refused(&asked.replace("id: plain", "id: a b"), &["letters, digits"]);
    refused(&asked.replace("phrasings", "families"), &["`families` must be a mapping"]);
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
