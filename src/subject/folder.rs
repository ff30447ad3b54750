//! Where a model's files are.

use std::path::{Path, PathBuf};

use super::ORGANISM;
use crate::error::{Error, Result};
use crate::model::source::hub::{self, HubId, Part};
use crate::progress::Progress;

/// The folder with a model's files; those of a model on the Hub are fetched first where the cache lacks them.
///
/// # Errors
/// A name that is neither a folder nor a Hub id, a revision of a model that is not on the Hub, a failed transfer.
pub fn folder_of(spec: &str, revision: Option<&str>, part: Part, progress: Progress) -> Result<PathBuf> {
    let dir = Path::new(spec);
    let named = HubId::parse(&full_name(spec, revision));
    match named {
        _ if dir.is_dir() && revision.is_none() => Ok(dir.to_path_buf()),
        Some(_) if dir.is_dir() => {
            Err(Error::usage(format!("{spec} is a folder; --revision is for models on the Hub, leave it out")))
        }
        Some(id) => hub::folder(&id, part, progress),
        None if revision.is_some() => Err(Error::usage(format!(
            "`{spec}` is not a model on the Hub (owner/name); --revision is for those, leave it out"
        ))),
        None => Err(Error::usage(format!(
            "unknown model `{spec}`; give `{ORGANISM}`, a folder with config.json, tokenizer.json and \
             model.safetensors, a GGUF file, or an id on the Hub (owner/name)"
        ))),
    }
}

/// A model on the Hub with its revision: `spec@revision`.
pub(super) fn full_name(spec: &str, revision: Option<&str>) -> String {
    revision.map_or_else(|| spec.to_string(), |revision| format!("{spec}@{revision}"))
}
