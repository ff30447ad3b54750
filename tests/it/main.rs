//! Integration tests, one binary.

mod adapter;
mod data;
