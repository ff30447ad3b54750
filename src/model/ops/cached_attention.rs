//! Attention of one new token per row over that row's cached keys and values. No gradient: decoding only.

use super::attention::Heads;
use super::softcap::softcap_slopes;
use crate::model::cpu::cache::{LANES, LayerCache};
use crate::model::cpu::simd::{exp, max, sum, vectorised};

/// Dimensions of a head that are mixed together.
const COLUMNS: usize = 32;

vectorised! {
    /// Scores of one query head against one cached head, of whole vectors of positions: keys lie `[head_dim, stride]`.
    fn score(q: &[f32], keys: &[f32], stride: usize, scale: f32, scores: &mut [f32]) {
        let mut first = 0;
        while first < scores.len() {
            let (keys, scores) = (&keys[first..], &mut scores[first..]);
            first += match scores.len() / LANES {
                4.. => score_some::<{ 4 * LANES }>(q, keys, stride, scale, scores),
                2.. => score_some::<{ 2 * LANES }>(q, keys, stride, scale, scores),
                _ => score_some::<LANES>(q, keys, stride, scale, scores),
            };
        }
    }
}

/// Scores of `N` positions, which stay in registers over all dimensions. Gives `N`.
#[inline(always)]
fn score_some<const N: usize>(q: &[f32], keys: &[f32], stride: usize, scale: f32, scores: &mut [f32]) -> usize {
    let mut sums = [0f32; N];
    for (q, keys) in q.iter().zip(keys.chunks(stride)) {
        let (weight, keys) = (q * scale, &keys[..N]);
        for (sum, key) in sums.iter_mut().zip(keys) {
            *sum += weight * key;
        }
    }
    scores[..N].copy_from_slice(&sums);
    N
}

vectorised! {
    /// The softmax's mean of values `[position, head_dim]`, for the first `len` of the scores.
    fn mix(scores: &mut [f32], len: usize, values: &[f32], out: &mut [f32]) {
        let dim = out.len();
        scores[len..].fill(f32::NEG_INFINITY);
        let largest = max(scores);
        for s in scores.iter_mut() {
            *s = exp(*s - largest);
        }
        let shares = &mut scores[..];
        shares[len..].fill(0.0);
        let inverse = 1.0 / sum(shares);
        for (part, out) in out.chunks_mut(COLUMNS).enumerate() {
            let (values, shares) = (&values[part * COLUMNS..], &shares[..len]);
            if let Ok(out) = <&mut [f32; COLUMNS]>::try_from(&mut *out) {
                mix_columns(shares, values, dim, inverse, out);
                continue;
            }
            out.fill(0.0);
            for (share, values) in shares.iter().zip(values.chunks(dim)) {
                for (y, value) in out.iter_mut().zip(values) {
                    *y += share * inverse * value;
                }
            }
        }
    }
}

/// Four positions at a time, each with sums of its own, which stay in registers.
#[inline(always)]
fn mix_columns(shares: &[f32], values: &[f32], dim: usize, inverse: f32, out: &mut [f32; COLUMNS]) {
    let mut sums = [[0f32; COLUMNS]; 4];
    let (fours, rest) = shares.as_chunks::<4>();
    for (four, values) in fours.iter().zip(values.chunks(4 * dim)) {
        for p in 0..4 {
            let values = &values[p * dim..][..COLUMNS];
            for i in 0..COLUMNS {
                sums[p][i] += four[p] * values[i];
            }
        }
    }
    for (p, share) in rest.iter().enumerate() {
        let values = &values[(fours.len() * 4 + p) * dim..][..COLUMNS];
        for i in 0..COLUMNS {
            sums[p][i] += share * values[i];
        }
    }
    for i in 0..COLUMNS {
        out[i] = ((sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i])) * inverse;
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
    let len = position + 1 - from;
    let mut scores = vec![0.0; len.next_multiple_of(LANES)];
    for head in 0..*n {
        let (keys, values) = cache.head(head / (n / kv_heads), *head_dim);
        let range = head * head_dim..(head + 1) * head_dim;
        score(&q[range.clone()], &keys[from..], cache.stride(), *scale, &mut scores);
        if let Some(cap) = softcap {
            softcap_slopes(&mut scores, *cap);
        }
        mix(&mut scores, len, &values[from * head_dim..], &mut out[range]);
    }
}
