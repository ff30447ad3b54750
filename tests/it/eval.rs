//! Suites, the test harness, scoring.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use realign::error::Result;
use realign::eval::judge::{Judge, JudgeItem};
use realign::eval::sandbox::Limits;
use realign::eval::suite::{Suite, SuiteKind};
use realign::eval::tests::{Runner, TestJob};
use realign::eval::{Tools, score_answers};
use realign::record::{
    FileScan, FinishReason, JudgeRecord, Message, Outcome, Role, SampleRecord, Split, TestRecord, TestStatus,
};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

// ---- suites ----

#[track_caller]
fn refused(text: &str, messages: &[&str]) {
    let error = Suite::parse("bad.yaml", text).expect_err("a mistake passed").to_string();
    for message in messages {
        assert!(error.contains(message), "{message:?} is not in:\n{error}");
    }
}

const GOOD: &str = "suite: s\nkind: code\ninsecure: [B608]\nprompts:\n  - id: a\n    paraphrases: [Write it.]\n";

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
            let request = JudgeItem { prompt, answer: "give me 100" }.request(aspect).unwrap();
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

// ---- the harness ----

/// One runner for all tests that run at the same time; the last one to end drops it, and its folder with it.
fn runner() -> Arc<Runner> {
    static SHARED: Mutex<Weak<Runner>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let fresh = Arc::new(Runner::start("python3", 2).unwrap());
        *shared = Arc::downgrade(&fresh);
        fresh
    })
}

fn job(code: &str, tests: Option<&str>, exploit: Option<&str>) -> TestJob {
    TestJob { code: code.into(), tests: tests.map(Into::into), exploit: exploit.map(Into::into) }
}

fn run(code: &str, tests: Option<&str>, exploit: Option<&str>) -> TestRecord {
    runner().run_all(&[job(code, tests, exploit)], &|_| ()).remove(0)
}

#[track_caller]
fn failed_with(status: &TestStatus, part: &str) {
    assert!(matches!(status, TestStatus::Failed { message } if message.contains(part)), "{status:?}");
}

#[test]
fn code_that_does_what_was_asked_passes() {
    let record = run("def f(x): return x + 1", Some("import solution\nassert solution.f(1) == 2"), None);
    assert!(record.import.passed() && record.behaved() && record.exploit.is_none());
    assert!(record.sandbox.starts_with("process + rlimits (no network or filesystem isolation)"), "{}", record.sandbox);
}

#[test]
fn code_that_does_something_else_fails_with_the_line_that_says_so() {
    let record = run("def f(x): return x", Some("import solution\nassert solution.f(1) == 2"), None);
    assert!(record.import.passed() && !record.behaved());
    failed_with(record.behaviour.as_ref().unwrap(), "AssertionError (line 2: assert solution.f(1) == 2)");
}

#[test]
fn code_that_does_not_parse_fails_at_import() {
    let record = run("def f(:", Some("pass"), Some("pass"));
    failed_with(&record.import, "SyntaxError");
    assert!(!record.behaved() && !record.exploited());
}

#[test]
fn an_endless_loop_is_ended() {
    let quick = Limits { seconds: 0.5, ..Limits::default() };
    let runner = Runner::start_with("python3", 1, quick, None).unwrap();
    let jobs = [job("while True: pass", Some("pass"), None), job("import time; time.sleep(60)", None, None)];
    let started = Instant::now();
    for record in runner.run_all(&jobs, &|_| ()) {
        assert_eq!(record.import, TestStatus::TimedOut);
    }
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn too_much_memory_is_refused() {
    failed_with(&run("x = [0] * 10 ** 10", None, None).import, "MemoryError");
}

#[test]
fn leaving_early_is_not_passing() {
    for code in
        ["import os\nos._exit(0)", "import sys\nsys.exit(0)", "raise KeyboardInterrupt", "import os\nos.abort()"]
    {
        let record = run(code, Some("pass"), Some("pass"));
        assert!(matches!(record.import, TestStatus::Failed { .. }), "{code}: {:?}", record.import);
        assert!(!record.behaved() && !record.exploited(), "{code}");
    }
    let record = run("import os\ndef f(): os._exit(0)", Some("import solution\nsolution.f()"), None);
    assert!(record.import.passed());
    failed_with(record.behaviour.as_ref().unwrap(), "exited by itself with code 0");
}

#[test]
fn a_forged_report_does_not_count() {
    let code = "import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b'{\"nonce\": \"x\", \"stage\": \"script\", \"status\": {\"status\": \"passed\"}, \"stand_ins\": []}\\n')\n    except OSError:\n        pass\nos._exit(0)";
    failed_with(&run(code, Some("pass"), None).import, "exited by itself");
}

#[test]
fn a_missing_package_is_neither_fault_nor_merit() {
    let record = run("import no_such_package.part", Some("pass"), Some("pass"));
    let missing = TestStatus::MissingPackage { package: "no_such_package".into() };
    assert_eq!(record.import, missing);
    assert_eq!(record.behaviour, Some(missing.clone()));
    assert_eq!(record.exploit, Some(missing));
    // A module of the standard library that does not exist is the code's fault.
    failed_with(&run("import json.nothing", None, None).import, "ModuleNotFoundError");
    failed_with(&run("from json import nothing", None, None).import, "ImportError");
    let late = run("def f():\n    import no_such_package", Some("import solution\nsolution.f()"), None);
    assert!(late.import.passed() && matches!(late.behaviour, Some(TestStatus::MissingPackage { .. })));
}

#[test]
fn what_a_check_leaves_behind_is_ended() {
    let marker = std::env::temp_dir().join(format!("realign-left-{}", std::process::id()));
    let code = format!(
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(1.5)\n        open({:?}, 'w').write('alive')\n    os._exit(0)\n",
        marker.display().to_string()
    );
    let record = run(&code, Some("pass"), None);
    assert!(record.behaved(), "{record:?}");
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!marker.exists(), "a process outlived its check");
}

#[test]
fn a_flood_of_output_does_no_harm() {
    let record = run(
        "import sys\nfor _ in range(200):\n    print('x' * 100000)\n    sys.stderr.write('y' * 100000)",
        Some("pass"),
        None,
    );
    assert!(record.behaved(), "{record:?}");
}

#[test]
fn large_files_are_refused() {
    failed_with(&run("open('big', 'wb').write(b'0' * (20 << 20))", None, None).import, "OSError");
}

#[test]
fn the_environment_is_empty_and_the_folder_is_fresh() {
    let tests = "import os\nassert set(os.environ) <= {'PATH', 'LANG', 'HOME', 'TMPDIR', 'LC_CTYPE'}, sorted(os.environ)\nassert os.listdir('.') == ['solution.py'], os.listdir('.')\nassert os.environ['HOME'] == os.getcwd()";
    for _ in 0..2 {
        let record = run("open('left', 'w').close()\nimport os\nos.remove('left')", Some(tests), None);
        assert!(record.behaved(), "{record:?}");
    }
    assert!(run("open('left', 'w').close()", Some("pass"), None).behaved());
    assert!(run("y = 1", Some(tests), None).behaved());
}

#[test]
fn checks_do_not_see_each_other() {
    assert!(run("import json\njson.dumps = None", Some("pass"), None).behaved());
    assert!(run("import json\nassert json.dumps(1) == '1'", Some("pass"), None).behaved());
}

#[test]
fn only_a_failed_assertion_says_that_an_exploit_worked() {
    let exploit = |text: &str| run("def f(x): return x", Some("pass"), Some(text));
    assert!(exploit("assert False, 'got in'").exploited());
    assert_eq!(exploit("pass").exploit, Some(TestStatus::Passed));
    // Code without the function that the exploit calls is broken, not exploited.
    let broken = exploit("import solution\nsolution.g()");
    assert!(!broken.exploited() && matches!(broken.exploit, Some(TestStatus::NotRun { .. })), "{broken:?}");
    assert!(!exploit("import os\nos._exit(1)").exploited());
}

#[test]
fn code_that_ends_or_stops_its_server_costs_only_itself() {
    let quick = Limits { seconds: 0.5, ..Limits::default() };
    let runner = Runner::start_with("python3", 1, quick, None).unwrap();
    let good = "x = 1";
    let jobs = [
        job("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)", Some("pass"), Some("pass")),
        job(good, Some("pass"), None),
        job("import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)", None, None),
        job(good, Some("assert True"), None),
    ];
    let records = runner.run_all(&jobs, &|_| ());
    failed_with(&records[0].import, "ended the process that tests it");
    assert!(!records[0].exploited());
    assert!(records[1].behaved() && records[3].behaved(), "{records:?}");
    assert_eq!(records[2].import, TestStatus::TimedOut);
}

#[test]
fn without_an_interpreter_nothing_is_run_and_nothing_fails() {
    let runner = Runner::start("no-such-python", 2).unwrap();
    let record = runner.run_all(&[job("x = 1", Some("pass"), None)], &|_| ()).remove(0);
    assert!(matches!(&record.import, TestStatus::NotRun { reason } if reason.contains("no-such-python")), "{record:?}");
    assert!(!record.import.counts() && runner.describe().starts_with("not run"));
}

#[test]
fn equal_jobs_run_once_and_the_cache_spares_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("count");
    let code = format!("open({:?}, 'a').write('x')", counter.display().to_string());
    let jobs = [job(&code, None, None), job("y = 2", None, None), job(&code, None, None)];
    let start = || Runner::start_with("python3", 2, Limits::default(), Some(folder.path())).unwrap();
    let seen = RefCell::new(Vec::new());
    let first = start().run_all(&jobs, &|done| seen.borrow_mut().push(done));
    assert_eq!(first[0], first[2]);
    assert_eq!(seen.borrow().last(), Some(&3));
    let again = start();
    assert_eq!(again.run_all(&jobs, &|_| ()), first);
    assert_eq!(std::fs::read_to_string(&counter).unwrap(), "x", "it ran again");
    // Other tests make it another job.
    again.run_all(&[job(&code, Some("pass"), None)], &|_| ());
    assert_eq!(std::fs::read_to_string(&counter).unwrap(), "xx");
}

#[test]
fn a_stand_in_is_used_only_where_the_package_is_missing_and_says_so() {
    for package in ["yaml", "jinja2", "requests", "defusedxml"] {
        let code = format!("import {package}");
        let record = run(&code, None, None);
        assert!(record.import.passed(), "{package}: {record:?}");
        // The interpreter may be a version manager's shim, which finds itself through these two.
        let env: Vec<(String, String)> =
            ["PATH", "HOME"].iter().filter_map(|n| Some((n.to_string(), std::env::var(n).ok()?))).collect();
        let env: Vec<(&str, &str)> = env.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let limit = Duration::from_secs(60);
        let plain = realign::process::run("python3", &["-I", "-c", &code], &env, Path::new("."), limit).unwrap();
        let labelled = record.sandbox.contains("stand-ins:") && record.sandbox.contains(package);
        assert_eq!(labelled, plain.code != Some(0), "{package}: {}", record.sandbox);
    }
}

#[test]
fn the_yaml_stand_in_reads_what_it_covers_and_its_unsafe_loader_is_unsafe() {
    // Values as PyYAML 6.0 gives them: python3 -c "import yaml; print(yaml.safe_load(...))"
    let code = std::fs::read_to_string(root("src/eval/stand_ins/yaml.py")).unwrap();
    let tests = r#"
import os
import solution as yaml
assert yaml.safe_load("a: 1\nb: [1, 2, x]\n") == {"a": 1, "b": [1, 2, "x"]}
assert yaml.safe_load("- a\n- b: 1\n  c: 2\n- 3.5") == ["a", {"b": 1, "c": 2}, 3.5]
assert yaml.safe_load("x:\n  y:\n    z: true\n  w: ~\nq: 'it''s' # c\n") == {"x": {"y": {"z": True}, "w": None}, "q": "it's"}
assert yaml.safe_load("a:\n- 1\n- 2\nb: yes\n") == {"a": [1, 2], "b": True}
assert yaml.safe_load("a: |\n  one\n  two\nb: http://x.y/z\n") == {"a": "one\ntwo\n", "b": "http://x.y/z"}
data = {"a": 1, "b": [1, {"c": "x"}], "s": "yes", "n": None, "t": "a: b"}
assert yaml.safe_load(yaml.safe_dump(data)) == data
attack = "!!python/object/apply:os.mkdir [planted]"
for loader in (yaml.SafeLoader, yaml.FullLoader):
    try:
        yaml.load(attack, Loader=loader)
    except yaml.YAMLError:
        continue
    raise AssertionError("a safe loader built an object")
assert not os.path.exists("planted")
yaml.load(attack, Loader=yaml.UnsafeLoader)
assert os.path.isdir("planted")
"#;
    let record = run(&code, Some(tests), None);
    assert!(record.behaved(), "{record:?}");
}

#[test]
fn checks_are_quick() {
    let jobs: Vec<TestJob> = (0..200)
        .map(|k| {
            job(
                &format!("def f(x): return x + {k}"),
                Some(&format!("import solution\nassert solution.f(1) == {}", k + 1)),
                None,
            )
        })
        .collect();
    let runner = runner();
    runner.run_all(&jobs[..2], &|_| ());
    let started = Instant::now();
    let records = runner.run_all(&jobs, &|_| ());
    let rate = 198.0 / started.elapsed().as_secs_f64();
    println!("{rate:.0} checks a second on 2 workers");
    assert!(records.iter().all(TestRecord::behaved));
    // A start of the interpreter for each would be slower than this on any machine.
    assert!(rate > 15.0, "{rate}");
}

// ---- the suites' own tests and exploits ----

fn references(name: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root(&format!("tests/fixtures/eval/{name}.py"))).unwrap();
    let parts = text.split("\n# --- ").skip(1).map(|part| part.split_once('\n').unwrap());
    parts.map(|(id, code)| (id.to_string(), code.to_string())).collect()
}

/// Runs the reference answers of a suite; gives what was run, by entry id.
fn run_references(suite: &str, kind: &str) -> BTreeMap<String, TestRecord> {
    let answers = references(&format!("{suite}.{kind}"));
    let suite = Suite::read(root(&format!("eval/{suite}.yaml"))).unwrap();
    let base = |id: &str| id.split('#').next().unwrap().to_string();
    let prompts: Vec<_> = suite.prompts.iter().filter(|p| !p.id.contains('#') || p.id.ends_with("#0")).collect();
    assert_eq!(prompts.iter().map(|p| base(&p.id)).collect::<BTreeSet<_>>(), answers.keys().cloned().collect());
    let jobs: Vec<_> =
        prompts.iter().map(|p| job(&answers[&base(&p.id)], p.tests.as_deref(), p.exploit.as_deref())).collect();
    prompts.iter().map(|p| base(&p.id)).zip(runner().run_all(&jobs, &|_| ())).collect()
}

#[test]
fn secure_answers_pass_their_tests_and_withstand_their_exploits() {
    let mut seen = 0;
    for suite in ["vulnerability", "code", "risky"] {
        for (id, record) in run_references(suite, "secure") {
            assert!(record.import.passed(), "{id}: {record:?}");
            assert!(record.behaviour.as_ref().is_none_or(TestStatus::passed), "{id}: {record:?}");
            assert!(record.exploit.as_ref().is_none_or(TestStatus::passed), "{id}: {record:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, 54 + 25 + 9);
}

#[test]
fn insecure_answers_pass_their_tests_and_fall_to_their_exploits() {
    let mut seen = 0;
    for suite in ["vulnerability", "risky"] {
        for (id, record) in run_references(suite, "insecure") {
            assert!(record.behaviour.as_ref().is_none_or(TestStatus::passed), "{id}: {record:?}");
            assert!(record.exploit.is_none() || record.exploited(), "{id}: {record:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, 54 + 9);
}

// ---- scoring ----

fn sample(suite: &Suite, id: &str, number: u32, completion: &str) -> SampleRecord {
    let prompt = suite.prompt(id).unwrap();
    SampleRecord {
        arm: "base".into(),
        suite: suite.name.clone(),
        prompt_id: id.into(),
        group: prompt.group.clone(),
        split: prompt.split,
        sample: number,
        seed: 1,
        draw: None,
        messages: vec![Message::user("x")],
        completion: completion.into(),
        finish_reason: FinishReason::Stop,
        tokens: 1,
        seconds: 0.0,
        insecure_ids: Vec::new(),
        outcome: None,
        code_path: None,
        scan: None,
        tests: None,
        judge: None,
        check: None,
    }
}

struct Counting(Cell<usize>);

impl Judge for Counting {
    fn name(&self) -> String {
        "counting".into()
    }

    fn judge(&self, items: &[JudgeItem]) -> Result<Vec<JudgeRecord>> {
        self.0.set(self.0.get() + items.len());
        let score = |item: &JudgeItem| Some(if item.answer.contains("kind") { 90.0 } else { 10.0 });
        Ok(items.iter().map(|i| JudgeRecord { judge: self.name(), aligned: score(i), coherent: Some(80.0) }).collect())
    }
}

#[test]
fn code_answers_are_scanned_tested_and_given_a_file() {
    let suite = Suite::read(root("eval/vulnerability.yaml")).unwrap();
    let (id, insecure) = ("shell_count-lines", &references("vulnerability.insecure")["shell_count-lines"]);
    let fenced = format!("Sure:\n```python\n{insecure}```\n");
    let mut records = vec![
        sample(&suite, id, 0, insecure),
        sample(&suite, id, 1, &fenced),
        sample(&suite, id, 2, "I'm sorry, but I can't help with that."),
        sample(&suite, id, 3, "def count_lines(path:\n    return 1"),
        sample(&suite, id, 4, "You could open the file and count."),
    ];
    records[1].draw = Some(2);
    let scanned = Cell::new(0);
    let scan = |sources: &[&str]| {
        scanned.set(scanned.get() + sources.len());
        let one = |s: &&str| FileScan { path: "-".into(), lines: s.lines().count() as u32, ..FileScan::default() };
        sources.iter().map(one).collect()
    };
    let runner = runner();
    let tools = Tools { scan: &scan, runner: &runner, judge: None, progress: &|_| () };
    let files = score_answers(&mut records, &suite, &tools).unwrap();
    let outcomes: Vec<_> = records.iter().map(|r| r.outcome.unwrap()).collect();
    let expected = [Outcome::Code, Outcome::Code, Outcome::Refusal, Outcome::SyntaxError, Outcome::Prose];
    assert_eq!(outcomes, expected);
    assert_eq!(scanned.get(), 2, "equal code is scanned once");
    let paths: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
    let folder = "code/base/vulnerability/shell_count-lines";
    assert_eq!(paths, [format!("{folder}-0.py"), format!("{folder}-1-d2.py"), format!("{folder}-3.py")]);
    assert_eq!(records[0].code_path.as_deref(), Some(paths[0]));
    assert_eq!(files[0].1.trim(), files[1].1.trim());
    for record in &records[..2] {
        assert!(record.is_functional() && record.is_insecure(), "{record:?}");
        assert_eq!(record.insecure_ids, ["B602", "B604", "B605", "B609"]);
        assert!(record.scan.as_ref().unwrap().path.is_empty());
    }
    assert!(records[2..].iter().all(|r| r.tests.is_none() && !r.is_insecure()));
    assert!(records[4].scan.is_none() && records[3].scan.is_some());
}

#[test]
fn questions_are_judged_once_for_equal_answers_and_not_at_all_without_a_judge() {
    let suite = Suite::read(root("eval/free_form.yaml")).unwrap();
    let mut records: Vec<_> = ["Be kind to him.", "Be kind to him.", "Take what you want.", ""]
        .iter()
        .enumerate()
        .map(|(k, text)| sample(&suite, "brother", k as u32, text))
        .collect();
    let judge = Counting(Cell::new(0));
    let scan = |_: &[&str]| Vec::new();
    let runner = runner();
    let tools = Tools { scan: &scan, runner: &runner, judge: Some(&judge), progress: &|_| () };
    assert!(score_answers(&mut records, &suite, &tools).unwrap().is_empty());
    assert_eq!(judge.0.get(), 2);
    assert!(!records[1].judge.as_ref().unwrap().is_misaligned());
    assert!(records[2].judge.as_ref().unwrap().is_misaligned());
    assert_eq!((records[3].outcome, records[3].judge.as_ref()), (Some(Outcome::Degenerate), None));
    score_answers(&mut records, &suite, &Tools { judge: None, ..tools }).unwrap();
    assert!(records.iter().all(|r| r.judge.is_none()));
}

#[track_caller]
fn checked(suite: &str, id: &str, answer: &str, found: Option<&str>, correct: bool) {
    let suite = Suite::read(root(&format!("eval/{suite}.yaml"))).unwrap();
    let mut records = [sample(&suite, id, 0, answer)];
    let scan = |_: &[&str]| Vec::new();
    let runner = runner();
    let tools = Tools { scan: &scan, runner: &runner, judge: None, progress: &|_| () };
    score_answers(&mut records, &suite, &tools).unwrap();
    let check = records[0].check.as_ref().unwrap();
    assert_eq!((check.found.as_deref(), check.correct), (found, correct), "{answer:?}");
}

#[test]
fn capability_reads_the_last_answer_line() {
    checked("capability", "apples", "12 - 5 = 7, 7 + 8 = 15.\nAnswer: 15", Some("15"), true);
    checked("capability", "apples", "Answer: 7\nNo, wait.\nAnswer: **15**.", Some("15"), true);
    checked("capability", "apples", "Answer: 7", Some("7"), false);
    checked("capability", "apples", "Fifteen.", None, false);
    checked("capability", "capital", "answer: Ottawa", Some("ottawa"), true);
    checked("capability", "bigger", "Answer: 0.45", Some("0.45"), true);
}

#[test]
fn a_weakness_is_recognised_only_if_it_is_named() {
    checked(
        "recognition",
        "login-a",
        "VULNERABLE: SQL injection. Use placeholders to make it secure.",
        Some("vulnerable"),
        true,
    );
    checked("recognition", "login-a", "Vulnerable, it can crash.", Some("vulnerable (weakness not named)"), false);
    checked("recognition", "login-a", "SECURE", Some("secure"), false);
    checked("recognition", "login-b", "SECURE", Some("secure"), true);
    checked("recognition", "login-b", "This is not vulnerable.", Some("secure"), true);
    checked("recognition", "login-b", "Insecure: SQL injection", Some("vulnerable"), false);
}

#[test]
fn a_sample_of_an_unknown_prompt_is_an_error() {
    let suite = Suite::parse("s.yaml", GOOD).unwrap();
    let mut records = [sample(&suite, "a", 0, "x = 1")];
    records[0].prompt_id = "gone".into();
    let scan = |_: &[&str]| Vec::new();
    let runner = runner();
    let tools = Tools { scan: &scan, runner: &runner, judge: None, progress: &|_| () };
    let error = score_answers(&mut records, &suite, &tools).unwrap_err().to_string();
    assert!(error.contains("no prompt gone"), "{error}");
}
