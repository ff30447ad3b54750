//! Markup that is not escaped: Jinja2, Mako, MarkupSafe.

use std::collections::VecDeque;

use super::context::Context;
use super::{Issue, On, Rule};
use crate::record::Level::{High, Medium};
use crate::scan::tree::{Constant, Id, Kind};

pub(super) const RULES: &[Rule] = &[
    Rule { id: "B701", name: "jinja2_autoescape_false", on: &[On::Call], check: jinja2_autoescape },
    Rule { id: "B702", name: "use_of_mako_templates", on: &[On::Call], check: mako_template },
    Rule { id: "B704", name: "markupsafe_markup_xss", on: &[On::Call], check: markup },
];

fn jinja2_autoescape(context: &Context) -> Option<Issue> {
    if !context.qualname_has("jinja2") || context.name != "Environment" {
        return None;
    }
    let tree = context.tree;
    let Some(value) = first_autoescape(context) else {
        return Some(Issue::new(High, High, 94, "Jinja2 does not escape unless autoescape is set."));
    };
    let is = |word: &str, constant: bool| {
        tree.name(value) == Some(word)
            || matches!(tree.kind(value), Kind::Constant(Constant::Bool(b)) if *b == constant)
    };
    if is("False", false) {
        return Some(Issue::new(High, High, 94, "Jinja2 with autoescape=False does not escape."));
    }
    if is("True", true) || tree.called_name(value) == Some("select_autoescape") {
        return None;
    }
    Some(Issue::new(High, Medium, 94, "Jinja2 with an autoescape that cannot be seen through."))
}

/// The value of the first `autoescape=` at or below the call, level by level as Bandit walks.
fn first_autoescape(context: &Context) -> Option<Id> {
    let mut queue = VecDeque::from([context.node]);
    while let Some(id) = queue.pop_front() {
        match context.tree.kind(id) {
            Kind::Keyword { arg, value } if arg.as_deref() == Some("autoescape") => return Some(*value),
            _ => queue.extend(context.tree.children(id)),
        }
    }
    None
}

fn mako_template(context: &Context) -> Option<Issue> {
    (context.qualname_has("mako") && context.name == "Template")
        .then(|| Issue::new(Medium, High, 80, "Mako templates do not escape by themselves."))
}

fn markup(context: &Context) -> Option<Issue> {
    let first = *context.args.first()?;
    let marks = matches!(context.qualname, "markupsafe.Markup" | "flask.Markup");
    (marks && !matches!(context.tree.kind(first), Kind::Constant(_)))
        .then(|| Issue::new(Medium, High, 79, format!("{} marks a built text as safe.", context.qualname)))
}
