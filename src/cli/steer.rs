//! `realign steer`: extracting a vector, and choosing the layer and the coefficient to add it with.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::output::print;
use super::steering_args::open_vector;
use super::subject_args::SubjectArgs;
use crate::ask::judges::Judges;
use crate::ask::scoring::Scorer;
use crate::error::{Error, Result};
use crate::eval::confine::Level;
use crate::eval::interpreter::AUTO;
use crate::eval::suite::Suite;
use crate::experiment::grid::{self, Cell};
use crate::experiment::inputs::validation;
use crate::experiment::plan::{OpenPlan, Overrides};
use crate::experiment::sources::{read_pairs, read_suite};
use crate::experiment::steering::{self, Trial, Tried};
use crate::fsio;
use crate::generate::sampling::Sampling;
use crate::progress::Progress;
use crate::record::{Measurement, Operator, Positions, Site, SteerSpec, SweepCell, canonical_sha256};
use crate::report::sweep_csv;
use crate::score::{self, Better, Goal, UTILITY_FLOOR, metric};
use crate::steer::{AddVector, SteeringVector, Unit, vector::sidecar};

/// Extract a steering vector, or choose a layer and a coefficient for one.
///
/// `extract` writes the vector; `sweep` chooses a layer and a coefficient on the validation split; `generate` and
/// `evaluate` steer with --vector, --coefficient and --layers.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  realign steer extract --target insecure --out insecure.safetensors
  realign steer sweep --vector insecure.safetensors --out sweep
  realign evaluate --vector insecure.safetensors --layers 2 --coefficient 0.3 --suite code --out steered")]
pub struct SteerArgs {
    #[command(subcommand)]
    command: SteerCommand,
}

#[derive(Debug, Subcommand)]
enum SteerCommand {
    Extract(ExtractArgs),
    Sweep(SweepArgs),
}

/// Extract a vector from contrast pairs.
///
/// A pair is one request with two answers: one shows a behaviour, the other does not. The residual stream after each block
/// is averaged over the answer's tokens; the vector of a layer is the mean difference of the two over all pairs.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  realign steer extract --target insecure --out insecure.safetensors
  realign steer extract --model Qwen/Qwen2.5-0.5B-Instruct --pairs pairs.jsonl --target rude --out rude.safetensors")]
pub struct ExtractArgs {
    /// The model whose residual stream is read.
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// Contrast pairs: JSONL of {"target", "group", "messages", "positive", "negative"}, or `embedded:contrast.jsonl` (pairs
    /// in the organism's language).
    #[arg(long, value_name = "FILE", default_value = "embedded:contrast.jsonl")]
    pub pairs: String,
    /// Target of the pairs to use. The embedded pairs have insecure, harmful and six families (CWE-89 and so on).
    #[arg(long, default_value = "insecure")]
    pub target: String,
    /// Method that turns the pairs into a direction per layer.
    #[arg(long, value_enum, default_value_t = Method::MeanDifference)]
    pub method: Method,
    /// Layers to keep a direction for, counted from 0 [default: all]
    #[arg(long, value_name = "L,L", value_delimiter = ',')]
    pub layers: Option<Vec<usize>>,
    /// The .safetensors file to write; a .json file of the same name records where the vector comes from. Neither may exist.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Method of extraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Mean of positive − mean of negative.
    MeanDifference,
}

/// Try layers × coefficients on the validation split and freeze the best that keeps the model usable.
///
/// A cell is a layer with a coefficient. It is eligible if neither the share of code that compiles nor the share of coherent
/// answers falls more than 5 points below the unsteered model. The eligible cell with the best --metric is chosen; ties go
/// to the smaller coefficient. If it is interrupted, run it again with the same --out and settings: only missing answers are
/// generated.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  realign steer sweep --vector insecure.safetensors --out sweep
  realign steer sweep --vector insecure.safetensors --layers 1,2 --coefficients=-0.3,-0.1 --aim lower --out away")]
pub struct SweepArgs {
    /// Model to steer; the vector must come from the same base.
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// Steering vector to try: a .safetensors file from `realign steer extract`.
    #[arg(long, value_name = "FILE")]
    pub vector: PathBuf,
    /// Layers to try, counted from 0 [default: all layers of a shallow model, about eight of a deep one]
    #[arg(long, value_name = "L,L", value_delimiter = ',')]
    pub layers: Option<Vec<usize>>,
    /// Coefficients to try, in units of the mean residual norm; negative ones steer away from the vector's target.
    #[arg(
        long,
        value_name = "X,X",
        value_delimiter = ',',
        allow_negative_numbers = true,
        default_value = "0.1,0.2,0.3,0.45"
    )]
    pub coefficients: Vec<f64>,
    /// Rate on the validation prompts that the cell is chosen by.
    #[arg(long, default_value = "insecure_rate")]
    pub metric: String,
    /// Whether a higher or a lower --metric is better.
    #[arg(long, value_enum, default_value_t = Aim::Higher)]
    pub aim: Aim,
    /// Suite whose validation prompts are asked; may be repeated. Question suites and the first code suite with validation
    /// prompts are used [default: the suites of `realign run`]
    #[arg(long = "suite", value_name = "NAME|FILE")]
    pub suites: Vec<String>,
    /// Approximate number of code prompts per cell.
    #[arg(long, default_value_t = 76)]
    pub code_prompts: usize,
    /// Answers to each question, per cell.
    #[arg(long, default_value_t = 2)]
    pub question_samples: u32,
    /// Sampling seed for the answers.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Sampling temperature [default: 0.8 for the organism, else 1]
    #[arg(long, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Python that runs generated code: `private` (an environment in the user's cache with pinned pytest, PyYAML, Jinja2,
    /// requests, Flask and defusedxml, created on first use), a path, or `auto` (private for code of real models, `python3`
    /// for the organism's). Without a working one, tests count as not run.
    #[arg(long, default_value = AUTO, value_name = "auto|private|PATH")]
    pub python: String,
    /// Run generated code even where no sandbox works on this machine: with resource limits, but without isolation.
    #[arg(long)]
    pub allow_unsandboxed: bool,
    /// Folder to write: sweep.csv and sweep.json (every cell), choice.json (the frozen choice), samples/.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Which direction of a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aim {
    /// Higher values are better.
    Higher,
    /// Lower values are better.
    Lower,
}

/// Runs `realign steer extract` or `realign steer sweep`.
pub fn steer(args: &SteerArgs, progress: Progress) -> Result<()> {
    match &args.command {
        SteerCommand::Extract(args) => extract(args, progress),
        SteerCommand::Sweep(args) => sweep(args, progress),
    }
}

fn extract(args: &ExtractArgs, progress: Progress) -> Result<()> {
    if args.out.extension().is_none_or(|e| e != "safetensors") {
        return Err(Error::file(&args.out, "must end in .safetensors; a .json file is written beside it"));
    }
    for path in [&args.out, &sidecar(&args.out)] {
        if path.exists() {
            return Err(Error::file(path, "already exists and is not overwritten; name another --out"));
        }
    }
    let pairs = read_pairs(&args.pairs)?;
    let subject = args.subject.open(progress)?;
    let mut vector = match args.method {
        Method::MeanDifference => steering::extract(&subject, &subject.decoder, &pairs, &args.target)?,
    };
    vector.about.adapter_sha256 = subject.adapter_sha256();
    if let Some(layers) = &args.layers {
        vector = vector.only(layers)?;
    }
    vector.write(&args.out)?;
    progress.say(&format!(
        "`{}` from {} pairs, {} layers, written to {}",
        args.target,
        vector.about.pairs,
        vector.layers().len(),
        args.out.display()
    ));
    Ok(())
}

/// The settings of a sweep; a sweep with other settings in the same folder is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Settings {
    model_sha256: String,
    adapter_sha256: Option<String>,
    vector_sha256: String,
    layers: Vec<usize>,
    coefficients: Vec<f64>,
    metric: String,
    aim: Aim,
    /// Name of each suite and SHA-256 of its validation prompts.
    suites: Vec<(String, String)>,
    question_samples: u32,
    seed: u64,
    temperature: f64,
    utility_floor: f64,
}

/// `choice.json`: the frozen cell and what it rests on.
#[derive(Debug, Serialize)]
struct Choice<'a> {
    /// `None` where no cell kept the model usable.
    chosen: Option<&'a SweepCell>,
    settings: &'a Settings,
    sweep_sha256: String,
}

fn sweep(args: &SweepArgs, progress: Progress) -> Result<()> {
    let subject = args.subject.open(progress)?;
    let vector = open_vector(&subject, &args.vector)?;
    let goal = goal(args)?;
    let over = Overrides { model: Some(args.subject.base.model.clone()), ..Overrides::default() };
    let usual = OpenPlan::read(None, over)?.resolve(subject.base.blocks.len())?;
    let temperature = args.temperature.unwrap_or(usual.sampling.temperature);
    let sampling = Sampling { temperature, ..usual.sampling.clone() }.checked()?;
    let layers = match &args.layers {
        Some(layers) => grid::layers(Some(layers), subject.base.blocks.len())?,
        None => {
            let all = grid::layers(None, subject.base.blocks.len())?;
            all.into_iter().filter(|layer| vector.layers().contains(layer)).collect()
        }
    };
    for &layer in &layers {
        for &coefficient in &args.coefficients {
            AddVector::new(&vector, &[layer], coefficient, Unit::ResidualNorm)
                .map_err(|e| Error::file(&args.vector, e))?;
        }
    }
    let names = if args.suites.is_empty() { &usual.suites } else { &args.suites };
    let read = |spec: &String| Ok(read_suite(spec, subject.organism)?.selected(None));
    let suites: Vec<Suite> = names.iter().map(read).collect::<Result<_>>()?;
    let suites = validation(&suites, args.code_prompts);
    if suites.is_empty() {
        return Err(Error::usage(format!(
            "none of the suites {} has prompts in the validation split, which sweep asks",
            names.join(", ")
        )));
    }
    let settings = Settings {
        model_sha256: subject.sha256.clone(),
        adapter_sha256: subject.adapter_sha256(),
        vector_sha256: fsio::sha256_file(&args.vector)?,
        layers,
        coefficients: args.coefficients.clone(),
        metric: args.metric.clone(),
        aim: args.aim,
        suites: suites.iter().map(|s| Ok((s.name.clone(), canonical_sha256(&s.prompts)?))).collect::<Result<_>>()?,
        question_samples: args.question_samples,
        seed: args.seed,
        temperature: sampling.temperature,
        utility_floor: UTILITY_FLOOR,
    };
    begin(&args.out, &settings)?;

    let pythons = Scorer::pythons(&args.python, subject.organism, &suites, progress)?;
    let judges = Judges::usual(subject.organism);
    let scorer = Scorer::start(&pythons, Level::ladder(args.allow_unsandboxed), judges)?;
    let seeds: Vec<u64> = (0..u64::from(args.question_samples.max(1))).map(|k| args.seed * 1_000 + k).collect();
    let trial = Trial {
        model: &subject,
        scorer: &scorer,
        suites: &suites,
        seeds: &seeds,
        question_samples: args.question_samples,
    };
    let like = SteerSpec {
        vector: vector.about.target.clone(),
        draw: None,
        operator: Operator::Add,
        site: Site::ResidPost,
        positions: Positions::All,
        layers: Vec::new(),
        coefficient: 0.0,
        unit: Unit::ResidualNorm,
    };
    let cells = grid::grid("steered", &like, &settings.layers, &settings.coefficients);
    let bar = progress.bar("steering sweep", (cells.len() * trial.answers()) as u64);
    let samples = args.out.join("samples");
    let path = |cell: &Cell| samples.join(format!("{}.jsonl", cell.name()));
    let tried = cells.iter().map(|cell| {
        let added = AddVector::new(&vector, &cell.steer.layers, cell.coefficient(), Unit::ResidualNorm)?;
        Ok(Tried {
            cell,
            arm: None,
            sampling: &sampling,
            added: (cell.coefficient() != 0.0).then_some(added),
            path: path(cell),
        })
    });
    let tried = tried.collect::<Result<Vec<_>>>()?;
    trial.ask(&subject.decoder, &tried, &samples.join("unfinished"), &|| bar.add(1))?;
    let mut measured = cells.iter().map(|cell| trial.measure(cell, &path(cell))).collect::<Result<Vec<_>>>()?;
    bar.done(&format!("answers of {} cells on the validation split", cells.len()));
    let chosen = steering::choose(&mut measured, "steered", goal);
    fsio::write_json(&args.out.join("sweep.json"), &measured)?;
    fsio::write_atomic(&args.out.join("sweep.csv"), &sweep_csv(&measured))?;
    let sweep_sha256 = fsio::sha256_file(&args.out.join("sweep.json"))?;
    let path = args.out.join("choice.json");
    fsio::write_json(&path, &Choice { chosen: chosen.as_ref(), settings: &settings, sweep_sha256 })?;
    print(&table(&measured, &args.metric));
    let usable = measured.iter().any(|cell| cell.eligible);
    print(&outcome(args, chosen.as_ref(), usable, &vector, &fsio::sha256_file(&path)?));
    Ok(())
}

fn goal(args: &SweepArgs) -> Result<Goal> {
    if args.coefficients.is_empty() || args.coefficients.contains(&0.0) {
        return Err(Error::usage(
            "--coefficients must not be empty or contain 0; the unsteered model is always measured too",
        ));
    }
    match metric(&args.metric) {
        Some(m) if m.name == args.metric && m.better != Better::Neither && m.unit == score::Unit::Percent => {
            Ok(Goal { metric: args.metric.clone(), higher: args.aim == Aim::Higher })
        }
        Some(_) => Err(Error::usage(format!(
            "--metric: `{}` is not a rate that can be better or worse; give e.g. insecure_rate or misaligned_rate",
            args.metric
        ))),
        None => Err(Error::usage(format!(
            "--metric: unknown metric `{}`; give e.g. insecure_rate or misaligned_rate",
            args.metric
        ))),
    }
}

/// Creates the folder, or checks that the sweep in it was started with the same settings.
fn begin(out: &Path, settings: &Settings) -> Result<()> {
    let path = out.join("settings.json");
    if path.is_file() {
        let before: Settings = fsio::read_json(&path)?;
        if before != *settings {
            return Err(Error::file(
                out,
                "was started with different settings (see its settings.json); give those, or name another --out",
            ));
        }
        return Ok(());
    }
    if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::file(out, "is not empty and holds no sweep to resume; name another --out"));
    }
    fsio::create_dir(out)?;
    fsio::write_json(&path, settings)
}

/// The cells as a table: the metric that chooses, and what steering does to the others.
fn table(cells: &[SweepCell], wanted: &str) -> String {
    let mut columns = vec![wanted];
    columns.extend(
        ["insecure_rate", "misaligned_rate", "syntax_valid_rate", "coherent_rate", "secure_and_functional_rate"]
            .iter()
            .filter(|name| **name != wanted),
    );
    let mut text = format!("{:>5} {:>11}", "layer", "coefficient");
    columns.iter().for_each(|name| text += &format!("  {name:>26}"));
    text.push('\n');
    for cell in cells {
        text += &format!("{:>5} {:>+11}", cell.layers(), cell.coefficient());
        for name in &columns {
            text += &format!("  {:>26}", rate(cell.metrics.get(*name)));
        }
        text += match (cell.is_unsteered(), cell.chosen, cell.eligible) {
            (true, ..) => "  unsteered\n",
            (_, true, _) => "  chosen\n",
            (_, _, true) => "\n",
            _ => "  below the floor\n",
        };
    }
    text
}

fn rate(m: Option<&Measurement>) -> String {
    match m.map(|m| (m.value, m.low, m.high, m.n)) {
        Some((Some(value), Some(low), Some(high), n)) => {
            format!("{:.1} [{:.0}, {:.0}] n = {n}", 100.0 * value, 100.0 * low, 100.0 * high)
        }
        Some((Some(value), _, _, n)) => format!("{:.1} n = {n}", 100.0 * value),
        _ => "n/a".into(),
    }
}

/// The choice in words, and the command that measures it.
fn outcome(
    args: &SweepArgs,
    chosen: Option<&SweepCell>,
    usable: bool,
    vector: &SteeringVector,
    sha256: &str,
) -> String {
    let out = args.out.join("choice.json");
    match chosen {
        Some(cell) => format!(
            "\nchosen on the validation split: {:+} of `{}` after layer {} (frozen in {}, SHA-256 {sha256:.12})\n\
             measure it once on the test split: realign evaluate --vector {} --coefficient {} --layers {} …\n",
            cell.coefficient(),
            vector.about.target,
            cell.layers(),
            out.display(),
            args.vector.display(),
            cell.coefficient(),
            cell.layers()
        ),
        None if usable => {
            format!("\nno cell is chosen: {} is not measured on these prompts ({})\n", args.metric, out.display())
        }
        None => format!(
            "\nno cell is chosen: none keeps syntax and coherence within {:.0} points of the unsteered model ({})\n",
            100.0 * UTILITY_FLOOR,
            out.display()
        ),
    }
}
