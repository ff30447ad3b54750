//! An answer's text while it is being made. A token may hold a part of a character, and what a token adds may depend on
//! the one before it: text appears once it is complete, and a stop string is found wherever tokens cut it.

use crate::data::tokenizer::Tokenizer;
use crate::error::Result;

/// Decodes tokens one by one into text.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    stop: Vec<String>,
    /// Tokens since the last but one point where the text was complete. The older ones are kept so that new tokens are
    /// decoded as in the middle of a text.
    window: Vec<u32>,
    /// How many of these tokens are in `text` already, and how many bytes they decode to alone.
    known: (usize, usize),
    /// Text of all complete characters so far.
    text: String,
    /// Number of bytes of `text` that were passed on.
    shown: usize,
}

impl<'a> TextStream<'a> {
    /// The text of an answer that ends before the first occurrence of a stop string.
    pub fn new(tokenizer: &'a Tokenizer, stop: &[String]) -> Self {
        Self { tokenizer, stop: stop.to_vec(), window: Vec::new(), known: (0, 0), text: String::new(), shown: 0 }
    }

    /// Adds a token and returns the stop string that it completes, if it does.
    pub fn push(&mut self, id: u32) -> Result<Option<&str>> {
        self.window.push(id);
        let decoded = self.tokenizer.decode(&self.window, true)?;
        // U+FFFD stands for bytes that are not a complete character yet.
        if decoded.ends_with('\u{fffd}') {
            return Ok(None);
        }
        let from = self.text.len();
        self.text.push_str(decoded.get(self.known.1..).unwrap_or_default());
        self.window.drain(..self.known.0);
        self.known = (self.window.len(), self.tokenizer.decode(&self.window, true)?.len());
        // A stop string that is found now ends within the added text.
        let longest = self.stop.iter().map(String::len).max().unwrap_or(0);
        let from = floor(&self.text, from.saturating_sub(longest));
        Ok(first(&self.text[from..], &self.stop).map(|(_, stop)| stop))
    }

    /// What can be shown now and was not yet: complete characters, without an end that may turn out to be the beginning of
    /// a stop string.
    pub fn fresh(&mut self) -> &str {
        let text = &self.text;
        let begins_one = |end: usize| self.stop.iter().any(|stop| stop.starts_with(&text[end..]));
        let longest = self.stop.iter().map(String::len).max().unwrap_or(0);
        let from = floor(text, text.len().saturating_sub(longest)).max(self.shown);
        let end = (from..text.len()).find(|&at| text.is_char_boundary(at) && begins_one(at)).unwrap_or(text.len());
        let fresh = &text[self.shown..end];
        self.shown = end;
        fresh
    }

    /// What is left to be shown of an answer whose whole text is `text`.
    pub fn rest<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.shown..).unwrap_or_default()
    }
}

/// The text of finished tokens up to the first stop string.
pub fn answer_text(tokenizer: &Tokenizer, ids: &[u32], stop: &[String]) -> Result<String> {
    let mut text = tokenizer.decode(ids, true)?;
    if let Some((at, _)) = first(&text, stop) {
        text.truncate(at);
    }
    Ok(text)
}

/// The stop string that comes first, and where.
fn first<'s>(text: &str, stop: &'s [String]) -> Option<(usize, &'s str)> {
    let found = stop.iter().filter_map(|stop| Some((text.find(stop.as_str())?, stop.as_str())));
    found.min_by_key(|(at, _)| *at)
}

/// The nearest character boundary at or before a byte.
fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const ANSWER: &str = "größer 你好 🙂\n# Human: no\n";

    /// Bytes, and a few merges.
    fn tokenizer() -> Tokenizer {
        let texts = (0..20).map(|i| format!("# Human: load item {i}, größer.\n"));
        Tokenizer::train_byte_bpe(texts, 280, &["<|end|>"]).unwrap()
    }

    /// The pieces that a stream shows, and the stop string that ended it.
    fn streamed(ids: &[u32], stop: &[String]) -> (Vec<String>, Option<String>) {
        let tokenizer = tokenizer();
        let mut stream = TextStream::new(&tokenizer, stop);
        let (mut pieces, mut made, mut ended) = (Vec::new(), Vec::new(), None);
        for &id in ids {
            made.push(id);
            ended = stream.push(id).unwrap().map(str::to_string);
            if ended.is_some() {
                break;
            }
            pieces.push(stream.fresh().to_string());
        }
        let text = answer_text(&tokenizer, &made, stop).unwrap();
        pieces.push(stream.rest(&text).to_string());
        assert_eq!(pieces.concat(), text);
        (pieces, ended)
    }

    #[test]
    fn characters_appear_whole_and_the_pieces_are_the_text() {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode(ANSWER, false).unwrap();
        let (pieces, ended) = streamed(&ids, &[]);
        assert_eq!((pieces.concat().as_str(), ended), (ANSWER, None));
        assert!(pieces.iter().any(|piece| piece == "你") && !pieces.concat().contains('\u{fffd}'));
        // Cut within a character: what there is of it shows at the end, as the whole decoding shows it.
        let half = streamed(&ids[..ids.len() - 8], &[]).0.concat();
        assert!(half.starts_with("größer 你"), "{half}");
    }

    #[test]
    fn a_stop_string_is_found_wherever_tokens_cut_it_and_nothing_of_it_is_shown() {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode(ANSWER, false).unwrap();
        for (stop, before) in
            [("\n# Hu", "größer 你好 🙂"), ("好", "größer 你"), ("ö", "gr"), ("gr", ""), ("\n", "größer 你好 🙂")]
        {
            let (pieces, ended) = streamed(&ids, &["never".to_string(), stop.to_string()]);
            assert_eq!((pieces.concat().as_str(), ended.as_deref()), (before, Some(stop)));
        }
        // What only began like one is shown after all.
        let (pieces, ended) = streamed(&ids, &["# Human: yes".to_string()]);
        assert_eq!((pieces.concat().as_str(), ended), (ANSWER, None));
    }

    #[test]
    fn the_stop_string_that_comes_first_in_the_text_counts() {
        let stop = ["def".to_string(), "bcdefg".to_string()];
        assert_eq!(first("abcdefg", &stop), Some((1, "bcdefg")));
    }
}
