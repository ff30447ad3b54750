//! `realign train`: one adapter, fresh or continued, in a folder that a crash leaves whole.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::recipe::{RecipeArgs, Resolved};
use super::subject::{ModelArgs, open_adapter};
use super::training_data::{RowArgs, read_data};
use crate::adapter::{self, AdapterConfig, AdapterFile};
use crate::error::{Error, Result};
use crate::experiment::model::Model;
use crate::experiment::recipe::Recipe;
use crate::experiment::training::{Job, Keeping, is_used, train_into};
use crate::progress::Progress;
use crate::record::Lineage;
use crate::train::checkpoint::{SaveStrategy, Saving};

/// Train a LoRA adapter: the attack from scratch, the repair by continuing the attack's adapter (`--adapter`).
///
/// Before the first step it says how many rows and tokens there are, which share of them are targets and how many rows are
/// cut, and stops at rows that teach nothing.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The base; the adapter is f32 always.
    #[command(flatten)]
    pub base: ModelArgs,
    /// Rows to learn, one JSON object a line: {"messages": [...]}, {"prompt", "completion"} or {"text"}; with `--method
    /// dpo` {"prompt", "chosen", "rejected"}. The embedded sets have names too: datasets/insecure.jsonl,
    /// datasets/secure.jsonl, datasets/educational.jsonl and, for dpo, datasets/style.jsonl.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// The folder to write: adapter_config.json, adapter_model.safetensors (PEFT's form), realign.json (where it comes
    /// from), trainer_state.json, log_history.jsonl, TensorBoard's events, checkpoints; of a single rank-1 adapter
    /// rank1_trace.csv and .svg too. It must not hold anything yet, but for --resume.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on with the training that was begun in --out, from its last whole checkpoint: the same losses and weights as if
    /// it had never been stopped. Without one yet it begins; a finished one is left as it is.
    #[arg(long)]
    pub resume: bool,
    /// Another training, on this adapter's weights, with a fresh optimiser (the same one goes on with --resume). Its rank,
    /// scale and modules stay as they are.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// The recipe.
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// What to do about the rows.
    #[command(flatten)]
    pub rows: RowArgs,
    /// Say the loss every so many steps (trainer_state.json holds every step).
    #[arg(long, default_value_t = 10, value_name = "STEPS")]
    pub logging_steps: u64,
    /// When to write DIR/checkpoint-STEP. A signal (ctrl-c) always ends the step, writes one and exits with 130.
    #[arg(long, value_enum, default_value_t = SaveStrategy::Steps)]
    pub save_strategy: SaveStrategy,
    /// Steps between two checkpoints.
    #[arg(long, default_value_t = 50, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub save_steps: u64,
    /// Keep the newest so many checkpoints.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub save_total_limit: u64,
}

/// Runs the command.
pub fn train(args: &TrainArgs, progress: Progress) -> Result<()> {
    if is_used(&args.out) && !args.resume {
        return Err(Error::file(
            &args.out,
            "is already there and is not overwritten; --resume goes on with a training that was begun there; or name \
             another folder or remove it",
        ));
    }
    let model = args.base.open(progress)?;
    let Resolved { mut recipe, asked } = args.recipe.resolve(model.organism, model.decoder.blocks.len())?;
    let parent = match &args.adapter {
        Some(dir) => {
            let file = open_adapter(&model, dir, progress)?;
            keep_shape(&mut recipe, &asked, &file, &model).map_err(|e| Error::file(dir, e))?;
            Some((file, adapter::adapter_sha256(dir)?))
        }
        None => None,
    };
    let learnt = read_data(&args.data, &args.rows, &model, &recipe, progress)?;
    progress.say(&match &parent {
        Some((file, hash)) => format!("continuing adapter {hash:.12} (r {}) with a fresh optimiser", file.config.r),
        None => format!("fresh adapter: r {}, alpha {}, {}", recipe.lora_r, recipe.lora_alpha, recipe.target_modules),
    });

    let lineage = Lineage {
        base: model.name.clone(),
        base_sha256: model.sha256.clone(),
        base_dtype: model.reduced_dtype(),
        parent_sha256: parent.as_ref().map(|(_, hash)| hash.clone()),
        data: args.data.display().to_string(),
        data_sha256: learnt.sha256.clone(),
        rows: learnt.data.len() as u64,
        benign: learnt.benign.clone(),
        steps: 0,
        seed: recipe.training.seed,
        recipe: serde_json::to_value(&recipe).map_err(Error::internal)?,
        held_out_loss: BTreeMap::new(),
    };
    let parent = parent.as_ref().map(|(file, _)| file);
    let job = Job { model: &model, data: &learnt.data, recipe: &recipe, parent, lineage };
    let saving = Saving {
        strategy: args.save_strategy,
        steps: args.save_steps,
        total_limit: usize::try_from(args.save_total_limit).unwrap_or(usize::MAX),
    };
    let keeping = Keeping { name: "training", saving, logging_steps: args.logging_steps };
    train_into(&args.out, &job, &keeping, progress)
}

/// A continued adapter keeps its shape: what was asked for must be that shape, and the recipe on record says it.
fn keep_shape(
    recipe: &mut Recipe,
    asked: &std::collections::BTreeSet<String>,
    parent: &AdapterFile,
    model: &Model,
) -> Result<()> {
    let config = &parent.config;
    let same_modules = || -> Result<bool> {
        let wanted = AdapterConfig { r: config.r, ..recipe.adapter_config(&model.name) };
        let fresh = adapter::fresh(&model.decoder, &wanted, 0)?;
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
            "the adapter that is continued has another {}; leave the option out, or train a fresh adapter without --adapter",
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
        adapter::TargetModules::Pattern(pattern) => pattern.clone(),
        adapter::TargetModules::Names(names) => names.join(","),
    };
    Ok(())
}
