//! Expressions, with their keyword arguments and comprehensions.

use ruff_python_ast::{self as ast, Expr, Number, Operator};
use ruff_text_size::Ranged;

use super::Lower;
use crate::scan::tree::{BinOp, CompareOp, Constant, Id, Kind};

impl Lower<'_> {
    pub(super) fn keywords(&mut self, keywords: &[ast::Keyword]) -> Vec<Id> {
        keywords
            .iter()
            .map(|k| {
                let id = self.open(Some(k.range));
                let value = self.expr(&k.value);
                self.close(id, Kind::Keyword { arg: k.arg.as_ref().map(|a| a.id.to_string()), value }, vec![value])
            })
            .collect()
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

    pub(super) fn expr(&mut self, expr: &Expr) -> Id {
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
