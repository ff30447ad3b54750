//! Reads an adapter for a subject, checks it against the base, and puts it on.

use std::path::{Path, PathBuf};

use super::Subject;
use crate::adapter::{self, AdapterFile, attach};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// An adapter that a subject was opened with.
#[derive(Debug, Clone)]
pub struct AppliedAdapter {
    /// Folder that the adapter was read from.
    pub folder: PathBuf,
    /// SHA-256 over its configuration and weights.
    pub sha256: String,
    /// The adapter's configuration and weights.
    pub file: AdapterFile,
}

impl Subject {
    /// The subject with the adapter of a folder on its base, in place of any other.
    ///
    /// # Errors
    /// An adapter that was trained on other weights (of the same shape it would fit, and mean nothing), that does not fit,
    /// or that changes nothing.
    pub fn with_adapter(mut self, folder: &Path, progress: Progress) -> Result<Self> {
        let file = read_for(&self, folder, progress)?;
        self.decoder = attach(&self.base, &file, false).map_err(|e| Error::file(folder, e))?;
        let sha256 = adapter::adapter_sha256(folder)?;
        self.adapter = Some(AppliedAdapter { folder: folder.to_path_buf(), sha256, file });
        Ok(self)
    }
}

/// Reads an adapter for a base. Where the base's weights were held in another format when it was trained, a line says so.
fn read_for(subject: &Subject, folder: &Path, progress: Progress) -> Result<AdapterFile> {
    let file = adapter::read(folder)?;
    if let Some(lineage) = adapter::read_lineage(folder)? {
        if lineage.base_sha256 != subject.sha256 {
            return Err(Error::file(
                folder,
                format!(
                    "was trained on {} (weights {:.12}), but {} has other weights ({:.12}); give --model the base that \
                     the adapter belongs to",
                    lineage.base, lineage.base_sha256, subject.name, subject.sha256
                ),
            ));
        }
        let [then, now] =
            [lineage.base_dtype, subject.reduced_dtype()].map(|held| held.unwrap_or_else(|| "f32".into()));
        if then != now && [&then, &now].iter().any(|held| held.contains('q')) {
            progress.say(&format!(
                "{} was trained on a base held as {then}; here the base is held as {now}, and rounding differs",
                folder.display()
            ));
        }
    }
    if adapter::changes_nothing(&subject.base, &file).map_err(|e| Error::file(folder, e))? {
        return Err(Error::file(folder, "changes nothing on this base; was it saved before training?"));
    }
    Ok(file)
}
