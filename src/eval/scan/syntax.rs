//! Whether CPython would compile a file.
//!
//! Three steps, as in CPython: what its tokenizer and its stack refuse (too many brackets, indents, nested
//! operators), the grammar (Ruff's parser at the latest Python version), and what its symbol table and compiler
//! refuse in a tree that parses (`return` outside a function, a parameter twice, `await` outside `async def`, …;
//! Ruff's semantic checker, with the scopes that it asks for kept here, and what it leaves out added).
//!
//! The verdict is CPython 3.13's. What only 3.14 takes is refused: template strings, and `except A, b:` without
//! parentheses, which in the code of a model is Python 2 rather than 3.14. Not checked: an integer of more than
//! 4 300 digits; a `def`, `class` or `import` of a name that is declared `global` or `nonlocal` further down.

use std::cell::Cell;

use ruff_python_ast::token::TokenKind;
use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{self as ast, Expr, ModModule, Parameters, PythonVersion, Stmt};
use ruff_python_parser::semantic_errors::{
    LazyImportContext, SemanticSyntaxChecker, SemanticSyntaxContext, SemanticSyntaxError,
};
use ruff_python_parser::{Mode, ParseOptions, Parsed, lexer, parse_unchecked};
use ruff_text_size::TextRange;

/// Brackets within brackets that CPython takes.
const MAX_BRACKETS: usize = 200;
/// Indentation levels that CPython takes.
const MAX_INDENTS: usize = 100;
/// Operators within operators. CPython raises `RecursionError` (or `MemoryError`) between 3 000 (3.11) and some
/// 10 000 (3.13); the scanners recurse as deep as the tree, on a stack made for this.
pub(super) const MAX_DEPTH: usize = 6_000;

/// Whether the text nests no deeper than CPython and our stack bear. Counts tokens, so nothing recurses.
pub(super) fn is_shallow(source: &str, max_depth: usize) -> bool {
    let mut lexer = lexer::lex(source, Mode::Module);
    let mut indents = 0;
    // Operators since the last comma, for every open bracket; lambdas nest through commas.
    let mut open = vec![(0, 0)];
    let mut total = 0;
    loop {
        match lexer.next_token() {
            TokenKind::EndOfFile => return true,
            TokenKind::Indent => indents += 1,
            TokenKind::Dedent => indents -= 1,
            TokenKind::Newline => {
                open.clear();
                open.push((0, 0));
                total = 0;
            }
            TokenKind::Lpar | TokenKind::Lsqb | TokenKind::Lbrace => {
                total += 1;
                if let Some(last) = open.last_mut() {
                    last.0 += 1;
                }
                open.push((0, 0));
            }
            TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace if open.len() > 1 => {
                let (operators, lambdas) = open.pop().unwrap_or_default();
                total -= operators + lambdas;
            }
            TokenKind::Comma => {
                if let Some((operators, _)) = open.last_mut() {
                    total -= std::mem::take(operators);
                }
            }
            TokenKind::Lambda => {
                total += 1;
                if let Some(last) = open.last_mut() {
                    last.1 += 1;
                }
            }
            kind if kind.is_operator() || kind.is_keyword() => {
                total += 1;
                if let Some(last) = open.last_mut() {
                    last.0 += 1;
                }
            }
            _ => {}
        }
        if open.len() > MAX_BRACKETS + 1 || indents >= MAX_INDENTS as i64 || total > max_depth {
            return false;
        }
    }
}

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

/// What kind of code a scope holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Module,
    Class,
    Function { is_async: bool },
    Lambda,
    Generator,
    Comprehension { is_async: bool },
}

struct Scope<'a> {
    place: Place,
    body: &'a [Stmt],
    parameters: Option<&'a Parameters>,
    globals: Vec<&'a ast::Identifier>,
    nonlocals: Vec<&'a ast::Identifier>,
    loops: usize,
    /// For each `except*` around: the loops around that.
    stars: Vec<usize>,
}

impl<'a> Scope<'a> {
    fn new(place: Place, body: &'a [Stmt], parameters: Option<&'a Parameters>) -> Self {
        let mut names = OwnNames::default();
        names.visit_body(body);
        Self { body, parameters, globals: names.globals, nonlocals: names.nonlocals, ..Self::expression(place) }
    }

    fn expression(place: Place) -> Self {
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
struct Scopes<'a> {
    source: &'a str,
    scopes: Vec<Scope<'a>>,
    bad: Cell<bool>,
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
            Expr::Attribute(e) => !e.ctx.is_load() && e.attr.id == "__debug__",
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
