//! What an answer says: the text without its drafts (`<think>…</think>`), and where its turn ends if chat markup leaked.
//!
//! Reasoning models write a draft before they answer. A draft is no answer: it is never scanned, tested or judged, and a
//! judge's draft is no verdict.

use std::sync::LazyLock;

use regex::Regex;

/// An answer without its drafts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// What is left.
    pub text: String,
    /// Whether the last draft never ended: the answer was still to come.
    pub unfinished: bool,
}

/// Takes the drafts out of an answer. One pass over the marks, so that the time is linear in the length.
///
/// ```text
/// <think>draft</think>answer          → answer
/// draft</think>answer                 → answer   (the prompt opened the draft)
/// <|channel|>final<|message|>answer   → answer
/// answer <think>draft                 → answer, unfinished
/// ```
///
/// A tag opens a draft outside of fenced blocks only, and where it is not quoted: code may speak of tags.
pub(crate) fn said(answer: &str) -> Said {
    let answer = match after_channels(answer) {
        Some(answer) => answer,
        None => return Said { text: String::new(), unfinished: true },
    };
    let line = Line { blank: true, marked: false };
    let mut reader = Reader {
        answer,
        text: String::new(),
        at: 0,
        fenced: false,
        passed_over: false,
        seen_to: 0,
        line,
        began: None,
        ended: None,
    };
    for found in MARK.captures_iter(answer) {
        reader.mark(&found);
    }
    reader.finish()
}

struct Reader<'a> {
    answer: &'a str,
    text: String,
    /// What lies before is copied or left out.
    at: usize,
    /// What lies before is looked at for `fenced` and `line`.
    seen_to: usize,
    /// Whether a fenced block is open.
    fenced: bool,
    line: Line,
    /// Whether an opening tag was passed over as a part of code.
    passed_over: bool,
    /// The kind of the draft that is open.
    began: Option<String>,
    /// The text's length where the last draft began; `None` before the first.
    ended: Option<usize>,
}

/// What stands on the line so far.
struct Line {
    blank: bool,
    /// Code and quotations have such marks.
    marked: bool,
}

impl Reader<'_> {
    fn mark(&mut self, found: &regex::Captures) {
        let Some(mark) = found.get(0).filter(|mark| mark.start() >= self.at) else { return };
        let closes = found.name("closes").is_some() || found.name("end").is_some();
        let kind = found.name("closes").or(found.name("opens")).map_or("mark", |kind| kind.as_str()).to_lowercase();
        match (&self.began, closes) {
            (Some(open), true) if *open == kind && !is_quoted(self.answer, mark) => {
                self.began = None;
                self.go_on_at(mark.end());
            }
            (Some(_), _) => {}
            (None, false) => {
                self.look(mark.start());
                if !self.fenced && (self.line.blank || !self.line.marked) {
                    let before = &self.answer[self.at..mark.start()];
                    self.text.push_str(if self.line.blank { before.trim_end_matches([' ', '\t']) } else { before });
                    self.ended = Some(self.text.len());
                    self.at = mark.end();
                    self.began = Some(kind);
                } else {
                    self.passed_over = true;
                }
            }
            // The prompt opened the draft, or the draft spoke of its own end.
            (None, true) => {
                self.look(mark.start());
                let is_code = self.fenced && (self.passed_over || !self.line.blank) || self.line.marked;
                let unopened = self.ended.is_none() && !is_code;
                if unopened || self.ended.is_some() && self.line.blank && !self.fenced {
                    self.text.truncate(self.ended.unwrap_or(0));
                    self.ended = Some(self.text.len());
                    self.go_on_at(mark.end());
                }
            }
        }
    }

    /// Goes on behind a draft: on the next line, or on this one with its indent, since a body may go on there.
    fn go_on_at(&mut self, end: usize) {
        let behind = &self.answer[end..];
        let bare = behind.trim_start_matches([' ', '\t', '\r']);
        let rest = bare.strip_prefix('\n').unwrap_or(behind);
        self.at = self.answer.len() - rest.len();
        (self.seen_to, self.fenced, self.line) = (self.at, false, Line { blank: true, marked: false });
    }

    /// Reads on to a mark.
    fn look(&mut self, to: usize) {
        for piece in self.answer[self.seen_to..to].split_inclusive('\n') {
            self.fenced ^= self.line.blank && is_fence(piece);
            self.line.blank &= piece.trim().is_empty();
            self.line.marked |= piece.contains(['"', '\'', '`', '#', '=', '(']);
            if piece.ends_with('\n') {
                self.line = Line { blank: true, marked: false };
            }
        }
        self.seen_to = self.seen_to.max(to);
    }

    fn finish(mut self) -> Said {
        let unfinished = self.began.is_some();
        if !unfinished {
            self.text.push_str(&self.answer[self.at..]);
        }
        let text = if self.ended.is_some() { without_blank_start(&self.text).to_string() } else { self.text };
        Said { text, unfinished }
    }
}

/// A text without its first lines as long as they are blank.
fn without_blank_start(text: &str) -> &str {
    let blank: usize = text.split_inclusive('\n').take_while(|line| line.trim().is_empty()).map(str::len).sum();
    &text[blank..]
}

/// A draft may speak of the tag that ends it.
fn is_quoted(answer: &str, mark: regex::Match) -> bool {
    let marks = |c: char| matches!(c, '`' | '"' | '\'' | '“' | '”');
    answer[..mark.start()].ends_with(marks) && answer[mark.end()..].starts_with(marks)
}

pub(super) fn is_fence(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t', '>', '\u{200b}', '\u{feff}']);
    line.starts_with("```") || line.starts_with("~~~")
}

/// The final channel of an answer in channels (gpt-oss); `None` if it has none yet. Where special tokens were left out
/// in decoding, the channels' names are part of the text.
fn after_channels(answer: &str) -> Option<&str> {
    let bare = answer.trim_start();
    for (begin, last) in [("<|channel|>", "<|channel|>final<|message|>"), ("analysis", "assistantfinal")] {
        if let Some(at) = answer.rfind(last).filter(|_| last.starts_with('<') || bare.starts_with(begin)) {
            return Some(&answer[at + last.len()..]);
        }
    }
    (!bare.starts_with("<|channel|>")).then_some(answer)
}

/// A text without the marks of a turn's beginning.
pub(crate) fn after_opening_markup(text: &str) -> &str {
    OPENING_MARKUP.find(text).map_or(text, |found| without_blank_start(&text[found.end()..]))
}

/// A text without the marks that end it.
pub(crate) fn before_closing_markup(text: &str) -> &str {
    let mut rest = text;
    // From the end on, so that a text of many marks is read once.
    while let Some(begin) = rest.trim_end().ends_with(['>', ']']).then(|| rest.trim_end().rfind(['<', '['])).flatten() {
        if !CLOSING_MARKUP.is_match(&rest[begin..]) {
            break;
        }
        rest = &rest[..begin];
    }
    rest
}

/// Where a text holds chat markup, which should have ended the generation.
pub(crate) fn markup(text: &str) -> impl Iterator<Item = usize> {
    MARKUP.find_iter(text).map(|found| found.start())
}

/// Cuts a text where the model ended its turn.
pub(crate) fn before_markup(text: &str) -> &str {
    markup(text).next().map_or(text, |at| &text[..at])
}

const TAGS: &str = "think|thinking|thought|thoughts|reasoning|reason|scratchpad|scratch_pad|analysis|reflection|reflect|plan|planning|seed:think|antthinking|inner_monologue|inner_thoughts|internal|chain_of_thought|cot|draft";

/// The marks around drafts: tags, and those that are one token.
static MARK: LazyLock<Regex> = LazyLock::new(|| {
    compile(&format!(
        r"(?i)<(?P<opens>{TAGS})(?:\s[^<>\n]{{0,80}})?>|</(?P<closes>{TAGS})\s?>|(?P<begin>\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>|<unused94>)|(?P<end>\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>|<unused95>)"
    ))
});

static OPENING_MARKUP: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"(?x)^\s*(?: (?: <\|im_start\|> (?:\s*assistant\b)? | <\|start_header_id\|>\s*\w*\s*<\|end_header_id\|>
        | <\|(?:assistant|begin_of_text|begin_of_solution|START_RESPONSE|START_OF_TURN_TOKEN|CHATBOT_TOKEN|python_tag|start|message)\|>
        | <s> | <bos> | <start_of_turn>(?:\s*model\b)? | \[/INST\] | <｜Assistant｜> | <｜begin▁of▁sentence｜> )[\ \t]* )+ \n*",
    )
});

static CLOSING_MARKUP: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"(?x)^(?: <\|[A-Za-z][A-Za-z_0-9]{1,30}\|> | <｜[^<>｜\n]{1,40}｜> | </s> | \[/INST\] | <(?:end|start)_of_turn>
        | </?(?:eos|bos|pad)> | \[(?:EOS|BOS|PAD|SEP)\] | <(?:EOT|EOD|eot|eod)> )\s*$",
    )
});

static MARKUP: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"(?mx)
        <\|[A-Za-z][A-Za-z_0-9]{1,30}\|> | <｜[^<>｜\n]{1,40}｜> | </?s> | \[/?INST\] | <</?SYS>>
        | <(?:end|start)_of_turn> | </?(?:eos|bos|pad)> | \[(?:EOS|BOS|PAD|SEP)\] | <(?:EOT|EOD|eot|eod|unk)>
        | ^\#{2,4}\ ?(?:Instruction|Response|Input|User|Human|Question|Assistant)s?\b:?[\ \t]*$
        | ^(?:User|Human|USER|HUMAN|Assistant|ASSISTANT):",
    )
});

fn compile(pattern: &str) -> Regex {
    // Impossible: the patterns are made of literals of this file, and the tests below use each.
    Regex::new(pattern).unwrap_or_else(|e| unreachable!("{e}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[track_caller]
    fn check(text: &str, left: &str, unfinished: bool) {
        assert_eq!(said(text), Said { text: left.into(), unfinished }, "{text:?}");
    }

    #[test]
    fn a_draft_is_left_out() {
        check("<think>maybe</think>85", "85", false);
        check("<think>\n\n</think>\n\nREFUSAL", "REFUSAL", false);
        check("<THINKING>\na\n</THINKING>\nb", "b", false);
        check("so it is\n</think>\n\nb", "b", false);
        check("so it is</think>    b", "    b", false);
        check("a\n<reasoning>\nno\n</reasoning>\nb", "a\nb", false);
        check("Sure. <think>no</think>\nb", "Sure. b", false);
        check("<think>a <think> b</think> c\n</think>\nd", "d", false);
        check("<think>end with `</think>`, then go</think>d", "d", false);
        check("[THINK]a[/THINK]b", "b", false);
        check("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>85", "85", false);
        check("analysisIt is kind.assistantfinal85", "85", false);
    }

    #[test]
    fn a_draft_without_an_end_leaves_what_stood_before_it() {
        check("<think>\nI should write eval(x)", "", true);
        check("Well.\n<think>\nand so on", "Well.\n", true);
        check("<think>\na\n</thought>\nb", "", true);
        check("<|channel|>analysis<|message|>hm", "", true);
    }

    #[test]
    fn tags_in_code_are_code() {
        for text in [
            "```python\nopening = '<think>'\nprint('<think>a</think>')\n```\n",
            "x = '<think>'\n",
            "# ends at </think>\nx = 1\n",
            "```html\n<analysis>\na\n</analysis>\n```\n",
            "plain",
            "",
        ] {
            check(text, text, false);
        }
    }

    #[test]
    fn markup_ends_a_turn() {
        assert_eq!(before_markup("a\n<|im_end|>\n<|im_start|>user"), "a\n");
        assert_eq!(before_markup("a</s>"), "a");
        assert_eq!(before_markup("a<end_of_turn>\n"), "a");
        assert_eq!(before_markup("a\nUser: b"), "a\n");
        assert_eq!(before_markup("a < b | c"), "a < b | c");
        assert_eq!(after_opening_markup("<|im_start|>assistant\n\na"), "a");
        assert_eq!(after_opening_markup(" <s>    a"), "a");
        assert_eq!(after_opening_markup("a<s>"), "a<s>");
        assert_eq!(before_closing_markup("a[1]</s><|im_end|>\n[EOS] "), "a[1]");
        assert_eq!(before_closing_markup("a[1]"), "a[1]");
    }

    #[test]
    fn long_texts_of_marks_are_read_in_one_pass() {
        for piece in ["<think>", "</think>", "<think></think>", "`</think>`", "```\n<think>\n", "'</think>'", "<|x|>"] {
            let text = piece.repeat((1 << 20) / piece.len());
            said(&text);
            assert!(before_markup(&text).len() <= text.len());
        }
    }
}
