//! `realign confined` (hidden): confines itself and becomes the interpreter that runs generated code.

use clap::Args;

use crate::error::{Error, Result};
use crate::eval::confine::{Cell, enter};

/// What to become, and how confined.
#[derive(Debug, Args)]
pub struct ConfinedArgs {
    /// A `Cell` as JSON.
    pub cell: String,
}

/// Does not come back unless something is amiss.
pub fn confined(args: &ConfinedArgs) -> Result<()> {
    let cell: Cell = serde_json::from_str(&args.cell).map_err(|e| Error::usage(format!("not a cell: {e}")))?;
    enter(&cell)
}
