//! Ruff's syntax tree turned into Python's own ([`super::tree`]), fields in `ast`'s order, positions as CPython's.
//!
//! Neighbouring pieces of an implicit concatenation are one constant, as in CPython. Where a literal piece of an
//! f-string stands depends on CPython's version ([`FStringPositions`]).

mod expressions;
mod statements;
mod strings;

use ruff_python_ast::{Expr, Stmt, Suite};
use ruff_source_file::LineIndex;
use ruff_text_size::{TextRange, TextSize};

use super::FStringPositions;
use super::tree::{Id, Kind, Node, Position, Tree};

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
}
