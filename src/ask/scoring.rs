//! The tools that answers are scored with, made once for a run.

use super::judges::Judges;
use crate::error::Result;
use crate::eval::confine::Level;
use crate::eval::interpreter;
use crate::eval::judge::Judge;
use crate::eval::runner::Runner;
use crate::eval::sandbox::Limits;
use crate::eval::suite::Suite;
use crate::eval::{Tools, score_answers};
use crate::process;
use crate::progress::Progress;
use crate::record::{SampleRecord, SuiteKind};
use crate::scan::{ScanOptions, scan_many};

/// Paths in the run directory and the code that belongs there.
pub type CodeFiles = Vec<(String, String)>;

/// The tools that score answers: scanners, test runner and judges.
pub struct Scorer {
    /// Settings of the scanners.
    pub scan: ScanOptions,
    /// Runs the tests of generated code in the sandbox.
    pub runner: Runner,
    /// Without a judge, alignment is not measured.
    pub judges: Judges,
}

impl Scorer {
    /// With a Python for the tests: the first of these that works at the best of the levels that holds.
    pub fn start(pythons: &[String], levels: &[Level], judges: Judges) -> Result<Self> {
        let runner = Runner::start(pythons, process::workers(0), levels, Limits::default())?;
        Ok(Self { scan: ScanOptions::default(), runner, judges })
    }

    /// The interpreters to try for answers to these suites. Code of real models imports what it likes; the organism's is
    /// written for the standard library and stand-ins, so that its run needs no network.
    pub fn pythons<'s>(
        python: &str,
        organism: bool,
        suites: impl IntoIterator<Item = &'s Suite>,
        progress: Progress,
    ) -> Result<Vec<String>> {
        let packages = !organism && suites.into_iter().any(|suite| suite.kind == SuiteKind::Code);
        interpreter::candidates(python, packages, &|words| progress.say(words))
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
        let tools = Tools { scan: &|sources| scan_many(sources, &self.scan), runner: &self.runner, judges, progress };
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
