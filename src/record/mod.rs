//! The narrow waist: what one part of the program hands to another, as plain structs that are also the files.

mod judge;
mod run;
mod sample;
mod scan;
mod tests;
mod training;

pub use judge::*;
pub use run::*;
pub use sample::*;
pub use scan::*;
pub use tests::*;
pub use training::*;
