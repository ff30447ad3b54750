//! Folders that a command writes: never somebody's result, and found writable before the work, not after it.

use std::path::Path;

use crate::error::{Error, Result};
use crate::finetune::folder::is_used;
use crate::fsio;

/// Refuses a folder that holds anything; an empty one is fine.
pub fn refuse_used(out: &Path) -> Result<()> {
    if is_used(out) {
        return Err(Error::file(out, "is already there and is not overwritten; name another folder or remove it"));
    }
    Ok(())
}

/// Does the work with the folder already made, so that one that cannot be written is found first. If the work fails the
/// folder is gone again.
pub fn reserved<T>(out: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    fsio::create_dir(out)?;
    // A result is renamed into place: the folder above must be writable too.
    fsio::write_dir_atomic(out, |_| Ok(()))?;
    work().inspect_err(|_| {
        // The error at hand says more than one from here would.
        let _ = fsio::remove_dir(out);
    })
}
