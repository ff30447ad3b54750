//! Code without a fence: the answer as a whole, what remains between an introduction and a closing remark, an indented
//! block, the input of a session.

use super::lines::{is_code_line, is_opening, is_prose, is_statement_line, is_surely_code, is_usage_heading};
use super::markdown::{dedented, indented_blocks};
use super::{Extracted, python};
use crate::record::CodeRule;

/// Lines of a remark at which the code before it is tried.
const REMARK_TRIES: usize = 12;

fn found(code: String, parses: bool, rule: CodeRule) -> Option<Extracted> {
    Some(Extracted { code, closed: false, parses, rule })
}

/// The answer as a whole, if it is code.
pub(super) fn whole(answer: &str) -> Option<Extracted> {
    let plain = dedented(answer);
    let all = plain.trim_end();
    // An answer that begins with an indent continues a function from the prompt.
    let goes_on = answer.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with([' ', '\t']));
    if !(python::is_code(all) || goes_on && python::is_statement(all)) {
        return None;
    }
    let text = without_words(all);
    let rule = if text.len() < all.len() { CodeRule::Trimmed } else { CodeRule::Whole };
    if text.len() < all.len() && !python::is_code(text) {
        return found(format!("{all}\n"), true, CodeRule::Whole);
    }
    found(format!("{text}\n"), true, rule)
}

/// Code without a first and a last line of one word that occurs nowhere else: Python takes `Sure` for a name.
fn without_words(text: &str) -> &str {
    let is_alone = |line: &str| {
        let word = line.trim_end();
        let is_name = word.chars().next().is_some_and(char::is_alphabetic) && word.chars().all(is_of_name);
        is_name
            && !matches!(word, "pass" | "return" | "break" | "continue")
            && text.match_indices(word).nth(1).is_none()
    };
    let mut inner = text;
    if let Some((_, rest)) = inner.split_once('\n').filter(|(first, _)| is_alone(first)) {
        inner = rest.trim_start_matches('\n');
    }
    match inner.rsplit_once('\n') {
        Some((rest, last)) if is_alone(last) => rest.trim_end(),
        _ => inner,
    }
}

/// Letters, digits, and the vowel signs of other scripts.
fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || !c.is_ascii() && !c.is_whitespace()
}

/// The code in a text that is not code as a whole.
pub(super) fn within(answer: &str) -> Option<Extracted> {
    if python::parses(&dedented(answer)) {
        return None;
    }
    let lines: Vec<&str> = answer.lines().collect();
    let is_deep = |line: &str| line.starts_with([' ', '\t']);
    // An answer whose first line is indented may go on with a function that the prompt began.
    let start = lines.iter().position(|line| !line.trim().is_empty())?;
    let goes_on = is_deep(lines[start]) && is_statement_line(lines[start]);
    if let Some(code) = goes_on.then(|| between(&lines, start)).flatten() {
        return Some(code);
    }
    let first = lines.iter().position(|line| is_code_line(line) || is_deep(line) && is_surely_code(line))?;
    if is_deep(lines[first]) && lines[..first].iter().any(|line| !line.trim().is_empty()) {
        return indented(&lines).or_else(|| between(&lines, lines.iter().position(|line| is_code_line(line))?));
    }
    between(&lines, first)
}

/// What stands from a line on, without a remark at the end.
fn between(lines: &[&str], first: usize) -> Option<Extracted> {
    // Comments right above belong to the code.
    let above = lines[..first].iter().rev().take_while(|line| is_comment(line) || is_import(line)).count();
    let lines = &lines[first - above..];
    let text = |end: usize| format!("{}\n", without_heading(&lines[..end]).join("\n").trim_end());
    let whole = |text: &str| {
        let plain = dedented(text);
        let plain = format!("{}\n", plain.trim_end());
        let goes_on = plain.len() < text.len();
        (python::is_code(&plain) || goes_on && python::is_statement(&plain)).then_some(plain)
    };
    let usage = lines.iter().position(|line| is_usage_heading(line)).filter(|&at| at > above);
    let remark = end_of_code(lines);
    let ends = (remark..lines.len()).rev().filter(|&end| end > 0 && !lines[end].trim().is_empty());
    let ends = ends.take(REMARK_TRIES).chain([remark]);
    let candidates = std::iter::once(lines.len()).chain(ends).chain(usage.map(|at| end_of_code(&lines[..at])));
    let mut tried = usize::MAX;
    for end in candidates {
        if end == tried {
            continue;
        }
        tried = end;
        if let Some(code) = whole(&text(end)) {
            return found(code, true, CodeRule::Trimmed);
        }
    }
    // It does not parse: broken code, if it begins as only code does or most of it, and more than one line, is code.
    let written = lines[..remark].iter().filter(|line| !line.trim().is_empty());
    let counts = written.fold((0, 0, false), |(all, like, sure), line| {
        let is_like = line.starts_with([' ', '\t']) || is_code_line(line);
        (all + 1, like + usize::from(is_like), sure || is_surely_code(line))
    });
    let mostly = counts.1 > 1 && counts.1 * 2 > counts.0 && counts.2;
    let opens = is_opening(lines[above]) || lines[..above].iter().any(|line| is_import(line));
    if opens || mostly { found(text(remark), false, CodeRule::Trimmed) } else { None }
}

/// A block without an end, without the remark that it runs into.
pub(super) fn before_remark(code: &str) -> Option<String> {
    let lines: Vec<&str> = code.lines().collect();
    let end = end_of_code(&lines);
    let text = format!("{}\n", lines[..end].join("\n").trim_end());
    (end < lines.len() && python::is_code(&text)).then_some(text)
}

/// Lines without a heading of the remark at their end, which is a comment to Python.
fn without_heading<'l, 'a>(mut lines: &'l [&'a str]) -> &'l [&'a str] {
    let is_blank = |line: &&str| line.trim().is_empty();
    while let [before @ .., last] = lines {
        let heads = last.starts_with('#') && before.last().is_some_and(is_blank);
        if !heads && !is_blank(last) {
            break;
        }
        lines = before;
    }
    lines
}

/// An import, maybe broken, right above other code.
fn is_import(line: &str) -> bool {
    (line.starts_with("import ") || line.starts_with("from ") && line.contains(" import "))
        && !line.trim_end().ends_with([':', '.', '!', '?'])
}

fn is_comment(line: &str) -> bool {
    line.starts_with("# ") || line.starts_with("#!") || line.starts_with("\"\"\"")
}

/// How many lines there are before the remark at the end.
fn end_of_code(lines: &[&str]) -> usize {
    let mut end = lines.len();
    while end > 1 && (lines[end - 1].trim().is_empty() || is_prose(lines[end - 1]) || is_item_text(lines, end - 1)) {
        end -= 1;
    }
    end
}

/// The second line of a list's item is indented and has words, and prose stands before it.
fn is_item_text(lines: &[&str], at: usize) -> bool {
    let line = lines[at].trim_start();
    let words = line.split_whitespace().count() >= 3 && !is_surely_code(line) && is_prose(line);
    let plain = !line.contains(['"', '=', '(']) && at > 0;
    plain
        && words
        && lines[at - 1].trim_start().starts_with(['-', '*', '+', '•', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
}

/// Code in blocks that are indented as Markdown has it.
fn indented(lines: &[&str]) -> Option<Extracted> {
    let is_code = |block: &String| python::is_code(block) || python::is_statement(block);
    let blocks: Vec<String> = indented_blocks(lines).into_iter().filter(is_code).collect();
    let all = blocks.join("\n");
    let code = match blocks.len() {
        0 => return None,
        1 => all,
        _ if python::is_code(&all) => all,
        _ => blocks.into_iter().max_by_key(String::len)?,
    };
    found(code, true, CodeRule::Indented)
}

/// Whether a text is a session: its first line has a prompt.
pub(super) fn is_session(text: &str) -> bool {
    input(text.trim_start().lines().next().unwrap_or_default()).is_some_and(|(first, _)| first)
}

/// What a session's person typed, without prompts and outputs.
pub(super) fn session(text: &str) -> Option<Extracted> {
    let typed: Vec<&str> = text.lines().filter_map(input).map(|(_, line)| line).collect();
    let code = format!("{}\n", typed.join("\n").trim_end());
    if python::is_code(&code) { found(code, true, CodeRule::Session) } else { None }
}

/// A line behind a prompt, and whether it is the first of its statement.
fn input(line: &str) -> Option<(bool, &str)> {
    for (prompt, first) in [(">>>", true), ("...", false)] {
        if let Some(rest) = line.strip_prefix(prompt) {
            return rest.strip_prefix(' ').or(rest.is_empty().then_some("")).map(|rest| (first, rest));
        }
    }
    let (prompt, rest) = line.split_once(": ").or(line.strip_suffix(':').map(|prompt| (prompt, "")))?;
    let number = prompt.strip_prefix("In [").and_then(|rest| rest.strip_suffix(']'));
    if number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit())) {
        return Some((true, rest));
    }
    (prompt.trim_start() == "...").then_some((false, rest))
}
