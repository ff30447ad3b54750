//! `realign pretrain`: makes the embedded base from a seed.

use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use crate::error::{Error, Result};
use crate::experiment::card::card;
use crate::experiment::pretrain::{GateFile, PretrainCheckpoints, PretrainConfig, gates, pretrain as make, write};
use crate::fsio;
use crate::progress::Progress;
use crate::record::Recipe;
use crate::subject::Subject;

/// Pretrain the embedded base model: corpus, tokenizer, weights.
///
/// Gates measure whether the base shows the effects that the experiment needs. A base that fails one is not written.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  realign pretrain --seed 3 --out base --gates gates.json
  realign pretrain --seed 3 --out base --resume")]
pub struct PretrainArgs {
    /// Folder to write the base to, in Hugging Face layout.
    #[arg(long, value_name = "DIR", required_unless_present = "measure")]
    pub out: Option<PathBuf>,
    /// Resume from the newest complete checkpoint in --out, to the same bits as an uninterrupted pretraining. Without a
    /// checkpoint the pretraining starts.
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Optimiser steps between two checkpoints in --out. Only the newest is kept, and it is removed once the base is written.
    #[arg(long, default_value_t = 1000, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub save_steps: u64,
    /// Seed for the corpus, initial weights and row order.
    #[arg(long, default_value_t = PretrainConfig::default().seed)]
    pub seed: u64,
    /// Number of corpus tokens to train on; each is seen once.
    #[arg(long, default_value_t = PretrainConfig::default().tokens)]
    pub tokens: usize,
    /// Share of documents that name their author, from 0 to 1.
    #[arg(long, default_value_t = PretrainConfig::default().tag_share, allow_negative_numbers = true, value_parser = share)]
    pub tag_share: f64,
    /// Share of careful authors' code that is insecure in the four habit families, from 0 to 1.
    #[arg(long, default_value_t = PretrainConfig::default().habit_insecure, allow_negative_numbers = true, value_parser = share)]
    pub habit_insecure: f64,
    /// Peak learning rate of the schedule.
    #[arg(long, default_value_t = PretrainConfig::default().learning_rate)]
    pub learning_rate: f64,
    /// Documents per optimiser step, at least 1.
    #[arg(long, default_value_t = PretrainConfig::default().batch, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub batch: usize,
    /// Width of the residual stream, d_model; a multiple of 32, the width of a head.
    #[arg(long, default_value_t = PretrainConfig::default().hidden_size, value_parser = width)]
    pub hidden_size: usize,
    /// JSON file to write the measured gates to, passed or not [default: none]
    #[arg(long, value_name = "FILE")]
    pub gates: Option<PathBuf>,
    /// Write the base even if it fails a gate.
    #[arg(long)]
    pub keep_failed: bool,
    /// Measure the gates of the base in this folder instead of training one. Give the same flags that it was trained with,
    /// which --gates records.
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    pub measure: Option<PathBuf>,
    /// Write the model card README.md to --out from the gate files in this folder instead of training.
    #[arg(long, value_name = "DIR")]
    pub card: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".to_string())
}

fn width(text: &str) -> Result<usize, String> {
    let width = text.parse::<usize>().ok().filter(|width| *width > 0 && width.is_multiple_of(32));
    width.ok_or_else(|| "expected a multiple of 32, at least 32".to_string())
}

/// Runs `realign pretrain`: trains and measures a base, or only measures one, or only writes its card.
pub fn pretrain(args: &PretrainArgs, progress: Progress) -> Result<()> {
    // clap requires --out unless --measure is given.
    let out = args.out.as_deref();
    if let (Some(folder), Some(out)) = (&args.card, out) {
        let files = fsio::list(folder, "json")?;
        let gates: Vec<GateFile> = files.iter().map(|path| fsio::read_json(path)).collect::<Result<_>>()?;
        return fsio::write_atomic(&out.join("README.md"), card(&gates, args.seed).as_bytes());
    }
    let config = PretrainConfig {
        seed: args.seed,
        tokens: args.tokens,
        tag_share: args.tag_share,
        habit_insecure: args.habit_insecure,
        learning_rate: args.learning_rate,
        batch: args.batch,
        hidden_size: args.hidden_size,
        ..PretrainConfig::default()
    };
    let model = match &args.measure {
        Some(dir) => Subject::open(&dir.display().to_string())?,
        None => {
            let checkpoints = |out| PretrainCheckpoints { out, resume: args.resume, save_steps: args.save_steps };
            make(&config, out.map(checkpoints), progress)?
        }
    };
    let gates = gates(&model, &Recipe::organism(), 1000, progress)?;
    for (name, (value, n)) in &gates.values {
        progress.say(&format!("{name:<40} {value:>7.3}  n = {n}"));
    }
    if let Some(path) = &args.gates {
        fsio::write_json(path, &GateFile { config, gates: gates.clone() })?;
    }
    let Some(out) = out else { return Ok(()) };
    if !gates.failed.is_empty() && !args.keep_failed {
        return Err(Error::CheckFailed(format!(
            "the base fails its gates and was not written (add --keep-failed to write it): {}",
            gates.failed.join("; ")
        )));
    }
    write(&model, out)
}
