//! Causal attention over segments with grouped heads and rotary positions, as one node: inputs
//! `q [tokens, heads · head_dim]`, `k` and `v [tokens, kv_heads · head_dim]`, before rotation; output like `q`.
//!
//! Scores are made for a block of query rows at a time and made again in the backward pass: the score matrix is never
//! kept (Dao et al. 2022), and nothing before the first column or beyond the last that a block sees is computed.

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};

use super::rope::RopeTable;
use super::softcap::{softcap, softcap_slopes, through};
use super::{f32_slice, filled_vec, uses_cpu_kernels, with_slices};
use crate::model::cpu::product::{Matrix, into};
use crate::model::cpu::simd::{dot, exp, max, vectorised};
use crate::model::cpu::target::Target;
use crate::model::cpu::team;
use crate::model::segments::Segments;

const BLOCK: usize = 64;

/// The shape of the heads and how positions rotate them.
#[derive(Debug, Clone)]
pub struct Heads {
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads; it divides `heads`.
    pub kv_heads: usize,
    /// Width of each head.
    pub head_dim: usize,
    /// Rotary angles by position.
    pub rope: RopeTable,
    /// What scores are multiplied by, 1/√head_dim as a rule.
    pub scale: f32,
    /// How many tokens a token sees, itself included; `None` is all before it.
    pub window: Option<usize>,
    /// Scores are squashed into ± this value with a tanh; `None` leaves them.
    pub softcap: Option<f32>,
}

impl Heads {
    /// The first position that a position sees.
    pub(crate) fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Rotates whole rows of a packed tensor, each token by its position in its segment.
    pub(crate) fn rotate(&self, x: &mut [f32], width: usize, segments: &Segments, backward: bool) {
        for segment in segments.iter() {
            for position in 0..segment.len {
                let start = (segment.start + position) * width;
                self.rope.rotate(&mut x[start..start + width], position, segment.len, backward);
            }
        }
    }
}

/// Attention within each segment. Tokens outside every segment (padding) come out as zeros.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: &Heads, segments: &Segments) -> Result<Tensor> {
    let op = Attention::new(heads, segments)?;
    if !uses_cpu_kernels(q) {
        return reference_attention(q, k, v, heads, segments);
    }
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

/// The same in candle's own ops, segment by segment.
pub fn reference_attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: &Heads, segments: &Segments) -> Result<Tensor> {
    let Heads { heads: n, kv_heads, head_dim, rope, .. } = heads;
    let mut parts: Vec<Tensor> = Vec::new();
    let mut next = 0;
    for segment in segments.iter() {
        if segment.start > next {
            parts.push(Tensor::zeros((segment.start - next, n * head_dim), q.dtype(), q.device())?);
        }
        next = segment.start + segment.len;
        let (cos, sin) = rope.tables(segment.len);
        let half = cos.len() / segment.len.max(1);
        let table = |t: &[f32]| Tensor::from_slice(t, (segment.len, 1, half), q.device())?.to_dtype(q.dtype());
        let (cos, sin) = (table(&cos)?, table(&sin)?);
        let rotated = |x: &Tensor, n: usize| {
            let x = x.narrow(0, segment.start, segment.len)?.reshape((segment.len, n, *head_dim))?;
            if half == 0 {
                return x.transpose(0, 1)?.contiguous();
            }
            let (low, high) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
            let first = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
            let second = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
            let mut rotated = vec![first, second];
            if 2 * half < *head_dim {
                rotated.push(x.narrow(2, 2 * half, head_dim - 2 * half)?);
            }
            Tensor::cat(&rotated, 2)?.transpose(0, 1)?.contiguous() // [heads, len, head_dim]
        };
        let shared = |x: Tensor| {
            let (kv, len, dim) = x.dims3()?;
            x.unsqueeze(1)?.expand((kv, n / kv, len, dim))?.reshape((*n, len, dim))
        };
        let (q, k) = (rotated(q, *n)?, shared(rotated(k, *kv_heads)?)?);
        let v = v.narrow(0, segment.start, segment.len)?.reshape((segment.len, *kv_heads, *head_dim))?;
        let v = shared(v.transpose(0, 1)?.contiguous()?)?;
        let scores = (q.matmul(&k.transpose(1, 2)?)? * f64::from(heads.scale))?; // [heads, len, len]
        let scores = heads.softcap.map_or_else(|| Ok(scores.clone()), |cap| softcap(&scores, cap))?;
        let hidden: Vec<f32> = (0..segment.len * segment.len)
            .map(|i| (i / segment.len, i % segment.len))
            .map(|(row, column)| match column > row || column < heads.first_seen(row) {
                true => f32::NEG_INFINITY,
                false => 0.0,
            })
            .collect();
        let hidden = Tensor::from_vec(hidden, (1, segment.len, segment.len), q.device())?.to_dtype(q.dtype())?;
        let scores = scores.broadcast_add(&hidden)?.to_dtype(DType::F32)?;
        let shares = candle_nn::ops::softmax(&scores, candle_core::D::Minus1)?.to_dtype(q.dtype())?;
        let attn_out = shares.matmul(&v)?.transpose(0, 1)?.contiguous()?; // [len, heads, head_dim]
        parts.push(attn_out.reshape((segment.len, n * head_dim))?);
    }
    let tokens = q.dim(0)?;
    if tokens > next {
        parts.push(Tensor::zeros((tokens - next, n * head_dim), q.dtype(), q.device())?);
    }
    Tensor::cat(&parts, 0)
}

/// The attention op on slices, with a hand-written backward pass.
pub(crate) struct Attention {
    heads: Heads,
    segments: Segments,
}

/// Rows of scores are this much apart at least, so that no vector is left over: the exponentials of a few last values by
/// themselves would cost more than those of a row.
const LANES: usize = 16;

vectorised! {
    /// Softmax of each row over the columns that it sees, from `seen[i].0` to before `seen[i].1`; the rest become 0.
    fn causal_softmax(scores: &mut [f32], stride: usize, seen: &[(usize, usize)]) {
        for (row, &(from, to)) in scores.chunks_exact_mut(stride).zip(seen) {
            let end = to.next_multiple_of(LANES).min(stride);
            row[..from].fill(0.0);
            row[to..end].fill(f32::NEG_INFINITY);
            let largest = max(&row[from..end]);
            for s in row[from..end].iter_mut() {
                *s = exp(*s - largest);
            }
            row[to..].fill(0.0);
            let inverse = 1.0 / crate::model::cpu::simd::sum(&row[from..end]);
            for s in row[from..end].iter_mut() {
                *s *= inverse;
            }
        }
    }
}

vectorised! {
    /// dS = P ∘ (dP − ⟨P, dP⟩) · scale, in place of dP.
    fn score_grad(shares: &[f32], grad: &mut [f32], stride: usize, scale: f32) {
        for (p, dp) in shares.chunks_exact(stride).zip(grad.chunks_exact_mut(stride)) {
            let mean = dot(p, dp);
            for j in 0..stride {
                dp[j] = p[j] * (dp[j] - mean) * scale;
            }
        }
    }
}

/// One head of one segment: where its values lie.
struct Place {
    q: usize,
    kv: usize,
    len: usize,
}

impl Attention {
    fn widths(&self) -> (usize, usize) {
        (self.heads.heads * self.heads.head_dim, self.heads.kv_heads * self.heads.head_dim)
    }

    /// Places that share a key-value head of a segment: what one worker does, one behind the other, since they add to
    /// the same gradients.
    fn groups(&self) -> Vec<Vec<Place>> {
        let Heads { heads, kv_heads, head_dim, .. } = self.heads;
        let (q_width, kv_width) = self.widths();
        let shared = heads / kv_heads;
        let mut groups = Vec::new();
        for segment in self.segments.iter() {
            for kv in 0..kv_heads {
                let place = |head: usize| Place {
                    q: segment.start * q_width + head * head_dim,
                    kv: segment.start * kv_width + kv * head_dim,
                    len: segment.len,
                };
                groups.push((kv * shared..(kv + 1) * shared).map(place).collect());
            }
        }
        groups
    }

    /// Does `work(place, first, last)` for every block of query rows of every place.
    fn over_blocks(&self, work: impl Fn(&Place, usize, usize) + Sync) {
        let groups = self.groups();
        team::each(groups.len(), &|group| {
            for place in &groups[group] {
                for first in (0..place.len).step_by(BLOCK) {
                    work(place, first, (first + BLOCK).min(place.len));
                }
            }
        });
    }

    /// The softmax of a block of query rows over the columns from its first row's first one on, and where scores are
    /// capped, the slopes.
    fn shares(&self, q: &[f32], k: &[f32], place: &Place, first: usize, last: usize) -> Shares {
        let (q_width, kv_width) = self.widths();
        let dim = self.heads.head_dim;
        let (rows, low) = (last - first, self.heads.first_seen(first));
        let columns = last - low;
        let queries = Matrix::strided(&q[place.q + first * q_width..], rows, dim, q_width);
        let keys = Matrix::strided(&k[place.kv + low * kv_width..], columns, dim, kv_width);
        let (mut values, stride) = in_whole_vectors(queries, keys, (rows, columns), self.heads.scale);
        let slopes = self.heads.softcap.map(|cap| softcap_slopes(&mut values, cap));
        let seen: Vec<(usize, usize)> =
            (first..last).map(|row| (self.heads.first_seen(row) - low, row + 1 - low)).collect();
        causal_softmax(&mut values, stride, &seen);
        Shares { values, stride, slopes }
    }
}

/// A block's shares of the values, `[rows, columns]`, rows `stride` apart; zeros between.
struct Shares {
    values: Vec<f32>,
    stride: usize,
    slopes: Option<Vec<f32>>,
}

/// `alpha · a bᵀ` of so many rows and columns, and how far apart its rows are; zeros between.
fn in_whole_vectors(a: Matrix, b: Matrix, (rows, columns): (usize, usize), alpha: f32) -> (Vec<f32>, usize) {
    let stride = columns.next_multiple_of(LANES);
    // SAFETY: the product writes all columns, the loop the rest.
    let values = unsafe {
        filled_vec(rows * stride, |values| {
            values.chunks_exact_mut(stride).for_each(|row| row[columns..].fill(0.0));
            into(a, b.t(), Target { values: values.as_mut_ptr(), stride }, alpha, false);
        })
    };
    (values, stride)
}

impl Attention {
    /// Refuses sequences that the model has no positions for.
    pub fn new(heads: &Heads, segments: &Segments) -> Result<Self> {
        let (longest, positions) = (segments.longest(), heads.rope.positions());
        if longest > positions {
            candle_core::bail!("a sequence of {longest} tokens is longer than the model's {positions} positions");
        }
        Ok(Self { heads: heads.clone(), segments: segments.clone() })
    }

    /// Turns queries and keys by their positions.
    pub fn rotate(&self, q: &mut [f32], k: &mut [f32], backward: bool) {
        let (q_width, kv_width) = self.widths();
        self.heads.rotate(q, q_width, &self.segments, backward);
        self.heads.rotate(k, kv_width, &self.segments, backward);
    }

    /// Attention's output from rotated queries and keys, in the shape of `q`.
    pub fn forward(&self, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
        let ((q_width, kv_width), dim) = (self.widths(), self.heads.head_dim);
        let mut out = vec![0.0; q.len()];
        let target = Target { values: out.as_mut_ptr(), stride: q_width };
        self.over_blocks(|place, first, last| {
            let (low, shares) = (self.heads.first_seen(first), self.shares(q, k, place, first, last));
            let shares = Matrix::strided(&shares.values, last - first, last - low, shares.stride);
            let attn_out = Matrix::strided(&v[place.kv + low * kv_width..], last - low, dim, kv_width);
            // SAFETY: a block's rows of a head's columns lie within `out`, and only this call writes them.
            unsafe {
                let target = target.at_column(place.q + first * q_width);
                into(shares, attn_out, target, 1.0, false);
            }
        });
        out
    }

    /// Gradients of queries and keys as they were before rotation, and of values, from rotated ones.
    pub fn backward(&self, q: &[f32], k: &[f32], v: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
        let ((q_width, kv_width), dim) = (self.widths(), self.heads.head_dim);
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        let [to_dq, to_dk, to_dv] = [(&mut dq, q_width), (&mut dk, kv_width), (&mut dv, kv_width)]
            .map(|(grad, stride)| Target { values: grad.as_mut_ptr(), stride });
        self.over_blocks(|place, first, last| {
            let (rows, low) = (last - first, self.heads.first_seen(first));
            let Shares { values: shares, stride, slopes } = self.shares(q, k, place, first, last);
            let (columns, seen) = (last - low, place.kv + low * kv_width);
            let query = place.q + first * q_width;
            let upstream = Matrix::strided(&dy[query..], rows, dim, q_width);
            let values = Matrix::strided(&v[seen..], columns, dim, kv_width);
            let (mut grad, _) = in_whole_vectors(upstream, values, (rows, columns), 1.0);
            score_grad(&shares, &mut grad, stride, self.heads.scale);
            through(slopes.as_deref(), &mut grad);
            let [shares, grad] = [&shares, &grad].map(|values| Matrix::strided(values, rows, columns, stride));
            let keys = Matrix::strided(&k[seen..], columns, dim, kv_width);
            let queries = Matrix::strided(&q[query..], rows, dim, q_width);
            // SAFETY: the rows and columns of a place lie within the gradients; those of the keys and values are shared
            // by one group alone, whose places come one behind the other.
            unsafe {
                into(shares.t(), upstream, to_dv.at_column(seen), 1.0, true);
                into(grad, keys, to_dq.at_column(query), 1.0, false);
                into(grad.t(), queries, to_dk.at_column(seen), 1.0, true);
            }
        });
        self.rotate(&mut dq, &mut dk, true);
        [dq, dk, dv]
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        ql: &Layout,
        k: &CpuStorage,
        kl: &Layout,
        v: &CpuStorage,
        vl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (mut q, mut k) = (f32_slice(q, ql)?.to_vec(), f32_slice(k, kl)?.to_vec());
        self.rotate(&mut q, &mut k, false);
        Ok((CpuStorage::F32(self.forward(&q, &k, f32_slice(v, vl)?)), ql.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dq, dk, dv] = with_slices([q, k, v, &dy.contiguous()?], |[q, k, v, dy]| {
            let (mut q, mut k) = (q.to_vec(), k.to_vec());
            self.rotate(&mut q, &mut k, false);
            Ok(self.backward(&q, &k, v, dy))
        })?;
        let grad = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device()).map(Some);
        Ok((grad(dq, q)?, grad(dk, k)?, grad(dv, v)?))
    }
}
