//! Fine-tuning: rows are read and encoded once, a recipe says how they are learned from, and a training is resumable in a
//! folder of its own. Attack, repair, controls and preferences are calls of one [`tune::tune_from`].

mod adapter_config;
pub mod folder;
pub mod presets;
pub mod rank1;
mod recipe_checks;
pub mod rows;
pub mod tune;
