//! Whether a text nests no deeper than CPython and our own stack bear, found out without parsing it.

use ruff_python_ast::token::TokenKind;
use ruff_python_parser::{Mode, lexer};

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
