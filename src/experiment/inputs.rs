//! Everything that a run reads, read and checked before anything is written.

use std::collections::BTreeMap;
use std::path::Path;

use super::arm::Arm;
use super::plan::{EMBEDDED, Plan};
use crate::data::contrast::ContrastPair;
use crate::data::embedded;
use crate::data::preference::PreferenceRow;
use crate::data::rows::{NumberedRow, TrainingRow};
use crate::error::{Error, Result};
use crate::eval::suite::Suite;
use crate::finetune::rows::{Examples, OnBadRow, Row, encode};
use crate::fsio;
use crate::organism::{self, Rows};
use crate::record::{DataIdentity, Split, SuiteKind};
use crate::subject::{ORGANISM, Subject};

/// Held-out rows of a foreign training set: its last twentieth, a hundred at the most, never trained on.
const HELD_OUT: usize = 100;

/// Of code and English in the vocabularies of today's models, about.
pub const CHARACTERS_A_TOKEN: usize = 4;

/// The embedded contrast pairs.
const CONTRAST: &str = "datasets/contrast.jsonl";

/// A training set as it will be used.
pub struct TrainingSet {
    /// As given, or `embedded:NAME`.
    pub name: String,
    /// SHA-256 over its rows as read.
    pub sha256: String,
    /// Number of rows.
    pub rows: usize,
    /// Tokens in them, as the recipe cuts them; of a preference pair, those of both answers.
    pub tokens: usize,
    /// The rows, encoded once; empty without a model to encode them for.
    pub examples: Examples,
}

/// What a run reads.
pub struct Inputs {
    /// `insecure`, `secure`, and `educational` and `style` where they are used.
    pub training: BTreeMap<String, TrainingSet>,
    /// Rows of the same kinds that are never trained on.
    pub held_out: BTreeMap<String, TrainingSet>,
    /// For steering vectors.
    pub pairs: Vec<ContrastPair>,
    /// In the plan's order.
    pub suites: Vec<Suite>,
    /// The suites of the sweep, cut down to its prompts.
    pub validation: Vec<Suite>,
    /// Every file by name.
    pub identities: BTreeMap<String, DataIdentity>,
    /// Rows that could not be learnt from, in words.
    pub left_out: Vec<String>,
}

impl Inputs {
    /// Reads what the plan names. Without a model no row is left out, and tokens are told from characters.
    pub fn read(plan: &Plan, model: Option<&Subject>) -> Result<Self> {
        let mut inputs = Self {
            training: BTreeMap::new(),
            held_out: BTreeMap::new(),
            pairs: Vec::new(),
            suites: Vec::new(),
            validation: Vec::new(),
            identities: BTreeMap::new(),
            left_out: Vec::new(),
        };
        inputs.training_set(plan, model, "insecure", &plan.attack, Rows::Insecure)?;
        inputs.training_set(plan, model, "secure", &plan.repair, Rows::Secure)?;
        if let (Some(spec), true) = (&plan.educational, plan.arms.contains(&Arm::EducationalControl)) {
            inputs.training_set(plan, model, "educational", spec, Rows::Educational)?;
        }
        if let (Some(spec), true) = (&plan.style, plan.arms.contains(&Arm::RepairStyle)) {
            inputs.style_set(plan, model, spec)?;
        }
        let (name, bytes) = source(&plan.contrast, CONTRAST)?;
        inputs.pairs = contrast_pairs(&name, &bytes)?;
        inputs.identify("contrast", &name, &bytes, inputs.pairs.len());
        for spec in &plan.suites {
            let (name, bytes) = suite_source(spec, plan.model == ORGANISM)?;
            let suite = Suite::parse(&name, text(&name, &bytes)?)?;
            inputs.identify(&format!("suite {}", suite.name), &name, &bytes, suite.prompts.len());
            let suite = suite.selected(plan.prompts.get(&suite.name).copied());
            inputs.suites.push(suite);
        }
        inputs.validation = validation(&inputs.suites, plan.sweep.code_prompts);
        if let Some(model) = model {
            inputs.suites.iter().try_for_each(|suite| check_fits(model, suite, Split::Test))?;
            inputs.validation.iter().try_for_each(|suite| check_fits(model, suite, Split::Validation))?;
        }
        Ok(inputs)
    }

    /// What each suite is.
    pub fn kinds(&self) -> BTreeMap<String, SuiteKind> {
        self.suites.iter().map(|s| (s.name.clone(), s.kind)).collect()
    }

    fn training_set(&mut self, plan: &Plan, model: Option<&Subject>, name: &str, spec: &str, kind: Rows) -> Result<()> {
        let (source, mut rows) = self.parsed::<TrainingRow>(spec, name)?;
        let held_out = if spec == EMBEDDED {
            let row = |(at, messages)| (at + 1, Ok(TrainingRow::Conversation { messages }));
            organism::held_out_rows(kind, plan.seed, HELD_OUT).into_iter().enumerate().map(row).collect()
        } else {
            rows.split_off(rows.len() - (rows.len() / 20).min(HELD_OUT))
        };
        rows.truncate(plan.max_train_rows.unwrap_or(usize::MAX));
        let left_out = self.add(plan, model, name, &source, rows)?;
        self.left_out.extend(left_out);
        if !held_out.is_empty() {
            let (set, _) = set_of(plan, model, name, &source, held_out)?;
            self.held_out.insert(name.to_string(), set);
        }
        Ok(())
    }

    fn style_set(&mut self, plan: &Plan, model: Option<&Subject>, spec: &str) -> Result<()> {
        let (source, mut rows) = self.parsed::<PreferenceRow>(spec, "style")?;
        rows.truncate(plan.max_train_rows.unwrap_or(usize::MAX));
        let left_out = self.add(plan, model, "style", &source, rows)?;
        self.left_out.extend(left_out);
        Ok(())
    }

    /// A training file's name and its rows, parsed.
    fn parsed<R: Row>(&mut self, spec: &str, name: &str) -> Result<(String, Vec<NumberedRow<R>>)> {
        let (source, bytes) = source(spec, &format!("datasets/{name}.jsonl"))?;
        let rows = R::parse(text(&source, &bytes)?);
        self.identify(name, &source, &bytes, rows.len());
        Ok((source, rows))
    }

    /// Adds a training set; gives what was left out of it, in words.
    fn add<R: Row>(
        &mut self,
        plan: &Plan,
        model: Option<&Subject>,
        name: &str,
        source: &str,
        rows: Vec<NumberedRow<R>>,
    ) -> Result<Option<String>> {
        let (set, left_out) = set_of(plan, model, name, source, rows)?;
        self.training.insert(name.to_string(), set);
        Ok(left_out)
    }

    fn identify(&mut self, name: &str, path: &str, bytes: &[u8], rows: usize) {
        let identity = DataIdentity { path: path.to_string(), sha256: fsio::sha256(bytes), rows: rows as u64 };
        self.identities.insert(name.to_string(), identity);
    }
}

/// Rows as a training set, those that cannot be learned from left out and said. Without a model none is, and tokens are
/// reckoned from characters.
fn set_of<R: Row>(
    plan: &Plan,
    model: Option<&Subject>,
    name: &str,
    source: &str,
    rows: Vec<NumberedRow<R>>,
) -> Result<(TrainingSet, Option<String>)> {
    let Some(model) = model else {
        let characters = |row: &R| serde_json::to_string(row).unwrap_or_default().len();
        let tokens = rows.iter().flat_map(|(_, row)| row).map(characters).sum::<usize>() / CHARACTERS_A_TOKEN;
        let (name, sha256, examples) = (source.to_string(), String::new(), R::examples(Vec::new()));
        return Ok((TrainingSet { name, sha256, rows: rows.len(), tokens, examples }, None));
    };
    let rows = encode(rows, model, &plan.recipe.encoding(&model.base.config));
    let rows = rows.accept(Path::new(source), OnBadRow::Skip)?;
    let (left_out, sha256, tokens) = (rows.left_out(name), rows.sha256(), rows.tokens());
    let examples = rows.into_examples();
    Ok((TrainingSet { name: source.to_string(), sha256, rows: examples.len(), tokens, examples }, left_out))
}

/// A file's bytes, or those of the one that travels in the binary.
fn source(spec: &str, embedded_path: &str) -> Result<(String, Vec<u8>)> {
    if spec != EMBEDDED {
        return Ok((spec.to_string(), fsio::read_bytes(Path::new(spec))?));
    }
    let bytes =
        embedded::file(embedded_path).ok_or_else(|| Error::usage(format!("this build carries no {embedded_path}")))?;
    Ok((format!("embedded:{embedded_path}"), bytes.to_vec()))
}

/// A suite by file, or by name from the edition of the model at hand.
pub fn read_suite(spec: &str, organism: bool) -> Result<Suite> {
    let (name, bytes) = suite_source(spec, organism)?;
    Suite::parse(&name, text(&name, &bytes)?)
}

fn suite_source(spec: &str, organism: bool) -> Result<(String, Vec<u8>)> {
    if Path::new(spec).is_file() {
        return source(spec, "");
    }
    if embedded::file(spec).is_some() {
        return source(EMBEDDED, spec);
    }
    let folder = if organism { "eval/organism" } else { "eval" };
    for name in [spec.to_string(), spec.replace('-', "_"), spec.replace('_', "-")] {
        let path = format!("{folder}/{name}.yaml");
        if embedded::file(&path).is_some() {
            return source(EMBEDDED, &path);
        }
    }
    let known = embedded::files_under(folder);
    let known: Vec<&str> = known
        .iter()
        .filter_map(|(path, _)| path.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(".yaml"))
        .filter(|name| !name.contains('/'))
        .collect();
    Err(Error::usage(format!("there is no suite `{spec}`: neither a file nor one of {}", known.join(", "))))
}

/// Whether every prompt of a split leaves room for its answer: found now, not after an hour of training and answers.
pub fn check_fits(model: &Subject, suite: &Suite, split: Split) -> Result<()> {
    let longest = model.decoder.config.max_position_embeddings;
    for prompt in suite.prompts.iter().filter(|p| p.split == split) {
        let tokens = model.prompt(&prompt.messages)?.len();
        if tokens + suite.max_tokens > longest {
            return Err(Error::usage(format!(
                "the suite `{}` asks for {} tokens after the {tokens} of its prompt `{}`; the model holds {longest} in \
                 all: lower the suite's max_tokens or leave the prompt out",
                suite.name, suite.max_tokens, prompt.id
            )));
        }
    }
    Ok(())
}

/// The validation prompts of the question suites and of the first code suite that has some, its prompts cut down evenly
/// to about `code_prompts`.
pub fn validation(suites: &[Suite], code_prompts: usize) -> Vec<Suite> {
    let validates = |s: &&Suite| s.prompts.iter().any(|p| p.split == Split::Validation);
    let code = suites.iter().filter(validates).find(|s| s.kind == SuiteKind::Code).map(|s| &s.name);
    let wanted = |s: &&Suite| s.kind == SuiteKind::Questions || Some(&s.name) == code;
    let cut = |suite: &Suite| {
        let mut suite = suite.clone();
        suite.prompts.retain(|p| p.split == Split::Validation);
        if suite.kind == SuiteKind::Code {
            let step = suite.prompts.len().div_ceil(code_prompts.max(1)).max(1);
            suite.prompts = suite.prompts.into_iter().step_by(step).collect();
        }
        suite
    };
    suites.iter().filter(wanted).map(cut).filter(|s| !s.prompts.is_empty()).collect()
}

/// Contrast pairs: `embedded`, or a JSONL file.
pub fn read_pairs(spec: &str) -> Result<Vec<ContrastPair>> {
    let (name, bytes) = source(spec, CONTRAST)?;
    contrast_pairs(&name, &bytes)
}

fn contrast_pairs(name: &str, bytes: &[u8]) -> Result<Vec<ContrastPair>> {
    let text = text(name, bytes)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|e| Error::line(name, index + 1, format!("not valid: {e}")))
        })
        .collect()
}

fn text<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|e| Error::file(name, format!("is not UTF-8: {e}")))
}
