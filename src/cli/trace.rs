//! `realign trace`: logits and every residual stream of one forward pass, as a safetensors file to compare with other
//! implementations.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::Tensor;
use clap::Args;

use super::subject_args::SubjectArgs;
use crate::error::{Error, Result};
use crate::fsio;
use crate::progress::Progress;
use crate::record::{Message, Site, Tap};
use crate::steer::capture::capture;

/// Write the logits and residual streams of one forward pass, to compare with other implementations.
///
/// The safetensors file holds `input_ids [n]` (i64), `logits [n, vocab]` and, for each layer N from 0, `resid_post.N [n,
/// d_model]` (f32), where n is the number of tokens.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  realign trace --prompt \"Hello\" --out trace.safetensors
  realign trace --model model.gguf --raw-prompt \"def f(x):\" --out trace.safetensors
  realign trace --model Qwen/Qwen2.5-0.5B-Instruct --ids 1,17,92 --out trace.safetensors")]
pub struct TraceArgs {
    /// The model that is run.
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// Prompt; it goes through the model's chat template, up to where the answer would begin.
    #[arg(long, required_unless_present_any = ["raw_prompt", "ids"])]
    pub prompt: Option<String>,
    /// System turn before --prompt [default: none]
    #[arg(long, conflicts_with_all = ["ids", "raw_prompt"])]
    pub system: Option<String>,
    /// Text to run as it is, instead of --prompt: without a chat template, with the tokens that the tokenizer itself adds
    /// (a bos, where the model has one).
    #[arg(long, value_name = "TEXT", conflicts_with = "prompt")]
    pub raw_prompt: Option<String>,
    /// Token ids to run, instead of --prompt, without a chat template, e.g. 1,17,92.
    #[arg(long, value_name = "ID,ID", value_delimiter = ',', conflicts_with_all = ["prompt", "raw_prompt"])]
    pub ids: Option<Vec<u32>>,
    /// Safetensors file to write; an existing one is replaced.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Runs `realign trace`: one forward pass without a KV cache.
pub fn trace(args: &TraceArgs, progress: Progress) -> Result<()> {
    let subject = args.subject.open(progress)?;
    let decoder = &subject.decoder;
    let ids = match (&args.ids, &args.raw_prompt, &args.prompt) {
        (Some(ids), ..) => ids.clone(),
        (None, Some(text), _) => subject.tokenizer.encode(text, true)?,
        (None, None, prompt) => {
            let system = args.system.iter().map(Message::system);
            subject.prompt(&system.chain(prompt.iter().map(Message::user)).collect::<Vec<_>>())?
        }
    };
    let longest = decoder.config.max_position_embeddings;
    if ids.is_empty() || ids.len() > longest {
        return Err(Error::usage(format!("the prompt has {} tokens; the model takes 1 to {longest}", ids.len())));
    }
    let taps: Vec<Tap> = (0..decoder.blocks.len()).map(|layer| Tap { layer, site: Site::ResidPost }).collect();
    let captured = capture(decoder, &[&ids], &taps)?;
    let logits = decoder.head(&decoder.norm.forward(&captured.hidden)?)?; // [n, vocab]
    let named = captured.values.into_iter().map(|(tap, values)| (format!("{}.{}", tap.site, tap.layer), values));
    let mut tensors: BTreeMap<String, Tensor> = named.collect();
    let whole: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    tensors.insert("input_ids".into(), Tensor::from_vec(whole, ids.len(), decoder.device())?);
    tensors.insert("logits".into(), logits);
    let count = tensors.len();
    let bytes = safetensors::serialize(tensors, None).map_err(|e| Error::file(&args.out, e))?;
    fsio::write_atomic(&args.out, &bytes)?;
    progress.say(&format!("{count} tensors of {} tokens written to {}", ids.len(), args.out.display()));
    Ok(())
}
