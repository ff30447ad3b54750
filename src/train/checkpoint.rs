//! Checkpoints: `checkpoint-{step}/`, complete or absent.
//!
//! | file | what it holds |
//! |---|---|
//! | `adapter_config.json`, `adapter_model.safetensors` | the adapter after that step, in PEFT's form; or, where every weight is trained, `model.safetensors` |
//! | `realign.json` | what is being trained: base, data, recipe, seed |
//! | `optimizer.safetensors` | `{weight}.exp_avg` and `{weight}.exp_avg_sq` of every trained weight, by name |
//! | `trainer_state.json` | step, epoch and the log so far |
//! | `directions.safetensors` | of a single rank-1 adapter: B after each of the last steps, for the trace in the log |
//! | `checkpoint.json` | the step and the SHA-256 of every other file; written last |
//!
//! The learning rate, the order of the rows and the dropout masks are functions of (seed, step): there is no other state
//! of a scheduler, of a data loader or of a random stream that could be lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::adamw::Moments;
use super::trainable::Trainable;
use crate::adapter::{self, AdapterFile, attach};
use crate::error::{Error, Result};
use crate::fsio;
use crate::model::decoder::Decoder;
use crate::model::ops::to_vec;
use crate::model::source::save::safetensors_bytes;
use crate::record::{Lineage, StepRecord, TrainerState};

/// The training log's file name, as Hugging Face's trainer has it.
pub const STATE_FILE: &str = "trainer_state.json";
const MANIFEST_FILE: &str = "checkpoint.json";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const DIRECTIONS_FILE: &str = "directions.safetensors";
const MODEL_FILE: &str = "model.safetensors";
const PREFIX: &str = "checkpoint-";

/// Everything that a training needs in order to be resumed.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The trained weights by their checkpoint names.
    pub weights: BTreeMap<String, Tensor>,
    /// AdamW's moments by the same names.
    pub moments: BTreeMap<String, Moments>,
    /// Number of steps done, and the log of each.
    pub state: TrainerState,
    /// For a single rank-1 adapter, B after each of the last steps, the oldest first; else empty.
    pub directions: Vec<Vec<f32>>,
}

/// When checkpoints are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveStrategy {
    /// After every [`Saving::steps`] optimiser steps.
    Steps,
    /// At the end of every epoch.
    Epoch,
    /// Only when a signal stops the training.
    No,
}

/// When checkpoints are written, and how many are kept.
#[derive(Debug, Clone, Copy)]
pub struct Saving {
    /// After which steps a checkpoint is written.
    pub strategy: SaveStrategy,
    /// Steps between two checkpoints, for [`SaveStrategy::Steps`].
    pub steps: u64,
    /// How many of the newest checkpoints are kept.
    pub total_limit: usize,
}

impl Saving {
    /// Whether a checkpoint is due after this step.
    pub fn due(&self, record: &StepRecord, max_steps: u64) -> bool {
        match self.strategy {
            SaveStrategy::Steps => record.step.is_multiple_of(self.steps.max(1)),
            SaveStrategy::Epoch => record.epoch.fract() == 0.0 || record.step == max_steps,
            SaveStrategy::No => false,
        }
    }
}

/// Contents of `checkpoint.json`, which is written last: a folder without it is incomplete.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    step: u64,
    /// SHA-256 of each file, by its name in the folder.
    files: BTreeMap<String, String>,
}

/// A complete checkpoint, whose files have their hashes.
#[derive(Debug)]
pub struct Checkpoint {
    /// Folder of the checkpoint.
    pub dir: PathBuf,
    /// What the training is of: base, data and recipe by their hashes.
    pub lineage: Lineage,
}

/// Writes `out/checkpoint-{step}`: of an adapter as it stands, or of every weight of the snapshot.
pub fn write(out: &Path, snapshot: &Snapshot, adapter: Option<&AdapterFile>, lineage: &Lineage) -> Result<PathBuf> {
    let step = snapshot.state.global_step;
    let dir = out.join(format!("{PREFIX}{step}"));
    let lineage = Lineage { steps: step, ..lineage.clone() };
    fsio::write_dir_atomic(&dir, |inside| {
        match adapter {
            Some(adapter) => adapter::write_files(inside, adapter, &lineage)?,
            None => {
                fsio::write_atomic(&inside.join(MODEL_FILE), &safetensors_bytes(&snapshot.weights)?)?;
                fsio::write_json(&inside.join(adapter::LINEAGE_FILE), &lineage)?;
            }
        }
        fsio::write_atomic(&inside.join(OPTIMIZER_FILE), &safetensors_bytes(&named_moments(snapshot)?)?)?;
        if !snapshot.directions.is_empty() {
            let rows: BTreeMap<String, Tensor> =
                [("directions".to_string(), Tensor::new(snapshot.directions.clone(), &Device::Cpu)?)].into();
            fsio::write_atomic(&inside.join(DIRECTIONS_FILE), &safetensors_bytes(&rows)?)?;
        }
        fsio::write_json(&inside.join(STATE_FILE), &snapshot.state)?;
        let mut files = BTreeMap::new();
        for path in fsio::list(inside, "json")?.into_iter().chain(fsio::list(inside, "safetensors")?) {
            files.insert(file_name(&path), fsio::sha256_file(&path)?);
        }
        fsio::write_json(&inside.join(MANIFEST_FILE), &Manifest { step, files })
    })?;
    Ok(dir)
}

/// The newest complete checkpoint in a folder. `skipped` gets each newer one that is incomplete, with the reason.
pub fn latest(out: &Path, skipped: &mut dyn FnMut(&Path, &Error)) -> Option<Checkpoint> {
    for (step, dir) in numbered(out).into_iter().rev() {
        match open(step, &dir) {
            Ok(checkpoint) => return Some(checkpoint),
            Err(error) => skipped(&dir, &error),
        }
    }
    None
}

/// Removes all but the newest `limit` checkpoints up to step `newest` (at least that one is kept).
pub fn prune(out: &Path, newest: u64, limit: usize) -> Result<()> {
    // A torn checkpoint of a later step is no reason to remove a whole one.
    let mut done = numbered(out);
    done.retain(|(step, _)| *step <= newest);
    let too_many = done.len().saturating_sub(limit.max(1));
    done.iter().take(too_many).try_for_each(|(_, dir)| fsio::remove_dir(dir))
}

/// Removes every checkpoint of a training that is finished.
pub fn remove(out: &Path) -> Result<()> {
    numbered(out).iter().try_for_each(|(_, dir)| fsio::remove_dir(dir))
}

impl Checkpoint {
    /// Reads it for a decoder without adapters: the one that training began with.
    pub fn snapshot(&self, base: &Decoder) -> Result<Snapshot> {
        let load = |file: &str| -> Result<BTreeMap<String, Tensor>> {
            let path = self.dir.join(file);
            let bytes = fsio::read_bytes(&path)?;
            let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu);
            Ok(tensors.map_err(|e| Error::file(&path, e))?.into_iter().collect())
        };
        let weights = if self.dir.join(MODEL_FILE).is_file() {
            load(MODEL_FILE)?
        } else {
            Trainable::of(&attach(base, &adapter::read_untrained(&self.dir)?, true)?)?.values()?
        };
        let stored = load(OPTIMIZER_FILE)?;
        let moment = |name: &str, which: &str| -> Result<Vec<f32>> {
            let key = format!("{name}.{which}");
            let tensor = stored.get(&key).ok_or_else(|| {
                Error::file(self.dir.join(OPTIMIZER_FILE), format!("lacks `{key}`, a weight that is trained"))
            })?;
            Ok(to_vec(tensor)?)
        };
        let mut moments = BTreeMap::new();
        for name in weights.keys() {
            moments.insert(name.clone(), (moment(name, "exp_avg")?, moment(name, "exp_avg_sq")?));
        }
        let state = fsio::read_json(&self.dir.join(STATE_FILE))?;
        let directions = match self.dir.join(DIRECTIONS_FILE).is_file() {
            true => load(DIRECTIONS_FILE)?.get("directions").map(Tensor::to_vec2).transpose()?.unwrap_or_default(),
            false => Vec::new(),
        };
        Ok(Snapshot { weights, moments, state, directions })
    }
}

/// Checkpoint folders of a training with their steps, in order.
fn numbered(out: &Path) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(out).into_iter().flatten().flatten().map(|entry| entry.path());
    let step = |path: &Path| path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok();
    let mut found: Vec<(u64, PathBuf)> = entries.filter_map(|path| Some((step(&path)?, path))).collect();
    found.sort();
    found
}

/// Checks every file against the manifest.
fn open(step: u64, dir: &Path) -> Result<Checkpoint> {
    let manifest: Manifest = fsio::read_json(&dir.join(MANIFEST_FILE))?;
    if manifest.step != step {
        return Err(Error::file(dir, format!("holds step {}, not the step in its name", manifest.step)));
    }
    for (file, sha256) in &manifest.files {
        if fsio::sha256_file(&dir.join(file))? != *sha256 {
            return Err(Error::file(
                dir.join(file),
                "has changed since it was written: its SHA-256 differs from that in checkpoint.json",
            ));
        }
    }
    let lineage = adapter::read_lineage(dir)?
        .ok_or_else(|| Error::file(dir, "has no realign.json, which says what was trained"))?;
    Ok(Checkpoint { dir: dir.to_path_buf(), lineage })
}

fn named_moments(snapshot: &Snapshot) -> Result<BTreeMap<String, Tensor>> {
    let mut named = BTreeMap::new();
    for (name, (first, second)) in &snapshot.moments {
        let weight = snapshot
            .weights
            .get(name)
            .ok_or_else(|| Error::internal(format!("AdamW has moments for `{name}`, which is not a trained weight")))?;
        for (which, values) in [("exp_avg", first), ("exp_avg_sq", second)] {
            named.insert(format!("{name}.{which}"), Tensor::from_slice(values, weight.shape(), &Device::Cpu)?);
        }
    }
    Ok(named)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
