//! Integration tests, one binary: one link instead of many.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod organism;
