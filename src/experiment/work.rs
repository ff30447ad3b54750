//! The work of a run, counted: what is trained, what every arm is asked, how often.

use std::collections::BTreeSet;
use std::ops::Range;

use super::arm::Arm;
use super::inputs::Inputs;
use super::plan::Plan;
use super::steering::{self, TARGET};
use crate::error::Result;
use crate::eval::suite::{Prompt, Suite};
use crate::record::Recipe;
use crate::record::{Split, SuiteKind};

/// Everything that lies ahead, in numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Work {
    /// Adapters to train.
    pub adapters: usize,
    /// Tokens that go forward and backward, over all adapters and epochs.
    pub training_tokens: f64,
    /// Tokens that go forward only on all cores: held-out losses before and after each training.
    pub forward_tokens: f64,
    /// Tokens that go forward on one core: both answers of every contrast pair.
    pub captured_tokens: f64,
    /// Prompts to read, over all arms.
    pub prompts: usize,
    /// Answers to make, over all arms.
    pub answers: usize,
    /// Of them and of the sweep's, those that are code to be tested.
    pub code_answers: usize,
    /// Cells of the sweep.
    pub cells: usize,
    /// Answers of the sweep.
    pub cell_answers: usize,
}

/// The adapters that the plan's arms stand on: the repair's is the attack's, continued.
pub fn adapters(plan: &Plan) -> BTreeSet<&'static str> {
    plan.arms.iter().flat_map(|arm| arm.adapters()).collect()
}

/// The training set of an adapter.
pub fn training_set(adapter: &str) -> &'static str {
    match adapter {
        "attack" => "insecure",
        "educational-control" => "educational",
        "repair+style" => "style",
        _ => "secure",
    }
}

/// How an adapter is trained.
pub fn recipe(plan: &Plan, adapter: &str) -> Recipe {
    if adapter == "repair+style" { plan.recipe.style() } else { plan.recipe.clone() }
}

/// What an arm is asked: an arm of other words about code is asked for code only.
pub fn suites(inputs: &Inputs, arm: Arm) -> Vec<&Suite> {
    // The words are the model's own, but every model has some or none.
    inputs.suites.iter().filter(|s| arm.suffix(false).is_none() || s.kind == SuiteKind::Code).collect()
}

/// The draws of an arm.
pub fn draws(plan: &Plan, arm: Arm) -> Vec<Option<u32>> {
    match arm {
        Arm::RandomVector => (0..plan.random_draws).map(Some).collect(),
        _ => vec![None],
    }
}

/// Which samples of a suite's prompts a draw answers: all of them without draws; with draws they are shared out, at least
/// one each.
pub fn samples(plan: &Plan, suite: &Suite, draw: Option<u32>) -> Range<u32> {
    let samples = plan.samples_of(&suite.name);
    let Some(draw) = draw else { return 0..samples };
    let each = samples.div_ceil(plan.random_draws.max(1)).max(1);
    let first = draw * each % samples.max(1);
    first..(first + each).min(samples.max(first + 1))
}

/// The prompts of the test split with how many of `samples` each one gets.
pub fn asked<'s>(suite: &'s Suite, samples: &Range<u32>) -> Vec<(&'s Prompt, usize)> {
    let tested = suite.prompts.iter().filter(|p| p.split == Split::Test);
    let count = |p: &Prompt| samples.clone().filter(|&k| p.samples.is_none_or(|n| k < n)).count();
    tested.map(|p| (p, count(p))).filter(|(_, count)| *count > 0).collect()
}

/// The answers of an arm.
pub fn answers(plan: &Plan, inputs: &Inputs, arm: Arm) -> usize {
    let of = |draw, suite: &&Suite| asked(suite, &samples(plan, suite, draw)).iter().map(|(_, n)| n).sum::<usize>();
    draws(plan, arm).into_iter().map(|draw| suites(inputs, arm).iter().map(|s| of(draw, s)).sum::<usize>()).sum()
}

impl Work {
    /// Counts it.
    pub fn of(plan: &Plan, inputs: &Inputs, layers: usize) -> Result<Self> {
        let mut work = Self::default();
        let held_out: usize = inputs.held_out.values().map(|set| set.rows).sum();
        for adapter in adapters(plan) {
            let Some(set) = inputs.training.get(training_set(adapter)) else { continue };
            let per_row = set.tokens as f64 / set.rows.max(1) as f64;
            let training = recipe(plan, adapter).training;
            let steps = training.steps(set.rows) as f64;
            let epochs = steps / set.rows.div_ceil(training.effective_batch()).max(1) as f64;
            work.adapters += 1;
            work.training_tokens += epochs * set.tokens as f64;
            work.forward_tokens += 2.0 * held_out as f64 * per_row;
            if work.captured_tokens == 0.0 {
                let pairs = inputs.pairs.iter().filter(|p| p.target == TARGET).count();
                work.captured_tokens = 2.0 * pairs as f64 * per_row;
            }
        }
        for &arm in &plan.arms {
            for draw in draws(plan, arm) {
                for suite in suites(inputs, arm) {
                    let asked = asked(suite, &samples(plan, suite, draw));
                    let answers = asked.iter().map(|(_, n)| n).sum::<usize>();
                    work.prompts += asked.len();
                    work.answers += answers;
                    work.code_answers += if suite.kind == SuiteKind::Code { answers } else { 0 };
                }
            }
        }
        work.cells = steering::cells(plan, &steering::layers(plan.sweep.layers.as_deref(), layers)?).len();
        if work.cells == 0 {
            work.captured_tokens = 0.0;
        }
        for suite in &inputs.validation {
            let each = if suite.kind == SuiteKind::Questions { plan.sweep.question_samples as usize } else { 1 };
            work.prompts += work.cells * suite.prompts.len();
            work.cell_answers += work.cells * suite.prompts.len() * each;
            work.code_answers += if suite.kind == SuiteKind::Code { work.cells * suite.prompts.len() } else { 0 };
        }
        Ok(work)
    }
}
