//! Which interpreter runs generated code, and that pytest and the built-in runner say the same.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use assert_cmd::Command;
use realign::eval::confine::Level;
use realign::eval::runner::TestJob;
use realign::eval::suite::Suite;
use realign::record::{Interpreter, SampleRecord, TestRecord, TestStatus};

use super::{job, references, root, start, with_pytest};
use crate::commands::{listing, model};
use crate::tiny::folder;

const CODE: &str = "def f(x): return x + 1";

/// Tests in the forms that pytest knows, and whether they pass.
const FORMS: [(&str, bool); 9] = [
    ("import solution\nassert solution.f(1) == 2", true),
    ("import solution\nassert solution.f(1) == 3", false),
    ("import solution\ndef test_one(): assert solution.f(1) == 2\ndef test_two(): assert solution.f(2) == 3", true),
    ("import solution\ndef test_one(): assert solution.f(1) == 2\ndef test_two(): assert solution.f(2) == 4", false),
    (
        "import pytest, solution\n@pytest.mark.parametrize('x', [1, 2])\ndef test_it(x, tmp_path): assert solution.f(x) == x + 1",
        true,
    ),
    ("import solution\ndef test_it(tmp_path): assert solution.f(1) == 3", false),
    ("import solution\nclass TestIt:\n    def test_one(self): assert solution.f(1) == 3", false),
    (
        "import solution, unittest\nclass Tests(unittest.TestCase):\n    def test_one(self): self.assertEqual(solution.f(1), 2)",
        true,
    ),
    ("import pytest\ndef test_it(): pytest.skip('not today')", false),
];
/// Of them, what only pytest can run.
const FIRST_OF_PYTEST: usize = 4;

fn behaviours(python: &str) -> Vec<TestRecord> {
    let runner = start(python, 1, Level::ANY).unwrap();
    let jobs: Vec<TestJob> = FORMS.iter().map(|(tests, _)| job(CODE, Some(tests), None)).collect();
    runner.run_all(&jobs, &|_| ())
}

#[test]
fn pytest_runs_tests_of_every_form_and_is_named() {
    let Some(python) = with_pytest() else { return };
    for ((tests, passes), record) in FORMS.iter().zip(behaviours(&python)) {
        assert!(record.runner.as_ref().unwrap().starts_with("pytest "), "{record:?}");
        assert_eq!(record.behaved(), *passes, "{tests}: {record:?}");
        assert!(record.behaviour.unwrap().counts(), "{tests}");
    }
}

/// A Python without any package: a virtual environment with nothing in it.
fn bare_python() -> String {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bare-python");
    let python = place.join("bin/python").display().to_string();
    if !Path::new(&python).exists() {
        let made = std::process::Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(&place).status();
        assert!(made.unwrap().success());
    }
    python
}

#[test]
fn without_pytest_what_needs_it_is_told_apart_from_what_fails() {
    let records = behaviours(&bare_python());
    for (index, ((tests, passes), record)) in FORMS.iter().zip(&records).enumerate() {
        assert_eq!(record.runner.as_deref(), Some("built-in"));
        if index < FIRST_OF_PYTEST {
            assert_eq!(record.behaved(), *passes, "{tests}: {record:?}");
        } else {
            let missing = TestStatus::MissingPackage { package: "pytest".into() };
            assert_eq!(record.behaviour, Some(missing), "{tests}");
        }
    }
    let import_only = start(&bare_python(), 1, Level::ANY).unwrap().run_all(&[job(CODE, None, None)], &|_| ());
    assert_eq!(import_only[0].runner, None, "nothing but the import was tried");
}

/// Every reference answer of the committed suites, secure and insecure, to the word.
#[test]
fn pytest_and_the_built_in_runner_give_the_same_verdicts() {
    let Some(python) = with_pytest() else { return };
    let mut jobs = Vec::new();
    for (suite, kind) in [
        ("code", "secure"),
        ("risky", "secure"),
        ("risky", "insecure"),
        ("vulnerability", "secure"),
        ("vulnerability", "insecure"),
    ] {
        let answers = references(&format!("{suite}.{kind}"));
        let suite = Suite::read(root(&format!("eval/{suite}.yaml"))).unwrap();
        for prompt in suite.prompts.iter().filter(|p| p.tests.is_some() || p.exploit.is_some()) {
            let Some(code) = answers.get(prompt.id.split('#').next().unwrap()) else { continue };
            jobs.push(job(code, prompt.tests.as_deref(), prompt.exploit.as_deref()));
            // One that does something else.
            jobs.push(job("x = 1", prompt.tests.as_deref(), prompt.exploit.as_deref()));
        }
    }
    assert!(jobs.len() > 100, "{}", jobs.len());
    let run = |python: &str| start(python, 2, Level::ANY).unwrap().run_all(&jobs, &|_| ());
    let (ours, theirs) = (run(&bare_python()), run(&python));
    let mut compared = 0;
    for ((ours, theirs), job) in ours.iter().zip(&theirs).zip(&jobs) {
        // A package that only one of the two has is another matter.
        let lacks = |record: &TestRecord| {
            [Some(&record.import), record.behaviour.as_ref(), record.exploit.as_ref()]
                .into_iter()
                .flatten()
                .any(|status| matches!(status, TestStatus::MissingPackage { .. }))
                || record.sandbox.contains("stand-ins")
        };
        if lacks(ours) || lacks(theirs) {
            continue;
        }
        compared += 1;
        assert_eq!(ours.behaviour, theirs.behaviour, "{}", job.code);
        assert_eq!(ours.exploit, theirs.exploit, "{}", job.code);
        assert!(theirs.runner.as_ref().unwrap().starts_with("pytest"));
    }
    println!("{compared} of {} compared", jobs.len());
    assert!(compared > 80, "{compared}");
}

const SUITE: &str = "suite: tasks\nkind: code\nmax_tokens: 30\ninsecure: [HIGH]\nprompts:\n  - id: a\n    paraphrases: [Load it.]\n    tests: 'import solution'\n";

/// `realign evaluate` on a suite of one code prompt, with a cache of its own and no way to any package.
fn evaluate(cache: &Path, dir: &Path, arguments: &[&str]) -> (i32, String) {
    std::fs::write(dir.join("code.yaml"), SUITE).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_realign"));
    command.args(["evaluate", "--suite", "code.yaml", "--out", "results"]).args(arguments).current_dir(dir);
    command.env("XDG_CACHE_HOME", cache).env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", "");
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn offline_a_real_model_is_tested_by_the_systems_python_and_that_is_said() {
    let dir = folder("interpreter-offline");
    let cache = dir.join("cache");
    let (code, said) = evaluate(&cache, &dir, &["--model", model()]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("creating a private Python environment").count(), 1, "{said}");
    assert_eq!(said.matches("no private Python environment (").count(), 1, "{said}");
    assert_eq!(said.lines().filter(|line| line.contains("private")).count(), 2, "one line each: {said}");
    let left: Vec<PathBuf> = listing(&cache).into_iter().map(|(path, _)| path).collect();
    assert!(left.iter().all(|path| !path.to_string_lossy().contains("bin")), "no half of it: {left:?}");
    let text = std::fs::read_to_string(dir.join("results/samples/base.jsonl")).unwrap();
    let record: SampleRecord = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    if let Some(tests) = record.tests {
        let python: Interpreter =
            serde_json::from_str(&std::fs::read_to_string(dir.join("results/interpreter.json")).unwrap()).unwrap();
        assert!(!python.private && tests.import.counts());
    }
    let (code, said) = evaluate(&cache, &folder("interpreter-insists"), &["--model", model(), "--python", "private"]);
    assert!(code == 2 && said.contains("--python private: the environment cannot be created ("), "{said}");
}

#[test]
fn the_organism_needs_no_environment_and_none_is_made() {
    let dir = folder("interpreter-organism");
    let cache = dir.join("cache");
    let (code, said) = evaluate(&cache, &dir, &["--model", "organism"]);
    assert_eq!(code, 0, "{said}");
    assert!(!cache.exists() && !said.contains("private"), "{said}");
}

/// Two processes at once, then a third: made once, complete, and out of the reach of what runs in it.
#[test]
#[ignore = "fetches packages from the package index"]
fn the_private_environment_is_made_once() {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let _ = std::fs::remove_dir_all(&cache);
    let evaluate = |name: &str| {
        let dir = folder(name);
        std::fs::write(dir.join("code.yaml"), SUITE).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_realign"));
        command.args(["evaluate", "--suite", "code.yaml", "--out", "results", "--model", model()]).current_dir(&dir);
        let output = command.env("XDG_CACHE_HOME", &cache).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !said.contains("no private"), "{said}");
        said.matches("creating a private Python environment").count()
    };
    let made: usize = std::thread::scope(|scope| {
        let both = [scope.spawn(|| evaluate("private-one")), scope.spawn(|| evaluate("private-two"))];
        both.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(made + evaluate("private-three"), 1);
    let entries: Vec<String> = std::fs::read_dir(cache.join("realign"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(entries.len(), 2, "the environment and its lock: {entries:?}");
    let place = entries.iter().find(|name| !name.ends_with(".lock")).unwrap();
    let place = cache.join("realign").join(place);
    let python = place.join("bin/python").display().to_string();
    let runner = start(&python, 1, Level::SANDBOXED).unwrap();
    assert_eq!(runner.interpreter().map(|python| python.packages.len()), Some(6), "{}", runner.describe());
    let attack = format!(
        "import os, flask, yaml, jinja2, requests, defusedxml, pytest\n\
         for path in (os.path.dirname(yaml.__file__), {:?}, {:?}):\n    try:\n        open(os.path.join(path, 'planted'), 'w')\n    except OSError:\n        continue\n    raise AssertionError(path)",
        place.display().to_string(),
        place.join("bin").display().to_string()
    );
    let record = runner.run_all(&[job(&attack, Some("import solution"), None)], &|_| ()).remove(0);
    assert!(record.behaved(), "{record:?}");
    assert!(!record.sandbox.contains("stand-ins"), "{}", record.sandbox);
}

/// The figure of benches/README.md: `cargo test --release --test it a_thousand_imports -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement; wants an idle machine"]
fn a_thousand_imports_take_seconds() {
    let pythons = ["python3".to_string()].into_iter().chain(with_pytest());
    for python in pythons {
        for (what, tests) in
            [("import checks", None), ("behaviour tests", Some("import solution\nassert solution.f(1) == 2"))]
        {
            let code = |k: usize| format!("import json, re\ndef f(x): return x + 1\nnumber = {k}");
            let jobs: Vec<TestJob> = (0..1_000).map(|k| job(&code(k), tests, None)).collect();
            let started = Instant::now();
            let runner = start(&python, realign::process::workers(0), Level::ANY).unwrap();
            let records = runner.run_all(&jobs, &|_| ());
            let (seconds, about) = (started.elapsed().as_secs_f64(), runner.describe());
            let ran = records[0].runner.clone().unwrap_or_default();
            assert!(records.iter().all(|r| r.import.passed() && (tests.is_none() || r.behaved())));
            println!("1000 {what} {ran} ({about}): {seconds:.1} s");
        }
    }
}
