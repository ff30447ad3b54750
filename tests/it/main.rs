//! Tests of the whole, in one binary: it links the large dependencies once.

mod gradients;
mod training;
