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

/// Write what one forward pass computes: `input_ids [n]`, `logits [n, vocab]`, `resid_post.N [n, d_model]`, f32.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Whose pass.
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// A question; it goes through the chat template, up to where the answer begins.
    #[arg(long, required_unless_present = "ids", conflicts_with = "ids")]
    pub prompt: Option<String>,
    /// A system turn before the question.
    #[arg(long, conflicts_with = "ids")]
    pub system: Option<String>,
    /// Token ids as they are, e.g. 1,17,92.
    #[arg(long, value_delimiter = ',')]
    pub ids: Option<Vec<u32>>,
    /// The safetensors file to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Runs the command.
pub fn trace(args: &TraceArgs, progress: Progress) -> Result<()> {
    let subject = args.subject.open(progress)?;
    let decoder = &subject.decoder;
    let ids = match (&args.ids, &args.prompt) {
        (Some(ids), _) => ids.clone(),
        (None, prompt) => {
            let system = args.system.iter().map(Message::system);
            subject.prompt(&system.chain(prompt.iter().map(Message::user)).collect::<Vec<_>>())?
        }
    };
    let longest = decoder.config.max_position_embeddings;
    if ids.is_empty() || ids.len() > longest {
        return Err(Error::usage(format!("{} tokens were given; the model takes 1 to {longest}", ids.len())));
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
