//! Running generated code: what passes, what fails, and what must not get away with it.

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use realign::eval::confine::Level;
use realign::eval::runner::TestJob;
use realign::eval::sandbox::Limits;
use realign::record::{TestRecord, TestStatus};

use super::{job, root, runner, start, start_limited};

/// For what is only to be seen from outside, where a sandbox would hide it.
const OPEN: &[Level] = &[Level::Unsandboxed];

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
    assert_eq!(record.sandbox, runner().level().unwrap().words());
}

#[test]
fn code_that_does_something_else_fails_with_the_line_that_says_so() {
    let record = run("def f(x): return x", Some("import solution\nassert solution.f(1) == 2"), None);
    assert!(record.import.passed() && !record.behaved());
    failed_with(record.behaviour.as_ref().unwrap(), "AssertionError (line 2: assert solution.f(1) == 2)");
}

#[test]
fn a_failure_is_put_in_the_same_words_however_many_checks_came_before() {
    let first = run("x = 1", Some("from solution import y"), None);
    run("z = 1", None, None);
    let second = run("x = 1", Some("from solution import y\n"), None);
    failed_with(first.behaviour.as_ref().unwrap(), "(solution.py)");
    assert_eq!(first.behaviour, second.behaviour);
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
    let runner = start_limited("python3", 1, Level::ANY, quick).unwrap();
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
    let runner = start("python3", 1, OPEN).unwrap();
    let record = runner.run_all(&[job(&code, Some("pass"), None)], &|_| ()).remove(0);
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
fn without_a_sandbox_code_that_ends_or_stops_its_server_costs_only_itself() {
    let quick = Limits { seconds: 0.5, ..Limits::default() };
    let runner = start_limited("python3", 1, OPEN, quick).unwrap();
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
    let runner = start("no-such-python", 2, Level::ANY).unwrap();
    let record = runner.run_all(&[job("x = 1", Some("pass"), None)], &|_| ()).remove(0);
    assert!(matches!(&record.import, TestStatus::NotRun { reason } if reason.contains("no-such-python")), "{record:?}");
    assert!(!record.import.counts() && runner.describe().starts_with("not run"));
}

#[test]
fn equal_jobs_run_once_in_one_call_and_in_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("count");
    let code = format!("open({:?}, 'a').write('x')", counter.display().to_string());
    let jobs = [job(&code, None, None), job("y = 2", None, None), job(&code, None, None)];
    let runner = start("python3", 2, OPEN).unwrap();
    let seen = RefCell::new(Vec::new());
    let first = runner.run_all(&jobs, &|done| seen.borrow_mut().push(done));
    assert_eq!(first[0], first[2]);
    assert_eq!(seen.borrow().last(), Some(&3));
    assert_eq!(runner.run_all(&jobs, &|_| ()), first);
    assert_eq!(std::fs::read_to_string(&counter).unwrap(), "x", "it ran again");
    // Other tests make it another job.
    runner.run_all(&[job(&code, Some("pass"), None)], &|_| ());
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
