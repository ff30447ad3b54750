//! The scopes around a node, as far as CPython's compiler asks about them.

use std::cell::Cell;

use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{self as ast, Expr, Parameters, PythonVersion, Stmt};
use ruff_python_parser::semantic_errors::{LazyImportContext, SemanticSyntaxContext, SemanticSyntaxError};
use ruff_text_size::TextRange;

/// What kind of code a scope holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Module,
    Class,
    Function { is_async: bool },
    Lambda,
    Generator,
    Comprehension { is_async: bool },
}

/// One scope: its code, its parameters, what it declares.
pub(super) struct Scope<'a> {
    pub place: Place,
    pub body: &'a [Stmt],
    pub parameters: Option<&'a Parameters>,
    pub globals: Vec<&'a ast::Identifier>,
    pub nonlocals: Vec<&'a ast::Identifier>,
    pub loops: usize,
    /// For each `except*` around: the loops around that.
    pub stars: Vec<usize>,
}

impl<'a> Scope<'a> {
    pub fn new(place: Place, body: &'a [Stmt], parameters: Option<&'a Parameters>) -> Self {
        let mut names = OwnNames::default();
        names.visit_body(body);
        Self { body, parameters, globals: names.globals, nonlocals: names.nonlocals, ..Self::expression(place) }
    }

    pub fn expression(place: Place) -> Self {
        Self {
            place,
            body: &[],
            parameters: None,
            globals: Vec::new(),
            nonlocals: Vec::new(),
            loops: 0,
            stars: Vec::new(),
        }
    }
}

/// The scopes around the node that is checked, innermost last.
pub(super) struct Scopes<'a> {
    pub source: &'a str,
    pub scopes: Vec<Scope<'a>>,
    pub bad: Cell<bool>,
}

impl Scopes<'_> {
    fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.scopes.iter().rev().map(|scope| scope.place)
    }

    fn innermost(&self) -> Place {
        self.places().next().unwrap_or(Place::Module)
    }
}

impl SemanticSyntaxContext for Scopes<'_> {
    fn future_annotations_or_stub(&self) -> bool {
        false
    }

    fn lazy_import_context(&self) -> Option<LazyImportContext> {
        None
    }

    fn python_version(&self) -> PythonVersion {
        PythonVersion::PY313
    }

    fn source(&self) -> &str {
        self.source
    }

    fn global(&self, name: &str) -> Option<TextRange> {
        let scope = self.scopes.last()?;
        scope.globals.iter().find(|global| global.id == name).map(|global| global.range)
    }

    fn has_nonlocal_binding(&self, name: &str) -> bool {
        let outer = self.scopes.iter().rev().skip(1);
        // A class gives its methods this one name without binding it.
        if name == "__class__" && outer.clone().any(|scope| scope.place == Place::Class) {
            return true;
        }
        outer.filter(|scope| matches!(scope.place, Place::Function { .. } | Place::Lambda)).any(|scope| {
            let mut names = OwnNames::default();
            names.visit_body(scope.body);
            scope.parameters.is_some_and(|p| p.includes(name)) || names.bound.contains(&name)
        })
    }

    fn in_async_context(&self) -> bool {
        for place in self.places() {
            match place {
                Place::Function { is_async } => return is_async,
                Place::Lambda | Place::Class | Place::Module => return false,
                Place::Generator | Place::Comprehension { .. } => {}
            }
        }
        false
    }

    fn in_await_allowed_context(&self) -> bool {
        for place in self.places() {
            match place {
                Place::Class => return false,
                Place::Function { .. } | Place::Lambda | Place::Generator => return true,
                Place::Comprehension { .. } | Place::Module => {}
            }
        }
        false
    }

    fn in_yield_allowed_context(&self) -> bool {
        matches!(self.innermost(), Place::Function { .. } | Place::Lambda)
    }

    fn in_sync_comprehension(&self) -> bool {
        self.places().any(|place| place == Place::Comprehension { is_async: false })
    }

    fn in_class_body_comprehension(&self) -> bool {
        let around = self.places().find(|p| !matches!(p, Place::Generator | Place::Comprehension { .. }));
        around == Some(Place::Class)
    }

    fn in_module_scope(&self) -> bool {
        self.innermost() == Place::Module
    }

    fn in_function_scope(&self) -> bool {
        matches!(self.innermost(), Place::Function { .. } | Place::Lambda)
    }

    fn in_generator_context(&self) -> bool {
        self.places().any(|place| place == Place::Generator)
    }

    fn in_notebook(&self) -> bool {
        false
    }

    fn report_semantic_error(&self, _: SemanticSyntaxError) {
        self.bad.set(true);
    }

    fn in_loop_context(&self) -> bool {
        self.scopes.last().is_some_and(|scope| scope.loops > 0)
    }

    fn is_bound_parameter(&self, name: &str) -> bool {
        self.scopes.last().is_some_and(|s| {
            matches!(s.place, Place::Function { .. }) && s.parameters.is_some_and(|p| p.includes(name))
        })
    }
}

/// What a body binds and declares itself, functions and classes inside it apart.
#[derive(Default)]
struct OwnNames<'a> {
    bound: Vec<&'a str>,
    globals: Vec<&'a ast::Identifier>,
    nonlocals: Vec<&'a ast::Identifier>,
}

impl<'a> Visitor<'a> for OwnNames<'a> {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        match stmt {
            Stmt::FunctionDef(f) => self.bound.push(&f.name.id),
            Stmt::ClassDef(c) => self.bound.push(&c.name.id),
            Stmt::Global(g) => self.globals.extend(&g.names),
            Stmt::Nonlocal(n) => self.nonlocals.extend(&n.names),
            _ => visitor::walk_stmt(self, stmt),
        }
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        match expr {
            Expr::Name(name) if !name.ctx.is_load() => self.bound.push(&name.id),
            Expr::Lambda(_) => {}
            _ => visitor::walk_expr(self, expr),
        }
    }

    /// A comprehension is a scope: its targets are bound in it alone.
    fn visit_comprehension(&mut self, comprehension: &'a ast::Comprehension) {
        self.visit_expr(&comprehension.iter);
        comprehension.ifs.iter().for_each(|e| self.visit_expr(e));
    }

    fn visit_alias(&mut self, alias: &'a ast::Alias) {
        let name: &str = alias.asname.as_ref().map_or(&alias.name.id, |asname| &asname.id);
        self.bound.push(name.split('.').next().unwrap_or(name));
    }

    fn visit_except_handler(&mut self, handler: &'a ast::ExceptHandler) {
        let ast::ExceptHandler::ExceptHandler(h) = handler;
        self.bound.extend(h.name.iter().map(|name| name.id.as_str()));
        visitor::walk_except_handler(self, handler);
    }

    fn visit_pattern(&mut self, pattern: &'a ast::Pattern) {
        let name = match pattern {
            ast::Pattern::MatchAs(p) => &p.name,
            ast::Pattern::MatchStar(p) => &p.name,
            ast::Pattern::MatchMapping(p) => &p.rest,
            _ => &None,
        };
        self.bound.extend(name.iter().map(|name| name.id.as_str()));
        visitor::walk_pattern(self, pattern);
    }
}
