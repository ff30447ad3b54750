//! Tests of the whole, in one binary: it links the large dependencies once.

mod adapter;
mod data;
mod gradients;
mod organism;
mod training;
//! Tests of the crate as its users see it.

mod eval;
//! Integration tests, one file an area.

mod report;
mod score;
mod synthetic;
