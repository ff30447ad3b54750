//! Tests of the whole, in one binary: it links the large dependencies once.

mod adapter;
mod data;
mod gradients;
mod training;
