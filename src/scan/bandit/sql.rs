//! SQL put together from strings, and Django's two ways around its query builder.

use std::sync::LazyLock;

use regex::Regex;

use super::context::Context;
use super::{Issue, On, Rule};
use crate::record::Level::{Low, Medium};
use crate::scan::tree::{Id, Kind, Tree};

pub(super) const RULES: &[Rule] = &[
    Rule { id: "B608", name: "hardcoded_sql_expressions", on: &[On::Str], check: sql_expressions },
    Rule { id: "B610", name: "django_extra_used", on: &[On::Call], check: django_extra },
    Rule { id: "B611", name: "django_rawsql_used", on: &[On::Call], check: django_raw_sql },
];

/// Bandit's test for "this looks like SQL". Python's `\s` also takes the four ASCII separators 1C–1F.
static SQL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let space = r"[\s\x1c-\x1f]";
    let open = r"[\s\x1c-\x1f(]";
    Regex::new(&format!(
        "(?is)(select{space}.*from{space}|delete{space}+from{space}|insert{space}+into{space}.*values{open}|update{space}.*set{space})"
    ))
    .ok()
});

/// CPython gives up on a syntax tree deeper than this, so Bandit never sees a longer chain; following one for each
/// of its strings would take quadratic time.
const DEEPEST_CHAIN: usize = 3_000;

fn sql_expressions(context: &Context) -> Option<Issue> {
    let (statement, executed) = built_statement(context.tree, context.node)?;
    if !SQL.as_ref()?.is_match(&statement) {
        return None;
    }
    let confidence = if executed { Medium } else { Low };
    Some(Issue::new(Medium, confidence, 89, "An SQL query is put together from strings."))
}

/// The text that a string is part of, and whether the result goes straight to `execute`; `None` for a plain string.
fn built_statement(tree: &Tree, node: Id) -> Option<(String, bool)> {
    let parent = tree.parent(node)?;
    match tree.kind(parent) {
        Kind::BinOp { .. } => {
            let (root, statement) = concatenation(tree, node, parent)?;
            Some((statement, is_execute(tree, tree.parent(root)?)))
        }
        Kind::Attribute { attr, .. } if attr == "format" || attr == "replace" => {
            let wrapper = tree.parent(tree.parent(parent)?)?;
            Some((tree.str_value(node)?.to_string(), attr == "format" && is_execute(tree, wrapper)))
        }
        Kind::JoinedStr { values } => {
            let mut texts = values.iter().filter(|&&v| tree.str_value(v).is_some());
            if texts.next() != Some(&node) {
                return None;
            }
            let statement = values.iter().filter_map(|&v| tree.str_value(v)).collect();
            Some((statement, is_execute(tree, tree.parent(parent)?)))
        }
        _ => None,
    }
}

/// The strings of a chain of operators joined by blanks: this one, then the others in order, except those that
/// hang on the same operator as this one (Bandit stops there).
fn concatenation(tree: &Tree, node: Id, stop: Id) -> Option<(Id, String)> {
    let mut root = node;
    let mut climbed = 0;
    while let Some(parent) = tree.parent(root).filter(|&p| matches!(tree.kind(p), Kind::BinOp { .. })) {
        root = parent;
        climbed += 1;
    }
    let mut texts = vec![tree.str_value(node)?];
    let mut stack = vec![root];
    let mut seen = 0;
    while let Some(id) = stack.pop() {
        seen += 1;
        if climbed > DEEPEST_CHAIN || seen > 2 * DEEPEST_CHAIN {
            return None;
        }
        match tree.kind(id) {
            Kind::BinOp { left, right, .. } if id != stop => stack.extend([*right, *left]),
            Kind::BinOp { .. } => {}
            _ => texts.extend(tree.str_value(id)),
        }
    }
    Some((root, texts.join(" ")))
}

fn is_execute(tree: &Tree, wrapper: Id) -> bool {
    matches!(tree.called_name(wrapper), Some("execute" | "executemany"))
}

fn django_extra(context: &Context) -> Option<Issue> {
    if context.name != "extra" {
        return None;
    }
    let find = |name: &str, position: usize| {
        let keyword = context.keywords().filter(|(arg, _)| *arg == Some(name)).last().map(|(_, value)| value);
        context.args.get(position).copied().or(keyword)
    };
    let is_text = |id: &Id| context.tree.str_value(*id).is_some();
    let list_of_text = |id: Id| match context.tree.kind(id) {
        Kind::List { elts } => elts.iter().all(is_text),
        _ => false,
    };
    let dict_of_text = |id: Id| match context.tree.kind(id) {
        Kind::Dict { keys, values } => {
            keys.iter().all(|key| key.as_ref().is_some_and(is_text)) && values.iter().all(is_text)
        }
        _ => false,
    };
    let safe = find("where", 1).is_none_or(list_of_text)
        && find("tables", 3).is_none_or(list_of_text)
        && find("select", 0).is_none_or(dict_of_text);
    (!safe).then(|| Issue::new(Medium, Medium, 89, "extra() takes SQL that is not a literal."))
}

fn django_raw_sql(context: &Context) -> Option<Issue> {
    if !context.imported_like("django.db.models") || context.name != "RawSQL" {
        return None;
    }
    let keyword = || context.keywords().filter(|(arg, _)| *arg == Some("sql")).last().map(|(_, value)| value);
    let sql = context.args.first().copied().or_else(keyword)?;
    let literal = context.tree.str_value(sql).is_some();
    (!literal).then(|| Issue::new(Medium, Medium, 89, "RawSQL takes SQL that is not a literal."))
}
