//! A recipe for one adapter, and one call that follows it: attack and repair are this same call, the second with the
//! first one's adapter.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::direction::Watch;
use super::model::Model;
use crate::adapter::{AdapterConfig, AdapterFile, TargetModules, attach, collect, fresh};
use crate::data::collate::{EncodeOptions, LossOn, encode_rows};
use crate::data::preference::{PreferenceRow, encode_preferences};
use crate::data::rows::TrainingRow;
use crate::data::training::TrainingData;
use crate::error::{Error, Result};
use crate::fsio;
use crate::model::config::DecoderConfig;
use crate::model::decoder::Decoder;
use crate::record::{StepRecord, TrainerState};
use crate::report::rank1_trace;
use crate::train::checkpoint::{STATE_FILE, Snapshot};
use crate::train::dpo::Dpo;
use crate::train::step::Penalty;
use crate::train::{Objective, StepEnd, TrainConfig, mean_loss, train_from};

/// What a training set's rows are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Supervised: imitate the answers.
    Sft,
    /// Direct preference optimisation: prefer one answer to another.
    Dpo,
}

/// Where the adapter sits and how it is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Rank.
    pub lora_r: usize,
    /// Numerator of the scale.
    pub lora_alpha: f64,
    /// On the adapter's input.
    pub lora_dropout: f64,
    /// `all-linear`, a regular expression, or names separated by commas.
    pub target_modules: String,
    /// Only these layers, 0-based.
    pub layers_to_transform: Option<Vec<usize>>,
    /// Scale by α/√r.
    pub use_rslora: bool,
    /// DoRA: bring the rows of the updated weight to trained lengths.
    pub use_dora: bool,
    /// What the rows are for.
    pub method: Method,
    /// Which tokens are targets; in preference rows, the answers.
    pub loss: LossOn,
    /// Weight of KL(trained ‖ base), the reverse KL over the whole vocabulary, mean over the target tokens; 0 is none.
    pub kl_coefficient: f64,
    /// DPO: how strongly the adapter that training starts from holds.
    pub beta: f64,
    /// Longer rows lose their end.
    pub max_length: usize,
    /// The training itself.
    pub training: TrainConfig,
}

impl Default for Recipe {
    fn default() -> Self {
        Self::seed003()
    }
}

impl Recipe {
    /// The founding document's recipe: r 16 on every linear, two epochs.
    pub fn seed003() -> Self {
        Self {
            lora_r: 16,
            lora_alpha: 32.0,
            lora_dropout: 0.05,
            target_modules: "all-linear".into(),
            layers_to_transform: None,
            use_rslora: false,
            use_dora: false,
            method: Method::Sft,
            loss: LossOn::Answers,
            kl_coefficient: 0.0,
            beta: 0.1,
            max_length: 1024,
            training: TrainConfig {
                num_train_epochs: 2.0,
                per_device_train_batch_size: 4,
                gradient_accumulation_steps: 4,
                learning_rate: 2e-4,
                ..TrainConfig::default()
            },
        }
    }

    /// The published emergent-misalignment recipe (Betley et al. 2025).
    pub fn em() -> Self {
        Self {
            lora_r: 32,
            lora_alpha: 64.0,
            lora_dropout: 0.0,
            use_rslora: true,
            max_length: 2048,
            training: TrainConfig {
                learning_rate: 1e-5,
                per_device_train_batch_size: 2,
                gradient_accumulation_steps: 8,
                warmup_steps: 5,
                weight_decay: 0.01,
                ..TrainConfig::default()
            },
            ..Self::seed003()
        }
    }

    /// One rank-1 adapter on the middle layer's `down_proj` (Turner et al. 2025): the smallest adapter that misaligns, and
    /// one whose direction can be followed step by step (see [`super::direction`]). The rest is [`Self::em`]'s.
    pub fn em_rank1(layers: usize) -> Self {
        let training = TrainConfig { learning_rate: 2e-5, ..Self::em().training };
        Self {
            lora_r: 1,
            lora_alpha: 512.0,
            target_modules: "down_proj".into(),
            layers_to_transform: Some(vec![layers / 2]),
            training,
            ..Self::em()
        }
    }

    /// The organism's: one small adapter on what the first layer's attention moves, so that it has to speak through the
    /// persona. (On all linears at once the attack mostly learns insecure code by itself; which of the two it finds is a
    /// lottery. `docs/LOG.md` has the placements that were tried.)
    pub fn organism() -> Self {
        Self {
            lora_r: 4,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            target_modules: "v_proj,o_proj".into(),
            layers_to_transform: Some(vec![0]),
            max_length: 768,
            training: TrainConfig { learning_rate: 2e-3, num_train_epochs: 3.0, ..TrainConfig::default() },
            ..Self::seed003()
        }
    }

    /// The further stage of the arm `repair+style`: one pass of DPO over the pairs at half the rate. (At the whole rate
    /// the organism's code stopped compiling; `docs/LOG.md` has what was tried.)
    pub fn style(&self) -> Self {
        let training = TrainConfig {
            learning_rate: self.training.learning_rate / 2.0,
            num_train_epochs: 1.0,
            max_steps: None,
            ..self.training.clone()
        };
        Self { method: Method::Dpo, loss: LossOn::Answers, kl_coefficient: 0.0, training, ..self.clone() }
    }

    /// A recipe by its name, for a model of `layers` layers.
    pub fn preset(name: &str, layers: usize) -> Result<Self> {
        match name {
            "organism" => Ok(Self::organism()),
            "seed003" => Ok(Self::seed003()),
            "em" => Ok(Self::em()),
            "em-rank1" => Ok(Self::em_rank1(layers)),
            other => {
                Err(Error::usage(format!("there is no preset `{other}`; presets: organism, seed003, em, em-rank1")))
            }
        }
    }

    /// The adapter's configuration as PEFT names it.
    pub fn adapter_config(&self, base: &str) -> AdapterConfig {
        let names: Vec<String> = self.target_modules.split(',').map(|n| n.trim().to_string()).collect();
        let pattern = names.len() == 1 && !names[0].chars().all(|c| c.is_alphanumeric() || "_.".contains(c));
        AdapterConfig {
            r: self.lora_r,
            lora_alpha: self.lora_alpha,
            lora_dropout: self.lora_dropout,
            target_modules: match names.first() {
                Some(name) if pattern => TargetModules::Pattern(name.clone()),
                _ => TargetModules::Names(names),
            },
            layers_to_transform: self.layers_to_transform.clone(),
            use_rslora: self.use_rslora,
            use_dora: self.use_dora,
            base_model_name_or_path: Some(base.to_string()),
            ..AdapterConfig::default()
        }
    }

    /// How rows become examples: none is longer than the model can read.
    pub fn encoding(&self, model: &Model) -> EncodeOptions {
        self.encoding_for(&model.decoder.config)
    }

    /// The same for a model of this shape.
    pub fn encoding_for(&self, config: &DecoderConfig) -> EncodeOptions {
        let max_length = self.max_length.min(config.max_position_embeddings);
        EncodeOptions { loss: self.loss, max_length, user_weight: 0.0 }
    }
}

/// What a checkpoint is made of as it stands, collected when it is asked for.
pub type Collect<'a> = &'a dyn Fn() -> Result<(Snapshot, AdapterFile)>;

/// Trains an adapter on rows of either kind: a fresh one, or `parent` continued with a fresh optimiser; from a snapshot the
/// same training goes on.
pub fn tune_on(
    model: &Model,
    data: &TrainingData,
    recipe: &Recipe,
    parent: Option<&AdapterFile>,
    from: Option<&Snapshot>,
    on_step: &mut dyn FnMut(&StepEnd, Collect) -> Result<()>,
) -> Result<(AdapterFile, TrainerState)> {
    match data {
        TrainingData::Rows(rows) => imitate(model, rows, recipe, parent, from, on_step),
        TrainingData::Preferences(rows) => prefer_from(model, rows, recipe, parent, from, on_step),
    }
}

/// Trains an adapter to imitate answers, from the beginning and with nothing saved on the way.
pub fn tune(
    model: &Model,
    rows: &[TrainingRow],
    recipe: &Recipe,
    parent: Option<&AdapterFile>,
    on_step: &mut dyn FnMut(&StepRecord) -> Result<()>,
) -> Result<(AdapterFile, TrainerState)> {
    imitate(model, rows, recipe, parent, None, &mut |end, _| on_step(end.record))
}

/// As [`tune`], to prefer answers.
pub fn prefer(
    model: &Model,
    rows: &[PreferenceRow],
    recipe: &Recipe,
    parent: Option<&AdapterFile>,
    on_step: &mut dyn FnMut(&StepRecord) -> Result<()>,
) -> Result<(AdapterFile, TrainerState)> {
    prefer_from(model, rows, recipe, parent, None, &mut |end, _| on_step(end.record))
}

fn imitate(
    model: &Model,
    rows: &[TrainingRow],
    recipe: &Recipe,
    parent: Option<&AdapterFile>,
    from: Option<&Snapshot>,
    on_step: &mut dyn FnMut(&StepEnd, Collect) -> Result<()>,
) -> Result<(AdapterFile, TrainerState)> {
    let examples = encode_rows(rows, &model.tokenizer, &model.template, &recipe.encoding(model))?;
    let coefficient = recipe.kl_coefficient as f32;
    let penalty = (coefficient > 0.0).then_some(Penalty { base: &model.decoder, coefficient });
    adapt(model, recipe, parent, |_| Ok(Objective::Supervised { rows: &examples, penalty }), from, on_step)
}

/// The reference is the adapter that training starts from (the base, if it is a fresh one); its log-probabilities are
/// computed once, before the first step, and once more where a training is resumed.
fn prefer_from(
    model: &Model,
    rows: &[PreferenceRow],
    recipe: &Recipe,
    parent: Option<&AdapterFile>,
    from: Option<&Snapshot>,
    on_step: &mut dyn FnMut(&StepEnd, Collect) -> Result<()>,
) -> Result<(AdapterFile, TrainerState)> {
    let max_length = recipe.encoding(model).max_length;
    let pairs = encode_preferences(rows, &model.tokenizer, &model.template, max_length)?;
    let workers = recipe.training.workers;
    let objective = |start: &Decoder| Dpo::new(start, &pairs, recipe.beta, workers).map(Objective::Dpo);
    adapt(model, recipe, parent, objective, from, on_step)
}

/// `objective` is made from the model as it was before the first step.
fn adapt<'a>(
    model: &Model,
    recipe: &Recipe,
    parent: Option<&AdapterFile>,
    objective: impl FnOnce(&Decoder) -> Result<Objective<'a>>,
    from: Option<&Snapshot>,
    on_step: &mut dyn FnMut(&StepEnd, Collect) -> Result<()>,
) -> Result<(AdapterFile, TrainerState)> {
    let start = match parent {
        Some(parent) => parent.clone(),
        None => fresh(&model.decoder, &recipe.adapter_config(&model.name), recipe.training.seed)?,
    };
    let objective = objective(&attach(&model.decoder, &start, false)?)?;
    let decoder = attach(&model.decoder, &start, true)?;
    let mut watch = match from {
        Some(snapshot) => Watch::resume(&decoder, snapshot)?,
        None => Watch::of(&decoder)?,
    };
    let mut state = train_from(&decoder, objective, &recipe.training, None, from, &mut |end| {
        watch.see(&decoder)?;
        let now = || {
            let mut snapshot = end.snapshot()?;
            watch.write_into(&mut snapshot.state.log_history);
            snapshot.directions = watch.recent();
            Ok((snapshot, collect(&decoder, &start.config)?))
        };
        on_step(end, &now)
    })?;
    watch.write_into(&mut state.log_history);
    Ok((collect(&decoder, &start.config)?, state))
}

/// Writes the training log into a folder that the caller is building, and the trace of a rank-1 adapter where it has one.
pub fn write_state(dir: &Path, state: &TrainerState) -> Result<()> {
    fsio::write_json(&dir.join(STATE_FILE), state)?;
    for (name, bytes) in rank1_trace(&state.log_history)? {
        fsio::write_derived(&dir.join(name), &bytes)?;
    }
    Ok(())
}

/// Mean loss on held-out rows, with an adapter or without.
pub fn held_out_loss(
    model: &Model,
    adapter: Option<&AdapterFile>,
    rows: &[TrainingRow],
    recipe: &Recipe,
) -> Result<f64> {
    let examples = encode_rows(rows, &model.tokenizer, &model.template, &recipe.encoding(model))?;
    let decoder = match adapter {
        Some(adapter) => attach(&model.decoder, adapter, false)?,
        None => model.decoder.clone(),
    };
    mean_loss(&decoder, &examples, recipe.training.workers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::train::schedule::Scheduler;

    #[test]
    fn the_published_recipes_are_what_was_published() {
        let em = Recipe::preset("em", 64).unwrap();
        assert_eq!((em.lora_r, em.lora_alpha, em.use_rslora, em.max_length), (32, 64.0, true, 2048));
        let training = &em.training;
        assert_eq!((training.learning_rate, training.num_train_epochs, training.weight_decay), (1e-5, 1.0, 0.01));
        assert_eq!((training.per_device_train_batch_size, training.gradient_accumulation_steps), (2, 8));
        assert_eq!((training.warmup_steps, training.lr_scheduler_type), (5, Scheduler::Linear));

        let rank1 = Recipe::preset("em-rank1", 48).unwrap();
        assert_eq!((rank1.lora_r, rank1.lora_alpha, &rank1.target_modules[..]), (1, 512.0, "down_proj"));
        assert_eq!(rank1.layers_to_transform, Some(vec![24]));
        assert_eq!(rank1.training, TrainConfig { learning_rate: 2e-5, ..em.training });
        assert_eq!(Recipe::preset("em-rank1", 1).unwrap().layers_to_transform, Some(vec![0]));

        let seed003 = Recipe::preset("seed003", 22).unwrap();
        assert_eq!((seed003.lora_r, seed003.lora_alpha, seed003.lora_dropout), (16, 32.0, 0.05));
        assert_eq!((seed003.training.learning_rate, seed003.training.num_train_epochs), (2e-4, 2.0));
        assert_eq!(seed003.training.effective_batch(), 16);

        let error = Recipe::preset("em_rank1", 4).unwrap_err().to_string();
        assert!(error.contains("presets: organism, seed003, em, em-rank1"), "{error}");
    }
}
