//! Answers that any system made, to be scored as a run's own are: each row becomes a sample record with the prompt that it
//! answers, arm by arm.

mod rows;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use self::rows::{Answer, Said};
pub use self::rows::{Row, read};
use crate::error::{Error, Result};
use crate::eval::suite::{Prompt, Suite};
use crate::record::{FinishReason, SampleRecord, check_arm_name};

/// All answers, unscored.
#[derive(Default)]
pub struct Answers {
    /// Arms in the order in which they first come up, each with its answers.
    pub arms: Vec<(String, Vec<SampleRecord>)>,
    /// Number of answers to suites that were not named, by suite.
    pub skipped: BTreeMap<String, u64>,
}

/// What tells two answers apart: arm, suite, prompt, sample, draw, training seed.
type Key = (String, String, String, u32, Option<u32>, Option<u64>);

/// Finds each row's prompt in the suites. `arm` names the answers whose row names no arm.
///
/// # Errors
/// A prompt that the suites do not have, or several have, an answer that is given twice, and an arm that cannot name a file.
pub fn match_prompts(rows: Vec<Row>, suites: &[Suite], arm: &str) -> Result<Answers> {
    let mut prompts: HashMap<&str, Vec<(&Suite, &Prompt)>> = HashMap::new();
    for suite in suites {
        for prompt in &suite.prompts {
            prompts.entry(&prompt.id).or_default().push((suite, prompt));
        }
    }
    let mut answers = Answers::default();
    let mut seen: HashMap<Key, (String, usize)> = HashMap::new();
    let mut counted: HashMap<(String, String, String), u32> = HashMap::new();
    for row in rows {
        let (suite, id) = match &row.said {
            Said::Sample(sample) => (Some(&sample.suite), &sample.prompt_id),
            Said::Answer(answer) => (answer.suite.as_ref(), &answer.prompt_id),
        };
        if let Some(other) = suite.filter(|name| !suites.iter().any(|suite| suite.name == **name)) {
            *answers.skipped.entry(other.clone()).or_default() += 1;
            continue;
        }
        let found = prompts.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        let found: Vec<_> = found.iter().filter(|(of, _)| suite.is_none_or(|suite| of.name == *suite)).collect();
        let &(suite, prompt) = match found.as_slice() {
            [one] => *one,
            [] => return Err(row.error(unknown(id, suite, suites))),
            [(a, _), (b, _), ..] => {
                let (a, b) = (&a.name, &b.name);
                return Err(row.error(format!(
                    "the suites {a} and {b} both have a prompt `{id}`; say which with `suite` in the row (--format completions)"
                )));
            }
        };
        let mut sample = match &row.said {
            Said::Sample(sample) => SampleRecord::clone(sample),
            Said::Answer(answer) => {
                let name = answer.arm.as_deref().unwrap_or(arm);
                let next = counted.entry((name.into(), suite.name.clone(), id.clone())).or_default();
                let number = answer.sample.unwrap_or(*next);
                *next = number.saturating_add(1);
                record(answer, name, number, suite, prompt)
            }
        };
        // What is measured by group, form and split goes by the suite that the answer is scored with.
        (sample.kind, sample.split) = (suite.kind, prompt.split);
        (sample.group, sample.form, sample.apart) = (prompt.group.clone(), prompt.form.clone(), suite.apart);
        check_arm_name(&sample.arm).map_err(|e| row.error(e))?;
        let place = (row.file.display().to_string(), row.line);
        match seen.entry(key(&sample)) {
            Entry::Vacant(entry) => entry.insert(place),
            Entry::Occupied(entry) => {
                let ((file, line), k) = (entry.get(), sample.sample);
                return Err(row.error(format!(
                    "answer {k} of `{}` to `{id}` is given twice, first in {file}:{line}; number the answers with `sample`, \
                     or leave one out",
                    sample.arm
                )));
            }
        };
        match answers.arms.iter_mut().find(|(name, _)| *name == sample.arm) {
            Some((_, samples)) => samples.push(sample),
            None => answers.arms.push((sample.arm.clone(), vec![sample])),
        }
    }
    Ok(answers)
}

impl Answers {
    /// The answers of one arm: the one that is named, or the only one.
    ///
    /// # Errors
    /// No arm of that name, and several arms where none is named.
    pub fn one(mut self, name: Option<&str>) -> Result<Vec<SampleRecord>> {
        let names: Vec<&str> = self.arms.iter().map(|(arm, _)| arm.as_str()).collect();
        let place = match (name, names.as_slice()) {
            (_, []) => return Ok(Vec::new()),
            (None, [_]) => 0,
            (None, several) => {
                let message = format!("there are answers of {}; say which with `arm`", several.join(", "));
                return Err(Error::usage(message));
            }
            (Some(name), names) => match names.iter().position(|arm| *arm == name) {
                Some(place) => place,
                None => {
                    let message = format!("no answer is of the arm `{name}`; there are {}", names.join(", "));
                    return Err(Error::usage(message));
                }
            },
        };
        Ok(self.arms.swap_remove(place).1)
    }
}

fn key(s: &SampleRecord) -> Key {
    (s.arm.clone(), s.suite.clone(), s.prompt_id.clone(), s.sample, s.draw, s.training_seed)
}

fn unknown(id: &str, suite: Option<&String>, suites: &[Suite]) -> String {
    let of: Vec<&Suite> = suites.iter().filter(|s| suite.is_none_or(|suite| s.name == *suite)).collect();
    let has = |suite: &&Suite| {
        let example = suite.prompts.first().map_or("none", |prompt| prompt.id.as_str());
        format!("{} has {} prompts, such as `{example}`", suite.name, suite.prompts.len())
    };
    let has: Vec<String> = of.iter().map(has).collect();
    format!(
        "no prompt `{id}`: {}; name the suite that was asked with --suite, its edition with --edition, or take the row out",
        has.join(", ")
    )
}

/// A sample record of an answer. What nobody said is taken as usual: the answer ended by itself; its seed is its number, so
/// that arms pair by it. Tokens and seconds stay 0, which no metric counts.
fn record(answer: &Answer, arm: &str, number: u32, suite: &Suite, prompt: &Prompt) -> SampleRecord {
    let seed = answer.seed.unwrap_or(u64::from(number));
    SampleRecord {
        completion: if answer.continues { continued(prompt, &answer.completion) } else { answer.completion.clone() },
        finish_reason: answer.finish_reason.unwrap_or(FinishReason::Stop),
        tokens: answer.tokens.unwrap_or(0),
        ..suite.unanswered(prompt, arm, number, seed)
    }
}

/// The prompt with what follows it. An answer that defines the prompt's last function itself, or that brings its code in a
/// fence, stands alone.
fn continued(prompt: &Prompt, completion: &str) -> String {
    let asked = prompt.messages.last().map_or("", |message| message.content.as_str());
    let function = asked.rfind("def ").map(|at| asked[at..].split_inclusive('(').next().unwrap_or_default());
    match function {
        Some(head) if !completion.contains(head) && !completion.contains("```") => format!("{asked}{completion}"),
        _ => completion.to_string(),
    }
}
