//! Any family's `config.json` as one decoder configuration. What is not supported and changes the result is refused by
//! name, never guessed.

use serde_json::Value;

use crate::error::{Error, Result};

/// Which normalisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Norm {
    /// Root mean square.
    Rms {
        /// Under the root.
        eps: f32,
    },
}

/// How a token knows its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Positions {
    /// Rotary, over the whole head.
    Rotary {
        /// Base of the angles.
        theta: f64,
    },
}

/// The feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mlp {
    /// `down(silu(gate(x)) · up(x))`.
    GatedSilu,
}

/// A decoder's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// As the file names it, e.g. `LlamaForCausalLM`.
    pub architecture: String,
    /// Tokens.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Every norm.
    pub norm: Norm,
    /// Positions.
    pub positions: Positions,
    /// Feed-forward.
    pub mlp: Mlp,
    /// Biases on q, k, v and o.
    pub attention_bias: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Tokens that end a turn.
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
        Self {
            architecture: "LlamaForCausalLM".into(),
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim: hidden_size / num_attention_heads,
            intermediate_size,
            max_position_embeddings,
            norm: Norm::Rms { eps: 1e-5 },
            positions: Positions::Rotary { theta: 10_000.0 },
            mlp: Mlp::GatedSilu,
            attention_bias: false,
            mlp_bias: false,
            tie_word_embeddings: true,
            eos_token_ids: vec![0],
        }
    }

    /// Reads a `config.json`. `name` is the file for messages.
    pub fn parse(name: &std::path::Path, text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text)
            .map_err(|e| Error::line(name, e.line().max(1), format!("not valid JSON: {e}")))?;
        let refuse = |what: String| Error::file(name, what);
        let architecture = json["architectures"][0].as_str().unwrap_or_default().to_string();
        if architecture != "LlamaForCausalLM" {
            return Err(refuse(format!("architecture `{architecture}` is not supported; supported: LlamaForCausalLM")));
        }
        let number = |key: &str| {
            json[key].as_u64().map(|n| n as usize).ok_or_else(|| refuse(format!("`{key}` is missing or not a number")))
        };
        let heads = number("num_attention_heads")?;
        let hidden_size = number("hidden_size")?;
        let flag = |key: &str, default: bool| json[key].as_bool().unwrap_or(default);
        match json["hidden_act"].as_str() {
            Some("silu") | None => {}
            Some(other) => return Err(refuse(format!("hidden_act `{other}` is not supported; supported: silu"))),
        }
        // transformers 5 nests the rotary settings, older versions write them flat.
        let rope = &json["rope_parameters"];
        for scaling in [rope, &json["rope_scaling"]] {
            let kind = scaling["rope_type"].as_str().or(scaling["type"].as_str()).unwrap_or("default");
            if kind != "default" {
                return Err(refuse(format!("rope scaling `{kind}` is not supported; supported: default")));
            }
        }
        let config = Self {
            architecture,
            vocab_size: number("vocab_size")?,
            hidden_size,
            num_hidden_layers: number("num_hidden_layers")?,
            num_attention_heads: heads,
            num_key_value_heads: json["num_key_value_heads"].as_u64().map_or(heads, |n| n as usize),
            head_dim: json["head_dim"].as_u64().map_or(hidden_size / heads.max(1), |n| n as usize),
            intermediate_size: number("intermediate_size")?,
            max_position_embeddings: json["max_position_embeddings"].as_u64().unwrap_or(2048) as usize,
            norm: Norm::Rms { eps: json["rms_norm_eps"].as_f64().unwrap_or(1e-6) as f32 },
            positions: Positions::Rotary {
                theta: rope["rope_theta"].as_f64().or(json["rope_theta"].as_f64()).unwrap_or(10_000.0),
            },
            mlp: Mlp::GatedSilu,
            attention_bias: flag("attention_bias", false),
            mlp_bias: flag("mlp_bias", false),
            tie_word_embeddings: flag("tie_word_embeddings", false),
            eos_token_ids: token_ids(&json["eos_token_id"]),
        };
        let sizes = [config.vocab_size, hidden_size, config.num_hidden_layers, heads, config.num_key_value_heads];
        if sizes.contains(&0) || !heads.is_multiple_of(config.num_key_value_heads) || !config.head_dim.is_multiple_of(2)
        {
            return Err(refuse("sizes do not fit together: every size is at least 1, num_key_value_heads divides num_attention_heads, head_dim is even".into()));
        }
        Ok(config)
    }

    /// The same as transformers writes it.
    pub fn to_json(&self, bos: u32, eos: u32, pad: u32) -> Value {
        let Norm::Rms { eps } = self.norm;
        let Positions::Rotary { theta } = self.positions;
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

    /// How many weights a model of this shape has.
    pub fn parameters(&self) -> usize {
        let (q, kv) = (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        let block = self.hidden_size * (2 * q + 2 * kv + 3 * self.intermediate_size + 2);
        let biases = if self.attention_bias { q + 2 * kv + self.hidden_size } else { 0 }
            + if self.mlp_bias { 2 * self.intermediate_size + self.hidden_size } else { 0 };
        let embeddings = if self.tie_word_embeddings { 1 } else { 2 };
        self.num_hidden_layers * (block + biases) + self.hidden_size * (1 + embeddings * self.vocab_size)
    }
}

/// One id or several.
pub fn token_ids(value: &Value) -> Vec<u32> {
    match value {
        Value::Array(ids) => ids.iter().filter_map(Value::as_u64).map(|id| id as u32).collect(),
        other => other.as_u64().map(|id| id as u32).into_iter().collect(),
    }
}
