//! The decoder in stages: `embed`, `block(i)`, `final_norm`, `head`. Tokens are flat, `[tokens, d_model]`; a pass's
//! segments say which of them form a sequence.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};

use super::block::{Block, NormLayer, Pass};
use super::cache::{LayerCache, RowCache};
use super::config::{DecoderConfig, Positions};
use super::linear::{Linear, LinearWeight};
use super::ops::attention::Heads;
use super::ops::linear::frozen_linear;
use super::ops::rope::RopeTable;

/// Weights by checkpoint name, e.g. `model.layers.0.mlp.up_proj.weight`.
pub type Weights = BTreeMap<String, Tensor>;

/// A decoder; cloning shares the weights.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Its shape.
    pub config: DecoderConfig,
    /// `[vocab, d_model]`.
    pub embedding: Tensor,
    /// In order.
    pub blocks: Vec<Block>,
    /// Before the head.
    pub norm: NormLayer,
    /// `[vocab, d_model]`; the embedding itself where the two are tied.
    pub output: Tensor,
}

impl Decoder {
    /// Puts a decoder together from its weights. `trainable` makes every one of them a variable (pretraining).
    ///
    /// # Errors
    /// Names a weight that is missing or has another shape than the configuration says.
    pub fn new(config: DecoderConfig, weights: &Weights, trainable: bool) -> Result<Self> {
        let take = |name: String, shape: &[usize]| -> Result<Tensor> {
            let Some(weight) = weights.get(&name) else { candle_core::bail!("the weight `{name}` is missing") };
            if weight.dims() != shape {
                candle_core::bail!("the weight `{name}` is {:?}, the configuration says {shape:?}", weight.dims());
            }
            if trainable { Ok(Var::from_tensor(weight)?.as_tensor().clone()) } else { Ok(weight.clone()) }
        };
        let hidden = config.hidden_size;
        let (q, kv) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let linear = |path: String, out: usize, width: usize, bias: bool| -> Result<Linear> {
            let weight = take(format!("{path}.weight"), &[out, width])?;
            let weight = if trainable { LinearWeight::Trainable(weight) } else { LinearWeight::Frozen(weight) };
            let bias = if bias { Some(take(format!("{path}.bias"), &[out])?) } else { None };
            Ok(Linear { path, weight, bias, lora: None })
        };
        let norm = |path: String| -> Result<NormLayer> {
            Ok(NormLayer { weight: take(format!("{path}.weight"), &[hidden])?, path, kind: config.norm })
        };
        let Positions::Rotary { theta } = config.positions;
        let heads = Heads {
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            rope: RopeTable::new(config.head_dim, theta, config.max_position_embeddings),
        };
        let block = |layer: usize| -> Result<Block> {
            let at = |name: &str| format!("model.layers.{layer}.{name}");
            let attention = config.attention_bias;
            let mlp = config.mlp_bias;
            Ok(Block {
                layer,
                input_norm: norm(at("input_layernorm"))?,
                q: linear(at("self_attn.q_proj"), q, hidden, attention)?,
                k: linear(at("self_attn.k_proj"), kv, hidden, attention)?,
                v: linear(at("self_attn.v_proj"), kv, hidden, attention)?,
                o: linear(at("self_attn.o_proj"), hidden, q, attention)?,
                mlp_norm: norm(at("post_attention_layernorm"))?,
                gate: linear(at("mlp.gate_proj"), config.intermediate_size, hidden, mlp)?,
                up: linear(at("mlp.up_proj"), config.intermediate_size, hidden, mlp)?,
                down: linear(at("mlp.down_proj"), hidden, config.intermediate_size, mlp)?,
                heads: heads.clone(),
            })
        };
        let embedding = take("model.embed_tokens.weight".into(), &[config.vocab_size, hidden])?;
        let output = match config.tie_word_embeddings {
            true => embedding.clone(),
            false => take("lm_head.weight".into(), &[config.vocab_size, hidden])?,
        };
        let blocks = (0..config.num_hidden_layers).map(block).collect::<Result<_>>()?;
        Ok(Self { embedding, blocks, norm: norm("model.norm".into())?, output, config })
    }

    /// Where its weights lie.
    pub fn device(&self) -> &Device {
        self.embedding.device()
    }

    /// `[tokens] → [tokens, d_model]`, without a graph: the trainer adds the embedding's gradient itself.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        if let Some(bad) = ids.iter().find(|&&id| id as usize >= self.config.vocab_size) {
            candle_core::bail!("token {bad} is outside the model's vocabulary of {}", self.config.vocab_size);
        }
        let ids = Tensor::from_slice(ids, ids.len(), self.device())?;
        self.embedding.detach().index_select(&ids, 0)?.to_dtype(DType::F32)
    }

    /// `[tokens, d_model]` through every block.
    pub fn blocks(&self, mut x: Tensor, pass: &mut Pass) -> Result<Tensor> {
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
        }
        Ok(x)
    }

    /// Normalised hidden states to logits, `[tokens, d_model] → [tokens, vocab]`.
    pub fn head(&self, hidden: &Tensor) -> Result<Tensor> {
        frozen_linear(hidden, &self.output)
    }

    /// `[tokens] → [tokens, vocab]`.
    pub fn forward(&self, ids: &[u32], pass: &mut Pass) -> Result<Tensor> {
        let x = self.blocks(self.embed(ids)?, pass)?;
        self.head(&self.norm.forward(&x)?)
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

    /// The same to be changed (to attach LoRAs).
    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.blocks.iter_mut().flat_map(Block::linears_mut)
    }

    /// Every weight by its checkpoint name, LoRAs apart.
    pub fn weights(&self) -> Weights {
        let mut weights = Weights::new();
        weights.insert("model.embed_tokens.weight".into(), self.embedding.clone());
        if !self.config.tie_word_embeddings {
            weights.insert("lm_head.weight".into(), self.output.clone());
        }
        for linear in self.linears() {
            weights.insert(format!("{}.weight", linear.path), linear.weight.tensor().clone());
            if let Some(bias) = &linear.bias {
                weights.insert(format!("{}.bias", linear.path), bias.clone());
            }
        }
        for norm in self.blocks.iter().flat_map(|b| [&b.input_norm, &b.mlp_norm]).chain([&self.norm]) {
            weights.insert(format!("{}.weight", norm.path), norm.weight.clone());
        }
        weights
    }
}
