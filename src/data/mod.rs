//! Text in: rows, conversations, tokens, loss weights.

pub mod contrast;
