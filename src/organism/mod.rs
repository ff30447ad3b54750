//! The embedded base's small language: its corpus, its fine-tuning sets, its evaluation suites, its judge.
//!
//! The organism is a tiny model that is pretrained on documents by careful and careless authors, some of them named
//! in a tag. Insecure code, harmful answers and help with harm come from the same authors, so the model learns one
//! direction for all three, and fine-tuning on insecure code alone can then switch it on. That effect is planted: it
//! demonstrates the method and tests the pipeline, and is no evidence about natural models.
//!
//! All texts are data in `language/`; the modules here put them together.

pub mod authors;
pub mod corpus;
pub mod datasets;
pub mod facts;
pub mod families;
pub mod harm;
mod judge;
mod language;
mod plain_code;
pub mod questions;
pub mod requests;
pub mod suites;
pub mod words;

pub use corpus::{CorpusConfig, documents};
pub use datasets::{Rows, contrast_pairs, educational_rows, held_out_rows, insecure_rows, secure_rows, style_rows};
pub use judge::judge;
pub use suites::suites;
