//! `--cross-check`: the real bandit, radon and ruff on the same files, finding by finding.
//!
//! Compared as multisets: Bandit by (file, line, id, severity, confidence), Radon by (file, name, kind, line, value),
//! Ruff by (file, code, line, column) on the same selection. Files that Bandit or Radon cannot parse are counted and not
//! compared with it. `# nosec` and `# noqa` are ignored on both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::process;
use crate::record::FileScan;
use crate::scan::{FStringPositions, ScanOptions, tools};

/// Files a call, so that no command line gets too long.
const BATCH: usize = 200;
const LIMIT: Duration = Duration::from_secs(3600);

/// A multiset of findings, each as one line of text behind its file.
type Findings = BTreeMap<(String, String), u64>;

/// The real tools that are on the PATH.
pub(super) struct Real {
    /// Name of each tool found, with what its `--version` prints.
    versions: Vec<(&'static str, String)>,
}

/// Looks for them; an error where none is there.
pub(super) fn installed() -> Result<Real> {
    let version = |name| Some((name, tool(name, &["--version"]).ok()?.trim().to_string()));
    let versions: Vec<_> = ["bandit", "radon", "ruff"].into_iter().filter_map(version).collect();
    if versions.is_empty() {
        let wanted: Vec<String> = tools().iter().map(|(name, version)| format!("{name}=={version}")).collect();
        let wanted = wanted.join(" ");
        return Err(Error::usage(format!(
            "--cross-check: none of bandit, radon and ruff is on the PATH; install them with `pip install {wanted}`"
        )));
    }
    Ok(Real { versions })
}

impl Real {
    /// Bandit sees f-strings as the Python does on which it runs.
    pub(super) fn fstring_positions(&self) -> FStringPositions {
        let minor = self
            .versions
            .iter()
            .find(|(name, _)| *name == "bandit")
            .and_then(|(_, text)| text.split_once("python version = 3.")?.1.split('.').next()?.parse::<u32>().ok());
        if minor.is_some_and(|minor| minor < 12) { FStringPositions::Whole } else { FStringPositions::Pieces }
    }

    /// Prints every disagreement and one line a tool; fails on any.
    pub(super) fn compare(&self, files: &[FileScan], options: &ScanOptions) -> Result<()> {
        let mut disagreements = 0;
        for (name, ours_like) in tools() {
            let Some((_, version)) = self.versions.iter().find(|(found, _)| *found == name) else {
                eprintln!("cross-check: {name} is not on the PATH, not compared");
                continue;
            };
            if !version.contains(ours_like) {
                let version = version.lines().next().unwrap_or_default();
                eprintln!("cross-check: realign follows {name} {ours_like}; installed is {version}");
            }
            let (real, unparsed) = match name {
                "bandit" => bandit(files)?,
                "radon" => radon(files)?,
                _ => ruff(files, options)?,
            };
            let ours = ours(name, files.iter().filter(|file| !unparsed.contains(&file.path)));
            let common: u64 = real.iter().map(|(key, n)| *n.min(ours.get(key).unwrap_or(&0))).sum();
            let missing = print(&real, &ours, &format!("{name} reports it"), "realign does not");
            let extra = print(&ours, &real, "realign reports it", &format!("{name} does not"));
            eprintln!("cross-check: {name}: {common} in common, {missing} only from {name}, {extra} only from realign");
            if !unparsed.is_empty() {
                eprintln!("cross-check: {} files not compared, since {name} cannot parse them", unparsed.len());
            }
            disagreements += missing + extra;
        }
        if disagreements > 0 {
            return Err(Error::CheckFailed(format!("{disagreements} disagreements with the real tools")));
        }
        Ok(())
    }
}

/// Prints what is in `a` and not in `b`; gives their number.
fn print(a: &Findings, b: &Findings, has: &str, lacks: &str) -> u64 {
    let mut count = 0;
    for (key, n) in a {
        let more = n.saturating_sub(*b.get(key).unwrap_or(&0));
        for _ in 0..more {
            eprintln!("{}:{}: {has}, {lacks}", key.0, key.1);
        }
        count += more;
    }
    count
}

fn count(findings: impl Iterator<Item = (String, String)>) -> Findings {
    let mut counted = Findings::new();
    for finding in findings {
        *counted.entry(finding).or_default() += 1;
    }
    counted
}

fn ours<'f>(tool: &str, files: impl Iterator<Item = &'f FileScan>) -> Findings {
    count(files.flat_map(|file| {
        let lines: Vec<String> = match tool {
            "bandit" => (file.bandit.iter())
                .map(|f| format!("{}: {} {}/{}", f.line, f.id, f.severity.as_str(), f.confidence.as_str()))
                .collect(),
            "radon" => {
                file.complexity.iter().map(|b| format!("{}: {} {} {}", b.line, b.kind, b.name, b.value)).collect()
            }
            _ => file.ruff.iter().map(|f| format!("{}:{}: {}", f.line, f.column, f.code)).collect(),
        };
        let path = file.path.clone();
        lines.into_iter().map(move |line| (path.clone(), line))
    }))
}

/// Runs a tool; findings make all three exit with 1, which is no failure.
fn tool(name: &str, args: &[&str]) -> Result<String> {
    let inherited: Vec<(&str, String)> =
        ["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?))).collect();
    let env: Vec<(&str, &str)> = inherited.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let finished = process::run(name, args, &env, Path::new("."), LIMIT)?;
    if !matches!(finished.code, Some(0 | 1)) {
        return Err(Error::usage(format!("{name} failed: {}", finished.stderr.trim())));
    }
    Ok(finished.stdout)
}

/// The JSON of one call for each batch of files.
fn batches(name: &str, args: &[&str], files: &[FileScan], mut read: impl FnMut(&Value)) -> Result<()> {
    for batch in files.chunks(BATCH) {
        let paths = batch.iter().map(|file| file.path.as_str());
        let args: Vec<&str> = args.iter().copied().chain(paths).collect();
        let text = tool(name, &args)?;
        let value = serde_json::from_str(&text).map_err(|e| Error::usage(format!("{name} did not write JSON: {e}")))?;
        read(&value);
    }
    Ok(())
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn bandit(files: &[FileScan]) -> Result<(Findings, BTreeSet<String>)> {
    let (mut findings, mut unparsed) = (Vec::new(), BTreeSet::new());
    batches("bandit", &["--quiet", "--ignore-nosec", "--exclude", "", "--format", "json", "--"], files, |value| {
        findings.extend(list(&value["results"]).iter().map(|f| {
            let (severity, confidence) = (text(f, "issue_severity"), text(f, "issue_confidence"));
            let line = format!("{}: {} {severity}/{confidence}", f["line_number"], text(f, "test_id"));
            (text(f, "filename").to_string(), line)
        }));
        unparsed.extend(list(&value["errors"]).iter().map(|e| text(e, "filename").to_string()));
    })?;
    Ok((count(findings.into_iter()), unparsed))
}

fn radon(files: &[FileScan]) -> Result<(Findings, BTreeSet<String>)> {
    let (mut blocks, mut unparsed) = (Vec::new(), BTreeSet::new());
    batches("radon", &["cc", "--json", "--min", "A", "--max", "F"], files, |value| {
        for (path, found) in value.as_object().into_iter().flatten() {
            if found.get("error").is_some() {
                unparsed.insert(path.clone());
            }
            blocks.extend(list(found).iter().map(|b| {
                let line = format!("{}: {} {} {}", b["lineno"], text(b, "type"), text(b, "name"), b["complexity"]);
                (path.clone(), line)
            }));
        }
    })?;
    Ok((count(blocks.into_iter()), unparsed))
}

fn ruff(files: &[FileScan], options: &ScanOptions) -> Result<(Findings, BTreeSet<String>)> {
    if options.ruff_select.is_empty() {
        return Ok((Findings::new(), BTreeSet::new()));
    }
    // Ruff prints absolute paths.
    let absolute = |path: &str| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let given: BTreeMap<_, _> = files.iter().map(|file| (absolute(&file.path), &file.path)).collect();
    let select = options.ruff_select.join(",");
    let mut found = Vec::new();
    let args = ["check", "--quiet", "--isolated", "--no-cache", "--ignore-noqa", "--output-format", "json"];
    let args: Vec<&str> = args.into_iter().chain(["--select", &select, "--"]).collect();
    batches("ruff", &args, files, |value| {
        found.extend(list(value).iter().map(|d| {
            let path = text(d, "filename");
            let path = given.get(&absolute(path)).map_or(path, |path| path.as_str());
            let line = format!("{}:{}: {}", d["location"]["row"], d["location"]["column"], text(d, "code"));
            (path.to_string(), line)
        }));
    })?;
    Ok((count(found.into_iter()), BTreeSet::new()))
}
