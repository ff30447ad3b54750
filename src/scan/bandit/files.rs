//! File modes, temporary folders, archives, and characters that reorder what a reader sees.

use super::context::{Context, Literal};
use super::{Issue, On, Rule};
use crate::record::Finding;
use crate::record::Level::{High, Low, Medium};
use crate::scan::tree::{Id, Kind};

pub(super) const RULES: &[Rule] = &[
    Rule { id: "B103", name: "set_bad_file_permissions", on: &[On::Call], check: bad_permissions },
    Rule { id: "B108", name: "hardcoded_tmp_directory", on: &[On::Str], check: temporary_folder },
    Rule { id: "B202", name: "tarfile_unsafe_members", on: &[On::Call], check: unsafe_members },
];

/// Writable or executable for others, writable or executable for the group.
const PERMISSIVE: i64 = 0o033;
const OTHERS_MAY_WRITE: i64 = 0o002;

fn bad_permissions(context: &Context) -> Option<Issue> {
    if !context.name.contains("chmod") || context.args.len() != 2 {
        return None;
    }
    let Literal::Int(Some(mode)) = context.arg(1) else { return None };
    if mode & PERMISSIVE == 0 {
        return None;
    }
    let severity = if mode & OTHERS_MAY_WRITE != 0 { High } else { Medium };
    let file = match context.arg(0) {
        Literal::Nothing => "a file".to_string(),
        file => file.display(),
    };
    Some(Issue::new(severity, High, 732, format!("chmod gives {file} the permissive mode 0o{mode:o}.")))
}

fn temporary_folder(context: &Context) -> Option<Issue> {
    let text = context.tree.str_value(context.node)?;
    let temporary = ["/tmp", "/var/tmp", "/dev/shm"].iter().any(|folder| text.starts_with(folder));
    temporary.then(|| Issue::new(Medium, Medium, 377, "A temporary folder is named in the code."))
}

fn unsafe_members(context: &Context) -> Option<Issue> {
    if !context.imported("tarfile") || !context.name.contains("extractall") {
        return None;
    }
    let first = |name: &str| context.keywords().find(|(arg, _)| *arg == Some(name)).map(|(_, value)| value);
    let is_data = |value: Id| context.tree.str_value(value) == Some("data");
    if first("filter").is_some_and(is_data) {
        return None;
    }
    let Some(members) = first("members") else {
        return Some(Issue::new(High, High, 22, "extractall() writes wherever the archive says."));
    };
    match context.tree.kind(members) {
        // Bandit looks for a plain name here and fails on anything else.
        Kind::Call { func, .. } => {
            let name = context.tree.name(*func)?;
            Some(Issue::new(Low, Low, 22, format!("extractall() relies on {name}() to drop dangerous members.")))
        }
        _ => Some(Issue::new(Medium, Medium, 22, "extractall() with members that cannot be seen through.")),
    }
}

/// In the order in which Bandit looks for them.
const BIDIRECTIONAL: [char; 10] = [
    '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}',
    '\u{200f}',
];

/// The first bidirectional control character of a file (B613); the column is 1-based and counts characters.
pub(super) fn trojan_source(source: &str) -> Option<Finding> {
    for (index, line) in python_lines(source).enumerate() {
        for char in BIDIRECTIONAL {
            if let Some(column) = line.chars().position(|c| c == char) {
                let line = index as u32 + 1;
                return Some(Finding {
                    id: "B613".to_string(),
                    test_name: "trojansource".to_string(),
                    cwe: 838,
                    line,
                    end_line: line,
                    column: column as u32 + 1,
                    severity: High,
                    confidence: Medium,
                    message: format!("A bidirectional control character, {}.", char.escape_unicode()),
                });
            }
        }
    }
    None
}

/// `str.splitlines`, which also ends a line at form feeds and Unicode separators.
fn python_lines(source: &str) -> impl Iterator<Item = &str> {
    const ENDS: [char; 10] = ['\n', '\r', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut rest = source;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(ENDS).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        let ending = if after.starts_with("\r\n") { 2 } else { after.chars().next().map_or(0, char::len_utf8) };
        rest = &after[ending..];
        Some(line)
    })
}
