//! Django's `mark_safe` on a text that is not provably a literal (B703).
//!
//! Bandit follows the assignments to a name that stand before the call, and `"…".format(…)` of such names. Where
//! its own code would raise (a tuple target with something else than names in it), the rule falls silent.

use super::context::Context;
use super::{Issue, On, Rule};
use crate::record::Level::{High, Medium};
use crate::scan::tree::{BinOp, Id, Kind, Tree};

pub(super) const RULES: &[Rule] =
    &[Rule { id: "B703", name: "django_mark_safe", on: &[On::Call], check: django_mark_safe }];

/// Bandit's own code raises here, which it swallows.
struct Raised;

/// What a name is assigned in one statement.
enum Assigned {
    Nothing,
    One(Id),
    Many(Vec<Id>),
}

fn django_mark_safe(context: &Context) -> Option<Issue> {
    if !context.imported_like("django.utils.safestring")
        || !["mark_safe", "SafeText", "SafeUnicode", "SafeString", "SafeBytes"].contains(&context.name)
    {
        return None;
    }
    let tree = context.tree;
    let value = *context.args.first()?;
    if tree.str_value(value).is_some() {
        return None;
    }
    let scope = tree
        .ancestors(context.node)
        .find(|&a| matches!(tree.kind(a), Kind::Module { .. } | Kind::FunctionDef { is_async: false, .. }))?;
    let secure = match tree.kind(value) {
        Kind::Name { id, .. } => {
            !is_parameter(tree, scope, id) && variable(tree, id, scope, tree.line(context.node), 0).ok()?
        }
        Kind::Call { .. } => call(tree, value, scope, 0).ok()?,
        Kind::BinOp { left, op: BinOp::Mod, right } if tree.str_value(*left).is_some() => {
            let args = match tree.kind(*right) {
                Kind::Tuple { elts } => elts.clone(),
                _ => vec![*right],
            };
            arguments(tree, args, scope, tree.line(value), 0).ok()?
        }
        _ => false,
    };
    (!secure).then(|| Issue::new(Medium, High, 80, "mark_safe() on a text that is not a literal."))
}

fn is_parameter(tree: &Tree, scope: Id, name: &str) -> bool {
    let Kind::FunctionDef { args, .. } = tree.kind(scope) else { return false };
    let Kind::Arguments(arguments) = tree.kind(*args) else { return false };
    arguments.args.iter().any(|&arg| matches!(tree.kind(arg), Kind::Arg { arg, .. } if arg == name))
}

/// Names that are assigned each other in a circle would never end; Bandit runs into Python's recursion limit.
const DEEPEST: usize = 200;

fn variable(tree: &Tree, name: &str, scope: Id, until: u32, depth: usize) -> Result<bool, Raised> {
    if depth > DEEPEST {
        return Err(Raised);
    }
    if is_parameter(tree, scope, name) {
        return Ok(false);
    }
    let body = match tree.kind(scope) {
        Kind::Module { body } | Kind::FunctionDef { body, .. } => body,
        _ => return Ok(false),
    };
    let mut secure = false;
    for &statement in body {
        if tree.line(statement) >= until {
            break;
        }
        match assigned(tree, statement, name)? {
            Assigned::Nothing => {}
            Assigned::One(value) => match tree.kind(value) {
                _ if tree.str_value(value).is_some() => secure = true,
                Kind::Name { id, .. } => secure = variable(tree, id, scope, tree.line(value), depth + 1)?,
                Kind::Call { .. } => secure = call(tree, value, scope, depth + 1)?,
                _ => return Ok(false),
            },
            Assigned::Many(values) => {
                for value in values {
                    let literal = tree.str_value(value).is_some();
                    let named = match tree.kind(value) {
                        Kind::Name { id, .. } => variable(tree, id, scope, tree.line(statement), depth + 1)?,
                        _ => false,
                    };
                    if !literal && !named {
                        return Ok(false);
                    }
                }
                secure = true;
            }
        }
    }
    Ok(secure)
}

fn call(tree: &Tree, id: Id, scope: Id, depth: usize) -> Result<bool, Raised> {
    let Kind::Call { func, args, keywords } = tree.kind(id) else { return Ok(false) };
    let Kind::Attribute { value, attr } = tree.kind(*func) else { return Ok(false) };
    if !matches!(tree.kind(*value), Kind::Constant(_)) || attr != "format" || !keywords.is_empty() {
        return Ok(false);
    }
    arguments(tree, args.clone(), scope, tree.line(id), depth)
}

fn arguments(tree: &Tree, mut args: Vec<Id>, scope: Id, line: u32, depth: usize) -> Result<bool, Raised> {
    if depth > DEEPEST {
        return Err(Raised);
    }
    let mut next = 0;
    while let Some(&arg) = args.get(next) {
        let secure = match tree.kind(arg) {
            _ if tree.str_value(arg).is_some() => true,
            Kind::Name { id, .. } => variable(tree, id, scope, line, depth + 1)?,
            Kind::Call { .. } => call(tree, arg, scope, depth + 1)?,
            Kind::Starred { value } => match tree.kind(*value) {
                Kind::List { elts } | Kind::Tuple { elts } => {
                    args.extend(elts);
                    true
                }
                _ => false,
            },
            _ => false,
        };
        if !secure {
            return Ok(false);
        }
        next += 1;
    }
    Ok(true)
}

fn assigned(tree: &Tree, id: Id, name: &str) -> Result<Assigned, Raised> {
    let is = |id: Id| tree.name(id) == Some(name);
    Ok(match tree.kind(id) {
        Kind::Expr { value } => assigned(tree, *value, name)?,
        Kind::FunctionDef { body, is_async: false, .. } => collect(tree, &[body], name)?,
        Kind::With { items, body } => {
            // The last item decides, as in Bandit.
            let mut found = Assigned::Nothing;
            for &item in items {
                let Kind::WithItem { vars, .. } = tree.kind(item) else { continue };
                found = if vars.is_some_and(is) { Assigned::One(id) } else { collect(tree, &[body], name)? };
            }
            found
        }
        Kind::Try { star: false, body, handlers, orelse, finalbody } => {
            collect(tree, &[body, handlers, orelse, finalbody], name)?
        }
        Kind::ExceptHandler { body, .. } => collect(tree, &[body], name)?,
        Kind::If { body, orelse, .. } | Kind::For { body, orelse, .. } | Kind::While { body, orelse, .. } => {
            collect(tree, &[body, orelse], name)?
        }
        Kind::AugAssign { target, value } if is(*target) => Assigned::One(*value),
        Kind::Assign { targets, value } => match targets.first().map(|&target| (target, tree.kind(target))) {
            Some((target, Kind::Name { .. })) if is(target) => Assigned::One(*value),
            Some((_, Kind::Tuple { elts })) => match tree.kind(*value) {
                Kind::Tuple { elts: values } => {
                    for (position, &element) in elts.iter().enumerate() {
                        if tree.name(element).ok_or(Raised)? == name {
                            return values.get(position).map(|&v| Assigned::One(v)).ok_or(Raised);
                        }
                    }
                    Assigned::Nothing
                }
                _ => Assigned::Nothing,
            },
            _ => Assigned::Nothing,
        },
        _ => Assigned::Nothing,
    })
}

fn collect(tree: &Tree, blocks: &[&[Id]], name: &str) -> Result<Assigned, Raised> {
    let mut all = Vec::new();
    for &statement in blocks.iter().copied().flatten() {
        match assigned(tree, statement, name)? {
            Assigned::Nothing => {}
            Assigned::One(value) => all.push(value),
            Assigned::Many(values) => all.extend(values),
        }
    }
    Ok(if all.is_empty() { Assigned::Nothing } else { Assigned::Many(all) })
}
