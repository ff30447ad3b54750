//! Whether a value comes from outside: a function's parameter, `input()`, `sys.argv`, a web framework's `request`.
//!
//! A name stands for its last assignment above the use in the same function (or, without one, for the parameter,
//! then for the surrounding scopes); a loop variable for what it runs over. A value stays foreign through
//! attributes, subscripts, operators, f-strings, its own methods and the functions of [`PASS_ON`]; any other call
//! gives a value of the program's own. Numbers made by `int`, `float`, `len`, `round` and parameters annotated as
//! numbers are harmless.
//!
//! Not followed: branches (the last assignment counts, whichever branch it is in), attributes of `self`, fields of
//! objects, values that travel through another function of the file.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::scan::tree::{Constant, Id, Kind, Tree};

/// Calls whose result is as foreign as their arguments.
const PASS_ON: [&str; 30] = [
    "str",
    "repr",
    "bytes",
    "list",
    "tuple",
    "set",
    "dict",
    "sorted",
    "reversed",
    "enumerate",
    "zip",
    "format",
    "join",
    "joinpath",
    "Path",
    "PurePath",
    "normpath",
    "abspath",
    "realpath",
    "expanduser",
    "expandvars",
    "unquote",
    "unquote_plus",
    "loads",
    "decode",
    "encode",
    "cast",
    "filter",
    "iter",
    "next",
];
/// Calls that give a number.
const NUMBERS: [&str; 6] = ["int", "float", "len", "round", "bool", "ord"];
/// Annotations that stand for one.
const NUMERIC_TYPES: [&str; 6] = ["int", "float", "bool", "complex", "Decimal", "UUID"];
/// What a web framework's `request` holds of its sender's.
const REQUEST_PARTS: [&str; 16] = [
    "args",
    "form",
    "json",
    "values",
    "data",
    "cookies",
    "headers",
    "files",
    "GET",
    "POST",
    "query_params",
    "body",
    "get_json",
    "params",
    "query",
    "match_info",
];

/// A binding of a name: by which node, and to what.
struct Binding {
    at: Id,
    value: Id,
}

/// Every scope's bindings, in the order of the text.
pub(super) struct Bindings<'t> {
    scope_of: Vec<Id>,
    assigned: HashMap<(Id, &'t str), Vec<Binding>>,
    /// Variables of comprehensions, which live inside them only.
    comprehended: HashMap<(Id, &'t str), Vec<Binding>>,
    parameters: HashMap<(Id, &'t str), Id>,
    /// `esc` of `from html import escape as esc`.
    imported: HashMap<&'t str, &'t str>,
}

impl<'t> Bindings<'t> {
    /// Collects them in one pass: a parent stands before its children in the tree.
    pub fn of(tree: &'t Tree) -> Self {
        let mut bindings = Self {
            scope_of: vec![Tree::ROOT; tree.len()],
            assigned: HashMap::new(),
            comprehended: HashMap::new(),
            parameters: HashMap::new(),
            imported: HashMap::new(),
        };
        for id in 0..tree.len() {
            if let Some(parent) = tree.parent(id) {
                bindings.scope_of[id] = match tree.kind(parent) {
                    // Decorators and the return annotation belong to the scope outside, which no rule asks about.
                    Kind::FunctionDef { .. } | Kind::Lambda => parent,
                    _ => bindings.scope_of[parent],
                };
            }
            match tree.kind(id) {
                Kind::Assign { targets, value } => targets.iter().for_each(|&t| bindings.bind(tree, id, t, *value)),
                Kind::AnnAssign { target, value: Some(value) } => bindings.bind(tree, id, *target, *value),
                Kind::AugAssign { target, .. } => bindings.bind(tree, id, *target, id),
                Kind::NamedExpr { target, value } => bindings.bind(tree, id, *target, *value),
                Kind::For { target, iter, .. } => bindings.bind(tree, id, *target, *iter),
                Kind::WithItem { context, vars: Some(vars) } => bindings.bind(tree, id, *vars, *context),
                Kind::Comprehension { .. } => {
                    if let [target, iter, ..] = tree.children(id)[..] {
                        bindings.bind(tree, id, target, iter);
                    }
                }
                Kind::Alias { name, asname: Some(asname) } => {
                    bindings.imported.insert(asname, name.rsplit('.').next().unwrap_or(name));
                }
                Kind::Arg { arg, .. } if arg != "self" && arg != "cls" => {
                    let scope = bindings.scope_of[id];
                    bindings.parameters.insert((scope, arg), id);
                }
                _ => {}
            }
        }
        bindings
    }

    fn bind(&mut self, tree: &'t Tree, at: Id, target: Id, value: Id) {
        let scope = self.scope_of[at];
        let map = match tree.kind(at) {
            Kind::Comprehension { .. } => &mut self.comprehended,
            _ => &mut self.assigned,
        };
        for id in tree.walk(target) {
            if let Kind::Name { id: name, store: true } = tree.kind(id) {
                map.entry((scope, name)).or_default().push(Binding { at, value });
            }
        }
    }

    /// The function around a node, or the module.
    pub fn scope(&self, id: Id) -> Id {
        self.scope_of[id]
    }

    /// What a name stands for at a use: the nearest binding above it, else a parameter, scope by scope outwards.
    pub fn resolve(&self, tree: &Tree, usage: Id, name: &str) -> Option<Source> {
        let statement = statement_of(tree, usage);
        let mut scope = self.scope_of[usage];
        let mut own = true;
        loop {
            let comprehended = self.comprehended.get(&(scope, name)).into_iter().flatten();
            let inside =
                |binding: &&Binding| tree.parent(binding.at).is_some_and(|c| tree.ancestors(usage).any(|a| a == c));
            if let Some(binding) = comprehended.rev().find(inside) {
                return Some(Source::Value(binding.value));
            }
            if let Some(bindings) = self.assigned.get(&(scope, name)) {
                // The whole of an outer scope may have run by now.
                let above = if own { bindings.partition_point(|b| b.at < usage) } else { bindings.len() };
                let done = |b: &&Binding| !own || b.at < statement || encloses(tree, b.at, usage);
                if let Some(binding) = bindings[..above].iter().rev().find(done) {
                    return Some(Source::Value(binding.value));
                }
            }
            if let Some(&parameter) = self.parameters.get(&(scope, name)) {
                return Some(Source::Parameter(parameter));
            }
            if scope == Tree::ROOT {
                return None;
            }
            scope = tree.parent(scope).map_or(Tree::ROOT, |parent| self.scope_of[parent]);
            own = false;
        }
    }

    /// What a call calls, by its original name.
    pub fn called<'a>(&'a self, tree: &'a Tree, call: Id) -> Option<&'a str> {
        let name = tree.called_name(call)?;
        Some(self.imported.get(name).copied().unwrap_or(name))
    }
}

/// Where a name's value comes from.
pub(super) enum Source {
    Value(Id),
    Parameter(Id),
}

/// A `for` or `with` binds for the statements inside it, though not for its own head.
fn encloses(tree: &Tree, binding: Id, usage: Id) -> bool {
    match tree.kind(binding) {
        Kind::For { iter, .. } => {
            tree.ancestors(usage).any(|a| a == binding) && usage != *iter && !tree.ancestors(usage).any(|a| a == *iter)
        }
        Kind::NamedExpr { .. } => binding < usage && !tree.ancestors(usage).any(|a| a == binding),
        _ => false,
    }
}

/// The statement that a node belongs to; for a head (`for x in HERE:`) the compound one.
fn statement_of(tree: &Tree, id: Id) -> Id {
    std::iter::once(id).chain(tree.ancestors(id)).find(|&id| tree.node(id).is_statement).unwrap_or(id)
}

/// Asks one question of many expressions: is this foreign, given the calls that make a value harmless?
pub(super) struct Flow<'t> {
    pub tree: &'t Tree,
    pub bindings: &'t Bindings<'t>,
    harmless: &'static [&'static str],
    known: RefCell<HashMap<Id, bool>>,
}

impl<'t> Flow<'t> {
    /// `harmless` names the calls (last component) after which the value can do no harm in this rule's context.
    pub fn new(tree: &'t Tree, bindings: &'t Bindings<'t>, harmless: &'static [&'static str]) -> Self {
        Self { tree, bindings, harmless, known: RefCell::new(HashMap::new()) }
    }

    /// Whether an expression's value comes from outside.
    pub fn is_foreign(&self, id: Id) -> bool {
        if let Some(&known) = self.known.borrow().get(&id) {
            return known;
        }
        // Names that stand for each other in a circle (a loop) bring nothing new.
        self.known.borrow_mut().insert(id, false);
        let foreign = self.look(id);
        self.known.borrow_mut().insert(id, foreign);
        foreign
    }

    fn look(&self, id: Id) -> bool {
        let tree = self.tree;
        let any = |ids: &[Id]| ids.iter().any(|&id| self.is_foreign(id));
        match tree.kind(id) {
            Kind::Name { id: name, .. } => match self.bindings.resolve(tree, id, name) {
                Some(Source::Value(value)) => self.is_foreign(value),
                Some(Source::Parameter(parameter)) => !self.is_number(parameter),
                None => false,
            },
            Kind::Attribute { value, attr } => {
                let root = tree.name(*value);
                let sent = root == Some("request") && REQUEST_PARTS.contains(&attr.as_str());
                let typed = root == Some("sys") && attr == "argv";
                sent || typed || self.is_foreign(*value)
            }
            Kind::Call { func, args, keywords } => {
                let called = self.bindings.called(tree, id).unwrap_or_default();
                if self.harmless.contains(&called) || NUMBERS.contains(&called) {
                    return false;
                }
                if called == "input" {
                    return true;
                }
                let own = matches!(tree.kind(*func), Kind::Attribute { .. }) && self.is_foreign(*func);
                own || PASS_ON.contains(&called) && (any(args) || any(keywords))
            }
            Kind::Subscript { value, .. }
            | Kind::Starred { value }
            | Kind::Await { value }
            | Kind::FormattedValue { value }
            | Kind::Keyword { value, .. }
            | Kind::NamedExpr { value, .. } => self.is_foreign(*value),
            // `x += y` is what x was, and y.
            Kind::AugAssign { target, value } => self.is_foreign(*value) || self.was_foreign(id, *target),
            Kind::BinOp { left, right, .. } => self.is_foreign(*left) || self.is_foreign(*right),
            Kind::IfExp { body, orelse } => self.is_foreign(*body) || self.is_foreign(*orelse),
            Kind::BoolOp { .. } => any(tree.children(id)),
            Kind::JoinedStr { values } => any(values),
            Kind::List { elts } | Kind::Tuple { elts } | Kind::Set { elts } => any(elts),
            Kind::Dict { values, .. } => any(values),
            // A comprehension is as foreign as what it yields.
            Kind::Other if tree.children(id).iter().any(|&c| matches!(tree.kind(c), Kind::Comprehension { .. })) => {
                tree.children(id)
                    .iter()
                    .any(|&c| !matches!(tree.kind(c), Kind::Comprehension { .. }) && self.is_foreign(c))
            }
            _ => false,
        }
    }

    fn was_foreign(&self, statement: Id, target: Id) -> bool {
        let Some(name) = self.tree.name(target) else { return false };
        match self.bindings.resolve(self.tree, statement, name) {
            Some(Source::Value(value)) if value != statement => self.is_foreign(value),
            Some(Source::Parameter(parameter)) => !self.is_number(parameter),
            _ => false,
        }
    }

    fn is_number(&self, parameter: Id) -> bool {
        match self.tree.kind(parameter) {
            Kind::Arg { annotation: Some(annotation), .. } => {
                self.tree.last_name(*annotation).is_some_and(|name| NUMERIC_TYPES.contains(&name))
            }
            _ => false,
        }
    }

    /// The literal text that an expression is or that its name stands for.
    pub fn literal(&self, id: Id) -> Option<&'t str> {
        match self.tree.kind(id) {
            Kind::Constant(Constant::Str(text)) => Some(text),
            Kind::Name { id: name, .. } => match self.bindings.resolve(self.tree, id, name)? {
                Source::Value(value) if value != id => self.tree.str_value(value),
                _ => None,
            },
            _ => None,
        }
    }
}
