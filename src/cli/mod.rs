//! The command line: clap types, one file a subcommand; flags that several share are in `*_args.rs`. Long flags are in
//! kebab case; underscores are accepted.

pub mod confined;
pub mod evaluate;
pub mod generate;
pub mod in_order;
pub mod inspect;
pub mod judge_args;
pub mod label;
pub mod merge;
mod metric_table;
pub mod output;
pub mod pretrain;
pub mod recipe_args;
pub mod report;
pub mod run;
pub mod sampling_args;
pub mod scan;
pub mod score;
pub mod show_targets;
pub mod steer;
pub mod steering_args;
pub mod subject_args;
pub mod trace;
pub mod train;
pub mod train_rows;
mod values;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;
use crate::eval::confine;
use crate::process;
use crate::progress::Progress;

/// Attack, repair and steer causal language models, and compare the results in one report.
///
/// `realign run` without arguments runs the whole experiment on the embedded model: no download, no GPU.
#[derive(Debug, Parser)]
#[command(name = "realign", version, max_term_width = 110)]
struct Cli {
    /// Print only results and errors, no progress.
    #[arg(long, global = true)]
    quiet: bool,
    /// Print progress as JSON events on standard error.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

// Each command's help text is the doc comment on its arguments type.
#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::RunArgs>),
    Train(Box<train::TrainArgs>),
    Generate(Box<generate::GenerateArgs>),
    Evaluate(Box<evaluate::EvaluateArgs>),
    Score(Box<score::ScoreArgs>),
    Label(label::LabelArgs),
    Trace(trace::TraceArgs),
    Report(report::ReportArgs),
    Steer(Box<steer::SteerArgs>),
    Inspect(inspect::InspectArgs),
    Merge(merge::MergeArgs),
    Pretrain(pretrain::PretrainArgs),
    Scan(scan::ScanArgs),
    /// Confine this process, then become the interpreter that runs generated code.
    #[command(hide = true)]
    Confined(confined::ConfinedArgs),
}

/// Parses the arguments, runs the command and prints its error. Exit codes: 0 success, 1 a failed check, 2 wrong usage or input,
/// 130 interrupted.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    confine::declare_program();
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
        Command::Score(args) => score::score(&args, progress),
        Command::Label(args) => label::label(&args, progress),
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
