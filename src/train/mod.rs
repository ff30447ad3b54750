//! Training: attack, repair and pretraining are calls of one [`train`].
//!
//! The driver owns the step ([`step`]): it walks the decoder's stages, runs each block backward by itself and sums the
//! gradients of fixed chunks in a fixed order, so that the result does not depend on the number of workers.

pub mod adamw;
pub mod checkpoint;
pub mod config;
mod driver;
pub mod events;
pub mod explosion;
pub mod schedule;
pub mod step;
pub mod trainable;

pub use config::TrainConfig;
pub use driver::{StepEnd, mean_loss, train, train_from};
