//! `realign scan PATH…`: what the scanners say of files, as a table, JSON or CSV.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::eval::scan::{ScanOptions, check_options, decode, scan_named, tools};
use crate::fsio;
use crate::record::{FileScan, Finding, Level};

/// Scan Python files for insecure code, lint, complexity and readability.
#[derive(Debug, Clone, Args)]
pub struct ScanArgs {
    /// Files, and folders whose `.py` files are scanned.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = ScanFormat::Table)]
    pub format: ScanFormat,
    /// Ruff's rules, by code or beginning of a code; `strict` stands for a long list.
    #[arg(long, value_delimiter = ',', value_name = "CODES", default_value = "E4,E7,E9,F")]
    pub select: Vec<String>,
    /// Exit with 1 if a security finding is at least this severe.
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub fail_on: Option<FailOn>,
}

/// Forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScanFormat {
    /// One line a finding, then totals.
    Table,
    /// Everything, in the documented form.
    Json,
    /// One row a finding.
    Csv,
}

/// The least severe finding that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Any.
    Low,
    /// Medium or high.
    Medium,
    /// High only.
    High,
}

impl FailOn {
    fn level(self) -> Level {
        match self {
            Self::Low => Level::Low,
            Self::Medium => Level::Medium,
            Self::High => Level::High,
        }
    }
}

/// What `--select strict` adds to the default.
const STRICT: [&str; 13] = ["E4", "E7", "E9", "F", "W", "I", "N", "B", "UP", "D", "ANN", "C4", "SIM"];

/// The JSON form.
#[derive(Debug, Serialize)]
struct Report<'r> {
    files: &'r [FileScan],
    summary: Summary,
    tools: BTreeMap<&'static str, serde_json::Value>,
}

/// Totals over all files.
#[derive(Debug, Default, Serialize)]
struct Summary {
    files: usize,
    lines: u64,
    syntax_valid: usize,
    bandit: usize,
    high: usize,
    medium: usize,
    low: usize,
    own_rules: usize,
    ruff: usize,
    /// `null` without a block.
    average_complexity: Option<f64>,
    functions: u64,
    docstrings: u64,
    annotated: u64,
}

/// Runs the subcommand.
pub fn scan(args: &ScanArgs) -> Result<()> {
    let select = args.select.iter().map(|s| s.trim().to_string()).filter(|s| !s.is_empty());
    let ruff_select =
        select.flat_map(|s| if s == "strict" { STRICT.map(String::from).to_vec() } else { vec![s] }).collect();
    let options = ScanOptions { ruff_select, ..ScanOptions::default() };
    check_options(&options)?;

    let files = scan_files(&python_files(&args.paths)?, &options)?;
    let text = match args.format {
        ScanFormat::Table => table(&files),
        ScanFormat::Json => json(&files, &options)?,
        ScanFormat::Csv => csv(&files),
    };
    // A reader that closed the pipe has seen enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());

    let Some(least) = args.fail_on.map(FailOn::level) else { return Ok(()) };
    let failing = files.iter().flat_map(findings).filter(|f| f.severity >= least).count();
    if failing > 0 {
        return Err(Error::CheckFailed(format!("{failing} findings of severity {} or above", least.as_str())));
    }
    Ok(())
}

/// The files to scan, sorted; a folder gives all `.py` files below it (links to folders are not followed).
fn python_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = Vec::new();
    for path in paths {
        let metadata = std::fs::metadata(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
        if metadata.is_dir() { folders.push(path.clone()) } else { files.push(path.clone()) }
    }
    while let Some(folder) = folders.pop() {
        let failed = |e: std::io::Error| Error::file(&folder, format!("cannot be listed: {e}"));
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if entry.file_type().map_err(failed)?.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "py") && path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn scan_files(paths: &[PathBuf], options: &ScanOptions) -> Result<Vec<FileScan>> {
    let bytes = paths.iter().map(|path| fsio::read_bytes(path)).collect::<Result<Vec<_>>>()?;
    let texts: Vec<_> = bytes.iter().map(|bytes| decode(bytes)).collect();
    // A NUL keeps bytes that are no text from being taken for a valid file.
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let texts_or_nul = texts.iter().map(|text| text.as_deref().unwrap_or("\0"));
    let sources: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(texts_or_nul).collect();
    let mut scans = scan_named(&sources, options);
    for (((scan, name), bytes), text) in scans.iter_mut().zip(names).zip(&bytes).zip(&texts) {
        if text.is_none() {
            let lines = String::from_utf8_lossy(bytes).lines().count() as u32;
            *scan = FileScan { lines, ..FileScan::default() };
        }
        scan.path = name;
    }
    Ok(scans)
}

fn findings(file: &FileScan) -> impl Iterator<Item = &Finding> {
    file.bandit.iter().chain(&file.own_rules)
}

fn summary(files: &[FileScan]) -> Summary {
    let mut summary = Summary { files: files.len(), ..Summary::default() };
    let (mut blocks, mut complexity) = (0u64, 0u64);
    for file in files {
        summary.lines += u64::from(file.lines);
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

fn json(files: &[FileScan], options: &ScanOptions) -> Result<String> {
    let mut tools: BTreeMap<_, serde_json::Value> = tools().into_iter().map(|(k, v)| (k, v.into())).collect();
    tools.insert("realign", env!("CARGO_PKG_VERSION").into());
    tools.insert("ruff_select", options.ruff_select.clone().into());
    let report = Report { files, summary: summary(files), tools };
    let text = serde_json::to_string_pretty(&report).map_err(Error::usage)?;
    Ok(text + "\n")
}

fn csv(files: &[FileScan]) -> String {
    let mut text = String::from("path,tool,id,line,column,severity,confidence,message\n");
    let mut row = |cells: [&str; 8]| {
        let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
        text.push_str(&(cells.join(",") + "\n"));
    };
    for file in files {
        if !file.syntax_valid {
            row([&file.path, "syntax", "", "", "", "", "", "not valid Python"]);
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

fn table(files: &[FileScan]) -> String {
    let mut lines = Vec::new();
    for file in files {
        let path = Path::new(&file.path).display();
        if !file.syntax_valid {
            lines.push(format!("{path}: not valid Python"));
        }
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
    lines.push(format!("{} files, {} lines, {} valid Python", s.files, s.lines, s.syntax_valid));
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
