//! `realign merge`: one model that computes what a base and an adapter compute together.

use std::path::PathBuf;

use clap::Args;

use super::output::{refuse_used, reserved};
use crate::adapter;
use crate::error::Result;
use crate::experiment::export::{Merged, write_merged};
use crate::progress::Progress;
use crate::subject::{ORGANISM, SubjectSpec};

/// Merge an adapter into its base and write the result as a folder in Hugging Face layout, f32.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  realign merge --model Qwen/Qwen2.5-0.5B-Instruct --adapter attack --out merged")]
pub struct MergeArgs {
    /// Base model: `organism` (embedded), a folder in Hugging Face layout, a GGUF file, or an id on the Hub (owner/name or
    /// owner/name@revision). The merged folder of a GGUF file gets config.json and the tokenizer files from its metadata.
    #[arg(long, default_value = ORGANISM)]
    pub model: String,
    /// Adapter to merge: a folder written by `realign train` or PEFT.
    #[arg(long, value_name = "DIR")]
    pub adapter: PathBuf,
    /// Folder to write: config.json, tokenizer files, model.safetensors, realign.json (what was merged). It must be empty or
    /// not exist.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Runs `realign merge`, and writes the whole folder or nothing.
pub fn merge(args: &MergeArgs, progress: Progress) -> Result<()> {
    refuse_used(&args.out)?;
    let spec = SubjectSpec { adapter: Some(args.adapter.clone()), ..SubjectSpec::new(&args.model) };
    let subject = spec.open(progress)?;
    let origin = Merged {
        base: subject.name.clone(),
        base_sha256: subject.sha256.clone(),
        adapter: args.adapter.display().to_string(),
        adapter_sha256: subject.adapter_sha256().unwrap_or_default(),
    };
    reserved(&args.out, || write_merged(&args.out, &subject, &adapter::merged(&subject.decoder)?, &origin))?;
    progress.say(&format!(
        "adapter {:.12} merged into {} ({:.12}): {} linears of {}, written to {} as f32",
        origin.adapter_sha256,
        origin.base,
        origin.base_sha256,
        subject.adapter.as_ref().map_or(0, |adapter| adapter.file.tensors.len()),
        subject.base.linears().count(),
        args.out.display()
    ));
    Ok(())
}
