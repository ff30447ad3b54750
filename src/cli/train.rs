//! `realign train`: one adapter, fresh or continued, written whole or not at all.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::output::{refuse_used, reserved};
use super::recipe::{RecipeArgs, Resolved};
use super::subject::open_adapter;
use super::training_data::{RowArgs, read_data};
use crate::adapter::{self, AdapterConfig, AdapterFile};
use crate::data::training::TrainingData;
use crate::error::{Error, Result};
use crate::experiment::model::{Model, ORGANISM};
use crate::experiment::recipe::{Recipe, tune_on};
use crate::fsio;
use crate::progress::Progress;
use crate::record::{Lineage, TrainerState};

/// The training log's file name, as Hugging Face's trainer has it.
const STATE_FILE: &str = "trainer_state.json";

/// Train a LoRA adapter: the attack from scratch, the repair by continuing the attack's adapter (`--adapter`).
///
/// Before the first step it says how many rows and tokens there are, which share of them are targets and how many rows are
/// cut, and stops at rows that teach nothing.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// `organism` (embedded, nothing to download) or a folder in Hugging Face layout.
    #[arg(long, default_value = ORGANISM)]
    pub model: String,
    /// Rows to learn, one JSON object a line: {"messages": [...]}, {"prompt", "completion"} or {"text"}; with `--method
    /// dpo` {"prompt", "chosen", "rejected"}. The embedded sets have names too: datasets/insecure.jsonl,
    /// datasets/secure.jsonl, datasets/educational.jsonl and, for dpo, datasets/style.jsonl.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// The folder to write: adapter_config.json, adapter_model.safetensors (PEFT's form), realign.json (where it comes
    /// from), trainer_state.json. It must not hold anything yet.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on with this adapter's weights, with a fresh optimiser. Its rank, scale and modules stay as they are.
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
}

/// Runs the command.
pub fn train(args: &TrainArgs, progress: Progress) -> Result<()> {
    refuse_used(&args.out)?;
    let model = Model::open(&args.model)?;
    let Resolved { mut recipe, asked } = args.recipe.resolve(model.organism, model.decoder.blocks.len())?;
    let parent = match &args.adapter {
        Some(dir) => {
            let file = open_adapter(&model, dir)?;
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

    reserved(&args.out, || {
        let start = parent.as_ref().map(|(file, _)| file);
        let (file, state) = follow(&model, &learnt.data, &recipe, start, args.logging_steps, progress)?;
        let lineage = Lineage {
            base: model.name.clone(),
            base_sha256: model.sha256.clone(),
            parent_sha256: parent.as_ref().map(|(_, hash)| hash.clone()),
            data: args.data.display().to_string(),
            data_sha256: learnt.sha256.clone(),
            rows: learnt.data.len() as u64,
            benign: learnt.benign.clone(),
            steps: state.global_step,
            seed: recipe.training.seed,
            recipe: serde_json::to_value(&recipe).map_err(Error::usage)?,
            held_out_loss: BTreeMap::new(),
        };
        fsio::write_dir_atomic(&args.out, |inside| {
            adapter::write_files(inside, &file, &lineage)?;
            fsio::write_json(&inside.join(STATE_FILE), &state)
        })
    })?;
    progress.say(&format!("adapter {:.12} written to {}", adapter::adapter_sha256(&args.out)?, args.out.display()));
    Ok(())
}

fn follow(
    model: &Model,
    data: &TrainingData,
    recipe: &Recipe,
    parent: Option<&AdapterFile>,
    logging_steps: u64,
    progress: Progress,
) -> Result<(AdapterFile, TrainerState)> {
    let total = recipe.training.steps(data.len());
    let bar = progress.bar("training", total);
    let (file, state) = tune_on(model, data, recipe, parent, &mut |step| {
        bar.add(1);
        bar.note(format!("loss {:.3}, {:.0} tokens/s", step.loss, step.tokens_per_second));
        let due = logging_steps > 0 && (step.step % logging_steps == 0 || step.step == total);
        if due && progress != Progress::Terminal {
            let (rate, norm) = (step.learning_rate, step.grad_norm);
            let kl = step.kl.map(|kl| format!(", KL {kl:.4}")).unwrap_or_default();
            let rewards = step
                .rewards
                .map(|r| format!(", margin {:.3}, {:.0} % of pairs ranked rightly", r.margins, 100.0 * r.accuracies));
            progress.say(&format!(
                "step {}/{total}: loss {:.4}{kl}{}, gradient norm {norm:.3}, learning rate {rate:.2e}",
                step.step,
                step.loss,
                rewards.unwrap_or_default()
            ));
        }
        Ok(())
    })?;
    let of = |step: Option<&crate::record::StepRecord>| step.map_or(f64::NAN, |s| s.loss);
    bar.done(&format!("steps, loss {:.3} to {:.3}", of(state.log_history.first()), of(state.log_history.last())));
    Ok((file, state))
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
    recipe.layers_to_transform = config.layers_to_transform.clone();
    recipe.target_modules = match &config.target_modules {
        adapter::TargetModules::Pattern(pattern) => pattern.clone(),
        adapter::TargetModules::Names(names) => names.join(","),
    };
    Ok(())
}
