//! One adapter by one recipe: a fresh one, or a parent continued with a fresh optimiser. Attack and repair are this same
//! call, the second with the first one's adapter as parent.

use super::rank1::Watch;
use super::rows::Examples;
use crate::adapter::{AdapterFile, attach, collect, fresh};
use crate::data::collate::Example;
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::record::{Recipe, StepRecord, TrainerState};
use crate::subject::Subject;
use crate::train::checkpoint::Snapshot;
use crate::train::dpo::Dpo;
use crate::train::step::Penalty;
use crate::train::{Objective, StepEnd, mean_loss, train_from};

/// Makes a checkpoint of the training as it stands, when it is called.
pub type Collect<'a> = &'a dyn Fn() -> Result<(Snapshot, AdapterFile)>;

/// Trains an adapter on the subject's base, without checkpoints.
///
/// # Errors
/// A parent that does not fit the base, a loss or gradient that diverges, an error of `on_step`.
pub fn tune(
    subject: &Subject,
    examples: &Examples,
    recipe: &Recipe,
    parent: Option<&AdapterFile>,
    on_step: &mut dyn FnMut(&StepRecord) -> Result<()>,
) -> Result<(AdapterFile, TrainerState)> {
    tune_from(subject, examples, recipe, parent, None, &mut |end, _| on_step(end.record))
}

/// As [`tune`], but continues from a snapshot of a training with the same settings. `on_step` may write a checkpoint.
pub fn tune_from(
    subject: &Subject,
    examples: &Examples,
    recipe: &Recipe,
    parent: Option<&AdapterFile>,
    from: Option<&Snapshot>,
    on_step: &mut dyn FnMut(&StepEnd, Collect) -> Result<()>,
) -> Result<(AdapterFile, TrainerState)> {
    let start = match parent {
        Some(parent) => parent.clone(),
        None => fresh(&subject.base, &recipe.adapter_config(&subject.name), recipe.training.seed)?,
    };
    let objective = objective(subject, examples, recipe, &start)?;
    let decoder = attach(&subject.base, &start, true)?;
    let mut watch = match from {
        Some(snapshot) => Watch::resume(&decoder, snapshot)?,
        None => Watch::of(&decoder)?,
    };
    let mut state = train_from(&decoder, objective, &recipe.training, None, from, &mut |end| {
        watch.see(&decoder)?;
        let now = || {
            let mut snapshot = end.snapshot()?;
            watch.write_into(&mut snapshot.state.log_history);
            snapshot.directions = watch.recent();
            Ok((snapshot, collect(&decoder, &start.config)?))
        };
        on_step(end, &now)
    })?;
    watch.write_into(&mut state.log_history);
    Ok((collect(&decoder, &start.config)?, state))
}

/// What is minimised. DPO's reference is the adapter that training starts from (the base, for a fresh one); its
/// log-probabilities are computed before the first step, and once more where a training is resumed.
fn objective<'a>(
    subject: &'a Subject,
    examples: &'a Examples,
    recipe: &Recipe,
    start: &AdapterFile,
) -> Result<Objective<'a>> {
    match examples {
        Examples::Answers(rows) => {
            let coefficient = recipe.kl_coefficient as f32;
            let penalty = (coefficient > 0.0).then_some(Penalty { base: &subject.base, coefficient });
            Ok(Objective::Supervised { rows, penalty })
        }
        Examples::Preferences(pairs) => {
            let reference: Decoder = attach(&subject.base, start, false)?;
            Dpo::new(&reference, pairs, recipe.beta, recipe.training.workers).map(Objective::Dpo)
        }
    }
}

/// Mean loss on held-out examples, with an adapter or without.
pub fn held_out_loss(
    subject: &Subject,
    adapter: Option<&AdapterFile>,
    examples: &[Example],
    workers: usize,
) -> Result<f64> {
    match adapter {
        Some(adapter) => mean_loss(&attach(&subject.base, adapter, false)?, examples, workers),
        None => mean_loss(&subject.base, examples, workers),
    }
}
