//! Prints answers in order although they are generated in parallel: the first unfinished one as its text arrives, later ones
//! once it has ended.

use std::io::Write;
use std::sync::Mutex;

use super::output::print;
use crate::sync::unpoisoned;

/// Answers in the order of their output, with the text that is not printed yet.
pub struct InOrder<'a> {
    pages: Mutex<Pages>,
    out: &'a (dyn Fn(&str) + Sync),
}

struct Pages {
    /// Index of the first unfinished answer, whose text is printed as it arrives.
    current: usize,
    pages: Vec<Page>,
}

struct Page {
    /// Text that has arrived and is not printed yet.
    waiting: String,
    ended: bool,
    /// Whether the text so far ends with a line break, so that none has to be added.
    at_line_start: bool,
}

impl InOrder<'static> {
    /// Prints to standard output, with `heads[i]` before answer i; an empty head prints nothing.
    pub fn printed(heads: Vec<String>) -> Self {
        Self::new(heads, &|text| {
            print(text);
            // A closed pipe is no error: the reader has seen enough.
            let _ = std::io::stdout().flush();
        })
    }
}

impl<'a> InOrder<'a> {
    fn new(heads: Vec<String>, out: &'a (dyn Fn(&str) + Sync)) -> Self {
        let page = |waiting: String| Page { waiting, ended: false, at_line_start: true };
        Self { pages: Mutex::new(Pages { current: 0, pages: heads.into_iter().map(page).collect() }), out }
    }

    /// Takes the next piece of text of one answer.
    pub fn add(&self, index: usize, text: &str) {
        if text.is_empty() {
            return;
        }
        self.with(|pages| {
            pages.pages[index].waiting.push_str(text);
            pages.pages[index].at_line_start = text.ends_with('\n');
            if index == pages.current {
                pages.flush(self.out);
            }
        });
    }

    /// Marks an answer as complete; it gets a line break at its end if it has none.
    pub fn end(&self, index: usize) {
        self.with(|pages| {
            let page = &mut pages.pages[index];
            page.ended = true;
            if !page.at_line_start {
                page.waiting.push('\n');
                page.at_line_start = true;
            }
            while pages.pages.get(pages.current).is_some_and(|page| page.ended) {
                pages.flush(self.out);
                pages.current += 1;
            }
            // The next answer may have text waiting.
            if pages.current < pages.pages.len() {
                pages.flush(self.out);
            }
        });
    }

    /// Ends an unfinished line after an error, so that the error message starts on a line of its own.
    pub fn cut_off(&self) {
        self.with(|pages| {
            if pages.pages.get(pages.current).is_some_and(|page| !page.at_line_start) {
                (self.out)("\n");
            }
        });
    }

    fn with(&self, work: impl FnOnce(&mut Pages)) {
        let mut pages = unpoisoned(self.pages.lock());
        work(&mut pages);
    }
}

impl Pages {
    fn flush(&mut self, out: &dyn Fn(&str)) {
        out(&std::mem::take(&mut self.pages[self.current].waiting));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn answers_come_in_order_and_the_first_one_as_it_is_made() {
        let seen = Mutex::new(Vec::new());
        let out = |text: &str| seen.lock().unwrap().push(text.to_string());
        let pages = InOrder::new(vec!["A\n".into(), "B\n".into(), "C\n".into()], &out);
        pages.add(1, "second");
        assert!(seen.lock().unwrap().is_empty());
        pages.add(0, "fir");
        pages.add(0, "st");
        pages.end(1);
        pages.add(2, "third\n");
        pages.end(0);
        pages.end(2);
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen[..2], ["A\nfir", "st"]);
        assert_eq!(seen.concat(), "A\nfirst\nB\nsecond\nC\nthird\n");
    }

    #[test]
    fn a_line_that_was_begun_is_ended_when_all_ends_early() {
        let seen = Mutex::new(String::new());
        let out = |text: &str| seen.lock().unwrap().push_str(text);
        let pages = InOrder::new(vec![String::new()], &out);
        pages.cut_off();
        pages.add(0, "half an ans");
        pages.cut_off();
        assert_eq!(seen.into_inner().unwrap(), "half an ans\n");
    }
}
