//! Everything that a run reads, read and checked before anything is written.

use std::collections::BTreeMap;
use std::path::Path;

use super::held_out::{KeptOut, hold_out};
use super::made_elsewhere;
use super::plan::{AdapterPlan, CONDITIONAL, EMBEDDED, HELD_OUT, HeldOutPlan, Plan, VALIDATION, VectorSource};
use super::sources::{contrast_pairs, set_name, source, suite_source, text};
pub use super::training_set::CHARACTERS_A_TOKEN;
use super::training_set::{TrainingSet, set_of};
use super::triggers;
use crate::ask::encode_pair;
use crate::data::contrast::ContrastPair;
use crate::data::preference::PreferenceRow;
use crate::data::rows::{NumberedRow, TrainingRow};
use crate::error::{Error, Result};
use crate::eval::suite::Suite;
use crate::finetune::rows::Row;
use crate::fsio;
use crate::organism::{self, Rows};
use crate::record::{
    ArmSpec, DataIdentity, HeldOutRows, Message, Method, Recipe, SampleRecord, Split, SuiteChoice, SuiteKind,
};
use crate::subject::{ORGANISM, Subject};

/// Held-out rows of a foreign training set: its last twentieth, a hundred at the most, never trained on.
const LAST_ROWS: usize = 100;

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
    /// What the plan keeps out of training, by the suite that is made of it; the manifest says so.
    pub held_out_rows: BTreeMap<String, HeldOutRows>,
    /// Answers made elsewhere, unscored, by the arm that they are.
    pub answers: BTreeMap<String, Vec<SampleRecord>>,
    /// Identities of all data files, by the name of the data.
    pub identities: BTreeMap<String, DataIdentity>,
    /// Rows that could not be learnt from or are held out, in words.
    pub left_out: Vec<String>,
}

/// What is made on the way and not needed later.
#[derive(Default)]
struct Reading {
    kept_out: KeptOut,
    /// Suites of held-out rows.
    suites: BTreeMap<String, Suite>,
    /// Prompts that adapters are trained on and that others continue, by the adapter.
    prompts: BTreeMap<String, Vec<Vec<Message>>>,
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
            held_out_rows: BTreeMap::new(),
            answers: BTreeMap::new(),
            identities: BTreeMap::new(),
            left_out: Vec::new(),
        };
        let mut reading = Reading::default();
        for held_out in &plan.held_out {
            inputs.hold_out(plan, held_out, &mut reading, model)?;
        }
        // An adapter with as many tokens as another comes after it.
        let (others, first): (Vec<_>, Vec<_>) = plan.adapters.iter().partition(|a| a.tokens_as.is_some());
        for adapter in first.into_iter().chain(others) {
            match adapter.recipe.method {
                Method::Sft => inputs.training_set(plan, adapter, &mut reading, model)?,
                Method::Dpo => inputs.preference_set(plan, adapter, &reading, model)?,
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
        let mut whole = Vec::new();
        for spec in &plan.suites {
            let mut suite = match reading.suites.remove(spec) {
                Some(suite) => suite,
                None => inputs.suite(plan, spec, &reading)?,
            };
            suite.apart |= plan.arms.iter().any(|arm| is_excepted(arm, &suite.name));
            let mut asked = suite.selected(plan.prompts.get(&suite.name).copied());
            asked.max_tokens = plan.max_tokens.get(&suite.name).copied().unwrap_or(asked.max_tokens);
            inputs.suites.push(asked);
            whole.push(suite);
        }
        for arm in &plan.arms {
            if let Some(answers) = &arm.answers {
                let read = made_elsewhere::read(arm, answers, &inputs.suites, &whole)?;
                inputs.identities.insert(format!("answers {}", arm.name), read.identity);
                inputs.left_out.extend(read.left_out);
                inputs.answers.insert(arm.name.clone(), read.samples);
            }
        }
        inputs.validation = validation(&inputs.suites, plan.sweep.code_prompts);
        if let Some(model) = model {
            inputs.suites.iter().try_for_each(|suite| check_fits(model, suite, Split::Test))?;
            inputs.validation.iter().try_for_each(|suite| check_fits(model, suite, Split::Validation))?;
        }
        Ok(inputs)
    }

    /// A suite by file or by name, with triggers from the training rows where it asks questions behind triggers.
    fn suite(&mut self, plan: &Plan, spec: &str, reading: &Reading) -> Result<Suite> {
        if [HELD_OUT, VALIDATION].iter().any(|prefix| spec.starts_with(prefix)) && !Path::new(spec).is_file() {
            let made: Vec<&str> = plan.held_out.iter().map(|held_out| held_out.suite.as_str()).collect();
            let made = if made.is_empty() { "none".into() } else { made.join(", ") };
            return Err(Error::usage(format!(
                "there is no suite `{spec}`: suites of held-out rows are made by `holdout` and `validation` of the plan's \
                 adapters; there are: {made}"
            )));
        }
        let (name, bytes) = suite_source(spec, plan.model == ORGANISM)?;
        let mut suite = Suite::parse(&name, text(&name, &bytes)?)?;
        self.identify(&format!("suite {}", suite.name), &name, &bytes, suite.prompts.len());
        if suite.name == CONDITIONAL {
            for (adapter, prompts) in &reading.prompts {
                let prompts = prompts.iter().map(Vec::as_slice);
                triggers::add(&mut suite, adapter, &triggers::beginnings(prompts, plan.seed));
            }
        }
        Ok(suite)
    }

    fn hold_out(
        &mut self,
        plan: &Plan,
        held_out: &HeldOutPlan,
        reading: &mut Reading,
        model: Option<&Subject>,
    ) -> Result<()> {
        let set = hold_out(held_out, plan.seed, &mut reading.kept_out)?;
        let recipe = Recipe { max_length: held_out.max_length, ..Recipe::default() };
        let (rows, _) = set_of(&recipe, &held_out.suite, model, &set.source, set.rows, None)?;
        self.held_out.insert(held_out.suite.clone(), rows);
        self.held_out_rows.insert(held_out.suite.clone(), set.identity);
        reading.suites.insert(held_out.suite.clone(), set.suite);
        Ok(())
    }

    /// Kind of each suite, by its name.
    pub fn kinds(&self) -> BTreeMap<String, SuiteKind> {
        self.suites.iter().map(|s| (s.name.clone(), s.kind)).collect()
    }

    fn training_set(
        &mut self,
        plan: &Plan,
        adapter: &AdapterPlan,
        reading: &mut Reading,
        model: Option<&Subject>,
    ) -> Result<()> {
        let (source, mut rows) = self.parsed::<TrainingRow>(&adapter.data, &adapter.set)?;
        let held_out = match organism_rows(&adapter.data) {
            // A plan that holds out rows itself says all of them.
            _ if !plan.held_out.is_empty() => Vec::new(),
            Some(kind) => {
                let row = |(at, messages)| (at + 1, Ok(TrainingRow::Conversation { messages }));
                organism::held_out_rows(kind, plan.seed, LAST_ROWS).into_iter().enumerate().map(row).collect()
            }
            None => rows.split_off(rows.len() - (rows.len() / 20).min(LAST_ROWS)),
        };
        self.keep_out(adapter, &reading.kept_out, &mut rows)?;
        rows.truncate(adapter.max_train_rows.unwrap_or(usize::MAX));
        // The organism's own suite has its own triggers.
        let is_root = adapter.from.is_none() && plan.model != ORGANISM;
        if is_root && plan.adapters.iter().any(|other| other.from.as_ref() == Some(&adapter.name)) {
            let prompts = rows.iter().filter_map(|(_, row)| row.as_ref().ok()?.prompt()).collect();
            reading.prompts.insert(adapter.name.clone(), prompts);
        }
        self.add(plan, adapter, model, &source, rows)?;
        if !held_out.is_empty() && !self.held_out.contains_key(&adapter.set) {
            let (set, _) = set_of(&adapter.recipe, &adapter.set, model, &source, held_out, None)?;
            self.held_out.insert(adapter.set.clone(), set);
        }
        Ok(())
    }

    fn preference_set(
        &mut self,
        plan: &Plan,
        adapter: &AdapterPlan,
        reading: &Reading,
        model: Option<&Subject>,
    ) -> Result<()> {
        let (source, mut rows) = self.parsed::<PreferenceRow>(&adapter.data, &adapter.set)?;
        self.keep_out(adapter, &reading.kept_out, &mut rows)?;
        rows.truncate(adapter.max_train_rows.unwrap_or(usize::MAX));
        self.add(plan, adapter, model, &source, rows)
    }

    /// Takes out the rows whose prompts are held out, whichever file they were held out of, and says how many.
    fn keep_out<R: Row>(
        &mut self,
        adapter: &AdapterPlan,
        kept_out: &KeptOut,
        rows: &mut Vec<NumberedRow<R>>,
    ) -> Result<()> {
        let out = kept_out.remove(rows)?;
        let words = format!("{out} rows of {} with held-out prompts", adapter.set);
        if out > 0 && !self.left_out.contains(&words) {
            self.left_out.push(words);
        }
        Ok(())
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
        plan: &Plan,
        adapter: &AdapterPlan,
        model: Option<&Subject>,
        source: &str,
        rows: Vec<NumberedRow<R>>,
    ) -> Result<()> {
        let most = match &adapter.tokens_as {
            Some(like) => Some(self.tokens_as(plan.adapter(like)?, adapter)?),
            None => None,
        };
        let (set, left_out) = set_of(&adapter.recipe, &adapter.set, model, source, rows, most)?;
        self.training.insert(adapter.name.clone(), set);
        self.left_out.extend(left_out.filter(|words| !self.left_out.contains(words)));
        Ok(())
    }

    /// Tokens that this adapter's rows may have, so that over all epochs as many are trained on as for `like`.
    fn tokens_as(&self, like: &AdapterPlan, adapter: &AdapterPlan) -> Result<usize> {
        let Some(set) = self.training.get(&like.name) else {
            return Err(Error::internal(format!(
                "the rows of `{}` are read after those of `{}`",
                like.name, adapter.name
            )));
        };
        let training = &like.recipe.training;
        let an_epoch = set.rows.div_ceil(training.effective_batch()).max(1);
        let trained = set.tokens as f64 * training.steps(set.rows) as f64 / an_epoch as f64;
        Ok((trained / adapter.recipe.training.num_train_epochs).round() as usize)
    }

    fn identify(&mut self, name: &str, path: &str, bytes: &[u8], rows: usize) {
        let identity = DataIdentity { path: path.to_string(), sha256: fsio::sha256(bytes), rows: rows as u64 };
        self.identities.insert(name.to_string(), identity);
    }
}

/// Whether an arm is asked all suites but some, and this one is among those.
fn is_excepted(arm: &ArmSpec, suite: &str) -> bool {
    matches!(&arm.suites, Some(SuiteChoice::Filter(filter)) if filter.except.iter().any(|name| name == suite))
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
