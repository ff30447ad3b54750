//! Text in: rows, conversations, tokens, loss weights.

pub mod batches;
pub mod collate;
pub mod contrast;
pub mod embedded;
pub mod interleave;
pub mod preference;
pub mod rows;
pub mod template;
pub mod tokenizer;
