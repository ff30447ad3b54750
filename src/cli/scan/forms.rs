//! Forms of output: table, JSON, CSV; and the totals that they print.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::record::{FileScan, Finding, Level};
use crate::scan::{ScanOptions, tools};

/// What `--format json` prints, as documented in docs/scanner.md.
#[derive(Debug, Serialize)]
struct Report<'r> {
    files: &'r [FileScan],
    summary: Summary,
    tools: BTreeMap<&'static str, serde_json::Value>,
}

/// Totals over all scanned files.
#[derive(Debug, Default, Serialize)]
struct Summary {
    files: usize,
    /// Files that were not scanned, or only in part.
    not_scanned: usize,
    /// Sum over files of their physical lines.
    lines: u64,
    /// Lines that are neither blank nor a comment alone, as Bandit counts them.
    bandit_loc: u64,
    /// Source lines as Radon counts them, of the files that parse.
    radon_sloc: u64,
    syntax_valid: usize,
    bandit: usize,
    high: usize,
    medium: usize,
    low: usize,
    own_rules: usize,
    ruff: usize,
    /// `null` where there is no block.
    average_complexity: Option<f64>,
    functions: u64,
    docstrings: u64,
    annotated: u64,
}

/// Security findings: Bandit's rules, then our own.
pub(super) fn findings(file: &FileScan) -> impl Iterator<Item = &Finding> {
    file.bandit.iter().chain(&file.own_rules)
}

/// Why a file may have fewer findings than it should; `None` for a file that was scanned and parses.
pub(super) fn trouble(file: &FileScan) -> Option<String> {
    if !file.not_scanned.is_empty() {
        return Some(format!("not scanned: {}", file.not_scanned));
    }
    (!file.syntax_valid).then(|| "not valid Python".to_string())
}

fn summary(files: &[FileScan]) -> Summary {
    let mut summary = Summary { files: files.len(), ..Summary::default() };
    let (mut blocks, mut complexity) = (0u64, 0u64);
    for file in files {
        summary.not_scanned += usize::from(!file.not_scanned.is_empty());
        summary.lines += u64::from(file.lines);
        summary.bandit_loc += u64::from(file.bandit_loc);
        summary.radon_sloc += u64::from(file.radon_sloc.unwrap_or(0));
        summary.syntax_valid += usize::from(file.syntax_valid);
        summary.bandit += file.bandit.len();
        summary.own_rules += file.own_rules.len();
        summary.ruff += file.ruff.len();
        summary.functions += u64::from(file.functions);
        summary.docstrings += u64::from(file.docstrings);
        summary.annotated += u64::from(file.annotated);
        blocks += file.complexity.len() as u64;
        complexity += file.complexity.iter().map(|block| u64::from(block.value)).sum::<u64>();
        for finding in findings(file) {
            match finding.severity {
                Level::High => summary.high += 1,
                Level::Medium => summary.medium += 1,
                Level::Low => summary.low += 1,
                Level::Undefined => {}
            }
        }
    }
    summary.average_complexity = (blocks > 0).then(|| complexity as f64 / blocks as f64);
    summary
}

/// All scans as the documented JSON object.
pub(super) fn json(files: &[FileScan], options: &ScanOptions) -> Result<String> {
    let mut tools: BTreeMap<_, serde_json::Value> = tools().into_iter().map(|(k, v)| (k, v.into())).collect();
    tools.insert("realign", env!("CARGO_PKG_VERSION").into());
    tools.insert("ruff_select", options.ruff_select.clone().into());
    let report = Report { files, summary: summary(files), tools };
    let text = serde_json::to_string_pretty(&report).map_err(Error::internal)?;
    Ok(text + "\n")
}

/// Findings as CSV, one row per finding.
pub(super) fn csv(files: &[FileScan]) -> String {
    let mut text = String::from("path,tool,id,line,column,severity,confidence,message\n");
    let mut row = |cells: [&str; 8]| {
        let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
        text.push_str(&(cells.join(",") + "\n"));
    };
    for file in files {
        if let Some(trouble) = trouble(file) {
            row([&file.path, "syntax", "", "", "", "", "", &trouble]);
        }
        for (tool, group) in [("bandit", &file.bandit), ("own_rules", &file.own_rules)] {
            for f in group {
                let (line, column) = (f.line.to_string(), f.column.to_string());
                row([&file.path, tool, &f.id, &line, &column, f.severity.as_str(), f.confidence.as_str(), &f.message]);
            }
        }
        for f in &file.ruff {
            row([&file.path, "ruff", &f.code, &f.line.to_string(), &f.column.to_string(), "", "", &f.message]);
        }
    }
    text
}

/// A cell in quotes where it needs them (RFC 4180).
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_string() }
}

/// One line a finding, then totals.
pub(super) fn table(files: &[FileScan]) -> String {
    let mut lines = Vec::new();
    for file in files {
        let path = &file.path;
        lines.extend(trouble(file).map(|trouble| format!("{path}: {trouble}")));
        for f in findings(file) {
            let (severity, confidence) = (f.severity.as_str(), f.confidence.as_str());
            lines.push(format!("{path}:{}:{}: {} {severity}/{confidence} {}", f.line, f.column + 1, f.id, f.message));
        }
        for f in &file.ruff {
            lines.push(format!("{path}:{}:{}: {} {}", f.line, f.column, f.code, f.message));
        }
    }
    let s = summary(files);
    let average = s.average_complexity.map_or("n/a".to_string(), |average| format!("{average:.2}"));
    lines.push(format!("{} files, {} valid Python, {} not scanned", s.files, s.syntax_valid, s.not_scanned));
    lines.push(format!(
        "lines: {} physical, {} by Bandit's count (loc), {} by Radon's (sloc)",
        s.lines, s.bandit_loc, s.radon_sloc
    ));
    lines.push(format!(
        "security: {} high, {} medium, {} low ({} by our own rules)",
        s.high, s.medium, s.low, s.own_rules
    ));
    lines.push(format!("ruff: {}", s.ruff));
    lines.push(format!(
        "average complexity {average}; {} functions, {} with a docstring, {} annotated",
        s.functions, s.docstrings, s.annotated
    ));
    lines.join("\n") + "\n"
}
