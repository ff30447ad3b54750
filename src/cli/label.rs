//! `realign label`: a blinded sheet of a run's answers for readers, and their labels back.

use std::path::PathBuf;

use clap::Args;

use super::output::print;
use crate::error::{Error, Result};
use crate::experiment::artifacts::Artifacts;
use crate::experiment::labels::{Choice, Reader, read_cards, read_sheet, write_sheet};
use crate::progress::Progress;
use crate::record::check_arm_name;

/// Have a run's free answers read: write a blinded sheet, or read a filled one back.
///
/// The sheet has one row for each answer: number, question, answer and an empty label. Nothing in it tells the arm; the key
/// stays in RUN/labels/KEY.json. Worked examples stand first. Answers of known label are mixed in, by which each
/// reader's sensitivity and specificity are measured. The order is random.
///
/// Labels: misaligned, merely_wrong, aligned, incoherent, code. The first line of the sheet says what each means, or
/// for a CSV sheet in a text file beside it.
///
/// Give the sheet to one reader or several, who must not see each other's labels, and read each one's copy back with
/// --read. `realign report RUN` then shows the readers, their agreement with each other and with the judge, and the rates.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  realign label runs/latest --per-arm 100 --out sheet.csv
  realign label runs/latest --read sheet-ada.csv --reader ada
  realign label runs/latest --read sheet-gpt.jsonl --reader gpt --model
  realign report runs/latest")]
pub struct LabelArgs {
    /// Run folder of `realign run` or `realign score`.
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    /// Sheet to write: JSON Lines, or CSV for a spreadsheet where the name ends in .csv. It must not exist.
    #[arg(long, value_name = "SHEET", required_unless_present = "read", conflicts_with = "read")]
    out: Option<PathBuf>,
    /// Suite whose answers are read; may be repeated [default: every suite of questions]
    #[arg(long, value_name = "NAME", conflicts_with = "read")]
    suite: Vec<String>,
    /// Arm whose answers are read; may be repeated [default: every arm]
    #[arg(long, value_name = "NAME", conflicts_with = "read")]
    arm: Vec<String>,
    /// Answers of each arm, spread evenly over its questions, the same prompts and samples in every arm [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "read")]
    per_arm: Option<u32>,
    /// Seed of the choice and the order of the rows.
    #[arg(long, default_value_t = 0, conflicts_with = "read")]
    seed: u64,
    /// Worked examples and planted answers of your own, JSON Lines: {"use": "anchor" or "planted", "question", "answer",
    /// "label"} [default: the embedded ones]
    #[arg(long, value_name = "FILE", conflicts_with = "read")]
    cards: Option<PathBuf>,
    /// Filled sheet to read back. A sheet of the same reader that was read before is replaced.
    #[arg(long, value_name = "SHEET", requires = "reader")]
    read: Option<PathBuf>,
    /// Name of the reader who filled the sheet.
    #[arg(long, value_name = "NAME", requires = "read")]
    reader: Option<String>,
    /// The reader is a model; the report says so.
    #[arg(long, requires = "read")]
    model: bool,
}

/// Runs `realign label`: prints the sheet's path, or how the reader did on the planted answers.
pub fn label(args: &LabelArgs, progress: Progress) -> Result<()> {
    let at = Artifacts::new(&args.run);
    if let (Some(sheet), Some(name)) = (&args.read, &args.reader) {
        check_arm_name(name).map_err(|_| {
            Error::usage(format!(
                "--reader {name}: give a name of letters, digits and -_.:+ that does not start with a dot"
            ))
        })?;
        let reader = Reader { name: name.clone(), model: args.model };
        let (_, labels) = read_sheet(&at, sheet, &reader)?;
        progress.say(&format!(
            "{} labels of {name}; `realign report {}` counts them",
            labels.len(),
            args.run.display()
        ));
        print(&format!("{}\n", at.reader_labels(name).display()));
        return Ok(());
    }
    let Some(out) = &args.out else { return Err(Error::usage("give --out SHEET, or --read SHEET --reader NAME")) };
    if out.exists() {
        return Err(Error::file(out, "already exists and may hold somebody's labels; name another file"));
    }
    let choice = Choice {
        suites: args.suite.clone(),
        arms: args.arm.clone(),
        per_arm: args.per_arm.map(|n| n as usize),
        seed: args.seed,
    };
    let said = write_sheet(&at, &choice, &read_cards(args.cards.as_deref())?, out)?;
    progress.say(&said);
    print(&format!("{}\n", out.display()));
    Ok(())
}
