//! Tests of the whole, in one binary: it links the large dependencies once.

mod adapter;
mod data;
mod eval;
mod gradients;
mod organism;
mod report;
mod scan;
mod score;
mod synthetic;
mod training;
