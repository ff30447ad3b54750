//! What makes code readable, counted: docstrings, annotations, length, nesting, names.

use std::collections::BTreeSet;

use super::tree::{Arguments, Id, Kind, Tree};
use crate::record::FileScan;

/// Fills in `functions` to `short_names`.
pub(super) fn measure(tree: &Tree, scan: &mut FileScan) {
    let mut names = BTreeSet::new();
    for id in tree.walk(Tree::ROOT) {
        bind(tree, id, &mut names);
        let Kind::FunctionDef { args, body, .. } = tree.kind(id) else { continue };
        scan.functions += 1;
        scan.docstrings += u32::from(tree.docstring(body).is_some());
        if let Kind::Arguments(arguments) = tree.kind(*args) {
            scan.annotated += u32::from(is_annotated(tree, arguments));
        }
        scan.function_lines += tree.node(id).position.map_or(0, |p| p.end_line - p.line + 1);
        scan.nesting += body.iter().map(|&statement| depth(tree, statement)).max().unwrap_or(0);
    }
    scan.bound_names = names.len() as u32;
    scan.short_names = names.iter().filter(|name| is_short(name)).count() as u32;
}

/// Every parameter has an annotation; `self` and `cls` need none, no parameters at all is fine.
fn is_annotated(tree: &Tree, a: &Arguments) -> bool {
    let all = a.posonlyargs.iter().chain(&a.args).chain(&a.vararg).chain(&a.kwonlyargs).chain(&a.kwarg);
    all.enumerate().all(|(index, &arg)| match tree.kind(arg) {
        Kind::Arg { arg, annotation } => annotation.is_some() || index == 0 && (arg == "self" || arg == "cls"),
        _ => true,
    })
}

/// Compound statements within each other, down to but not into functions and classes; `elif` is no deeper than `if`.
fn depth(tree: &Tree, id: Id) -> u32 {
    let mut deepest = 0;
    let mut stack = vec![(id, 0)];
    while let Some((id, above)) = stack.pop() {
        let here = match tree.kind(id) {
            Kind::FunctionDef { .. } | Kind::ClassDef { .. } => continue,
            Kind::If { .. } if is_elif(tree, id) => above,
            Kind::If { .. }
            | Kind::For { .. }
            | Kind::While { .. }
            | Kind::With { .. }
            | Kind::Try { .. }
            | Kind::Match { .. } => above + 1,
            _ => above,
        };
        deepest = deepest.max(here);
        stack.extend(tree.children(id).iter().map(|&child| (child, here)));
    }
    deepest
}

/// The only statement of the `else` above it, in that `if`'s own column.
fn is_elif(tree: &Tree, id: Id) -> bool {
    let column = |id: Id| tree.node(id).position.map(|p| p.column);
    tree.parent(id).is_some_and(|parent| match tree.kind(parent) {
        Kind::If { orelse, .. } => orelse[..] == [id] && column(parent) == column(id),
        _ => false,
    })
}

/// Names that the author chose: variables, parameters, functions, classes, aliases. Not `self`, `cls`, `_`, and
/// not the imported modules' own names.
fn bind(tree: &Tree, id: Id, names: &mut BTreeSet<String>) {
    let name = match tree.kind(id) {
        Kind::Name { id, store: true } => Some(id),
        Kind::Arg { arg, .. } => Some(arg).filter(|arg| *arg != "self" && *arg != "cls"),
        Kind::FunctionDef { name, .. } | Kind::ClassDef { name, .. } => Some(name),
        Kind::Alias { asname, .. } => asname.as_ref(),
        Kind::ExceptHandler { name, .. } | Kind::MatchAs { name, .. } | Kind::MatchBinding { name } => name.as_ref(),
        _ => None,
    };
    if let Some(name) = name.filter(|name| *name != "_") {
        names.insert(name.clone());
    }
}

const PLACEHOLDERS: [&str; 18] = [
    "foo",
    "bar",
    "baz",
    "qux",
    "quux",
    "spam",
    "eggs",
    "tmp",
    "temp",
    "dummy",
    "placeholder",
    "thing",
    "stuff",
    "blah",
    "asdf",
    "xxx",
    "yyy",
    "zzz",
];
/// Placeholders when only a number follows: `var1`, `func2`.
const NUMBERED: [&str; 6] = ["var", "arg", "param", "func", "function", "value"];

/// One or two letters, or a word that says nothing.
fn is_short(name: &str) -> bool {
    let word = name.trim_matches('_').to_lowercase();
    let stem = word.trim_end_matches(|c: char| c.is_ascii_digit());
    let numbered = stem.len() < word.len() && NUMBERED.contains(&stem.trim_end_matches('_'));
    name.chars().count() <= 2 || PLACEHOLDERS.contains(&stem.trim_end_matches('_')) || numbered
}
