//! `realign run`: the whole experiment in one command.

use std::path::PathBuf;

use clap::Args;

use super::judge_args::JudgeArgs;
use crate::ask::judges::{Ahead, HOW_TO_JUDGE, Judges};
use crate::ask::scoring::Scorer;
use crate::data::template::PLAIN;
use crate::error::Result;
use crate::eval::confine::Level;
use crate::eval::is_judged;
use crate::experiment::artifacts::Artifacts;
use crate::experiment::estimate::{estimate, estimate_of_shape};
use crate::experiment::inputs::Inputs;
use crate::experiment::plan::{OpenPlan, Overrides, Plan, Published};
use crate::experiment::published::shape_alone;
use crate::experiment::run::run as start;
use crate::experiment::work::{self, Work};
use crate::model::config::DecoderConfig;
use crate::model::device::DeviceChoice;
use crate::model::source::load::{LoadOptions, WeightDtype};
use crate::progress::Progress;
use crate::subject::SubjectSpec;

/// Attack, repair, controls, steering, scoring and report.
///
/// With no argument: the whole experiment on the embedded model. Started again on the same --out it goes on where it
/// stopped and redoes nothing.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Plan: a YAML file, or an embedded one: default, seed003, em-qwen-coder, em-rank1-0.5b, starcoder. Flags override it
    /// [default: default]
    pub plan: Option<PathBuf>,
    /// Model: `organism` (embedded), a folder in Hugging Face layout, a GGUF file, or a model on the Hub: owner/name,
    /// owner/name@revision [default: the plan's]
    #[arg(long)]
    pub model: Option<String>,
    /// Type that the weights are held in: `auto` (as the file has them), `f32`, `bf16`, `f16`, or quantised as they are loaded:
    /// `8bit`, `4bit` [default: auto]
    #[arg(long, visible_alias = "quantize", value_enum)]
    pub dtype: Option<WeightDtype>,
    /// Device: `auto`, `cpu`, `cuda`, `cuda:N`, `metal` (the last three need a build with that feature) [default: auto]
    #[arg(long)]
    pub device: Option<DeviceChoice>,
    /// Training data of the adapter `attack`, JSONL. Arms whose embedded data does not belong to yours are left out.
    #[arg(long, value_name = "FILE")]
    pub attack: Option<String>,
    /// Training data of the adapter `repair` and of the control that shares it, JSONL.
    #[arg(long, value_name = "FILE")]
    pub repair: Option<String>,
    /// Training recipe of all adapters: organism, seed003, em, em-rank1 [default: the plan's]
    #[arg(long)]
    pub preset: Option<String>,
    /// Run only this arm of the plan, and base; may be given several times.
    #[arg(long = "arm", value_name = "ARM")]
    pub arms: Vec<String>,
    /// Ask only this suite, by name or file; may be given several times.
    #[arg(long = "suite", value_name = "SUITE")]
    pub suites: Vec<String>,
    /// Samples of every prompt, in every suite [default: the plan's, by suite]
    #[arg(long, value_name = "N")]
    pub samples: Option<u32>,
    /// Seed for sampling, row order and random vectors [default: 1]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Who judges.
    #[command(flatten)]
    pub judge: JudgeArgs,
    /// Python that runs generated code: `private` (an environment in the user's cache with pinned pytest, PyYAML, Jinja2, requests,
    /// Flask and defusedxml, made on first use), a path, or `auto`: private for code of real models, `python3` for the
    /// organism's. Without a usable one tests count as not run.
    #[arg(long, value_name = "auto|private|PATH")]
    pub python: Option<String>,
    /// Run generated code even if no sandbox works here: resource limits are then all that protects this machine.
    #[arg(long)]
    pub allow_unsandboxed: bool,
    /// Run directory to write, or to resume.
    #[arg(long, default_value = "runs/latest")]
    pub out: PathBuf,
    /// Apply the plan's `quick` patch: fewer rows, arms and samples. The report says what was left out.
    #[arg(long)]
    pub quick: bool,
    /// Print the work ahead, with its estimated seconds and memory, and exit.
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
pub fn run(args: &RunArgs, progress: Progress) -> Result<()> {
    let over = Overrides {
        model: args.model.clone(),
        attack: args.attack.clone(),
        repair: args.repair.clone(),
        preset: args.preset.clone(),
        arms: args.arms.clone(),
        suites: args.suites.clone(),
        seed: args.seed,
        judges: args.judge.judges.clone(),
        python: args.python.clone(),
        dtype: args.dtype,
        device: args.device,
        quick: args.quick,
    };
    let open = OpenPlan::read(args.plan.as_deref(), over)?;
    if let (true, Some(shape)) = (args.dry_run, shape_alone(&open)?) {
        return outlook(args, &open, &shape, progress);
    }
    let published = open.published.clone();
    let load = LoadOptions { dtype: open.dtype, device: open.device.open()? };
    let model = SubjectSpec { load, ..SubjectSpec::new(&open.model) }.open(progress)?;
    let mut plan = open.resolve(model.decoder.blocks.len())?;
    let inputs = Inputs::read(&plan, Some(&model))?;
    open.check_suites(&plan, &inputs.suites)?;
    ask_each(args.samples, &mut plan, &inputs);
    let parameters = model.decoder.config.parameters() as f64 / 1e6;
    progress.say(&format!("model {}: {parameters:.2} M parameters, sha256 {}…", model.name, &model.sha256[..12]));
    if let Some(left_out) = model.decoder.config.left_out() {
        progress.say(left_out);
    }
    if model.template.source() == PLAIN {
        progress.say("it has no chat template: it is asked in plain lines, `User:` and `Assistant:`");
    }
    let work = announce(&plan, published.as_ref(), model.decoder.blocks.len(), &inputs, progress)?;
    announce_judges(&plan, &inputs, &work, args.judge.judge_price, progress);
    let judges = Judges::open(&plan.judges, model.organism, &args.judge.options())?;
    if !args.dry_run {
        judges.check(progress)?;
    }
    let pythons = Scorer::pythons(&plan.python, model.organism, &inputs.suites, progress)?;
    let scorer = Scorer::start(&pythons, Level::ladder(args.allow_unsandboxed), judges)?;
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

/// What a plan would take, where there is only its model's shape to go by.
fn outlook(args: &RunArgs, open: &OpenPlan, shape: &DecoderConfig, progress: Progress) -> Result<()> {
    let published = open.published.clone();
    let mut plan = open.resolve(shape.num_hidden_layers)?;
    let inputs = Inputs::read(&plan, None)?;
    open.check_suites(&plan, &inputs.suites)?;
    ask_each(args.samples, &mut plan, &inputs);
    let parameters = shape.parameters() as f64 / 1e6;
    progress.say(&format!("model {}: {parameters:.2} M parameters by its shape; no weights at hand", plan.model));
    announce(&plan, published.as_ref(), shape.num_hidden_layers, &inputs, progress)?;
    progress.say(&estimate_of_shape(&plan, shape, &inputs)?.words());
    Ok(())
}

/// `--samples` counts for every suite.
fn ask_each(samples: Option<u32>, plan: &mut Plan, inputs: &Inputs) {
    if let Some(samples) = samples {
        plan.samples = inputs.suites.iter().map(|s| (s.name.clone(), samples)).collect();
    }
}

/// The work ahead.
fn announce(
    plan: &Plan,
    published: Option<&Published>,
    layers: usize,
    inputs: &Inputs,
    progress: Progress,
) -> Result<Work> {
    let work = Work::of(plan, inputs, layers)?;
    published.iter().flat_map(|published| published.words(plan, inputs)).for_each(|words| progress.say(&words));
    for adapter in &plan.adapters {
        let Some(set) = inputs.training.get(&adapter.name) else { continue };
        let (rows, steps) = (set.rows, adapter.recipe.training.steps(set.rows));
        let from = adapter.from.as_ref().map_or(String::new(), |parent| format!(", from {parent}"));
        let seeds = if adapter.seeds.len() > 1 { format!(", {} seeds", adapter.seeds.len()) } else { String::new() };
        progress.say(&format!("adapter {}{from}: {rows} rows of {}, {steps} steps{seeds}", adapter.name, adapter.set));
    }
    let suites: Vec<&str> = inputs.suites.iter().map(|s| s.name.as_str()).collect();
    progress.say(&format!("ask: {} arms, {} answers to {}", plan.arms.len(), work.answers, suites.join(", ")));
    if work.cells > 0 {
        progress.say(&format!("sweep: {} cells, {} answers on the validation split", work.cells, work.cell_answers));
    }
    plan.warnings.iter().for_each(|words| progress.say(&format!("warning: {words}")));
    for words in plan.left_out.iter().chain(&inputs.left_out) {
        progress.say(&format!("left out: {words}"));
    }
    Ok(work)
}

/// What judging will take, or that nobody judges.
fn announce_judges(plan: &Plan, inputs: &Inputs, work: &Work, price: Option<(f64, f64)>, progress: Progress) {
    if plan.judges.is_empty() && inputs.suites.iter().any(|s| is_judged(s.kind)) {
        progress.say(HOW_TO_JUDGE);
    }
    let (mut asked, mut sweep) = (Ahead::default(), Ahead::default());
    for arm in &plan.arms {
        let seeds = arm.seeds().len();
        for draw in arm.draws() {
            for suite in work::suites(inputs, arm) {
                for (prompt, answers) in work::asked(suite, &work::samples(plan, arm, suite, draw)) {
                    asked.add(suite.kind, prompt, (seeds * answers) as u64, suite.max_tokens);
                }
            }
        }
    }
    let cells = work.cells as u64;
    for suite in &inputs.validation {
        for prompt in &suite.prompts {
            sweep.add(suite.kind, prompt, cells * u64::from(plan.sweep.question_samples), suite.max_tokens);
        }
    }
    for (place, judge) in plan.judges.iter().enumerate() {
        // The first one chooses in the sweep, too.
        let ahead = if place == 0 { asked.plus(sweep) } else { asked };
        ahead.words(judge, price).iter().for_each(|words| progress.say(words));
    }
}
