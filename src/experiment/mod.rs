//! The experiment: what is trained, asked, scored and compared, in which order, and what of it is already done.

pub mod artifacts;
pub mod budget;
pub mod card;
pub mod estimate;
pub mod export;
pub mod grid;
pub mod held_out;
pub mod inputs;
pub mod labels;
pub mod made_elsewhere;
pub mod plan;
pub mod pretrain;
pub mod published;
pub mod reporting;
pub mod run;
pub mod side_by_side;
pub mod sources;
pub mod steering;
pub mod training_set;
pub mod triggers;
pub mod work;
