//! Training an adapter for a subject: the recipe, one call that follows it, and a folder that a stopped training goes on in.

pub mod folder;
pub mod rank1;
pub mod recipe;
