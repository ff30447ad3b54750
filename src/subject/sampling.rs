//! How the authors of a model would have its answers sampled.

use std::path::Path;

use super::{ORGANISM, folder_of};
use crate::error::{Error, Result};
use crate::generate::sampling::Sampling;
use crate::model::source::gguf::is_gguf;
use crate::model::source::hub::Part;
use crate::progress::Progress;

/// The sampling settings of a model's generation_config.json.
///
/// # Errors
/// A model without that file, or a file with a setting that is not supported.
pub fn model_sampling(spec: &str, revision: Option<&str>, progress: Progress) -> Result<Sampling> {
    if spec != ORGANISM {
        let folder = match Path::new(spec) {
            file if is_gguf(file) && revision.is_none() => file.parent().unwrap_or(Path::new("")).to_path_buf(),
            _ => folder_of(spec, revision, Part::All, progress)?,
        };
        let path = folder.join("generation_config.json");
        if path.exists() {
            return Sampling::from_generation_config(&path);
        }
    }
    Err(Error::usage(format!(
        "the model `{spec}` has no generation_config.json to read sampling settings from; give --temperature, --top-k, \
         --top-p and the like instead"
    )))
}
