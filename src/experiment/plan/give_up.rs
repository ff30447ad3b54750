//! What a plan gives up, in its own order, so that a run fits a budget of time.

use serde::{Deserialize, Serialize};

use super::{AdapterPlan, Plan, VectorSource};
use crate::experiment::inputs::Inputs;
use crate::record::{ArmSpec, Choice, Split};

/// One thing that is given up: an arm, or all but a share of something. Shares are of the whole plan's numbers, in (0, 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GiveUp {
    /// An arm, with the adapters and vectors that no other arm needs.
    Arm(String),
    /// Samples of every prompt, at least one.
    Samples(f64),
    /// Prompts of every suite and split, at least one.
    Prompts(f64),
    /// Training rows of every adapter, the first ones.
    Rows(f64),
    /// Tokens that an answer may have.
    MaxTokens(f64),
    /// Prompts and samples of each cell of the steering sweep.
    Sweep(f64),
}

/// What a run may take, and what its plan gave up for that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Time for the whole run, in seconds.
    pub seconds: f64,
    /// What was given up. A run that goes on takes it from the manifest and measures nothing again.
    pub given_up: Vec<GiveUp>,
}

impl GiveUp {
    /// The share that is kept; `None` for an arm.
    pub fn share(&self) -> Option<f64> {
        match self {
            Self::Arm(_) => None,
            Self::Samples(share)
            | Self::Prompts(share)
            | Self::Rows(share)
            | Self::MaxTokens(share)
            | Self::Sweep(share) => Some(*share),
        }
    }

    /// The same thing with another share kept.
    pub fn keeping(&self, share: f64) -> Self {
        match self {
            Self::Arm(name) => Self::Arm(name.clone()),
            Self::Samples(_) => Self::Samples(share),
            Self::Prompts(_) => Self::Prompts(share),
            Self::Rows(_) => Self::Rows(share),
            Self::MaxTokens(_) => Self::MaxTokens(share),
            Self::Sweep(_) => Self::Sweep(share),
        }
    }

    /// Whether both are about the same kind of thing.
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// In words, for the list of what was left out.
    pub fn words(&self) -> String {
        let (what, share) = match self {
            Self::Arm(name) => return format!("the arm {name}"),
            Self::Samples(share) => ("samples of each prompt", share),
            Self::Prompts(share) => ("prompts of each suite", share),
            Self::Rows(share) => ("training rows of each adapter", share),
            Self::MaxTokens(share) => ("tokens that an answer may have", share),
            Self::Sweep(share) => ("prompts and samples of the steering sweep", share),
        };
        format!("{what}: {:.0} % of the plan's are kept", 100.0 * share)
    }

    /// What is wrong with it as an entry of a plan.
    pub fn mistake(&self) -> Option<String> {
        let share = self.share().filter(|share| !(*share > 0.0 && *share < 1.0))?;
        Some(format!("{share} is not a share between 0 and 1"))
    }
}

impl Plan {
    /// This plan, with the inputs that it reads, after these things were given up; of several entries of one kind the last
    /// one counts.
    pub fn without(&self, given_up: &[GiveUp], inputs: &Inputs) -> Self {
        let part = |share: f64, whole: usize| ((share * whole as f64).ceil() as usize).max(1);
        let part_of = |share: f64, whole: u32| part(share, whole as usize) as u32;
        let mut plan = self.clone();
        for entry in given_up {
            match entry {
                GiveUp::Arm(name) => plan.drop_arm(name),
                GiveUp::Samples(share) => {
                    for suite in &inputs.suites {
                        plan.samples.insert(suite.name.clone(), part_of(*share, self.samples_of(&suite.name)));
                    }
                    let own = |arm: &ArmSpec| self.arms.iter().find(|whole| whole.name == arm.name).cloned();
                    for arm in &mut plan.arms {
                        let whole = own(arm).map(|whole| whole.samples).unwrap_or_default();
                        arm.samples = whole.into_iter().map(|(suite, n)| (suite, part_of(*share, n))).collect();
                    }
                }
                GiveUp::Prompts(share) => {
                    for suite in &inputs.suites {
                        let tested = suite.prompts.iter().filter(|p| p.split == Split::Test).count();
                        plan.prompts.insert(suite.name.clone(), part(*share, tested));
                    }
                }
                GiveUp::Rows(share) => {
                    for adapter in &mut plan.adapters {
                        let rows = inputs.training.get(&adapter.name).map_or(0, |set| set.rows);
                        adapter.max_train_rows = Some(part(*share, rows));
                    }
                }
                GiveUp::MaxTokens(share) => {
                    for suite in &inputs.suites {
                        plan.max_tokens.insert(suite.name.clone(), part(*share, suite.max_tokens));
                    }
                }
                GiveUp::Sweep(share) => {
                    plan.sweep.code_prompts = part(*share, self.sweep.code_prompts);
                    plan.sweep.question_samples = part_of(*share, self.sweep.question_samples);
                }
            }
        }
        plan
    }

    /// This plan within a budget, with what it gave up among what was left out.
    pub fn within(&self, budget: Budget, inputs: &Inputs) -> Self {
        let mut plan = self.without(&budget.given_up, inputs);
        let all = &budget.given_up;
        // Of several entries of one kind, the last one counts.
        let counts =
            |(at, entry): &(usize, &GiveUp)| entry.share().is_none() || !all[at + 1..].iter().any(|e| e.is_like(entry));
        let words =
            all.iter().enumerate().filter(counts).map(|(_, entry)| format!("for the budget: {}", entry.words()));
        plan.left_out.extend(words);
        plan.budget = Some(budget);
        plan
    }

    /// Removes an arm, the arms that use its cell of the sweep, and the adapters and vectors that nothing needs any more.
    fn drop_arm(&mut self, name: &str) {
        self.arms
            .retain(|arm| arm.name != name && !matches!(arm.choice(), Some(Choice::CellOf(other)) if other == name));
        // A control that is trained on as many tokens as an adapter means nothing without it.
        let in_use =
            |arms: &[ArmSpec], adapter: &str| arms.iter().any(|arm| arm.chain.iter().any(|link| link == adapter));
        let alone = |arms: &[ArmSpec], adapter: &AdapterPlan| {
            adapter.tokens_as.as_ref().is_some_and(|like| !in_use(arms, like)) && in_use(arms, &adapter.name)
        };
        while let Some(adapter) =
            self.adapters.iter().find(|adapter| alone(&self.arms, adapter)).map(|a| a.name.clone())
        {
            self.arms.retain(|arm| !arm.chain.contains(&adapter));
        }
        let arms = &self.arms;
        self.adapters.retain(|adapter| arms.iter().any(|arm| arm.chain.contains(&adapter.name)));
        let used = |name: &str| arms.iter().any(|arm| arm.steer.iter().any(|steer| steer.vector == name));
        let norms: Vec<String> = (self.vectors.iter().filter(|vector| used(&vector.name)))
            .filter_map(|vector| match &vector.method {
                VectorSource::Random { like, .. } => Some(like.clone()),
                VectorSource::MeanDifference { .. } => None,
            })
            .collect();
        self.vectors.retain(|vector| used(&vector.name) || norms.contains(&vector.name));
    }
}
