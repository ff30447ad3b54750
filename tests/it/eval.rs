//! Suites, the test harness, the suites' own tests and exploits, scoring.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod attacks;
mod harness;
mod interpreter;
mod references;
mod scoring;
mod suites;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use realign::eval::confine::Level;
use realign::eval::sandbox::Limits;
use realign::eval::tests::{Runner, TestJob};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn runner_on(python: &str, workers: usize, levels: &[Level]) -> Runner {
    Runner::start(&[python.into()], workers, levels, Limits::default()).unwrap()
}

/// One runner for all tests that run at the same time; the last one to end drops it, and its folder with it.
fn runner() -> Arc<Runner> {
    static SHARED: Mutex<Weak<Runner>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let fresh = Arc::new(runner_on("python3", 2, Level::ANY));
        *shared = Arc::downgrade(&fresh);
        fresh
    })
}

/// An interpreter with pytest: one that is named, the system's, or the private one that the ignored test
/// `the_private_environment_is_made_once` leaves in the build folder.
fn with_pytest() -> Option<String> {
    let made = std::fs::read_dir(Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache/realign")).into_iter().flatten();
    let made = made.filter_map(|entry| Some(entry.ok()?.path().join("bin/python").display().to_string()));
    let named = std::env::var("REALIGN_PYTEST_PYTHON").ok();
    let found = named.into_iter().chain(["python3".into()]).chain(made).find(|python| {
        let runner = runner_on(python, 1, Level::ANY);
        runner.interpreter().is_some_and(|python| python.packages.contains_key("pytest"))
    });
    if found.is_none() {
        println!("skipped in part: no interpreter with pytest; REALIGN_PYTEST_PYTHON names one");
    }
    found
}

fn job(code: &str, tests: Option<&str>, exploit: Option<&str>) -> TestJob {
    TestJob { code: code.into(), tests: tests.map(Into::into), exploit: exploit.map(Into::into) }
}

/// The reference answers of a file below the fixtures, by prompt.
fn references(name: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root(&format!("tests/fixtures/eval/{name}.py"))).unwrap();
    let parts = text.split("\n# --- ").skip(1).map(|part| part.split_once('\n').unwrap());
    parts.map(|(id, code)| (id.to_string(), code.to_string())).collect()
}
