//! Training: attack, repair, preferences and pretraining are calls of one [`train`], each with its [`Objective`].
//!
//! The driver owns the step ([`step`]): it walks the decoder's stages, runs each block backward by itself and sums the
//! gradients of fixed chunks in a fixed order, so that the result does not depend on the number of workers.

pub mod adamw;
pub mod checkpoint;
pub mod dpo;
mod driver;
pub mod events;
pub mod explosion;
pub mod objective;
pub mod packed;
pub mod schedule;
pub mod step;
pub mod trainable;
mod workers;

pub use crate::record::TrainConfig;
pub use driver::{StepEnd, mean_loss, train, train_from};
pub use objective::Objective;
pub use packed::CHUNK_TOKENS;
