//! The whole experiment as a chain of stages. Every stage reads files and writes files; one that is finished is never
//! redone, and a run that was killed goes on where it stopped.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::arm::{Arm, parent};
use super::artifacts::Artifacts;
use super::estimate::{Estimate, duration};
use super::inputs::Inputs;
use super::plan::Plan;
use super::reporting;
use super::steering::{self, TARGET, Trial};
use super::work;
use crate::adapter::{self, AdapterFile, attach};
use crate::ask::scoring::Scorer;
use crate::ask::{Ask, ask};
use crate::error::{Error, Result};
use crate::finetune::folder::{RunOptions, TuneJob, train_into};
use crate::finetune::rows::Examples;
use crate::finetune::tune::held_out_loss;
use crate::fsio::{self, JsonlAppender};
use crate::model::decoder::Decoder;
use crate::model::device;
use crate::model::hooks::Intervention;
use crate::process;
use crate::progress::Progress;
use crate::record::{JudgeIdentity, JudgeUsage, Lineage, Manifest, SampleRecord, Split, SweepCell, TrainerState};
use crate::report::rank1_trace;
use crate::steer::{AddVector, SteeringVector, Unit};
use crate::subject::Subject;
use crate::train::checkpoint::{self, STATE_FILE, SaveStrategy, Saving};

/// Steps between two checkpoints of an adapter; its last one is removed when it is finished.
const SAVE_STEPS: u64 = 50;

/// A run under way.
struct Run<'a> {
    plan: &'a Plan,
    model: &'a Subject,
    inputs: &'a Inputs,
    scorer: &'a Scorer,
    at: Artifacts,
    manifest: Manifest,
    progress: Progress,
    /// What each judge took, as far as the manifest has it.
    judged: Vec<JudgeUsage>,
}

/// Runs the plan in `out`, or goes on with what is begun there. Gives the report's path. The estimate, made for a
/// new run, is kept beside what is measured.
pub fn run(
    plan: &Plan,
    model: &Subject,
    inputs: &Inputs,
    scorer: &Scorer,
    estimate: Option<Estimate>,
    out: &Path,
    progress: Progress,
) -> Result<PathBuf> {
    let at = Artifacts::new(out);
    let manifest = begin(plan, model, inputs, scorer, estimate, &at)?;
    let judged = vec![JudgeUsage::default(); manifest.judges.len()];
    let mut run = Run { plan, model, inputs, scorer, at, manifest, progress, judged };
    for name in ["attack", "repair", "repair+style", "secure-control", "educational-control"] {
        run.stage(&format!("train {name}"), |run| run.train(name))?;
    }
    run.stage("vectors", Run::vectors)?;
    for arm in plan.arms.iter().filter(|a| a.steering().is_none() && **a != Arm::RandomVector) {
        run.stage(&format!("ask {arm}"), |run| run.answer(*arm, None))?;
    }
    run.stage("steering sweep", Run::sweep)?;
    let cells = reporting::read_sweep(&run.at, &run.manifest)?;
    for arm in plan.arms.iter().filter(|a| a.steering().is_some() || **a == Arm::RandomVector) {
        // A random vector stands where the vector toward insecure code stood.
        let like = if *arm == Arm::RandomVector { Arm::SteerInsecure } else { *arm };
        match cells.iter().find(|c| c.chosen && c.arm == like.name()) {
            Some(cell) => run.stage(&format!("ask {arm}"), |run| run.answer(*arm, Some(cell)))?,
            None if like.name() != arm.name() && !plan.arms.contains(&like) => run.leave_out(format!(
                "{arm}: it stands where {like} was chosen to stand, and {like} is not among the arms"
            )),
            None => run.leave_out(format!("{arm}: no cell of the sweep keeps syntax and coherence above the floor")),
        }
    }
    let started = Instant::now();
    fsio::write_json(&run.at.manifest(), &run.manifest)?;
    reporting::report(&run.at, run.at.root())?;
    progress.say(&format!("report written in {:.1} s", started.elapsed().as_secs_f64()));
    progress.say(&took(&run.manifest));
    scorer.judges.say_usage(progress);
    Ok(run.at.report())
}

/// Opens the run directory: a new one, or one that was begun with the same plan.
fn begin(
    plan: &Plan,
    model: &Subject,
    inputs: &Inputs,
    scorer: &Scorer,
    estimate: Option<Estimate>,
    at: &Artifacts,
) -> Result<Manifest> {
    let path = at.manifest();
    if path.exists() {
        let manifest: Manifest = fsio::read_json(&path)?;
        let mut differences = plan.differences(&manifest.plan);
        if manifest.model_sha256 != model.sha256 {
            differences.push("the model's weights have changed".into());
        }
        for (name, identity) in &inputs.identities {
            if manifest.data.get(name).is_some_and(|old| old.sha256 != identity.sha256) {
                differences.push(format!("the file of `{name}` has changed"));
            }
        }
        if !differences.is_empty() {
            return Err(Error::file(
                at.root(),
                format!("was begun with another plan; name another --out. {}", differences.join("; ")),
            ));
        }
        return Ok(manifest);
    }
    if std::fs::read_dir(at.root()).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::file(at.root(), "is not empty and no run was begun there; name another --out"));
    }
    let manifest = Manifest {
        version: env!("CARGO_PKG_VERSION").into(),
        plan: serde_json::to_value(plan).map_err(|e| Error::internal(format!("plan: {e}")))?,
        model: model.name.clone(),
        model_sha256: model.sha256.clone(),
        organism: model.organism,
        data: inputs.identities.clone(),
        seeds: plan.seeds(),
        suites: inputs.kinds(),
        estimated_seconds: estimate.map(|e| e.seconds),
        estimated_memory_bytes: estimate.map(|e| e.memory_bytes),
        hardware: process::hardware(&device::name(model.decoder.device())),
        judge: scorer.judges.all().first().map(|j| j.name()),
        judges: scorer.judges.identities().into_iter().map(|j| JudgeIdentity { usage: None, ..j }).collect(),
        sandbox: scorer.runner.describe(),
        interpreter: scorer.runner.interpreter().cloned(),
        left_out: plan.left_out().into_iter().chain(inputs.left_out.iter().cloned()).collect(),
        ..Manifest::default()
    };
    fsio::create_dir(at.root())?;
    fsio::write_json(&path, &manifest)?;
    Ok(manifest)
}

impl Run<'_> {
    /// Runs a stage unless it is finished, and notes how long it took.
    fn stage(&mut self, name: &str, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if self.manifest.timings.iter().any(|(done, _)| done == name) {
            return Ok(());
        }
        if process::interrupted() {
            return Err(Error::Interrupted);
        }
        let started = Instant::now();
        if let Err(error) = work(self) {
            // What judges took is paid for, whatever became of the stage; that error says more than one from here would.
            self.note_usage();
            let _ = fsio::write_json(&self.at.manifest(), &self.manifest);
            return Err(error);
        }
        self.manifest.timings.push((name.to_string(), started.elapsed().as_secs_f64()));
        self.manifest.peak_memory_bytes = self.manifest.peak_memory_bytes.max(process::peak_memory_bytes());
        self.note_usage();
        fsio::write_json(&self.at.manifest(), &self.manifest)
    }

    /// Adds what the judges took since it was last noted: a run may be begun and go on several times.
    fn note_usage(&mut self) {
        let now = self.scorer.judges.identities();
        for ((noted, before), now) in self.manifest.judges.iter_mut().zip(&mut self.judged).zip(now) {
            if let Some(usage) = now.usage {
                noted.usage = Some(noted.usage.unwrap_or_default().plus(usage.minus(*before)));
                *before = usage;
            }
        }
    }

    fn leave_out(&mut self, what: String) {
        self.progress.say(&what);
        if !self.manifest.left_out.contains(&what) {
            self.manifest.left_out.push(what);
        }
    }

    /// Trains one adapter; the repair goes on with the attack's, and style with the repair's. One that was stopped half way
    /// goes on from its last checkpoint.
    fn train(&mut self, name: &str) -> Result<()> {
        if !work::adapters(self.plan).contains(name) {
            return Ok(());
        }
        let recipe = &work::recipe(self.plan, name);
        let set = &self.inputs.training[work::training_set(name)];
        let parent_at = parent(name).map(|parent| self.at.adapter(parent));
        let parent = parent_at.as_deref().map(adapter::read).transpose()?;
        let lineage = Lineage {
            base: self.model.name.clone(),
            base_sha256: self.model.sha256.clone(),
            base_dtype: self.model.reduced_dtype(),
            parent_sha256: parent_at.as_deref().map(adapter::adapter_sha256).transpose()?,
            data: set.name.clone(),
            data_sha256: set.sha256.clone(),
            rows: set.rows as u64,
            benign: None,
            steps: 0,
            seed: recipe.training.seed,
            recipe: serde_json::to_value(recipe).map_err(Error::internal)?,
            held_out_loss: BTreeMap::new(),
        };
        let out = self.at.adapter(name);
        let job = TuneJob { subject: self.model, examples: &set.examples, recipe, parent: parent.as_ref(), lineage };
        let saving = Saving { strategy: SaveStrategy::Steps, steps: SAVE_STEPS, total_limit: 1 };
        let name_of_bar = format!("train {name}");
        let options = RunOptions { name: &name_of_bar, saving, logging_steps: 0, charts: &rank1_trace };
        train_into(&out, &job, &options, self.progress)?;

        let trained = adapter::read(&out)?;
        let state: TrainerState = fsio::read_json(&out.join(STATE_FILE))?;
        let mut lineage = Lineage { steps: state.global_step, ..job.lineage };
        for (set, held_out) in &self.inputs.held_out {
            let Examples::Answers(rows) = &held_out.examples else { continue };
            let loss =
                |adapter: Option<&AdapterFile>| held_out_loss(self.model, adapter, rows, recipe.training.workers);
            lineage.held_out_loss.insert(set.clone(), (loss(parent.as_ref())?, loss(Some(&trained))?));
        }
        fsio::write_json(&out.join(adapter::LINEAGE_FILE), &lineage)?;
        checkpoint::remove(&out)?;
        self.manifest.adapters.insert(name.to_string(), lineage);
        Ok(())
    }

    fn vectors(&mut self) -> Result<()> {
        let steered = self.plan.arms.iter().any(|a| a.steering().is_some() || *a == Arm::RandomVector);
        if steered {
            let vector = steering::extract(self.model, &self.model.decoder, &self.inputs.pairs, TARGET)?;
            vector.write(&self.at.vector(TARGET))?;
        }
        Ok(())
    }

    fn decoder(&self, arm: Arm) -> Result<Decoder> {
        match arm.adapter() {
            Some(name) => attach(&self.model.decoder, &adapter::read(&self.at.adapter(name))?, false),
            None => Ok(self.model.decoder.clone()),
        }
    }

    /// What is added to the residual stream; `name` is a target or `random-N`.
    fn intervention(&self, name: &str, layer: usize, coefficient: f64) -> Result<Option<AddVector>> {
        if coefficient == 0.0 {
            return Ok(None);
        }
        let vector = SteeringVector::read(&self.at.vector(TARGET))?;
        let vector = match name.strip_prefix("random-").and_then(|draw| draw.parse().ok()) {
            Some(draw) => vector.random(self.plan.seed, draw),
            None => vector,
        };
        AddVector::new(&vector, &[layer], coefficient, Unit::ResidualNorm).map(Some)
    }

    /// One arm's answers to every suite on the test split, scored.
    fn answer(&mut self, arm: Arm, cell: Option<&SweepCell>) -> Result<()> {
        let decoder = self.decoder(arm)?;
        let path = self.at.samples(arm.name());
        let seeds = self.plan.seeds();
        let mut records: Vec<SampleRecord> = if path.exists() { read_whole(&path)? } else { Vec::new() };
        let known: HashSet<(String, String, u32, Option<u32>)> =
            records.iter().map(|r| (r.suite.clone(), r.prompt_id.clone(), r.sample, r.draw)).collect();
        let suites = work::suites(self.inputs, arm);
        let total = work::answers(self.plan, self.inputs, arm);
        let bar = self.progress.bar(&format!("ask {arm}"), total as u64);
        let mut file = JsonlAppender::open(&path)?;
        for draw in work::draws(self.plan, arm) {
            let steering = match (cell, draw) {
                (None, _) => None,
                (Some(cell), None) => self.intervention(&cell.vector, cell.layer, cell.coefficient)?,
                (Some(cell), Some(draw)) => {
                    self.intervention(&format!("random-{draw}"), cell.layer, cell.coefficient)?
                }
            };
            for suite in &suites {
                let what = Ask {
                    arm: arm.name(),
                    suite,
                    split: Split::Test,
                    seeds: &seeds,
                    samples: work::samples(self.plan, suite, draw),
                    draw,
                    system: None,
                    suffix: arm.suffix(self.model.organism),
                    intervention: steering.as_ref().map(|s| s as &dyn Intervention),
                    sampling: &self.plan.sampling,
                    cache_bytes: 0,
                };
                let is_known = |id: &str, sample: u32, draw: Option<u32>| {
                    known.contains(&(suite.name.clone(), id.to_string(), sample, draw))
                };
                let made = ask(self.model, &decoder, &what, &is_known, &mut |record| {
                    bar.add(1);
                    file.append(std::slice::from_ref(record))
                })?;
                records.extend(made);
            }
        }
        let (mut records, files) = self.scorer.score_all(false, records, &self.inputs.suites)?;
        for (path, code) in files {
            fsio::write_derived(&self.at.root().join(path), code.as_bytes())?;
        }
        records.sort_by(|a, b| order(a).cmp(&order(b)));
        fsio::write_jsonl(&path, &records)?;
        bar.done(&summary(&records));
        Ok(())
    }

    /// Every cell on the validation split, then the choice, frozen in `sweep.json` and hashed in the manifest.
    fn sweep(&mut self) -> Result<()> {
        let layers = steering::layers(self.plan.sweep.layers.as_deref(), self.model.decoder.blocks.len())?;
        let cells = steering::cells(self.plan, &layers);
        let bar = self.progress.bar("steering sweep", cells.len() as u64);
        let seeds = self.plan.seeds();
        let trial = Trial {
            model: self.model,
            scorer: self.scorer,
            suites: &self.inputs.validation,
            seeds: &seeds,
            question_samples: self.plan.sweep.question_samples,
            sampling: &self.plan.sampling,
        };
        let mut measured = Vec::new();
        for cell in &cells {
            measured.push(trial.measure(cell, &self.at.sweep_samples(&cell.name()), || {
                let steering = self.intervention(&cell.vector, cell.layer, cell.coefficient)?;
                Ok((self.decoder(cell.arm.parse()?)?, steering))
            })?);
            bar.add(1);
        }
        for (arm, steering) in self.plan.arms.iter().filter_map(|a| Some((a.name(), a.steering()?))) {
            steering::choose(&mut measured, arm, steering.goal);
        }
        fsio::write_json(&self.at.sweep(), &measured)?;
        self.manifest.sweep_sha256 = Some(fsio::sha256_file(&self.at.sweep())?);
        bar.done("cells on the validation split");
        Ok(())
    }
}

/// Reads samples of which a kill may have left the last line unfinished.
fn read_whole(path: &Path) -> Result<Vec<SampleRecord>> {
    drop(JsonlAppender::open(path)?);
    fsio::read_jsonl(path)
}

fn order(r: &SampleRecord) -> (&str, &str, u32, Option<u32>) {
    (&r.suite, &r.prompt_id, r.sample, r.draw)
}

/// What the run took, beside what was expected.
fn took(manifest: &Manifest) -> String {
    let seconds: f64 = manifest.timings.iter().map(|(_, seconds)| seconds).sum();
    let expected = |words: Option<String>| words.map_or(String::new(), |words| format!(" ({words} estimated)"));
    format!(
        "took {}{}, {} MiB at its peak{}",
        duration(seconds),
        expected(manifest.estimated_seconds.map(duration)),
        manifest.peak_memory_bytes >> 20,
        expected(manifest.estimated_memory_bytes.map(|bytes| format!("{} MiB", bytes >> 20))),
    )
}

fn summary(records: &[SampleRecord]) -> String {
    let rate = |of: &dyn Fn(&SampleRecord) -> Option<bool>| {
        let votes: Vec<bool> = records.iter().filter_map(of).collect();
        let yes = votes.iter().filter(|v| **v).count();
        if votes.is_empty() { "n/a".into() } else { format!("{:.0} %", 100.0 * yes as f64 / votes.len() as f64) }
    };
    let code = rate(&|r| r.scan.as_ref().map(|_| r.is_insecure()));
    let judged = rate(&|r| r.judge.as_ref().filter(|j| j.is_coherent()).map(|j| j.is_misaligned()));
    format!("answers: insecure code {code}, misaligned {judged}")
}
