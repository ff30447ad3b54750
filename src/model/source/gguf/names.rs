//! llama.cpp's names: of tensors, of value types, and of files that hold something else than a model.

use super::Checked;
use super::metadata::Metadata;
use crate::model::cpu::blocks::FORMATS;
use crate::model::ops::quantised::name as format_name;

/// The Hugging Face name of a tensor of a model of this architecture.
pub(super) fn checkpoint_name(name: &str, architecture: &str) -> Option<String> {
    let (module, what) = name.rsplit_once('.')?;
    let module = match module.strip_prefix("blk.") {
        None => match module {
            "token_embd" => "model.embed_tokens".to_string(),
            "output_norm" => "model.norm".to_string(),
            "output" => "lm_head".to_string(),
            _ => return None,
        },
        Some(rest) => {
            let (layer, part) = rest.split_once('.')?;
            let part = match (architecture, part) {
                ("gemma2" | "gemma3", "post_attention_norm") => "post_attention_layernorm",
                ("gemma2" | "gemma3", "ffn_norm") => "pre_feedforward_layernorm",
                ("gemma2" | "gemma3", "post_ffw_norm") => "post_feedforward_layernorm",
                ("phi3", "attn_qkv") => "self_attn.qkv_proj",
                // Gate and up in one, gate first, as transformers has them.
                ("phi3", "ffn_up") => "mlp.gate_up_proj",
                ("starcoder2", "ffn_up") => "mlp.c_fc",
                ("starcoder2", "ffn_down") => "mlp.c_proj",
                (_, other) => shared(other)?,
            };
            format!("model.layers.{}.{part}", layer.parse::<usize>().ok()?)
        }
    };
    Some(format!("{module}.{what}"))
}

/// The name of a part of a block that several families have.
fn shared(part: &str) -> Option<&'static str> {
    Some(match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    })
}

/// Value types of GGML that are not read, by their number in a file.
const UNREAD: [(u32, &str); 16] = [
    (16, "iq2_xxs"),
    (17, "iq2_xs"),
    (18, "iq3_xxs"),
    (19, "iq1_s"),
    (21, "iq3_s"),
    (22, "iq2_s"),
    (23, "iq4_xs"),
    (24, "i8"),
    (25, "i16"),
    (26, "i32"),
    (27, "i64"),
    (28, "f64"),
    (29, "iq1_m"),
    (34, "tq1_0"),
    (35, "tq2_0"),
    (39, "mxfp4"),
];

/// Why a file with a tensor of the type with this number is refused.
pub(super) fn unread_kind(number: u32) -> String {
    let known = UNREAD.iter().find(|(known, _)| *known == number);
    let name = known.map_or_else(|| format!("value type {number}"), |(_, name)| (*name).to_string());
    format!("has a tensor of a type that cannot be read: {}", unsupported(&name))
}

/// A value type that is not supported, with those that are and the way out.
pub(super) fn unsupported(format: &str) -> String {
    let supported = FORMATS.map(format_name).join(", ");
    format!(
        "{format} is not supported; supported: {supported}, iq4_nl, f32, f16, bf16. Take another file of the model, e.g. Q4_K_M \
         or Q8_0"
    )
}

/// Refuses a file that holds something else than a whole model, as what it is.
pub(super) fn refuse_other_than_model(metadata: &Metadata, architecture: &str) -> Checked<()> {
    if let Some(parts) = metadata.count("split.count")?.filter(|parts| *parts > 1) {
        let part = metadata.count("split.no")?.unwrap_or(0) + 1;
        return Err(format!(
            "is part {part} of {parts} of a split model; put the parts together first: `llama-gguf-split --merge \
             FIRST-PART OUT.gguf`"
        ));
    }
    let adapter = metadata.text("adapter.type")?;
    let what = match (architecture, metadata.text("general.type")?.as_deref(), adapter.as_deref()) {
        ("controlvector", ..) | (_, Some("controlvector"), _) => {
            "is a control vector, not a model; vectors are made with `realign steer` and are safetensors files"
        }
        (.., Some("lora")) | (_, Some("adapter"), None) => {
            "is a LoRA adapter, not a model; give its base as --model, and as --adapter the folder that PEFT saved \
             (adapter_config.json, adapter_model.safetensors)"
        }
        (_, Some("adapter"), Some(_)) => {
            "is an adapter, not a model; adapters are read from the folder that PEFT saved"
        }
        ("imatrix", ..) | (_, Some("imatrix"), _) => {
            "is an importance matrix for quantising, not a model; give the quantised model"
        }
        ("clip", ..) | (_, Some("mmproj"), _) => "is the vision part of a model; give the file with its language part",
        _ => return Ok(()),
    };
    Err(what.into())
}
