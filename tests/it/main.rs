//! Integration tests, one file an area.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod report;
mod score;
mod synthetic;
