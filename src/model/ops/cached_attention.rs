//! Attention of one new token per row over that row's cached keys and values. No gradient: decoding only.

use super::attention::Heads;
use super::simd::{exp, max, sum, vectorised};
use super::softcap::softcap_slopes;
use crate::model::cache::LayerCache;

vectorised! {
    /// Scores of one query head against one cached head from position `from` on: keys lie `[head_dim, capacity]`, so that
    /// they come eight or sixteen positions at a time.
    fn score(q: &[f32], keys: &[f32], capacity: usize, from: usize, scale: f32, scores: &mut [f32]) {
        let (dim, len) = (q.len(), scores.len());
        scores.fill(0.0);
        for d in 0..dim {
            let (weight, keys) = (q[d] * scale, &keys[d * capacity + from..d * capacity + from + len]);
            for j in 0..len {
                scores[j] += weight * keys[j];
            }
        }
    }
}

vectorised! {
    /// The softmax's mean of values `[position, head_dim]`.
    fn mix(scores: &mut [f32], values: &[f32], out: &mut [f32]) {
        let (dim, len) = (out.len(), scores.len());
        let largest = max(scores);
        for s in scores.iter_mut() {
            *s = exp(*s - largest);
        }
        let inverse = 1.0 / sum(scores);
        out.fill(0.0);
        for j in 0..len {
            let (share, values) = (scores[j] * inverse, &values[j * dim..(j + 1) * dim]);
            for d in 0..dim {
                out[d] += share * values[d];
            }
        }
    }
}

/// Appends the new token's rotated key and value to the row's cache and attends over all of it. `q`, `k`, `v` are the
/// one token's rows before rotation; `out` is like `q`.
pub fn cached_attention(
    q: &mut [f32],
    k: &mut [f32],
    v: &[f32],
    heads: &Heads,
    cache: &mut LayerCache,
    out: &mut [f32],
) {
    let Heads { heads: n, kv_heads, head_dim, rope, scale, softcap, .. } = heads;
    let position = cache.len();
    rope.rotate(q, position, false);
    rope.rotate(k, position, false);
    cache.push(k, v, *kv_heads, *head_dim);
    let from = heads.first_seen(position);
    let mut scores = vec![0.0; position + 1 - from];
    for head in 0..*n {
        let (keys, values) = cache.head(head / (n / kv_heads), *head_dim);
        let range = head * head_dim..(head + 1) * head_dim;
        score(&q[range.clone()], keys, cache.capacity(), from, *scale, &mut scores);
        if let Some(cap) = softcap {
            softcap_slopes(&mut scores, *cap);
        }
        mix(&mut scores, &values[from * head_dim..], &mut out[range]);
    }
}
