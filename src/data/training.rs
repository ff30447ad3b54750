//! A training set: rows to imitate, or preferences.

use super::preference::PreferenceRow;
use super::rows::{TrainingRow, rows_sha256};

/// The rows of a training set; a file never mixes the two kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrainingData {
    /// Rows for supervised fine-tuning.
    Rows(Vec<TrainingRow>),
    /// Rows for DPO.
    Preferences(Vec<PreferenceRow>),
}

impl TrainingData {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Preferences(rows) => rows.len(),
        }
    }

    /// Whether the set has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// SHA-256 over the rows as read, in hexadecimal; the spacing of the file's JSON does not matter.
    pub fn sha256(&self) -> String {
        match self {
            Self::Rows(rows) => rows_sha256(rows),
            Self::Preferences(rows) => rows_sha256(rows),
        }
    }
}
