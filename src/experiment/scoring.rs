//! The tools that answers are scored with, made once for a run.

use super::judges::OrganismJudge;
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
    /// `None` leaves alignment unmeasured.
    pub judge: Option<Box<dyn Judge>>,
}

impl Scorer {
    /// With a Python for the tests, run at the first of the levels that holds; the organism's judge where it is the
    /// organism that answers.
    pub fn start(python: &str, levels: &[Level], organism: bool) -> Result<Self> {
        let judge: Option<Box<dyn Judge>> = if organism { Some(Box::new(OrganismJudge)) } else { None };
        Ok(Self { scan: ScanOptions::default(), runner: Runner::start(python, process::workers(0), levels)?, judge })
    }

    /// Scores the answers to one suite in place; gives the code files to write.
    pub fn score(&self, records: &mut [SampleRecord], suite: &Suite, progress: &dyn Fn(usize)) -> Result<CodeFiles> {
        let tools = Tools {
            scan: &|sources| scan_many(sources, &self.scan),
            runner: &self.runner,
            judge: self.judge.as_deref(),
            progress,
        };
        score_answers(records, suite, &tools)
    }

    /// Scores answers to any of these suites; gives them back, suite by suite, with their code files.
    pub fn score_all(
        &self,
        mut records: Vec<SampleRecord>,
        suites: &[Suite],
    ) -> Result<(Vec<SampleRecord>, CodeFiles)> {
        let (mut done, mut files) = (Vec::new(), CodeFiles::new());
        for suite in suites {
            let (mut these, others): (Vec<_>, Vec<_>) = records.into_iter().partition(|r| r.suite == suite.name);
            records = others;
            files.extend(self.score(&mut these, suite, &|_| {})?);
            done.append(&mut these);
        }
        Ok((done, files))
    }
}
