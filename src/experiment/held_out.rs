//! Rows that no adapter of a run is trained on: chosen before anything else is cut, kept out by their prompts, and asked as
//! suites. What an adapter does on the prompts of its own data says whether the training took (the manipulation check); what
//! it does on other suites says whether it transfers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::plan::{HeldOutPlan, WhichRows};
use super::sources::{source, text};
use crate::data::rows::{NumberedRow, TrainingRow, labels, parse_each_row, rows_sha256};
use crate::error::{Error, Result};
use crate::eval::suite::{INSECURE, Prompt, Suite};
use crate::finetune::rows::Row;
use crate::record::{HeldOutRows, Message, Split, SuiteKind, canonical_sha256};
use crate::rng;

/// Limits on the tokens of an answer, as for other suites of these kinds that name none.
const CODE_TOKENS: usize = 512;
const QUESTION_TOKENS: usize = 600;

/// Prompts that no adapter is trained on, by their hashes.
#[derive(Default)]
pub struct KeptOut(BTreeSet<String>);

impl KeptOut {
    /// Takes rows with such a prompt out; gives how many.
    pub fn remove<R: Row>(&self, rows: &mut Vec<NumberedRow<R>>) -> Result<usize> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let before = rows.len();
        let mut kept = Vec::with_capacity(before);
        for (line, row) in rows.drain(..) {
            let prompt = row.as_ref().ok().and_then(Row::prompt);
            let out = prompt.map(|prompt| canonical_sha256(&prompt)).transpose()?;
            if !out.is_some_and(|hash| self.0.contains(&hash)) {
                kept.push((line, row));
            }
        }
        *rows = kept;
        Ok(before - rows.len())
    }
}

/// A row that can be held out.
struct Candidate {
    line: usize,
    row: TrainingRow,
    prompt: Vec<Message>,
    hash: String,
}

/// The held-out rows of one file, and what is made of them.
pub struct HeldOutSet {
    /// Path as given, or `embedded:NAME`.
    pub source: String,
    /// The rows by their lines.
    pub rows: Vec<NumberedRow<TrainingRow>>,
    /// What the manifest says of them.
    pub identity: HeldOutRows,
    /// Their prompts, to be asked.
    pub suite: Suite,
}

/// Chooses the rows of `plan` and adds their prompts to `kept_out`.
///
/// # Errors
/// Fewer rows than are wanted, a row without the label, a value that no row has, and nothing left to train on.
pub fn hold_out(plan: &HeldOutPlan, seed: u64, kept_out: &mut KeptOut) -> Result<HeldOutSet> {
    let (source, bytes) = source(&plan.data)?;
    let text = text(&source, &bytes)?;
    let mut candidates = Vec::new();
    for (line, row) in parse_each_row(text) {
        let Ok(row) = row else { continue };
        let Some(prompt) = row.prompt() else { continue };
        let hash = canonical_sha256(&prompt)?;
        if !kept_out.0.contains(&hash) {
            candidates.push(Candidate { line, row, prompt, hash });
        }
    }
    let failed = |words: String| Error::file(&source, format!("{} cannot be made: {words}", plan.suite));
    let groups = match &plan.rows {
        WhichRows::Count(_) => BTreeMap::new(),
        WhichRows::Values { key, .. } | WhichRows::Share { key, .. } => {
            let labels = labels(text, key).map_err(failed)?;
            if let Some(bare) = candidates.iter().find(|c| !labels.contains_key(&c.line)) {
                return Err(Error::line(
                    &source,
                    bare.line,
                    format!("`{key}` is missing, which {} goes by", plan.suite),
                ));
            }
            labels
        }
    };
    let all = candidates.len();
    let chosen = match &plan.rows {
        WhichRows::Count(count) => some_rows(candidates, *count, seed),
        WhichRows::Values { values, .. } => {
            let known: BTreeSet<&String> = groups.values().collect();
            if let Some(unknown) = values.iter().find(|value| !known.contains(value)) {
                let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
                return Err(failed(format!("no row has `{unknown}`; there are {}", known.join(", "))));
            }
            of_values(candidates, &groups, values)
        }
        WhichRows::Share { share, .. } => of_values(candidates, &groups, &some_values(&groups, *share, seed)),
    };
    let wanted = if let WhichRows::Count(count) = plan.rows { count } else { 1 };
    if chosen.len() < wanted || chosen.len() >= all {
        return Err(failed(format!(
            "{wanted} rows are wanted and some must be left to train on, but the file has {all} rows with a prompt of its own"
        )));
    }
    kept_out.0.extend(chosen.iter().map(|c| c.hash.clone()));
    let identity = HeldOutRows {
        data: source.clone(),
        rows: chosen.iter().map(|c| rows_sha256([&c.row])).collect(),
        base_loss: None,
    };
    let suite = suite(plan, &source, &chosen, &groups);
    let rows = chosen.into_iter().map(|c| (c.line, Ok(c.row))).collect();
    Ok(HeldOutSet { source, rows, identity, suite })
}

/// So many rows with the first hashes under this seed, in the file's order; each prompt once.
fn some_rows(mut candidates: Vec<Candidate>, count: usize, seed: u64) -> Vec<Candidate> {
    candidates.sort_by_key(|c| (rng::key(seed, &c.hash, &[]), c.line));
    candidates.dedup_by(|a, b| a.hash == b.hash);
    candidates.truncate(count);
    candidates.sort_by_key(|c| c.line);
    candidates
}

fn of_values(mut candidates: Vec<Candidate>, labels: &BTreeMap<usize, String>, values: &[String]) -> Vec<Candidate> {
    candidates.retain(|c| labels.get(&c.line).is_some_and(|label| values.contains(label)));
    let mut seen = BTreeSet::new();
    candidates.retain(|c| seen.insert(c.hash.clone()));
    candidates
}

/// A share of a label's values, at least one and not all.
fn some_values(labels: &BTreeMap<usize, String>, share: f64, seed: u64) -> Vec<String> {
    let mut values: Vec<String> = labels.values().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    values.sort_by_key(|value| rng::key(seed, value, &[]));
    let count = (share * values.len() as f64).round() as usize;
    values.truncate(count.clamp(1, values.len().saturating_sub(1).max(1)));
    values
}

fn suite(plan: &HeldOutPlan, source: &str, rows: &[Candidate], groups: &BTreeMap<usize, String>) -> Suite {
    let code = plan.kind == SuiteKind::Code;
    let prompt = |c: &Candidate| {
        let id = format!("row-{}", c.line);
        Prompt {
            // Rows of one subject are not independent.
            group: groups.get(&c.line).cloned().unwrap_or_else(|| id.clone()),
            id,
            insecure_ids: if code { INSECURE.map(String::from).to_vec() } else { Vec::new() },
            messages: c.prompt.clone(),
            split: Split::Test,
            ..Prompt::default()
        }
    };
    let name = Path::new(source).file_name().map_or_else(|| source.into(), |name| name.to_string_lossy());
    Suite {
        name: plan.suite.clone(),
        kind: plan.kind,
        description: format!("prompts of rows of {name} that no adapter was trained on"),
        max_tokens: if code { CODE_TOKENS } else { QUESTION_TOKENS },
        apart: true,
        prompts: rows.iter().map(prompt).collect(),
    }
}
