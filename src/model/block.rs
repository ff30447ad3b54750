//! One decoder block: `x + attention(norm(x))`, then `x + mlp(norm(x))`, with a tap at every place where the residual
//! stream changes. Families differ in how queries, keys and values are made, in the MLP, and in further norms.

use candle_core::{Result, Tensor};

use super::by_hand;
use super::config::{Activation, Norm};
use super::hooks::Site;
use super::linear::Linear;
use super::ops::attention::{Heads, attention};
use super::ops::cached_attention::cached_attention;
use super::ops::gelu::gelu;
use super::ops::layer_norm::layer_norm;
use super::ops::rms_norm::rms_norm;
use super::ops::swiglu::swiglu;
use super::ops::{read, to_vec};
use super::pass::{Attend, Pass};
use super::segments::Segments;
use crate::model::cpu::cache::RowCache;

/// A norm's weight and kind.
#[derive(Debug, Clone)]
pub struct NormLayer {
    /// Module path.
    pub path: String,
    /// `[d_model]`.
    pub weight: Tensor,
    /// `[d_model]`, where the formula has one.
    pub bias: Option<Tensor>,
    /// Which formula.
    pub kind: Norm,
}

impl NormLayer {
    /// `[tokens, d_model] → [tokens, d_model]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self.kind {
            Norm::Rms { eps } => rms_norm(x, &self.weight, eps),
            Norm::RmsOffset { eps } => rms_norm(x, &(&self.weight + 1.0)?, eps),
            Norm::Layer { eps } => match &self.bias {
                Some(bias) => layer_norm(x, &self.weight, bias, eps),
                None => layer_norm(x, &self.weight, &self.weight.zeros_like()?, eps),
            },
        }
    }

    /// Of each head by itself, `[tokens, heads · head_dim]`, for a norm that is one head wide.
    fn by_head(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(&x.reshape(((), self.weight.elem_count()))?)?.reshape(x.shape())
    }
}

/// What makes queries, keys and values.
#[derive(Debug, Clone)]
pub enum QkvLinears {
    /// A linear each.
    Apart {
        /// Queries.
        q: Linear,
        /// Keys.
        k: Linear,
        /// Values.
        v: Linear,
    },
    /// All queries, all keys, all values of one linear.
    Fused(Linear),
    /// One linear: query, key and value of the first head, of the second, and so on.
    Interleaved(Linear),
}

/// What the MLP begins with.
#[derive(Debug, Clone)]
pub enum MlpLinears {
    /// `activation(gate(x)) · up(x)`.
    Gated {
        /// The gate.
        gate: Linear,
        /// What it lets through.
        up: Linear,
    },
    /// Both in one linear, the gate first.
    FusedGated(Linear),
    /// `activation(up(x))`.
    Plain(Linear),
}

/// The weights of one block.
#[derive(Debug, Clone)]
pub struct Block {
    /// 0-based.
    pub layer: usize,
    /// Before attention.
    pub input_norm: NormLayer,
    /// Queries, keys, values.
    pub qkv: QkvLinears,
    /// Norms of each head's query and key.
    pub qk_norms: Option<[NormLayer; 2]>,
    /// Attention's output.
    pub o: Linear,
    /// Before the MLP.
    pub mlp_norm: NormLayer,
    /// The MLP's beginning.
    pub mlp: MlpLinears,
    /// The MLP's nonlinearity.
    pub activation: Activation,
    /// Back to the residual stream.
    pub down: Linear,
    /// Of what attention and the MLP add.
    pub post_norms: Option<[NormLayer; 2]>,
    /// Heads and positions.
    pub heads: Heads,
}

impl Block {
    /// `[tokens, d_model] → [tokens, d_model]`, with the taps before and after.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let x = pass.tap(self.layer, Site::ResidPre, x.clone())?;
        let x = self.between_taps(&x, pass)?;
        pass.tap(self.layer, Site::ResidPost, x)
    }

    /// The same from `resid_pre` to `resid_post`, without those two taps.
    pub fn between_taps(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let layer = self.layer;
        // No backward pass runs through the KV cache.
        let decoding = !matches!(pass.attend, Attend::Sequences(_));
        if decoding && !pass.has_tap_inside(layer) && by_hand::applies(self) {
            let (out, _) = read([x], |[x]| by_hand::forward(self, x, pass, None))?;
            return Tensor::from_vec(out, x.shape(), x.device());
        }
        let mut attended = self.attend(&self.input_norm.forward(x)?, pass)?;
        if let Some([norm, _]) = &self.post_norms {
            attended = norm.forward(&attended)?;
        }
        let x = (x + pass.tap(layer, Site::AttnOut, attended)?)?;
        let mut mlp = self.down.forward(&self.widened(&self.mlp_norm.forward(&x)?, pass)?, pass)?;
        if let Some([_, norm]) = &self.post_norms {
            mlp = norm.forward(&mlp)?;
        }
        x + pass.tap(layer, Site::MlpOut, mlp)?
    }

    /// The MLP up to its last linear, `[tokens, d_model] → [tokens, intermediate]`.
    fn widened(&self, h: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (gate, up) = match &self.mlp {
            MlpLinears::Plain(up) => return activated(&up.forward(h, pass)?, self.activation),
            MlpLinears::Gated { gate, up } => (gate.forward(h, pass)?, up.forward(h, pass)?),
            MlpLinears::FusedGated(both) => {
                let both = both.forward(h, pass)?;
                let half = both.dim(1)? / 2;
                (both.narrow(1, 0, half)?.contiguous()?, both.narrow(1, half, half)?.contiguous()?)
            }
        };
        match self.activation {
            Activation::Silu => swiglu(&gate, &up),
            other => activated(&gate, other)? * up,
        }
    }

    /// `[tokens, heads · head_dim]` and twice `[tokens, kv_heads · head_dim]`.
    fn queries_keys_values(&self, h: &Tensor, pass: &Pass) -> Result<[Tensor; 3]> {
        let Heads { heads, kv_heads, head_dim: dim, .. } = self.heads;
        let [q, k, v] = match &self.qkv {
            QkvLinears::Apart { q, k, v } => [q.forward(h, pass)?, k.forward(h, pass)?, v.forward(h, pass)?],
            QkvLinears::Fused(all) => {
                let all = all.forward(h, pass)?;
                let (q, kv) = (heads * dim, kv_heads * dim);
                [all.narrow(1, 0, q)?, all.narrow(1, q, kv)?, all.narrow(1, q + kv, kv)?]
            }
            QkvLinears::Interleaved(all) => {
                let all = all.forward(h, pass)?.reshape(((), heads, 3 * dim))?;
                let part = |at: usize| all.narrow(2, at * dim, dim)?.contiguous()?.reshape(((), heads * dim));
                [part(0)?, part(1)?, part(2)?]
            }
        };
        match &self.qk_norms {
            None => Ok([q, k, v]),
            Some([q_norm, k_norm]) => Ok([q_norm.by_head(&q)?, k_norm.by_head(&k)?, v]),
        }
    }

    fn attend(&self, h: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let [q, k, v] = self.queries_keys_values(h, pass)?;
        let mixed = match &mut pass.attend {
            Attend::Sequences(segments) => attention(&q, &k, &v, &self.heads, segments)?,
            Attend::Prefill(segments, caches) => {
                let mut turned = to_vec(&k)?;
                self.heads.rotate(&mut turned, self.heads.kv_heads * self.heads.head_dim, segments, false);
                self.remember(&turned, &to_vec(&v)?, segments, caches);
                attention(&q, &k, &v, &self.heads, segments)?
            }
            Attend::Step(rows) => {
                let out = self.step(&mut to_vec(&q)?, &mut to_vec(&k)?, &to_vec(&v)?, rows);
                Tensor::from_vec(out, q.shape(), q.device())?
            }
        };
        self.o.forward(&pass.tap(self.layer, Site::HeadOut, mixed)?, pass)
    }

    /// Adds keys, turned already, and values to each segment's cache.
    pub(crate) fn remember(&self, k: &[f32], v: &[f32], segments: &Segments, caches: &mut [RowCache]) {
        let (kv_heads, dim) = (self.heads.kv_heads, self.heads.head_dim);
        let width = kv_heads * dim;
        for (segment, cache) in segments.iter().zip(caches) {
            for token in segment.start..segment.start + segment.len {
                let range = token * width..(token + 1) * width;
                cache.layers[self.layer].push(&k[range.clone()], &v[range], kv_heads, dim);
            }
        }
    }

    /// Attention of one new token a row over its cache; turns queries and keys. Caches are in the processor's memory, and so
    /// is this, on every device.
    pub(crate) fn step(&self, q: &mut [f32], k: &mut [f32], v: &[f32], rows: &mut [&mut RowCache]) -> Vec<f32> {
        let (q_width, kv_width) = (self.heads.heads * self.heads.head_dim, self.heads.kv_heads * self.heads.head_dim);
        let mut out = vec![0.0; q.len()];
        for (i, row) in rows.iter_mut().enumerate() {
            let (wide, narrow) = (i * q_width..(i + 1) * q_width, i * kv_width..(i + 1) * kv_width);
            cached_attention(
                &mut q[wide.clone()],
                &mut k[narrow.clone()],
                &v[narrow],
                &self.heads,
                &mut row.layers[self.layer],
                &mut out[wide],
            );
        }
        out
    }

    /// Its linears in the order of the forward pass.
    pub fn linears(&self) -> Vec<&Linear> {
        let mut all = match &self.qkv {
            QkvLinears::Apart { q, k, v } => vec![q, k, v],
            QkvLinears::Fused(all) | QkvLinears::Interleaved(all) => vec![all],
        };
        all.push(&self.o);
        match &self.mlp {
            MlpLinears::Gated { gate, up } => all.extend([gate, up]),
            MlpLinears::FusedGated(up) | MlpLinears::Plain(up) => all.push(up),
        }
        all.push(&self.down);
        all
    }

    /// The same to be changed.
    pub fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let mut all = match &mut self.qkv {
            QkvLinears::Apart { q, k, v } => vec![q, k, v],
            QkvLinears::Fused(all) | QkvLinears::Interleaved(all) => vec![all],
        };
        all.push(&mut self.o);
        match &mut self.mlp {
            MlpLinears::Gated { gate, up } => all.extend([gate, up]),
            MlpLinears::FusedGated(up) | MlpLinears::Plain(up) => all.push(up),
        }
        all.push(&mut self.down);
        all
    }

    /// Its norms in the order of the forward pass.
    pub fn norms(&self) -> impl Iterator<Item = &NormLayer> {
        let post = |at: usize| self.post_norms.iter().map(move |norms| &norms[at]);
        [&self.input_norm]
            .into_iter()
            .chain(self.qk_norms.iter().flatten())
            .chain(post(0))
            .chain([&self.mlp_norm])
            .chain(post(1))
    }
}

fn activated(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Silu => x.silu(),
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => gelu(x),
    }
}
