//! Attention of one new token per row over that row's cached keys and values. No gradient: decoding only.

use super::attention::Heads;
use super::simd::{exp, max, sum, vectorised};
use super::softcap::softcap_slopes;
use crate::model::cache::LayerCache;

/// Positions scored together.
const AT_ONCE: usize = 64;

vectorised! {
    /// Scores of one query head against one cached head from position `from` on: keys lie `[head_dim, capacity]`, so that
    /// they come eight or sixteen positions at a time.
    fn score(q: &[f32], keys: &[f32], capacity: usize, from: usize, scale: f32, scores: &mut [f32]) {
        let (dim, len) = (q.len(), scores.len());
        for first in (0..len).step_by(AT_ONCE) {
            // Positions of a block stay in registers over all dimensions; what lies past the last is not looked at.
            let count = AT_ONCE.min(len - first);
            let mut block = [0f32; AT_ONCE];
            for d in 0..dim {
                let weight = q[d] * scale;
                let keys = &keys[d * capacity + from + first..][..count];
                if let Some(keys) = keys.first_chunk::<AT_ONCE>() {
                    for j in 0..AT_ONCE {
                        block[j] += weight * keys[j];
                    }
                } else {
                    for j in 0..count {
                        block[j] += weight * keys[j];
                    }
                }
            }
            scores[first..first + count].copy_from_slice(&block[..count]);
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
        let (whole, rest) = scores.split_at(len / 4 * 4);
        for (four, values) in whole.chunks_exact(4).zip(values.chunks_exact(4 * dim)) {
            let (low, high) = values.split_at(2 * dim);
            let ((a, b), (c, d)) = (low.split_at(dim), high.split_at(dim));
            for i in 0..dim {
                out[i] += (four[0] * a[i] + four[1] * b[i]) + (four[2] * c[i] + four[3] * d[i]);
            }
        }
        for (share, values) in rest.iter().zip(values[whole.len() * dim..].chunks_exact(dim)) {
            for i in 0..dim {
                out[i] += share * values[i];
            }
        }
        for y in out.iter_mut() {
            *y *= inverse;
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
    // Where the angles depend on the row's length, keys at hand keep theirs, as in transformers' cache.
    rope.rotate(q, position, position + 1, false);
    rope.rotate(k, position, position + 1, false);
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
