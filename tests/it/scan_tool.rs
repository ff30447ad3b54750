//! `realign scan` from outside: SARIF, the comparison with the real tools, and whatever a hostile folder holds.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

use crate::commands::{Output, realign, succeeds};
use crate::tiny::folder;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scan")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is a list"))
}

/// What SARIF 2.1.0 demands of what we write; the number of results.
fn check_sarif(log: &Value) -> usize {
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().ends_with("sarif-2.1.0.json"));
    assert_eq!(list(&log["runs"]).len(), 1);
    let run = &log["runs"][0];
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "realign");
    let rules = list(&driver["rules"]);
    let ids: BTreeSet<&str> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), rules.len(), "every rule once");
    let check_uri = |location: &Value| {
        let uri = location["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~/%:".contains(c);
        assert!(!uri.is_empty() && uri.chars().all(allowed), "{uri}");
    };
    for result in list(&run["results"]) {
        let index = result["ruleIndex"].as_u64().unwrap() as usize;
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["none", "note", "warning", "error"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let location = &list(&result["locations"])[0];
        check_uri(location);
        let region = &location["physicalLocation"]["region"];
        let start = region["startLine"].as_u64().unwrap();
        assert!(start >= 1 && region["endLine"].as_u64().is_none_or(|end| end >= start), "{region}");
        assert!(region.get("startColumn").is_none_or(|column| column.as_u64().unwrap() >= 1), "{region}");
    }
    for invocation in list(&run["invocations"]) {
        assert!(invocation["executionSuccessful"].is_boolean());
        for notification in list(&invocation["toolExecutionNotifications"]) {
            assert!(notification["message"]["text"].is_string());
            list(&notification["locations"]).iter().for_each(check_uri);
        }
    }
    list(&run["results"]).len()
}

#[test]
fn sarif_says_what_json_says_in_its_own_form() {
    let dir = folder("sarif");
    std::fs::write(dir.join("a b.py"), "import os\nassert os.system(x)\n").unwrap();
    std::fs::write(dir.join("broken.py"), "def f(:\n").unwrap();
    for name in ["bandit_plain.py", "bandit_aliases.py", "bandit_libraries.py", "lint.py"] {
        std::fs::copy(fixtures().join(name), dir.join(name)).unwrap();
    }
    let log = json(&succeeds(&dir, "scan . --format sarif").stdout);
    let results = check_sarif(&log);
    let report = json(&succeeds(&dir, "scan . --format json").stdout);
    let expected: u64 =
        ["bandit", "own_rules", "ruff"].iter().map(|key| report["summary"][key].as_u64().unwrap()).sum();
    assert_eq!(results as u64, expected);
    assert!(results > 200, "{results}");
    let notifications = list(&log["runs"][0]["invocations"][0]["toolExecutionNotifications"]);
    assert!(notifications.iter().any(|n| n.to_string().contains("broken.py")), "{notifications:?}");
    assert!(log.to_string().contains("a%20b.py"));
}

#[test]
fn line_counts_are_named_as_the_tools_name_them() {
    let dir = folder("line-counts");
    std::fs::write(dir.join("x.py"), "'''Doc.\n\nmore\n'''\n\n# c\nx = 1\n").unwrap();
    let table = succeeds(&dir, "scan x.py").stdout;
    // radon raw: SLOC 1; bandit -f json: "loc": 4
    assert!(table.contains("lines: 7 physical, 4 by Bandit's count (loc), 1 by Radon's (sloc)"), "{table}");
}

/// What a hostile folder may hold: each file ends as a scan or with a reason, and its neighbours keep their findings.
#[test]
fn a_hostile_folder_is_scanned_to_its_end() {
    let dir = folder("hostile");
    let not_valid: Vec<(&str, Vec<u8>)> = vec![
        ("nul.py", b"x = 1\n\0\n".to_vec()),
        ("only_nul.py", vec![0; 4096]),
        ("half.py", b"def f(:\n".to_vec()),
        ("quotes.py", "'''".repeat(99_999).into_bytes()),
    ];
    let not_scanned: Vec<(&str, Vec<u8>)> = vec![
        ("chain.py", ["x"; 20_000].join(" + ").into_bytes()),
        ("calls.py", format!("x{}", "()".repeat(20_000)).into_bytes()),
        ("brackets.py", "(".repeat(500_000).into_bytes()),
        ("braces.py", format!("{}{}", "f'{".repeat(50_000), "}'".repeat(50_000)).into_bytes()),
        ("indents.py", (0..1_000).map(|n| format!("{}if x:\n", " ".repeat(n))).collect::<String>().into_bytes()),
        ("lambdas.py", format!("{}1", "lambda a: ".repeat(20_000)).into_bytes()),
        ("long_line.py", [b"x = '".as_slice(), &vec![b'a'; 10 << 20], b"'\n"].concat()),
        ("long_file.py", b"x = 1\n".repeat(2_000_000)),
        ("not_utf8.py", b"x = '\xff\xfe'\n".to_vec()),
        ("utf16.py", b"\xff\xfex\0 \0=\0 \x001\0".to_vec()),
        ("unknown_encoding.py", b"# coding: nothing-such\nx = 1\n".to_vec()),
    ];
    for (name, bytes) in not_valid.iter().chain(&not_scanned) {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    symlink("loop_b.py", dir.join("loop_a.py")).unwrap();
    symlink("loop_a.py", dir.join("loop_b.py")).unwrap();
    symlink("gone", dir.join("dangling.py")).unwrap();
    symlink(".", dir.join("folder_loop")).unwrap();
    symlink("..", dir.join("folder_loop.py")).unwrap();
    symlink("/dev/zero", dir.join("endless.py")).unwrap();
    // Readable by nobody, root included.
    symlink("/proc/self/mem", dir.join("memory.py")).unwrap();
    std::fs::create_dir(dir.join("folder.py")).unwrap();
    let deep = dir.join("d/".repeat(60));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("good.py"), "eval(x)\n").unwrap();
    for n in 0..3_000 {
        std::fs::write(dir.join(format!("folder.py/many{n}.py")), "assert x\n").unwrap();
    }

    let report = json(&succeeds(&dir, "scan . --format json").stdout);
    let files = list(&report["files"]);
    assert_eq!(files.len(), not_valid.len() + not_scanned.len() + 4 + 1 + 3_000);
    let find = |name: &str| {
        let found = files.iter().find(|file| file["path"] == format!("./{name}"));
        found.unwrap_or_else(|| panic!("{name} is in the report"))
    };
    for (name, _) in &not_valid {
        assert_eq!(find(name)["syntax_valid"], false, "{name}");
    }
    let others = ["loop_a.py", "loop_b.py", "dangling.py", "memory.py"];
    for name in not_scanned.iter().map(|(name, _)| *name).chain(others) {
        let file = find(name);
        assert!(file["not_scanned"].as_str().is_some_and(|why| !why.is_empty()), "{name}: {file}");
        assert_eq!(file["syntax_valid"], false, "{name}");
    }
    assert_eq!(find("long_file.py")["lines"], 2_000_000);
    assert_eq!(report["summary"]["bandit"], 3_001, "the good files have their findings");

    check_sarif(&json(&succeeds(&dir, "scan . --format sarif").stdout));
    let named = realign(&dir, "scan dangling.py");
    assert_eq!(named.code, 2, "a path that was named has to be there: {}", named.stderr);
    let endless = succeeds(&dir, "scan endless.py").stdout;
    assert!(endless.contains("longer than 64 MiB"), "{endless}");
}

/// `ruff check --isolated --select E9,F` on these three: E902 at 1:1 of each of the first two, and F401 of the third.
#[cfg(feature = "ruff")]
#[test]
fn ruff_reads_utf8_alone_whatever_encoding_a_file_names() {
    let dir = folder("encodings");
    std::fs::write(dir.join("named.py"), b"# coding: latin-1\nimport os\nx = '\xe9'\neval(x)\n").unwrap();
    std::fs::write(dir.join("unnamed.py"), b"x = '\xe9'\n").unwrap();
    std::fs::write(dir.join("utf8.py"), "import os\nx = 'é'\n").unwrap();
    let found = |select: &str| {
        let report = json(&succeeds(&dir, &format!("scan . --format json --select {select}")).stdout);
        let files = list(&report["files"]).iter();
        files
            .map(|f| (f["path"].to_string(), f["ruff"][0]["code"].to_string(), list(&f["ruff"]).len()))
            .map(|(path, code, n)| format!("{path} {code} {n}").replace('"', ""))
            .collect::<Vec<_>>()
    };
    assert_eq!(found("E9,F"), ["./named.py E902 1", "./unnamed.py E902 1", "./utf8.py F401 1"]);
    assert_eq!(found("F"), ["./named.py null 0", "./unnamed.py null 0", "./utf8.py F401 1"]);
    let report = json(&succeeds(&dir, "scan named.py --format json").stdout);
    assert_eq!(report["files"][0]["bandit"][0]["id"], "B307", "Bandit reads what CPython reads");
}

/// Stand-ins for the real tools, each printing a file; the program is run with nothing else on its PATH.
fn cross_check(dir: &Path, tools: &[(&str, &str, &str)]) -> Output {
    let bin = dir.join("bin");
    let _ = std::fs::remove_dir_all(&bin);
    std::fs::create_dir(&bin).unwrap();
    for (name, version, json) in tools {
        std::fs::write(bin.join(format!("{name}.json")), json).unwrap();
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = --version ]; then echo '{version}'; exit 0; fi\nexec /bin/cat {}/{name}.json\n",
            bin.display()
        );
        std::fs::write(bin.join(name), script).unwrap();
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_realign"));
    let output = command.args(["scan", "x.py", "--cross-check"]).current_dir(dir).env("PATH", &bin).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

const BANDIT: (&str, &str, &str) = (
    "bandit",
    "bandit 1.9.4\n  python version = 3.13.0",
    r#"{"errors": [], "results": [{"filename": "x.py", "line_number": 1, "test_id": "B101",
        "issue_severity": "LOW", "issue_confidence": "HIGH"}]}"#,
);
const RADON: (&str, &str, &str) = ("radon", "6.0.1", r#"{"x.py": []}"#);
#[cfg(feature = "ruff")]
const RUFF: (&str, &str, &str) =
    ("ruff", "ruff 0.16.4", r#"[{"filename": "x.py", "code": "F821", "location": {"row": 1, "column": 8}}]"#);

#[cfg(feature = "ruff")]
#[test]
fn the_cross_check_passes_where_the_tools_agree() {
    let dir = folder("cross-check");
    std::fs::write(dir.join("x.py"), "assert x\n").unwrap();
    let output = cross_check(&dir, &[BANDIT, RADON, RUFF]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        output.stderr.contains("bandit: 1 in common, 0 only from bandit, 0 only from realign"),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("ruff: 1 in common"), "{}", output.stderr);
    let alone = cross_check(&dir, &[BANDIT]);
    assert_eq!(alone.code, 0, "{}", alone.stderr);
    assert!(alone.stderr.contains("radon is not on the PATH"), "{}", alone.stderr);
}

#[test]
fn the_cross_check_prints_every_disagreement_and_fails() {
    let dir = folder("cross-check-planted");
    std::fs::write(dir.join("x.py"), "assert x\n").unwrap();
    let more_severe = BANDIT.2.replace("LOW", "HIGH");
    let radon = r#"{"x.py": [{"type": "function", "name": "f", "lineno": 3, "complexity": 7}]}"#;
    let tools = [(BANDIT.0, "bandit 1.8.0", more_severe.as_str()), (RADON.0, RADON.1, radon)];
    let output = cross_check(&dir, &tools);
    assert_eq!(output.code, 1, "{}", output.stderr);
    for line in [
        "x.py:1: B101 HIGH/HIGH: bandit reports it, realign does not",
        "x.py:1: B101 LOW/HIGH: realign reports it, bandit does not",
        "x.py:3: function f 7: radon reports it, realign does not",
        "realign follows bandit 1.9.4; installed is bandit 1.8.0",
        "3 disagreements",
    ] {
        assert!(output.stderr.contains(line), "{line}\n{}", output.stderr);
    }
    let broken = cross_check(&dir, &[("bandit", "bandit 1.9.4", "no JSON")]);
    assert_eq!(broken.code, 2, "{}", broken.stderr);
    let none = cross_check(&dir, &[]);
    assert_eq!(none.code, 2);
    assert!(none.stderr.contains("pip install bandit==1.9.4 radon==6.0.1"), "{}", none.stderr);
}

#[test]
#[ignore = "needs a Python with bandit 1.9.4, radon 6.0.1 and ruff 0.16.4 in REALIGN_REFERENCE_PYTHON"]
fn the_real_tools_say_the_same_of_whole_corpora() {
    let python = std::env::var("REALIGN_REFERENCE_PYTHON").expect("REALIGN_REFERENCE_PYTHON names a Python");
    let output = std::process::Command::new(&python)
        .arg(fixtures().join("compare.py"))
        .args(["--limit", "300", "--require", "0.99", env!("CARGO_BIN_EXE_realign")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("stdlib:") && said.contains("generated:"), "{said}");
    println!("{said}");
}
