//! What a command writes: folders that were empty before and are known to be writable before the work, and standard output.

use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};
use crate::finetune::folder::is_used;
use crate::fsio;

/// Refuses a folder that is not empty.
pub fn refuse_used(out: &Path) -> Result<()> {
    if is_used(out) {
        return Err(Error::file(out, "already exists and is not overwritten; name another folder or remove it"));
    }
    Ok(())
}

/// Makes the folder, then does the work, so that a folder that cannot be written is found first. If the work fails the
/// folder is removed.
pub fn reserved<T>(out: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    fsio::create_dir(out)?;
    // A result is renamed into place: the folder above must be writable too.
    fsio::write_dir_atomic(out, |_| Ok(()))?;
    work().inspect_err(|_| {
        // An error in removing it would hide the one that matters.
        let _ = fsio::remove_dir(out);
    })
}

/// Prints a command's result to standard output.
pub fn print(text: &str) {
    // A reader that closed the pipe has seen enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
