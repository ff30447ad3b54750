//! One configuration that describes the decoder of any supported family; `families` reads `config.json` into it.

use serde_json::Value;

use super::rope::{Rope, RopeScaling};

/// Formula of a norm layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Norm {
    /// RMS norm: divides by the root mean square and multiplies by the weight.
    Rms {
        /// Added to the mean square (or variance) before the root.
        eps: f32,
    },
    /// RMS norm whose checkpoints hold the weight minus 1 (Gemma).
    RmsOffset {
        /// Added to the mean square (or variance) before the root.
        eps: f32,
    },
    /// Layer norm: subtracts the mean, divides by the standard deviation, then weight and bias.
    Layer {
        /// Added to the mean square (or variance) before the root.
        eps: f32,
    },
}

/// How a token's position enters the model.
#[derive(Debug, Clone, PartialEq)]
pub enum Positions {
    /// Queries and keys are rotated by angles that grow with the position (RoPE).
    Rotary {
        /// Angles of layers with full attention, and of all layers where `local` is `None`.
        rope: Rope,
        /// Angles of sliding-window layers, where they differ (Gemma 3).
        local: Option<Rope>,
    },
    /// A learned row of a table is added to the token's embedding.
    Learned,
}

/// The MLP's nonlinearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// SiLU: x / (1 + e⁻ˣ)
    Silu,
    /// Exact GELU: x · Φ(x)
    Gelu,
    /// GELU in its tanh approximation.
    GeluTanh,
}

/// Structure of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mlp {
    /// Two parallel linears and a product: `down(activation(gate(x)) · up(x))`.
    Gated,
    /// As `Gated`, with gate and up stored as one linear.
    FusedGated,
    /// No gate: `down(activation(up(x)))`.
    Plain,
}

/// How many linears compute queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qkv {
    /// Three linears, one each for queries, keys and values.
    Apart,
    /// One linear whose output is all queries, then all keys, then all values.
    Fused,
    /// One linear whose output is query, key and value of the first head, then of the second, and so on.
    Interleaved,
}

/// Names of a family's modules in its checkpoints, e.g. `q_proj`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// Module path of the token embedding.
    pub embedding: &'static str,
    /// Module path of the learned position embedding; empty where there is none.
    pub positions: &'static str,
    /// Module path of the list of blocks.
    pub layers: &'static str,
    /// Module path of the norm before the output head.
    pub norm: &'static str,
    /// Name of the norm before attention, within a block.
    pub input_norm: &'static str,
    /// Name of the norm before the MLP, within a block.
    pub mlp_norm: &'static str,
    /// Name of the module that holds attention's linears, within a block.
    pub attention: &'static str,
    /// Name of the linear that computes queries, keys and values, where there is only one.
    pub qkv: &'static str,
    /// Name of attention's output projection.
    pub out: &'static str,
    /// Name of the MLP's first linear (gate and up in one, where they are fused).
    pub up: &'static str,
    /// Name of the MLP's last linear.
    pub down: &'static str,
}

impl Names {
    /// Names of Llama's modules, which most later families use too.
    pub const LLAMA: Self = Self {
        embedding: "model.embed_tokens",
        positions: "",
        layers: "model.layers",
        norm: "model.norm",
        input_norm: "input_layernorm",
        mlp_norm: "post_attention_layernorm",
        attention: "self_attn",
        qkv: "qkv_proj",
        out: "o_proj",
        up: "up_proj",
        down: "down_proj",
    };
}

/// A decoder's sizes and the variants of its parts, under the names of Hugging Face's `config.json` where it has one.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Architecture as `config.json` names it, e.g. `LlamaForCausalLM`.
    pub architecture: String,
    /// Names of the modules in checkpoints.
    pub names: Names,
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream, d_model.
    pub hidden_size: usize,
    /// Number of blocks (layers).
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; several query heads share one.
    pub num_key_value_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the MLP's hidden layer.
    pub intermediate_size: usize,
    /// Longest sequence in tokens, prompt and answer together.
    pub max_position_embeddings: usize,
    /// Formula of all norm layers.
    pub norm: Norm,
    /// How a token's position enters the model.
    pub positions: Positions,
    /// Sliding window by layer: how many tokens a token attends to, itself included; `None` means all before it.
    pub windows: Vec<Option<usize>>,
    /// How queries, keys and values are computed.
    pub qkv: Qkv,
    /// Whether each head's queries and keys are normalised.
    pub qk_norm: bool,
    /// Factor on attention scores, as a rule 1/√head_dim.
    pub attention_scale: f32,
    /// Attention scores are squashed into ± this value with a tanh; `None` leaves them.
    pub attention_softcap: Option<f32>,
    /// Logits are squashed into ± this value with a tanh; `None` leaves them.
    pub logit_softcap: Option<f32>,
    /// Factor on token embeddings; 1 in most families.
    pub embedding_scale: f32,
    /// Whether the outputs of attention and MLP are normalised before they are added to the residual stream (Gemma).
    pub post_norms: bool,
    /// Structure of the MLP.
    pub mlp: Mlp,
    /// Nonlinearity of the MLP.
    pub activation: Activation,
    /// Whether the query, key and value projections have a bias.
    pub attention_bias: bool,
    /// Whether attention's output projection has a bias.
    pub attention_out_bias: bool,
    /// Whether the MLP's linears have a bias.
    pub mlp_bias: bool,
    /// Whether the output head shares the token embedding's weights.
    pub tie_word_embeddings: bool,
    /// Ids of the tokens that end an answer.
    pub eos_token_ids: Vec<u32>,
}

impl DecoderConfig {
    /// A Llama of these sizes with its usual settings: no biases, tied embeddings, token 0 ends a turn.
    pub fn llama(
        vocab_size: usize,
        hidden_size: usize,
        num_hidden_layers: usize,
        (num_attention_heads, num_key_value_heads): (usize, usize),
        intermediate_size: usize,
        max_position_embeddings: usize,
    ) -> Self {
        let head_dim = hidden_size / num_attention_heads;
        let rope = Rope { theta: 10_000.0, dim: head_dim, scaling: RopeScaling::None };
        Self {
            architecture: "LlamaForCausalLM".into(),
            names: Names::LLAMA,
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            intermediate_size,
            max_position_embeddings,
            norm: Norm::Rms { eps: 1e-5 },
            positions: Positions::Rotary { rope, local: None },
            windows: vec![None; num_hidden_layers],
            qkv: Qkv::Apart,
            qk_norm: false,
            attention_scale: 1.0 / (head_dim as f32).sqrt(),
            attention_softcap: None,
            logit_softcap: None,
            embedding_scale: 1.0,
            post_norms: false,
            mlp: Mlp::Gated,
            activation: Activation::Silu,
            attention_bias: false,
            attention_out_bias: false,
            mlp_bias: false,
            tie_word_embeddings: true,
            eos_token_ids: vec![0],
        }
    }

    /// A Llama as transformers writes it.
    pub fn to_json(&self, bos: u32, eos: u32, pad: u32) -> Value {
        let (Norm::Rms { eps } | Norm::RmsOffset { eps } | Norm::Layer { eps }) = self.norm;
        let theta = match &self.positions {
            Positions::Rotary { rope, .. } => Some(rope.theta),
            Positions::Learned => None,
        };
        serde_json::json!({
            "architectures": [self.architecture],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "hidden_act": "silu",
            "rms_norm_eps": eps,
            "rope_theta": theta,
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "pad_token_id": pad,
            "torch_dtype": "float32",
        })
    }

    /// A part of the checkpoint that is not read, in words.
    pub fn left_out(&self) -> Option<&'static str> {
        (self.architecture == "Gemma3ForConditionalGeneration")
            .then_some("its vision tower is not read: text alone goes in")
    }

    /// How many weights a model of this shape has.
    pub fn parameters(&self) -> usize {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        let given = |there: bool, count: usize| if there { count } else { 0 };
        let norm = hidden * if matches!(self.norm, Norm::Layer { .. }) { 2 } else { 1 };
        let gated = usize::from(self.mlp != Mlp::Plain);
        let linears = hidden * (2 * q + 2 * kv + (2 + gated) * inner);
        let biases = given(self.attention_bias, q + 2 * kv)
            + given(self.attention_out_bias, hidden)
            + given(self.mlp_bias, (1 + gated) * inner + hidden);
        let norms = norm * if self.post_norms { 4 } else { 2 } + given(self.qk_norm, 2 * self.head_dim);
        let embeddings = hidden * self.vocab_size * if self.tie_word_embeddings { 1 } else { 2 }
            + given(self.positions == Positions::Learned, hidden * self.max_position_embeddings);
        self.num_hidden_layers * (linears + biases + norms) + norm + embeddings
    }
}

/// Token ids from JSON that holds one id or a list of them.
pub fn token_ids(value: &Value) -> Vec<u32> {
    match value {
        Value::Array(ids) => ids.iter().filter_map(Value::as_u64).map(|id| id as u32).collect(),
        other => other.as_u64().map(|id| id as u32).into_iter().collect(),
    }
}
