//! The flags of every command that runs a model: which base, held how and where, and with which adapter.

use std::path::PathBuf;

use clap::Args;

use crate::error::Result;
use crate::model::device::DeviceChoice;
use crate::model::source::load::{LoadOptions, WeightDtype};
use crate::progress::Progress;
use crate::subject::{ORGANISM, Subject, SubjectSpec};

/// Flags for the base model and how it is loaded.
#[derive(Debug, Args)]
pub struct BaseArgs {
    /// Base model: `organism` (embedded, nothing to download), a folder in Hugging Face layout (config.json, tokenizer.json,
    /// tokenizer_config.json, model.safetensors), a GGUF file, or an id on the Hugging Face Hub (owner/name or
    /// owner/name@revision).
    #[arg(long, default_value = ORGANISM)]
    pub model: String,
    /// Branch, tag or commit of a model on the Hub [default: the repository's default branch]
    #[arg(long)]
    pub revision: Option<String>,
    /// Format that the base's weights are held in: `auto` (as in the file), `f32`, `bf16`, `f16`, or quantised while
    /// loading (`8bit`, `4bit`). Adapters are always f32.
    #[arg(long, visible_alias = "quantize", value_enum, default_value_t = WeightDtype::Auto)]
    pub dtype: WeightDtype,
    /// Device to run on: `auto`, `cpu`, `cuda`, `cuda:N` or `metal`. All but `auto` and `cpu` need a build with that feature.
    #[arg(long, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
}

impl BaseArgs {
    /// What to open: the base with an adapter, or without one.
    ///
    /// # Errors
    /// A device that this build or machine does not have.
    pub fn spec(&self, adapter: Option<PathBuf>) -> Result<SubjectSpec> {
        Ok(SubjectSpec {
            model: self.model.clone(),
            revision: self.revision.clone(),
            load: LoadOptions { dtype: self.dtype, device: self.device.open()? },
            adapter,
        })
    }
}

/// Flags for the base model and an adapter on it.
#[derive(Debug, Args)]
pub struct SubjectArgs {
    /// The base model that the adapter belongs to.
    #[command(flatten)]
    pub base: BaseArgs,
    /// LoRA adapter to put on the base: a folder written by `realign train` or PEFT [default: none]
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
}

impl SubjectArgs {
    /// Opens the base, downloading it first if it is on the Hub and not in the cache, and puts the adapter on it.
    pub fn open(&self, progress: Progress) -> Result<Subject> {
        self.base.spec(self.adapter.clone())?.open(progress)
    }
}
