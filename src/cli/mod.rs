//! (being written)

pub mod scan;
