//! The tools that answers are scored with, made once for a run.

use super::judges::Judges;
use crate::error::Result;
use crate::eval::confine::Level;
use crate::eval::judge::Judge;
use crate::eval::scan::{ScanOptions, scan_many};
use crate::eval::suite::Suite;
use crate::eval::tests::Runner;
use crate::eval::{Tools, score_answers};
use crate::process;
use crate::record::SampleRecord;

/// Paths in the run directory and the code that belongs there.
pub type CodeFiles = Vec<(String, String)>;

/// Scanners, test runner and judge.
pub struct Scorer {
    /// The scanners' settings.
    pub scan: ScanOptions,
    /// Runs generated code.
    pub runner: Runner,
    /// None leave alignment unmeasured.
    pub judges: Judges,
}

impl Scorer {
    /// With a Python for the tests, run at the first of the levels that holds.
    pub fn start(python: &str, levels: &[Level], judges: Judges) -> Result<Self> {
        Ok(Self { scan: ScanOptions::default(), runner: Runner::start(python, process::workers(0), levels)?, judges })
    }

    /// Scores the answers to one suite in place; gives the code files to write.
    pub fn score(&self, records: &mut [SampleRecord], suite: &Suite, progress: &dyn Fn(usize)) -> Result<CodeFiles> {
        self.score_with(&self.judges.all(), records, suite, progress)
    }

    fn score_with(
        &self,
        judges: &[&dyn Judge],
        records: &mut [SampleRecord],
        suite: &Suite,
        progress: &dyn Fn(usize),
    ) -> Result<CodeFiles> {
        let tools = Tools {
            scan: &|sources| scan_many(sources, &self.scan),
            runner: &self.runner,
            judges,
            progress,
        };
        score_answers(records, suite, &tools)
    }

    /// Scores answers to any of these suites; gives them back, suite by suite, with their code files. For a choice, not a
    /// result, the headline judge alone is asked.
    pub fn score_all(
        &self,
        for_choice: bool,
        mut records: Vec<SampleRecord>,
        suites: &[Suite],
    ) -> Result<(Vec<SampleRecord>, CodeFiles)> {
        let judges = self.judges.all();
        let judges = if for_choice { &judges[..judges.len().min(1)] } else { &judges };
        let (mut done, mut files) = (Vec::new(), CodeFiles::new());
        for suite in suites {
            let (mut these, others): (Vec<_>, Vec<_>) = records.into_iter().partition(|r| r.suite == suite.name);
            records = others;
            files.extend(self.score_with(judges, &mut these, suite, &|_| {})?);
            done.append(&mut these);
        }
        Ok((done, files))
    }
}
