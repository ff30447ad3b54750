//! What a run will do, resolved: a plan's files ([`mod@file`]) and the command line over the defaults of the model at hand.

mod arms;
mod entries;
pub mod file;
mod give_up;
mod held_out;
mod published;
mod resolve;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ask::judges::JudgeSpec;
use crate::error::{Error, Result};
use crate::eval::suite::Suite;
use crate::model::device::DeviceChoice;
use crate::model::source::load::WeightDtype;
use crate::record::Recipe;
use crate::record::{ArmSpec, Sampling, SuiteChoice};
use crate::subject::ORGANISM;
use file::{Layers, Merged};
pub use give_up::{Budget, GiveUp};
pub use held_out::{HELD_OUT, HeldOutPlan, VALIDATION, WhichRows};
pub use published::{Effect, Published};
pub use resolve::{CONDITIONAL, EMBEDDED};

/// What the command line says over a plan; `None` and empty say nothing.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--model`: the base model instead of the plan's.
    pub model: Option<String>,
    /// `--attack`: the data of the adapter of this name, and of those that share it.
    pub attack: Option<String>,
    /// `--repair`: the data of the adapter of this name, and of those that share it.
    pub repair: Option<String>,
    /// `--preset`: the recipe of all adapters.
    pub preset: Option<String>,
    /// `--arm`: the arms to run, with the base.
    pub arms: Vec<String>,
    /// `--suite`: the suites to ask instead of the plan's.
    pub suites: Vec<String>,
    /// `--seed`: the seed instead of the plan's.
    pub seed: Option<u64>,
    /// `--judge`: the judges instead of the plan's.
    pub judges: Vec<JudgeSpec>,
    /// `--python`: the interpreter for generated code.
    pub python: Option<String>,
    /// `--dtype`: the format of the base's weights.
    pub dtype: Option<WeightDtype>,
    /// `--exact-quant`: whether quantised weights are decoded with their exact values, whatever the plan says.
    pub exact_quant: bool,
    /// `--device`: the device that the model runs on.
    pub device: Option<DeviceChoice>,
    /// `--quick`: whether to apply the plan's quick patch.
    pub quick: bool,
    /// `--budget`: the time that the run may take, instead of the plan's.
    pub budget: Option<String>,
}

/// What is tried on the validation split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepPlan {
    /// 0-based; `None` tries every layer of a shallow model and about eight of a deep one.
    #[serde(default)]
    pub layers: Option<Vec<usize>>,
    /// In units of the mean residual norm, without sign.
    pub coefficients: Vec<f64>,
    /// Number of code prompts per cell, about.
    pub code_prompts: usize,
    /// Samples of each free-form question of a cell.
    pub question_samples: u32,
}

/// An adapter with nothing left open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterPlan {
    /// Name, which is also its folder below `adapters/`.
    pub name: String,
    /// Training rows: a file, or `embedded:NAME`.
    pub data: String,
    /// The data's name in the manifest and in held-out losses.
    pub set: String,
    /// Name of the adapter that it continues; `None` for a fresh one.
    pub from: Option<String>,
    /// How it is trained; its seed is that of the first training.
    pub recipe: Recipe,
    /// Only the first rows of the data, of those that are not held out.
    pub max_train_rows: Option<usize>,
    /// The adapter that as many tokens are trained on as for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_as: Option<String>,
    /// Training seeds; each gives one adapter.
    pub seeds: Vec<u64>,
}

impl AdapterPlan {
    /// Where each of its trainings lies below `adapters/`, with its seed.
    pub fn trainings(&self) -> Vec<(String, u64)> {
        self.seeds.iter().map(|&seed| (self.folder(Some(seed)), seed)).collect()
    }

    /// The folder of the training with this seed; of its only one without.
    pub fn folder(&self, seed: Option<u64>) -> String {
        match seed {
            Some(seed) if self.seeds.len() > 1 => format!("{}/seed-{seed}", self.name),
            _ => self.name.clone(),
        }
    }
}

/// A vector with nothing left open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VectorPlan {
    /// Name, which is also its file below `vectors/`.
    pub name: String,
    /// Where its directions come from.
    #[serde(flatten)]
    pub method: VectorSource,
}

/// Where a vector's directions come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "method")]
pub enum VectorSource {
    /// The mean over contrast pairs of the positive answer's activations less the negative's.
    MeanDifference {
        /// Contrast pairs: a file, or `embedded:NAME`.
        pairs: String,
        /// Target of the pairs to use, e.g. `insecure`.
        target: String,
    },
    /// Directions of no meaning with the norm of another vector.
    Random {
        /// Name of the vector whose norm the random ones get.
        like: String,
        /// Number of random vectors.
        draws: u32,
    },
}

/// A plan with nothing left open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The form of the plan file.
    pub schema: u32,
    /// `organism`, a folder or a model on the Hub.
    pub model: String,
    /// Adapters to train; an adapter stands after the one that it continues.
    pub adapters: Vec<AdapterPlan>,
    /// Rows that none of them is trained on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_out: Vec<HeldOutPlan>,
    /// Vectors that an arm uses.
    pub vectors: Vec<VectorPlan>,
    /// In the order of the story, base first.
    pub arms: Vec<ArmSpec>,
    /// Suites by name or file.
    pub suites: Vec<String>,
    /// Samples of every prompt, by suite; one where a suite is not named.
    pub samples: BTreeMap<String, u32>,
    /// Prompts of each split, by suite; the suite's core where it is not named.
    pub prompts: BTreeMap<String, usize>,
    /// Tokens that an answer may have, by suite; what the suite says where it is not named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub max_tokens: BTreeMap<String, usize>,
    /// Seed of sampling, row order and random vectors.
    pub seed: u64,
    /// How answers are sampled, where an arm says nothing else.
    pub sampling: Sampling,
    /// Layers and coefficients that are tried on the validation split.
    pub sweep: SweepPlan,
    /// Who scores free answers, the headline first; without one they are not measured.
    pub judges: Vec<JudgeSpec>,
    /// The interpreter that runs generated code: `auto`, `private` or a path.
    pub python: String,
    /// How the model's weights are held.
    pub dtype: WeightDtype,
    /// Whether quantised weights are decoded with their exact values, not in integers; `None` where none is quantised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_quant: Option<bool>,
    /// Device that the model runs on.
    pub device: DeviceChoice,
    /// Whether the plan's quick patch was put over it.
    pub quick: bool,
    /// Time that the run may take, and what was given up for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// What is given up for a budget, in this order.
    #[serde(skip)]
    pub give_up: Vec<GiveUp>,
    /// Arms and data that were left out, with the reason.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// What the plan names and nothing uses.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// A plan whose model is known and whose shape is not.
pub struct OpenPlan {
    merged: Merged,
    /// The same without the quick patch.
    whole: Merged,
    over: Overrides,
    /// `organism`, a folder or a model on the Hub.
    pub model: String,
    /// Whether the model is the one that the plan's files name.
    pub own_model: bool,
    /// The published experiment that the plan repeats, if it does.
    pub published: Option<Published>,
    /// How the model's weights are held.
    pub dtype: WeightDtype,
    /// Whether quantised weights are decoded with their exact values.
    pub exact_quant: bool,
    /// Device that the model runs on.
    pub device: DeviceChoice,
}

impl OpenPlan {
    /// Reads a plan, the default one without a name, and puts the command line over it.
    pub fn read(spec: Option<&Path>, over: Overrides) -> Result<Self> {
        let layers = spec.map_or_else(Layers::default_plan, Layers::read)?;
        let usual = layers.model();
        let model = over.model.clone().unwrap_or_else(|| usual.clone());
        let mut merged = layers.merged(model == ORGANISM, over.quick, &patches(&over)?)?;
        let whole = layers.merged(model == ORGANISM, false, &patches(&over)?)?;
        let named = if over.arms.is_empty() { merged.chosen.clone().unwrap_or_default() } else { over.arms.clone() };
        merged.restore_arms(&whole, &named);
        let published = merged.get("published")?;
        let (dtype, device) = (merged.get("dtype")?.unwrap_or_default(), merged.get("device")?.unwrap_or_default());
        let exact_quant = merged.get("exact_quant")?.unwrap_or(false);
        Ok(Self { own_model: model == usual, model, published, dtype, exact_quant, device, merged, whole, over })
    }

    /// Fills what is left open, for a model of `layers` layers.
    ///
    /// # Errors
    /// Names that nothing has, circles of adapters, values out of their range: with file and line.
    pub fn resolve(&self, layers: usize) -> Result<Plan> {
        resolve::resolve(self, layers)
    }

    /// Refuses names of suites that an arm gives and the run does not have. With `--suite`, which chooses among the plan's
    /// suites, an arm may name others.
    ///
    /// # Errors
    /// The arm, with file and line, and the suites that there are.
    pub fn check_suites(&self, plan: &Plan, suites: &[Suite]) -> Result<()> {
        if !self.over.suites.is_empty() {
            return Ok(());
        }
        for arm in &plan.arms {
            let chosen = arm.suites.as_ref().map_or(&[][..], SuiteChoice::named);
            let named =
                chosen.iter().map(|name| ("suites", name)).chain(arm.samples.keys().map(|name| ("samples", name)));
            for (key, name) in named {
                if !suites.iter().any(|suite| suite.name == *name) {
                    let known: Vec<&str> = suites.iter().map(|suite| suite.name.as_str()).collect();
                    let message = format!(
                        "arms.{}.{key}: there is no suite `{name}` in this plan; suites: {}",
                        arm.name,
                        known.join(", ")
                    );
                    return Err(self.merged.error(&["arms", &arm.name, key], &message));
                }
            }
        }
        Ok(())
    }
}

/// What the command line replaces, as a patch over the plan.
fn patches(over: &Overrides) -> Result<Vec<Value>> {
    let value = |value: Option<Value>, key: &str| value.map(|value| json!({ key: value }));
    let typed = |e: serde_json::Error| Error::internal(format!("the command line as a plan: {e}"));
    let judges = (!over.judges.is_empty()).then(|| serde_json::to_value(&over.judges)).transpose().map_err(typed)?;
    let suites = (!over.suites.is_empty()).then(|| json!(over.suites));
    let dtype = over.dtype.map(serde_json::to_value).transpose().map_err(typed)?;
    let device = over.device.map(serde_json::to_value).transpose().map_err(typed)?;
    let all = [
        value(over.preset.clone().map(Value::from), "preset"),
        value(suites, "suites"),
        value(over.seed.map(Value::from), "seed"),
        value(judges, "judges"),
        value(over.python.clone().map(Value::from), "python"),
        value(dtype, "dtype"),
        value(over.exact_quant.then(|| Value::from(true)), "exact_quant"),
        value(device, "device"),
        value(over.budget.clone().map(Value::from), "budget"),
    ];
    Ok(all.into_iter().flatten().collect())
}

impl Plan {
    /// Samples of every prompt of a suite.
    pub fn samples_of(&self, suite: &str) -> u32 {
        self.samples.get(suite).copied().unwrap_or(1).max(1)
    }

    /// The sampling seeds, the same for every arm.
    pub fn seeds(&self) -> Vec<u64> {
        let own = self.arms.iter().flat_map(|arm| arm.samples.values());
        let draws = self.vectors.iter().map(|vector| match vector.method {
            VectorSource::Random { draws, .. } => draws,
            VectorSource::MeanDifference { .. } => 1,
        });
        let most = self.samples.values().chain(own).copied().chain(draws).max().unwrap_or(1).max(1);
        (0..u64::from(most)).map(|k| self.seed * 1_000 + k).collect()
    }

    /// The adapter with this name; an error if the plan has none.
    pub fn adapter(&self, name: &str) -> Result<&AdapterPlan> {
        let found = self.adapters.iter().find(|adapter| adapter.name == name);
        found.ok_or_else(|| Error::internal(format!("the plan has no adapter `{name}` after it was resolved")))
    }

    /// The vector with this name; an error if the plan has none.
    pub fn vector(&self, name: &str) -> Result<&VectorPlan> {
        let found = self.vectors.iter().find(|vector| vector.name == name);
        found.ok_or_else(|| Error::internal(format!("the plan has no vector `{name}` after it was resolved")))
    }

    /// How an arm's answers are drawn.
    pub fn sampling_of<'a>(&'a self, arm: &'a ArmSpec) -> &'a Sampling {
        arm.sampling.as_ref().unwrap_or(&self.sampling)
    }

    /// Where two plans differ: key, what the first says, what the second says.
    pub fn differences(&self, other: &Value) -> Vec<String> {
        let Ok(Value::Object(ours)) = serde_json::to_value(self) else { return Vec::new() };
        let differing = ours.iter().filter(|(key, value)| other.get(key.as_str()) != Some(*value));
        differing.map(|(key, value)| format!("{key}: {} there, {value} here", other[key.as_str()])).collect()
    }
}
