//! `realign run`: the whole experiment in one command.

use std::path::PathBuf;

use clap::Args;

use crate::error::Result;
use crate::experiment::arm::Arm;
use crate::experiment::inputs::Inputs;
use crate::experiment::model::{Model, ORGANISM};
use crate::experiment::plan::{Plan, PlanFile};
use crate::experiment::run::run as start;
use crate::progress::Progress;
use crate::record::{Split, SuiteKind};

/// Attack, repair, controls, steering, scoring and report.
///
/// With no argument: the whole experiment on the embedded model. Started again on the same --out it goes on where it
/// stopped and redoes nothing.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A plan in YAML; flags stand over it.
    pub plan: Option<PathBuf>,
    /// `organism` (embedded) or a folder in Hugging Face layout.
    #[arg(long)]
    pub model: Option<String>,
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
    /// Run directory.
    #[arg(long, default_value = "runs/latest")]
    pub out: PathBuf,
    /// Less of everything; the report says what was left out.
    #[arg(long)]
    pub quick: bool,
    /// Print the work ahead and stop.
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
        quick: args.quick.then_some(true),
        ..PlanFile::default()
    };
    let file = file.overlaid(typed);
    let model = Model::open(file.model.as_deref().unwrap_or(ORGANISM))?;
    let mut plan = file.resolve(model.decoder.blocks.len())?;
    let inputs = Inputs::read(&plan, &model)?;
    if let Some(samples) = args.samples {
        plan.samples = inputs.suites.iter().map(|s| (s.name.clone(), samples)).collect();
    }
    announce(&plan, &model, &inputs, progress);
    if args.dry_run {
        return Ok(());
    }
    let report = start(&plan, &model, &inputs, &args.out, progress)?;
    println!("{}", report.display());
    Ok(())
}

/// The work ahead.
fn announce(plan: &Plan, model: &Model, inputs: &Inputs, progress: Progress) {
    let parameters = model.decoder.config.parameters();
    progress.say(&format!(
        "model {}: {:.2} M parameters, sha256 {}…",
        model.name,
        parameters as f64 / 1e6,
        &model.sha256[..12]
    ));
    let trained = plan.arms.iter().filter(|a| a.adapter() == Some(a.name()) && **a != Arm::RepairStyle).count();
    let rows = inputs.training.get("insecure").map_or(0, |s| s.rows.len());
    let steps = plan.recipe.training.steps(rows);
    let style = inputs.training.get("style").map(|set| {
        let (pairs, steps) = (set.rows.len(), plan.recipe.style().training.steps(set.rows.len()));
        format!("; repair+style on {pairs} preference pairs, {steps} steps")
    });
    let style = style.unwrap_or_default();
    progress.say(&format!("train: {trained} adapters, {rows} rows, {steps} steps each{style}"));
    let per_arm = |arm: &Arm| -> usize {
        let suites = inputs.suites.iter().filter(|s| arm.suffix(model.organism).is_none() || s.kind == SuiteKind::Code);
        let prompts = |s: &crate::eval::suite::Suite| s.prompts.iter().filter(|p| p.split == Split::Test).count();
        suites.map(|s| prompts(s) * plan.samples_of(&s.name) as usize).sum()
    };
    let answers: usize = plan.arms.iter().map(per_arm).sum();
    let suites: Vec<&str> = inputs.suites.iter().map(|s| s.name.as_str()).collect();
    progress.say(&format!("ask: {} arms, {answers} answers to {}", plan.arms.len(), suites.join(", ")));
    for words in plan.left_out().iter().chain(&inputs.left_out) {
        progress.say(&format!("left out: {words}"));
    }
}
