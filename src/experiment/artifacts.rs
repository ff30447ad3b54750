//! Every path of a run directory, in one place.

use std::path::{Path, PathBuf};

/// The paths of a run folder.
#[derive(Debug, Clone)]
pub struct Artifacts {
    root: PathBuf,
}

impl Artifacts {
    /// The directory itself; nothing is made yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The run folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What was run, on what, how long.
    pub fn manifest(&self) -> PathBuf {
        self.root.join("manifest.json")
    }

    /// Folder of a trained adapter.
    pub fn adapter(&self, name: &str) -> PathBuf {
        self.root.join("adapters").join(name)
    }

    /// File of a steering vector.
    pub fn vector(&self, name: &str) -> PathBuf {
        self.root.join("vectors").join(format!("{name}.safetensors"))
    }

    /// The answers on the test split, a file an arm.
    pub fn samples_folder(&self) -> PathBuf {
        self.root.join("samples")
    }

    /// An arm's answers on the test split.
    pub fn samples(&self, arm: &str) -> PathBuf {
        self.samples_folder().join(format!("{arm}.jsonl"))
    }

    /// The answers of a cell of the sweep, on the validation split.
    pub fn sweep_samples(&self, cell: &str) -> PathBuf {
        self.root.join("samples").join("sweep").join(format!("{cell}.jsonl"))
    }

    /// The answers of a sweep under way that are not scored yet.
    pub fn unfinished_sweep(&self) -> PathBuf {
        self.root.join("samples").join("sweep").join("unfinished")
    }

    /// The sweep's cells, measured and chosen.
    pub fn sweep(&self) -> PathBuf {
        self.root.join("sweep.json")
    }

    /// The key of the blinded sheet, and the labels of its readers.
    pub fn labels_folder(&self) -> PathBuf {
        self.root.join("labels")
    }

    /// Which answer each row of the blinded sheet is.
    pub fn label_key(&self) -> PathBuf {
        self.labels_folder().join("KEY.json")
    }

    /// A reader's labels.
    pub fn reader_labels(&self, reader: &str) -> PathBuf {
        self.labels_folder().join(format!("{reader}.jsonl"))
    }

    /// File of all metrics, intervals and comparisons.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.json")
    }

    /// The report as an HTML page.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }
}
