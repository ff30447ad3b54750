//! Whether CPython would compile a file.
//!
//! Three steps, as in CPython: what its tokenizer and its stack refuse ([`super::nesting`], asked before parsing),
//! the grammar (Ruff's parser at the latest Python version), and what its symbol table and compiler
//! refuse in a tree that parses (`return` outside a function, a parameter twice, `await` outside `async def`, …;
//! Ruff's semantic checker, with [`super::scopes`] and what it leaves out added).
//!
//! The verdict is CPython 3.13's. What only 3.14 takes is refused: template strings, and `except A, b:` without
//! parentheses, which in the code of a model is Python 2 rather than 3.14. Not checked: a `def`, `class` or `import` of
//! a name that is declared `global` or `nonlocal` further down; more than 20 loops and `with` blocks within each other;
//! more than 255 targets before a starred one; format specifiers more than two deep; a lone surrogate in a docstring;
//! `x.__debug__ += 1`, which CPython takes.

use std::cell::Cell;

use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{self as ast, Expr, ModModule, PythonVersion, Stmt};
use ruff_python_parser::semantic_errors::SemanticSyntaxChecker;
use ruff_python_parser::{Mode, ParseOptions, Parsed, parse_unchecked};

use super::scopes::{Place, Scope, Scopes};

/// Parses as the latest Python.
pub(super) fn parse(source: &str) -> Option<Parsed<ModModule>> {
    let options = ParseOptions::from(Mode::Module).with_target_version(PythonVersion::latest());
    parse_unchecked(source, options).try_into_module()
}

/// Whether CPython would compile what was parsed.
pub(super) fn is_valid(parsed: &Parsed<ModModule>, source: &str) -> bool {
    if !parsed.has_no_syntax_errors() || source.contains('\0') {
        return false;
    }
    let context =
        Scopes { source, scopes: vec![Scope::new(Place::Module, parsed.suite(), None)], bad: Cell::new(false) };
    let mut checker = Checker { semantic: SemanticSyntaxChecker::new(), context };
    checker.body(parsed.suite());
    !checker.context.bad.get()
}

/// Decimal digits of an integer that CPython converts.
const MAX_DIGITS: usize = 4300;

struct Checker<'a> {
    semantic: SemanticSyntaxChecker,
    context: Scopes<'a>,
}

impl<'a> Checker<'a> {
    fn body(&mut self, body: &'a [Stmt]) {
        for stmt in body {
            self.visit_stmt(stmt);
        }
    }

    fn within(&mut self, scope: Scope<'a>, visit: impl FnOnce(&mut Self)) {
        self.context.scopes.push(scope);
        visit(self);
        self.context.scopes.pop();
    }

    fn looped(&mut self, body: &'a [Stmt]) {
        self.add_loops(1);
        self.body(body);
        self.add_loops(-1);
    }

    fn add_loops(&mut self, by: isize) {
        if let Some(scope) = self.context.scopes.last_mut() {
            scope.loops = scope.loops.saturating_add_signed(by);
        }
    }

    fn star(&mut self, enter: bool) {
        if let Some(scope) = self.context.scopes.last_mut() {
            if enter {
                scope.stars.push(scope.loops);
            } else {
                scope.stars.pop();
            }
        }
    }

    /// What CPython refuses of a statement beyond Ruff's checks.
    fn refuse_stmt(&self, stmt: &Stmt) {
        let scope = self.context.scopes.last();
        let bad = match stmt {
            // A handler for everything must be the last; several exceptions need parentheses.
            Stmt::Try(s) => s.handlers.iter().enumerate().any(|(index, handler)| {
                let ast::ExceptHandler::ExceptHandler(handler) = handler;
                match handler.type_.as_deref() {
                    None => index + 1 < s.handlers.len(),
                    Some(Expr::Tuple(tuple)) => !tuple.parenthesized,
                    Some(_) => false,
                }
            }),
            // No way leads out of `except*` but its end.
            Stmt::Return(_) => scope.is_some_and(|s| !s.stars.is_empty()),
            // `*x` by itself is nothing.
            Stmt::Expr(e) => e.value.is_starred_expr(),
            Stmt::Break(_) | Stmt::Continue(_) => scope.is_some_and(|s| s.stars.last() == Some(&s.loops)),
            _ => false,
        };
        if bad {
            self.context.bad.set(true);
        }
    }

    /// The same of an expression.
    fn refuse_expr(&self, expr: &Expr) {
        let bad = match expr {
            Expr::TString(_) => true,
            Expr::Attribute(e) => e.ctx.is_store() && e.attr.id == "__debug__",
            Expr::FString(e) => {
                e.value.elements().any(|e| e.as_interpolation().is_some_and(|i| i.expression.is_starred_expr()))
            }
            // `sys.get_int_max_str_digits()`; other bases have no limit.
            Expr::NumberLiteral(e) if e.value.is_int() => {
                let text = &self.context.source[e.range];
                text.len() > MAX_DIGITS
                    && text.bytes().all(|b| b.is_ascii_digit() || b == b'_')
                    && text.bytes().filter(u8::is_ascii_digit).count() > MAX_DIGITS
            }
            Expr::Call(e) => {
                e.arguments.keywords.iter().any(|k| k.arg.as_ref().is_some_and(|arg| arg.id == "__debug__"))
            }
            Expr::Name(name) => self.context.scopes.last().is_some_and(|scope| {
                scope
                    .nonlocals
                    .iter()
                    .any(|nonlocal| nonlocal.id == name.id && name.range.start() < nonlocal.range.start())
            }),
            _ => false,
        };
        if bad {
            self.context.bad.set(true);
        }
    }

    /// The first iterable is evaluated outside the comprehension.
    fn comprehension(&mut self, place: Place, parts: &[&'a Expr], generators: &'a [ast::Comprehension]) {
        let Some((first, rest)) = generators.split_first() else { return };
        self.visit_expr(&first.iter);
        self.within(Scope::expression(place), |this| {
            this.visit_expr(&first.target);
            first.ifs.iter().for_each(|e| this.visit_expr(e));
            rest.iter().for_each(|g| this.visit_comprehension(g));
            parts.iter().for_each(|e| this.visit_expr(e));
        });
    }
}

impl<'a> Visitor<'a> for Checker<'a> {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        match stmt {
            Stmt::FunctionDef(f) => {
                f.decorator_list.iter().for_each(|d| self.visit_decorator(d));
                f.type_params.iter().for_each(|t| self.visit_type_params(t));
                self.visit_parameters(&f.parameters);
                f.returns.iter().for_each(|r| self.visit_annotation(r));
                let scope = Scope::new(Place::Function { is_async: f.is_async }, &f.body, Some(&f.parameters));
                let is_nonlocal = |name: &str| scope.nonlocals.iter().any(|nonlocal| nonlocal.id == name);
                if scope.globals.iter().any(|global| f.parameters.includes(global) || is_nonlocal(global)) {
                    self.context.bad.set(true);
                }
                self.within(scope, |this| {
                    this.semantic.visit_stmt(stmt, &this.context);
                    this.body(&f.body);
                });
                return;
            }
            _ => self.semantic.visit_stmt(stmt, &self.context),
        }
        self.refuse_stmt(stmt);
        match stmt {
            Stmt::Try(s) if s.is_star => {
                self.body(&s.body);
                for handler in &s.handlers {
                    self.star(true);
                    self.visit_except_handler(handler);
                    self.star(false);
                }
                self.body(&s.orelse);
                self.body(&s.finalbody);
            }
            Stmt::ClassDef(c) => {
                c.decorator_list.iter().for_each(|d| self.visit_decorator(d));
                c.type_params.iter().for_each(|t| self.visit_type_params(t));
                c.arguments.iter().for_each(|a| self.visit_arguments(a));
                self.within(Scope::new(Place::Class, &c.body, None), |this| this.body(&c.body));
            }
            Stmt::For(s) => {
                self.visit_expr(&s.iter);
                self.visit_expr(&s.target);
                self.looped(&s.body);
                self.body(&s.orelse);
            }
            Stmt::While(s) => {
                self.visit_expr(&s.test);
                self.looped(&s.body);
                self.body(&s.orelse);
            }
            _ => visitor::walk_stmt(self, stmt),
        }
    }

    fn visit_pattern(&mut self, pattern: &'a ast::Pattern) {
        if matches!(pattern, ast::Pattern::MatchValue(p) if p.value.is_f_string_expr()) {
            self.context.bad.set(true);
        }
        visitor::walk_pattern(self, pattern);
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        self.refuse_expr(expr);
        let is_async = |generators: &[ast::Comprehension]| generators.iter().any(|g| g.is_async);
        match expr {
            Expr::ListComp(e) => {
                self.semantic.visit_expr(expr, &self.context);
                self.comprehension(
                    Place::Comprehension { is_async: is_async(&e.generators) },
                    &[&e.elt],
                    &e.generators,
                );
            }
            Expr::SetComp(e) => {
                self.semantic.visit_expr(expr, &self.context);
                self.comprehension(
                    Place::Comprehension { is_async: is_async(&e.generators) },
                    &[&e.elt],
                    &e.generators,
                );
            }
            Expr::DictComp(e) => {
                self.semantic.visit_expr(expr, &self.context);
                let parts: Vec<&Expr> = e.key.as_deref().into_iter().chain([&*e.value]).collect();
                self.comprehension(Place::Comprehension { is_async: is_async(&e.generators) }, &parts, &e.generators);
            }
            Expr::Generator(e) => {
                self.semantic.visit_expr(expr, &self.context);
                self.comprehension(Place::Generator, &[&e.elt], &e.generators);
            }
            Expr::Lambda(e) => {
                self.semantic.visit_expr(expr, &self.context);
                e.parameters.iter().for_each(|p| self.visit_parameters(p));
                let mut scope = Scope::expression(Place::Lambda);
                scope.parameters = e.parameters.as_deref();
                self.within(scope, |this| this.visit_expr(&e.body));
            }
            _ => {
                self.semantic.visit_expr(expr, &self.context);
                visitor::walk_expr(self, expr);
            }
        }
    }
}
