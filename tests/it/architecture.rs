//! The house's rules, read off the source text: imports go downward only, few files import each other in a circle, one
//! module writes files, one starts processes, nothing panics on bad input, and no file grows past one idea. Each rule is
//! shown to catch a breach.
//!
//! Comments and the tests at a file's end are not looked at. A name that a macro makes up is not seen.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use regex::Regex;

const LEAVES: [&str; 7] = ["error", "fsio", "process", "progress", "record", "rng", "sync"];

/// Module → what it may import beside the leaves and itself. `*` is everything but `cli`.
const TABLE: [(&str, &[&str]); 18] = [
    ("main", &["cli"]),
    ("cli", &["*"]),
    ("experiment", &["*"]),
    ("ask", &["finetune", "subject", "eval", "generate", "organism", "adapter", "model", "data", "scan"]),
    ("finetune", &["subject", "train", "steer", "adapter", "model", "data"]),
    ("subject", &["adapter", "generate", "model", "data"]),
    ("report", &["score"]),
    ("score", &["stats"]),
    ("eval", &["scan"]),
    ("scan", &[]),
    ("steer", &["data", "model", "stats"]),
    ("train", &["data", "model", "adapter"]),
    ("generate", &["data", "model"]),
    ("organism", &["data"]),
    ("adapter", &["model"]),
    ("model", &[]),
    ("stats", &[]),
    ("data", &[]),
];

const LONGEST_FILE: usize = 500;

/// Circles of files that import each other. Each one left is a pair that is read together anyway.
const MOST_CIRCLES: usize = 4;

/// `src/eval/scan/mod.rs` → `eval`.
fn module_of(file: &str) -> &str {
    let below = file.strip_prefix("src/").unwrap_or(file);
    below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
}

/// How many modules lie between the crate's root and this file's own items.
fn depth_of(file: &str) -> usize {
    let below = file.strip_prefix("src/").unwrap_or(file).trim_end_matches(".rs").trim_end_matches("/mod");
    below.split('/').count()
}

/// The file without comments and without the tests at its end; line numbers stay.
fn code_of(source: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    for line in source.lines() {
        if line.starts_with("#[cfg(test)]") {
            break;
        }
        let comment = line.trim_start().starts_with("//");
        lines.push(if comment { "" } else { line });
    }
    lines
}

/// Modules of this crate that a file names, with the line of each.
fn imports(file: &str, source: &str) -> Vec<(usize, String)> {
    let code = code_of(source).join("\n");
    let line_of = |at: usize| code[..at].matches('\n').count() + 1;
    let mut found = Vec::new();
    let root = if file == "src/main.rs" { "realign" } else { "crate" };
    for m in Regex::new(&format!(r"\b{root}::(\w+)")).unwrap().captures_iter(&code) {
        found.push((line_of(m.get(0).unwrap().start()), m[1].to_string()));
    }
    // `use crate::{a::b, c::{d, e}}`: the names at the first level.
    for group in Regex::new(&format!(r"\b{root}::\{{")).unwrap().find_iter(&code) {
        let (mut depth, mut fresh) = (1, true);
        for (at, c) in code[group.end()..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' => fresh = true,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            if depth == 1 && fresh && (c.is_alphabetic() || c == '_') {
                let rest = &code[group.end() + at..];
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                found.push((line_of(group.end() + at), name));
                fresh = false;
            }
        }
    }
    // A chain of `super` that climbs out of the module is the same import in disguise.
    for chain in Regex::new(r"\b(?:super::)+").unwrap().find_iter(&code) {
        if chain.as_str().matches("super").count() >= depth_of(file) {
            found.push((line_of(chain.start()), "super out of its module".into()));
        }
    }
    found.sort();
    found
}

fn import_breaches(file: &str, source: &str) -> Vec<String> {
    let module = module_of(file);
    if module == "lib" {
        return Vec::new();
    }
    let Some((_, may)) = TABLE.iter().find(|(name, _)| *name == module) else {
        return match LEAVES.contains(&module) {
            true => upward(file, source, &[]),
            false => vec![format!("{file}: the module `{module}` is not in the table")],
        };
    };
    upward(file, source, may)
}

fn upward(file: &str, source: &str, may: &[&str]) -> Vec<String> {
    let module = module_of(file);
    let allowed = |name: &str| {
        let leaf = LEAVES.contains(&name) && (module != "main" || name == "process");
        let below = may.contains(&"*") && name != "cli" && TABLE.iter().any(|(known, _)| *known == name);
        name == module || leaf || below || may.contains(&name)
    };
    let breaches = imports(file, source).into_iter().filter(|(_, name)| !allowed(name));
    breaches.map(|(line, name)| format!("{file}:{line}: `{module}` may not import `{name}`")).collect()
}

fn pattern_breaches(file: &str, source: &str, pattern: &str, why: &str) -> Vec<String> {
    let pattern = Regex::new(pattern).unwrap();
    let lines = code_of(source).into_iter().enumerate().filter(|(_, line)| pattern.is_match(line));
    lines.map(|(at, line)| format!("{file}:{}: {why}: {}", at + 1, line.trim())).collect()
}

fn writing_breaches(file: &str, source: &str) -> Vec<String> {
    const WRITES: &str = r"\bfs::(write|rename|copy|hard_link|create_dir|create_dir_all|remove_file|remove_dir|remove_dir_all|set_permissions)\b|\bFile::(create|create_new|options)\b|\bOpenOptions\b|\buse std::fs::|\bfs::\{";
    if file == "src/fsio.rs" { Vec::new() } else { pattern_breaches(file, source, WRITES, "only fsio writes files") }
}

fn process_breaches(file: &str, source: &str) -> Vec<String> {
    const STARTS: &str =
        r"\bprocess::Command\b|\bprocess::\{[^}]*\bCommand\b|\bCommand::new\b|\blibc::(fork|exec\w*|system)\b";
    let why = "only process starts processes";
    if file == "src/process.rs" { Vec::new() } else { pattern_breaches(file, source, STARTS, why) }
}

fn panic_breaches(file: &str, source: &str) -> Vec<String> {
    const PANICS: &str = r#"\.unwrap\(\)|\.expect\(\s*("|&format)|\btodo!|\bunimplemented!"#;
    pattern_breaches(file, source, PANICS, "an error, not a panic")
}

fn length_breaches(file: &str, source: &str) -> Vec<String> {
    let lines = source.lines().count();
    if lines > LONGEST_FILE { vec![format!("{file}: {lines} lines, {LONGEST_FILE} are the most")] } else { Vec::new() }
}

/// Every Rust file below `src/`, by its path from the repository's root.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut found) = (vec![root.join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    // `#[cfg(test)] mod tests;`: a file of tests only.
    let only_tests = Regex::new(r"#\[cfg\(test\)\]\s*mod (\w+);").unwrap();
    let left_out: Vec<String> = found
        .iter()
        .flat_map(|(file, source)| {
            let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
            only_tests.captures_iter(source).map(move |m| format!("{folder}/{}.rs", &m[1]))
        })
        .collect();
    found.retain(|(file, _)| !left_out.contains(file));
    found.sort();
    found
}

fn check(rule: fn(&str, &str) -> Vec<String>) {
    let sources = sources();
    assert!(sources.len() > 140, "only {} files were found", sources.len());
    let breaches: Vec<String> = sources.iter().flat_map(|(file, source)| rule(file, source)).collect();
    assert!(breaches.is_empty(), "{} breaches:\n{}", breaches.len(), breaches.join("\n"));
}

#[test]
fn imports_go_downward_only() {
    check(import_breaches);
}

#[test]
fn only_fsio_writes_files() {
    check(writing_breaches);
}

#[test]
fn only_process_starts_processes() {
    check(process_breaches);
}

#[test]
fn nothing_panics_on_purpose() {
    check(panic_breaches);
}

#[test]
fn no_file_is_longer_than_one_idea() {
    check(length_breaches);
}

/// The file of a module path, or of the longest beginning of it that is a file.
fn file_of<'f>(files: &'f BTreeSet<String>, parts: &[&str]) -> Option<&'f String> {
    (1..=parts.len()).rev().find_map(|length| {
        let stem = format!("src/{}", parts[..length].join("/"));
        files.get(&format!("{stem}.rs")).or_else(|| files.get(&format!("{stem}/mod.rs")))
    })
}

/// The paths that a `use` group spells out, e.g. `a::{b, c::{d, e}}`: `a::b`, `a::c::d`, `a::c::e`.
fn spelled_out(path: &str) -> Vec<String> {
    let Some((head, rest)) = path.split_once('{') else { return vec![path.trim().to_string()] };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut start, mut pieces) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                pieces.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(&inner[start..]);
    let pieces = pieces.into_iter().map(str::trim).filter(|piece| !piece.is_empty());
    pieces.flat_map(spelled_out).map(|piece| format!("{}{piece}", head.trim())).collect()
}

/// The files that a file names by path. What a `mod.rs` passes on from its own children is no import of theirs.
fn named_files<'f>(files: &'f BTreeSet<String>, file: &str, source: &str) -> BTreeSet<&'f String> {
    let code = code_of(source).join("\n");
    let own: Vec<&str> = {
        let below = file.strip_prefix("src/").unwrap_or(file).trim_end_matches(".rs").trim_end_matches("/mod");
        below.split('/').collect()
    };
    let mut paths = Vec::new();
    for m in
        Regex::new(r"(?s)\b(?:pub(?:\([a-z]+\))? )?use ((?:crate|super|self)::[^;]*);").unwrap().captures_iter(&code)
    {
        paths.extend(spelled_out(&m[1]));
    }
    let inline = Regex::new(r"\b(?:crate|super)(?:::\w+)+").unwrap();
    paths.extend(inline.find_iter(&code).map(|m| m.as_str().to_string()));
    let mut found = BTreeSet::new();
    for path in paths {
        let parts: Vec<&str> = path.split("::").map(|part| part.split_whitespace().next().unwrap_or("")).collect();
        let climbs = parts.iter().take_while(|part| **part == "super").count();
        let whole: Vec<&str> = match parts[0] {
            "crate" => parts[1..].to_vec(),
            "self" => own.iter().copied().chain(parts[1..].iter().copied()).collect(),
            _ if climbs > own.len() => continue,
            _ => own[..own.len() - climbs].iter().copied().chain(parts[climbs..].iter().copied()).collect(),
        };
        found.extend(file_of(files, &whole).filter(|other| *other != file));
    }
    let folder = file.strip_suffix("mod.rs");
    found.retain(|other| folder.is_none_or(|folder| !other.starts_with(folder)));
    found
}

/// Files that reach each other by imports, as sets of two and more.
fn circles(sources: &[(String, String)]) -> Vec<BTreeSet<String>> {
    let files: BTreeSet<String> = sources.iter().map(|(file, _)| file.clone()).filter(|f| f != "src/lib.rs").collect();
    let named: BTreeMap<&String, BTreeSet<&String>> =
        sources.iter().filter(|(f, _)| f != "src/lib.rs").map(|(f, s)| (f, named_files(&files, f, s))).collect();
    let reached: BTreeMap<&String, BTreeSet<&String>> = named
        .keys()
        .map(|&file| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![file]);
            while let Some(next) = open.pop() {
                open.extend(named.get(next).into_iter().flatten().filter(|other| seen.insert(**other)));
            }
            (file, seen)
        })
        .collect();
    let circle = |file: &String| -> BTreeSet<String> {
        let both = reached[file].iter().filter(|other| reached.get(**other).is_some_and(|back| back.contains(file)));
        both.map(|other| (*other).clone()).collect()
    };
    let all: BTreeSet<BTreeSet<String>> = reached.keys().map(|file| circle(file)).collect();
    all.into_iter().filter(|circle| circle.len() > 1).collect()
}

#[test]
fn few_files_import_each_other_in_a_circle() {
    let circles = circles(&sources());
    assert!(circles.len() <= MOST_CIRCLES, "{} circles: {circles:#?}", circles.len());
}

#[test]
fn planted_circles_are_found() {
    let file = |name: &str, source: &str| (name.to_string(), source.to_string());
    let two = [
        file("src/data/rows.rs", "use super::collate::encode;\n"),
        file("src/data/collate.rs", "use crate::data::{mask, rows::{Row, parse}};\n"),
        file("src/data/mask.rs", "pub fn mask() {}\n"),
        file("src/data/mod.rs", "pub mod rows;\npub use rows::Row;\n"),
    ];
    let found = circles(&two);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].iter().collect::<Vec<_>>(), ["src/data/collate.rs", "src/data/rows.rs"]);
    let three = [
        file("src/a/b.rs", "fn f() { crate::a::c::g(); }\n"),
        file("src/a/c.rs", "use super::d;\n"),
        file("src/a/d.rs", "use super::b::f;\n"),
    ];
    assert_eq!(circles(&three)[0].len(), 3);
    let none = [file("src/a/b.rs", "use super::c;\n"), file("src/a/c.rs", "// use super::b;\n")];
    assert!(circles(&none).is_empty());
}

/// Where an arm of the default plan may be spelled, and why.
const NAMED_ARMS: [(&str, &str, &str); 4] = [
    ("src/experiment/plan/resolve.rs", "attack", "the adapter whose data --attack gives"),
    ("src/experiment/plan/resolve.rs", "repair", "the adapter whose data --repair gives"),
    ("src/experiment/plan/file.rs", "attack", "a key of the first schema, refused with the new spelling"),
    ("src/experiment/plan/file.rs", "repair", "a key of the first schema, refused with the new spelling"),
];

/// The arms of the default plan, as its file has them.
fn arms_of_the_default_plan() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("eval/plans/default.yaml");
    let plan: serde_json::Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    plan["arms"].as_object().unwrap().keys().cloned().collect()
}

/// String literals of these three modules that are the name of an arm and nothing else.
fn arm_breaches(file: &str, source: &str, arms: &[String]) -> Vec<String> {
    if !["report", "score", "experiment"].contains(&module_of(file)) {
        return Vec::new();
    }
    let literal = Regex::new(r#""((?:[^"\\\n]|\\.)*)""#).unwrap();
    let mut found = Vec::new();
    for (at, line) in code_of(source).into_iter().enumerate() {
        // A quotation mark as a character opens no text.
        let line = line.replace(r#"'"'"#, "' '").replace(r#"'\"'"#, "' '");
        for m in literal.captures_iter(&line).filter(|m| arms.iter().any(|arm| *arm == m[1])) {
            if !NAMED_ARMS.iter().any(|(named, arm, _)| *named == file && *arm == &m[1]) {
                found.push(format!("{file}:{}: the arm `{}` is named in code", at + 1, &m[1]));
            }
        }
    }
    found
}

#[test]
fn no_arm_of_the_default_plan_is_named_in_code() {
    let arms = arms_of_the_default_plan();
    assert!(arms.len() == 12 && arms.contains(&"base".to_string()) && arms.contains(&"prompt:terse".to_string()));
    let sources = sources();
    let looked_at = sources.iter().filter(|(file, _)| ["report", "score", "experiment"].contains(&module_of(file)));
    assert!(looked_at.count() > 45);
    let breaches: Vec<String> = sources.iter().flat_map(|(file, source)| arm_breaches(file, source, &arms)).collect();
    assert!(breaches.is_empty(), "{} breaches:\n{}", breaches.len(), breaches.join("\n"));
    for (file, arm, why) in NAMED_ARMS {
        let source = &sources.iter().find(|(name, _)| name == file).unwrap().1;
        assert!(source.contains(&format!("\"{arm}\"")), "{file} no longer names `{arm}` ({why}): take it off the list");
    }
    let planted = |source: &str| arm_breaches("src/score/terms.rs", source, &arms).len();
    assert_eq!(planted("if sample.arm == \"attack+steer\" || arm == \"base\" {"), 2);
    assert_eq!(planted("let quote = '\"'; f(\"repair\");"), 1);
    assert_eq!(planted("f(\"an attack on base\");"), 0);
    assert_eq!(planted("// \"attack\"\n#[cfg(test)]\nmod tests { const A: &str = \"attack\"; }"), 0);
    assert!(arm_breaches("src/organism/corpus.rs", "\"attack\"", &arms).is_empty());
}

#[test]
fn no_product_file_is_called_tests() {
    let tests = |file: &str| file.ends_with("/tests.rs") || file.ends_with("_tests.rs");
    let named: Vec<String> = sources().into_iter().map(|(file, _)| file).filter(|file| tests(file)).collect();
    assert!(named.is_empty(), "{named:?}");
    assert!(tests("src/eval/tests.rs") && tests("src/organism/family_tests.rs") && !tests("src/eval/runner.rs"));
}

#[test]
fn every_module_of_the_crate_is_in_the_table() {
    let map = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let modules: Vec<&str> = map.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(modules.len() >= 19, "{modules:?}");
    for module in modules {
        assert!(LEAVES.contains(&module) || TABLE.iter().any(|(name, _)| *name == module), "{module}");
    }
}

#[test]
fn planted_imports_are_found_by_file_and_line() {
    let planted = |file: &str, source: &str| import_breaches(file, source);
    let model = "//! Doc.\nuse crate::error::Result;\nuse crate::steer::Vector;\n";
    assert_eq!(planted("src/model/block.rs", model), ["src/model/block.rs:3: `model` may not import `steer`"]);
    let inline = "fn f() {\n    crate::generate::generate();\n}\n";
    assert_eq!(planted("src/eval/tests.rs", inline), ["src/eval/tests.rs:2: `eval` may not import `generate`"]);
    let grouped = "use crate::{\n    error::{Error, Result},\n    train::train,\n    model,\n};\n";
    assert_eq!(planted("src/adapter/mod.rs", grouped), ["src/adapter/mod.rs:3: `adapter` may not import `train`"]);
    let climbing = "use super::super::cli::scan;\n";
    assert_eq!(planted("src/score/terms.rs", climbing).len(), 1);
    assert!(planted("src/eval/scan/bandit/sql.rs", "use super::super::tree::Tree;\n").is_empty());
    assert_eq!(planted("src/experiment/run.rs", "use crate::cli::train;\n").len(), 1);
    assert_eq!(planted("src/main.rs", "use realign::experiment::run;\n").len(), 1);
    assert_eq!(planted("src/attic/mod.rs", ""), ["src/attic/mod.rs: the module `attic` is not in the table"]);
    assert_eq!(planted("src/rng.rs", "use crate::data::rows;\n").len(), 1, "a leaf hangs on nothing");
    assert!(planted("src/model/load.rs", "// crate::train is named in a comment only\n").is_empty());
    assert!(planted("src/model/load.rs", "#[cfg(test)]\nmod tests { use crate::train; }\n").is_empty());
    assert!(planted("src/cli/run.rs", "use crate::experiment::run;\nuse crate::cli::train;\n").is_empty());
}

#[test]
fn planted_writes_processes_panics_and_long_files_are_found() {
    for line in [
        "std::fs::write(path, bytes)?;",
        "let file = File::create(path)?;",
        "std::fs::OpenOptions::new();",
        "fs::remove_dir_all(path)?;",
        "use std::fs::rename;",
        "use std::fs::{create_dir};",
    ] {
        assert_eq!(writing_breaches("src/cli/train.rs", line).len(), 1, "{line}");
        assert!(writing_breaches("src/fsio.rs", line).is_empty());
    }
    for line in ["fsio::create_dir(path)?;", "fsio::remove_dir(path)?;", "std::fs::read_dir(path)?;"] {
        assert!(writing_breaches("src/cli/train.rs", line).is_empty(), "{line}");
    }
    for line in ["std::process::Command::new(\"sh\");", "use std::process::{Child, Command};", "Command::new(\"sh\")"] {
        assert_eq!(process_breaches("src/eval/tests.rs", line).len(), 1, "{line}");
        assert!(process_breaches("src/process.rs", line).is_empty());
    }
    for line in ["x.unwrap();", "x.expect(\"a value\");", "todo!()"] {
        assert_eq!(panic_breaches("src/cli/train.rs", line).len(), 1, "{line}");
        assert!(panic_breaches("src/cli/train.rs", &format!("#[cfg(test)]\nmod tests {{ {line} }}")).is_empty());
    }
    assert!(panic_breaches("src/cli/train.rs", "x.unwrap_or_default();").is_empty());
    assert_eq!(length_breaches("src/cli/train.rs", &"x\n".repeat(501)).len(), 1);
    assert!(length_breaches("src/cli/train.rs", &"x\n".repeat(500)).is_empty());
}
