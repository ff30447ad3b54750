//! What the scanners say of one file: an entry of `realign scan --format json`.

use serde::{Deserialize, Serialize};

/// Bandit's three levels, for severity and for confidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Not rated by the rule.
    Undefined,
    /// Bandit's `LOW`.
    Low,
    /// Bandit's `MEDIUM`.
    Medium,
    /// Bandit's `HIGH`.
    High,
}

impl Level {
    /// The word Bandit prints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undefined => "UNDEFINED",
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
        }
    }
}

/// One security finding, of a Bandit-compatible rule or of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// `B608`; our own rules: `R022` (path), `R079` (raw HTML), `R134` (format string), numbered by CWE.
    pub id: String,
    /// Bandit's test name, e.g. `hardcoded_sql_expressions`.
    pub test_name: String,
    /// Number of the weakness in the CWE list, e.g. 89.
    pub cwe: u32,
    /// First line of the code that it is about, from 1.
    pub line: u32,
    /// Last line, from 1, inclusive.
    pub end_line: u32,
    /// First column, from 0, as Bandit's `col_offset`.
    pub column: u32,
    /// How severe the weakness would be.
    pub severity: Level,
    /// How sure the rule is that this is the weakness.
    pub confidence: Level,
    /// What was found, in a sentence.
    pub message: String,
}

/// One Ruff diagnostic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuffFinding {
    /// Code of Ruff's rule, e.g. `F401`.
    pub code: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Ruff's message.
    pub message: String,
}

/// Cyclomatic complexity of one block, as Radon counts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockComplexity {
    /// The function's, method's or class's name.
    pub name: String,
    /// `function`, `method` or `class`.
    pub kind: String,
    /// First line of the block, from 1.
    pub line: u32,
    /// Cyclomatic complexity, at least 1.
    pub value: u32,
}

/// Everything the scanners say of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct FileScan {
    /// As given; empty inside a sample record, which names the file itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Why the file, or a part of it, was not scanned; empty where it was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub not_scanned: String,
    /// Number of physical lines.
    pub lines: u32,
    /// Bandit's `loc`: lines that are neither blank nor a comment alone.
    #[serde(default)]
    pub bandit_loc: u32,
    /// Radon's `sloc`: lines of statements, lone strings left out; `None` where the text does not parse.
    #[serde(default)]
    pub radon_sloc: Option<u32>,
    /// Whether the file parses as Python.
    pub syntax_valid: bool,
    /// Findings of the rules that Bandit has too.
    pub bandit: Vec<Finding>,
    /// Findings of our own rules, which Bandit does not have.
    #[serde(default)]
    pub own_rules: Vec<Finding>,
    /// Ruff's diagnostics on the printed selection.
    pub ruff: Vec<RuffFinding>,
    /// Complexity of each function, method and class.
    pub complexity: Vec<BlockComplexity>,
    /// Number of functions and methods.
    pub functions: u32,
    /// Number of these that have a docstring.
    pub docstrings: u32,
    /// Of them, with every parameter annotated (`self` and `cls` apart).
    pub annotated: u32,
    /// Sum over functions of their physical lines.
    #[serde(default)]
    pub function_lines: u32,
    /// Sum over functions of their deepest nesting.
    #[serde(default)]
    pub nesting: u32,
    /// Number of distinct names that the file binds.
    #[serde(default)]
    pub bound_names: u32,
    /// Of them, one or two letters long or placeholders.
    #[serde(default)]
    pub short_names: u32,
}
