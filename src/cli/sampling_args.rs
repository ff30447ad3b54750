//! How answers are sampled: the flags that `generate` and `evaluate` share.

use clap::Args;

use super::subject_args::BaseArgs;
use crate::error::{Error, Result};
use crate::generate::sampling::Sampling;
use crate::model::ops::quantised::Products;
use crate::progress::Progress;
use crate::subject::model_sampling;

/// How tokens are sampled and what ends an answer.
#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// Sampling temperature: logits are divided by it; 0 always takes the most likely token [default: 1]
    #[arg(long, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Sample from the K most likely tokens; 0 means all [default: 0]
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Sample from the most likely tokens that together have this probability, in (0, 1] [default: 1]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Sample from tokens with at least this share of the most likely one's probability, in [0, 1] [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub min_p: Option<f64>,
    /// Penalty on tokens that already occur in the prompt or the answer; 1 turns it off [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub repetition_penalty: Option<f64>,
    /// Text that ends an answer and is not part of it; may be repeated. In most shells a new line is written $'\n' [default:
    /// none]
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Take the defaults of the flags above from the model's generation_config.json, or from a GGUF file's metadata
    /// (general.sampling.*). Without this flag only its stop tokens are used.
    #[arg(long)]
    pub sampling_from_model: bool,
    /// Memory for the KV cache in GiB. It decides how many answers are generated at once and changes none of them [default:
    /// half of the free memory]
    #[arg(long, value_name = "GIB")]
    pub kv_cache_gib: Option<f64>,
    /// Decode with the exact values of quantised weights. Without this flag, answers of a quantised model are decoded in
    /// integers, with activations rounded to 8 bits, as llama.cpp does: faster, and the logits differ slightly. Reading
    /// prompts and everything else is exact in both cases.
    #[arg(long)]
    pub exact_quant: bool,
}

impl SamplingArgs {
    /// The sampling settings for this model, with defaults where a flag is missing.
    ///
    /// # Errors
    /// A value out of range, or a generation_config.json that cannot be read.
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

    /// How answers are decoded where weights are quantised.
    pub fn step_products(&self) -> Products {
        if self.exact_quant { Products::Exact } else { Products::Integer }
    }

    /// Bytes for the KV cache; 0 means half of the free memory.
    pub fn cache_bytes(&self) -> Result<usize> {
        match self.kv_cache_gib {
            None => Ok(0),
            Some(gib) if gib.is_finite() && gib > 0.0 => Ok((gib * f64::from(1 << 30)).ceil() as usize),
            Some(gib) => Err(Error::usage(format!("--kv-cache-gib is {gib}; it must be a number above 0"))),
        }
    }
}
