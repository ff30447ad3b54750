//! Integration tests, one binary.

mod data;
