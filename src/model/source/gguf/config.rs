//! The configuration of a model, as the `config.json` that it would have in a folder: from the metadata, the tensors that the
//! file names, and its rotary factors.
//!
//! What no file says is taken as llama.cpp takes it: the scale of Gemma's attention, and which of its layers have a window.

use serde_json::{Map, Value, json};

use super::Checked;
use super::header::TensorInfos;
use super::metadata::{Metadata, Own};
use super::rotary::{Factors, scaling_of};

/// The architectures that are read, by llama.cpp's names, for messages.
pub(super) const ARCHITECTURES: &str = "llama, qwen2, qwen3, gemma2, gemma3, phi3 and starcoder2";

/// Base of the angles in Gemma 3's layers with a window, where the file does not say.
const GEMMA3_LOCAL_THETA: f64 = 10_000.0;

/// The `config.json` that this model would have in a folder.
pub(super) fn config_of(
    metadata: &Metadata,
    tensors: &TensorInfos,
    architecture: &str,
    factors: &Factors,
) -> Checked<Value> {
    let own = Own { metadata, architecture };
    // Phi-3's converter writes 0 where there is none.
    let window = own.count("attention.sliding_window")?.filter(|window| *window > 0);
    let (class, model_type) = match (architecture, window) {
        ("llama", None) => ("LlamaForCausalLM", "llama"),
        ("llama", Some(_)) => ("MistralForCausalLM", "mistral"),
        ("qwen2", None) => ("Qwen2ForCausalLM", "qwen2"),
        ("qwen3", None) => ("Qwen3ForCausalLM", "qwen3"),
        ("qwen2" | "qwen3", Some(_)) => {
            return Err(format!("`{}` is not supported", own.key("attention.sliding_window")));
        }
        ("gemma2", _) => ("Gemma2ForCausalLM", "gemma2"),
        ("gemma3", _) => ("Gemma3ForCausalLM", "gemma3_text"),
        ("phi3", _) => ("Phi3ForCausalLM", "phi3"),
        ("starcoder2", _) => ("Starcoder2ForCausalLM", "starcoder2"),
        _ => {
            return Err(format!(
                "the architecture `{architecture}` is not supported in GGUF files; {ARCHITECTURES} are. Use a folder in \
                 Hugging Face layout; --dtype 4bit quantises it while loading"
            ));
        }
    };
    if own.count("expert_count")?.is_some_and(|experts| experts > 0) {
        return Err(format!("`{}`: mixtures of experts are not supported", own.key("expert_count")));
    }
    let heads = own.needed("attention.head_count")?;
    let hidden = own.needed("embedding_length")?;
    let embedding = tensors.get("token_embd.weight").ok_or("it has no tensor `token_embd.weight`")?;
    let share = hidden.checked_div(heads).unwrap_or(0);
    let head_dim = own.count("attention.key_length")?.unwrap_or(share);
    let rotated = own.count("rope.dimension_count")?.unwrap_or(head_dim);
    let partly = architecture == "phi3" && rotated < head_dim;
    if (rotated != head_dim && !partly) || own.count("attention.value_length")?.is_some_and(|width| width != head_dim) {
        return Err(format!(
            "heads of width {head_dim} with {rotated} rotated dimensions, or with values of another width, are not \
             supported"
        ));
    }
    let theta = own.float("rope.freq_base")?.unwrap_or(10_000.0);
    let special = |name: &str| metadata.count(&format!("tokenizer.ggml.{name}_token_id"));
    let mut config = json!({
        "architectures": [class],
        "model_type": model_type,
        "vocab_size": embedding.shape.first(),
        "hidden_size": hidden,
        "num_hidden_layers": own.needed("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": own.count("attention.head_count_kv")?.unwrap_or(heads),
        "head_dim": head_dim,
        "intermediate_size": own.needed("feed_forward_length")?,
        "max_position_embeddings": own.needed("context_length")?,
        "rope_theta": theta,
        "rope_scaling": scaling_of(&own, factors, (theta, rotated))?,
        "sliding_window": window,
        "tie_word_embeddings": !tensors.contains_key("output.weight"),
        "bos_token_id": special("bos")?,
        "eos_token_id": ends_of_turn(metadata)?,
        "pad_token_id": special("padding")?,
    });
    let more = match architecture {
        "gemma2" | "gemma3" => gemma(&own, (hidden, heads, head_dim), window)?,
        "phi3" => phi3(&own, (head_dim, rotated))?,
        "starcoder2" => json!({
            "norm_epsilon": own.needed_float("attention.layer_norm_epsilon")?,
            "use_bias": tensors.contains_key("blk.0.attn_q.bias"),
            "hidden_act": "gelu_pytorch_tanh",
        }),
        _ => json!({
            "rms_norm_eps": own.needed_float("attention.layer_norm_rms_epsilon")?,
            "attention_bias": architecture != "qwen2" && tensors.contains_key("blk.0.attn_q.bias"),
            "mlp_bias": tensors.contains_key("blk.0.ffn_up.bias"),
        }),
    };
    if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
        config.extend(more);
    }
    Ok(config)
}

/// What Gemma 2 and 3 have besides.
fn gemma(own: &Own, (hidden, heads, head_dim): (usize, usize, usize), window: Option<usize>) -> Checked<Value> {
    let (second, layers) = (own.architecture == "gemma2", own.needed("block_count")?);
    // Files do not say what queries are scaled by. llama.cpp, which they are written for, knows the two models by their
    // number of layers whose scale is not that of a head.
    let largest = layers == if second { 46 } else { 62 };
    let scalar = if largest { hidden.checked_div(heads).unwrap_or(0) } else { head_dim };
    let caps = ["attn_logit_softcapping", "final_logit_softcapping"];
    let usual = if second { [Some(50.0), Some(30.0)] } else { [None, None] };
    let mut more = Map::new();
    for (cap, usual) in caps.into_iter().zip(usual) {
        more.insert(cap.into(), json!(own.float(cap)?.or(usual)));
    }
    more.insert("rms_norm_eps".into(), json!(own.needed_float("attention.layer_norm_rms_epsilon")?));
    more.insert("query_pre_attn_scalar".into(), json!(scalar));
    more.insert("hidden_activation".into(), json!("gelu_pytorch_tanh"));
    more.insert("attention_bias".into(), json!(false));
    let pattern = own.key("attention.sliding_window_pattern");
    if second {
        own.needed("attention.sliding_window")?;
        if own.metadata.has(&pattern) && own.metadata.count(&pattern).ok().flatten() != Some(2) {
            return Err(format!("`{pattern}` other than 2 is not supported for gemma2"));
        }
        return Ok(Value::Object(more));
    }
    let slides: Vec<bool> = match own.metadata.flags(&pattern) {
        Ok(slides) if !slides.is_empty() => slides,
        _ => {
            let every = own.metadata.count(&pattern)?.unwrap_or(6).max(1);
            (1..=layers).map(|layer| !layer.is_multiple_of(every)).collect()
        }
    };
    let kind = |slides: &bool| if *slides && window.is_some() { "sliding_attention" } else { "full_attention" };
    more.insert("layer_types".into(), json!(slides.iter().map(kind).collect::<Vec<_>>()));
    let local = own.float("rope.freq_base_swa")?.unwrap_or(GEMMA3_LOCAL_THETA);
    more.insert("rope_local_base_freq".into(), json!(local));
    Ok(Value::Object(more))
}

/// What Phi-3 and Phi-4 have besides. Their context was lengthened from another one.
fn phi3(own: &Own, (head_dim, rotated): (usize, usize)) -> Checked<Value> {
    let share = rotated as f64 / head_dim as f64;
    if (head_dim as f64 * share) as usize != rotated {
        return Err(format!("heads of width {head_dim} with {rotated} rotated dimensions are not supported"));
    }
    let context = own.needed("context_length")?;
    Ok(json!({
        "rms_norm_eps": own.needed_float("attention.layer_norm_rms_epsilon")?,
        "hidden_act": "silu",
        "partial_rotary_factor": share,
        "original_max_position_embeddings": own.count("rope.scaling.original_context_length")?.unwrap_or(context),
    }))
}

/// Ids of the tokens that end an answer: of a text, of a turn, of a message that waits for a tool.
fn ends_of_turn(metadata: &Metadata) -> Checked<Vec<usize>> {
    let keys = ["eos", "eot", "eom"].map(|end| format!("tokenizer.ggml.{end}_token_id"));
    keys.iter().filter_map(|key| metadata.count(key).transpose()).collect()
}
