//! The configuration of a model, from the metadata and the tensors that its GGUF file names.

use serde_json::json;

use super::metadata::Metadata;
use super::{Checked, TensorInfos};
use crate::model::config::Positions;
use crate::model::rope::{Rope, RopeScaling};

/// Factors on the rotary frequencies, which Llama 3.1 and later have.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The `config.json` that this model would have in a folder.
pub(super) fn config_of(metadata: &Metadata, tensors: &TensorInfos, architecture: &str) -> Checked<serde_json::Value> {
    let key = |name: &str| format!("{architecture}.{name}");
    let window = metadata.count(&key("attention.sliding_window"))?;
    let class = match (architecture, window) {
        ("llama", None) => "LlamaForCausalLM",
        ("llama", Some(_)) => "MistralForCausalLM",
        ("qwen2", None) => "Qwen2ForCausalLM",
        ("qwen3", None) => "Qwen3ForCausalLM",
        ("qwen2" | "qwen3", Some(_)) => return Err(format!("`{}` is not supported", key("attention.sliding_window"))),
        _ => {
            return Err(format!(
                "the architecture `{architecture}` is not supported in GGUF files; llama, qwen2 and qwen3 are. Use a \
                 folder in Hugging Face layout; --dtype 4bit quantises it while loading"
            ));
        }
    };
    if metadata.count(&key("expert_count"))?.is_some_and(|experts| experts > 0) {
        return Err(format!("`{}`: mixtures of experts are not supported", key("expert_count")));
    }
    let heads = metadata.needed(&key("attention.head_count"))?;
    let hidden = metadata.needed(&key("embedding_length"))?;
    let embedding = tensors.get("token_embd.weight").ok_or("it has no tensor `token_embd.weight`")?;
    let share = hidden.checked_div(heads).unwrap_or(0);
    let head_dim = metadata.count(&key("attention.key_length"))?.unwrap_or(share);
    let rotated = metadata.count(&key("rope.dimension_count"))?.unwrap_or(head_dim);
    if rotated != head_dim || metadata.count(&key("attention.value_length"))?.is_some_and(|width| width != head_dim) {
        return Err(format!(
            "heads of width {head_dim} with {rotated} rotated dimensions, or with values of another width, are not \
             supported"
        ));
    }
    let scaling = match metadata.text(&key("rope.scaling.type"))?.as_deref() {
        None | Some("none") => serde_json::Value::Null,
        Some("linear") => json!({"rope_type": "linear", "factor": metadata.float(&key("rope.scaling.factor"))?}),
        Some(other) => return Err(format!("`{}` {other} is not supported", key("rope.scaling.type"))),
    };
    let epsilon = key("attention.layer_norm_rms_epsilon");
    Ok(json!({
        "architectures": [class],
        "vocab_size": embedding.shape.dims().first(),
        "hidden_size": hidden,
        "num_hidden_layers": metadata.needed(&key("block_count"))?,
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.count(&key("attention.head_count_kv"))?.unwrap_or(heads),
        "head_dim": head_dim,
        "intermediate_size": metadata.needed(&key("feed_forward_length"))?,
        "max_position_embeddings": metadata.needed(&key("context_length"))?,
        "rms_norm_eps": metadata.float(&epsilon)?.ok_or_else(|| format!("its metadata has no `{epsilon}`"))?,
        "rope_theta": metadata.float(&key("rope.freq_base"))?.unwrap_or(10_000.0),
        "rope_scaling": scaling,
        "sliding_window": window,
        "attention_bias": architecture != "qwen2" && tensors.contains_key("blk.0.attn_q.bias"),
        "mlp_bias": tensors.contains_key("blk.0.ffn_up.bias"),
        "tie_word_embeddings": !tensors.contains_key("output.weight"),
        "eos_token_id": ends_of_turn(metadata)?,
    }))
}

/// Ids of the tokens that end an answer: of a text, of a turn, of a message that waits for a tool.
fn ends_of_turn(metadata: &Metadata) -> Checked<Vec<usize>> {
    let keys = ["eos", "eot", "eom"].map(|end| format!("tokenizer.ggml.{end}_token_id"));
    keys.iter().filter_map(|key| metadata.count(key).transpose()).collect()
}

/// llama.cpp stores what Llama 3's scaling divides each frequency by, not its parameters. All published models share three
/// of the four, and the largest divisor is the fourth.
pub(super) fn scaled_as_llama3(positions: Positions, factors: &[f32]) -> Checked<Positions> {
    let Positions::Rotary { rope, local } = positions else { return Err(format!("`{ROPE_FACTORS}` without rotary")) };
    let factor = factors.iter().copied().fold(1.0, f32::max);
    let scaled =
        Rope { scaling: RopeScaling::Llama3 { factor, low: 1.0, high: 4.0, original: 8192.0 }, ..rope.clone() };
    // Neither depends on how long a row is.
    let (plain, found) = (Rope { scaling: RopeScaling::None, ..rope }.frequencies(1), scaled.frequencies(1));
    let same = |((plain, found), factor): ((&f32, &f32), &f32)| (plain / found / factor - 1.0).abs() < 1e-3;
    match factors.len() == plain.len() && plain.iter().zip(&found).zip(factors).all(same) {
        true => Ok(Positions::Rotary { rope: scaled, local }),
        false => Err(format!("`{ROPE_FACTORS}` is not Llama 3's rope scaling; no other is supported")),
    }
}
