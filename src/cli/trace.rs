//! `realign trace`: logits and every residual stream of one forward pass, as a safetensors file to compare with other
//! implementations.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use candle_core::Tensor;
use clap::Args;

use super::subject_args::SubjectArgs;
use crate::error::{Error, Result};
use crate::fsio;
use crate::model::block::{Attend, Pass};
use crate::model::hooks::{Intervention, Site, Tap};
use crate::model::segments::Segments;
use crate::progress::Progress;
use crate::record::Message;
use crate::sync::unpoisoned;

/// Write what one forward pass computes: input_ids [n], logits [n, vocab], resid_post.N [n, d_model], f32.
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

/// Keeps the residual stream after every block.
#[derive(Default)]
struct Recorder(Mutex<BTreeMap<String, Tensor>>);

impl Intervention for Recorder {
    fn apply(&self, tap: Tap, x: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if tap.site == Site::ResidPost {
            let mut kept = unpoisoned(self.0.lock());
            kept.insert(format!("resid_post.{}", tap.layer), x.detach().copy()?);
        }
        Ok(None)
    }
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
    let recorder = Recorder::default();
    let segments = Segments::packed([ids.len()], 0);
    let mut pass = Pass { attend: Attend::Sequences(&segments), intervention: Some(&recorder), dropout: None };
    let logits = decoder.forward(&ids, &mut pass)?; // [n, vocab]
    let mut tensors = unpoisoned(recorder.0.into_inner());
    let whole: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    tensors.insert("input_ids".into(), Tensor::from_vec(whole, ids.len(), decoder.device())?);
    tensors.insert("logits".into(), logits);
    let count = tensors.len();
    let bytes = safetensors::serialize(tensors, None).map_err(|e| Error::file(&args.out, e))?;
    fsio::write_atomic(&args.out, &bytes)?;
    progress.say(&format!("{count} tensors of {} tokens written to {}", ids.len(), args.out.display()));
    Ok(())
}
