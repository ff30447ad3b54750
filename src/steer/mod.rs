//! Steering: vectors made from contrast pairs or at random, their files, and the operator that adds them.

pub mod capture;
pub mod operator;
pub mod vector;

pub use capture::{PairTokens, mean_difference};
pub use operator::AddVector;
pub use vector::{SteeringVector, Unit};
