//! Statements that hide mistakes or vanish: `assert`, `exec`, a swallowed exception.

use super::context::Context;
use super::{Issue, On, Rule};
use crate::record::Level::{High, Low, Medium};
use crate::scan::tree::{Id, Kind};

pub(super) const RULES: &[Rule] = &[
    Rule { id: "B101", name: "assert_used", on: &[On::Assert], check: assert_used },
    Rule { id: "B102", name: "exec_used", on: &[On::Call], check: exec_used },
    Rule { id: "B110", name: "try_except_pass", on: &[On::ExceptHandler], check: try_except_pass },
    Rule { id: "B112", name: "try_except_continue", on: &[On::ExceptHandler], check: try_except_continue },
];

fn assert_used(_: &Context) -> Option<Issue> {
    Some(Issue::new(Low, High, 703, "assert is removed when Python compiles to optimised byte code."))
}

fn exec_used(context: &Context) -> Option<Issue> {
    (context.qualname == "exec").then(|| Issue::new(Medium, High, 78, "exec is used."))
}

fn try_except_pass(context: &Context) -> Option<Issue> {
    let only = only_statement(context)?;
    matches!(context.tree.kind(only), Kind::Pass)
        .then(|| Issue::new(Low, High, 703, "An exception is caught and passed over."))
}

fn try_except_continue(context: &Context) -> Option<Issue> {
    let only = only_statement(context)?;
    matches!(context.tree.kind(only), Kind::Continue)
        .then(|| Issue::new(Low, High, 703, "An exception is caught and the loop goes on."))
}

/// The one statement of a handler for everything; a handler for a named exception is left alone.
fn only_statement(context: &Context) -> Option<Id> {
    let Kind::ExceptHandler { type_, body, .. } = context.tree.kind(context.node) else { return None };
    let [only] = body[..] else { return None };
    let everything = type_.is_none_or(|t| context.tree.name(t) == Some("Exception"));
    everything.then_some(only)
}
