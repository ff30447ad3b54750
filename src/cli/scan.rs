//! `realign scan PATH…`: scans files and prints a table, JSON, CSV or SARIF; with `--cross-check`, compares with the real
//! tools.

mod cross_check;
mod files;
mod forms;
mod sarif;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::error::{Error, Result};
use crate::record::Level;
use crate::scan::{ScanOptions, check_options};

/// Scan Python files for insecure code, lint, complexity and readability.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  realign scan src tests
  realign scan --format sarif --fail-on high app > findings.sarif")]
pub struct ScanArgs {
    /// Files to scan, and folders; in a folder and its subfolders all `.py` files are scanned.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Format of the findings on standard output.
    #[arg(long, value_enum, default_value_t = ScanFormat::Table)]
    pub format: ScanFormat,
    /// Ruff rules to apply, as codes or code prefixes separated by commas; `strict` adds W, I, N, B, UP, D, ANN, C4 and SIM to the default.
    #[arg(long, value_delimiter = ',', value_name = "CODES", default_value = "E4,E7,E9,F")]
    pub select: Vec<String>,
    /// Exit with 1 if a security finding has at least this severity [default: findings do not change the exit code]
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub fail_on: Option<FailOn>,
    /// Also run the real bandit, radon and ruff, as far as they are on the PATH, print every disagreement to standard error,
    /// and exit with 1 if there is one.
    #[arg(long)]
    pub cross_check: bool,
}

/// Output format of `realign scan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScanFormat {
    /// One line per finding, then totals.
    Table,
    /// All findings and counts as one JSON object.
    Json,
    /// One row per finding.
    Csv,
    /// SARIF 2.1.0, which code hosts and editors read.
    Sarif,
}

/// Lowest severity of a security finding that makes `realign scan` exit with 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Any of low, medium and high.
    Low,
    /// Medium and high, not low.
    Medium,
    /// High, not medium or low.
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

/// What `--select strict` stands for: the default rules and more of Ruff's groups.
const STRICT: [&str; 13] = ["E4", "E7", "E9", "F", "W", "I", "N", "B", "UP", "D", "ANN", "C4", "SIM"];

/// Runs `realign scan` and prints the findings to standard output.
pub fn scan(args: &ScanArgs) -> Result<()> {
    let select = args.select.iter().map(|s| s.trim().to_string()).filter(|s| !s.is_empty());
    let ruff_select =
        select.flat_map(|s| if s == "strict" { STRICT.map(String::from).to_vec() } else { vec![s] }).collect();
    let mut options = ScanOptions { ruff_select, ..ScanOptions::default() };
    check_options(&options)?;
    let real = args.cross_check.then(cross_check::installed).transpose()?;
    if let Some(real) = &real {
        options.fstring_positions = real.fstring_positions();
    }

    let files = files::scan(&files::python_files(&args.paths)?, &options);
    let text = match args.format {
        ScanFormat::Table => forms::table(&files),
        ScanFormat::Json => forms::json(&files, &options)?,
        ScanFormat::Csv => forms::csv(&files),
        ScanFormat::Sarif => sarif::sarif(&files)?,
    };
    // A reader that closed the pipe has seen enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());

    if let Some(real) = &real {
        real.compare(&files, &options)?;
    }
    let Some(least) = args.fail_on.map(FailOn::level) else { return Ok(()) };
    let failing = files.iter().flat_map(forms::findings).filter(|f| f.severity >= least).count();
    if failing > 0 {
        return Err(Error::CheckFailed(format!("{failing} findings of severity {} or above", least.as_str())));
    }
    Ok(())
}
