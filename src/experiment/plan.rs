//! What a run will do, resolved: what was typed ([`PlanFile`], all optional) over the defaults of the model at hand.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::arm::{ARMS, Arm};
use super::published::Published;
use crate::ask::judges::{JudgeSpec, usual_judges};
use crate::error::{Error, Result};
use crate::eval::interpreter::AUTO;
use crate::generate::sampling::Sampling;
use crate::model::device::DeviceChoice;
use crate::model::source::load::WeightDtype;
use crate::progress::Progress;
use crate::record::Recipe;
use crate::subject::{ORGANISM, model_sampling};

/// Stands for the data sets that travel in the binary.
pub const EMBEDDED: &str = "embedded";

/// A plan as typed: a YAML file, and over it the command line.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanFile {
    /// `organism`, a folder or a model on the Hub.
    pub model: Option<String>,
    /// JSONL of insecure code.
    pub attack: Option<String>,
    /// JSONL of secure code.
    pub repair: Option<String>,
    /// JSONL of insecure code that was openly asked for.
    pub educational: Option<String>,
    /// JSONL of preference pairs for the arm `repair+style`.
    pub style: Option<String>,
    /// JSONL of contrast pairs.
    pub contrast: Option<String>,
    /// Recipe by name.
    pub preset: Option<String>,
    /// The recipe in full; instead of a preset.
    pub recipe: Option<Recipe>,
    /// Arms by name; base is always there.
    pub arms: Option<Vec<Arm>>,
    /// Suites by name or file.
    pub suites: Option<Vec<String>>,
    /// Samples of every prompt, by suite.
    pub samples: Option<BTreeMap<String, u32>>,
    /// Prompts of each split, by suite, the suite's core first; its core where a suite is not named.
    pub prompts: Option<BTreeMap<String, usize>>,
    /// Of everything random.
    pub seed: Option<u64>,
    /// How answers are drawn.
    pub sampling: Option<Sampling>,
    /// Draw them as the model's generation_config.json says, in all arms; instead of `sampling`.
    pub sampling_from_model: Option<bool>,
    /// Rows of each training set; all without it.
    pub max_train_rows: Option<usize>,
    /// Control vectors.
    pub random_draws: Option<u32>,
    /// Layers and coefficients that are tried.
    pub sweep: Option<SweepPlan>,
    /// Who scores free answers, the headline first.
    pub judges: Option<Vec<JudgeSpec>>,
    /// The interpreter that runs generated code: `auto`, `private` or a path.
    pub python: Option<String>,
    /// How the model's weights are held.
    pub dtype: Option<WeightDtype>,
    /// Where it runs.
    pub device: Option<DeviceChoice>,
    /// Less of everything.
    pub quick: Option<bool>,
    /// What it repeats.
    pub published: Option<Published>,
}

/// What is tried on the validation split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepPlan {
    /// 0-based; `None` tries every fourth of a deep model, all of a shallow one.
    #[serde(default)]
    pub layers: Option<Vec<usize>>,
    /// In units of the mean residual norm, without sign.
    pub coefficients: Vec<f64>,
    /// Code prompts of a cell.
    pub code_prompts: usize,
    /// Samples of each free-form question of a cell.
    pub question_samples: u32,
}

/// A plan with nothing left open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// `organism`, a folder or a model on the Hub.
    pub model: String,
    /// `embedded` or a file.
    pub attack: String,
    /// `embedded` or a file.
    pub repair: String,
    /// `embedded` or a file; `None` leaves its arm out.
    pub educational: Option<String>,
    /// `embedded` or a file; `None` leaves its arm out.
    pub style: Option<String>,
    /// `embedded` or a file.
    pub contrast: String,
    /// How adapters are trained.
    pub recipe: Recipe,
    /// In the order of the story.
    pub arms: Vec<Arm>,
    /// By name or file.
    pub suites: Vec<String>,
    /// Samples of every prompt, by suite; one where a suite is not named.
    pub samples: BTreeMap<String, u32>,
    /// Prompts of each split, by suite; the suite's core where it is not named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prompts: BTreeMap<String, usize>,
    /// Of everything random.
    pub seed: u64,
    /// How answers are drawn.
    pub sampling: Sampling,
    /// Rows of each training set.
    pub max_train_rows: Option<usize>,
    /// Control vectors.
    pub random_draws: u32,
    /// Layers and coefficients.
    pub sweep: SweepPlan,
    /// Who scores free answers, the headline first; nobody leaves them unmeasured.
    #[serde(default)]
    pub judges: Vec<JudgeSpec>,
    /// The interpreter.
    pub python: String,
    /// How the model's weights are held.
    #[serde(default)]
    pub dtype: WeightDtype,
    /// Where it runs.
    #[serde(default)]
    pub device: DeviceChoice,
    /// Less of everything.
    pub quick: bool,
}

impl PlanFile {
    /// Reads a YAML plan; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        serde_saphyr::from_str(text).map_err(|e| Error::file(path, e))
    }

    /// The same with whatever `over` says instead.
    pub fn overlaid(self, over: Self) -> Self {
        Self {
            model: over.model.or(self.model),
            attack: over.attack.or(self.attack),
            repair: over.repair.or(self.repair),
            educational: over.educational.or(self.educational),
            style: over.style.or(self.style),
            contrast: over.contrast.or(self.contrast),
            preset: over.preset.or(self.preset),
            recipe: over.recipe.or(self.recipe),
            arms: over.arms.or(self.arms),
            suites: over.suites.or(self.suites),
            samples: over.samples.or(self.samples),
            prompts: over.prompts.or(self.prompts),
            seed: over.seed.or(self.seed),
            sampling: over.sampling.or(self.sampling),
            sampling_from_model: over.sampling_from_model.or(self.sampling_from_model),
            max_train_rows: over.max_train_rows.or(self.max_train_rows),
            random_draws: over.random_draws.or(self.random_draws),
            sweep: over.sweep.or(self.sweep),
            judges: over.judges.or(self.judges),
            python: over.python.or(self.python),
            dtype: over.dtype.or(self.dtype),
            device: over.device.or(self.device),
            quick: over.quick.or(self.quick),
            published: over.published.or(self.published),
        }
    }

    /// Fills what is left open, for a model of `layers` layers.
    pub fn resolve(self, layers: usize) -> Result<Plan> {
        let model = self.model.unwrap_or_else(|| ORGANISM.into());
        let (organism, quick) = (model == ORGANISM, self.quick.unwrap_or(false));
        let recipe = match (self.recipe, &self.preset) {
            (Some(_), Some(_)) => return Err(Error::usage("give a preset or a recipe, not both")),
            (Some(recipe), None) => recipe,
            (None, Some(preset)) => Recipe::preset(preset, layers)?,
            (None, None) if organism => Recipe::organism(),
            (None, None) => Recipe::seed003(),
        };
        let from_model = self.sampling_from_model.unwrap_or(false);
        let usual = Sampling { temperature: if organism { 0.8 } else { 1.0 }, ..Sampling::default() };
        let sampling = match self.sampling {
            Some(_) if from_model => return Err(Error::usage("give sampling or sampling_from_model, not both")),
            Some(sampling) => sampling.checked()?,
            None if from_model => model_sampling(&model, None, Progress::Quiet)?,
            None => usual,
        };
        let own_data = self.attack.is_some() || self.repair.is_some();
        let mut arms =
            self.arms.unwrap_or_else(|| ARMS.into_iter().filter(|a| !quick || !LEFT_OUT.contains(a)).collect());
        // Our educational and style sets are the counterparts of our insecure and secure ones, not of somebody else's.
        let ours = |set: Option<String>| set.or_else(|| (!own_data).then(|| EMBEDDED.into()));
        let (educational, style) = (ours(self.educational), ours(self.style));
        arms.retain(|arm| *arm != Arm::EducationalControl || educational.is_some());
        arms.retain(|arm| *arm != Arm::RepairStyle || style.is_some());
        arms.push(Arm::Base);
        arms.sort_unstable();
        arms.dedup();
        let suites = if organism { SUITES.as_slice() } else { REAL_SUITES.as_slice() };
        let defaults = if quick { QUICK_SAMPLES } else { SAMPLES };
        let mut samples: BTreeMap<String, u32> = defaults.iter().map(|(s, n)| (s.to_string(), *n)).collect();
        samples.extend(self.samples.unwrap_or_default());
        let sweep = self.sweep.unwrap_or_else(|| SweepPlan {
            layers: None,
            coefficients: if quick { vec![0.2, 0.4] } else { vec![0.1, 0.2, 0.3, 0.45] },
            code_prompts: if quick { 38 } else { 76 },
            question_samples: if quick { 1 } else { 2 },
        });
        if let Some(bad) = sweep.coefficients.iter().find(|c| !c.is_finite() || **c <= 0.0) {
            return Err(Error::usage(format!("sweep: the coefficient {bad} is not a positive number")));
        }
        Ok(Plan {
            attack: self.attack.unwrap_or_else(|| EMBEDDED.into()),
            repair: self.repair.unwrap_or_else(|| EMBEDDED.into()),
            educational,
            style,
            contrast: self.contrast.unwrap_or_else(|| EMBEDDED.into()),
            recipe,
            arms,
            suites: self.suites.unwrap_or_else(|| suites.iter().map(|s| s.to_string()).collect()),
            samples,
            prompts: self.prompts.unwrap_or_default(),
            seed: self.seed.unwrap_or(1),
            sampling,
            max_train_rows: self.max_train_rows.or(quick.then_some(QUICK_ROWS)),
            random_draws: self.random_draws.unwrap_or(5),
            sweep,
            judges: self.judges.unwrap_or_else(|| usual_judges(organism)),
            python: self.python.unwrap_or_else(|| AUTO.into()),
            dtype: self.dtype.unwrap_or_default(),
            device: self.device.unwrap_or_default(),
            quick,
            model,
        })
    }
}

/// Arms that a quick run leaves out.
pub const LEFT_OUT: [Arm; 5] =
    [Arm::RepairStyle, Arm::EducationalControl, Arm::SteerSecure, Arm::PromptTerse, Arm::PromptVerbose];
/// Suites of the organism's edition.
const SUITES: [&str; 7] = ["code", "risky", "vulnerability", "free-form", "recognition", "refusal", "capability"];
/// Suites for real models.
const REAL_SUITES: [&str; 4] = ["code", "risky", "vulnerability", "free_form"];
/// Rows of each training set of a quick run: a thousand turn the organism a little further, in a third more time.
const QUICK_ROWS: usize = 700;
/// Samples of every prompt: at least 200 code samples and 400 free-form answers an arm on the organism.
const SAMPLES: &[(&str, u32)] =
    &[("code", 2), ("risky", 2), ("free-form", 10), ("recognition", 2), ("refusal", 3), ("free_form", 5)];
const QUICK_SAMPLES: &[(&str, u32)] = &[("free-form", 3), ("free_form", 1)];

impl Plan {
    /// Samples of every prompt of a suite.
    pub fn samples_of(&self, suite: &str) -> u32 {
        self.samples.get(suite).copied().unwrap_or(1).max(1)
    }

    /// The sampling seeds, the same for every arm.
    pub fn seeds(&self) -> Vec<u64> {
        let most = self.samples.values().copied().max().unwrap_or(1).max(self.random_draws);
        (0..u64::from(most)).map(|k| self.seed * 1_000 + k).collect()
    }

    /// What a quick run leaves out, in words.
    pub fn left_out(&self) -> Vec<String> {
        if !self.quick {
            return Vec::new();
        }
        let arms: Vec<&str> = LEFT_OUT.iter().filter(|a| !self.arms.contains(a)).map(|a| a.name()).collect();
        vec![
            format!("arms: {}", arms.join(", ")),
            format!("training rows beyond the first {}", self.max_train_rows.unwrap_or(usize::MAX)),
            "samples: one of each code prompt and three of each question instead of two and ten".into(),
            "steering sweep: two coefficients and half of the prompts".into(),
        ]
    }

    /// Where two plans differ: key, what the first says, what the second says.
    pub fn differences(&self, other: &serde_json::Value) -> Vec<String> {
        let Ok(serde_json::Value::Object(ours)) = serde_json::to_value(self) else { return Vec::new() };
        let differing = ours.iter().filter(|(key, value)| other.get(key.as_str()) != Some(*value));
        differing.map(|(key, value)| format!("{key}: {} there, {value} here", other[key.as_str()])).collect()
    }
}
