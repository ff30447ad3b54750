//! The fenced and indented blocks of a Markdown text, as far as code is looked for in them: fences in lists and quotes,
//! behind zero-width characters and behind a sentence. Where a block ends is left to the reader, since a line of
//! backticks may belong to a string inside the code: the places where it could end are gone through one by one.

/// Zero-width characters that models put before marks.
pub(super) const ZERO_WIDTH: [char; 6] = ['\u{200b}', '\u{200c}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{ad}'];

const BLANKS: [char; 4] = [' ', '\t', '\u{a0}', '\u{3000}'];

/// The opening of a fenced block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fence<'a> {
    /// The mark, e.g. three backticks.
    mark: &'a str,
    /// The whole label, e.g. `python title="app.py"`.
    pub label: &'a str,
    /// A sentence on the same line before the mark.
    pub sentence: &'a str,
    container: Container,
}

/// A place where a fenced block could end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End<'a> {
    /// Index of the line with the mark.
    pub line: usize,
    /// Code in front of the mark on the same line: `return 1` and three backticks.
    pub tail: Option<&'a str>,
}

/// A line's opening mark, and what follows it.
fn mark(line: &str) -> Option<(&str, &str)> {
    let first = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = line.bytes().take_while(|b| char::from(*b) == first).count();
    (length >= 3).then(|| line.split_at(length))
}

/// The containers (list items, quotes) around a line that opens a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Container {
    quotes: usize,
    /// Whether nothing stands between a quote mark and the text.
    tight: bool,
    /// Columns; a tab counts as four.
    indent: usize,
}

fn columns(blank: &str) -> usize {
    blank.chars().map(|c| if c == '\t' { 4 } else { usize::from(!ZERO_WIDTH.contains(&c)) }).sum()
}

impl Container {
    /// Takes quote marks, list markers and indent off a line; gives what is left and what it stood in.
    fn enter(line: &str) -> (Self, &str) {
        let (mut inside, mut rest) = (Self::default(), line);
        loop {
            let bare = rest.trim_start_matches(|c| BLANKS.contains(&c) || ZERO_WIDTH.contains(&c));
            let shift = columns(&rest[..rest.len() - bare.len()]);
            if let Some(quoted) = bare.strip_prefix('>') {
                inside = Self { quotes: inside.quotes + 1, tight: !quoted.starts_with(' '), indent: 0 };
                rest = quoted.strip_prefix(' ').unwrap_or(quoted);
            } else if let Some((width, behind)) = list_marker(bare).filter(|(_, behind)| mark(behind).is_some()) {
                inside.indent += shift + width;
                rest = behind;
            } else {
                inside.indent += shift;
                return (inside, bare);
            }
        }
    }

    /// The same taken off a line further down, as far as it is there.
    fn strip(self, line: &str) -> &str {
        let mut rest = line;
        for _ in 0..self.quotes {
            let Some(quoted) = rest.trim_start_matches(BLANKS).strip_prefix('>') else { break };
            rest = if self.tight { quoted } else { quoted.strip_prefix(' ').unwrap_or(quoted) };
        }
        let mut left = self.indent;
        while let Some(c) = rest.chars().next().filter(|c| left > 0 && BLANKS.contains(c)) {
            left = left.saturating_sub(if c == '\t' { 4 } else { 1 });
            rest = &rest[c.len_utf8()..];
        }
        rest
    }
}

/// `- `, `* `, `+ `, `1. `, `1) `: its width, and what stands behind it.
fn list_marker(line: &str) -> Option<(usize, &str)> {
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let length = match digits {
        0 => usize::from(line.starts_with(['-', '*', '+'])),
        1..=3 => digits + usize::from(line[digits..].starts_with(['.', ')'])),
        _ => 0,
    };
    if length == 0 || length == digits {
        return None;
    }
    let behind = line[length..].trim_start_matches([' ', '\t']);
    let width = line.len() - behind.len();
    (width > length).then_some((width, behind))
}

/// The block that a line opens.
pub(super) fn fence(line: &str) -> Option<Fence<'_>> {
    let (container, bare) = Container::enter(line);
    let clean = |label: &'_ str| -> bool { !label.contains('`') };
    if let Some((mark, label)) = mark(bare) {
        let opens = mark.starts_with('~') || clean(label);
        return opens.then(|| Fence { mark, label: label.trim(), sentence: "", container });
    }
    // Three quotes are a fence to some models, where a label says so.
    for quotes in ["'''", "\"\"\""] {
        if bare.strip_prefix(quotes).is_some_and(|label| matches!(label.trim(), "python" | "Python" | "py" | "python3"))
        {
            return Some(Fence { mark: quotes, label: bare[3..].trim(), sentence: "", container });
        }
    }
    // Behind a sentence: `Here it is: ` and the mark with its label, or with nothing if a colon stands before it.
    let at = bare.find("```")?;
    let (sentence, (mark, label)) = (&bare[..at], mark(&bare[at..])?);
    let labelled = label.starts_with(|c: char| c.is_ascii_alphabetic());
    let opens =
        clean(label) && label.split_whitespace().count() <= 1 && (labelled || sentence.trim_end().ends_with(':'));
    (opens && !sentence.contains(['`', '"', '\'', '#'])).then(|| Fence {
        mark,
        label: label.trim(),
        sentence,
        container: Container::default(),
    })
}

impl<'a> Fence<'a> {
    /// The same, where the block's first line is indented less than its mark.
    pub fn fitted(mut self, first: &str) -> Self {
        let mut outer = self.container;
        outer.indent = 0;
        let line = outer.strip(first);
        let indent = columns(&line[..line.len() - line.trim_start_matches(BLANKS).len()]);
        self.container.indent = self.container.indent.min(indent);
        self
    }

    /// A line of the block without the marks of the containers around it.
    pub fn strip(&self, line: &'a str) -> &'a str {
        self.container.strip(line)
    }

    /// Whether the block could end in this line of it, already stripped.
    pub fn end(&self, index: usize, line: &'a str) -> Option<End<'a>> {
        let trimmed = line.trim().trim_matches(ZERO_WIDTH).trim_start();
        if let Some(behind) = trimmed.strip_prefix(self.mark) {
            let first = &self.mark[..1];
            let behind = behind.trim_start_matches(first);
            // Prose behind the mark, where it cannot be the label of a block that opens here.
            let prose = behind.starts_with(' ') && behind.trim().contains(' ') && !behind.contains(first);
            return (behind.is_empty() || prose).then_some(End { line: index, tail: None });
        }
        // A mark at a line's end closes too, unless the line holds other marks.
        let tail = line.trim_end().strip_suffix(self.mark).filter(|tail| !tail.contains(&self.mark[..1]))?;
        (!tail.trim().is_empty()).then_some(End { line: index, tail: Some(tail.trim_end()) })
    }
}

/// Runs of lines indented by four or more with a blank line or the text's edge around them, or below a directive of
/// reStructuredText, without their common indent.
pub(super) fn indented_blocks(lines: &[&str]) -> Vec<String> {
    let is_blank = |line: &str| line.trim().is_empty();
    let (mut blocks, mut at, mut least) = (Vec::new(), 0, 4);
    while at < lines.len() {
        let line = lines[at];
        if !is_blank(line) && !line.starts_with([' ', '\t']) {
            let directive = line.strip_prefix(".. ").is_some_and(|rest| rest.contains("code") && rest.contains("::"));
            least = if directive { 2 } else { 4 };
        }
        let is_deep = |line: &str| columns(&line[..line.len() - line.trim_start_matches([' ', '\t']).len()]) >= least;
        if is_blank(line) || !is_deep(line) || !(at == 0 || is_blank(lines[at - 1])) {
            at += 1;
            continue;
        }
        let length = lines[at..].iter().take_while(|line| is_blank(line) || is_deep(line)).count();
        let block = lines[at..at + length].join("\n");
        blocks.push(format!("{}\n", dedented(&block).trim_end()));
        at += length;
    }
    blocks
}

/// A text without the indent that all its lines share.
pub(super) fn dedented(text: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let common = text.lines().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    let lines: Vec<&str> = text.lines().map(|line| line.get(common..).unwrap_or_default()).collect();
    if common == 0 { text.to_string() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_block_in_a_list_or_a_quote_loses_what_it_stands_in() {
        for (text, code) in [
            ("- ```py\n  x = 1\n  ```", "x = 1"),
            ("1. ```py\n     x = 1\n   ```", "  x = 1"),
            ("> ```py\n> x = 1\n> ```", "x = 1"),
            ("> - ```py\n>   x = 1\n>   ```", "x = 1"),
            ("\u{200b}```py\nx = 1\n```", "x = 1"),
            ("\t```py\n\tx = 1\n\t```", "x = 1"),
            ("It is: ```py\nx = 1\n```", "x = 1"),
        ] {
            let lines: Vec<&str> = text.lines().collect();
            let fence = fence(lines[0]).unwrap();
            assert_eq!((fence.label, fence.strip(lines[1])), ("py", code), "{text:?}");
            assert_eq!(fence.end(1, fence.strip(lines[1])), None, "{text:?}");
            assert_eq!(fence.end(2, fence.strip(lines[2])), Some(End { line: 2, tail: None }), "{text:?}");
        }
        for text in ["`x` is", "```x``` is", "a ``` b", "x = '```python", "- - x"] {
            assert_eq!(fence(text), None, "{text}");
        }
    }

    #[test]
    fn a_block_can_end_behind_code_and_before_prose() {
        let fence = fence("```").unwrap();
        assert_eq!(fence.end(1, "return 1```"), Some(End { line: 1, tail: Some("return 1") }));
        assert_eq!(fence.end(1, "``` That is all."), Some(End { line: 1, tail: None }));
        assert_eq!(fence.end(1, "`````"), Some(End { line: 1, tail: None }));
        for line in ["```python", "``", "~~~", "f(`x`)```", "x"] {
            assert_eq!(fence.end(1, line), None, "{line}");
        }
    }

    #[test]
    fn indented_blocks_stand_apart() {
        let lines: Vec<&str> = "Here:\n\n    def f():\n        return 1\n\nDone.".lines().collect();
        assert_eq!(indented_blocks(&lines), ["def f():\n    return 1\n"]);
        let lines: Vec<&str> = ".. code:: python\n\n  x = 1\n\nDone.\n\n  y".lines().collect();
        assert_eq!(indented_blocks(&lines), ["x = 1\n"]);
        assert!(indented_blocks(&["if x:", "    y"]).is_empty());
    }
}
