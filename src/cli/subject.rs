//! Which model, with which adapter: the flags that every command that runs a model shares.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::adapter::{self, AdapterFile, attach};
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::device::DeviceChoice;
use crate::model::source::load::{LoadOptions, WeightDtype};
use crate::progress::Progress;
use crate::subject::{Model, ORGANISM};

/// Which model, held how and where.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// `organism` (embedded, nothing to download), a folder in Hugging Face layout (config.json, tokenizer.json,
    /// tokenizer_config.json, model.safetensors), a GGUF file with a tokenizer.json beside it, or a model's id on the
    /// Hugging Face Hub: owner/name, owner/name@revision.
    #[arg(long, default_value = ORGANISM)]
    pub model: String,
    /// Of a model on the Hub: a branch, a tag or a commit.
    #[arg(long)]
    pub revision: Option<String>,
    /// How the base's weights are held: `auto` (as the file has them), `f32`, `bf16`, `f16`, or quantised as they are
    /// loaded: `8bit`, `4bit`. Adapters are f32 on all of them.
    #[arg(long, visible_alias = "quantize", value_enum, default_value_t = WeightDtype::Auto)]
    pub dtype: WeightDtype,
    /// Where it runs: `auto`, `cpu`, `cuda`, `cuda:N`, `metal` (the last three need a build with that feature).
    #[arg(long, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
}

impl ModelArgs {
    /// Opens it, fetched first if need be.
    pub fn open(&self, progress: Progress) -> Result<Model> {
        let options = LoadOptions { dtype: self.dtype, device: self.device.open()? };
        Model::open_with(&self.model, self.revision.as_deref(), &options, progress)
    }
}

/// The model that is asked.
#[derive(Debug, Args)]
pub struct SubjectArgs {
    /// The base.
    #[command(flatten)]
    pub base: ModelArgs,
    /// A LoRA adapter to put on it: a folder that `realign train` or PEFT wrote.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
}

impl SubjectArgs {
    /// Opens the model, and the decoder with the adapter on it.
    pub fn open(&self, progress: Progress) -> Result<(Model, Decoder)> {
        let model = self.base.open(progress)?;
        let decoder = match &self.adapter {
            Some(dir) => {
                attach(&model.decoder, &open_adapter(&model, dir, progress)?, false).map_err(|e| Error::file(dir, e))?
            }
            None => model.decoder.clone(),
        };
        Ok((model, decoder))
    }
}

/// Reads an adapter for a model. One that says it was trained on other weights is refused: of the same shape it would
/// fit, and mean nothing. Of the same weights held otherwise a word is said.
pub fn open_adapter(model: &Model, dir: &Path, progress: Progress) -> Result<AdapterFile> {
    let file = adapter::read(dir)?;
    if let Some(lineage) = adapter::read_lineage(dir)? {
        if lineage.base_sha256 != model.sha256 {
            return Err(Error::file(
                dir,
                format!(
                    "was trained on {} (weights {:.12}), and {} has other weights ({:.12}); give the model that it \
                     belongs to",
                    lineage.base, lineage.base_sha256, model.name, model.sha256
                ),
            ));
        }
        let [then, now] = [lineage.base_dtype, model.reduced_dtype()].map(|held| held.unwrap_or_else(|| "f32".into()));
        if then != now && [&then, &now].iter().any(|held| held.contains('q')) {
            progress.say(&format!(
                "{} was trained on weights held as {then}, here they are {now}: it was fitted to the rounding of the first",
                dir.display()
            ));
        }
    }
    if adapter::changes_nothing(&model.decoder, &file).map_err(|e| Error::file(dir, e))? {
        return Err(Error::file(dir, "changes nothing on this base: was it saved before training?"));
    }
    Ok(file)
}

/// Prints a command's result.
pub fn print(text: &str) {
    // A reader that closed the pipe has seen enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
