//! Rows packed into chunks, the pieces of work that workers share. How rows are cut depends on their lengths alone, never on
//! the number of workers, so that sums of gradients do not either.

use crate::data::collate::Example;
use crate::model::segments::Segments;

/// Tokens of a chunk: large enough for the products, small enough for a core's cache and for every core to have one.
pub const CHUNK_TOKENS: usize = 512;

/// Rows packed one behind the other: token t predicts `targets[t]` with weight `weights[t]`.
pub struct Packed {
    /// Token ids of all rows, one row after the other.
    pub ids: Vec<u32>,
    /// By token, the token that follows it.
    pub targets: Vec<u32>,
    /// 0 where nothing is to be predicted: the prompt, and each row's last token.
    pub weights: Vec<f32>,
    /// Whether a token belongs to an answer: whether it is a target itself.
    pub answer: Vec<bool>,
    /// The tokens that form each row.
    pub segments: Segments,
}

impl Packed {
    /// Packs rows whose numbers within the effective batch count from `first_row`; weights are multiplied by `scale`.
    pub fn new(rows: &[&Example], first_row: u64, scale: f32) -> Self {
        let (mut ids, mut targets, mut weights, mut answer) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            ids.extend(&row.ids);
            targets.extend(row.ids.iter().skip(1).chain([&0]));
            answer.extend(row.weights.iter().map(|w| *w > 0.0));
            weights.extend(row.weights.iter().skip(1).map(|w| w * scale).chain([0.0]));
        }
        let segments = Segments::packed(rows.iter().map(|r| r.ids.len()), first_row);
        Self { ids, targets, weights, answer, segments }
    }

    /// `Σ weight · value` over the tokens.
    pub(super) fn weighted_sum(&self, values: &[f32]) -> f64 {
        self.weights.iter().zip(values).map(|(&w, &v)| f64::from(w) * f64::from(v)).sum()
    }
}

/// Micro-batches of `micro_batch` items, cut into chunks of whole items; an item is `together` neighbouring rows.
pub(super) fn packed_chunks(rows: &[&Example], together: usize, micro_batch: usize, scale: f32) -> Vec<Packed> {
    let micro_batch = together * micro_batch.max(1);
    let mut chunks = Vec::new();
    for (number, micro) in rows.chunks(micro_batch).enumerate() {
        let mut first = 0;
        let mut tokens = 0;
        for (i, item) in micro.chunks(together).enumerate().map(|(i, item)| (i * together, item)) {
            let length = item.iter().map(|row| row.ids.len()).sum::<usize>();
            if i > first && tokens + length > CHUNK_TOKENS {
                chunks.push(Packed::new(&micro[first..i], (number * micro_batch + first) as u64, scale));
                (first, tokens) = (i, 0);
            }
            tokens += length;
        }
        chunks.push(Packed::new(&micro[first..], (number * micro_batch + first) as u64, scale));
    }
    chunks
}
