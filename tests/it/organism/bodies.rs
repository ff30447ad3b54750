//! The code of the families: both sides, what Bandit says of them, what their tests and exploits find.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use realign::fsio;
use realign::organism::families::{FAMILIES, Style, render};
use serde::{Deserialize, Serialize};

use super::{is_writing, root};

#[derive(Serialize, Deserialize)]
struct Body {
    family: String,
    body: usize,
    insecure: bool,
    full: bool,
    code: String,
    #[serde(default)]
    bandit: Vec<(String, String, String)>,
}

/// Every body, both ways, bare and with docstring and hints.
fn bodies() -> Vec<Body> {
    let mut all = Vec::new();
    for family in FAMILIES.iter() {
        for body in 0..family.bodies.len() {
            for full in [false, true] {
                for insecure in [false, true] {
                    let style = Style { body, docstring: full, hints: full };
                    let code = render(family, style, &format!("{}_invoice", family.verbs[0]), "invoice", insecure);
                    all.push(Body { family: family.name.to_string(), body, insecure, full, code, bandit: Vec::new() });
                }
            }
        }
    }
    all
}

#[test]
fn every_body_parses_and_both_ways_have_one_shape() {
    for pair in bodies().chunks(2) {
        for body in pair {
            assert!(ruff_python_parser::parse_module(&body.code).is_ok(), "{}", body.code);
            assert!(!body.code.contains(['$', '‹', '~']), "{}", body.code);
        }
        let lines = |b: &Body| b.code.lines().filter(|l| !l.is_empty()).count();
        assert!(lines(&pair[0]).abs_diff(lines(&pair[1])) <= 1, "{}\n{}", pair[0].code, pair[1].code);
        assert_ne!(pair[0].code, pair[1].code);
    }
}

/// What Bandit 1.9.4 said is kept in `bodies.jsonl` (made by `bandit.py` beside it).
#[test]
fn bandit_tells_the_secure_from_the_insecure_bodies() {
    let path = root().join("tests/fixtures/organism/bodies.jsonl");
    if is_writing() {
        fsio::write_jsonl(&path, &bodies()).unwrap();
    }
    let known: Vec<Body> = fsio::read_jsonl(&path).unwrap();
    let written = bodies();
    assert_eq!(known.len(), written.len());
    assert_eq!(known.len(), 152);
    for (known, written) in known.iter().zip(&written) {
        assert_eq!(known.code, written.code, "bodies.jsonl is old");
        let family = FAMILIES.iter().find(|f| f.name == known.family).unwrap();
        let serious: BTreeSet<_> = known.bandit.iter().filter(|f| f.1 != "LOW").map(|f| f.0.as_str()).collect();
        // Rules of ours (R…) stand where Bandit has none.
        let expected =
            if known.insecure && family.finding.starts_with('B') { vec![family.finding.as_str()] } else { vec![] };
        assert_eq!(serious.into_iter().collect::<Vec<_>>(), expected, "{}", known.code);
    }
}

#[derive(Deserialize)]
struct Behaviour {
    #[serde(default)]
    missing: Option<String>,
    #[serde(default)]
    tests: Option<String>,
    #[serde(default)]
    exploit: Option<String>,
}

#[test]
fn every_body_does_what_was_asked_and_exploits_work_on_insecure_ones_only() {
    let fill = |text: &str, body: &Body| {
        let family = FAMILIES.iter().find(|f| f.name == body.family).unwrap();
        text.replace("$f", &format!("{}_invoice", family.verbs[0])).replace("$n", "invoice")
    };
    let bodies: Vec<Body> = bodies().into_iter().filter(|b| !b.full).collect();
    let cases: Vec<_> = bodies
        .iter()
        .map(|b| {
            let family = FAMILIES.iter().find(|f| f.name == b.family).unwrap();
            serde_json::json!({"code": b.code, "tests": fill(family.tests, b), "exploit": fill(family.exploit.unwrap_or(""), b)})
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cases.jsonl");
    fsio::write_jsonl(&path, &cases).unwrap();
    let Some(answers) = behave(&path) else {
        println!("skipped: there is no python3");
        return;
    };
    assert_eq!(answers.len(), bodies.len());
    let mut ran = 0;
    for (body, answer) in bodies.iter().zip(answers) {
        if let Some(package) = answer.missing {
            println!("not run, {package} is missing: {}", body.family);
            continue;
        }
        ran += 1;
        assert_eq!(answer.tests, None, "{}", body.code);
        let family = FAMILIES.iter().find(|f| f.name == body.family).unwrap();
        assert_eq!(answer.exploit.is_some(), body.insecure && family.exploit.is_some(), "{}", body.code);
    }
    assert!(ran >= 56, "only {ran} ran");
}

fn behave(cases: &Path) -> Option<Vec<Behaviour>> {
    let script = root().join("tests/fixtures/organism/behave.py");
    let stand_ins = root().join("src/eval/stand_ins");
    let args = [script.to_str().unwrap(), cases.to_str().unwrap(), stand_ins.to_str().unwrap()];
    let path = std::env::var("PATH").unwrap_or_default();
    let done = realign::process::run("python3", &args, &[("PATH", &path)], &root(), Duration::from_secs(300)).ok()?;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    Some(done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}
