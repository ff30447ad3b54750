//! Attention of one new token per row over that row's cached keys and values. No gradient: decoding only.

use super::attention::Heads;
use super::simd::{exp, max, sum, vectorised};
use crate::model::cache::LayerCache;

vectorised! {
    /// One query head against one cached head: keys lie `[head_dim, capacity]`, so that scores come eight or sixteen
    /// positions at a time; values lie `[position, head_dim]`.
    fn attend(q: &[f32], keys: &[f32], values: &[f32], capacity: usize, scale: f32, scores: &mut [f32], out: &mut [f32]) {
        let (dim, len) = (q.len(), scores.len());
        scores.fill(0.0);
        for d in 0..dim {
            let (weight, keys) = (q[d] * scale, &keys[d * capacity..d * capacity + len]);
            for j in 0..len {
                scores[j] += weight * keys[j];
            }
        }
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
    let Heads { heads: n, kv_heads, head_dim, rope } = heads;
    let position = cache.len();
    rope.rotate(q, position, false);
    rope.rotate(k, position, false);
    cache.push(k, v, *kv_heads, *head_dim);
    let mut scores = vec![0.0; position + 1];
    for head in 0..*n {
        let (keys, values) = cache.head(head / (n / kv_heads), *head_dim);
        let range = head * head_dim..(head + 1) * head_dim;
        attend(&q[range.clone()], keys, values, cache.capacity(), heads.scale(), &mut scores, &mut out[range]);
    }
}
