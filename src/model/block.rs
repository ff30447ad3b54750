//! The parts of one decoder block. Families differ in how queries, keys and values are made, in the MLP, and in further
//! norms. What a block computes is in [`block_forward`](super::block_forward) and [`fused_block`](super::fused_block).

use candle_core::{Result, Tensor};

use super::config::{Activation, Norm};
use super::cpu::cache::RowCache;
use super::linear::Linear;
use super::ops::attention::Heads;
use super::ops::cached_attention::cached_attention;
use super::ops::layer_norm::layer_norm;
use super::ops::rms_norm::rms_norm;
use super::segments::Segments;

/// A norm with its place in the model.
#[derive(Debug, Clone)]
pub struct NormLayer {
    /// Module path as in the checkpoint, e.g. `model.norm`.
    pub path: String,
    /// Factor on each normalised value, `[d_model]` or `[head_dim]`.
    pub weight: Tensor,
    /// Added after the factor, with the weight's shape; `None` for RMS norms.
    pub bias: Option<Tensor>,
    /// Formula of the norm, with its epsilon.
    pub kind: Norm,
}

impl NormLayer {
    /// Normalises each row: `[tokens, d_model] → [tokens, d_model]`.
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

    /// Normalises each head by itself: `x [tokens, heads · head_dim]`, with a weight `[head_dim]`.
    pub(crate) fn by_head(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(&x.reshape(((), self.weight.elem_count()))?)?.reshape(x.shape())
    }
}

/// The linears that compute queries, keys and values from the normalised residual stream.
#[derive(Debug, Clone)]
pub enum QkvLinears {
    /// Three linears, one each for queries, keys and values.
    Apart {
        /// Query projection, `[heads · head_dim, d_model]`.
        q: Linear,
        /// Key projection, `[kv_heads · head_dim, d_model]`.
        k: Linear,
        /// Value projection, `[kv_heads · head_dim, d_model]`.
        v: Linear,
    },
    /// One linear whose output is all queries, then all keys, then all values.
    Fused(Linear),
    /// One linear whose output is query, key and value of the first head, then of the second, and so on.
    Interleaved(Linear),
}

/// The linears from the residual stream to the MLP's hidden layer.
#[derive(Debug, Clone)]
pub enum MlpLinears {
    /// A gated MLP: the hidden layer is `activation(gate(x)) · up(x)`.
    Gated {
        /// The factor that goes through the activation, `[intermediate, d_model]`.
        gate: Linear,
        /// The factor that is multiplied with the activated gate, `[intermediate, d_model]`.
        up: Linear,
    },
    /// A gated MLP with both factors in one linear, the gate's rows first.
    FusedGated(Linear),
    /// An MLP without a gate: the hidden layer is `activation(up(x))`.
    Plain(Linear),
}

/// Weights and settings of one decoder block.
#[derive(Debug, Clone)]
pub struct Block {
    /// Index of the block in the decoder, from 0.
    pub layer: usize,
    /// Norm of the residual stream before attention.
    pub input_norm: NormLayer,
    /// The linears that make queries, keys and values.
    pub qkv: QkvLinears,
    /// RMS norms of each head's query and key, where the family has them (Qwen 3, Gemma 3).
    pub qk_norms: Option<[NormLayer; 2]>,
    /// Attention's output projection, `[d_model, heads · head_dim]`.
    pub o: Linear,
    /// Norm of the residual stream before the MLP.
    pub mlp_norm: NormLayer,
    /// The MLP's linears before the activation.
    pub mlp: MlpLinears,
    /// The MLP's nonlinearity, between its first and last linears.
    pub activation: Activation,
    /// The MLP's last linear, back to `d_model`.
    pub down: Linear,
    /// Norms of what attention and the MLP add, where the family has them.
    pub post_norms: Option<[NormLayer; 2]>,
    /// Number and width of the heads, rotary embedding, window, soft cap.
    pub heads: Heads,
}

impl Block {
    /// Appends keys, already rotated, and values to each segment's cache.
    pub(crate) fn append_kv(&self, k: &[f32], v: &[f32], segments: &Segments, caches: &mut [RowCache]) {
        let (kv_heads, dim) = (self.heads.kv_heads, self.heads.head_dim);
        let width = kv_heads * dim;
        for (segment, cache) in segments.iter().zip(caches) {
            for token in segment.start..segment.start + segment.len {
                let range = token * width..(token + 1) * width;
                cache.layers[self.layer].push(&k[range.clone()], &v[range], kv_heads, dim);
            }
        }
    }

    /// Attention of one new token per row over its cache; rotates queries and keys. Caches are in the CPU's memory on every
    /// device, so this runs on the CPU.
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

    /// The same linears, mutable: LoRAs are attached to them.
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
