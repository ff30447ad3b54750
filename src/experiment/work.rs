//! The work of a run, counted: what is trained, what every arm is asked, how often.

use std::collections::BTreeMap;
use std::ops::Range;

use super::grid;
use super::inputs::{CHARACTERS_A_TOKEN, Inputs};
use super::plan::{Plan, VectorPlan, VectorSource};
use crate::error::Result;
use crate::eval::suite::{Prompt, Suite};
use crate::record::{ArmSpec, Split, SuiteKind};

/// Everything that lies ahead, in numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Work {
    /// Number of adapters to train, one per training seed.
    pub adapters: usize,
    /// Tokens that go forward and backward, over all adapters and epochs.
    pub training_tokens: f64,
    /// Tokens that go forward only on all cores: held-out losses before and after each training, and pairs of answers.
    pub forward_tokens: f64,
    /// Tokens that go forward on one core: both answers of every contrast pair.
    pub captured_tokens: f64,
    /// Prompts to read, over all arms.
    pub prompts: usize,
    /// Answers to make, over all arms.
    pub answers: usize,
    /// Answers of the arms and of the sweep, by suite.
    pub by_suite: BTreeMap<String, usize>,
    /// Number of cells in the sweep.
    pub cells: usize,
    /// Number of answers over all cells of the sweep.
    pub cell_answers: usize,
}

/// The suites that an arm is asked; none where its answers were made elsewhere.
pub fn suites<'s>(inputs: &'s Inputs, arm: &ArmSpec) -> Vec<&'s Suite> {
    if arm.answers.is_some() {
        return Vec::new();
    }
    let wanted = |s: &&Suite| arm.suites.as_ref().is_none_or(|choice| choice.holds(&s.name, s.kind));
    inputs.suites.iter().filter(wanted).collect()
}

/// Samples of every prompt of a suite in an arm. A greedy answer is the same every time, so it is asked for once; of a pair
/// nothing is drawn.
fn samples_of(plan: &Plan, arm: &ArmSpec, suite: &Suite) -> u32 {
    if plan.sampling_of(arm).temperature == 0.0 || suite.kind == SuiteKind::Pairs {
        return 1;
    }
    arm.samples.get(&suite.name).map_or_else(|| plan.samples_of(&suite.name), |n| (*n).max(1))
}

/// Which samples of a suite's prompts a draw answers: all of them without draws; with draws they are shared out, at least
/// one each.
pub fn samples(plan: &Plan, arm: &ArmSpec, suite: &Suite, draw: Option<u32>) -> Range<u32> {
    let samples = samples_of(plan, arm, suite);
    let Some(draw) = draw else { return 0..samples };
    let each = samples.div_ceil(arm.draws().len() as u32).max(1);
    let first = draw * each % samples.max(1);
    first..(first + each).min(samples.max(first + 1))
}

/// The prompts of the test split with how many of `samples` each one gets.
pub fn asked<'s>(suite: &'s Suite, samples: &Range<u32>) -> Vec<(&'s Prompt, usize)> {
    let tested = suite.prompts.iter().filter(|p| p.split == Split::Test);
    let count = |p: &Prompt| samples.clone().filter(|&k| p.samples.is_none_or(|n| k < n)).count();
    tested.map(|p| (p, count(p))).filter(|(_, count)| *count > 0).collect()
}

/// Number of answers that an arm gives, over all draws and training seeds.
pub fn answers(plan: &Plan, inputs: &Inputs, arm: &ArmSpec) -> usize {
    let of =
        |draw, suite: &&Suite| asked(suite, &samples(plan, arm, suite, draw)).iter().map(|(_, n)| n).sum::<usize>();
    let once = arm.draws().into_iter().map(|draw| suites(inputs, arm).iter().map(|s| of(draw, s)).sum::<usize>());
    arm.seeds().len() * once.sum::<usize>()
}

/// Pairs that the plan's vectors are made from.
fn pairs(plan: &Plan, inputs: &Inputs) -> usize {
    let of = |vector: &VectorPlan| match &vector.method {
        VectorSource::MeanDifference { pairs, target } => {
            inputs.pairs.get(pairs).map_or(0, |all| all.iter().filter(|p| p.target == *target).count())
        }
        VectorSource::Random { .. } => 0,
    };
    plan.vectors.iter().map(of).sum()
}

/// Tokens of a pair's two passes, told from characters.
fn pair_tokens(prompt: &Prompt) -> f64 {
    let asked: usize = prompt.messages.iter().map(|message| message.content.len()).sum();
    let answers = prompt.pair.as_ref().map_or(0, |pair| pair.chosen.len() + pair.rejected.len());
    (2 * asked + answers) as f64 / CHARACTERS_A_TOKEN as f64
}

impl Work {
    /// Counts the work of a plan for a model with `layers` layers.
    pub fn of(plan: &Plan, inputs: &Inputs, layers: usize) -> Result<Self> {
        let mut work = Self::default();
        let held_out: usize = inputs.held_out.values().map(|set| set.rows).sum();
        for adapter in &plan.adapters {
            let Some(set) = inputs.training.get(&adapter.name) else { continue };
            let per_row = set.tokens as f64 / set.rows.max(1) as f64;
            let training = &adapter.recipe.training;
            let steps = training.steps(set.rows) as f64;
            let epochs = steps / set.rows.div_ceil(training.effective_batch()).max(1) as f64;
            let seeds = adapter.seeds.len();
            work.adapters += seeds;
            work.training_tokens += seeds as f64 * epochs * set.tokens as f64;
            work.forward_tokens += 2.0 * (seeds * held_out) as f64 * per_row;
            if work.captured_tokens == 0.0 {
                work.captured_tokens = 2.0 * pairs(plan, inputs) as f64 * per_row;
            }
        }
        for arm in &plan.arms {
            let seeds = arm.seeds().len();
            for draw in arm.draws() {
                for suite in suites(inputs, arm) {
                    let asked = asked(suite, &samples(plan, arm, suite, draw));
                    let answers = seeds * asked.iter().map(|(_, n)| n).sum::<usize>();
                    if suite.kind == SuiteKind::Pairs {
                        work.forward_tokens += seeds as f64 * asked.iter().map(|(p, _)| pair_tokens(p)).sum::<f64>();
                        continue;
                    }
                    work.prompts += seeds * asked.len();
                    work.answers += answers;
                    *work.by_suite.entry(suite.name.clone()).or_default() += answers;
                }
            }
        }
        work.cells = grid::cells(plan, &grid::layers(plan.sweep.layers.as_deref(), layers)?).len();
        if work.cells == 0 {
            work.captured_tokens = 0.0;
        }
        for suite in &inputs.validation {
            let each = if suite.kind == SuiteKind::Questions { plan.sweep.question_samples as usize } else { 1 };
            let answers = work.cells * suite.prompts.len() * each;
            work.prompts += work.cells * suite.prompts.len();
            work.cell_answers += answers;
            *work.by_suite.entry(suite.name.clone()).or_default() += answers;
        }
        Ok(work)
    }
}
