//! One configuration that describes the decoder of any supported family; `families` reads `config.json` into it.

use serde_json::Value;

use super::rope::{Rope, RopeScaling};

/// The normalisation of a norm layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Norm {
    /// Root mean square.
    Rms {
        /// Added to the mean square (or variance) before the root.
        eps: f32,
    },
    /// Root mean square whose weight is stored less one (Gemma).
    RmsOffset {
        /// Added to the mean square (or variance) before the root.
        eps: f32,
    },
    /// Mean and variance, with a bias.
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
        /// Of layers that see everything before them, and of all where there is no `local`.
        rope: Rope,
        /// Of layers with a window, where they have angles of their own (Gemma 3).
        local: Option<Rope>,
    },
    /// A learned row of a table is added to the token's embedding.
    Learned,
}

/// The nonlinearity of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x / (1 + e⁻ˣ)
    Silu,
    /// x · Φ(x), the exact GELU
    Gelu,
    /// GELU in its tanh approximation.
    GeluTanh,
}

/// The form of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mlp {
    /// `down(activation(gate(x)) · up(x))`.
    Gated,
    /// The same, with gate and up in one linear.
    FusedGated,
    /// `down(activation(up(x)))`.
    Plain,
}

/// How queries, keys and values are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qkv {
    /// By three linears, one each.
    Apart,
    /// By one: all queries, all keys, all values.
    Fused,
    /// By one: query, key and value of the first head, of the second, and so on.
    Interleaved,
}

/// Names of a family's modules in its checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// The token embedding.
    pub embedding: &'static str,
    /// Position embedding, where there is one.
    pub positions: &'static str,
    /// The list of blocks.
    pub layers: &'static str,
    /// The norm before the output head.
    pub norm: &'static str,
    /// The norm before attention.
    pub input_norm: &'static str,
    /// The norm before the MLP.
    pub mlp_norm: &'static str,
    /// The module that holds attention's linears.
    pub attention: &'static str,
    /// Its one linear, where queries, keys and values are fused.
    pub qkv: &'static str,
    /// Attention's output projection.
    pub out: &'static str,
    /// The MLP's first linear (gate and up in one, where they are fused).
    pub up: &'static str,
    /// The MLP's last linear.
    pub down: &'static str,
}

impl Names {
    /// Those of Llama and of most families that came after it.
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
    /// As the file names it, e.g. `LlamaForCausalLM`.
    pub architecture: String,
    /// The names of its modules.
    pub names: Names,
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; several query heads share one.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Longest sequence in tokens, prompt and answer together.
    pub max_position_embeddings: usize,
    /// The formula of every norm.
    pub norm: Norm,
    /// How positions enter the model.
    pub positions: Positions,
    /// By layer: how many tokens a token sees, itself included; `None` is all before it.
    pub windows: Vec<Option<usize>>,
    /// Which linears make queries, keys and values.
    pub qkv: Qkv,
    /// Whether each head's queries and keys are normalised.
    pub qk_norm: bool,
    /// What attention scores are multiplied by.
    pub attention_scale: f32,
    /// Attention scores are kept within ± this by a tanh.
    pub attention_softcap: Option<f32>,
    /// Logits are kept within ± this by a tanh.
    pub logit_softcap: Option<f32>,
    /// What embeddings are multiplied by.
    pub embedding_scale: f32,
    /// Whether what attention and MLP add is normalised too, before it is added (Gemma).
    pub post_norms: bool,
    /// The form of the MLP.
    pub mlp: Mlp,
    /// The MLP's nonlinearity.
    pub activation: Activation,
    /// Biases on q, k and v.
    pub attention_bias: bool,
    /// Bias on attention's output.
    pub attention_out_bias: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Ids of the tokens that end the model's turn.
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

/// One id or several.
pub fn token_ids(value: &Value) -> Vec<u32> {
    match value {
        Value::Array(ids) => ids.iter().filter_map(Value::as_u64).map(|id| id as u32).collect(),
        other => other.as_u64().map(|id| id as u32).into_iter().collect(),
    }
}
