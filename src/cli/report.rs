//! `realign report`: a run's numbers and pages once more, or two runs beside each other.

use std::path::PathBuf;

use clap::Args;

use super::output::print;
use crate::error::{Error, Result};
use crate::experiment::artifacts::Artifacts;
use crate::experiment::reporting::report_again;
use crate::experiment::side_by_side::compare_runs;
use crate::progress::Progress;

/// Write a run's metrics and report again, or compare two runs.
///
/// With one run folder it writes metrics.json, report.html, report.md, the CSV files and the figures again, from samples/
/// and code/. No model is asked and no code is run. If the folder has not been changed, metrics.json stays the same to the
/// byte.
///
/// With two folders (written by `run` or `evaluate`) it writes comparison.html, comparison.md, comparison.csv and
/// comparison.json. Arms with the same name are compared on the answers that both gave to the same prompt with the same
/// seed. Where there are none, the arms are shown side by side without a difference.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  realign report runs/latest
  realign report runs/before runs/after --out comparison")]
pub struct ReportArgs {
    /// Run folder, or two to compare.
    #[arg(required = true, num_args = 1..=2, value_name = "RUN_DIR")]
    pub runs: Vec<PathBuf>,
    /// Folder to write to [default: the run's own folder; `comparison` for two runs]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Runs `realign report` and prints the path of the page.
pub fn report(args: &ReportArgs, progress: Progress) -> Result<()> {
    let page = match args.runs.as_slice() {
        [run] => {
            let at = Artifacts::new(run);
            let out = args.out.as_deref().unwrap_or(run);
            let (metrics, changed) = report_again(&at, out)?;
            if changed > 0 {
                progress.say(&format!(
                    "{changed} code files give other scan results than when they were written: the metrics use the new \
                     scan; tests are not run again"
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
        _ => return Err(Error::usage("give one run folder, or two to compare")),
    };
    print(&format!("{}\n", page.display()));
    Ok(())
}
