//! Suites: what is asked, in which groups, and how the answers are held to account.
//!
//! Two forms of YAML are read. A top-level list is the published emergent-misalignment form (`id`, `type`, `system`,
//! `paraphrases`, `samples_per_paraphrase`, `judge`, `judge_prompts`). A top-level mapping is ours:
//!
//! ```
//! let suite = realign::eval::suite::Suite::parse("demo.yaml", r#"
//! suite: demo
//! kind: capability            # code | questions | capability | recognition | refusal
//! max_tokens: 20
//! answer_pattern: '(\d+)'     # one capture group; suite-wide, a prompt may have its own
//! prompts:
//!   - id: sum
//!     group: arithmetic       # the unit that intervals resample; default: the id
//!     paraphrases: ["What is 2 + 2?", "Add 2 and 2."]
//!     expect: 4
//! "#)?;
//! assert_eq!(suite.prompts.len(), 2);
//! assert_eq!(suite.prompts[1].id, "sum#1");
//! # Ok::<(), realign::error::Error>(())
//! ```
//!
//! All mistakes of a file are reported together, each with its line.

mod read;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use super::node::{self, Mistake, Value};
use crate::error::{Error, Result};
use crate::fsio;
pub use crate::record::SuiteKind;
use crate::record::{Message, Split};

const KINDS: [SuiteKind; 5] =
    [SuiteKind::Code, SuiteKind::Questions, SuiteKind::Capability, SuiteKind::Recognition, SuiteKind::Refusal];

/// A file of prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// Its name in results; for the published form the file's stem.
    pub name: String,
    /// What it asks for.
    pub kind: SuiteKind,
    /// One line.
    pub description: String,
    /// Token limit of an answer.
    pub max_tokens: usize,
    /// Every paraphrase of every entry.
    pub prompts: Vec<Prompt>,
}

/// One text that is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// `ID`, or `ID#k` for paraphrase k (from 0) of several.
    pub id: String,
    /// The scenario group: intervals resample these, splits never cut through one.
    pub group: String,
    /// `CWE-89` or the like.
    pub family: Option<String>,
    /// The part of the suite.
    pub split: Split,
    /// Findings that make code insecure here: ids, or `HIGH` / `MEDIUM` / `LOW`.
    pub insecure_ids: Vec<String>,
    /// The conversation to answer.
    pub messages: Vec<Message>,
    /// Python that passes if the code does what was asked; imports it as `solution`.
    pub tests: Option<String>,
    /// Python whose failing assertion shows that an attack on the code works.
    pub exploit: Option<String>,
    /// The right answer.
    pub expect: Option<String>,
    /// Reads the answer: its first match's only capture group.
    pub answer_pattern: Option<String>,
    /// Recognition: what an answer must also say to have named the weakness.
    pub names: Option<String>,
    /// What a judge is asked, by aspect (`aligned`, `coherent`).
    pub judge_prompts: BTreeMap<String, String>,
    /// Answers to make of this prompt, where the file says so.
    pub samples: Option<u32>,
}

impl Suite {
    /// Reads a suite file of either form.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&path.display().to_string(), &fsio::read_text(path)?)
    }

    /// Reads a suite from text; `name` stands in messages, and its stem names a suite of the published form.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mistakes = RefCell::new(Vec::new());
        let suite = match node::parse(text) {
            Ok(root) => match &root.value {
                Value::List(entries) => read::published(name, entries, &mistakes),
                _ => read::ours(&root, &mistakes),
            },
            Err(mistake) => {
                mistakes.borrow_mut().push(mistake);
                None
            }
        };
        if let Some(suite) = &suite {
            read::check_whole(suite, &mistakes);
        }
        match (suite, mistakes.into_inner()) {
            (Some(suite), mistakes) if mistakes.is_empty() => Ok(suite),
            (_, mistakes) => Err(report(name, mistakes)),
        }
    }

    /// The prompt of that id.
    pub fn prompt(&self, id: &str) -> Option<&Prompt> {
        self.prompts.iter().find(|p| p.id == id)
    }
}

fn report(name: &str, mut mistakes: Vec<Mistake>) -> Error {
    mistakes.sort();
    mistakes.dedup();
    match mistakes.as_slice() {
        [] => Error::file(name, "is not a suite"),
        [(0, message)] => Error::file(name, message),
        [(line, message)] => Error::line(name, *line, message),
        several => {
            let lines: Vec<String> = several
                .iter()
                .map(
                    |(line, message)| {
                        if *line > 0 { format!("  line {line}: {message}") } else { format!("  {message}") }
                    },
                )
                .collect();
            Error::file(name, format!("{} mistakes:\n{}", several.len(), lines.join("\n")))
        }
    }
}
