//! The fenced blocks of an answer, and which of them are its code.

use super::labels::{Language, language};
use super::lines::{defined, defines, is_alternative, is_code_line, is_correction, is_opening, is_usage};
use super::markdown::{End, Fence, ZERO_WIDTH, dedented, fence};
use super::unfenced::{before_remark, is_session};
use super::{Extracted, python};
use crate::record::CodeRule;

/// A fenced block that ends somewhere.
#[derive(Debug)]
pub(super) struct Block {
    /// Index of its opening line.
    pub line: usize,
    pub language: Language,
    /// Whether the opening mark has no label at all.
    pub bare: bool,
    pub code: String,
    pub closed: bool,
    pub parses: bool,
    /// The last line of text before it, and the last heading since the block before.
    introduction: String,
}

/// Marks behind the opening at which a block is tried as code. More would be a fence in a docstring nine times over.
const MOST_ENDS: usize = 8;
/// More blocks than these are not compared with each other.
const MOST_COMPARED: usize = 40;

/// All blocks in order.
pub(super) fn fenced_blocks(lines: &[&str]) -> Vec<Block> {
    let (mut blocks, mut at) = (Vec::new(), 0);
    let (mut last, mut heading) = ("", "");
    while at < lines.len() {
        let (block, next) = match (on_one_line(lines[at]), fence(lines[at])) {
            (Some(block), _) => (block, at + 1),
            (None, Some(fence)) => read(lines, at, &fence),
            (None, None) => {
                let line = lines[at].trim();
                if !line.is_empty() {
                    last = line;
                    heading = if line.starts_with(['#', '*']) { line } else { heading };
                }
                at += 1;
                continue;
            }
        };
        let sentence = fence(lines[at]).map_or("", |fence| fence.sentence);
        let introduction = format!("{heading}\n{last}\n{sentence}");
        blocks.push(Block { line: at, introduction, ..block });
        (last, heading, at) = ("", "", next);
    }
    blocks
}

/// The block that a fence opens, and the line behind it.
fn read(lines: &[&str], at: usize, fence: &Fence) -> (Block, usize) {
    let language = language(fence.label);
    let may_be_python = matches!(language, Language::Python | Language::Unsaid);
    // Code may begin on the opening line.
    let mut text = match fence.label.split_once(' ') {
        Some((_, code)) if language == Language::Python && is_opening(code) => format!("{code}\n"),
        _ => String::new(),
    };
    let first = lines[at + 1..].iter().find(|line| !line.trim().is_empty());
    let fence = &first.map_or(*fence, |first| fence.fitted(first));
    let (mut plain, mut behind, mut balanced): (Option<Found>, Option<Found>, Option<Found>) = (None, None, None);
    let mut seen = 0;
    for (index, line) in lines.iter().enumerate().skip(at + 1) {
        let line = fence.strip(line);
        let Some(end) = fence.end(index, line) else {
            push(&mut text, line);
            continue;
        };
        seen += 1;
        let code = end.tail.map_or_else(|| text.clone(), |tail| format!("{text}{tail}\n"));
        let nested =
            language == Language::Markdown && text.lines().filter(|line| self::fence(line).is_some()).count() % 2 == 1;
        let code = if may_be_python { tidy(code) } else { (code, false) };
        let found = Found { code, end };
        if found.code.1 && !found.code.0.trim().is_empty() && found.end.tail.is_none() {
            return found.block(language, fence);
        }
        let slot = if end.tail.is_some() { &mut behind } else { &mut plain };
        let is_balanced = end.tail.is_none() && found.code.0.matches("\"\"\"").count().is_multiple_of(2);
        if end.tail.is_none() && is_balanced && !nested && balanced.is_none() {
            balanced = Some(found.clone());
        }
        // A mark behind code ends the block only where no later line does.
        if slot.is_none() || found.code.1 && !slot.as_ref().is_some_and(|slot| slot.code.1) {
            *slot = Some(found);
        }
        if seen >= MOST_ENDS || !may_be_python && balanced.is_some() {
            break;
        }
        push(&mut text, line);
    }
    let parsing = behind.as_ref().is_some_and(|behind| behind.code.1);
    let found = if parsing { behind } else { balanced.or(plain).or(behind) };
    if let Some(found) = found {
        return found.block(language, fence);
    }
    // Without an end it runs to the text's end, and maybe into a closing remark.
    let (mut code, mut parses) = if may_be_python { tidy(text) } else { (text, false) };
    if let Some(trimmed) = before_remark(&code).filter(|_| !parses && may_be_python) {
        (code, parses) = (trimmed, true);
    }
    let bare = fence.label.is_empty();
    let block = Block { line: at, language, bare, code, closed: false, parses, introduction: String::new() };
    (block, lines.len())
}

/// A block with one of its ends: its text, and whether that parses.
#[derive(Clone)]
struct Found<'a> {
    code: (String, bool),
    end: End<'a>,
}

impl Found<'_> {
    fn block(self, language: Language, fence: &Fence) -> (Block, usize) {
        let (code, parses) = self.code;
        let introduction = String::new();
        let bare = fence.label.is_empty();
        (Block { line: 0, language, bare, code, closed: true, parses, introduction }, self.end.line + 1)
    }
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// A block's text without invisible marks before it, without the indent of the whole where it parses so.
fn tidy(text: String) -> (String, bool) {
    let text = match text.strip_prefix(ZERO_WIDTH) {
        Some(rest) => rest.trim_start_matches(ZERO_WIDTH).to_string(),
        None => text,
    };
    if text.trim().is_empty() || python::parses(&text) {
        return (text, true);
    }
    let plain = dedented(&text);
    if plain.len() < text.len() && python::parses(&plain) {
        (format!("{}\n", plain.trim_end()), true)
    } else {
        (text, false)
    }
}

/// A whole block on one line: `python x = 1` between two marks, alone or in a sentence.
fn on_one_line(line: &str) -> Option<Block> {
    let (_, rest) = line.split_once("```")?;
    let (inner, rest) = rest.split_once("```")?;
    if inner.contains('`') || inner.trim().is_empty() || rest.contains('`') {
        return None;
    }
    let (word, code) = inner.trim_start().split_once(' ').unwrap_or((inner, ""));
    let labelled = language(word) == Language::Python && !inner.starts_with(' ');
    let code = format!("{}\n", if labelled { code.trim() } else { inner.trim() });
    if !python::is_code(&code) {
        return None;
    }
    let language = if labelled { Language::Python } else { Language::Unsaid };
    Some(Block { line: 0, language, bare: !labelled, code, closed: true, parses: true, introduction: String::new() })
}

/// Whether an unlabelled block is code, maybe broken.
fn is_code(block: &Block) -> bool {
    if block.parses {
        return python::is_code(&block.code);
    }
    let mut lines = block.code.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let first = lines.next().is_some_and(is_opening);
    let like = |line: &str| line.starts_with([' ', '\t']) || is_code_line(line);
    let (all, similar) = lines.fold((0, 0), |(all, similar), line| (all + 1, similar + usize::from(like(line))));
    first && similar * 2 >= all && fence_lines(&block.code) == 0
}

fn fence_lines(code: &str) -> usize {
    code.lines().filter(|line| fence(line).is_some()).count()
}

/// The blocks that are the answer's code.
pub(super) fn chosen(blocks: &[Block]) -> Vec<&Block> {
    let is_filled = |b: &&Block| !b.code.trim().is_empty() && !is_session(&b.code);
    let labelled = |b: &&Block| b.language == Language::Python;
    let unsaid = |b: &&Block| b.language == Language::Unsaid && is_code(b);
    let is_main = |b: &&Block| defines(&b.code);
    let of_python: Vec<&Block> = blocks.iter().filter(labelled).filter(is_filled).collect();
    let mut chosen = of_python.clone();
    // Some models label the usage and not the definition.
    if !of_python.iter().any(is_main) {
        let more = blocks.iter().filter(unsaid).filter(is_filled).filter(|b| of_python.is_empty() || is_main(b));
        chosen.extend(more);
        chosen.sort_by_key(|block| block.line);
    }
    without_superseded(&mut chosen);
    // A block behind the definition that only shows how to call it.
    if let Some(first) = chosen.iter().position(is_main) {
        let mut place = 0;
        chosen.retain(|block| {
            place += 1;
            place <= first + 1 || is_main(block) || !is_usage(&block.introduction)
        });
    }
    chosen
}

/// Leaves out what a later block replaces: the same functions once more, or a correction of what is broken. What is
/// introduced as another way is left out itself.
fn without_superseded(chosen: &mut Vec<&Block>) {
    if chosen.len() < 2 || chosen.len() > MOST_COMPARED {
        return;
    }
    let names: Vec<Vec<&str>> = chosen.iter().map(|b| defined(&b.code)).collect();
    let mut left = vec![true; chosen.len()];
    for (late, block) in chosen.iter().enumerate() {
        for early in 0..late {
            if !left[early] || !left[late] {
                continue;
            }
            let again = !names[early].is_empty() && names[early].iter().all(|name| names[late].contains(name));
            let mended = !chosen[early].parses && block.parses;
            let same = again && !needs_imports(&chosen[early].code, &block.code);
            if again && !mended && is_alternative(&block.introduction) {
                left[late] = false;
            } else if same || mended && (again || is_correction(&block.introduction)) {
                left[early] = false;
            }
        }
    }
    let mut place = left.into_iter();
    chosen.retain(|_| place.next().unwrap_or(true));
}

/// Whether later code uses a name that only earlier code imports.
fn needs_imports(early: &str, late: &str) -> bool {
    let is_import = |line: &&str| line.starts_with("import ") || line.starts_with("from ");
    let words =
        |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').map(String::from).collect::<Vec<_>>();
    let used = words(late);
    let mut missing = early.lines().filter(is_import).filter(|line| !late.lines().any(|other| other == *line));
    missing.any(|line| {
        let names = line.rsplit_once("import ").map_or(line, |(_, names)| names);
        names.split(',').any(|name| {
            let bound = words(name.rsplit_once(" as ").map_or(name, |(_, alias)| alias).trim());
            bound.first().is_some_and(|bound| !bound.is_empty() && used.contains(bound))
        })
    })
}

/// One text from the blocks that are code.
pub(super) fn joined(chosen: &[&Block]) -> Option<Extracted> {
    let whole: String = chosen.iter().map(|b| b.code.as_str()).collect::<Vec<_>>().join("\n");
    if chosen.len() > 1 && python::is_code(&whole) {
        let closed = chosen.iter().all(|b| b.closed);
        return Some(Extracted { code: whole, closed, parses: true, rule: CodeRule::Fences });
    }
    let longest = chosen.iter().max_by_key(|b| b.code.len())?;
    // What is labelled as code need not look like it, but has to do something.
    let does = |block: &Block| match block.language {
        Language::Python => python::is_statement(&block.code),
        _ => python::is_code(&block.code),
    };
    if longest.parses && !does(longest) {
        return None;
    }
    let (code, closed, parses) = (longest.code.clone(), longest.closed, longest.parses);
    let rule = if closed { CodeRule::Fence } else { CodeRule::OpenFence };
    Some(Extracted { code, closed, parses, rule })
}
