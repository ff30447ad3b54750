//! Ruff's syntax tree turned into Python's own ([`super::tree`]), fields in `ast`'s order, positions as CPython's.
//!
//! Neighbouring pieces of an implicit concatenation are one constant, as in CPython. Where a literal piece of an
//! f-string stands depends on CPython's version ([`FStringPositions`]).

mod strings;

use ruff_python_ast::{self as ast, Expr, Number, Operator, Pattern, Stmt, Suite, TypeParam};
use ruff_source_file::LineIndex;
use ruff_text_size::{Ranged, TextRange, TextSize};

use super::FStringPositions;
use super::tree::{Arguments, BinOp, CompareOp, Constant, Id, Kind, Node, Position, Tree};

/// Builds the tree of a parsed module.
pub(super) fn lower(body: &Suite, source: &str, positions: FStringPositions) -> Tree {
    let mut lower =
        Lower { source, tree: Tree::default(), lines: LineIndex::from_source_text(source), positions, whole: None };
    let root = lower.open(None);
    let body = lower.suite(body);
    lower.close(root, Kind::Module { body: body.clone() }, body);
    lower.tree
}

struct Lower<'a> {
    source: &'a str,
    tree: Tree,
    lines: LineIndex,
    positions: FStringPositions,
    /// The f-string around, where it gives its pieces their position.
    whole: Option<TextRange>,
}

impl Lower<'_> {
    fn position(&self, range: TextRange) -> Position {
        let line = self.lines.line_index(range.start());
        let start = self.lines.line_starts().get(line.to_zero_indexed()).copied().unwrap_or(TextSize::new(0));
        Position {
            line: line.get() as u32,
            column: u32::from(range.start() - start),
            end_line: self.lines.line_index(range.end()).get() as u32,
        }
    }

    /// Reserves a node, so that parents come before their children in the arena.
    fn open(&mut self, range: Option<TextRange>) -> Id {
        let position = range.map(|r| self.position(r));
        self.tree.push(Node { kind: Kind::Other, parent: None, children: Vec::new(), position, is_statement: false })
    }

    fn close(&mut self, id: Id, kind: Kind, children: Vec<Id>) -> Id {
        for &child in &children {
            self.tree.node_mut(child).parent = Some(id);
        }
        let node = self.tree.node_mut(id);
        node.kind = kind;
        node.children = children;
        id
    }

    fn leaf(&mut self, range: Option<TextRange>, kind: Kind) -> Id {
        let id = self.open(range);
        self.close(id, kind, Vec::new())
    }

    fn suite(&mut self, body: &[Stmt]) -> Vec<Id> {
        body.iter().map(|s| self.stmt(s)).collect()
    }

    fn exprs(&mut self, values: &[Expr]) -> Vec<Id> {
        values.iter().map(|e| self.expr(e)).collect()
    }

    fn option(&mut self, value: Option<&Expr>) -> Option<Id> {
        value.map(|e| self.expr(e))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Id {
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

    fn keywords(&mut self, keywords: &[ast::Keyword]) -> Vec<Id> {
        keywords
            .iter()
            .map(|k| {
                let id = self.open(Some(k.range));
                let value = self.expr(&k.value);
                self.close(id, Kind::Keyword { arg: k.arg.as_ref().map(|a| a.id.to_string()), value }, vec![value])
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

    fn parameters(&mut self, parameters: Option<&ast::Parameters>) -> Id {
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

    fn comprehensions(&mut self, generators: &[ast::Comprehension]) -> Vec<Id> {
        generators
            .iter()
            .map(|g| {
                let id = self.open(None);
                let mut children = vec![self.expr(&g.target), self.expr(&g.iter)];
                children.extend(self.exprs(&g.ifs));
                self.close(id, Kind::Comprehension { ifs: g.ifs.len() }, children)
            })
            .collect()
    }

    fn expr(&mut self, expr: &Expr) -> Id {
        match expr {
            Expr::FString(f) => return self.f_string(f),
            Expr::TString(t) => {
                let id = self.open(Some(t.range));
                let mut children = Vec::new();
                for part in &t.value {
                    children.extend(self.elements(&part.elements));
                }
                return self.close(id, Kind::Other, children);
            }
            _ => {}
        }
        let id = self.open(Some(expr.range()));
        let (kind, children) = match expr {
            Expr::FString(_) | Expr::TString(_) | Expr::IpyEscapeCommand(_) => (Kind::Other, Vec::new()),
            Expr::BoolOp(e) => (Kind::BoolOp { values: e.values.len() }, self.exprs(&e.values)),
            Expr::Named(e) => {
                let target = self.expr(&e.target);
                let value = self.expr(&e.value);
                (Kind::NamedExpr { target, value }, vec![target, value])
            }
            Expr::BinOp(e) => {
                let op = match e.op {
                    Operator::Add => BinOp::Add,
                    Operator::Mod => BinOp::Mod,
                    Operator::Div => BinOp::Div,
                    _ => BinOp::Other,
                };
                let left = self.expr(&e.left);
                let right = self.expr(&e.right);
                (Kind::BinOp { left, op, right }, vec![left, right])
            }
            Expr::UnaryOp(e) => (Kind::Other, vec![self.expr(&e.operand)]),
            Expr::Lambda(e) => {
                let args = self.parameters(e.parameters.as_deref());
                (Kind::Lambda, vec![args, self.expr(&e.body)])
            }
            Expr::If(e) => {
                let test = self.expr(&e.test);
                let body = self.expr(&e.body);
                let orelse = self.expr(&e.orelse);
                (Kind::IfExp { body, orelse }, vec![test, body, orelse])
            }
            Expr::Dict(e) => {
                let keys: Vec<Option<Id>> = e.items.iter().map(|i| self.option(i.key.as_ref())).collect();
                let values: Vec<Id> = e.items.iter().map(|i| self.expr(&i.value)).collect();
                let children = keys.iter().flatten().chain(&values).copied().collect();
                (Kind::Dict { keys, values }, children)
            }
            Expr::Set(e) => {
                let elts = self.exprs(&e.elts);
                (Kind::Set { elts: elts.clone() }, elts)
            }
            Expr::List(e) => {
                let elts = self.exprs(&e.elts);
                (Kind::List { elts: elts.clone() }, elts)
            }
            Expr::Tuple(e) => {
                let elts = self.exprs(&e.elts);
                (Kind::Tuple { elts: elts.clone() }, elts)
            }
            Expr::ListComp(e) => (Kind::Other, self.comprehension(&[&e.elt], &e.generators)),
            Expr::SetComp(e) => (Kind::Other, self.comprehension(&[&e.elt], &e.generators)),
            Expr::Generator(e) => (Kind::Other, self.comprehension(&[&e.elt], &e.generators)),
            Expr::DictComp(e) => {
                let parts: Vec<&Expr> = e.key.as_deref().into_iter().chain([&*e.value]).collect();
                (Kind::Other, self.comprehension(&parts, &e.generators))
            }
            Expr::Await(e) => {
                let value = self.expr(&e.value);
                (Kind::Await { value }, vec![value])
            }
            Expr::Yield(e) => (Kind::Other, self.option(e.value.as_deref()).into_iter().collect()),
            Expr::YieldFrom(e) => (Kind::Other, vec![self.expr(&e.value)]),
            Expr::Compare(e) => {
                let left = self.expr(&e.left);
                let comparators = self.exprs(&e.comparators);
                let operators = e
                    .ops
                    .iter()
                    .map(|op| match op {
                        ast::CmpOp::In => CompareOp::In,
                        ast::CmpOp::NotIn => CompareOp::NotIn,
                        _ => CompareOp::Other,
                    })
                    .collect();
                let children = [left].iter().chain(&comparators).copied().collect();
                (Kind::Compare { left, comparators, operators }, children)
            }
            Expr::Call(e) => {
                let func = self.expr(&e.func);
                let args = self.exprs(&e.arguments.args);
                let keywords = self.keywords(&e.arguments.keywords);
                let children = [func].iter().chain(&args).chain(&keywords).copied().collect();
                (Kind::Call { func, args, keywords }, children)
            }
            Expr::StringLiteral(e) => (Kind::Constant(Constant::Str(e.value.to_str().to_string())), Vec::new()),
            Expr::BytesLiteral(e) => (Kind::Constant(Constant::Bytes(e.value.bytes().collect())), Vec::new()),
            Expr::NumberLiteral(e) => {
                let constant = match &e.value {
                    Number::Int(int) => Constant::Int(int.as_i64()),
                    Number::Float(float) => Constant::Float(*float),
                    Number::Complex { real, imag } => Constant::Complex(*real, *imag),
                };
                (Kind::Constant(constant), Vec::new())
            }
            Expr::BooleanLiteral(e) => (Kind::Constant(Constant::Bool(e.value)), Vec::new()),
            Expr::NoneLiteral(_) => (Kind::Constant(Constant::None), Vec::new()),
            Expr::EllipsisLiteral(_) => (Kind::Constant(Constant::Ellipsis), Vec::new()),
            Expr::Attribute(e) => {
                let value = self.expr(&e.value);
                (Kind::Attribute { value, attr: e.attr.id.to_string() }, vec![value])
            }
            Expr::Subscript(e) => {
                let value = self.expr(&e.value);
                let slice = self.expr(&e.slice);
                (Kind::Subscript { value }, vec![value, slice])
            }
            Expr::Starred(e) => {
                let value = self.expr(&e.value);
                (Kind::Starred { value }, vec![value])
            }
            Expr::Name(e) => (Kind::Name { id: e.id.to_string(), store: e.ctx.is_store() }, Vec::new()),
            Expr::Slice(e) => {
                let parts = [e.lower.as_deref(), e.upper.as_deref(), e.step.as_deref()];
                (Kind::Other, parts.into_iter().flatten().map(|e| self.expr(e)).collect())
            }
        };
        self.close(id, kind, children)
    }

    fn comprehension(&mut self, parts: &[&Expr], generators: &[ast::Comprehension]) -> Vec<Id> {
        let mut children: Vec<Id> = parts.iter().map(|e| self.expr(e)).collect();
        children.extend(self.comprehensions(generators));
        children
    }
}
