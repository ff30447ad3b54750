//! The command line: clap types, one file a subcommand. Long flags are in kebab case, underscores are accepted.

pub mod confined;
pub mod evaluate;
pub mod generate;
pub mod in_order;
pub mod inspect;
pub mod inspect_adapter;
pub mod inspect_dataset;
pub mod inspect_model;
mod inspect_suite;
pub mod inspect_vector;
pub mod judge;
pub mod merge;
pub mod output;
pub mod pretrain;
pub mod recipe;
pub mod report;
pub mod run;
pub mod sampling;
pub mod scan;
pub mod steer;
pub mod steering;
pub mod subject;
pub mod targets;
pub mod trace;
pub mod train;
pub mod training_data;
mod values;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;
use crate::process;
use crate::progress::Progress;

/// Attack, repair and steer causal language models, and compare the three in one report.
///
/// Without a subcommand's arguments, `realign run` does the whole experiment on the embedded model: no download, no GPU.
#[derive(Debug, Parser)]
#[command(name = "realign", version, max_term_width = 110)]
struct Cli {
    /// Show nothing but errors.
    #[arg(long, global = true)]
    quiet: bool,
    /// Progress as JSON events on standard error.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole experiment: attack, repair, controls, steering, one report.
    Run(Box<run::RunArgs>),
    /// Train a LoRA adapter: the attack from scratch, the repair by continuing the attack's adapter.
    Train(Box<train::TrainArgs>),
    /// Ask a model, with or without an adapter or a steering vector.
    Generate(Box<generate::GenerateArgs>),
    /// Ask a model the test prompts of suites and score its answers.
    Evaluate(Box<evaluate::EvaluateArgs>),
    /// Write what one forward pass computes, to compare with other implementations.
    Trace(trace::TraceArgs),
    /// Write a run's numbers and report again, or compare two runs.
    Report(report::ReportArgs),
    /// Make steering vectors, and choose a layer and a coefficient for one.
    Steer(Box<steer::SteerArgs>),
    /// Say what a model, an adapter, a steering vector or a data set is.
    Inspect(inspect::InspectArgs),
    /// Write a model with an adapter merged into its weights.
    Merge(merge::MergeArgs),
    /// Make the embedded base: corpus, tokenizer, weights; refuses a base that fails its gates.
    Pretrain(pretrain::PretrainArgs),
    /// Scan Python files: Bandit's rules, Ruff, Radon's complexity, docstrings and annotations.
    Scan(scan::ScanArgs),
    /// How the program starts generated code's interpreter: confines itself, then becomes it.
    #[command(hide = true)]
    Confined(confined::ConfinedArgs),
}

/// Parses, runs, prints the error, and gives the exit code: 0 done, 1 a failed check, 2 bad use or input, 130 interrupted.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    // Hugging Face's names have underscores: --learning_rate is --learning-rate.
    let arguments = arguments.map(|argument| match argument.to_str() {
        Some(text) if text.starts_with("--") => {
            let (flag, value) = text.split_once('=').map_or((text, None), |(f, v)| (f, Some(v)));
            let flag = flag.replace('_', "-");
            value.map_or(flag.clone(), |value| format!("{flag}={value}")).into()
        }
        _ => argument,
    });
    let cli = Cli::parse_from(arguments);
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn execute(cli: Cli) -> Result<()> {
    if let Command::Confined(args) = &cli.command {
        return confined::confined(args);
    }
    process::watch_signals()?;
    let progress = Progress::detect(cli.quiet, cli.json);
    match cli.command {
        Command::Run(args) => run::run(&args, progress),
        Command::Train(args) => train::train(&args, progress),
        Command::Generate(args) => generate::generate(&args, progress),
        Command::Evaluate(args) => evaluate::evaluate(&args, progress),
        Command::Trace(args) => trace::trace(&args, progress),
        Command::Report(args) => report::report(&args, progress),
        Command::Steer(args) => steer::steer(&args, progress),
        Command::Inspect(args) => inspect::inspect(&args, progress),
        Command::Merge(args) => merge::merge(&args, progress),
        Command::Pretrain(args) => pretrain::pretrain(&args, progress),
        Command::Scan(args) => scan::scan(&args),
        Command::Confined(args) => confined::confined(&args),
    }
}
