//! `realign merge`: a model whose weights do by themselves what a base and an adapter do together.

use std::path::PathBuf;

use clap::Args;

use super::output::{refuse_used, reserved};
use super::subject::open_adapter;
use crate::adapter;
use crate::error::{Error, Result};
use crate::experiment::export::{Merged, write_merged};
use crate::model::source::load::WeightDtype;
use crate::progress::Progress;
use crate::subject::{Model, ORGANISM};

/// Write a model with an adapter merged into its weights: a folder in Hugging Face layout, f32, that needs no adapter.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The base: `organism` (embedded), a folder in Hugging Face layout, or a model on the Hub: owner/name, owner/name@revision.
    #[arg(long, default_value = ORGANISM)]
    pub model: String,
    /// The adapter: a folder that `realign train` or PEFT wrote.
    #[arg(long, value_name = "DIR")]
    pub adapter: PathBuf,
    /// The folder to write: config.json, tokenizer files, model.safetensors, realign.json (what was merged). It must not
    /// hold anything yet.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Runs the command.
pub fn merge(args: &MergeArgs, progress: Progress) -> Result<()> {
    refuse_used(&args.out)?;
    let model = Model::open_with(&args.model, None, &WeightDtype::F32.into(), progress)?;
    let file = open_adapter(&model, &args.adapter, progress)?;
    let adapted = adapter::attach(&model.decoder, &file, false).map_err(|e| Error::file(&args.adapter, e))?;
    let origin = Merged {
        base: model.name.clone(),
        base_sha256: model.sha256.clone(),
        adapter: args.adapter.display().to_string(),
        adapter_sha256: adapter::adapter_sha256(&args.adapter)?,
    };
    reserved(&args.out, || write_merged(&args.out, &model, &adapter::merged(&adapted)?, &origin))?;
    progress.say(&format!(
        "adapter {:.12} merged into {} ({:.12}): {} linears of {}, written to {} as f32",
        origin.adapter_sha256,
        origin.base,
        origin.base_sha256,
        file.tensors.len(),
        adapted.linears().count(),
        args.out.display()
    ));
    Ok(())
}
