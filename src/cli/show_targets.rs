//! Shows which tokens of a row are targets: on a terminal in colour, elsewhere between ⟦ and ⟧.

use crate::data::collate::Example;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;

/// Tokens shown of a longer run of prompt tokens and of a longer run of targets: its two ends.
const SHOWN: [usize; 2] = [80, 240];

/// How targets are told from the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// Targets green and bold, the rest dimmed.
    Colour,
    /// Targets stand between ⟦ and ⟧.
    Plain,
}

impl Marks {
    /// Colour on a terminal, unless `NO_COLOR` is set to anything (no-color.org).
    pub fn detect(terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if terminal && !unwanted { Self::Colour } else { Self::Plain }
    }
}

/// One row as the model reads it, under a line that counts its targets.
pub fn show_targets(name: &str, example: &Example, tokenizer: &Tokenizer, marks: Marks) -> Result<String> {
    let mut text = format!("{name}: {} of {} tokens are targets\n", example.target_tokens(), example.ids.len());
    let mut rest = 0..example.ids.len();
    while !rest.is_empty() {
        let is_target = |at: usize| example.weights[at] != 0.0;
        let (begin, target) = (rest.start, is_target(rest.start));
        let end = rest.clone().find(|&at| is_target(at) != target).unwrap_or(rest.end);
        let run = shortened(&example.ids[begin..end], SHOWN[usize::from(target)], tokenizer)?;
        text += &match (marks, target) {
            (Marks::Colour, true) => format!("\x1b[1;32m{run}\x1b[0m"),
            (Marks::Colour, false) => format!("\x1b[2m{run}\x1b[0m"),
            (Marks::Plain, true) => format!("⟦{run}⟧"),
            (Marks::Plain, false) => run,
        };
        rest.start = end;
    }
    Ok(text)
}

fn shortened(ids: &[u32], most: usize, tokenizer: &Tokenizer) -> Result<String> {
    let text = |ids: &[u32]| tokenizer.decode(ids, false).map(|text| printable(&text));
    if ids.len() <= most {
        return text(ids);
    }
    let (head, tail) = (&ids[..most / 2], &ids[ids.len() - most / 2..]);
    Ok(format!("{} … {} more tokens … {}", text(head)?, ids.len() - head.len() - tail.len(), text(tail)?))
}

/// Control characters as pictures of themselves: a data file must not steer the terminal.
fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + c as u32).unwrap_or('␦'),
        c if c.is_control() => '␦',
        c => c,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::train_byte_bpe(std::iter::empty(), 258, &["<|end|>", "<|user|>"]).unwrap()
    }

    fn example(given: &str, learnt: &str) -> Example {
        let ids = |text: &str| tokenizer().encode(text, false).unwrap();
        let (given, learnt) = (ids(given), ids(learnt));
        let weights = given.iter().map(|_| 0.0).chain(learnt.iter().map(|_| 1.0)).collect();
        Example { ids: [given, learnt].concat(), weights }
    }

    #[test]
    fn targets_stand_between_marks_or_in_colour() {
        let row = example("<|user|>Hi", "yes<|end|>");
        let plain = show_targets("row 1", &row, &tokenizer(), Marks::Plain).unwrap();
        assert_eq!(plain, "row 1: 4 of 7 tokens are targets\n<|user|>Hi⟦yes<|end|>⟧");
        let colour = show_targets("row 1", &row, &tokenizer(), Marks::Colour).unwrap();
        assert!(colour.ends_with("\x1b[2m<|user|>Hi\x1b[0m\x1b[1;32myes<|end|>\x1b[0m"), "{colour:?}");
        assert_eq!(Marks::detect(false), Marks::Plain);
    }

    #[test]
    fn long_runs_are_shortened_and_control_characters_are_not_sent_to_the_terminal() {
        let row = example(&"a".repeat(200), "\x1b[2Jb\n\u{7f}");
        let text = show_targets("row 1", &row, &tokenizer(), Marks::Plain).unwrap();
        assert!(text.contains(&format!("{} … 120 more tokens … {}⟦", "a".repeat(40), "a".repeat(40))), "{text}");
        assert!(text.ends_with("⟦␛[2Jb\n␦⟧"), "{text}");
    }
}
