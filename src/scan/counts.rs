//! Lines, by three definitions that differ: physical lines, Bandit's `loc` and Radon's `sloc`.

use ruff_python_ast::ModModule;
use ruff_python_ast::token::TokenKind;
use ruff_python_parser::Parsed;
use ruff_text_size::{Ranged, TextRange};

/// Physical lines: a last one without its newline counts.
pub(super) fn physical_lines(source: &str) -> u32 {
    source.lines().count() as u32
}

/// Bandit's `loc`: lines that are neither blank nor a comment alone. It reads no Python, so lines inside of strings are
/// judged alike.
pub(super) fn bandit_loc(source: &str) -> u32 {
    // Bandit splits bytes, where a lone carriage return ends a line too.
    let lines = source.split(['\n', '\r']).map(str::trim_ascii);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).count() as u32
}

/// Radon's `sloc`: lines that are not blank and belong to a statement other than a lone string (a docstring, mostly).
pub(super) fn radon_sloc(parsed: &Parsed<ModModule>, source: &str) -> u32 {
    let mut left_out: Vec<TextRange> = Vec::new();
    let (mut tokens, mut string) = (0, TextRange::default());
    for token in parsed.tokens() {
        match token.kind() {
            TokenKind::Newline | TokenKind::EndOfFile => {
                if tokens == 1 && !string.is_empty() {
                    left_out.push(string);
                }
                (tokens, string) = (0, TextRange::default());
            }
            TokenKind::Comment if tokens == 0 => left_out.push(token.range()),
            // Behind a string it makes the line one of code, as Radon has it.
            TokenKind::Comment => tokens += 1,
            TokenKind::NonLogicalNewline | TokenKind::Indent | TokenKind::Dedent => {}
            kind => {
                tokens += 1;
                if kind == TokenKind::String {
                    string = token.range();
                }
            }
        }
    }
    let mut left_out = left_out.into_iter().peekable();
    let (mut count, mut start) = (0, 0);
    for line in source.split_inclusive('\n') {
        let text = start + (line.len() - line.trim_start().len());
        while left_out.next_if(|range| range.end().to_usize() <= text).is_some() {}
        let inside = left_out.peek().is_some_and(|range| range.start().to_usize() <= text);
        count += u32::from(!line.trim().is_empty() && !inside);
        start += line.len();
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `radon raw` and `bandit -f json` say these numbers of the same text.
    #[test]
    fn each_tool_counts_lines_in_its_own_way() {
        let source = "#!/bin/python\n'''Doc.\n\n# more\n'''\n\nx = [\n    # inside\n    1,\n\n]  # end\n'lone'\n'lone' # not\n\
                      def f():\n    \"doc\"\n    return '''\n# text\n'''\n# last";
        let parsed = ruff_python_parser::parse_unchecked_source(source, ruff_python_ast::PySourceType::Python);
        assert_eq!(physical_lines(source), 19);
        assert_eq!(bandit_loc(source), 11);
        assert_eq!(radon_sloc(&parsed, source), 9);
    }
}
