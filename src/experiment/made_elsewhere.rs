//! Arms whose answers were made elsewhere: those in the file that are to prompts of this run.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::eval::elsewhere::{self, match_prompts};
use crate::eval::suite::Suite;
use crate::fsio;
use crate::record::{ArmAnswers, ArmSpec, DataIdentity, SampleRecord, Split};

/// An arm's answers, unscored.
pub struct MadeElsewhere {
    /// Under the arm's own name.
    pub samples: Vec<SampleRecord>,
    /// The file that they come from.
    pub identity: DataIdentity,
    /// Suites without answers and answers without a prompt, counted, in words.
    pub left_out: Vec<String>,
}

/// Reads an arm's answers to the prompts that the run asks. `whole` are its suites with prompts that it does not ask.
///
/// # Errors
/// A row that is no answer, a prompt that no suite has, several arms where none is named, and no answer at all.
pub fn read(arm: &ArmSpec, from: &ArmAnswers, suites: &[Suite], whole: &[Suite]) -> Result<MadeElsewhere> {
    let file = PathBuf::from(&from.file);
    let bytes = fsio::read_bytes(&file)?;
    let answers = match_prompts(elsewhere::read(&[file], from.format)?, whole, &arm.name)?;
    let others: u64 = answers.skipped.values().sum();
    let all = answers.one(from.arm.as_deref()).map_err(|e| Error::file(&from.file, e))?;
    let identity = DataIdentity { path: from.file.clone(), sha256: fsio::sha256(&bytes), rows: all.len() as u64 };
    let is_wanted = |suite: &&Suite| arm.suites.as_ref().is_none_or(|choice| choice.holds(&suite.name, suite.kind));
    let wanted: Vec<&Suite> = suites.iter().filter(is_wanted).collect();
    let is_asked = |s: &SampleRecord| {
        let prompt = wanted.iter().find(|suite| suite.name == s.suite).and_then(|suite| suite.prompt(&s.prompt_id));
        prompt.is_some_and(|prompt| prompt.split == Split::Test)
    };
    let (kept, not_asked): (Vec<_>, Vec<_>) = all.into_iter().partition(is_asked);
    let lacks = |suite: &&&Suite| !kept.iter().any(|s| s.suite == suite.name);
    let lacking: Vec<&str> = wanted.iter().filter(lacks).map(|suite| suite.name.as_str()).collect();
    if kept.is_empty() {
        let message =
            format!("has no answer for the arm `{}` to a prompt that this run asks: {}", arm.name, lacking.join(", "));
        return Err(Error::file(&from.file, message));
    }
    let mut left_out = Vec::new();
    if !lacking.is_empty() {
        left_out.push(format!(
            "{}: no answers to {} of the run's suites: {}",
            arm.name,
            lacking.len(),
            lacking.join(", ")
        ));
    }
    let unasked = others + not_asked.len() as u64;
    if unasked > 0 {
        left_out.push(format!("{}: {unasked} answers to prompts that this run does not ask", arm.name));
    }
    let samples = kept.into_iter().map(|s| SampleRecord { arm: arm.name.clone(), ..s }).collect();
    Ok(MadeElsewhere { samples, identity, left_out })
}
