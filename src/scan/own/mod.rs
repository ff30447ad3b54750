//! Our own three rules, for weaknesses that Bandit has no rule for: `R022`, `R079`, `R134`, numbered by CWE.
//!
//! All three ask where a value comes from ([`flow`]); each file says what its rule catches and what it does not.

mod flow;
mod format_string;
mod path_traversal;
mod raw_html;

use super::tree::{Id, Tree};
use crate::record::{Finding, Level};
use flow::Bindings;

/// All findings of one file, ordered by line, column and id.
pub(super) fn run(tree: &Tree) -> Vec<Finding> {
    let bindings = Bindings::of(tree);
    let mut findings = path_traversal::run(tree, &bindings);
    findings.extend(raw_html::run(tree, &bindings));
    findings.extend(format_string::run(tree, &bindings));
    findings.sort_by(|a, b| (a.line, a.column, &a.id).cmp(&(b.line, b.column, &b.id)));
    findings
}

/// What one of the rules reports, at a node's position.
fn finding(tree: &Tree, node: Id, id: &str, name: &str, cwe: u32, message: &str) -> Finding {
    let position = tree.node(node).position;
    Finding {
        id: id.to_string(),
        test_name: name.to_string(),
        cwe,
        line: position.map_or(0, |p| p.line),
        end_line: position.map_or(0, |p| p.end_line),
        column: position.map_or(0, |p| p.column),
        severity: Level::Medium,
        confidence: Level::Medium,
        message: message.to_string(),
    }
}
