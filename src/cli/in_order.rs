//! Answers that are made side by side, printed one behind the other: the first unfinished one as it appears, those after
//! it once it has ended.

use std::io::Write;
use std::sync::Mutex;

use super::output::print;
use crate::sync::unpoisoned;

/// What is still to be printed.
pub struct InOrder<'a> {
    pages: Mutex<Pages>,
    out: &'a (dyn Fn(&str) + Sync),
}

struct Pages {
    /// The one that is being printed.
    current: usize,
    pages: Vec<Page>,
}

struct Page {
    /// Not yet printed.
    waiting: String,
    ended: bool,
    /// Whether the last of it was the end of a line.
    at_line_start: bool,
}

impl InOrder<'static> {
    /// To standard output, a headline before each; an empty one is none.
    pub fn printed(heads: Vec<String>) -> Self {
        Self::new(heads, &|text| {
            print(text);
            // A reader that has gone has seen enough.
            let _ = std::io::stdout().flush();
        })
    }
}

impl<'a> InOrder<'a> {
    fn new(heads: Vec<String>, out: &'a (dyn Fn(&str) + Sync)) -> Self {
        let page = |waiting: String| Page { waiting, ended: false, at_line_start: true };
        Self { pages: Mutex::new(Pages { current: 0, pages: heads.into_iter().map(page).collect() }), out }
    }

    /// More of one answer.
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

    /// One answer is there in full; it ends with the end of a line.
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
            // What the next one has already.
            if pages.current < pages.pages.len() {
                pages.flush(self.out);
            }
        });
    }

    /// Nothing more comes: whatever line was begun is ended, so that a message does not stand behind it.
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
