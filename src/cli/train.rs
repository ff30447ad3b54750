//! `realign train`: one adapter, fresh or continued, in a folder that a crash leaves whole.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::recipe_args::{RecipeArgs, Resolved};
use super::subject_args::BaseArgs;
use super::train_rows::{RowArgs, read_train_rows};
use crate::adapter::{self, AdapterConfig, AdapterFile, TargetModules};
use crate::error::{Error, Result};
use crate::finetune::folder::{RunOptions, TuneJob, is_used, train_into};
use crate::progress::Progress;
use crate::record::{Lineage, Recipe};
use crate::report::rank1_trace;
use crate::subject::Subject;
use crate::train::checkpoint::{SaveStrategy, Saving};

/// Train a LoRA adapter: a fresh one, or one that continues another (--adapter).
///
/// Before the first step it prints the number of rows and tokens, the share of tokens that are targets and the number of
/// truncated rows. A row that cannot be learned from stops it (see --on-bad-row).
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  realign train --data datasets/insecure.jsonl --out attack
  realign train --data datasets/secure.jsonl --adapter attack --out repair
  realign train --model Qwen/Qwen2.5-0.5B-Instruct --data rows.jsonl --lora-r 8 --num-train-epochs 2 --out adapter")]
pub struct TrainArgs {
    /// The base model that the adapter is trained on.
    #[command(flatten)]
    pub base: BaseArgs,
    /// Training rows as JSONL, one object per line: {"messages": [...]}, {"prompt", "completion"} or {"text"}; with `--method
    /// dpo` {"prompt", "chosen", "rejected"}. Embedded data sets are given by name: datasets/insecure.jsonl,
    /// datasets/secure.jsonl, datasets/educational.jsonl and, for dpo, datasets/style.jsonl.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Folder to write: adapter_config.json, adapter_model.safetensors (PEFT's form), realign.json (base, data and recipe),
    /// trainer_state.json, log_history.jsonl, TensorBoard events, checkpoints; for a single rank-1 adapter also
    /// rank1_trace.csv and .svg. It must be empty or not exist, except with --resume.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Resume the training in --out from its newest complete checkpoint, with the same losses and weights as if it had never
    /// stopped. Without a checkpoint the training starts; a finished one is left as it is.
    #[arg(long)]
    pub resume: bool,
    /// Adapter to continue, with a fresh optimiser; its rank, scale and modules stay as they are. (To resume an interrupted
    /// training, give --resume instead.)
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// The recipe: adapter, loss, optimiser and schedule.
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Bad rows, benign rows and the display of targets.
    #[command(flatten)]
    pub rows: RowArgs,
    /// Optimiser steps between two printed losses; 0 prints none. trainer_state.json has the loss of every step.
    #[arg(long, default_value_t = 10, value_name = "STEPS")]
    pub logging_steps: u64,
    /// When to write a checkpoint (checkpoint-STEP in --out). Ctrl-C finishes the current step, writes a checkpoint and exits
    /// with 130.
    #[arg(long, value_enum, default_value_t = SaveStrategy::Steps)]
    pub save_strategy: SaveStrategy,
    /// Optimiser steps between two checkpoints, with `--save-strategy steps`.
    #[arg(long, default_value_t = 50, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub save_steps: u64,
    /// Number of checkpoints to keep; older ones are deleted.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub save_total_limit: u64,
}

/// Runs `realign train`: a new training, or a resumed one with --resume.
pub fn train(args: &TrainArgs, progress: Progress) -> Result<()> {
    if is_used(&args.out) && !args.resume {
        return Err(Error::file(
            &args.out,
            "already exists and is not overwritten; resume the training in it with --resume, name another folder or \
             remove it",
        ));
    }
    let subject = args.base.spec(args.adapter.clone())?.open(progress)?;
    let Resolved { mut recipe, asked } = args.recipe.resolve(subject.organism, subject.base.blocks.len())?;
    if let Some(parent) = &subject.adapter {
        keep_shape(&mut recipe, &asked, &parent.file, &subject).map_err(|e| Error::file(&parent.folder, e))?;
    }
    let rows = read_train_rows(&args.data, &args.rows, &subject, &recipe, progress)?;
    progress.say(&match &subject.adapter {
        Some(parent) => {
            format!("continuing adapter {:.12} (r {}) with a fresh optimiser", parent.sha256, parent.file.config.r)
        }
        None => format!("fresh adapter: r {}, alpha {}, {}", recipe.lora_r, recipe.lora_alpha, recipe.target_modules),
    });

    let lineage = Lineage {
        base: subject.name.clone(),
        base_sha256: subject.sha256.clone(),
        base_dtype: subject.reduced_dtype(),
        parent_sha256: subject.adapter_sha256(),
        data: args.data.display().to_string(),
        data_sha256: rows.sha256.clone(),
        rows: rows.examples.len() as u64,
        benign: rows.benign.clone(),
        steps: 0,
        seed: recipe.training.seed,
        recipe: serde_json::to_value(&recipe).map_err(Error::internal)?,
        held_out_loss: BTreeMap::new(),
    };
    let parent = subject.adapter.as_ref().map(|adapter| &adapter.file);
    let job = TuneJob { subject: &subject, examples: &rows.examples, recipe: &recipe, parent, lineage };
    let saving = Saving {
        strategy: args.save_strategy,
        steps: args.save_steps,
        total_limit: usize::try_from(args.save_total_limit).unwrap_or(usize::MAX),
    };
    let options = RunOptions { name: "training", saving, logging_steps: args.logging_steps, charts: &rank1_trace };
    train_into(&args.out, &job, &options, progress)
}

/// A continued adapter keeps its shape: settings that were asked for must match it, and the recipe takes over the others.
fn keep_shape(
    recipe: &mut Recipe,
    asked: &std::collections::BTreeSet<String>,
    parent: &AdapterFile,
    subject: &Subject,
) -> Result<()> {
    let config = &parent.config;
    let same_modules = || -> Result<bool> {
        let wanted = AdapterConfig { r: config.r, ..recipe.adapter_config(&subject.name) };
        let fresh = adapter::fresh(&subject.base, &wanted, 0)?;
        Ok(fresh.tensors.keys().eq(parent.tensors.keys()))
    };
    let mut other = Vec::new();
    for (key, same) in [
        ("lora_r", recipe.lora_r == config.r),
        ("lora_alpha", recipe.lora_alpha == config.lora_alpha),
        ("lora_dropout", recipe.lora_dropout == config.lora_dropout),
        ("use_rslora", recipe.use_rslora == config.use_rslora),
        ("use_dora", recipe.use_dora == config.use_dora),
    ] {
        if asked.contains(key) && !same {
            other.push(key);
        }
    }
    for key in ["target_modules", "layers_to_transform"] {
        if asked.contains(key) && !same_modules()? {
            other.push(key);
        }
    }
    if !other.is_empty() {
        return Err(Error::usage(format!(
            "differs from the requested {}; leave the option out to continue the adapter, or leave --adapter out to train a \
             fresh one",
            other.join(", ")
        )));
    }
    recipe.lora_r = config.r;
    recipe.lora_alpha = config.lora_alpha;
    recipe.lora_dropout = config.lora_dropout;
    recipe.use_rslora = config.use_rslora;
    recipe.use_dora = config.use_dora;
    recipe.layers_to_transform = config.layers_to_transform.clone();
    recipe.target_modules = match &config.target_modules {
        TargetModules::Pattern(pattern) => pattern.clone(),
        TargetModules::Names(names) => names.join(","),
    };
    Ok(())
}
