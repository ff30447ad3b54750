//! Bandit 1.9.4, rule for rule: its ids, severities, confidences, positions and its way of resolving names.
//!
//! Bandit walks the tree once, field by field, and keeps two things on the way: the set of imported names and a
//! map from local names to what they were imported as. A call's *qualified name* is its dotted text with the map
//! applied; nothing else is known about a name, so a snippet without its imports is judged by its text alone. The
//! rules are in tables, one file per group, each keyed by the node class it is called on; a rule that would raise
//! inside Bandit (which Bandit swallows) reports nothing here.
//!
//! Not Bandit's: `# nosec` is ignored, since a model can write it, and no configuration file is read.

mod blacklist;
mod context;
mod crypto;
mod files;
mod flow;
mod loading;
mod mark_safe;
mod markup;
mod network;
mod passwords;
mod shell;
mod sql;

use std::collections::{HashMap, HashSet};

use super::tree::{Constant, Id, Kind, Tree};
use crate::record::{Finding, Level};
use context::Context;

/// The node classes that rules are called on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Assert,
    Call,
    ExceptHandler,
    /// `def`, not `async def`: Bandit has no visitor for the latter.
    FunctionDef,
    Import,
    /// A string constant that is not a statement by itself.
    Str,
}

/// One rule: Bandit's id, the name it prints, where it looks, and what it does.
struct Rule {
    id: &'static str,
    name: &'static str,
    on: &'static [On],
    check: fn(&Context) -> Option<Issue>,
}

/// What a rule found; where it says nothing the node's own line counts.
struct Issue {
    /// Only the blacklist, one rule with many ids, names its own.
    id: Option<&'static str>,
    severity: Level,
    confidence: Level,
    cwe: u32,
    message: String,
    line: Option<u32>,
}

impl Issue {
    fn new(severity: Level, confidence: Level, cwe: u32, message: impl Into<String>) -> Self {
        Self { id: None, severity, confidence, cwe, message: message.into(), line: None }
    }

    /// Reports at another line than the node's; `None` leaves the node's.
    fn at(mut self, line: Option<u32>) -> Self {
        self.line = line;
        self
    }
}

/// The tables of rules, one per group.
const GROUPS: [&[Rule]; 11] = [
    blacklist::RULES,
    crypto::RULES,
    files::RULES,
    flow::RULES,
    loading::RULES,
    markup::RULES,
    mark_safe::RULES,
    network::RULES,
    passwords::RULES,
    shell::RULES,
    sql::RULES,
];

/// All findings of one file, ordered by line, column and id.
pub(super) fn run(tree: &Tree, source: &str) -> Vec<Finding> {
    let mut imports = HashSet::new();
    let mut aliases = HashMap::new();
    let mut findings = Vec::new();
    for id in tree.walk(Tree::ROOT).skip(1) {
        let (mut qualname, mut parent_lines) = (String::new(), false);
        let on = match tree.kind(id) {
            Kind::Assert => On::Assert,
            Kind::ExceptHandler { .. } => On::ExceptHandler,
            Kind::FunctionDef { is_async: false, .. } => On::FunctionDef,
            Kind::Constant(Constant::Str(_)) if !is_statement(tree, id) => {
                parent_lines = true;
                On::Str
            }
            Kind::Call { func, .. } => {
                qualname = qualified_name(tree, *func, &aliases);
                On::Call
            }
            Kind::Import { names } | Kind::ImportFrom { names, module: None } => {
                import(tree, names, None, &mut imports, &mut aliases);
                On::Import
            }
            Kind::ImportFrom { names, module: Some(module) } => {
                import(tree, names, Some(module), &mut imports, &mut aliases);
                On::Import
            }
            _ => continue,
        };
        let context = Context::new(tree, id, &imports, &qualname);
        let position = tree.node(id).position;
        let end_line = match tree.parent(id) {
            // Bandit reports a string at the lines of the expression around it.
            Some(parent) if parent_lines => last_line(tree, parent),
            _ => position.map_or(0, |p| p.end_line),
        };
        for rule in GROUPS.iter().copied().flatten().filter(|rule| rule.on.contains(&on)) {
            if let Some(issue) = (rule.check)(&context) {
                findings.push(Finding {
                    id: issue.id.unwrap_or(rule.id).to_string(),
                    test_name: rule.name.to_string(),
                    cwe: issue.cwe,
                    line: issue.line.unwrap_or(position.map_or(0, |p| p.line)),
                    end_line,
                    column: position.map_or(0, |p| p.column),
                    severity: issue.severity,
                    confidence: issue.confidence,
                    message: issue.message,
                });
            }
        }
    }
    findings.extend(files::trojan_source(source));
    findings.sort_by(|a, b| (a.line, a.column, &a.id).cmp(&(b.line, b.column, &b.id)));
    findings
}

fn is_statement(tree: &Tree, id: Id) -> bool {
    tree.parent(id).is_some_and(|parent| matches!(tree.kind(parent), Kind::Expr { .. }))
}

/// Books what an import statement binds. `import a.b` adds a module but no alias, as in Bandit.
fn import(
    tree: &Tree,
    names: &[Id],
    module: Option<&str>,
    imports: &mut HashSet<String>,
    aliases: &mut HashMap<String, String>,
) {
    for &id in names {
        let Kind::Alias { name, asname } = tree.kind(id) else { continue };
        let full = module.map_or_else(|| name.clone(), |module| format!("{module}.{name}"));
        match (asname, module) {
            (Some(asname), _) => {
                aliases.insert(asname.clone(), full.clone());
            }
            (None, Some(_)) => {
                aliases.insert(name.clone(), full.clone());
            }
            (None, None) => {}
        }
        imports.insert(full);
    }
}

/// The dotted text of what is called, aliases applied at every step; empty roots leave a leading dot.
fn qualified_name(tree: &Tree, func: Id, aliases: &HashMap<String, String>) -> String {
    let mut attributes = Vec::new();
    let mut base = func;
    while let Kind::Attribute { value, attr } = tree.kind(base) {
        attributes.push(attr);
        base = *value;
    }
    let aliased = |name: String| aliases.get(&name).cloned().unwrap_or(name);
    let mut name = tree.name(base).map(|id| aliased(id.to_string())).unwrap_or_default();
    for attr in attributes.into_iter().rev() {
        name = aliased(format!("{name}.{attr}"));
    }
    name
}

/// The last line of a node; for a class without a position the last line on which a part of its head begins.
fn last_line(tree: &Tree, id: Id) -> u32 {
    let node = tree.node(id);
    if let Some(position) = node.position {
        return position.end_line;
    }
    let body: &[Id] = match &node.kind {
        Kind::MatchCase { body, .. } => body,
        _ => &[],
    };
    let parts = node.children.iter().filter(|child| !body.contains(child));
    parts.flat_map(|&child| tree.walk(child)).map(|id| tree.line(id)).max().unwrap_or(1)
}
