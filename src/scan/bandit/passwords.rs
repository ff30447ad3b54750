//! Passwords written into the code.

use std::sync::LazyLock;

use regex::Regex;

use super::context::Context;
use super::{Issue, On, Rule};
use crate::record::Level::{Low, Medium};
use crate::scan::tree::{Constant, Id, Kind};

pub(super) const RULES: &[Rule] = &[
    Rule { id: "B105", name: "hardcoded_password_string", on: &[On::Str], check: password_string },
    Rule { id: "B106", name: "hardcoded_password_funcarg", on: &[On::Call], check: password_argument },
    Rule { id: "B107", name: "hardcoded_password_default", on: &[On::FunctionDef], check: password_default },
];

/// Python's `$` also matches before a final newline.
static PASSWORD_NAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let word = "(pas+wo?r?d|pass(phrase)?|pwd|token|secrete?)";
    Regex::new(&format!(r"(?i)(^{word}\n?$|_{word}_|^{word}_|_{word}\n?$)")).ok()
});

fn names_password(name: &str) -> bool {
    PASSWORD_NAME.as_ref().is_some_and(|regex| regex.is_match(name))
}

fn report(value: &str) -> Issue {
    Issue::new(Low, Medium, 259, format!("'{value}' may be a password in the code."))
}

fn password_string(context: &Context) -> Option<Issue> {
    let tree = context.tree;
    let text = tree.str_value(context.node)?;
    let parent = tree.parent(context.node)?;
    let named = |id: Id| tree.last_name(id).is_some_and(names_password);
    match tree.kind(parent) {
        Kind::Assign { targets, .. } => targets.iter().any(|&t| named(t)).then(|| report(text)),
        Kind::Dict { keys, values } if names_password(text) => {
            let position = keys.iter().position(|&key| key == Some(context.node))?;
            let Kind::Constant(value) = tree.kind(*values.get(position)?) else { return None };
            Some(report(&display(value)))
        }
        Kind::Subscript { .. } if names_password(text) => match tree.kind(tree.parent(parent)?) {
            Kind::Assign { value, .. } => tree.str_value(*value).map(report),
            _ => None,
        },
        Kind::Compare { left, comparators, .. } if named(*left) => {
            comparators.first().and_then(|&c| tree.str_value(c)).map(report)
        }
        _ => None,
    }
}

fn password_argument(context: &Context) -> Option<Issue> {
    context.keywords().find_map(|(arg, value)| {
        let text = context.tree.str_value(value)?;
        names_password(arg?).then(|| report(text).at(Some(context.tree.line(value))))
    })
}

fn password_default(context: &Context) -> Option<Issue> {
    let tree = context.tree;
    let Kind::FunctionDef { args, .. } = tree.kind(context.node) else { return None };
    let Kind::Arguments(arguments) = tree.kind(*args) else { return None };
    // Bandit pairs the defaults with the last ordinary parameters and forgets positional-only ones.
    let without = arguments.args.len().saturating_sub(arguments.defaults.len());
    arguments.args.iter().skip(without).zip(&arguments.defaults).find_map(|(&arg, &default)| {
        let Kind::Arg { arg, .. } = tree.kind(arg) else { return None };
        let text = tree.str_value(default)?;
        names_password(arg).then(|| report(text))
    })
}

fn display(constant: &Constant) -> String {
    match constant {
        Constant::None => "None".to_string(),
        Constant::Bool(value) => if *value { "True" } else { "False" }.to_string(),
        Constant::Str(text) => text.clone(),
        Constant::Int(Some(int)) => int.to_string(),
        Constant::Float(float) => float.to_string(),
        _ => "...".to_string(),
    }
}
