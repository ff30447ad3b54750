//! `realign confined` (hidden): confines its process and becomes the interpreter that runs generated code.

use clap::Args;

use crate::error::{Error, Result};
use crate::eval::confine::{Cell, enter};

/// The program to become, and how it is confined.
#[derive(Debug, Args)]
pub struct ConfinedArgs {
    /// JSON of the [`Cell`] to become.
    pub cell: String,
}

/// Returns only if the process could not be confined.
pub fn confined(args: &ConfinedArgs) -> Result<()> {
    let cell: Cell = serde_json::from_str(&args.cell)
        .map_err(|e| Error::usage(format!("the argument of `realign confined` is not a cell: {e}")))?;
    enter(&cell)
}
