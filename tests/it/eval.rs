//! Suites, the test harness, the suites' own tests and exploits, scoring.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod attacks;
mod contrast_real;
mod harness;
mod interpreter;
mod question_files;
mod readings;
mod references;
mod scoring;
mod suites;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use realign::error::Result;
use realign::eval::confine::Level;
use realign::eval::runner::{Runner, TestJob};
use realign::eval::sandbox::Limits;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A runner with one interpreter and the usual limits.
fn start(python: &str, workers: usize, levels: &[Level]) -> Result<Runner> {
    start_limited(python, workers, levels, Limits::default())
}

fn start_limited(python: &str, workers: usize, levels: &[Level], limits: Limits) -> Result<Runner> {
    Runner::start(&[python.to_string()], workers, levels, limits)
}

/// One runner for all tests that run at the same time; the last one to end drops it, and its folder with it.
fn runner() -> Arc<Runner> {
    static SHARED: Mutex<Weak<Runner>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let fresh = Arc::new(start("python3", 2, Level::ANY).unwrap());
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
        let runner = start(python, 1, Level::ANY).unwrap();
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
