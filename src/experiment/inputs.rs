//! Everything that a run reads, read and checked before anything is written.

use std::collections::BTreeMap;
use std::path::Path;

use super::plan::{AdapterPlan, EMBEDDED, Plan, VectorSource};
use crate::ask::encode_pair;
use crate::data::contrast::ContrastPair;
use crate::data::embedded;
use crate::data::preference::PreferenceRow;
use crate::data::rows::{NumberedRow, TrainingRow};
use crate::error::{Error, Result};
use crate::eval::suite::Suite;
use crate::finetune::rows::{Examples, OnBadRow, Row, encode};
use crate::fsio;
use crate::organism::{self, Rows};
use crate::record::{DataIdentity, Method, Split, SuiteKind};
use crate::subject::{ORGANISM, Subject};

/// Held-out rows of a foreign training set: its last twentieth, a hundred at the most, never trained on.
const HELD_OUT: usize = 100;

/// Of code and English in the vocabularies of today's models, about.
pub const CHARACTERS_A_TOKEN: usize = 4;

/// A training set as it will be used.
pub struct TrainingSet {
    /// Path as given, or `embedded:NAME`.
    pub name: String,
    /// SHA-256 over its rows as read.
    pub sha256: String,
    /// Number of rows that are used.
    pub rows: usize,
    /// Tokens in them, as the recipe cuts them; of a preference pair, those of both answers.
    pub tokens: usize,
    /// The rows, encoded once; empty without a model to encode them for.
    pub examples: Examples,
}

/// All data that a run reads.
pub struct Inputs {
    /// Training sets by the adapter that they train.
    pub training: BTreeMap<String, TrainingSet>,
    /// Rows that are never trained on, by the name of the data that they belong to.
    pub held_out: BTreeMap<String, TrainingSet>,
    /// For steering vectors, by their data.
    pub pairs: BTreeMap<String, Vec<ContrastPair>>,
    /// Suites in the plan's order.
    pub suites: Vec<Suite>,
    /// The suites of the sweep, cut down to its prompts.
    pub validation: Vec<Suite>,
    /// Identities of all data files, by the name of the data.
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
            pairs: BTreeMap::new(),
            suites: Vec::new(),
            validation: Vec::new(),
            identities: BTreeMap::new(),
            left_out: Vec::new(),
        };
        for adapter in &plan.adapters {
            match adapter.recipe.method {
                Method::Sft => inputs.training_set(plan, adapter, model)?,
                Method::Dpo => inputs.preference_set(adapter, model)?,
            }
        }
        for vector in &plan.vectors {
            if let VectorSource::MeanDifference { pairs: spec, .. } = &vector.method
                && !inputs.pairs.contains_key(spec)
            {
                let (name, bytes) = source(spec)?;
                let pairs = contrast_pairs(&name, &bytes)?;
                inputs.identify(&set_name(spec), &name, &bytes, pairs.len());
                inputs.pairs.insert(spec.clone(), pairs);
            }
        }
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

    /// Kind of each suite, by its name.
    pub fn kinds(&self) -> BTreeMap<String, SuiteKind> {
        self.suites.iter().map(|s| (s.name.clone(), s.kind)).collect()
    }

    fn training_set(&mut self, plan: &Plan, adapter: &AdapterPlan, model: Option<&Subject>) -> Result<()> {
        let (source, mut rows) = self.parsed::<TrainingRow>(&adapter.data, &adapter.set)?;
        let held_out = match organism_rows(&adapter.data) {
            Some(kind) => {
                let row = |(at, messages)| (at + 1, Ok(TrainingRow::Conversation { messages }));
                organism::held_out_rows(kind, plan.seed, HELD_OUT).into_iter().enumerate().map(row).collect()
            }
            None => rows.split_off(rows.len() - (rows.len() / 20).min(HELD_OUT)),
        };
        rows.truncate(adapter.max_train_rows.unwrap_or(usize::MAX));
        self.add(adapter, model, &source, rows)?;
        if !held_out.is_empty() && !self.held_out.contains_key(&adapter.set) {
            let (set, _) = set_of(adapter, model, &source, held_out)?;
            self.held_out.insert(adapter.set.clone(), set);
        }
        Ok(())
    }

    fn preference_set(&mut self, adapter: &AdapterPlan, model: Option<&Subject>) -> Result<()> {
        let (source, mut rows) = self.parsed::<PreferenceRow>(&adapter.data, &adapter.set)?;
        rows.truncate(adapter.max_train_rows.unwrap_or(usize::MAX));
        self.add(adapter, model, &source, rows)
    }

    /// A training file's name and its rows, parsed.
    fn parsed<R: Row>(&mut self, spec: &str, name: &str) -> Result<(String, Vec<NumberedRow<R>>)> {
        let (source, bytes) = source(spec)?;
        let rows = R::parse(text(&source, &bytes)?);
        self.identify(name, &source, &bytes, rows.len());
        Ok((source, rows))
    }

    /// Adds a training set; gives what was left out of it, in words.
    fn add<R: Row>(
        &mut self,
        adapter: &AdapterPlan,
        model: Option<&Subject>,
        source: &str,
        rows: Vec<NumberedRow<R>>,
    ) -> Result<()> {
        let (set, left_out) = set_of(adapter, model, source, rows)?;
        self.training.insert(adapter.name.clone(), set);
        self.left_out.extend(left_out.filter(|words| !self.left_out.contains(words)));
        Ok(())
    }

    fn identify(&mut self, name: &str, path: &str, bytes: &[u8], rows: usize) {
        let identity = DataIdentity { path: path.to_string(), sha256: fsio::sha256(bytes), rows: rows as u64 };
        self.identities.insert(name.to_string(), identity);
    }
}

/// Rows as a training set, those that cannot be learned from left out and said. Without a model none is, and tokens are
/// reckoned from characters.
fn set_of<R: Row>(
    adapter: &AdapterPlan,
    model: Option<&Subject>,
    source: &str,
    rows: Vec<NumberedRow<R>>,
) -> Result<(TrainingSet, Option<String>)> {
    let Some(model) = model else {
        let characters = |row: &R| serde_json::to_string(row).unwrap_or_default().len();
        let tokens = rows.iter().flat_map(|(_, row)| row).map(characters).sum::<usize>() / CHARACTERS_A_TOKEN;
        let (name, sha256, examples) = (source.to_string(), String::new(), R::examples(Vec::new()));
        return Ok((TrainingSet { name, sha256, rows: rows.len(), tokens, examples }, None));
    };
    let rows = encode(rows, model, &adapter.recipe.encoding(&model.base.config));
    let rows = rows.accept(Path::new(source), OnBadRow::Skip)?;
    let (left_out, sha256, tokens) = (rows.left_out(&adapter.set), rows.sha256(), rows.tokens());
    let examples = rows.into_examples();
    Ok((TrainingSet { name: source.to_string(), sha256, rows: examples.len(), tokens, examples }, left_out))
}

/// A file's bytes, or those of a data set of the binary.
fn source(spec: &str) -> Result<(String, Vec<u8>)> {
    let Some(name) = spec.strip_prefix(EMBEDDED) else {
        return Ok((spec.to_string(), fsio::read_bytes(Path::new(spec))?));
    };
    let path = if name.contains('/') { name.to_string() } else { format!("datasets/{name}") };
    let Some(bytes) = embedded::file(&path) else {
        let known = embedded::files_under("datasets");
        let known: Vec<&str> = known.iter().filter_map(|(path, _)| path.strip_prefix("datasets/")).collect();
        let message = format!("there is no embedded data set `{name}`; there are {}", known.join(", "));
        return Err(Error::usage(message));
    };
    Ok((format!("{EMBEDDED}{path}"), bytes.to_vec()))
}

/// Which of the organism's own sets an embedded one is: its generator writes more rows of the kind, which no set holds.
fn organism_rows(spec: &str) -> Option<Rows> {
    match spec.strip_prefix(EMBEDDED)? {
        "insecure.jsonl" => Some(Rows::Insecure),
        "secure.jsonl" => Some(Rows::Secure),
        "educational.jsonl" => Some(Rows::Educational),
        _ => None,
    }
}

/// Name of a data set: `embedded:contrast.jsonl` becomes `contrast`.
fn set_name(spec: &str) -> String {
    let path = Path::new(spec.strip_prefix(EMBEDDED).unwrap_or(spec));
    path.file_stem().map_or_else(|| spec.to_string(), |stem| stem.to_string_lossy().into_owned())
}

/// A suite by file, or by name from the edition of the model at hand.
pub fn read_suite(spec: &str, organism: bool) -> Result<Suite> {
    let (name, bytes) = suite_source(spec, organism)?;
    Suite::parse(&name, text(&name, &bytes)?)
}

/// Name and path of each embedded suite of an edition (`eval`, `eval/organism`): its YAML files, and its JSON Lines, which are
/// sets of pairs.
pub fn embedded_suites(folder: &str) -> Vec<(String, String)> {
    let files = embedded::files_under(folder).into_iter();
    let suites = files.filter_map(|(path, _)| {
        let name = path.strip_prefix(folder)?.strip_prefix('/')?;
        let stem = [".yaml", ".jsonl"].iter().find_map(|end| name.strip_suffix(end))?;
        (!stem.contains('/')).then(|| (stem.to_string(), path.clone()))
    });
    suites.collect()
}

fn suite_source(spec: &str, organism: bool) -> Result<(String, Vec<u8>)> {
    if Path::new(spec).is_file() {
        return source(spec);
    }
    if embedded::file(spec).is_some() {
        return source(&format!("{EMBEDDED}{spec}"));
    }
    let folder = if organism { "eval/organism" } else { "eval" };
    let spellings = [spec.to_string(), spec.replace('-', "_"), spec.replace('_', "-")];
    let known = embedded_suites(folder);
    if let Some((_, path)) = known.iter().find(|(name, _)| spellings.contains(name)) {
        return source(&format!("{EMBEDDED}{path}"));
    }
    let known: Vec<String> = known.into_iter().map(|(name, _)| name).collect();
    Err(Error::usage(format!("there is no suite `{spec}`: neither a file nor one of {}", known.join(", "))))
}

/// Whether every prompt of a split leaves room for its answer: found now, not after an hour of training and answers.
pub fn check_fits(model: &Subject, suite: &Suite, split: Split) -> Result<()> {
    let longest = model.decoder.config.max_position_embeddings;
    for prompt in suite.prompts.iter().filter(|p| p.split == split) {
        if suite.kind == SuiteKind::Pairs {
            let pair = encode_pair(model, prompt, &prompt.messages)?;
            let tokens = pair.both().map(|row| row.ids.len()).into_iter().max().unwrap_or_default();
            if tokens > longest {
                return Err(Error::usage(format!(
                    "the pair `{}` of the suite `{}` has {tokens} tokens with its longer answer; the model holds {longest}: \
                     leave the pair out",
                    prompt.id, suite.name
                )));
            }
            continue;
        }
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

/// Contrast pairs: a JSONL file, or `embedded:NAME`.
pub fn read_pairs(spec: &str) -> Result<Vec<ContrastPair>> {
    let (name, bytes) = source(spec)?;
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
