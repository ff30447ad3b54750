//! The narrow waist: what one part of the program hands to another, as plain structs that are also the files.

mod arm;
mod behaviour;
mod hook;
mod identity;
mod judge;
mod label;
mod recipe;
mod run;
mod sample;
mod sampling;
mod scan;
mod training;

pub use arm::*;
pub use behaviour::*;
pub use hook::*;
pub use identity::*;
pub use judge::*;
pub use label::*;
pub use recipe::*;
pub use run::*;
pub use sample::*;
pub use sampling::*;
pub use scan::*;
pub use training::*;
