//! How answers are drawn: the flags that every command that asks a model shares.

use clap::Args;

use super::subject::BaseArgs;
use crate::error::{Error, Result};
use crate::generate::sampling::Sampling;
use crate::progress::Progress;
use crate::subject::model_sampling;

/// How tokens are chosen and what ends an answer.
#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// Logits are divided by it; 0 always takes the likeliest token. Without it 1.
    #[arg(long, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Draw from the K likeliest tokens; 0 is all of them.
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Draw from the likeliest tokens that together have this probability.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Draw from the tokens that have at least this share of the likeliest one's probability.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub min_p: Option<f64>,
    /// Make tokens that the prompt or the answer holds less likely (above 1).
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub repetition_penalty: Option<f64>,
    /// End an answer before this text comes up; may be repeated. In most shells a new line is $'\n'.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Begin with what the model's generation_config.json says; the flags above stand over it. Without this nothing of it is
    /// used but the tokens that end an answer.
    #[arg(long)]
    pub sampling_from_model: bool,
    /// Memory that the keys and values of the answers under way may take; without it half of what is free. It changes no
    /// answer, only how many are made at once.
    #[arg(long, value_name = "GIB")]
    pub kv_cache_gib: Option<f64>,
}

impl SamplingArgs {
    /// What will be done, for this model.
    pub fn resolve(&self, base: &BaseArgs, progress: Progress) -> Result<Sampling> {
        let usual = match self.sampling_from_model {
            true => model_sampling(&base.model, base.revision.as_deref(), progress)?,
            false => Sampling::default(),
        };
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(usual.temperature),
            top_k: self.top_k.unwrap_or(usual.top_k),
            top_p: self.top_p.unwrap_or(usual.top_p),
            min_p: self.min_p.unwrap_or(usual.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(usual.repetition_penalty),
            stop: self.stop.clone(),
        };
        sampling.checked()
    }

    /// Bytes for keys and values; 0 leaves it to what is free.
    pub fn cache_bytes(&self) -> Result<usize> {
        match self.kv_cache_gib {
            None => Ok(0),
            Some(gib) if gib.is_finite() && gib > 0.0 => Ok((gib * f64::from(1 << 30)).ceil() as usize),
            Some(gib) => Err(Error::usage(format!("--kv-cache-gib is {gib}; it is more than 0"))),
        }
    }
}
