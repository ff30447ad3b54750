//! One decoder block: `x + attention(norm(x))`, then `x + mlp(norm(x))`, with a tap at every place where the residual
//! stream changes.

use candle_core::{Result, Tensor};

use super::cache::RowCache;
use super::config::Norm;
use super::hooks::{Intervention, Site, Tap};
use super::linear::Linear;
use super::ops::attention::{Heads, attention};
use super::ops::cached_attention::cached_attention;
use super::ops::rms_norm::rms_norm;
use super::ops::swiglu::swiglu;
use super::ops::{read, to_vec};
use super::segments::Segments;

/// What one pass through the decoder carries along.
pub struct Pass<'a> {
    /// Which tokens see which.
    pub attend: Attend<'a>,
    /// Watches or changes the residual stream.
    pub intervention: Option<&'a dyn Intervention>,
    /// Key of (seed, step); `None` outside training.
    pub dropout: Option<u64>,
}

/// Which tokens see which.
pub enum Attend<'a> {
    /// Whole sequences.
    Sequences(&'a Segments),
    /// Whole sequences whose keys and values are kept, one cache a segment.
    Prefill(&'a Segments, &'a mut [RowCache]),
    /// One new token a row, over what its cache holds.
    Step(&'a mut [&'a mut RowCache]),
}

impl<'a> Pass<'a> {
    /// Whole sequences, nothing else.
    pub fn sequences(segments: &'a Segments) -> Self {
        Self { attend: Attend::Sequences(segments), intervention: None, dropout: None }
    }

    fn tap(&self, layer: usize, site: Site, x: Tensor) -> Result<Tensor> {
        match self.intervention {
            None => Ok(x),
            Some(intervention) => Ok(intervention.apply(Tap { layer, site }, &x)?.unwrap_or(x)),
        }
    }
}

impl Attend<'_> {
    /// The pass's sequences; in a decoding step every row is one of a single token.
    pub fn segments(&self) -> Segments {
        match self {
            Self::Sequences(segments) | Self::Prefill(segments, _) => (*segments).clone(),
            Self::Step(rows) => Segments::packed(rows.iter().map(|_| 1), 0),
        }
    }
}

/// A norm's weight and kind.
#[derive(Debug, Clone)]
pub struct NormLayer {
    /// Module path.
    pub path: String,
    /// `[d_model]`.
    pub weight: Tensor,
    /// Which formula.
    pub kind: Norm,
}

impl NormLayer {
    /// `[tokens, d_model] → [tokens, d_model]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self.kind {
            Norm::Rms { eps } => rms_norm(x, &self.weight, eps),
        }
    }
}

/// The weights of one block.
#[derive(Debug, Clone)]
pub struct Block {
    /// 0-based.
    pub layer: usize,
    /// Before attention.
    pub input_norm: NormLayer,
    /// Queries.
    pub q: Linear,
    /// Keys.
    pub k: Linear,
    /// Values.
    pub v: Linear,
    /// Attention's output.
    pub o: Linear,
    /// Before the MLP.
    pub mlp_norm: NormLayer,
    /// The MLP's gate.
    pub gate: Linear,
    /// What the gate lets through.
    pub up: Linear,
    /// Back to the residual stream.
    pub down: Linear,
    /// Heads and positions.
    pub heads: Heads,
}

impl Block {
    /// `[tokens, d_model] → [tokens, d_model]`.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let layer = self.layer;
        let x = pass.tap(layer, Site::ResidPre, x.clone())?;
        let attended = self.attend(&self.input_norm.forward(&x)?, pass)?;
        let x = (x + pass.tap(layer, Site::AttnOut, attended)?)?;
        let h = self.mlp_norm.forward(&x)?;
        let gated = swiglu(&self.gate.forward(&h, pass)?, &self.up.forward(&h, pass)?)?; // [tokens, intermediate]
        let mlp = self.down.forward(&gated, pass)?;
        let x = (x + pass.tap(layer, Site::MlpOut, mlp)?)?;
        pass.tap(layer, Site::ResidPost, x)
    }

    fn attend(&self, h: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let q = self.q.forward(h, pass)?; // [tokens, heads · head_dim]
        let k = self.k.forward(h, pass)?; // [tokens, kv_heads · head_dim]
        let v = self.v.forward(h, pass)?;
        let mixed = match &mut pass.attend {
            Attend::Sequences(segments) => attention(&q, &k, &v, &self.heads, segments)?,
            Attend::Prefill(segments, caches) => {
                self.remember(&k, &v, segments, caches)?;
                attention(&q, &k, &v, &self.heads, segments)?
            }
            Attend::Step(rows) => self.step(&q, &k, &v, rows)?,
        };
        self.o.forward(&mixed, pass)
    }

    fn remember(&self, k: &Tensor, v: &Tensor, segments: &Segments, caches: &mut [RowCache]) -> Result<()> {
        let (kv_heads, dim) = (self.heads.kv_heads, self.heads.head_dim);
        let width = kv_heads * dim;
        let mut k = to_vec(k)?;
        self.heads.rotate(&mut k, width, segments, false);
        read([&v.contiguous()?], |[v]| {
            for (segment, cache) in segments.iter().zip(caches) {
                for token in segment.start..segment.start + segment.len {
                    let range = token * width..(token + 1) * width;
                    cache.layers[self.layer].push(&k[range.clone()], &v[range], kv_heads, dim);
                }
            }
            Ok(())
        })
    }

    fn step(&self, q: &Tensor, k: &Tensor, v: &Tensor, rows: &mut [&mut RowCache]) -> Result<Tensor> {
        let (q_width, kv_width) = (self.heads.heads * self.heads.head_dim, self.heads.kv_heads * self.heads.head_dim);
        let (mut q_values, mut k) = (to_vec(q)?, to_vec(k)?);
        let mut out = vec![0.0; q_values.len()];
        read([&v.contiguous()?], |[v]| {
            for (i, row) in rows.iter_mut().enumerate() {
                let (wide, narrow) = (i * q_width..(i + 1) * q_width, i * kv_width..(i + 1) * kv_width);
                cached_attention(
                    &mut q_values[wide.clone()],
                    &mut k[narrow.clone()],
                    &v[narrow],
                    &self.heads,
                    &mut row.layers[self.layer],
                    &mut out[wide],
                );
            }
            Ok(())
        })?;
        Tensor::from_vec(out, q.shape(), q.device())
    }

    /// Its linears in the order of the forward pass.
    pub fn linears(&self) -> [&Linear; 7] {
        [&self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down]
    }

    /// The same to be changed.
    pub fn linears_mut(&mut self) -> [&mut Linear; 7] {
        let Self { q, k, v, o, gate, up, down, .. } = self;
        [q, k, v, o, gate, up, down]
    }
}
