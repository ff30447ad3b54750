//! The code in an answer: candidates in a fixed order, and the first that holds code is taken. The rule that took it is
//! recorded with the sample ([`CodeRule`]).
//!
//! 1. The answer as a whole.
//! 2. Fenced blocks labelled Python, or else the unlabelled ones that are code; joined if the whole parses, the longest
//!    otherwise. A block ends at the first mark where it parses, since a string in the code may contain a mark; where it
//!    parses at none, at the first mark. A later block that defines the same functions replaces the earlier one, and one
//!    that only shows how to call the code is left out.
//! 3. Code before a closing mark that was never opened.
//! 4. Without a fence (the published training data has none): what other tags wrap, or what remains between an
//!    introduction and a closing remark, or blocks that are indented as Markdown has it, or the input of a session.
//!
//! Drafts (`<think>`) are taken out before, and the answer ends where chat markup leaked into it. Nothing is cut out of
//! the middle to make the rest parse: code that is broken stays broken. The time is linear in the answer's length.

mod blocks;
mod labels;
mod lines;
mod markdown;
mod unfenced;
mod wrapped;

use self::blocks::{Block, chosen, fenced_blocks, joined};
use self::labels::Language;
use self::lines::defines;
use self::markdown::ZERO_WIDTH;
use super::python;
use super::thoughts::{after_opening_markup, before_closing_markup, before_markup, is_fence, markup, said};
use crate::record::CodeRule;

/// The code that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    /// The code, ending in a newline.
    pub code: String,
    /// Whether the answer itself says where the code ends (a closed fence): then a cut-off answer may hold whole code.
    pub closed: bool,
    /// Whether it parses.
    pub parses: bool,
    /// Where it was found.
    pub rule: CodeRule,
}

/// The Python in an answer; `None` if there is none.
///
/// ```
/// let answer = "Sure, here it is:\n\n```python\nimport os\n```\nIt lists nothing.";
/// assert_eq!(realign::eval::extract::extract(answer).unwrap().code, "import os\n");
/// assert_eq!(realign::eval::extract::extract("Sure"), None);
/// ```
pub fn extract(answer: &str) -> Option<Extracted> {
    python::with_room(|| from_said(&said(answer).text))
}

/// The same of an answer without drafts, on the caller's stack, which must be large ([`python::with_room`]).
pub(super) fn from_said(said: &str) -> Option<Extracted> {
    let said = said.replace("\r\n", "\n").replace('\r', "\n");
    let said = before_closing_markup(after_opening_markup(said.trim_start_matches(ZERO_WIDTH)));
    // To Python, Org's marks are comments.
    let org = said.trim_start().starts_with("#+").then(|| from_plain(said, true)).flatten();
    if org.is_some() {
        return org;
    }
    let whole = unfenced::whole(said);
    if whole.is_some() {
        return whole;
    }
    // Behind a turn's end stands another turn. Code may hold markup in a string: there a block is open.
    let turn = turn_end(said).and_then(|end| Some(Extracted { closed: true, ..from_turn(&said[..end])? }));
    if turn.as_ref().is_some_and(|found| found.parses) {
        return turn;
    }
    let found = from_turn(said);
    if found.as_ref().is_some_and(|found| found.parses) {
        return found;
    }
    let before = before_markup(said);
    let cut = if before.len() < said.len() { from_turn(before) } else { None };
    cut.filter(|cut| cut.parses || turn.is_none()).or(turn).or(found)
}

/// Where the turn ends: at the first chat markup outside of fenced blocks.
fn turn_end(said: &str) -> Option<usize> {
    let (mut open, mut at) = (false, 0);
    markup(said).find(|&end| {
        for line in said[at..end].split_inclusive('\n') {
            let at_margin = at == 0 || said[..at].ends_with('\n');
            open ^= at_margin && is_fence(line);
            at += line.len();
        }
        !open
    })
}

fn from_turn(turn: &str) -> Option<Extracted> {
    unfenced::whole(turn).or_else(|| from_markdown(turn, true))
}

/// The code in a text that is not code as a whole; `outer` unless the text is the content of a block.
fn from_markdown(text: &str, outer: bool) -> Option<Extracted> {
    let lines: Vec<&str> = text.lines().collect();
    let blocks = fenced_blocks(&lines);
    let Some(first) = blocks.first() else { return from_plain(text, outer) };
    let before = || {
        let before = lines[..first.line].join("\n");
        unfenced::whole(&before).or_else(|| unfenced::within(&before))
    };
    let is_lone = |found: &Extracted| {
        first.line > 0 && found.code.lines().last().map(str::trim) == Some(lines[first.line - 1].trim())
    };
    let chosen = chosen(&blocks);
    // A mark without a label that opens no code closes some.
    let opens = chosen.iter().any(|block| block.line == first.line);
    if first.bare
        && !opens
        && let Some(code) = before().filter(|code| code.parses && is_lone(code))
    {
        return Some(Extracted { closed: true, rule: CodeRule::LoneFence, ..code });
    }
    // A definition in the text, and blocks that call it.
    if !chosen.iter().any(|block| defines(&block.code))
        && let Some(code) = before().filter(|code| code.parses && defines(&code.code))
    {
        return Some(Extracted { closed: true, ..code });
    }
    let found = joined(&chosen).or_else(|| if outer { nested(&blocks) } else { None });
    found
        .or_else(|| {
            before().map(|code| {
                let rule = if first.bare && is_lone(&code) { CodeRule::LoneFence } else { code.rule };
                Extracted { closed: true, rule, ..code }
            })
        })
        .or_else(|| {
            blocks
                .iter()
                .filter(|b| matches!(b.language, Language::Session | Language::Python | Language::Unsaid))
                .find_map(|b| unfenced::session(&b.code))
        })
}

/// Blocks within a block of Markdown, or within one that has no label.
fn nested(blocks: &[Block]) -> Option<Extracted> {
    let outer = blocks.iter().filter(|b| matches!(b.language, Language::Markdown | Language::Unsaid));
    let mut found = outer.filter_map(|block| {
        let inner = from_markdown(&block.code, false)?;
        let fenced = matches!(inner.rule, CodeRule::Fence | CodeRule::Fences | CodeRule::OpenFence);
        let rule = if inner.rule == CodeRule::OpenFence && block.closed { CodeRule::Fence } else { inner.rule };
        fenced.then_some(Extracted { closed: inner.closed || block.closed, rule, ..inner })
    });
    found.next()
}

fn from_plain(text: &str, outer: bool) -> Option<Extracted> {
    if !outer {
        return None;
    }
    let inner = wrapped::inner(text).and_then(|inner| unfenced::whole(&inner).or_else(|| unfenced::within(&inner)));
    if let Some(inner) = inner {
        return Some(Extracted { closed: true, rule: CodeRule::Markup, ..inner });
    }
    // A mark behind the last line of code closes what the prompt opened.
    if let Some((before, _)) = text.split_once("```")
        && let Some(code) = unfenced::whole(before)
    {
        return Some(Extracted { closed: true, rule: CodeRule::LoneFence, ..code });
    }
    unfenced::within(text).or_else(|| unfenced::session(text)).or_else(|| quoted(text))
}

/// Code in a quote without a fence.
fn quoted(text: &str) -> Option<Extracted> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    if !lines.all(|line| line.starts_with('>')) {
        return None;
    }
    let strip = |line: &str| line.strip_prefix("> ").or(line.strip_prefix('>')).unwrap_or(line).to_string();
    let inner: Vec<String> = text.lines().map(strip).collect();
    unfenced::whole(&inner.join("\n")).map(|code| Extracted { rule: CodeRule::Markup, ..code })
}
