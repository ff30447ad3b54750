//! The decoder in stages: `embed`, `block(i)`, `final_norm`, `head`. Tokens are flat, `[tokens, d_model]`; a pass's
//! segments say which of them form a sequence.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};

use super::block::{Block, MlpLinears, NormLayer, QkvLinears};
use super::config::{DecoderConfig, Mlp, Norm, Positions, Qkv};
use super::linear::Linear;
use super::ops::attention::Heads;
use super::ops::linear::frozen_linear;
use super::ops::quantised::Products;
use super::ops::rope::RopeTable;
use super::ops::softcap::softcap;
use super::ops::weight::Weight;
use super::pass::{Attend, Pass};
use super::rope::Rope;
use crate::model::cpu::cache::{LayerCache, RowCache};
use crate::process;

/// Weights by checkpoint name, e.g. `model.layers.0.mlp.up_proj.weight`.
pub type Weights = BTreeMap<String, Tensor>;

/// Weights by checkpoint name as the decoder holds them; some may be quantised.
pub type HeldWeights = BTreeMap<String, Weight>;

/// A decoder; cloning shares the weights.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Sizes, and the variants of the parts.
    pub config: DecoderConfig,
    /// The token embedding, `[vocab, d_model]`.
    pub embedding: Weight,
    /// `[positions, d_model]`, added to the embedding; `None` where positions are rotary.
    pub positions: Option<Tensor>,
    /// The blocks in the order of the forward pass.
    pub blocks: Vec<Block>,
    /// The norm before the output head.
    pub norm: NormLayer,
    /// `[vocab, d_model]`; the embedding itself where the two are tied.
    pub output: Weight,
    /// How the steps of `generate` make their products with quantised weights; everything else is exact.
    pub step_products: Products,
}

impl Decoder {
    /// Puts a decoder together from its weights, [`Weights`] or [`HeldWeights`]. `trainable` makes every one of them a
    /// variable (pretraining).
    ///
    /// # Errors
    /// Names a weight that is missing or has another shape than the configuration says, and a family whose weights are not
    /// all trained here.
    pub fn new<W>(config: DecoderConfig, weights: &BTreeMap<String, W>, trainable: bool) -> Result<Self>
    where
        for<'a> Weight: From<&'a W>,
    {
        if trainable && config.architecture != "LlamaForCausalLM" {
            candle_core::bail!(
                "only LlamaForCausalLM can be trained in full, not {}; train an adapter instead",
                config.architecture
            );
        }
        let take_held = |name: String, shape: &[usize]| -> Result<Weight> {
            let Some(weight) = weights.get(&name) else { candle_core::bail!("the weight `{name}` is missing") };
            let weight = Weight::from(weight);
            if weight.dims() != shape {
                candle_core::bail!(
                    "the weight `{name}` has shape {:?}; by the configuration it is {shape:?}",
                    weight.dims()
                );
            }
            if trainable { Ok(Var::from_tensor(&weight.to_tensor())?.as_tensor().into()) } else { Ok(weight) }
        };
        // What no product reads is never held in blocks.
        let take = |name: String, shape: &[usize]| -> Result<Tensor> { Ok(take_held(name, shape)?.to_tensor()) };
        let hidden = config.hidden_size;
        let (q, kv) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let linear = |path: String, out: usize, width: usize, bias: bool| -> Result<Linear> {
            let weight = take_held(format!("{path}.weight"), &[out, width])?;
            let bias = if bias { Some(take(format!("{path}.bias"), &[out])?) } else { None };
            Ok(Linear { path, weight, bias, lora: None })
        };
        let norm_of = |path: String, width: usize| -> Result<NormLayer> {
            let weight = take(format!("{path}.weight"), &[width])?;
            let bias = match config.norm {
                Norm::Layer { .. } => Some(take(format!("{path}.bias"), &[width])?),
                Norm::Rms { .. } | Norm::RmsOffset { .. } => None,
            };
            Ok(NormLayer { path, weight, bias, kind: config.norm })
        };
        let norm = |path: String| norm_of(path, hidden);
        let table = |rope: Option<&Rope>| RopeTable::new(config.head_dim, rope, config.max_position_embeddings);
        let (rope, local_rope) = match &config.positions {
            Positions::Rotary { rope, local } => (table(Some(rope)), local.as_ref().map(|local| table(Some(local)))),
            Positions::Learned => (table(None), None),
        };
        let names = config.names;
        let block = |layer: usize| -> Result<Block> {
            let at = |name: &str| format!("{}.{layer}.{name}", names.layers);
            let in_attention = |name: &str| format!("{}.{layer}.{}.{name}", names.layers, names.attention);
            let window = config.windows[layer];
            let (attention, mlp, inner) = (config.attention_bias, config.mlp_bias, config.intermediate_size);
            let project = |name: &str, out: usize| linear(in_attention(name), out, hidden, attention);
            let widen = |name: &str, out: usize| linear(at(&format!("mlp.{name}")), out, hidden, mlp);
            Ok(Block {
                layer,
                input_norm: norm(at(names.input_norm))?,
                qkv: match config.qkv {
                    Qkv::Apart => QkvLinears::Apart {
                        q: project("q_proj", q)?,
                        k: project("k_proj", kv)?,
                        v: project("v_proj", kv)?,
                    },
                    Qkv::Fused => QkvLinears::Fused(project(names.qkv, q + 2 * kv)?),
                    Qkv::Interleaved => QkvLinears::Interleaved(project(names.qkv, q + 2 * kv)?),
                },
                qk_norms: match config.qk_norm {
                    true => Some([
                        norm_of(in_attention("q_norm"), config.head_dim)?,
                        norm_of(in_attention("k_norm"), config.head_dim)?,
                    ]),
                    false => None,
                },
                o: linear(in_attention(names.out), hidden, q, config.attention_out_bias)?,
                mlp_norm: norm(at(names.mlp_norm))?,
                mlp: match config.mlp {
                    Mlp::Gated => MlpLinears::Gated { gate: widen("gate_proj", inner)?, up: widen(names.up, inner)? },
                    Mlp::FusedGated => MlpLinears::FusedGated(widen(names.up, 2 * inner)?),
                    Mlp::Plain => MlpLinears::Plain(widen(names.up, inner)?),
                },
                activation: config.activation,
                down: linear(at(&format!("mlp.{}", names.down)), hidden, inner, mlp)?,
                post_norms: match config.post_norms {
                    true => Some([norm(at("post_attention_layernorm"))?, norm(at("post_feedforward_layernorm"))?]),
                    false => None,
                },
                heads: Heads {
                    heads: config.num_attention_heads,
                    kv_heads: config.num_key_value_heads,
                    head_dim: config.head_dim,
                    rope: local_rope.as_ref().filter(|_| window.is_some()).unwrap_or(&rope).clone(),
                    scale: config.attention_scale,
                    window,
                    softcap: config.attention_softcap,
                },
            })
        };
        let embedding = take_held(format!("{}.weight", names.embedding), &[config.vocab_size, hidden])?;
        let positions = match config.positions {
            Positions::Rotary { .. } => None,
            Positions::Learned => {
                Some(take(format!("{}.weight", names.positions), &[config.max_position_embeddings, hidden])?)
            }
        };
        let output = match config.tie_word_embeddings {
            true => embedding.clone(),
            false => take_held("lm_head.weight".into(), &[config.vocab_size, hidden])?,
        };
        let blocks = (0..config.num_hidden_layers).map(block).collect::<Result<_>>()?;
        Ok(Self {
            embedding,
            positions,
            blocks,
            norm: norm(names.norm.into())?,
            output,
            step_products: Products::Exact,
            config,
        })
    }

    /// The device that holds its weights.
    pub fn device(&self) -> &Device {
        self.norm.weight.device()
    }

    /// Threads that run it: as many as asked for or one a core; one alone where another device does the work.
    pub fn workers(&self, wanted: usize) -> usize {
        if self.device().is_cpu() { process::workers(wanted) } else { 1 }
    }

    /// `[tokens] → [tokens, d_model]`, without a graph: the trainer adds the embedding's gradient itself. `attend` says which
    /// place each token has, for families that learn their positions.
    pub fn embed(&self, ids: &[u32], attend: &Attend) -> Result<Tensor> {
        if let Some(bad) = ids.iter().find(|&&id| id as usize >= self.config.vocab_size) {
            candle_core::bail!("token {bad} is outside the model's vocabulary of {}", self.config.vocab_size);
        }
        let tokens = ids.len();
        let mut x = self.embedding.rows(ids)?;
        if self.config.embedding_scale != 1.0 {
            x = (x * f64::from(self.config.embedding_scale))?;
        }
        let Some(positions) = &self.positions else { return Ok(x) };
        let (indices, most) = (attend.positions(tokens), self.config.max_position_embeddings);
        if indices.iter().any(|&index| index as usize >= most) {
            candle_core::bail!("a sequence is longer than the model's {most} positions");
        }
        x + positions
            .detach()
            .index_select(&Tensor::from_vec(indices, tokens, self.device())?, 0)?
            .to_dtype(DType::F32)?
    }

    /// Runs all blocks: `[tokens, d_model] → [tokens, d_model]`, before the final norm.
    pub fn blocks(&self, mut x: Tensor, pass: &mut Pass) -> Result<Tensor> {
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
        }
        Ok(x)
    }

    /// Normalised hidden states to logits, `[tokens, d_model] → [tokens, vocab]`.
    pub fn head(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head_by(hidden, Products::Exact)
    }

    /// The same with products with a quantised head made like this.
    pub fn head_by(&self, hidden: &Tensor, products: Products) -> Result<Tensor> {
        let logits = frozen_linear(hidden, self.output.with_products(products))?;
        self.config.logit_softcap.map_or_else(|| Ok(logits.clone()), |cap| softcap(&logits, cap))
    }

    /// Logits of every token: `[tokens] → [tokens, vocab]`.
    pub fn forward(&self, ids: &[u32], pass: &mut Pass) -> Result<Tensor> {
        let x = self.blocks(self.embed(ids, &pass.attend)?, pass)?;
        self.head_by(&self.norm.forward(&x)?, pass.products)
    }

    /// Whether any weight that a product reads is quantised.
    pub fn has_blocks(&self) -> bool {
        let weights = self.linears().map(|linear| &linear.weight).chain([&self.output]);
        weights.into_iter().any(|weight| weight.dense().is_none())
    }

    /// An empty cache for one row of up to `capacity` tokens.
    pub fn new_cache(&self, capacity: usize) -> RowCache {
        let layer = || LayerCache::new(self.config.num_key_value_heads, self.config.head_dim, capacity);
        RowCache { layers: self.blocks.iter().map(|_| layer()).collect() }
    }

    /// Every linear but the head, in the order of the forward pass.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.blocks.iter().flat_map(Block::linears)
    }

    /// The same linears, mutable: LoRAs are attached to them.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.blocks.iter_mut().flat_map(Block::linears_mut)
    }

    /// Every weight by its checkpoint name, LoRAs apart; quantised ones unpacked to f32.
    pub fn weights(&self) -> Weights {
        self.held_weights().into_iter().map(|(name, weight)| (name, weight.to_tensor())).collect()
    }

    /// Every weight as the decoder holds it, quantised ones in blocks.
    pub fn held_weights(&self) -> HeldWeights {
        let mut weights = HeldWeights::new();
        let names = self.config.names;
        weights.insert(format!("{}.weight", names.embedding), self.embedding.clone());
        if let Some(positions) = &self.positions {
            weights.insert(format!("{}.weight", names.positions), positions.into());
        }
        if !self.config.tie_word_embeddings {
            weights.insert("lm_head.weight".into(), self.output.clone());
        }
        for linear in self.linears() {
            weights.insert(format!("{}.weight", linear.path), linear.weight.clone());
            if let Some(bias) = &linear.bias {
                weights.insert(format!("{}.bias", linear.path), bias.into());
            }
        }
        for norm in self.blocks.iter().flat_map(Block::norms).chain([&self.norm]) {
            weights.insert(format!("{}.weight", norm.path), (&norm.weight).into());
            if let Some(bias) = &norm.bias {
                weights.insert(format!("{}.bias", norm.path), bias.into());
            }
        }
        weights
    }
}
