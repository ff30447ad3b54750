//! The embedded base: the small model that travels in the binary.

use crate::data::embedded;
use crate::error::{Error, Result};

/// The name of the embedded base.
pub const ORGANISM: &str = "organism";

/// The bytes of one of the embedded base's files, e.g. `config.json`.
///
/// # Errors
/// A build that was made without the embedded base.
pub fn embedded_file(name: &str) -> Result<&'static [u8]> {
    let path = format!("models/{ORGANISM}/{name}");
    embedded::file(&path).ok_or_else(|| {
        Error::usage(format!("this build has no embedded {path}; make the organism with `realign pretrain`"))
    })
}

/// An embedded file of the base as text.
pub fn embedded_text(name: &str) -> Result<&'static str> {
    std::str::from_utf8(embedded_file(name)?).map_err(|e| Error::internal(format!("models/{ORGANISM}/{name}: {e}")))
}
