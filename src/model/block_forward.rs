//! What a block computes: `x + attention(norm(x))`, then `x + mlp(norm(x))`, with a tap at every place where the residual
//! stream changes. While decoding a block takes its fused form where it has one; otherwise it goes through candle's graph.

use candle_core::{Result, Tensor};

use super::block::{Block, MlpLinears, QkvLinears};
use super::config::Activation;
use super::fused_block;
use super::hooks::Site;
use super::ops::attention::{Heads, attention};
use super::ops::gelu::gelu;
use super::ops::swiglu::swiglu;
use super::ops::{to_vec, with_slices};
use super::pass::{Attend, Pass};

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
        if decoding && !pass.has_tap_inside(layer) && fused_block::applies(self) {
            let (out, _) = with_slices([x], |[x]| fused_block::forward(self, x, pass, None))?;
            return Tensor::from_vec(out, x.shape(), x.device());
        }
        let mut attended = self.attend(&self.input_norm.forward(x)?, pass)?;
        if let Some([norm, _]) = &self.post_norms {
            attended = norm.forward(&attended)?;
        }
        let x = (x + pass.tap(layer, Site::AttnOut, attended)?)?;
        let mut mlp = self.down.forward(&self.mlp_hidden(&self.mlp_norm.forward(&x)?, pass)?, pass)?;
        if let Some([_, norm]) = &self.post_norms {
            mlp = norm.forward(&mlp)?;
        }
        x + pass.tap(layer, Site::MlpOut, mlp)?
    }

    /// The MLP up to its last linear, `[tokens, d_model] → [tokens, intermediate]`.
    fn mlp_hidden(&self, h: &Tensor, pass: &Pass) -> Result<Tensor> {
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
        let attn_out = match &mut pass.attend {
            Attend::Sequences(segments) => attention(&q, &k, &v, &self.heads, segments)?,
            Attend::Prefill(segments, caches) => {
                let mut rotated = to_vec(&k)?;
                self.heads.rotate(&mut rotated, self.heads.kv_heads * self.heads.head_dim, segments, false);
                self.append_kv(&rotated, &to_vec(&v)?, segments, caches);
                attention(&q, &k, &v, &self.heads, segments)?
            }
            Attend::Step(rows) => {
                let out = self.step(&mut to_vec(&q)?, &mut to_vec(&k)?, &to_vec(&v)?, rows);
                Tensor::from_vec(out, q.shape(), q.device())?
            }
        };
        self.o.forward(&pass.tap(self.layer, Site::HeadOut, attn_out)?, pass)
    }
}

fn activated(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Silu => x.silu(),
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => gelu(x),
    }
}
