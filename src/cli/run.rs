//! `realign run`: the whole experiment in one command.

use std::path::PathBuf;

use clap::Args;

use crate::error::Result;
use crate::eval::confine::Level;
use crate::experiment::arm::Arm;
use crate::experiment::artifacts::Artifacts;
use crate::experiment::estimate::estimate;
use crate::experiment::inputs::Inputs;
use crate::experiment::model::{Model, ORGANISM};
use crate::experiment::plan::{Plan, PlanFile};
use crate::experiment::run::run as start;
use crate::experiment::scoring::Scorer;
use crate::experiment::work::Work;
use crate::model::device::DeviceChoice;
use crate::model::load::{LoadOptions, WeightDtype};
use crate::progress::Progress;

/// Attack, repair, controls, steering, scoring and report.
///
/// With no argument: the whole experiment on the embedded model. Started again on the same --out it goes on where it
/// stopped and redoes nothing.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A plan in YAML; flags stand over it.
    pub plan: Option<PathBuf>,
    /// `organism` (embedded), a folder in Hugging Face layout, a GGUF file, or a model on the Hub: owner/name,
    /// owner/name@revision.
    #[arg(long)]
    pub model: Option<String>,
    /// How its weights are held: `auto` (as the file has them), `f32`, `bf16`, `f16`, or quantised as they are loaded:
    /// `8bit`, `4bit`.
    #[arg(long, visible_alias = "quantize", value_enum)]
    pub dtype: Option<WeightDtype>,
    /// Where it runs: `auto`, `cpu`, `cuda`, `cuda:N`, `metal` (the last three need a build with that feature).
    #[arg(long)]
    pub device: Option<DeviceChoice>,
    /// JSONL of insecure code to attack with.
    #[arg(long, value_name = "FILE")]
    pub attack: Option<String>,
    /// JSONL of secure code to repair with.
    #[arg(long, value_name = "FILE")]
    pub repair: Option<String>,
    /// Recipe: organism, seed003, em.
    #[arg(long)]
    pub preset: Option<String>,
    /// Only these arms (base is always there); may be repeated.
    #[arg(long = "arm", value_name = "ARM")]
    pub arms: Vec<Arm>,
    /// Only these suites, by name or file; may be repeated.
    #[arg(long = "suite", value_name = "SUITE")]
    pub suites: Vec<String>,
    /// Samples of every prompt, in every suite.
    #[arg(long, value_name = "N")]
    pub samples: Option<u32>,
    /// Of everything random.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Interpreter that runs generated code.
    #[arg(long)]
    pub python: Option<String>,
    /// Runs generated code even where no sandbox holds: with limits, and nothing else between it and this machine.
    #[arg(long)]
    pub allow_unsandboxed: bool,
    /// Run directory.
    #[arg(long, default_value = "runs/latest")]
    pub out: PathBuf,
    /// Less of everything; the report says what was left out.
    #[arg(long)]
    pub quick: bool,
    /// Print the work ahead, with the seconds and the memory it is expected to take, and stop.
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
pub fn run(args: &RunArgs, progress: Progress) -> Result<()> {
    let file = args.plan.as_deref().map(PlanFile::read).transpose()?.unwrap_or_default();
    let typed = PlanFile {
        model: args.model.clone(),
        attack: args.attack.clone(),
        repair: args.repair.clone(),
        preset: args.preset.clone(),
        arms: (!args.arms.is_empty()).then(|| args.arms.clone()),
        suites: (!args.suites.is_empty()).then(|| args.suites.clone()),
        seed: args.seed,
        python: args.python.clone(),
        dtype: args.dtype,
        device: args.device,
        quick: args.quick.then_some(true),
        ..PlanFile::default()
    };
    let file = file.overlaid(typed);
    let options =
        LoadOptions { dtype: file.dtype.unwrap_or_default(), device: file.device.unwrap_or_default().open()? };
    let model = Model::open_with(file.model.as_deref().unwrap_or(ORGANISM), None, &options, progress)?;
    let mut plan = file.resolve(model.decoder.blocks.len())?;
    let inputs = Inputs::read(&plan, &model)?;
    if let Some(samples) = args.samples {
        plan.samples = inputs.suites.iter().map(|s| (s.name.clone(), samples)).collect();
    }
    announce(&plan, &model, &inputs, progress)?;
    let scorer = Scorer::start(&plan.python, Level::ladder(args.allow_unsandboxed), model.organism)?;
    // A run that goes on keeps the estimate that it began with.
    let begun = Artifacts::new(&args.out).manifest().exists();
    let estimate = if begun { None } else { Some(estimate(&plan, &model, &inputs, &scorer)?) };
    estimate.iter().for_each(|estimate| progress.say(&estimate.words()));
    if args.dry_run {
        return Ok(());
    }
    let report = start(&plan, &model, &inputs, &scorer, estimate, &args.out, progress)?;
    println!("{}", report.display());
    Ok(())
}

/// The work ahead.
fn announce(plan: &Plan, model: &Model, inputs: &Inputs, progress: Progress) -> Result<()> {
    let parameters = model.decoder.config.parameters();
    progress.say(&format!(
        "model {}: {:.2} M parameters, sha256 {}…",
        model.name,
        parameters as f64 / 1e6,
        &model.sha256[..12]
    ));
    let work = Work::of(plan, inputs, model.decoder.blocks.len())?;
    let rows = inputs.training.get("insecure").map_or(0, |s| s.rows.len());
    let steps = plan.recipe.training.steps(rows);
    let style = inputs.training.get("style").map(|set| {
        let (pairs, steps) = (set.rows.len(), plan.recipe.style().training.steps(set.rows.len()));
        format!("; repair+style on {pairs} preference pairs, {steps} steps")
    });
    let (trained, style) = (work.adapters - usize::from(style.is_some()), style.unwrap_or_default());
    progress.say(&format!("train: {trained} adapters, {rows} rows, {steps} steps each{style}"));
    let suites: Vec<&str> = inputs.suites.iter().map(|s| s.name.as_str()).collect();
    progress.say(&format!("ask: {} arms, {} answers to {}", plan.arms.len(), work.answers, suites.join(", ")));
    if work.cells > 0 {
        progress.say(&format!("sweep: {} cells, {} answers on the validation split", work.cells, work.cell_answers));
    }
    for words in plan.left_out().iter().chain(&inputs.left_out) {
        progress.say(&format!("left out: {words}"));
    }
    Ok(())
}
