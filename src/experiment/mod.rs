//! The experiment: what is trained, asked, scored and compared, in which order, and what of it is already done.

pub mod judges;
pub mod model;
pub mod pretrain;
pub mod recipe;
pub mod sample;
pub mod scoring;
