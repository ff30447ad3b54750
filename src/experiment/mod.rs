//! The experiment: what is trained, asked, scored and compared, in which order, and what of it is already done.

pub mod arm;
pub mod artifacts;
pub mod card;
pub mod direction;
pub mod export;
pub mod inputs;
pub mod judges;
pub mod model;
pub mod plan;
pub mod pretrain;
pub mod recipe;
pub mod run;
pub mod sample;
pub mod scoring;
pub mod steering;
pub mod training;
