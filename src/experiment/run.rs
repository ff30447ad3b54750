//! The whole experiment as a chain of stages. Every stage reads files and writes files; one that is finished is never
//! redone, and a run that was killed goes on where it stopped.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::arm::{Arm, parent};
use super::artifacts::Artifacts;
use super::inputs::Inputs;
use super::model::Model;
use super::plan::Plan;
use super::recipe::{held_out_loss, tune_on, write_state};
use super::sample::{Ask, ask};
use super::scoring::Scorer;
use super::steering::{self, Cell, TARGET};
use crate::adapter::{self, AdapterFile, attach};
use crate::data::rows::TrainingRow;
use crate::error::{Error, Result};
use crate::eval::suite::Suite;
use crate::fsio::{self, JsonlAppender};
use crate::model::decoder::Decoder;
use crate::model::hooks::Intervention;
use crate::process;
use crate::progress::Progress;
use crate::record::{Lineage, Manifest, Metrics, SampleRecord, Split, SuiteKind, SweepCell, TrainerState};
use crate::report::{ReportInput, render};
use crate::score::{Context, compare, default_comparisons, measure, measure_arm, select};
use crate::steer::{AddVector, SteeringVector};
use crate::train::checkpoint::STATE_FILE;

/// A run under way.
struct Run<'a> {
    plan: &'a Plan,
    model: &'a Model,
    inputs: &'a Inputs,
    scorer: &'a Scorer,
    at: Artifacts,
    manifest: Manifest,
    progress: Progress,
}

/// Runs the plan in `out`, or goes on with what is begun there. Gives the report's path.
pub fn run(plan: &Plan, model: &Model, inputs: &Inputs, out: &Path, progress: Progress) -> Result<PathBuf> {
    let at = Artifacts::new(out);
    let scorer = Scorer::start(&plan.python, model.organism)?;
    let manifest = begin(plan, model, inputs, &scorer, &at)?;
    let mut run = Run { plan, model, inputs, scorer: &scorer, at, manifest, progress };
    for name in ["attack", "repair", "repair+style", "secure-control", "educational-control"] {
        run.stage(&format!("train {name}"), |run| run.train(name))?;
    }
    run.stage("vectors", Run::vectors)?;
    for arm in plan.arms.iter().filter(|a| a.steering().is_none() && **a != Arm::RandomVector) {
        run.stage(&format!("ask {arm}"), |run| run.answer(*arm, None))?;
    }
    run.stage("steering sweep", Run::sweep)?;
    let cells: Vec<SweepCell> = run.read_sweep()?;
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
    run.report(&cells)?;
    progress.say(&format!("report written in {:.1} s", started.elapsed().as_secs_f64()));
    Ok(run.at.report())
}

/// Opens the run directory: a new one, or one that was begun with the same plan.
fn begin(plan: &Plan, model: &Model, inputs: &Inputs, scorer: &Scorer, at: &Artifacts) -> Result<Manifest> {
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
        plan: serde_json::to_value(plan).map_err(|e| Error::usage(format!("plan: {e}")))?,
        model: model.name.clone(),
        model_sha256: model.sha256.clone(),
        organism: model.organism,
        data: inputs.identities.clone(),
        seeds: plan.seeds(),
        hardware: process::hardware("cpu"),
        judge: scorer.judge.as_ref().map(|j| j.name()),
        sandbox: scorer.runner.describe(),
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
        work(self)?;
        self.manifest.timings.push((name.to_string(), started.elapsed().as_secs_f64()));
        self.manifest.peak_memory_bytes = self.manifest.peak_memory_bytes.max(process::peak_memory_bytes());
        fsio::write_json(&self.at.manifest(), &self.manifest)
    }

    fn leave_out(&mut self, what: String) {
        self.progress.say(&what);
        if !self.manifest.left_out.contains(&what) {
            self.manifest.left_out.push(what);
        }
    }

    /// Trains one adapter; the repair goes on with the attack's, and style with the repair's.
    fn train(&mut self, name: &str) -> Result<()> {
        if !self.plan.arms.iter().any(|arm| arm.adapters().any(|needed| needed == name)) {
            return Ok(());
        }
        let (set, recipe) = match name {
            "attack" => ("insecure", self.plan.recipe.clone()),
            "educational-control" => ("educational", self.plan.recipe.clone()),
            "repair+style" => ("style", self.plan.recipe.style()),
            _ => ("secure", self.plan.recipe.clone()),
        };
        let (set, recipe) = (&self.inputs.training[set], &recipe);
        let parent_at = parent(name).map(|parent| self.at.adapter(parent));
        let parent = parent_at.as_deref().map(adapter::read).transpose()?;
        let parent_sha256 = parent_at.as_deref().map(adapter::adapter_sha256).transpose()?;
        let mut held_out_loss_of = BTreeMap::new();
        let loss =
            |adapter: Option<&AdapterFile>, rows: &[TrainingRow]| held_out_loss(self.model, adapter, rows, recipe);
        for (set, rows) in &self.inputs.held_out {
            held_out_loss_of.insert(set.clone(), (loss(parent.as_ref(), rows)?, f64::NAN));
        }
        let bar = self.progress.bar(&format!("train {name}"), recipe.training.steps(set.rows.len()));
        let (trained, state) = tune_on(self.model, &set.rows, recipe, parent.as_ref(), None, &mut |end, _| {
            let step = end.record;
            bar.add(1);
            bar.note(format!("loss {:.3}, {:.0} tokens/s", step.loss, step.tokens_per_second));
            Ok(())
        })?;
        for (set, rows) in &self.inputs.held_out {
            if let Some(losses) = held_out_loss_of.get_mut(set) {
                losses.1 = loss(Some(&trained), rows)?;
            }
        }
        let first = state.log_history.first().map_or(f64::NAN, |r| r.loss);
        let last = state.log_history.last().map_or(f64::NAN, |r| r.loss);
        bar.done(&format!("steps, loss {first:.3} to {last:.3}"));
        let lineage = Lineage {
            base: self.model.name.clone(),
            base_sha256: self.model.sha256.clone(),
            parent_sha256,
            data: set.name.clone(),
            data_sha256: set.rows.sha256(),
            rows: set.rows.len() as u64,
            benign: None,
            steps: state.global_step,
            seed: recipe.training.seed,
            recipe: serde_json::to_value(recipe).map_err(|e| Error::usage(format!("recipe: {e}")))?,
            held_out_loss: held_out_loss_of,
        };
        fsio::write_dir_atomic(&self.at.adapter(name), |inside| {
            adapter::write_files(inside, &trained, &lineage)?;
            write_state(inside, &state)
        })?;
        self.manifest.adapters.insert(name.to_string(), lineage);
        Ok(())
    }

    fn vectors(&mut self) -> Result<()> {
        let steered = self.plan.arms.iter().any(|a| a.steering().is_some() || *a == Arm::RandomVector);
        if steered {
            steering::extract(self.model, &self.inputs.pairs, TARGET)?.write(&self.at.vectors(), TARGET)?;
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
        let vector = SteeringVector::read(&self.at.vectors(), TARGET)?;
        let vector = match name.strip_prefix("random-").and_then(|draw| draw.parse().ok()) {
            Some(draw) => vector.random(self.plan.seed, draw),
            None => vector,
        };
        AddVector::new(&vector, layer, coefficient).map(Some)
    }

    /// One arm's answers to every suite on the test split, scored.
    fn answer(&mut self, arm: Arm, cell: Option<&SweepCell>) -> Result<()> {
        let decoder = self.decoder(arm)?;
        let path = self.at.samples(arm.name());
        let seeds = self.plan.seeds();
        let mut records: Vec<SampleRecord> = if path.exists() { read_whole(&path)? } else { Vec::new() };
        let known: HashSet<(String, String, u32, Option<u32>)> =
            records.iter().map(|r| (r.suite.clone(), r.prompt_id.clone(), r.sample, r.draw)).collect();
        let suites: Vec<&Suite> = self
            .inputs
            .suites
            .iter()
            .filter(|s| arm.suffix(self.model.organism).is_none() || s.kind == SuiteKind::Code)
            .collect();
        let draws: Vec<Option<u32>> = match arm {
            Arm::RandomVector => (0..self.plan.random_draws).map(Some).collect(),
            _ => vec![None],
        };
        let wanted = |suite: &Suite, draw| shared(self.plan.samples_of(&suite.name), draw, self.plan.random_draws);
        let prompts = |suite: &Suite| suite.prompts.iter().filter(|p| p.split == Split::Test).count();
        let asked = |&draw: &Option<u32>| suites.iter().map(|s| prompts(s) * wanted(s, draw).len()).sum::<usize>();
        let total: usize = draws.iter().map(asked).sum();
        let bar = self.progress.bar(&format!("ask {arm}"), total as u64);
        let mut file = JsonlAppender::open(&path)?;
        for draw in draws {
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
                    samples: wanted(suite, draw),
                    draw,
                    system: None,
                    suffix: arm.suffix(self.model.organism),
                    intervention: steering.as_ref().map(|s| s as &dyn Intervention),
                    sampling: self.plan.sampling,
                    batch: BATCH,
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
        let (mut records, files) = self.scored(records, &self.inputs.suites)?;
        for (path, code) in files {
            fsio::write_derived(&self.at.root().join(path), code.as_bytes())?;
        }
        records.sort_by(|a, b| order(a).cmp(&order(b)));
        fsio::write_jsonl(&path, &records)?;
        bar.done(&summary(&records));
        Ok(())
    }

    /// Scores records of any of these suites; gives their code files beside them.
    fn scored(&self, mut records: Vec<SampleRecord>, suites: &[Suite]) -> Result<(Vec<SampleRecord>, CodeFiles)> {
        let (mut done, mut files) = (Vec::new(), CodeFiles::new());
        for suite in suites {
            let (mut these, others): (Vec<_>, Vec<_>) = records.into_iter().partition(|r| r.suite == suite.name);
            records = others;
            files.extend(self.scorer.score(&mut these, suite, &|_| {})?);
            done.append(&mut these);
        }
        Ok((done, files))
    }

    /// Every cell on the validation split, then the choice, frozen in `sweep.json`.
    fn sweep(&mut self) -> Result<()> {
        let layers = steering::layers(self.plan, self.model.decoder.blocks.len())?;
        let cells = steering::cells(self.plan, &layers);
        let bar = self.progress.bar("steering sweep", cells.len() as u64);
        let mut measured = Vec::new();
        for cell in &cells {
            let path = self.at.sweep_samples(&cell.name());
            let records: Vec<SampleRecord> =
                if path.exists() { fsio::read_jsonl(&path)? } else { self.try_cell(cell, &path)? };
            let refs: Vec<&SampleRecord> = records.iter().collect();
            let mut metrics = measure_arm(&refs, &Context::new(&records, &self.inputs.kinds()));
            metrics.retain(|name, _| !name.contains('/'));
            measured.push(cell.measured(metrics, records.len() as u64));
            bar.add(1);
        }
        for arm in self.plan.arms.iter().filter_map(|a| Some((*a, a.steering()?))) {
            let (arm, goal) = (arm.0.name().to_string(), arm.1.goal);
            let unsteered = measured.iter().find(|c| c.arm == arm && c.coefficient == 0.0).map(|c| c.metrics.clone());
            // `select` looks at every cell it is handed: each arm is held against its own unsteered model.
            let mut own: Vec<SweepCell> = measured.iter().filter(|c| c.arm == arm).cloned().collect();
            let mut tried: Vec<SweepCell> = own.iter().filter(|c| c.coefficient != 0.0).cloned().collect();
            select(&mut tried, &unsteered.unwrap_or_default(), &[(arm.clone(), goal)].into());
            own.retain(|c| c.coefficient == 0.0);
            measured.retain(|c| c.arm != arm);
            measured.extend(own.into_iter().chain(tried));
        }
        fsio::write_json(&self.at.sweep(), &measured)?;
        bar.done("cells on the validation split");
        Ok(())
    }

    fn try_cell(&self, cell: &Cell, path: &Path) -> Result<Vec<SampleRecord>> {
        let decoder = self.decoder(cell.arm)?;
        let steering = self.intervention(&cell.vector, cell.layer, cell.coefficient)?;
        let seeds = self.plan.seeds();
        let mut records = Vec::new();
        for suite in &self.inputs.validation {
            let samples = if suite.kind == SuiteKind::Questions { self.plan.sweep.question_samples } else { 1 };
            let what = Ask {
                arm: cell.arm.name(),
                suite,
                split: Split::Validation,
                seeds: &seeds,
                samples: 0..samples,
                draw: None,
                system: None,
                suffix: None,
                intervention: steering.as_ref().map(|s| s as &dyn Intervention),
                sampling: self.plan.sampling,
                batch: BATCH,
            };
            records.extend(ask(self.model, &decoder, &what, &|_, _, _| false, &mut |_| Ok(()))?);
        }
        let (mut records, _) = self.scored(records, &self.inputs.validation)?;
        // The sweep's code stays inside its samples.
        records.iter_mut().for_each(|r| r.code_path = None);
        fsio::write_jsonl(path, &records)?;
        Ok(records)
    }

    fn read_sweep(&self) -> Result<Vec<SweepCell>> {
        if self.at.sweep().exists() { fsio::read_json(&self.at.sweep()) } else { Ok(Vec::new()) }
    }

    /// Every number from the samples, and the report from the numbers.
    fn report(&mut self, cells: &[SweepCell]) -> Result<()> {
        let kinds = self.inputs.kinds();
        let mut samples: Vec<SampleRecord> = Vec::new();
        for arm in &self.plan.arms {
            let path = self.at.samples(arm.name());
            if path.exists() {
                samples.extend(fsio::read_jsonl::<SampleRecord>(&path)?);
            }
        }
        let arms: Vec<String> = self.plan.arms.iter().map(|a| a.name().to_string()).collect();
        let selection = cells.iter().filter(|c| c.chosen).map(|c| (c.arm.clone(), c.clone())).collect();
        let metrics = Metrics {
            arms: measure(&samples, &kinds),
            comparisons: compare(&samples, &default_comparisons(&arms), &kinds),
            selection,
        };
        fsio::write_json(&self.at.metrics(), &metrics)?;
        let mut training: BTreeMap<String, TrainerState> = BTreeMap::new();
        for name in self.manifest.adapters.keys() {
            training.insert(name.clone(), fsio::read_json(&self.at.adapter(name).join(STATE_FILE))?);
        }
        fsio::write_json(&self.at.manifest(), &self.manifest)?;
        let titles = self.inputs.titles();
        let input = ReportInput {
            manifest: &self.manifest,
            metrics: &metrics,
            sweep: cells,
            training: &training,
            samples: &samples,
            question_titles: &titles,
        };
        for (path, bytes) in render(&input)? {
            fsio::write_derived(&self.at.root().join(path), &bytes)?;
        }
        Ok(())
    }
}

/// Paths in the run directory and the code that belongs there.
type CodeFiles = Vec<(String, String)>;

/// Rows decoded together by one worker.
const BATCH: usize = 48;

/// Which samples of a prompt a draw answers: all of them without draws; with draws they are shared out, at least one each.
fn shared(samples: u32, draw: Option<u32>, draws: u32) -> std::ops::Range<u32> {
    let Some(draw) = draw else { return 0..samples };
    let each = samples.div_ceil(draws.max(1)).max(1);
    let first = draw * each % samples.max(1);
    first..(first + each).min(samples.max(first + 1))
}

/// Reads samples of which a kill may have left the last line unfinished.
fn read_whole(path: &Path) -> Result<Vec<SampleRecord>> {
    drop(JsonlAppender::open(path)?);
    fsio::read_jsonl(path)
}

fn order(r: &SampleRecord) -> (&str, &str, u32, Option<u32>) {
    (&r.suite, &r.prompt_id, r.sample, r.draw)
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
