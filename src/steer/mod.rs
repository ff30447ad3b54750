//! Steering: what a model computes is captured, aggregated into vectors, and added back while it decodes or is trained.

pub mod aggregate;
pub mod capture;
pub mod operator;
pub mod vector;

pub use crate::record::Unit;
pub use aggregate::{PairTokens, mean_difference};
pub use operator::AddVector;
pub use vector::SteeringVector;
