//! A training in its own folder: logs that grow with every step, checkpoints, and resuming from the newest of them.
//!
//! ```text
//! OUT/log_history.jsonl        one record a step, appended when the step ends
//! OUT/events.out.tfevents.*    the same for TensorBoard
//! OUT/checkpoint-{step}/       see train::checkpoint
//! OUT/trainer_state.json, realign.json, adapter_config.json, adapter_model.safetensors
//!                              once it is finished, the weights last
//! ```

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::rows::Examples;
use super::tune::tune_from;
use crate::adapter::{self, AdapterFile};
use crate::error::{Error, Result};
use crate::fsio::{self, Appender};
use crate::progress::Progress;
use crate::record::{Lineage, Recipe, StepRecord, TrainerState};
use crate::subject::Subject;
use crate::train::checkpoint::{self, STATE_FILE, Saving};
use crate::train::events;

const LOG_FILE: &str = "log_history.jsonl";

/// What is trained; the result depends on this alone.
pub struct TuneJob<'a> {
    /// The model to train; its base gets the adapter.
    pub subject: &'a Subject,
    /// The encoded rows to train on.
    pub examples: &'a Examples,
    /// Adapter, loss, optimiser and schedule.
    pub recipe: &'a Recipe,
    /// The adapter that is continued; `None` makes a fresh one.
    pub parent: Option<&'a AdapterFile>,
    /// Hashes of base, data and recipe; a checkpoint with other hashes is not resumed.
    pub lineage: Lineage,
}

/// The names and bytes of files that are derived from a finished training's log.
pub type DerivedFiles = Vec<(&'static str, Vec<u8>)>;

/// How a training is saved and shown.
pub struct RunOptions<'a> {
    /// What the progress bar calls it.
    pub name: &'a str,
    /// When checkpoints are written, and how many are kept.
    pub saving: Saving,
    /// Steps between two lines about the loss; 0 prints none.
    pub logging_steps: u64,
    /// Charts of the finished log, written beside it.
    pub charts: &'a dyn Fn(&[StepRecord]) -> Result<DerivedFiles>,
}

/// What a folder already holds of a training.
enum Begun {
    Nothing,
    Checkpoint(Box<checkpoint::Checkpoint>),
    Finished,
}

/// Trains into `out`, or resumes what was started there. After a crash, a signal or an error the newest checkpoint is
/// complete.
pub fn train_into(out: &Path, job: &TuneJob, options: &RunOptions, progress: Progress) -> Result<()> {
    let from = match begun(out, job, progress)? {
        Begun::Nothing => None,
        Begun::Checkpoint(checkpoint) => {
            let snapshot = checkpoint.snapshot(&job.subject.base)?;
            let (step, total) = (snapshot.state.global_step, snapshot.state.max_steps);
            progress.say(&format!("resuming from {}: step {step} of {total}", checkpoint.dir.display()));
            Some(snapshot)
        }
        Begun::Finished => {
            progress.say(&format!(
                "{} is finished (adapter {:.12}); nothing to do",
                out.display(),
                adapter::adapter_sha256(out)?
            ));
            return Ok(());
        }
    };
    let untouched = !is_used(out);
    fsio::create_dir(out)?;
    let mut log = Log::begin(out, from.as_ref().map(|snapshot| &snapshot.state))?;
    fsio::remove_leftovers(out)?;

    let total = job.recipe.training.steps(job.examples.len());
    let mut done = from.as_ref().map_or(0, |snapshot| snapshot.state.global_step);
    let bar = progress.bar(options.name, total);
    bar.add(done);
    let trained = tune_from(job.subject, job.examples, job.recipe, job.parent, from.as_ref(), &mut |end, now| {
        let step = end.record;
        done = step.step;
        log.append(step)?;
        bar.add(1);
        bar.note(format!("loss {:.3}, {:.0} tokens/s", step.loss, step.tokens_per_second));
        if progress != Progress::Terminal {
            say_step(step, total, options.logging_steps, progress);
        }
        if options.saving.due(step, total) || (end.stopping && step.step < total) {
            let (snapshot, adapter) = now()?;
            let dir = checkpoint::write(out, &snapshot, Some(&adapter), &job.lineage)?;
            checkpoint::prune(out, step.step, options.saving.total_limit)?;
            if end.stopping {
                progress.say(&format!("stopped after step {} of {total}, saved in {}", step.step, dir.display()));
            }
        }
        Ok(())
    });
    let finished = trained.and_then(|(file, state)| {
        let lineage = Lineage { steps: state.global_step, ..job.lineage.clone() };
        // A rank-1 adapter's local cosine needs later steps, so the appended lines do not have it yet.
        log.steps.replace(&fsio::json_lines(&state.log_history)?)?;
        fsio::write_json(&out.join(STATE_FILE), &state)?;
        for (name, bytes) in (options.charts)(&state.log_history)? {
            fsio::write_derived(&out.join(name), &bytes)?;
        }
        adapter::write_files(out, &file, &lineage)?;
        Ok(state)
    });
    match finished {
        Ok(state) => {
            let loss = |step: Option<&StepRecord>| step.map_or(f64::NAN, |s| s.loss);
            let (first, last) = (loss(state.log_history.first()), loss(state.log_history.last()));
            bar.done(&format!("steps, loss {first:.3} to {last:.3}"));
            progress.say(&format!("adapter {:.12} written to {}", adapter::adapter_sha256(out)?, out.display()));
            Ok(())
        }
        Err(error) if untouched && done == 0 => {
            // Nothing was trained, so no folder is left behind. An error in removing it would hide the one that matters.
            let _ = fsio::remove_dir(out);
            Err(error)
        }
        Err(error) => Err(way_out(error, out, done)),
    }
}

/// What a folder holds of this training.
fn begun(out: &Path, job: &TuneJob, progress: Progress) -> Result<Begun> {
    if !is_used(out) {
        return Ok(Begun::Nothing);
    }
    if out.join(adapter::WEIGHTS_FILE).is_file() {
        let lineage = adapter::read_lineage(out)?
            .ok_or_else(|| Error::file(out, "holds an adapter that realign did not make; name another --out"))?;
        same(&lineage, &job.lineage, out)?;
        return Ok(Begun::Finished);
    }
    if !out.join(LOG_FILE).is_file() {
        return Err(Error::file(out, "is not empty and holds no training to resume; name another --out"));
    }
    let whole = checkpoint::latest(out, &mut |dir, error| {
        progress.say(&format!("skipped the incomplete checkpoint {}: {error}", dir.display()));
    });
    match whole {
        Some(checkpoint) => {
            same(&checkpoint.lineage, &job.lineage, &checkpoint.dir)?;
            Ok(Begun::Checkpoint(Box::new(checkpoint)))
        }
        None => {
            progress.say(&format!("{} has no checkpoint yet: starting at step 1", out.display()));
            Ok(Begun::Nothing)
        }
    }
}

/// Whether a path is a file, or a folder that is not empty.
pub fn is_used(out: &Path) -> bool {
    match std::fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => out.exists(),
    }
}

/// Refuses to resume a training that was started with different settings, and lists the differences.
pub fn same(then: &Lineage, now: &Lineage, dir: &Path) -> Result<()> {
    let differences = differences(then, now);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::file(
        dir,
        format!(
            "was started with different settings and cannot be resumed: {}. Give the settings it was started with, or name \
             another --out",
            differences.join("; ")
        ),
    ))
}

fn differences(then: &Lineage, now: &Lineage) -> Vec<String> {
    let short = |hash: &str| format!("{hash:.12}");
    let parent = |lineage: &Lineage| lineage.parent_sha256.as_deref().map_or("none".to_string(), short);
    let dtype = |lineage: &Lineage| lineage.base_dtype.clone().unwrap_or_else(|| "f32".to_string());
    let benign = |lineage: &Lineage| match &lineage.benign {
        Some(rows) => format!("{} ({:.12})", rows.rows, rows.data_sha256),
        None => "none".to_string(),
    };
    let mut pairs = vec![
        ("base".to_string(), short(&then.base_sha256), short(&now.base_sha256)),
        ("dtype".to_string(), dtype(then), dtype(now)),
        ("continued adapter".to_string(), parent(then), parent(now)),
        ("data".to_string(), short(&then.data_sha256), short(&now.data_sha256)),
        ("rows".to_string(), then.rows.to_string(), now.rows.to_string()),
        ("benign rows".to_string(), benign(then), benign(now)),
    ];
    let (then, now) = (leaves(&then.recipe), leaves(&now.recipe));
    let names: std::collections::BTreeSet<&String> = then.iter().chain(&now).map(|(name, _)| name).collect();
    // The result does not depend on these.
    for name in names.into_iter().filter(|name| !["workers", "gradient_checkpointing"].contains(&name.as_str())) {
        let of = |all: &[(String, String)]| {
            all.iter().find(|(key, _)| key == name).map_or("not set".to_string(), |(_, value)| value.clone())
        };
        pairs.push((name.clone(), of(&then), of(&now)));
    }
    pairs.retain(|(_, then, now)| then != now);
    pairs.into_iter().map(|(name, then, now)| format!("{name} was {then}, is {now}")).collect()
}

/// The settings of a recipe by name, as they read back from a file.
fn leaves(recipe: &Value) -> Vec<(String, String)> {
    // A float may come back from JSON one unit in the last place off: both sides go through it.
    let recipe: Value = serde_json::from_str(&recipe.to_string()).unwrap_or_default();
    let mut all = Vec::new();
    for (key, value) in recipe.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => all.extend(leaves(value)),
            _ => all.push((key.clone(), value.to_string())),
        }
    }
    all
}

/// An error after step `done`, with the checkpoint that is left and how to resume from it.
fn way_out(error: Error, out: &Path, done: u64) -> Error {
    let last = checkpoint::latest(out, &mut |_, _| {});
    let dir = last.as_ref().map(|checkpoint| checkpoint.dir.display().to_string());
    let whole = match &dir {
        Some(dir) => format!("the last checkpoint, {dir}, is whole"),
        None => format!("there was no checkpoint yet in {}", out.display()),
    };
    match (error, dir) {
        (Error::Diverged(why), Some(dir)) => {
            let own = last.is_some_and(|checkpoint| checkpoint.lineage.steps == done);
            let own = if own { " (it holds the weights that diverged)" } else { "" };
            Error::Diverged(format!(
                "{why}. {}{own} and is an adapter: continue it with --adapter {dir}, a lower --learning-rate and another \
                 --out (--resume would repeat the same steps)",
                capital(&whole)
            ))
        }
        (Error::Diverged(why), None) => Error::Diverged(format!("{why}. {}: start again", capital(&whole))),
        (Error::File { path, message }, _) => {
            let how = "fix the cause, then run the same command with --resume";
            Error::File { path, message: format!("{message}. {}; {how}", capital(&whole)) }
        }
        (error, _) => error,
    }
}

fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn say_step(step: &StepRecord, total: u64, logging_steps: u64, progress: Progress) {
    if logging_steps > 0 && (step.step.is_multiple_of(logging_steps) || step.step == total) {
        let kl = step.kl.map(|kl| format!(", KL {kl:.4}")).unwrap_or_default();
        let rewards = step
            .rewards
            .map(|r| format!(", margin {:.3}, {:.0} % of pairs ranked correctly", r.margins, 100.0 * r.accuracies));
        progress.say(&format!(
            "step {}/{total}: loss {:.4}{kl}{}, gradient norm {:.3}, learning rate {:.2e}",
            step.step,
            step.loss,
            rewards.unwrap_or_default(),
            step.grad_norm,
            step.learning_rate
        ));
    }
}

/// The logs that grow with every step.
struct Log {
    steps: Appender,
    events: Appender,
}

impl Log {
    /// Claims the folder and writes the steps that are done already.
    fn begin(out: &Path, done: Option<&TrainerState>) -> Result<Self> {
        let mut steps = Appender::restart(&out.join(LOG_FILE))?;
        if let Some(state) = done {
            steps.append(&fsio::json_lines(&state.log_history)?)?;
        }
        // TensorBoard reads a folder's event files in the order of their names.
        let name = format!("events.out.tfevents.{:014.3}.realign", now());
        let mut events = Appender::restart(&out.join(name))?;
        events.append(&events::begin(now(), done.map_or(0, |state| state.global_step) + 1))?;
        Ok(Self { steps, events })
    }

    fn append(&mut self, step: &StepRecord) -> Result<()> {
        self.steps.append(&fsio::json_lines(std::slice::from_ref(step))?)?;
        let mut values = vec![
            ("train/loss", step.loss),
            ("train/grad_norm", step.grad_norm),
            ("train/learning_rate", step.learning_rate),
            ("train/tokens_per_second", step.tokens_per_second),
            ("train/peak_memory_bytes", step.peak_memory_bytes as f64),
            ("train/epoch", step.epoch),
        ];
        values.extend(step.kl.map(|kl| ("train/kl", kl)));
        if let Some(rewards) = step.rewards {
            values.extend([
                ("train/rewards/chosen", rewards.chosen),
                ("train/rewards/rejected", rewards.rejected),
                ("train/rewards/accuracies", rewards.accuracies),
                ("train/rewards/margins", rewards.margins),
            ]);
        }
        self.events.append(&events::scalars(now(), step.step, &values))
    }
}

/// The time in seconds since 1970, for TensorBoard.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
