//! `realign report`: a run's numbers and pages once more, or two runs beside each other.

use std::path::PathBuf;

use clap::Args;

use super::output::print;
use crate::error::{Error, Result};
use crate::experiment::artifacts::Artifacts;
use crate::experiment::reporting::report_again;
use crate::experiment::side_by_side::compare_runs;
use crate::progress::Progress;

/// Write a run's numbers and report again, or compare two runs.
///
/// With one folder: metrics.json, report.html, report.md, the CSVs and the figures, from samples/ and code/. Nothing is
/// asked and nothing executed; a run that nobody touched gives the same metrics.json to the byte.
///
/// With two folders (of `run` or of `evaluate`): comparison.html, comparison.md, comparison.csv and comparison.json, arm
/// beside arm. An arm of the second is paired with the arm of the same name in the first on every answer that both gave
/// to the same prompt with the same seed; without such answers the two stand side by side and no difference is named.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// One run, or two to compare.
    #[arg(required = true, num_args = 1..=2, value_name = "RUN_DIR")]
    pub runs: Vec<PathBuf>,
    /// Where to write: without it the run's own folder, or `comparison` for two.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Runs the command.
pub fn report(args: &ReportArgs, progress: Progress) -> Result<()> {
    let page = match args.runs.as_slice() {
        [run] => {
            let at = Artifacts::new(run);
            let out = args.out.as_deref().unwrap_or(run);
            let (metrics, changed) = report_again(&at, out)?;
            if changed > 0 {
                progress.say(&format!(
                    "{changed} code files scan otherwise than when they were made; the numbers are those of today's \
                     scan, their tests are not run again"
                ));
            }
            progress.say(&format!("{} arms, {} comparisons", metrics.arms.len(), metrics.comparisons.len()));
            Artifacts::new(out).report()
        }
        [a, b] => {
            let out = args.out.clone().unwrap_or_else(|| "comparison".into());
            let pairs = compare_runs(a, b, &out)?;
            progress.say(&pairs);
            out.join("comparison.html")
        }
        _ => return Err(Error::usage("give one run or two")),
    };
    print(&format!("{}\n", page.display()));
    Ok(())
}
