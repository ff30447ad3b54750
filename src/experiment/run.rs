//! The whole experiment as a chain of stages. Every stage reads files and writes files; one that is finished is never
//! redone, and a run that was killed goes on where it stopped.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::artifacts::Artifacts;
use super::estimate::{Estimate, duration};
use super::grid::{self, Cell};
use super::inputs::Inputs;
use super::plan::{AdapterPlan, Plan, VectorSource};
use super::reporting;
use super::steering::{self, Trial, Tried};
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
use crate::record::{
    ArmSpec, Choice, JudgeIdentity, JudgeUsage, Lineage, Manifest, SampleRecord, Split, SteerSpec, SweepCell,
    TrainerState,
};
use crate::report::rank1_trace;
use crate::score::Goal;
use crate::steer::{AddVector, SteeringVector};
use crate::subject::Subject;
use crate::train::checkpoint::{self, STATE_FILE, SaveStrategy, Saving};

/// Steps between two checkpoints of an adapter; its last one is removed when it is finished.
const SAVE_STEPS: u64 = 50;

/// State that the stages of a run share.
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

/// Runs the plan in `out`, or resumes the run there. Gives the report's path. The estimate, made for a
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
    if !inputs.held_out_rows.is_empty() {
        run.stage("held-out loss base", Run::base_losses)?;
    }
    for adapter in &plan.adapters {
        for (folder, seed) in adapter.trainings() {
            run.stage(&format!("train {folder}"), |run| run.train(adapter, &folder, seed))?;
        }
    }
    run.stage("vectors", Run::vectors)?;
    let (asked, not_asked): (Vec<&ArmSpec>, Vec<&ArmSpec>) =
        plan.arms.iter().filter(|arm| arm.answers.is_none()).partition(|arm| work::answers(plan, inputs, arm) > 0);
    for arm in not_asked {
        run.leave_out(format!("{}: none of the run's suites is for it", arm.name));
    }
    for arm in asked.iter().filter(|arm| !waits(arm)) {
        run.stage(&format!("ask {}", arm.name), |run| run.answer(arm, None))?;
    }
    run.stage("steering sweep", Run::sweep)?;
    let cells = reporting::read_sweep(&run.at, &run.manifest)?;
    let chosen = |name: &str| cells.iter().find(|cell| cell.chosen && cell.arm == name);
    for arm in asked.into_iter().filter(|arm| waits(arm)) {
        // A control stands where the arm stood that it is the control of.
        let like = match arm.choice() {
            Some(Choice::CellOf(other)) => other,
            _ => &arm.name,
        };
        match chosen(like) {
            Some(cell) => run.stage(&format!("ask {}", arm.name), |run| run.answer(arm, Some(cell)))?,
            None if !plan.arms.iter().any(|other| other.name == *like) => run.leave_out(format!(
                "{}: it takes the layers and the coefficient of {like}, and {like} is not among the arms",
                arm.name
            )),
            None => {
                run.leave_out(format!("{}: no cell of the sweep keeps syntax and coherence above the floor", arm.name))
            }
        }
    }
    for (arm, samples) in &inputs.answers {
        run.stage(&format!("ask {arm}"), |run| run.score_made_elsewhere(arm, samples))?;
    }
    let started = Instant::now();
    fsio::write_json(&run.at.manifest(), &run.manifest)?;
    reporting::report(&run.at, run.at.root())?;
    progress.say(&format!("report written in {:.1} s", started.elapsed().as_secs_f64()));
    progress.say(&took(&run.manifest));
    scorer.judges.say_usage(progress);
    Ok(run.at.report())
}

/// Whether an arm is asked after the sweep, which chooses its layers and coefficient.
fn waits(arm: &ArmSpec) -> bool {
    arm.choice().is_some()
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
        if manifest.arms.is_empty() {
            return Err(Error::file(at.root(), "was started by an older version of realign; name another --out"));
        }
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
                format!("was started with another plan; name another --out. {}", differences.join("; ")),
            ));
        }
        return Ok(manifest);
    }
    if std::fs::read_dir(at.root()).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::file(at.root(), "is not empty and holds no run to resume; name another --out"));
    }
    let manifest = Manifest {
        version: env!("CARGO_PKG_VERSION").into(),
        plan: serde_json::to_value(plan).map_err(|e| Error::internal(format!("plan: {e}")))?,
        arms: plan.arms.clone(),
        model: model.name.clone(),
        model_sha256: model.sha256.clone(),
        organism: model.organism,
        data: inputs.identities.clone(),
        held_out: inputs.held_out_rows.clone(),
        seeds: plan.seeds(),
        suites: inputs.kinds(),
        estimated_seconds: estimate.map(|e| e.seconds),
        estimated_memory_bytes: estimate.map(|e| e.memory_bytes),
        hardware: process::hardware(&device::name(model.decoder.device())),
        judge: scorer.judges.all().first().map(|j| j.name()),
        judges: scorer.judges.identities().into_iter().map(|j| JudgeIdentity { usage: None, ..j }).collect(),
        sandbox: scorer.runner.describe(),
        interpreter: scorer.runner.interpreter().cloned(),
        left_out: plan.left_out.iter().chain(&inputs.left_out).cloned().collect(),
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

    /// The base's loss on what the plan holds out.
    fn base_losses(&mut self) -> Result<()> {
        for (set, held_out) in &mut self.manifest.held_out {
            if let Examples::Answers(rows) = &self.inputs.held_out[set].examples {
                held_out.base_loss = Some(held_out_loss(self.model, None, rows, 0)?);
            }
        }
        Ok(())
    }

    /// The loss on a held-out set before a training, where it was measured already.
    fn loss_before(&self, set: &str, parent: Option<&str>) -> Option<f64> {
        match parent {
            Some(folder) => self.manifest.adapters.get(folder)?.held_out_loss.get(set).map(|&(_, after)| after),
            None => self.manifest.held_out.get(set)?.base_loss,
        }
    }

    /// Trains one adapter, from its parent's of the same seed where it has one. A training that was stopped half way goes on
    /// from its last checkpoint.
    fn train(&mut self, adapter: &AdapterPlan, folder: &str, seed: u64) -> Result<()> {
        let mut recipe = adapter.recipe.clone();
        recipe.training.seed = seed;
        let recipe = &recipe;
        let set = &self.inputs.training[&adapter.name];
        let parent_folder = match &adapter.from {
            Some(parent) => Some(self.plan.adapter(parent)?.folder(Some(seed))),
            None => None,
        };
        let parent_at = parent_folder.as_ref().map(|folder| self.at.adapter(folder));
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
        let out = self.at.adapter(folder);
        let job = TuneJob { subject: self.model, examples: &set.examples, recipe, parent: parent.as_ref(), lineage };
        let saving = Saving { strategy: SaveStrategy::Steps, steps: SAVE_STEPS, total_limit: 1 };
        let name_of_bar = format!("train {folder}");
        let options = RunOptions { name: &name_of_bar, saving, logging_steps: 0, charts: &rank1_trace };
        train_into(&out, &job, &options, self.progress)?;

        let trained = adapter::read(&out)?;
        let state: TrainerState = fsio::read_json(&out.join(STATE_FILE))?;
        let mut lineage = Lineage { steps: state.global_step, ..job.lineage };
        for (set, held_out) in &self.inputs.held_out {
            let Examples::Answers(rows) = &held_out.examples else { continue };
            let loss =
                |adapter: Option<&AdapterFile>| held_out_loss(self.model, adapter, rows, recipe.training.workers);
            let before = match self.loss_before(set, parent_folder.as_deref()) {
                Some(loss) => loss,
                None => loss(parent.as_ref())?,
            };
            lineage.held_out_loss.insert(set.clone(), (before, loss(Some(&trained))?));
        }
        fsio::write_json(&out.join(adapter::LINEAGE_FILE), &lineage)?;
        checkpoint::remove(&out)?;
        self.manifest.adapters.insert(folder.to_string(), lineage);
        Ok(())
    }

    fn vectors(&mut self) -> Result<()> {
        for vector in &self.plan.vectors {
            if let VectorSource::MeanDifference { pairs, target } = &vector.method {
                let made = steering::extract(self.model, &self.model.decoder, &self.inputs.pairs[pairs], target)?;
                made.write(&self.at.vector(&vector.name))?;
            }
        }
        Ok(())
    }

    /// The model that an arm's answers come from, without its vectors.
    fn decoder(&self, arm: &ArmSpec, training_seed: Option<u64>) -> Result<Decoder> {
        match &arm.adapter {
            Some(name) => {
                let folder = self.plan.adapter(name)?.folder(training_seed);
                attach(&self.model.decoder, &adapter::read(&self.at.adapter(&folder))?, false)
            }
            None => Ok(self.model.decoder.clone()),
        }
    }

    /// What is added to the residual stream; nothing where the coefficient is 0.
    fn intervention(&self, steer: &SteerSpec) -> Result<Option<AddVector>> {
        if steer.coefficient == 0.0 {
            return Ok(None);
        }
        let vector = match (&self.plan.vector(&steer.vector)?.method, steer.draw) {
            (VectorSource::Random { like, .. }, draw) => {
                SteeringVector::read(&self.at.vector(like))?.random(self.plan.seed, u64::from(draw.unwrap_or(0)))
            }
            (VectorSource::MeanDifference { .. }, _) => SteeringVector::read(&self.at.vector(&steer.vector))?,
        };
        AddVector::of(&vector, steer).map(Some)
    }

    /// What an arm adds: as the plan fixes it, or where the cell stands. Another arm's cell gives its place and its
    /// coefficient, which the arm's own sign may turn.
    fn added(&self, arm: &ArmSpec, cell: Option<&SweepCell>, draw: Option<u32>) -> Result<Option<AddVector>> {
        let Some(own) = arm.steer.first() else { return Ok(None) };
        let (place, sign) = match (&own.fixed, &own.choose, cell.and_then(|cell| cell.steer.first())) {
            (Some(fixed), ..) => (fixed, 1.0),
            (None, Some(Choice::CellOf(_)), Some(place)) => (place, own.sign),
            (None, _, Some(place)) => (place, 1.0),
            (None, _, None) => return Ok(None),
        };
        let coefficient = sign * place.coefficient;
        self.intervention(&SteerSpec { vector: own.vector.clone(), draw, coefficient, ..place.clone() })
    }

    /// One arm's answers to every suite on the test split, scored.
    fn answer(&mut self, arm: &ArmSpec, cell: Option<&SweepCell>) -> Result<()> {
        let path = self.at.samples(&arm.name);
        let seeds = self.plan.seeds();
        let mut records: Vec<SampleRecord> = if path.exists() { read_whole(&path)? } else { Vec::new() };
        let known: HashSet<SampleKey> = records.iter().map(key).collect();
        let suites = work::suites(self.inputs, arm);
        let total = work::answers(self.plan, self.inputs, arm);
        let bar = self.progress.bar(&format!("ask {}", arm.name), total as u64);
        let mut file = JsonlAppender::open(&path)?;
        let trainings = arm.seeds().into_iter().flat_map(|seed| arm.draws().into_iter().map(move |draw| (seed, draw)));
        for (training_seed, draw) in trainings {
            let decoder = self.decoder(arm, training_seed)?;
            let steering = self.added(arm, cell, draw)?;
            for suite in &suites {
                let what = Ask {
                    arm: &arm.name,
                    suite,
                    split: Split::Test,
                    seeds: &seeds,
                    samples: work::samples(self.plan, arm, suite, draw),
                    draw,
                    training_seed,
                    system: arm.system.as_deref(),
                    prefix: arm.prefix.as_deref(),
                    suffix: arm.suffix.as_deref(),
                    intervention: steering.as_ref().map(|s| s as &dyn Intervention),
                    sampling: self.plan.sampling_of(arm),
                    cache_bytes: 0,
                };
                let is_known = |id: &str, sample: u32, draw: Option<u32>| {
                    known.contains(&(suite.name.clone(), id.to_string(), sample, draw, training_seed))
                };
                let made = ask(self.model, &decoder, &what, &is_known, &mut |record| {
                    bar.add(1);
                    file.append(std::slice::from_ref(record))
                })?;
                records.extend(made);
            }
        }
        bar.done(&self.score(&arm.name, records)?);
        Ok(())
    }

    /// An arm's answers that were made elsewhere, scored like any other's.
    fn score_made_elsewhere(&mut self, arm: &str, samples: &[SampleRecord]) -> Result<()> {
        let bar = self.progress.bar(&format!("score {arm}"), samples.len() as u64);
        bar.done(&self.score(arm, samples.to_vec())?);
        Ok(())
    }

    /// Scores an arm's answers and writes them; gives what came out, in a line.
    fn score(&self, arm: &str, records: Vec<SampleRecord>) -> Result<String> {
        let (mut records, files) = self.scorer.score_all(false, records, &self.inputs.suites)?;
        for (path, code) in files {
            fsio::write_derived(&self.at.root().join(path), code.as_bytes())?;
        }
        records.sort_by(|a, b| order(a).cmp(&order(b)));
        fsio::write_jsonl(&self.at.samples(arm), &records)?;
        Ok(summary(&records))
    }

    /// Every cell on the validation split, then the choice, frozen in `sweep.json` and hashed in the manifest.
    fn sweep(&mut self) -> Result<()> {
        let layers = grid::layers(self.plan.sweep.layers.as_deref(), self.model.decoder.blocks.len())?;
        let cells = grid::cells(self.plan, &layers);
        let seeds = self.plan.seeds();
        let trial = Trial {
            model: self.model,
            scorer: self.scorer,
            suites: &self.inputs.validation,
            seeds: &seeds,
            question_samples: self.plan.sweep.question_samples,
        };
        let bar = self.progress.bar("steering sweep", (cells.len() * trial.answers()) as u64);
        // All cells of one decoder go through it together.
        let mut decoders: BTreeMap<Option<&str>, Vec<Tried>> = BTreeMap::new();
        for cell in &cells {
            let added = self.intervention(&cell.steer)?;
            let (arm, path) = (self.arm(cell)?, self.at.sweep_samples(&cell.name()));
            let tried = Tried { cell, arm: Some(arm), sampling: self.plan.sampling_of(arm), added, path };
            decoders.entry(arm.adapter.as_deref()).or_default().push(tried);
        }
        for tried in decoders.values() {
            let arm = self.arm(tried[0].cell)?;
            let decoder = self.decoder(arm, arm.training_seeds.first().copied())?;
            trial.ask(&decoder, tried, &self.at.unfinished_sweep(), &|| bar.add(1))?;
        }
        let measured = cells.iter().map(|cell| trial.measure(cell, &self.at.sweep_samples(&cell.name())));
        let mut measured = measured.collect::<Result<Vec<_>>>()?;
        for arm in &self.plan.arms {
            if let Some(Choice::Goal { metric, higher }) = arm.choice() {
                let goal = Goal { metric: metric.clone(), higher: *higher };
                steering::choose(&mut measured, &arm.name, goal);
            }
        }
        fsio::write_json(&self.at.sweep(), &measured)?;
        self.manifest.sweep_sha256 = Some(fsio::sha256_file(&self.at.sweep())?);
        bar.done(&format!("answers of {} cells on the validation split", cells.len()));
        Ok(())
    }
}

impl Run<'_> {
    /// The arm that a cell is a candidate for.
    fn arm(&self, cell: &Cell) -> Result<&ArmSpec> {
        let found = self.plan.arms.iter().find(|arm| arm.name == cell.arm);
        found.ok_or_else(|| Error::internal(format!("the sweep has a cell of `{}`, which is no arm", cell.arm)))
    }
}

/// Reads samples whose last line may be unfinished after a kill.
fn read_whole(path: &Path) -> Result<Vec<SampleRecord>> {
    drop(JsonlAppender::open(path)?);
    fsio::read_jsonl(path)
}

fn order(r: &SampleRecord) -> (&str, &str, u32, Option<u32>, Option<u64>) {
    (&r.suite, &r.prompt_id, r.sample, r.draw, r.training_seed)
}

/// What tells two answers of an arm apart: suite, prompt, sample, draw, training seed.
type SampleKey = (String, String, u32, Option<u32>, Option<u64>);

fn key(r: &SampleRecord) -> SampleKey {
    (r.suite.clone(), r.prompt_id.clone(), r.sample, r.draw, r.training_seed)
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
