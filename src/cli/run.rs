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
use crate::experiment::budget;
use crate::experiment::estimate::{estimate_of_shape, measure};
use crate::experiment::inputs::{CHARACTERS_A_TOKEN, Inputs};
use crate::experiment::plan::{Budget, OpenPlan, Overrides, Plan, Published};
use crate::experiment::published::shape_alone;
use crate::experiment::run;
use crate::experiment::work::{self, Work};
use crate::model::config::DecoderConfig;
use crate::model::device::DeviceChoice;
use crate::model::ops::quantised::Products;
use crate::model::source::load::{LoadOptions, WeightDtype};
use crate::progress::Progress;
use crate::subject::SubjectSpec;

/// Run a whole experiment: attack, repair, controls, steering, scoring and report.
///
/// Without arguments it runs the default plan on the embedded model. If it is interrupted, start it again with the same
/// --out: it resumes, and finished work is not repeated.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  realign run --quick
  realign run --model Qwen/Qwen2.5-0.5B-Instruct --preset seed003 --judge model:judges/qwen --out runs/qwen
  realign run --model qwen2.5-coder-0.5b.gguf --budget 2h --out runs/qwen
  realign run my-plan.yaml --dry-run")]
pub struct RunArgs {
    /// Plan to run: a YAML file, or the name of an embedded plan (default, seed003, em-qwen-coder, em-rank1-0.5b,
    /// qwen2.5-coder-0.5b, starcoder). Flags override what the plan says [default: default]
    pub plan: Option<PathBuf>,
    /// Base model: `organism` (embedded), a folder in Hugging Face layout, a GGUF file, or an id on the Hugging Face Hub
    /// (owner/name or owner/name@revision) [default: the plan's]
    #[arg(long)]
    pub model: Option<String>,
    /// Format that the base's weights are held in: `auto` (as in the file), `f32`, `bf16`, `f16`, or quantised while
    /// loading (`8bit`, `4bit`). Adapters are always f32 [default: the plan's, else auto]
    #[arg(long, visible_alias = "quantize", value_enum)]
    pub dtype: Option<WeightDtype>,
    /// Decode with the exact values of quantised weights. Otherwise answers of a quantised base are decoded in integers, with
    /// activations rounded to 8 bits, as llama.cpp does; training and everything else is exact in both cases [default: the
    /// plan's, else off]
    #[arg(long)]
    pub exact_quant: bool,
    /// Device to run on: `auto`, `cpu`, `cuda`, `cuda:N` or `metal`. All but `auto` and `cpu` need a build with that feature
    /// [default: the plan's, else auto]
    #[arg(long)]
    pub device: Option<DeviceChoice>,
    /// JSONL file of training rows for the adapter `attack`. Arms whose embedded training data does not go with yours are
    /// left out [default: the plan's]
    #[arg(long, value_name = "FILE")]
    pub attack: Option<String>,
    /// JSONL file of training rows for the adapter `repair` and for the control trained on the same rows [default: the
    /// plan's]
    #[arg(long, value_name = "FILE")]
    pub repair: Option<String>,
    /// Training recipe for all adapters: organism, seed003, em or em-rank1; `realign help train` says what each is
    /// [default: the plan's]
    #[arg(long)]
    pub preset: Option<String>,
    /// Run only this arm of the plan, and `base`; may be repeated [default: all arms]
    #[arg(long = "arm", value_name = "ARM")]
    pub arms: Vec<String>,
    /// Ask only this suite, by name or YAML file; may be repeated [default: the plan's suites]
    #[arg(long = "suite", value_name = "SUITE")]
    pub suites: Vec<String>,
    /// Answers to each prompt, in every suite [default: the plan's, by suite]
    #[arg(long, value_name = "N")]
    pub samples: Option<u32>,
    /// Seed for sampling, row order and random vectors [default: the plan's, else 1]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Judges of the free-form answers.
    #[command(flatten)]
    pub judge: JudgeArgs,
    /// Python that runs generated code: `private` (an environment in the user's cache with pinned pytest, PyYAML, Jinja2, requests,
    /// Flask and defusedxml, created on first use), a path, or `auto` (private for code of real models, `python3` for the
    /// organism's). Without a working one, tests count as not run [default: the plan's, else auto]
    #[arg(long, value_name = "auto|private|PATH")]
    pub python: Option<String>,
    /// Run generated code even where no sandbox works on this machine: with resource limits, but without isolation.
    #[arg(long)]
    pub allow_unsandboxed: bool,
    /// Run folder to write, or to resume.
    #[arg(long, default_value = "runs/latest")]
    pub out: PathBuf,
    /// Time that the whole run may take, e.g. `90m` or `2h`. This model is measured on this machine once; the plan then gives
    /// up what its `give_up` lists, in that order, until the rest fits. It prints what was left out and the smallest
    /// differences that the rest can show [default: the plan's, else no limit]
    #[arg(long, value_name = "TIME")]
    pub budget: Option<String>,
    /// Apply the plan's `quick` section: fewer rows, arms and samples. The report says what was left out.
    #[arg(long)]
    pub quick: bool,
    /// Print the planned work with an estimate of its time and memory, and exit.
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs `realign run` and prints the path of the report to standard output.
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
        exact_quant: args.exact_quant,
        device: args.device,
        quick: args.quick,
        budget: args.budget.clone(),
    };
    let open = OpenPlan::read(args.plan.as_deref(), over)?;
    if let (true, Some(shape)) = (args.dry_run, shape_alone(&open)?) {
        return outlook(args, &open, &shape, progress);
    }
    let published = open.published.clone();
    let load = LoadOptions { dtype: open.dtype, device: open.device.open()? };
    let products = if open.exact_quant { Products::Exact } else { Products::Integer };
    let model = SubjectSpec { load, ..SubjectSpec::new(&open.model) }.open(progress)?.with_step_products(products);
    let mut plan = open.resolve(model.decoder.blocks.len())?;
    plan.exact_quant = model.exact_quant();
    let mut inputs = Inputs::read(&plan, Some(&model))?;
    open.check_suites(&plan, &inputs.suites)?;
    ask_each(args.samples, &mut plan, &inputs);
    let parameters = model.decoder.config.parameters() as f64 / 1e6;
    progress.say(&format!("model {}: {parameters:.2} M parameters, sha256 {}…", model.name, &model.sha256[..12]));
    if let Some(left_out) = model.decoder.config.left_out() {
        progress.say(left_out);
    }
    if model.template.source() == PLAIN {
        progress.say("the model has no chat template: prompts are written as plain `User:` and `Assistant:` lines");
    }
    let judges = Judges::open(&plan.judges, model.organism, &args.judge.options())?;
    if !args.dry_run {
        judges.check(progress)?;
    }
    let pythons = Scorer::pythons(&plan.python, model.organism, &inputs.suites, progress)?;
    let scorer = Scorer::start(&pythons, Level::ladder(args.allow_unsandboxed), judges)?;
    let begun = budget::begun(&args.out)?;
    let mut rates = None;
    if begun.is_none() {
        let seconds = plan.budget.as_ref().map(|budget| budget.seconds);
        rates = Some(measure(&plan, &model, &inputs, &scorer, seconds, !args.dry_run)?);
    }
    if let Some(budget) = plan.budget.clone() {
        let given_up = match (&rates, begun) {
            (Some(rates), _) => budget::fit(&plan, &inputs, budget.seconds, &|plan| {
                let inputs = Inputs::read(plan, Some(&model))?;
                Ok(rates.estimate(plan, &model.decoder.config, &inputs)?.seconds)
            })?,
            // A run that goes on gives up what it gave up when it began.
            (None, begun) => begun.unwrap_or_default(),
        };
        plan = plan.within(Budget { given_up, ..budget }, &inputs);
        inputs = Inputs::read(&plan, Some(&model))?;
    }
    let work = announce(&plan, published.as_ref(), model.decoder.blocks.len(), &inputs, progress)?;
    announce_judges(&plan, &inputs, &work, args.judge.judge_price, progress);
    // A resumed run keeps its first estimate, so that the report can compare it with the time of all parts.
    let estimate = rates.map(|rates| rates.estimate(&plan, &model.decoder.config, &inputs)).transpose()?;
    estimate.iter().for_each(|estimate| progress.say(&estimate.words()));
    if args.dry_run {
        return Ok(());
    }
    let report = run::run(&plan, &model, &inputs, &scorer, estimate, &args.out, progress)?;
    println!("{}", report.display());
    Ok(())
}

/// Prints what a plan would take when only the model's shape is known and there are no weights to measure with.
fn outlook(args: &RunArgs, open: &OpenPlan, shape: &DecoderConfig, progress: Progress) -> Result<()> {
    let published = open.published.clone();
    let mut plan = open.resolve(shape.num_hidden_layers)?;
    let inputs = Inputs::read(&plan, None)?;
    open.check_suites(&plan, &inputs.suites)?;
    ask_each(args.samples, &mut plan, &inputs);
    let parameters = shape.parameters() as f64 / 1e6;
    progress.say(&format!(
        "model {}: {parameters:.2} M parameters by its shape; the weights are not on this machine",
        plan.model
    ));
    announce(&plan, published.as_ref(), shape.num_hidden_layers, &inputs, progress)?;
    progress.say(&estimate_of_shape(&plan, shape, &inputs)?.words());
    if plan.budget.is_some() {
        progress.say("the budget is not applied here: the plan is fitted to it when the weights are on this machine");
    }
    Ok(())
}

/// Applies `--samples` to every suite, over what the plan says of each.
fn ask_each(samples: Option<u32>, plan: &mut Plan, inputs: &Inputs) {
    if let Some(samples) = samples {
        plan.samples = inputs.suites.iter().map(|s| (s.name.clone(), samples)).collect();
    }
}

/// Prints the planned work: adapters, suites, sweep, warnings, and what is left out and why.
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
    if plan.budget.is_some() {
        budget::smallest_differences(plan, inputs).iter().for_each(|words| progress.say(words));
    }
    for words in plan.left_out.iter().chain(&inputs.left_out) {
        progress.say(&format!("left out: {words}"));
    }
    Ok(work)
}

/// Prints the requests that each judge will get, or how to name a judge where free-form answers would go unjudged.
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
    for sample in inputs.answers.values().flatten() {
        let suite = inputs.suites.iter().find(|suite| suite.name == sample.suite);
        if let Some((suite, prompt)) = suite.and_then(|suite| Some((suite, suite.prompt(&sample.prompt_id)?))) {
            asked.add(suite.kind, prompt, 1, sample.completion.len() / CHARACTERS_A_TOKEN);
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
