//! `R134`: a foreign text is the template of a formatting operation, so its sender chooses what is formatted
//! (`"{0.__class__.__init__.__globals__}"`).
//!
//! Caught: `template.format(x)`, `template.format_map(x)`, `str.format(template, x)` with at least one argument
//! that is no literal; `template % x`; `logger.info(template, x)` and its siblings on something called `log…`.
//! The template is foreign if it is a parameter, `input()`, a part of `request`, or is put together from one.
//!
//! Not caught: a template from a file, a database, an attribute of `self`; `string.Template`, whose placeholders
//! reach no attributes; `logger.info(text)` without arguments, which formats nothing. `%` on a bare name counts only
//! where it must be text: a tuple or dictionary on its right, a `str` annotation, or a name that says so
//! (`template`, `fmt`, `message`, …); otherwise it is taken for arithmetic.

use super::finding;
use super::flow::{Bindings, Flow, Source};
use crate::record::Finding;
use crate::scan::tree::{BinOp, Constant, Id, Kind, Tree};

const LOG_METHODS: [&str; 9] = ["debug", "info", "warning", "warn", "error", "critical", "exception", "fatal", "log"];
const TEXT_WORDS: [&str; 12] = [
    "template", "format", "fmt", "message", "msg", "text", "pattern", "string", "greeting", "layout", "banner", "label",
];
/// A lookup in a table of the program's own templates is not foreign, whatever the key; nothing else is harmless.
const HARMLESS: &[&str] = &[];

/// Findings of this rule in one file.
pub(super) fn run(tree: &Tree, bindings: &Bindings) -> Vec<Finding> {
    let flow = Flow::new(tree, bindings, HARMLESS);
    let hit = |&id: &Id| match tree.kind(id) {
        Kind::Call { func, args, keywords } => call(&flow, *func, args, keywords),
        Kind::BinOp { left, op: BinOp::Mod, right } => is_text(&flow, *left, *right) && is_template(&flow, *left),
        _ => false,
    };
    tree.walk(Tree::ROOT)
        .filter(hit)
        .map(|id| finding(tree, id, "R134", "format_string", 134, "A text from outside is used as a format template."))
        .collect()
}

fn call(flow: &Flow, func: Id, args: &[Id], keywords: &[Id]) -> bool {
    let tree = flow.tree;
    let Kind::Attribute { value, attr } = tree.kind(func) else { return false };
    let value = *value;
    let is_open = |&arg: &Id| !matches!(tree.kind(arg), Kind::Constant(_));
    match attr.as_str() {
        "format" | "format_map" if tree.name(value) == Some("str") => match args {
            [template, rest @ ..] => is_template(flow, *template) && !(rest.is_empty() && keywords.is_empty()),
            [] => false,
        },
        "format" | "format_map" => args.iter().chain(keywords).any(is_open) && is_template(flow, value),
        method if LOG_METHODS.contains(&method) && is_logger(tree, value) => {
            let skip = usize::from(method == "log");
            match args.get(skip..) {
                Some([template, rest @ ..]) => !rest.is_empty() && is_template(flow, *template),
                _ => false,
            }
        }
        _ => false,
    }
}

/// Foreign, and not a plain constant with foreign values in it that were put in as text already.
fn is_template(flow: &Flow, id: Id) -> bool {
    if let Kind::Name { id: name, .. } = flow.tree.kind(id)
        && let Some(Source::Parameter(parameter)) = flow.bindings.resolve(flow.tree, id, name)
    {
        return may_be_text(flow.tree, parameter);
    }
    flow.is_foreign(id)
}

/// A parameter without annotation, or with one that mentions `str`.
fn may_be_text(tree: &Tree, parameter: Id) -> bool {
    let Kind::Arg { annotation, .. } = tree.kind(parameter) else { return false };
    annotation.is_none_or(|annotation| {
        tree.walk(annotation).any(|id| match tree.kind(id) {
            Kind::Name { id, .. } => id == "str" || id == "Any" || id == "AnyStr",
            Kind::Constant(Constant::Str(text)) => text.contains("str"),
            _ => false,
        })
    })
}

fn is_logger(tree: &Tree, id: Id) -> bool {
    let name = tree.last_name(id).or_else(|| tree.called_name(id)).unwrap_or_default().to_lowercase();
    name.trim_start_matches('_').starts_with("log") || name == "getlogger"
}

/// Whether `left % right` formats rather than divides.
fn is_text(flow: &Flow, left: Id, right: Id) -> bool {
    let tree = flow.tree;
    if matches!(tree.kind(right), Kind::Tuple { .. } | Kind::Dict { .. }) {
        return true;
    }
    match tree.kind(left) {
        Kind::JoinedStr { .. } => true,
        Kind::BinOp { op: BinOp::Add, .. } => {
            tree.walk(left).any(|id| tree.str_value(id).is_some() || matches!(tree.kind(id), Kind::JoinedStr { .. }))
        }
        Kind::Call { .. } => flow.bindings.called(tree, left) == Some("input"),
        Kind::Name { id: name, .. } => {
            let word = name.to_lowercase();
            TEXT_WORDS.iter().any(|text| word.contains(text))
                || match flow.bindings.resolve(tree, left, name) {
                    Some(Source::Parameter(parameter)) => match tree.kind(parameter) {
                        Kind::Arg { annotation: Some(_), .. } => may_be_text(tree, parameter),
                        _ => false,
                    },
                    Some(Source::Value(value)) if value != left => is_text(flow, value, right),
                    None | Some(_) => false,
                }
        }
        _ => false,
    }
}
