//! `R079`: a foreign value is put into HTML text without being escaped.
//!
//! Caught: an f-string, `%`, `.format()` or a chain of `+` in which some literal piece opens or closes an HTML tag
//! (the template may be a name that stands for a literal), and some value put in is foreign and went through none
//! of the escaping functions of [`ESCAPES`].
//!
//! Not caught: HTML that grows over several statements where the piece with the foreign value has no tag in it,
//! templates read from files, markup other than HTML's tags, escaping in one branch only (the last assignment
//! counts). `Markup("…").format()`, `Markup("…") % …` and `format_html()` escape by themselves and are not
//! reported. Where the text goes is not asked.

use std::sync::LazyLock;

use regex::Regex;

use super::finding;
use super::flow::{Bindings, Flow};
use crate::record::Finding;
use crate::scan::tree::{BinOp, Id, Kind, Tree};

/// Calls whose result is safe to put into HTML.
const ESCAPES: &[&str] = &[
    "escape",
    "html_escape",
    "escape_html",
    "conditional_escape",
    "quoteattr",
    "clean",
    "sanitize",
    "sanitize_html",
    "quote",
    "quote_plus",
    "urlencode",
    "Markup",
    "format_html",
    "render_template",
    "b64encode",
    "hexdigest",
];

/// The beginning of a tag that HTML knows; `<file>` in a usage text is none.
static TAG: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let names = "html|head|body|title|meta|link|style|script|div|span|p|h[1-6]|a|b|i|u|s|em|strong|small|mark|ul|ol|li|\
                 dl|dt|dd|table|thead|tbody|tfoot|tr|td|th|caption|form|input|button|select|option|textarea|label|\
                 fieldset|legend|img|iframe|svg|video|audio|canvas|br|hr|pre|code|blockquote|section|article|header|\
                 footer|nav|main|aside|figure|figcaption|details|summary|dialog|object|embed|center|font|cite|time|sup|sub";
    Regex::new(&format!(r"(?i)<!doctype\s+html|</?({names})(\s|/|>|$)")).ok()
});

/// Findings of this rule in one file.
pub(super) fn run(tree: &Tree, bindings: &Bindings) -> Vec<Finding> {
    let flow = Flow::new(tree, bindings, ESCAPES);
    let hit = |&id: &Id| match tree.kind(id) {
        Kind::JoinedStr { values } => {
            // A piece of a longer chain or of another f-string is judged with the whole.
            !is_part_of_chain(tree, id) && joined(&flow, values)
        }
        Kind::BinOp { op: BinOp::Add, .. } => !is_part_of_chain(tree, id) && chained(&flow, id),
        Kind::BinOp { left, op: BinOp::Mod, right } => template(&flow, *left) && flow.is_foreign(*right),
        Kind::Call { func, args, keywords } => match tree.kind(*func) {
            Kind::Attribute { value, attr } if attr == "format" || attr == "format_map" => {
                template(&flow, *value) && args.iter().chain(keywords).any(|&arg| flow.is_foreign(arg))
            }
            _ => false,
        },
        _ => false,
    };
    tree.walk(Tree::ROOT)
        .filter(hit)
        .map(|id| {
            finding(tree, id, "R079", "raw_html", 79, "A value from outside stands in HTML without being escaped.")
        })
        .collect()
}

fn has_tag(text: &str) -> bool {
    text.contains('<') && TAG.as_ref().is_some_and(|regex| regex.is_match(text))
}

fn template(flow: &Flow, id: Id) -> bool {
    match flow.tree.kind(id) {
        Kind::BinOp { op: BinOp::Add, .. } => pieces(flow.tree, id).into_iter().any(|p| template(flow, p)),
        _ => flow.literal(id).is_some_and(has_tag),
    }
}

fn joined(flow: &Flow, values: &[Id]) -> bool {
    let tag = values.iter().filter_map(|&v| flow.tree.str_value(v)).any(has_tag);
    tag && values.iter().any(|&v| flow.is_foreign(v))
}

fn chained(flow: &Flow, id: Id) -> bool {
    let pieces = pieces(flow.tree, id);
    let is_html = |&piece: &Id| match flow.tree.kind(piece) {
        Kind::JoinedStr { values } => values.iter().filter_map(|&v| flow.tree.str_value(v)).any(has_tag),
        _ => flow.literal(piece).is_some_and(has_tag),
    };
    pieces.iter().any(is_html) && pieces.iter().any(|&piece| flow.is_foreign(piece))
}

fn is_part_of_chain(tree: &Tree, id: Id) -> bool {
    tree.parent(id).is_some_and(|parent| matches!(tree.kind(parent), Kind::BinOp { op: BinOp::Add, .. }))
}

/// The operands of a chain of `+`, left to right.
fn pieces(tree: &Tree, id: Id) -> Vec<Id> {
    let mut pieces = Vec::new();
    let mut stack = vec![id];
    while let Some(id) = stack.pop() {
        match tree.kind(id) {
            Kind::BinOp { left, op: BinOp::Add, right } => stack.extend([*right, *left]),
            _ => pieces.push(id),
        }
    }
    pieces
}
