//! Radon 6.0.1's cyclomatic complexity, block by block as `radon cc -s` lists them.
//!
//! A function counts 1 and each decision in its own body: `if`, `elif`, a conditional expression, `for` and
//! `while` (and their `else`), an `except` (and the `else` of its `try`), `assert`, each further operand of
//! `and` / `or`, each `for` and `if` of a comprehension, each `case` (a last `_` apart). Functions within it are
//! not counted and not listed; what stands inside an `assert`, a decorator or a default is not looked at. A class
//! is the truncated mean of its methods' share, plus one where it has several.

use super::tree::{Id, Kind, Tree};
use crate::record::BlockComplexity;

/// The blocks, most complex first and otherwise functions before classes, each class before its methods.
pub(super) fn blocks(tree: &Tree) -> Vec<BlockComplexity> {
    let module = visit(tree, Tree::ROOT);
    let mut blocks: Vec<BlockComplexity> = module.functions.iter().map(|f| f.block("function")).collect();
    for class in &module.classes {
        blocks.push(class.block());
        blocks.extend(class.methods.iter().map(|m| m.block("method")));
    }
    blocks.sort_by_key(|block| std::cmp::Reverse(block.value));
    blocks
}

struct Function {
    name: String,
    line: u32,
    complexity: u32,
}

impl Function {
    fn block(&self, kind: &str) -> BlockComplexity {
        BlockComplexity { name: self.name.clone(), kind: kind.to_string(), line: self.line, value: self.complexity }
    }
}

struct Class {
    name: String,
    line: u32,
    real_complexity: u32,
    methods: Vec<Function>,
}

impl Class {
    fn block(&self) -> BlockComplexity {
        let methods = self.methods.len() as u32;
        let value = match methods {
            0 => self.real_complexity,
            _ => self.real_complexity / methods + u32::from(methods > 1),
        };
        BlockComplexity { name: self.name.clone(), kind: "class".to_string(), line: self.line, value }
    }
}

/// What lies under a node, functions and classes apart.
#[derive(Default)]
struct Found {
    decisions: u32,
    functions: Vec<Function>,
    classes: Vec<Class>,
}

/// Walks down to, but not into, functions and classes.
fn visit(tree: &Tree, id: Id) -> Found {
    let mut found = Found::default();
    let mut stack = vec![id];
    while let Some(id) = stack.pop() {
        let node = tree.node(id);
        found.decisions += match &node.kind {
            Kind::FunctionDef { name, body, .. } => {
                let decisions: u32 = body.iter().map(|&s| visit(tree, s).decisions).sum();
                found.functions.push(Function { name: name.clone(), line: tree.line(id), complexity: 1 + decisions });
                continue;
            }
            Kind::ClassDef { name, body, .. } => {
                found.classes.push(class(tree, name, tree.line(id), body));
                continue;
            }
            Kind::Assert => {
                found.decisions += 1;
                continue;
            }
            Kind::Try { star: false, handlers, orelse, .. } => handlers.len() as u32 + u32::from(!orelse.is_empty()),
            Kind::BoolOp { values } => (*values as u32).saturating_sub(1),
            Kind::If { .. } | Kind::IfExp { .. } => 1,
            Kind::Match { cases } => {
                // Radon takes any capture without a pattern, `_` or a name, for the `else`.
                let open = cases.iter().any(|&case| match tree.kind(case) {
                    Kind::MatchCase { pattern, .. } => {
                        matches!(tree.kind(*pattern), Kind::MatchAs { pattern: None, .. })
                    }
                    _ => false,
                });
                (cases.len() as u32).saturating_sub(u32::from(open))
            }
            Kind::For { orelse, .. } | Kind::While { orelse, .. } => 1 + u32::from(!orelse.is_empty()),
            Kind::Comprehension { ifs } => 1 + *ifs as u32,
            _ => 0,
        };
        stack.extend(node.children.iter().rev());
    }
    found
}

fn class(tree: &Tree, name: &str, line: u32, body: &[Id]) -> Class {
    let mut real_complexity = 1;
    let mut methods = Vec::new();
    for &statement in body {
        let found = visit(tree, statement);
        real_complexity += found.decisions + found.functions.iter().map(|f| f.complexity).sum::<u32>();
        methods.extend(found.functions);
    }
    Class { name: name.to_string(), line, real_complexity, methods }
}
