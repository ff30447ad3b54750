//! Statements, with the parameters, handlers and patterns that only they have.

use ruff_python_ast::{self as ast, Expr, Pattern, Stmt, TypeParam};
use ruff_text_size::{Ranged, TextRange, TextSize};

use super::Lower;
use crate::scan::tree::{Arguments, Id, Kind};

impl Lower<'_> {
    pub(super) fn stmt(&mut self, stmt: &Stmt) -> Id {
        let range = match stmt {
            // Ruff counts the decorators in, CPython does not.
            Stmt::FunctionDef(f) if !f.decorator_list.is_empty() => self.after_decorators(&f.decorator_list, f.range),
            Stmt::ClassDef(c) if !c.decorator_list.is_empty() => self.after_decorators(&c.decorator_list, c.range),
            _ => stmt.range(),
        };
        let id = self.open(Some(range));
        self.tree.node_mut(id).is_statement = true;
        let (kind, children) = match stmt {
            Stmt::FunctionDef(f) => return self.function(id, f),
            Stmt::ClassDef(c) => return self.class(id, c),
            Stmt::Return(s) => (Kind::Other, self.option(s.value.as_deref()).into_iter().collect()),
            Stmt::Delete(s) => (Kind::Other, self.exprs(&s.targets)),
            Stmt::TypeAlias(s) => {
                let mut children = vec![self.expr(&s.name)];
                children.extend(self.type_params(s.type_params.as_deref()));
                children.push(self.expr(&s.value));
                (Kind::Other, children)
            }
            Stmt::Assign(s) => {
                let targets = self.exprs(&s.targets);
                let value = self.expr(&s.value);
                let children = targets.iter().copied().chain([value]).collect();
                (Kind::Assign { targets, value }, children)
            }
            Stmt::AugAssign(s) => {
                let target = self.expr(&s.target);
                let value = self.expr(&s.value);
                (Kind::AugAssign { target, value }, vec![target, value])
            }
            Stmt::AnnAssign(s) => {
                let target = self.expr(&s.target);
                let annotation = self.expr(&s.annotation);
                let value = self.option(s.value.as_deref());
                (Kind::AnnAssign { target, value }, [target, annotation].into_iter().chain(value).collect())
            }
            Stmt::For(s) => {
                let target = self.expr(&s.target);
                let iter = self.expr(&s.iter);
                let body = self.suite(&s.body);
                let orelse = self.suite(&s.orelse);
                let children = [target, iter].iter().chain(&body).chain(&orelse).copied().collect();
                (Kind::For { target, iter, body, orelse }, children)
            }
            Stmt::While(s) => {
                let test = self.expr(&s.test);
                let body = self.suite(&s.body);
                let orelse = self.suite(&s.orelse);
                let children = [test].iter().chain(&body).chain(&orelse).copied().collect();
                (Kind::While { body, orelse }, children)
            }
            Stmt::If(s) => return self.if_chain(id, &s.test, &s.body, &s.elif_else_clauses),
            Stmt::With(s) => {
                let items: Vec<Id> = s.items.iter().map(|i| self.with_item(i)).collect();
                let body = self.suite(&s.body);
                let children = items.iter().chain(&body).copied().collect();
                (Kind::With { items, body }, children)
            }
            Stmt::Match(s) => {
                let subject = self.expr(&s.subject);
                let cases: Vec<Id> = s.cases.iter().map(|c| self.match_case(c)).collect();
                let children = [subject].iter().chain(&cases).copied().collect();
                (Kind::Match { cases }, children)
            }
            Stmt::Raise(s) => {
                let exc = self.option(s.exc.as_deref());
                let cause = self.option(s.cause.as_deref());
                (Kind::Other, exc.into_iter().chain(cause).collect())
            }
            Stmt::Try(s) => {
                let body = self.suite(&s.body);
                let handlers: Vec<Id> = s.handlers.iter().map(|h| self.handler(h)).collect();
                let orelse = self.suite(&s.orelse);
                let finalbody = self.suite(&s.finalbody);
                let children = body.iter().chain(&handlers).chain(&orelse).chain(&finalbody).copied().collect();
                (Kind::Try { star: s.is_star, body, handlers, orelse, finalbody }, children)
            }
            Stmt::Assert(s) => {
                let test = self.expr(&s.test);
                let message = self.option(s.msg.as_deref());
                (Kind::Assert, [test].into_iter().chain(message).collect())
            }
            Stmt::Import(s) => {
                let names = self.aliases(&s.names);
                (Kind::Import { names: names.clone() }, names)
            }
            Stmt::ImportFrom(s) => {
                let names = self.aliases(&s.names);
                let module = s.module.as_ref().map(|m| m.id.to_string());
                (Kind::ImportFrom { module, names: names.clone() }, names)
            }
            Stmt::Expr(s) => {
                let value = self.expr(&s.value);
                (Kind::Expr { value }, vec![value])
            }
            Stmt::Pass(_) => (Kind::Pass, Vec::new()),
            Stmt::Continue(_) => (Kind::Continue, Vec::new()),
            Stmt::Global(_) | Stmt::Nonlocal(_) | Stmt::Break(_) | Stmt::IpyEscapeCommand(_) => {
                (Kind::Other, Vec::new())
            }
        };
        self.close(id, kind, children)
    }

    /// From the `def`, `async` or `class` keyword on: the first word after the last decorator.
    fn after_decorators(&self, decorators: &[ast::Decorator], range: TextRange) -> TextRange {
        let Some(last) = decorators.last() else { return range };
        let mut start = usize::from(last.end());
        let mut comment = false;
        for byte in self.source.as_bytes()[start..].iter().take(usize::from(range.end()) - start) {
            match byte {
                b'\n' | b'\r' => comment = false,
                b'#' => comment = true,
                b' ' | b'\t' | b'\x0c' | b'\\' => {}
                _ if comment => {}
                _ => break,
            }
            start += 1;
        }
        TextRange::new(TextSize::new(start as u32), range.end())
    }

    fn function(&mut self, id: Id, f: &ast::StmtFunctionDef) -> Id {
        let args = self.parameters(Some(&f.parameters));
        let body = self.suite(&f.body);
        let decorators: Vec<Id> = f.decorator_list.iter().map(|d| self.expr(&d.expression)).collect();
        let returns = self.option(f.returns.as_deref());
        let type_params = self.type_params(f.type_params.as_deref());
        let mut children = vec![args];
        children.extend(body.iter().chain(&decorators).copied().chain(returns).chain(type_params));
        let name = f.name.id.to_string();
        self.close(id, Kind::FunctionDef { name, is_async: f.is_async, args, body }, children)
    }

    fn class(&mut self, id: Id, c: &ast::StmtClassDef) -> Id {
        let (bases, keywords) = match c.arguments.as_deref() {
            Some(arguments) => (self.exprs(&arguments.args), self.keywords(&arguments.keywords)),
            None => (Vec::new(), Vec::new()),
        };
        let body = self.suite(&c.body);
        let decorators: Vec<Id> = c.decorator_list.iter().map(|d| self.expr(&d.expression)).collect();
        let type_params = self.type_params(c.type_params.as_deref());
        let children: Vec<Id> =
            bases.iter().chain(&keywords).chain(&body).chain(&decorators).chain(&type_params).copied().collect();
        self.close(id, Kind::ClassDef { name: c.name.id.to_string(), body }, children)
    }

    /// `elif` is an `If` inside `orelse`, from its keyword to the end of the whole statement.
    fn if_chain(&mut self, id: Id, test: &Expr, body: &[Stmt], rest: &[ast::ElifElseClause]) -> Id {
        let mut open = vec![(id, self.expr(test), self.suite(body))];
        let mut last = Vec::new();
        let end = rest.last().map(Ranged::end);
        for clause in rest {
            match &clause.test {
                Some(test) => {
                    let range = TextRange::new(clause.start(), end.unwrap_or(clause.end()));
                    let id = self.open(Some(range));
                    self.tree.node_mut(id).is_statement = true;
                    open.push((id, self.expr(test), self.suite(&clause.body)));
                }
                None => last = self.suite(&clause.body),
            }
        }
        let mut orelse = last;
        while let Some((id, test, body)) = open.pop() {
            let children = [test].iter().chain(&body).chain(&orelse).copied().collect();
            self.close(id, Kind::If { body, orelse }, children);
            orelse = vec![id];
        }
        id
    }

    fn with_item(&mut self, item: &ast::WithItem) -> Id {
        let id = self.open(None);
        let context = self.expr(&item.context_expr);
        let vars = self.option(item.optional_vars.as_deref());
        self.close(id, Kind::WithItem { context, vars }, [context].into_iter().chain(vars).collect())
    }

    fn handler(&mut self, handler: &ast::ExceptHandler) -> Id {
        let ast::ExceptHandler::ExceptHandler(h) = handler;
        let id = self.open(Some(h.range));
        let type_ = self.option(h.type_.as_deref());
        let body = self.suite(&h.body);
        let children = type_.iter().chain(&body).copied().collect();
        self.close(id, Kind::ExceptHandler { type_, name: h.name.as_ref().map(|n| n.id.to_string()), body }, children)
    }

    fn aliases(&mut self, names: &[ast::Alias]) -> Vec<Id> {
        names
            .iter()
            .map(|alias| {
                let asname = alias.asname.as_ref().map(|n| n.id.to_string());
                self.leaf(Some(alias.range), Kind::Alias { name: alias.name.id.to_string(), asname })
            })
            .collect()
    }

    fn type_params(&mut self, params: Option<&ast::TypeParams>) -> Vec<Id> {
        let Some(params) = params else { return Vec::new() };
        params
            .type_params
            .iter()
            .map(|p| {
                let id = self.open(Some(p.range()));
                let parts = match p {
                    TypeParam::TypeVar(p) => vec![p.bound.as_deref(), p.default.as_deref()],
                    TypeParam::TypeVarTuple(p) => vec![p.default.as_deref()],
                    TypeParam::ParamSpec(p) => vec![p.default.as_deref()],
                };
                let children = parts.into_iter().flatten().map(|e| self.expr(e)).collect();
                self.close(id, Kind::Other, children)
            })
            .collect()
    }

    fn parameter(&mut self, p: &ast::Parameter, range: TextRange) -> Id {
        let id = self.open(Some(range));
        let annotation = self.option(p.annotation.as_deref());
        let arg = p.name.id.to_string();
        self.close(id, Kind::Arg { arg, annotation }, annotation.into_iter().collect())
    }

    pub(super) fn parameters(&mut self, parameters: Option<&ast::Parameters>) -> Id {
        let id = self.open(None);
        let mut a = Arguments::default();
        if let Some(p) = parameters {
            let one = |this: &mut Self, p: &ast::ParameterWithDefault| this.parameter(&p.parameter, p.parameter.range);
            a.posonlyargs = p.posonlyargs.iter().map(|p| one(self, p)).collect();
            a.args = p.args.iter().map(|p| one(self, p)).collect();
            a.vararg = p.vararg.as_deref().map(|p| self.parameter(p, p.range));
            a.kwonlyargs = p.kwonlyargs.iter().map(|p| one(self, p)).collect();
            a.kw_defaults = p.kwonlyargs.iter().map(|p| self.option(p.default.as_deref())).collect();
            a.kwarg = p.kwarg.as_deref().map(|p| self.parameter(p, p.range));
            a.defaults =
                p.posonlyargs.iter().chain(&p.args).filter_map(|p| self.option(p.default.as_deref())).collect();
        }
        let mut children: Vec<Id> = a.posonlyargs.iter().chain(&a.args).chain(&a.vararg).copied().collect();
        children.extend(a.kwonlyargs.iter().copied().chain(a.kw_defaults.iter().flatten().copied()));
        children.extend(a.kwarg.iter().chain(&a.defaults));
        self.close(id, Kind::Arguments(a), children)
    }

    fn match_case(&mut self, case: &ast::MatchCase) -> Id {
        let id = self.open(None);
        let pattern = self.pattern(&case.pattern);
        let guard = self.option(case.guard.as_deref());
        let body = self.suite(&case.body);
        let children = [pattern].into_iter().chain(guard).chain(body.iter().copied()).collect();
        self.close(id, Kind::MatchCase { pattern, body }, children)
    }

    fn pattern(&mut self, pattern: &Pattern) -> Id {
        let id = self.open(Some(pattern.range()));
        let text = |name: &Option<ast::Identifier>| name.as_ref().map(|n| n.id.to_string());
        let (kind, children) = match pattern {
            Pattern::MatchValue(p) => (Kind::Other, vec![self.expr(&p.value)]),
            Pattern::MatchSingleton(_) => (Kind::Other, Vec::new()),
            Pattern::MatchSequence(p) => (Kind::Other, p.patterns.iter().map(|p| self.pattern(p)).collect()),
            Pattern::MatchOr(p) => (Kind::Other, p.patterns.iter().map(|p| self.pattern(p)).collect()),
            Pattern::MatchMapping(p) => {
                let mut children: Vec<Id> = self.exprs(&p.keys);
                children.extend(p.patterns.iter().map(|p| self.pattern(p)).collect::<Vec<_>>());
                (Kind::MatchBinding { name: text(&p.rest) }, children)
            }
            Pattern::MatchClass(p) => {
                let mut children = vec![self.expr(&p.cls)];
                children.extend(p.arguments.patterns.iter().map(|p| self.pattern(p)).collect::<Vec<_>>());
                children.extend(p.arguments.keywords.iter().map(|k| self.pattern(&k.pattern)).collect::<Vec<_>>());
                (Kind::Other, children)
            }
            Pattern::MatchStar(p) => (Kind::MatchBinding { name: text(&p.name) }, Vec::new()),
            Pattern::MatchAs(p) => {
                let inner = p.pattern.as_deref().map(|p| self.pattern(p));
                (Kind::MatchAs { pattern: inner, name: text(&p.name) }, inner.into_iter().collect())
            }
        };
        self.close(id, kind, children)
    }
}
