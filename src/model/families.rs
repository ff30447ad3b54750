//! The families that are supported, and how each one's `config.json` is read: as transformers 5 writes it and as older
//! versions did. A missing key has the value that transformers gives it, or is asked for; a setting that would change the
//! result and that we do not have is refused by its name.

use std::path::Path;

use serde_json::Value;

use super::config::{Activation, DecoderConfig, Mlp, Names, Norm, Positions, Qkv, token_ids};
use super::rope::{self, Beside};
use crate::error::{Error, Result};

/// Context length where `max_position_embeddings` is missing.
const CONTEXT: usize = 2048;

/// A part of the configuration, or the reason why it is refused.
type Read<T> = std::result::Result<T, String>;

const GPT_BIGCODE: Names = Names {
    embedding: "transformer.wte",
    positions: "transformer.wpe",
    layers: "transformer.h",
    norm: "transformer.ln_f",
    input_norm: "ln_1",
    mlp_norm: "ln_2",
    attention: "attn",
    qkv: "c_attn",
    out: "c_proj",
    up: "c_fc",
    down: "c_proj",
};

const GEMMA: Names = Names { mlp_norm: "pre_feedforward_layernorm", ..Names::LLAMA };

/// Of the text part of a Gemma 3 that also sees, as transformers 5 (and PEFT on it) calls its modules.
const GEMMA3_VISION: Names = Names {
    embedding: "model.language_model.embed_tokens",
    layers: "model.language_model.layers",
    norm: "model.language_model.norm",
    ..GEMMA
};

/// Architectures that can be loaded, as `config.json` names them.
pub const SUPPORTED: [&str; 10] = [
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "Starcoder2ForCausalLM",
    "GPTBigCodeForCausalLM",
    "Phi3ForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "Gemma3ForConditionalGeneration",
];

/// What a weight of a checkpoint is called in the decoder; `None` if it belongs to a part that is not read, the vision tower of
/// a Gemma 3 with what joins it to the text.
pub(super) fn weight_name(config: &DecoderConfig, name: &str) -> Option<String> {
    if config.names.layers != GEMMA3_VISION.layers {
        return Some(name.to_string());
    }
    // Older versions, and files to this day, put the text model's own `model` last and not first.
    let name = name.strip_prefix("model.").unwrap_or(name);
    if name.starts_with("vision_tower.") || name.starts_with("multi_modal_projector.") {
        return None;
    }
    let Some(text) = name.strip_prefix("language_model.") else { return Some(name.to_string()) };
    let text = text.strip_prefix("model.").unwrap_or(text);
    Some(if text.starts_with("lm_head.") { text.to_string() } else { format!("model.language_model.{text}") })
}

impl DecoderConfig {
    /// Reads a `config.json`. `name` is the file for messages.
    ///
    /// # Errors
    /// Text that is not JSON; an architecture or a setting that is not supported, by its name.
    pub fn parse(name: &Path, text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text)
            .map_err(|e| Error::line(name, e.line().max(1), format!("not valid JSON: {e}")))?;
        read(&json).map_err(|why| Error::file(name, why))
    }
}

/// The decoder that a `config.json` describes.
fn read(json: &Value) -> Read<DecoderConfig> {
    let architecture = json["architectures"][0].as_str().unwrap_or_default();
    Keys(json).refuse_what_changes_the_result()?;
    if architecture == "Gemma3ForConditionalGeneration" {
        let config = DecoderConfig { names: GEMMA3_VISION, ..read(&text_part(json))? };
        return Ok(DecoderConfig { architecture: architecture.to_string(), ..config });
    }
    let keys = Keys(json);
    let config = match architecture {
        "LlamaForCausalLM" => llama(&keys),
        "MistralForCausalLM" => mistral(&keys),
        "Qwen2ForCausalLM" => qwen2(&keys),
        "Qwen3ForCausalLM" => qwen3(&keys),
        "Starcoder2ForCausalLM" => starcoder2(&keys),
        "GPTBigCodeForCausalLM" => gpt_bigcode(&keys),
        "Phi3ForCausalLM" => phi3(&keys),
        "Gemma2ForCausalLM" => gemma2(&keys),
        "Gemma3ForCausalLM" => gemma3(&keys),
        _ => {
            return Err(format!("architecture `{architecture}` is not supported; supported: {}", SUPPORTED.join(", ")));
        }
    }?;
    check_sizes(&config)?;
    Ok(DecoderConfig { architecture: architecture.to_string(), ..config })
}

fn llama(keys: &Keys) -> Read<DecoderConfig> {
    let heads = keys.count("num_attention_heads")?;
    let bias = keys.flag_or("attention_bias", false)?;
    let config = DecoderConfig {
        attention_bias: bias,
        attention_out_bias: bias,
        mlp_bias: keys.flag_or("mlp_bias", false)?,
        ..like_llama(keys, keys.count_or("num_key_value_heads", heads)?)?
    };
    keys.windows(config, None)
}

fn mistral(keys: &Keys) -> Read<DecoderConfig> {
    keys.windows(like_llama(keys, keys.count("num_key_value_heads")?)?, keys.window()?)
}

fn qwen2(keys: &Keys) -> Read<DecoderConfig> {
    let config = DecoderConfig { attention_bias: true, ..like_llama(keys, keys.count("num_key_value_heads")?)? };
    windows_from_some_layer_on(keys, config)
}

fn qwen3(keys: &Keys) -> Read<DecoderConfig> {
    let bias = keys.flag_or("attention_bias", false)?;
    let config = DecoderConfig {
        attention_bias: bias,
        attention_out_bias: bias,
        qk_norm: true,
        ..with_head_dim(keys, keys.count("num_key_value_heads")?, keys.count_or("head_dim", 128)?)?
    };
    windows_from_some_layer_on(keys, config)
}

fn starcoder2(keys: &Keys) -> Read<DecoderConfig> {
    let bias = keys.flag_or("use_bias", true)?;
    let base = like_llama(keys, keys.count("num_key_value_heads")?)?;
    let config = DecoderConfig {
        names: Names { up: "c_fc", down: "c_proj", ..Names::LLAMA },
        norm: Norm::Layer { eps: keys.float_or("norm_epsilon", 1e-5)? as f32 },
        mlp: Mlp::Plain,
        activation: keys.activation("hidden_act", "gelu_pytorch_tanh")?,
        attention_bias: bias,
        attention_out_bias: bias,
        mlp_bias: bias,
        tie_word_embeddings: keys.flag_or("tie_word_embeddings", true)?,
        ..base
    };
    keys.windows(config, keys.window()?)
}

fn gpt_bigcode(keys: &Keys) -> Read<DecoderConfig> {
    let (hidden, heads, layers) = (keys.count("n_embd")?, keys.count("n_head")?, keys.count("n_layer")?);
    let multi_query = keys.flag_or("multi_query", true)?;
    let inner = keys.count_or("n_inner", 4 * hidden)?;
    let (vocab, positions) = (keys.count("vocab_size")?, keys.count_or("n_positions", 1024)?);
    let config = DecoderConfig {
        names: GPT_BIGCODE,
        norm: Norm::Layer { eps: keys.float_or("layer_norm_epsilon", 1e-5)? as f32 },
        positions: Positions::Learned,
        // transformers cuts the many-headed form by heads.
        qkv: if multi_query { Qkv::Fused } else { Qkv::Interleaved },
        mlp: Mlp::Plain,
        activation: keys.activation("activation_function", "gelu_pytorch_tanh")?,
        attention_bias: true,
        attention_out_bias: true,
        mlp_bias: true,
        tie_word_embeddings: keys.flag_or("tie_word_embeddings", true)?,
        eos_token_ids: token_ids(&keys.0["eos_token_id"]),
        ..DecoderConfig::llama(vocab, hidden, layers, (heads, if multi_query { 1 } else { heads }), inner, positions)
    };
    keys.windows(config, None)
}

fn phi3(keys: &Keys) -> Read<DecoderConfig> {
    let heads = keys.count("num_attention_heads")?;
    let config = DecoderConfig {
        names: Names { up: "gate_up_proj", ..Names::LLAMA },
        norm: Norm::Rms { eps: keys.float_or("rms_norm_eps", 1e-5)? as f32 },
        qkv: Qkv::Fused,
        mlp: Mlp::FusedGated,
        ..like_llama(keys, keys.count_or("num_key_value_heads", heads)?)?
    };
    keys.windows(config, keys.window()?)
}

fn gemma2(keys: &Keys) -> Read<DecoderConfig> {
    let config = DecoderConfig {
        attention_softcap: keys.softcap("attn_logit_softcapping", Some(50.0))?,
        logit_softcap: keys.softcap("final_logit_softcapping", Some(30.0))?,
        ..gemma(keys)?
    };
    keys.alternating(config, 2)
}

fn gemma3(keys: &Keys) -> Read<DecoderConfig> {
    let config = DecoderConfig {
        qk_norm: true,
        attention_softcap: keys.softcap("attn_logit_softcapping", None)?,
        logit_softcap: keys.softcap("final_logit_softcapping", None)?,
        ..gemma(keys)?
    };
    let parameters = &keys.0["rope_parameters"];
    let global = if parameters.is_object() { &parameters["full_attention"] } else { &keys.0["rope_scaling"] };
    let beside = |key: &str, default: f64| keys.beside_rope(key, default, config.head_dim);
    let rope = rope::read(global, &beside("rope_theta", 1e6)?)?;
    let local = rope::read(&parameters["sliding_attention"], &beside("rope_local_base_freq", 1e4)?)?;
    let config = DecoderConfig { positions: Positions::Rotary { rope, local: Some(local) }, ..config };
    keys.alternating(config, keys.count_or("sliding_window_pattern", 6)?)
}

/// The configuration of the text part of a model that also sees. Published ones leave out what is the same in all sizes, so
/// that here the defaults of transformers stand for every key that is missing.
pub fn text_part(json: &Value) -> Value {
    let mut text = serde_json::json!({
        "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131_072,
        "sliding_window": 4096, "eos_token_id": json["eos_token_id"],
    });
    if let (Some(text), Some(own)) = (text.as_object_mut(), json["text_config"].as_object()) {
        text.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
        text.insert("architectures".into(), serde_json::json!(["Gemma3ForCausalLM"]));
    }
    text
}

/// Settings that Gemma 2 and 3 share.
fn gemma(keys: &Keys) -> Read<DecoderConfig> {
    let bias = keys.flag_or("attention_bias", false)?;
    let scale = keys.float_or("query_pre_attn_scalar", 256.0)?;
    let base = with_head_dim(keys, keys.count("num_key_value_heads")?, keys.count_or("head_dim", 256)?)?;
    Ok(DecoderConfig {
        names: GEMMA,
        norm: Norm::RmsOffset { eps: keys.float_or("rms_norm_eps", 1e-6)? as f32 },
        attention_scale: scale.powf(-0.5) as f32,
        embedding_scale: (base.hidden_size as f64).sqrt() as f32,
        post_norms: true,
        activation: keys.activation("hidden_activation", "gelu_pytorch_tanh")?,
        attention_bias: bias,
        attention_out_bias: bias,
        tie_word_embeddings: keys.flag_or("tie_word_embeddings", true)?,
        ..base
    })
}

fn like_llama(keys: &Keys, kv_heads: usize) -> Read<DecoderConfig> {
    let share = keys.count("hidden_size")? / keys.count("num_attention_heads")?;
    with_head_dim(keys, kv_heads, keys.count_or("head_dim", share)?)
}

fn with_head_dim(keys: &Keys, kv_heads: usize, head_dim: usize) -> Read<DecoderConfig> {
    let json = keys.0;
    let heads = keys.count("num_attention_heads")?;
    let base = DecoderConfig::llama(
        keys.count("vocab_size")?,
        keys.count("hidden_size")?,
        keys.count("num_hidden_layers")?,
        (heads, kv_heads),
        keys.count("intermediate_size")?,
        keys.count_or("max_position_embeddings", CONTEXT)?,
    );
    // transformers 5 nests the rotary settings, older versions write them flat.
    let parameters = &json["rope_parameters"];
    let section = if parameters.is_object() { parameters } else { &json["rope_scaling"] };
    let partial =
        section["partial_rotary_factor"].as_f64().map_or_else(|| keys.float_or("partial_rotary_factor", 1.0), Ok)?;
    if partial != 1.0 && json["architectures"][0] != "Phi3ForCausalLM" {
        return Err(format!("`partial_rotary_factor` {partial} is supported for Phi3ForCausalLM only"));
    }
    // Gemma 3 nests once more, by kind of layer, and reads them itself.
    let section = if json["architectures"][0] == "Gemma3ForCausalLM" { &Value::Null } else { section };
    let beside = keys.beside_rope("rope_theta", 10_000.0, (head_dim as f64 * partial) as usize)?;
    let rope = rope::read(section, &beside)?;
    Ok(DecoderConfig {
        head_dim,
        max_position_embeddings: rope.longest(base.max_position_embeddings, rope::original(section, &beside)),
        norm: Norm::Rms { eps: keys.float_or("rms_norm_eps", 1e-6)? as f32 },
        positions: Positions::Rotary { rope, local: None },
        attention_scale: 1.0 / (head_dim as f32).sqrt(),
        activation: match keys.0["architectures"][0].as_str() {
            // These have a default, or a key, of their own.
            Some("Starcoder2ForCausalLM" | "Gemma2ForCausalLM" | "Gemma3ForCausalLM") => Activation::GeluTanh,
            _ => keys.activation("hidden_act", "silu")?,
        },
        tie_word_embeddings: keys.flag_or("tie_word_embeddings", false)?,
        eos_token_ids: token_ids(&json["eos_token_id"]),
        ..base
    })
}

/// Qwen's: full attention first, a window from layer `max_window_layers` on, and only where it is asked for.
fn windows_from_some_layer_on(keys: &Keys, config: DecoderConfig) -> Read<DecoderConfig> {
    let asked = keys.flag_or("use_sliding_window", false)?;
    let window = if asked { keys.window()? } else { None };
    let from = keys.float_or("max_window_layers", 28.0)? as usize;
    keys.by_layer(config, window, |layer| layer >= from)
}

fn check_sizes(config: &DecoderConfig) -> Read<()> {
    let heads = config.num_attention_heads;
    let rotary = match &config.positions {
        Positions::Rotary { rope, .. } => rope.dim,
        Positions::Learned => 2,
    };
    let whole = rotary > 0 && rotary.is_multiple_of(2) && heads.is_multiple_of(config.num_key_value_heads);
    if whole && config.head_dim > 0 {
        return Ok(());
    }
    Err("sizes do not fit together: num_key_value_heads must divide num_attention_heads, and the rotated part of \
         head_dim must be even"
        .into())
}

/// The keys of a `config.json`; null is the same as missing.
struct Keys<'a>(&'a Value);

impl Keys<'_> {
    /// A number of at least 1.
    fn count(&self, key: &str) -> Read<usize> {
        match &self.0[key] {
            Value::Null => Err(format!("`{key}` is missing")),
            value => {
                value.as_u64().filter(|n| *n > 0).map(|n| n as usize).ok_or_else(|| not(key, value, "a number above 0"))
            }
        }
    }

    fn count_or(&self, key: &str, default: usize) -> Read<usize> {
        if self.0[key].is_null() { Ok(default) } else { self.count(key) }
    }

    fn float_or(&self, key: &str, default: f64) -> Read<f64> {
        match &self.0[key] {
            Value::Null => Ok(default),
            value => value.as_f64().ok_or_else(|| not(key, value, "a number")),
        }
    }

    fn flag_or(&self, key: &str, default: bool) -> Read<bool> {
        match &self.0[key] {
            Value::Null => Ok(default),
            value => value.as_bool().ok_or_else(|| not(key, value, "true or false")),
        }
    }

    fn beside_rope(&self, theta: &str, default: f64, dim: usize) -> Read<Beside> {
        let phi3 = self.0["architectures"][0] == "Phi3ForCausalLM";
        let own = self.0["original_max_position_embeddings"].as_u64().map(|n| n as usize);
        Ok(Beside {
            theta: self.float_or(theta, default)?,
            dim,
            context: self.count_or("max_position_embeddings", CONTEXT)?,
            original: own.or(phi3.then_some(4096)),
            phi3,
        })
    }

    fn activation(&self, key: &str, default: &str) -> Read<Activation> {
        match self.0[key].as_str().unwrap_or(default) {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu" => Ok(Activation::Gelu),
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Activation::GeluTanh),
            other => Err(format!("{key} `{other}` is not supported; supported: silu, gelu, gelu_pytorch_tanh")),
        }
    }

    /// Here a missing key and null differ: null turns the cap off.
    fn softcap(&self, key: &str, default: Option<f32>) -> Read<Option<f32>> {
        match self.0.get(key) {
            None => Ok(default),
            Some(Value::Null) => Ok(None),
            Some(value) => value.as_f64().map(|cap| Some(cap as f32)).ok_or_else(|| not(key, value, "a number")),
        }
    }

    /// `sliding_window`: null means no window; a missing key is refused where transformers' default is a window.
    fn window(&self) -> Read<Option<usize>> {
        let must = ["MistralForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM"];
        match self.0.get("sliding_window") {
            Some(Value::Null) => Ok(None),
            None if !must.iter().any(|name| self.0["architectures"][0] == *name) => Ok(None),
            _ => self.count("sliding_window").map(Some),
        }
    }

    /// The same window for every layer.
    fn windows(&self, config: DecoderConfig, window: Option<usize>) -> Read<DecoderConfig> {
        let config = DecoderConfig { windows: vec![window; config.num_hidden_layers], ..config };
        // These families know no kinds of layers: a file that has them means another computation.
        if let Some(kinds) = self.layer_types(&config)?
            && kinds.contains(&window.is_none())
        {
            return Err(
                "`layer_types` contradicts `sliding_window`, which this family has for all layers or none".into()
            );
        }
        Ok(config)
    }

    /// Gemma's: every `pattern`th layer sees everything.
    fn alternating(&self, config: DecoderConfig, pattern: usize) -> Read<DecoderConfig> {
        self.by_layer(config, self.window()?, |layer| !(layer + 1).is_multiple_of(pattern))
    }

    /// A window in the layers that `layer_types` says, or `default` where it is missing.
    fn by_layer(
        &self,
        config: DecoderConfig,
        window: Option<usize>,
        default: impl Fn(usize) -> bool,
    ) -> Read<DecoderConfig> {
        let kinds = self.layer_types(&config)?;
        let kinds = kinds.unwrap_or_else(|| (0..config.num_hidden_layers).map(default).collect());
        let windows = kinds.into_iter().map(|slides| window.filter(|_| slides)).collect();
        Ok(DecoderConfig { windows, ..config })
    }

    /// For each layer, whether it has a sliding window; `None` where the file does not say.
    fn layer_types(&self, config: &DecoderConfig) -> Read<Option<Vec<bool>>> {
        let Some(kinds) = self.0["layer_types"].as_array() else { return Ok(None) };
        if kinds.len() != config.num_hidden_layers {
            return Err(format!("`layer_types` has {} entries for {} layers", kinds.len(), config.num_hidden_layers));
        }
        let slides = |kind: &Value| match kind.as_str() {
            Some("full_attention") => Ok(false),
            Some("sliding_attention") => Ok(true),
            _ => Err(format!("the layer type {kind} is not supported; supported: full_attention, sliding_attention")),
        };
        kinds.iter().map(slides).collect::<Read<_>>().map(Some)
    }

    /// Settings of other models of these architectures.
    fn refuse_what_changes_the_result(&self) -> Read<()> {
        if !self.0["quantization_config"].is_null() {
            return Err(
                "`quantization_config`: weights quantised by other tools are not supported; use the unquantised model \
                 with --quantize 4bit, which quantises while loading, or a GGUF file"
                    .into(),
            );
        }
        for (key, harmless) in [
            ("use_bidirectional_attention", false),
            ("add_cross_attention", false),
            ("is_encoder_decoder", false),
            ("scale_attn_weights", true),
        ] {
            if self.flag_or(key, harmless)? != harmless {
                return Err(format!("`{key}` {} is not supported", !harmless));
            }
        }
        for key in ["num_experts", "num_local_experts", "n_routed_experts"] {
            if self.0[key].as_u64().is_some_and(|experts| experts > 1) {
                return Err(format!("`{key}`: mixtures of experts are not supported"));
            }
        }
        for (key, harmless) in [("norm_type", "layer_norm"), ("mlp_type", "default")] {
            if let Some(other) = self.0[key].as_str().filter(|value| *value != harmless) {
                return Err(format!("`{key}` {other} is not supported"));
            }
        }
        Ok(())
    }
}

fn not(key: &str, value: &Value, wanted: &str) -> String {
    format!("`{key}` is {value}, not {wanted}")
}
