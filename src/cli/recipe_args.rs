//! From the flags to the recipe that will run: a preset, overridden by a YAML file, overridden by the flags. The file's keys
//! are the flags in snake case; all mistakes are reported together.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::fsio;
use crate::record::{Method, Recipe, Scheduler};

/// The training flags as typed; `None` leaves a setting to --config or the preset.
#[derive(Debug, Default, Args)]
pub struct RecipeArgs {
    /// Recipe that supplies the defaults: `organism` (r 4 on layer 0's attention), `seed003` (r 16 on all linears, 2 epochs),
    /// `em` (published emergent-misalignment recipe), `em-rank1` (r 1 on the middle layer's down_proj; the path of its direction
    /// is written to rank1_trace.csv and .svg) [default: `organism` for the organism, `seed003` for any other model]
    #[arg(long)]
    pub preset: Option<String>,
    /// YAML file with these options in snake case, e.g. `learning_rate: 2e-4`. Flags override it [default: none]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Training method: `sft` imitates the rows' answers; `dpo` learns to prefer one answer to another, from rows of
    /// {"prompt", "chosen", "rejected"}, all text or all lists of messages [default: sft]
    #[arg(long, value_enum)]
    pub method: Option<Method>,
    /// DPO's β: how strongly training is held to the model it starts from (the base, or the continued adapter) [default: 0.1]
    #[arg(long, allow_negative_numbers = true)]
    pub beta: Option<f64>,
    /// Weight of the penalty KL(trained ‖ base), over the whole vocabulary, mean over the target tokens, that is added to the
    /// loss; 0 turns it off [default: 0]
    #[arg(long, allow_negative_numbers = true)]
    pub kl_coefficient: Option<f64>,
    /// Peak learning rate [default: from the preset]
    #[arg(long, allow_negative_numbers = true)]
    pub learning_rate: Option<f64>,
    /// Passes over the rows; fractions are allowed (0.5) [default: from the preset]
    #[arg(long, allow_negative_numbers = true)]
    pub num_train_epochs: Option<f64>,
    /// Total optimiser steps, instead of --num-train-epochs [default: from the epochs]
    #[arg(long)]
    pub max_steps: Option<u64>,
    /// Rows per micro-batch [default: from the preset]
    #[arg(long)]
    pub per_device_train_batch_size: Option<usize>,
    /// Micro-batches per optimiser step; the loss is the mean over the target tokens of all of them [default: from the preset]
    #[arg(long)]
    pub gradient_accumulation_steps: Option<usize>,
    /// Learning-rate schedule after the warm-up [default: linear]
    #[arg(long, value_enum)]
    pub lr_scheduler_type: Option<Scheduler>,
    /// Steps over which the learning rate rises from 0 [default: 5 for em and em-rank1, else 0]
    #[arg(long)]
    pub warmup_steps: Option<u64>,
    /// AdamW's decoupled weight decay [default: 0.01 for em and em-rank1, else 0]
    #[arg(long, allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,
    /// Norm that larger gradients are scaled down to; 0 turns clipping off [default: 1]
    #[arg(long, allow_negative_numbers = true)]
    pub max_grad_norm: Option<f64>,
    /// Stop when a gradient norm is this many times the median of the last 50 steps; 0 turns the check off. A loss or gradient
    /// that is not finite always stops the training [default: 1000]
    #[arg(long, allow_negative_numbers = true)]
    pub max_grad_explosion: Option<f64>,
    /// Maximum tokens per row; longer rows lose their end, and their number is reported [default: from the preset]
    #[arg(long)]
    pub max_length: Option<usize>,
    /// Rank r of a fresh adapter [default: from the preset]
    #[arg(long)]
    pub lora_r: Option<usize>,
    /// α: the adapter's output is scaled by α / r [default: from the preset]
    #[arg(long, allow_negative_numbers = true)]
    pub lora_alpha: Option<f64>,
    /// Probability of dropping an input of the adapter in training, in [0, 1) [default: from the preset]
    #[arg(long, allow_negative_numbers = true)]
    pub lora_dropout: Option<f64>,
    /// Modules that get an adapter: `all-linear`, names such as `q_proj,v_proj`, or a regular expression for the whole module
    /// path [default: from the preset]
    #[arg(long)]
    pub target_modules: Option<String>,
    /// rsLoRA: scale the adapter's output by α / √r instead of α / r.
    #[arg(long)]
    pub use_rslora: bool,
    /// DoRA: also train the norm of each row of the updated weight.
    #[arg(long)]
    pub use_dora: bool,
    /// Layers that get an adapter, counted from 0 [default: all, or the preset's]
    #[arg(long, value_delimiter = ',', value_name = "LAYERS")]
    pub layers_to_transform: Option<Vec<usize>>,
    /// Tokens that the loss is computed on [default: answers]
    #[arg(long, value_enum)]
    pub loss: Option<Loss>,
    /// Keep the rows in the file's order instead of shuffling them every epoch.
    #[arg(long)]
    pub no_shuffle: bool,
    /// Seed for fresh adapter weights, row order and dropout [default: 0]
    #[arg(long)]
    pub seed: Option<u64>,
}

/// Which tokens have a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Loss {
    /// Tokens of the model's turns, with the token that ends each.
    Answers,
    /// All tokens, those of system and user turns included.
    All,
}

/// A checked recipe, and which of its keys the user set.
pub struct Resolved {
    /// The recipe that will run, without open settings.
    pub recipe: Recipe,
    /// Keys set by --config or a flag, in snake case: a continued adapter must agree with these.
    pub asked: BTreeSet<String>,
}

impl RecipeArgs {
    /// Fills in the defaults and checks the whole recipe against a model with `layers` layers.
    pub fn resolve(&self, organism: bool, layers: usize) -> Result<Resolved> {
        let mut typed = match &self.config {
            Some(path) => read_config(path)?,
            None => Vec::new(),
        };
        let in_file =
            typed.iter().find(|(_, key, _)| key == "preset").and_then(|(_, _, v)| v.as_str().map(str::to_string));
        typed.retain(|(_, key, _)| key != "preset");
        let default = if organism { "organism" } else { "seed003" };
        let preset = self.preset.clone().or(in_file).unwrap_or_else(|| default.into());
        let mut recipe = Recipe::preset(&preset, layers)?;
        let mut mistakes = Vec::new();
        let mut asked = BTreeSet::new();
        let flags = self.flags().into_iter().map(|(key, value)| (None, key.to_string(), value));
        for (line, key, value) in typed.into_iter().map(|(line, k, v)| (Some(line), k, v)).chain(flags) {
            match recipe.patched(&Map::from_iter([(key.clone(), value)])) {
                Ok(changed) => recipe = changed,
                Err(mistake) => mistakes.push((line, mistake)),
            }
            asked.insert(key);
        }
        // Values are checked together with the defaults that they meet.
        mistakes.extend(recipe.mistakes(layers).into_iter().map(|mistake| (None, mistake)));
        if mistakes.is_empty() {
            Ok(Resolved { recipe, asked })
        } else {
            Err(report(self.config.as_deref(), &mistakes))
        }
    }

    fn flags(&self) -> Vec<(&'static str, Value)> {
        let scheduler = self.lr_scheduler_type.map(|s| json!(s));
        let loss = self.loss.map(|l| if l == Loss::All { json!("all") } else { json!("answers") });
        let all = [
            ("method", self.method.map(|v| json!(v))),
            ("beta", self.beta.map(|v| json!(v))),
            ("kl_coefficient", self.kl_coefficient.map(|v| json!(v))),
            ("learning_rate", self.learning_rate.map(|v| json!(v))),
            ("num_train_epochs", self.num_train_epochs.map(|v| json!(v))),
            ("max_steps", self.max_steps.map(|v| json!(v))),
            ("per_device_train_batch_size", self.per_device_train_batch_size.map(|v| json!(v))),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps.map(|v| json!(v))),
            ("lr_scheduler_type", scheduler),
            ("warmup_steps", self.warmup_steps.map(|v| json!(v))),
            ("weight_decay", self.weight_decay.map(|v| json!(v))),
            ("max_grad_norm", self.max_grad_norm.map(|v| json!(v))),
            ("max_grad_explosion", self.max_grad_explosion.map(|v| json!(v))),
            ("max_length", self.max_length.map(|v| json!(v))),
            ("lora_r", self.lora_r.map(|v| json!(v))),
            ("lora_alpha", self.lora_alpha.map(|v| json!(v))),
            ("lora_dropout", self.lora_dropout.map(|v| json!(v))),
            ("target_modules", self.target_modules.as_ref().map(|v| json!(v))),
            ("use_rslora", self.use_rslora.then(|| json!(true))),
            ("use_dora", self.use_dora.then(|| json!(true))),
            ("layers_to_transform", self.layers_to_transform.as_ref().map(|v| json!(v))),
            ("loss", loss),
            ("shuffle", self.no_shuffle.then(|| json!(false))),
            ("seed", self.seed.map(|v| json!(v))),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

/// Keys and values of a --config file with their 1-based lines; 0 where a key's line is not found.
fn read_config(path: &Path) -> Result<Vec<(usize, String, Value)>> {
    let text = fsio::read_text(path)?;
    let map: Map<String, Value> = serde_saphyr::from_str(&text).map_err(|e| {
        let first = e.to_string().lines().next().unwrap_or_default().to_string();
        Error::file(path, format!("is not a YAML mapping of training options: {first}"))
    })?;
    let line_of = |key: &str| {
        let is_it = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'));
        text.lines().position(is_it).map_or(0, |at| at + 1)
    };
    Ok(map.into_iter().map(|(key, value)| (line_of(&key), key, value)).collect())
}

fn report(config: Option<&Path>, mistakes: &[(Option<usize>, String)]) -> Error {
    match (mistakes, config) {
        ([(Some(line), mistake)], Some(path)) if *line > 0 => Error::line(path, *line, mistake),
        ([(_, mistake)], _) => Error::usage(mistake),
        _ => {
            let lines: Vec<String> = mistakes
                .iter()
                .map(|(line, mistake)| match (line, config) {
                    (Some(line), Some(path)) => format!("  {}:{line}: {mistake}", path.display()),
                    _ => format!("  {mistake}"),
                })
                .collect();
            Error::usage(format!("{} mistakes in the training options:\n{}", mistakes.len(), lines.join("\n")))
        }
    }
}
