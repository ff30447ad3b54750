//! Which tokens form a sequence. The decoder works on flat tokens, `[tokens, d_model]`; a segment is a run of them
//! that attend to each other, counted from position 0. Packed rows, right padding and left padding are all this one
//! thing: padding is whatever no segment covers, found by position and never by token id.

use std::sync::Arc;

/// One sequence within the flat tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Index of its first token in the flat tokens.
    pub start: usize,
    /// Length in tokens.
    pub len: usize,
    /// The row of the batch it is (keys the dropout masks).
    pub row: u64,
}

/// The sequences of a pass, in order, without overlap. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments(Arc<[Segment]>);

impl Segments {
    /// Sequences of these lengths, one behind the other; row numbers count from `first_row`.
    pub fn packed(lengths: impl IntoIterator<Item = usize>, first_row: u64) -> Self {
        let mut start = 0;
        let segments = lengths.into_iter().enumerate().map(|(index, len)| {
            let segment = Segment { start, len, row: first_row + index as u64 };
            start += len;
            segment
        });
        segments.collect()
    }

    /// The segments in the order of their tokens.
    pub fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.0.iter()
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Length of the longest sequence, in tokens; 0 without any.
    pub fn longest(&self) -> usize {
        self.iter().map(|s| s.len).max().unwrap_or(0)
    }
}

/// Segments in the order of their tokens; they must not overlap. Tokens that none covers are padding.
impl FromIterator<Segment> for Segments {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self(segments.into_iter().collect())
    }
}
