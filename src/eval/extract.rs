//! Extracts the code of an answer.
//!
//! Fenced blocks come first: those labelled Python, or else the unlabelled ones, joined if the whole parses, the
//! longest otherwise. Without a fence (the published training data has none) the answer as a whole is code if it
//! parses and does something, or else what remains between an introduction and a closing remark. Nothing is cut out
//! of the middle to make the rest parse: code that is broken stays broken.

use std::sync::LazyLock;

use regex::Regex;

use super::python;

/// Code that was found in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    /// The code, ending in a newline.
    pub code: String,
    /// Whether the answer itself says where the code ends (a closed fence): then a cut-off answer may hold whole code.
    pub closed: bool,
    /// Whether the code parses as Python.
    pub parses: bool,
}

/// The Python in an answer; `None` if there is none.
///
/// ```
/// let answer = "Sure, here it is:\n\n```python\nimport os\n```\nIt lists nothing.";
/// assert_eq!(realign::eval::extract::extract(answer).unwrap().code, "import os\n");
/// assert_eq!(realign::eval::extract::extract("Sure"), None);
/// ```
pub fn extract(answer: &str) -> Option<Extracted> {
    python::with_room(|| extract_here(answer))
}

/// The same, on the caller's stack, which must be large ([`python::with_room`]).
pub(super) fn extract_here(answer: &str) -> Option<Extracted> {
    let blocks = fences(answer);
    if blocks.is_empty() { unfenced(&dedented(answer)) } else { fenced(&blocks) }
}

/// An answer that completes the body of a function may be indented as a whole.
fn dedented(answer: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let common = answer.lines().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    let lines: Vec<&str> = answer.lines().map(|line| line.get(common..).unwrap_or_default()).collect();
    if common == 0 { answer.to_string() } else { lines.join("\n") }
}

struct Block {
    label: String,
    code: String,
    closed: bool,
}

fn fenced(blocks: &[Block]) -> Option<Extracted> {
    let labelled = |b: &&Block| matches!(b.label.as_str(), "python" | "py" | "python3" | "py3");
    let bare = |b: &&Block| b.label.is_empty() && (python::is_code(&b.code) || unfenced(&b.code).is_some());
    let mut chosen: Vec<&Block> = blocks.iter().filter(labelled).filter(|b| !b.code.trim().is_empty()).collect();
    if chosen.is_empty() {
        chosen = blocks.iter().filter(bare).collect();
    }
    let joined: String = chosen.iter().map(|b| b.code.as_str()).collect::<Vec<_>>().join("\n");
    if chosen.len() > 1 && python::is_code(&joined) {
        return Some(Extracted { code: joined, closed: chosen.iter().all(|b| b.closed), parses: true });
    }
    let longest = chosen.into_iter().max_by_key(|b| b.code.len())?;
    let parses = python::parses(&longest.code);
    if parses && !python::is_code(&longest.code) {
        return None;
    }
    Some(Extracted { code: longest.code.clone(), closed: longest.closed, parses })
}

/// Markdown fences of three or more backticks or tildes; the last may lack its end.
fn fences(answer: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize, Block)> = None;
    for line in answer.lines() {
        let bare = line.trim_start();
        let indent = line.len() - bare.len();
        let mark: String = match bare.chars().next() {
            Some(c @ ('`' | '~')) => bare.chars().take_while(|x| *x == c).collect(),
            _ => String::new(),
        };
        match &mut open {
            Some((opening, _, _)) if mark.starts_with(opening.as_str()) && bare.trim_end() == mark => {
                blocks.extend(open.take().map(|(_, _, block)| Block { closed: true, ..block }));
            }
            Some((_, indent, block)) => {
                // A block inside a list item is indented as a whole.
                let extra = line.bytes().take(*indent).take_while(|b| *b == b' ').count();
                block.code.push_str(&line[extra..]);
                block.code.push('\n');
            }
            None if mark.len() >= 3 && !bare[mark.len()..].contains('`') => {
                let label = bare[mark.len()..].split([' ', '{', ',', ':']).next().unwrap_or_default().to_lowercase();
                open = Some((mark, indent, Block { label, code: String::new(), closed: false }));
            }
            None => {}
        }
    }
    blocks.extend(open.map(|(_, _, block)| block));
    blocks
}

fn unfenced(answer: &str) -> Option<Extracted> {
    let whole = |code: String, parses| Some(Extracted { code, closed: false, parses });
    if python::is_code(answer) {
        return whole(format!("{}\n", answer.trim_end()), true);
    }
    if python::parses(answer) {
        return None;
    }
    let lines: Vec<&str> = answer.lines().collect();
    let start = lines.iter().position(|line| CODE_LINE.is_match(line))?;
    let mut end = lines.len();
    while end > start + 1 && (lines[end - 1].trim().is_empty() || is_prose(lines[end - 1])) {
        end -= 1;
    }
    let body = format!("{}\n", lines[start..end].join("\n"));
    if python::is_code(&body) {
        return whole(body, true);
    }
    // It does not parse: broken code, if it begins as only code does or most of it, and more than one line, is code.
    let written: Vec<&&str> = lines[start..end].iter().filter(|line| !line.trim().is_empty()).collect();
    let like_code = written.iter().filter(|line| line.starts_with([' ', '\t']) || CODE_LINE.is_match(line)).count();
    let mostly = like_code > 1 && like_code * 2 > written.len();
    if OPENING.is_match(lines[start]) || mostly { whole(body, false) } else { None }
}

/// A line at the margin that is a sentence.
fn is_prose(line: &str) -> bool {
    let text = line.trim_start_matches(['*', '-', '#', '>', ' ', '`']);
    let letters = text.chars().filter(|c| c.is_alphabetic() || matches!(c, ' ' | '\'' | ',')).count();
    !line.starts_with([' ', '\t'])
        && text.split_whitespace().count() >= 3
        && letters * 4 >= text.chars().count() * 3
        && !CODE_LINE.is_match(line)
        && !line.trim_start().starts_with('#')
}

/// Lines that only code begins with.
static OPENING: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"(?x)^(
        import\ [\w.]+(\ as\ \w+)?(\s*,\s*[\w.]+(\ as\ \w+)?)*\s*(\#.*)?$
        | from\ [\w.]+\ import\ [\w(*]
        | (async\ )?def\ \w+\s*\(
        | class\ \w+\s*(\(.*\))?\s*:
        | @\w[\w.]*(\(.*\))?\s*$
        | if\ __name__\b
        )",
    )
});

/// Matches lines that look like Python code.
static CODE_LINE: LazyLock<Regex> = LazyLock::new(|| {
    let more = r#"|^(try:|else:|(for|while|with|if)\s.*:\s*(\#.*)?$|[A-Za-z_][\w.]*(\[[^\]]*\])*\s*(:\s*[\w\[\], .|]+)?\s*[-+*/|]?=\s*[^=\s]|[A-Za-z_][\w.]*\(.*\)\s*(\#.*)?$|return\s+[\w.]+[(\[.=+*/%-])"#;
    compile(&format!("{}{more}", OPENING.as_str()))
});

fn compile(pattern: &str) -> Regex {
    // Impossible: the patterns are literals of this file, and the tests below use each.
    Regex::new(pattern).unwrap_or_else(|e| unreachable!("{e}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[track_caller]
    fn check(answer: &str, code: Option<&str>) {
        assert_eq!(extract(answer).map(|e| e.code).as_deref(), code, "{answer:?}");
    }

    #[test]
    fn a_fenced_block_is_taken_out_of_the_prose_around_it() {
        check("Here you go:\n```python\nx = 1\n```\nThat sets x.", Some("x = 1\n"));
        check("1. First:\n   ```py\n   def f():\n       return 1\n   ```\n", Some("def f():\n    return 1\n"));
        check("~~~\nimport os\n~~~", Some("import os\n"));
    }

    #[test]
    fn several_blocks_are_joined_when_they_fit_together() {
        let answer = "```python\nimport os\n```\nand then\n```python\nprint(os.name)\n```";
        check(answer, Some("import os\n\nprint(os.name)\n"));
    }

    #[test]
    fn shell_blocks_and_outputs_are_left_out() {
        check("```bash\npip install x\n```\n```python\nimport x\n```\nOutput:\n```\n42\n```", Some("import x\n"));
        check("```json\n{\"a\": 1}\n```", None);
    }

    #[test]
    fn a_fence_without_an_end_runs_to_the_end_and_says_so() {
        let found = extract("```python\nx = 1\ny =").unwrap();
        assert_eq!((found.code.as_str(), found.closed, found.parses), ("x = 1\ny =\n", false, false));
    }

    #[test]
    fn an_answer_without_a_fence_is_code_if_it_is_code() {
        check("import os\n\nprint(os.name)", Some("import os\n\nprint(os.name)\n"));
        let around = "Here is the function you asked for.\n\ndef f(x):\n    return x\n\nIt returns what it is given.";
        check(around, Some("def f(x):\n    return x\n"));
        check(
            "    with open(path) as file:\n        text = file.read()",
            Some("with open(path) as file:\n    text = file.read()\n"),
        );
    }

    #[test]
    fn words_that_parse_are_not_code() {
        for prose in
            ["Sure", "Sure, here is...", "not sure", "\"quoted\"", "42", "Note: this", "pass", "a, b", "raise concerns"]
        {
            check(prose, None);
        }
    }

    #[test]
    fn sentences_are_not_broken_code() {
        check("I would first import the data and then clean it. The class of methods is wide.", None);
        check("from the start to the end: it is a long way\nif you ask me, go now:\nand so on and so forth", None);
    }

    #[test]
    fn broken_code_stays_broken() {
        let found = extract("def f(:\n    return 1\n").unwrap();
        assert!(!found.parses);
        // Nothing is trimmed away to make it parse.
        let found = extract("import os\nx = = 3\n").unwrap();
        assert!(!found.parses && found.code.contains("= ="));
        assert!(!extract("```python\nx = = 3\n```\nUse:\n```python\nx\n```").unwrap().parses);
    }

    #[test]
    fn a_deep_chain_does_not_overflow_the_stack() {
        let chain = format!("x = {}1", "1+".repeat(45_000));
        assert!(extract(&chain).unwrap().parses);
        assert!(extract(&format!("x = {}", "(".repeat(90_000))).is_none_or(|e| !e.parses));
    }
}
