//! The manifest of a run and the numbers of its report.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ArmSpec, JudgeAgreement, JudgeIdentity, JudgeTally, LabelScores, QuestionContrast, SteerSpec};

/// One number with its denominator and its 95 % interval; `None` is "not measured", never 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The value; `None` where the denominator is empty.
    pub value: Option<f64>,
    /// Denominator of the value: the number of samples that count.
    pub n: u64,
    /// Lower end of the 95 % interval; `None` where none can be given.
    pub low: Option<f64>,
    /// Upper end of the 95 % interval; `None` where none can be given.
    pub high: Option<f64>,
}

/// One paired comparison of two arms on the same prompts and seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Registry name, with `/SUITE` where it is not pooled.
    pub metric: String,
    /// The arm that is compared.
    pub a: String,
    /// The arm that `a` is compared with.
    pub b: String,
    /// The metric of `a` minus that of `b`.
    pub difference: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
    /// Name of the test, e.g. `McNemar`.
    pub test: String,
    /// Two-sided p-value of the test.
    pub p: f64,
    /// After Holm over the comparison's family.
    pub p_holm: f64,
    /// Number of pairs: same prompt, same seed, both arms.
    pub n: u64,
    /// The odds of the event in a over those in b, pairs taken as independent; rates only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub odds_ratio: Option<OddsRatio>,
    /// The smallest difference that these pairs, taken as independent, would show with 80 % power; rates only. By the exact
    /// McNemar test, or by Fisher's where only some answers of a pair count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detectable: Option<f64>,
    /// Answers that count in the arm with fewer of them, where `detectable` is by Fisher's test; for a rate among coherent
    /// answers, the coherent ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detectable_answers: Option<u64>,
}

/// An odds ratio with its 95 % interval; where a cell is empty, half a case is added to each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OddsRatio {
    /// 1 where both rates are the same.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
}

/// One cell of the steering sweep on the validation split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepCell {
    /// The arm that it is a candidate for.
    pub arm: String,
    /// What is added while the arm decodes; every coefficient is 0 in the cell of the unsteered model.
    pub steer: Vec<SteerSpec>,
    /// Number of samples.
    pub n: u64,
    /// The cell's metrics by their registry names.
    pub metrics: BTreeMap<String, Measurement>,
    /// Whether it stays above the utility floor.
    pub eligible: bool,
    /// Whether the cell is the frozen choice for its arm.
    pub chosen: bool,
}

impl SweepCell {
    /// Its vectors, e.g. `insecure`, or `insecure + random-0`.
    pub fn vectors(&self) -> String {
        self.steer.iter().map(SteerSpec::name).collect::<Vec<_>>().join(" + ")
    }

    /// Its layers, e.g. `4`, or `4,12`; those of several vectors are divided by `+`.
    pub fn layers(&self) -> String {
        self.steer.iter().map(SteerSpec::layers_in_words).collect::<Vec<_>>().join(" + ")
    }

    /// The lowest layer that it touches.
    pub fn lowest_layer(&self) -> usize {
        self.steer.iter().flat_map(|s| &s.layers).copied().min().unwrap_or(0)
    }

    /// The first vector's coefficient, with its sign; the sweep moves that one.
    pub fn coefficient(&self) -> f64 {
        self.steer.first().map_or(0.0, |s| s.coefficient)
    }

    /// Whether it adds nothing: the unsteered model, which the other cells are compared with.
    pub fn is_unsteered(&self) -> bool {
        self.steer.iter().all(|s| s.coefficient == 0.0)
    }

    /// Whether its vectors are drawn at random: a control.
    pub fn is_random(&self) -> bool {
        self.steer.iter().any(|s| s.draw.is_some())
    }
}

/// `metrics.json`: every number of the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Metrics {
    /// arm → metric (or `metric/suite`) → number.
    pub arms: BTreeMap<String, BTreeMap<String, Measurement>>,
    /// Every comparison that the report speaks of.
    pub comparisons: Vec<Comparison>,
    /// arm → the frozen cell it was measured with.
    pub selection: BTreeMap<String, SweepCell>,
    /// What each judge said of each arm, how much of it could not be read included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub judges: Vec<JudgeTally>,
    /// How far the judges agree, where there are two or more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreement: Vec<JudgeAgreement>,
    /// Rates by training seed, of arms that have several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seed_rates: Vec<SeedRates>,
    /// Differences by training seed, of the comparisons of such arms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seed_comparisons: Vec<SeedComparison>,
    /// The judge-free endpoint, of arms that were asked suites of pairs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_odds_shifts: Vec<LogOddsShift>,
    /// The judge's misaligned rate of the arms that are compared, question by question.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_question: Vec<QuestionContrast>,
    /// What readers said of the answers, where anybody read them (`realign label`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelScores>,
}

/// How far an arm's log-odds of the rejected answers moved from another arm's, in nats a pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogOddsShift {
    /// The arm that is compared.
    pub arm: String,
    /// The arm that it is compared with.
    pub against: String,
    /// Suite of pairs → the shift; n counts pairs that both arms have.
    pub suites: BTreeMap<String, Measurement>,
    /// Shift on the misalignment pairs − shift on the fact pairs, where both were asked; n counts the pairs of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beyond_control: Option<Measurement>,
}

/// One metric of one arm by the training seed of its adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedRates {
    /// Name of the arm.
    pub arm: String,
    /// Name of the metric in the registry.
    pub metric: String,
    /// Training seed → the rate of that adapter's answers.
    pub rates: BTreeMap<u64, Measurement>,
    /// Mean of the rates over seeds.
    pub mean: f64,
    /// Lower end of the 95 % t-interval over seeds; `None` with fewer than three.
    pub low: Option<f64>,
    /// Upper end of the t-interval; `None` with fewer than three seeds.
    pub high: Option<f64>,
}

/// One comparison by the training seed of its first arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedComparison {
    /// Name of the metric in the registry.
    pub metric: String,
    /// The arm that is compared.
    pub a: String,
    /// The arm that `a` is compared with.
    pub b: String,
    /// Training seed → a − b.
    pub differences: BTreeMap<u64, f64>,
    /// Mean of the differences over seeds.
    pub mean: f64,
    /// Lower end of the 95 % t-interval over seeds; `None` with fewer than three.
    pub low: Option<f64>,
    /// Upper end of the t-interval; `None` with fewer than three seeds.
    pub high: Option<f64>,
}

/// A data file as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataIdentity {
    /// Path as given, or `embedded:NAME`.
    pub path: String,
    /// SHA-256 of the file's bytes.
    pub sha256: String,
    /// Number of rows that were used.
    pub rows: u64,
}

/// Rows of a training file that no adapter of the run was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct HeldOutRows {
    /// The file, as given.
    pub data: String,
    /// SHA-256 of each row as read, in the file's order.
    pub rows: Vec<String>,
    /// Mean loss of the base over their target tokens, once it is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_loss: Option<f64>,
}

/// The machine a run was made on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Hardware {
    /// Model name of the processor.
    pub cpu: String,
    /// Number of cores that were used.
    pub cores: u64,
    /// Total memory of the machine, in bytes; 0 where the system does not say.
    pub memory_bytes: u64,
    /// The device that the model ran on: `cpu`, `cuda:0` or `metal`.
    pub device: String,
}

/// `manifest.json`: what was run, on what, from which bytes, and how long each stage took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Manifest {
    /// Version of realign that made the run.
    pub version: String,
    /// The resolved plan; `run` does not resume in a folder whose plan differs.
    pub plan: serde_json::Value,
    /// The base model, as the user named it.
    pub model: String,
    /// SHA-256 over the base's weights.
    pub model_sha256: String,
    /// Whether it is the embedded base, whose effect is planted.
    pub organism: bool,
    /// The arms of the run, in the plan's order.
    #[serde(default)]
    pub arms: Vec<ArmSpec>,
    /// Training sets and suites by name.
    pub data: BTreeMap<String, DataIdentity>,
    /// Held-out rows by the suite that is made of their prompts, e.g. `heldout_attack`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_out: BTreeMap<String, HeldOutRows>,
    /// Adapters by name, or by `NAME/seed-N` where one was trained with several seeds: proof that this run trained them.
    pub adapters: BTreeMap<String, super::Lineage>,
    /// What each suite asks for, by its name.
    #[serde(default)]
    pub suites: BTreeMap<String, super::SuiteKind>,
    /// The sampling seeds, one for each sample of a prompt.
    pub seeds: Vec<u64>,
    /// The machine that the run was made on.
    pub hardware: Hardware,
    /// The name of the judge whose verdicts the rates are of; `None` where nothing judged.
    pub judge: Option<String>,
    /// All judges; the first one is `judge`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub judges: Vec<JudgeIdentity>,
    /// What the tests of generated code ran in, and with which interpreter.
    pub sandbox: String,
    /// The Python that ran it; `None` where nothing was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<super::Interpreter>,
    /// SHA-256 of `sweep.json`, the frozen choice of layers and coefficients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep_sha256: Option<String>,
    /// What the whole run was expected to take, before it began.
    #[serde(default)]
    pub estimated_seconds: Option<f64>,
    /// Seconds by stage, in order of running.
    pub timings: Vec<(String, f64)>,
    /// What `peak_memory_bytes` was expected to be.
    #[serde(default)]
    pub estimated_memory_bytes: Option<u64>,
    /// Peak memory of the process so far, in bytes.
    pub peak_memory_bytes: u64,
    /// What a short run left out, in words.
    pub left_out: Vec<String>,
}
