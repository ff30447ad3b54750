//! `R022`: a foreign name is joined to a folder and the result is opened, sent or removed unchecked.
//!
//! Caught: `os.path.join(base, name)`, `base / name`, `base.joinpath(name)`, `base + name`, an f-string, `%` or
//! `.format()` with a literal or another value beside the foreign one; directly or through names, `Path()`,
//! `str()`, `normpath()`, `abspath()`, `realpath()`, `.resolve()`; handed to one of [`OPENERS`] or opened by one of
//! its own [`METHODS`].
//!
//! Taken for safe: the name went through `basename()`, `secure_filename()`, `Path(name).name` or `.stem`; the
//! function resolves a path (`resolve`, `realpath`, `abspath`) *and* asks for containment (`is_relative_to`,
//! `relative_to`, `startswith`, `commonpath`, `in ….parents`); or the name is looked up in a table (`name in
//! ALLOWED`), or held against a pattern (`fullmatch`, `match`, `isalnum`, `isidentifier`, `isdigit`).
//! The check is looked for in the same function; whether it guards this path, and on every way, is not asked.
//!
//! Not caught: a path that is returned and opened elsewhere, a foreign path opened without a folder before it,
//! archives (Bandit's B202), a `startswith` on a path that has no trailing separator.

use std::cell::RefCell;
use std::collections::HashMap;

use super::finding;
use super::flow::{Bindings, Flow, Source};
use crate::record::Finding;
use crate::scan::tree::{BinOp, CompareOp, Id, Kind, Tree};

/// Calls that leave only the last part of a path.
const NAME_ONLY: &[&str] = &["basename", "secure_filename", "safe_join", "uuid4", "hexdigest", "slugify"];
/// Functions that take a path and touch the file.
const OPENERS: [&str; 19] = [
    "open",
    "send_file",
    "FileResponse",
    "remove",
    "unlink",
    "rmtree",
    "copy",
    "copy2",
    "copyfile",
    "copytree",
    "move",
    "rename",
    "replace",
    "listdir",
    "scandir",
    "read_csv",
    "savetxt",
    "load_workbook",
    "ZipFile",
];
/// Of them, those that only count as functions of a module or alone: `text.replace(a, b)` is no file operation.
const MODULE_FUNCTIONS: [&str; 9] =
    ["remove", "unlink", "copy", "copy2", "move", "rename", "replace", "listdir", "scandir"];
const FILE_MODULES: [&str; 4] = ["os", "shutil", "io", "codecs"];
/// Methods of a path or an upload that touch the file.
const METHODS: [&str; 8] =
    ["open", "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "rmdir", "iterdir"];
/// Methods of an upload that take the path to write to.
const SAVERS: [&str; 2] = ["save", "save_as"];
/// Calls and attributes that keep a path what it is.
const KEEPS: [&str; 11] = [
    "Path",
    "PurePath",
    "PosixPath",
    "str",
    "normpath",
    "abspath",
    "realpath",
    "expanduser",
    "resolve",
    "absolute",
    "fspath",
];
const RESOLVES: [&str; 3] = ["resolve", "realpath", "abspath"];
const CONTAINS: [&str; 5] = ["is_relative_to", "relative_to", "startswith", "commonpath", "commonprefix"];
const PATTERNS: [&str; 5] = ["fullmatch", "match", "isalnum", "isidentifier", "isdigit"];

/// Findings of this rule in one file.
pub(super) fn run(tree: &Tree, bindings: &Bindings) -> Vec<Finding> {
    let flow = Flow::new(tree, bindings, NAME_ONLY);
    let checked = RefCell::new(HashMap::new());
    let is_checked = |scope: Id| *checked.borrow_mut().entry(scope).or_insert_with(|| is_checked(&flow, scope));
    let hit = |&id: &Id| {
        let Kind::Call { func, args, .. } = tree.kind(id) else { return false };
        let touched = touched_path(&flow, id, *func, args);
        touched.is_some_and(|path| joins_foreign(&flow, path, 0)) && !is_checked(bindings.scope(id))
    };
    let message = "A name from outside is joined to a folder and used without a check that it stays inside.";
    tree.walk(Tree::ROOT).filter(hit).map(|id| finding(tree, id, "R022", "path_traversal", 22, message)).collect()
}

/// The path that a call opens, sends or removes.
fn touched_path(flow: &Flow, call: Id, func: Id, args: &[Id]) -> Option<Id> {
    let called = flow.bindings.called(flow.tree, call)?;
    let receiver = match flow.tree.kind(func) {
        Kind::Attribute { value, .. } => Some(*value),
        _ => None,
    };
    let of_module = receiver.and_then(|r| flow.tree.name(r)).is_some_and(|name| FILE_MODULES.contains(&name));
    match receiver {
        Some(path) if METHODS.contains(&called) && !of_module => return Some(path),
        Some(_) if SAVERS.contains(&called) => return args.first().copied(),
        _ => {}
    }
    let taken = OPENERS.contains(&called)
        && (receiver.is_none() || of_module || !MODULE_FUNCTIONS.contains(&called) && called != "open");
    args.first().copied().filter(|_| taken)
}

/// Whether an expression is a folder joined with a foreign name.
fn joins_foreign(flow: &Flow, id: Id, depth: usize) -> bool {
    // Names may stand for each other in a circle.
    if depth > 30 {
        return false;
    }
    let tree = flow.tree;
    let foreign = |id: Id| flow.is_foreign(id) && !is_name_only(flow, id, 0);
    match tree.kind(id) {
        Kind::Name { id: name, .. } => match flow.bindings.resolve(tree, id, name) {
            Some(Source::Value(value)) if value != id => joins_foreign(flow, value, depth + 1),
            _ => false,
        },
        Kind::NamedExpr { value, .. } => joins_foreign(flow, *value, depth + 1),
        Kind::Call { func, args, .. } => {
            let called = flow.bindings.called(tree, id).unwrap_or_default();
            let receiver = match tree.kind(*func) {
                Kind::Attribute { value, .. } => Some(*value),
                _ => None,
            };
            match called {
                // `", ".join(names)` has one argument, `os.path.join` two or more.
                "join" if args.len() > 1 => args[1..].iter().any(|&arg| foreign(arg)),
                "Path" | "PurePath" | "PosixPath" if args.len() > 1 => args[1..].iter().any(|&arg| foreign(arg)),
                "joinpath" => args.iter().any(|&arg| foreign(arg)),
                "format" => receiver.is_some_and(|r| flow.literal(r).is_some()) && args.iter().any(|&arg| foreign(arg)),
                _ if KEEPS.contains(&called) => {
                    receiver.into_iter().chain(args.first().copied()).any(|part| joins_foreign(flow, part, depth + 1))
                }
                _ => false,
            }
        }
        Kind::BinOp { left, op: BinOp::Div, right } => foreign(*right) || joins_foreign(flow, *left, depth + 1),
        Kind::BinOp { left, op: BinOp::Add, right } => foreign(*right) || joins_foreign(flow, *left, depth + 1),
        Kind::BinOp { left, op: BinOp::Mod, right } => flow.literal(*left).is_some() && foreign(*right),
        Kind::JoinedStr { values } => {
            values.len() > 1
                && values.iter().any(|&value| match tree.kind(value) {
                    Kind::FormattedValue { value } => foreign(*value),
                    _ => false,
                })
        }
        _ => false,
    }
}

/// `Path(name).name`, directly or through a name.
fn is_name_only(flow: &Flow, id: Id, depth: usize) -> bool {
    match flow.tree.kind(id) {
        Kind::Attribute { value, attr } if attr == "name" || attr == "stem" => match flow.tree.kind(*value) {
            Kind::Call { .. } => matches!(flow.bindings.called(flow.tree, *value), Some("Path" | "PurePath")),
            _ => false,
        },
        Kind::Name { id: name, .. } if depth < 30 => match flow.bindings.resolve(flow.tree, id, name) {
            Some(Source::Value(value)) if value != id => is_name_only(flow, value, depth + 1),
            _ => false,
        },
        _ => false,
    }
}

/// Whether the function around the call resolves and compares paths, or holds a foreign name against something.
fn is_checked(flow: &Flow, scope: Id) -> bool {
    let tree = flow.tree;
    let (mut resolves, mut contains) = (false, false);
    for id in tree.walk(scope).filter(|&id| flow.bindings.scope(id) == scope) {
        match tree.kind(id) {
            Kind::Call { func, args, .. } => {
                let called = flow.bindings.called(tree, id).unwrap_or_default();
                resolves |= RESOLVES.contains(&called);
                contains |= CONTAINS.contains(&called);
                if PATTERNS.contains(&called) {
                    let receiver = match tree.kind(*func) {
                        Kind::Attribute { value, .. } => Some(*value),
                        _ => None,
                    };
                    if receiver.into_iter().chain(args.iter().copied()).any(|part| flow.is_foreign(part)) {
                        return true;
                    }
                }
            }
            Kind::Compare { left, comparators, operators } => {
                for (&right, operator) in comparators.iter().zip(operators) {
                    if *operator == CompareOp::Other {
                        continue;
                    }
                    contains |= matches!(tree.kind(right), Kind::Attribute { attr, .. } if attr == "parents");
                    // `name in ALLOWED`, not `".." in name`.
                    if flow.is_foreign(*left) && !flow.is_foreign(right) && tree.str_value(right).is_none() {
                        return true;
                    }
                }
            }
            _ => {}
        }
    }
    resolves && contains
}
