//! The rows of a training set, of whichever kind it has.

use super::preference::PreferenceRow;
use super::rows::{TrainingRow, rows_sha256};

/// Rows of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrainingData {
    /// To imitate.
    Rows(Vec<TrainingRow>),
    /// To prefer one answer of.
    Preferences(Vec<PreferenceRow>),
}

impl TrainingData {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Preferences(rows) => rows.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// SHA-256 over the rows as read.
    pub fn sha256(&self) -> String {
        match self {
            Self::Rows(rows) => rows_sha256(rows),
            Self::Preferences(rows) => rows_sha256(rows),
        }
    }
}
