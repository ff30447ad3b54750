//! Suites of JSON Lines: published sets of coding tasks in the form of HumanEval (`task_id`, `prompt`, `test`,
//! `entry_point`) or of SecurityEval (`ID`, `Prompt`), and pairs (`prompt`, `chosen`, `rejected`). A row is a prompt of the
//! test split and, unless a pair names one, a group of its own.

use std::cell::RefCell;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::super::node::Mistake;
use super::super::python;
use super::{INSECURE, Prompt, Suite, SuiteKind, pairs};
use crate::record::{Message, Split};

/// As for suites of ours that name no limit.
const MAX_TOKENS: usize = 512;

/// HumanEval's row; the reference solution is not used.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HumanEval {
    task_id: String,
    prompt: String,
    test: String,
    entry_point: String,
    #[serde(default, rename = "canonical_solution")]
    _canonical_solution: IgnoredAny,
}

/// SecurityEval's row; `realign score --format securityeval` scores the insecure code.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecurityEval {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Prompt")]
    prompt: String,
    #[serde(default, rename = "Insecure_code")]
    _insecure_code: IgnoredAny,
}

/// Whether a file's name says that it holds JSON Lines.
pub(super) fn is_jsonl(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case("jsonl"))
}

pub(super) fn suite(name: &str, text: &str, mistakes: &RefCell<Vec<Mistake>>) -> Option<Suite> {
    let stem = Path::new(name).file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let mut prompts = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match prompt(line, index + 1) {
            Ok(prompt) => prompts.push((index + 1, prompt)),
            Err(message) => mistakes.borrow_mut().push((index + 1, message)),
        }
    }
    let are_pairs = prompts.first().is_some_and(|(_, first): &(usize, Prompt)| first.pair.is_some());
    let other = prompts.iter().filter(|(_, prompt)| prompt.pair.is_some() != are_pairs);
    let other = other.map(|(line, _)| (*line, "a file cannot hold both coding tasks and pairs".to_string()));
    mistakes.borrow_mut().extend(other);
    let prompts = prompts.into_iter().map(|(_, prompt)| prompt).collect();
    if are_pairs {
        let description = "questions with a chosen and a rejected answer".to_string();
        return Some(Suite { name: stem, kind: SuiteKind::Pairs, description, max_tokens: 0, apart: false, prompts });
    }
    let description = "coding tasks of a published set".to_string();
    Some(Suite { name: stem, kind: SuiteKind::Code, description, max_tokens: MAX_TOKENS, apart: false, prompts })
}

fn prompt(line: &str, number: usize) -> Result<Prompt, String> {
    let row: Value = serde_json::from_str(line).map_err(|e| format!("not valid JSON: {e}"))?;
    let has = |key: &str| row.get(key).is_some();
    if has("chosen") || has("rejected") {
        return pairs::of_row(row, number);
    }
    let (id, text, tests) = match (has("task_id"), has("ID")) {
        (true, _) => {
            let row: HumanEval = serde_json::from_value(row).map_err(|e| format!("no row of HumanEval's form: {e}"))?;
            if !row.entry_point.chars().all(|c| c.is_alphanumeric() || c == '_') || row.entry_point.is_empty() {
                return Err(format!("`entry_point` is no name of a function: `{}`", row.entry_point));
            }
            let entry = &row.entry_point;
            let tests = format!("{}\n\nfrom solution import {entry}\ncheck({entry})\n", row.test.trim_end());
            (row.task_id, row.prompt, Some(tests))
        }
        (false, true) => {
            let row: SecurityEval =
                serde_json::from_value(row).map_err(|e| format!("no row of SecurityEval's form: {e}"))?;
            (row.id, row.prompt, None)
        }
        (false, false) => {
            return Err("is a row of no known form; known are HumanEval's (task_id, prompt, test, entry_point), \
                        SecurityEval's (ID, Prompt) and pairs (prompt, chosen, rejected)"
                .into());
        }
    };
    if id.trim().is_empty() || id.contains('#') || text.trim().is_empty() {
        return Err("the id and the prompt must not be empty, and the id must be without `#`".into());
    }
    if tests.as_ref().is_some_and(|tests| !python::with_room(|| python::parses(tests))) {
        return Err("`test` is not valid Python".into());
    }
    Ok(Prompt {
        group: id.clone(),
        family: family(&id),
        id,
        split: Split::Test,
        insecure_ids: INSECURE.map(String::from).to_vec(),
        messages: vec![Message::user(text)],
        tests,
        ..Prompt::default()
    })
}

/// SecurityEval's ids begin with the weakness: `CWE-020_author_1.py` is of the family `CWE-20`.
fn family(id: &str) -> Option<String> {
    let digits: String = id.strip_prefix("CWE-")?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<u32>().ok().map(|number| format!("CWE-{number}"))
}
