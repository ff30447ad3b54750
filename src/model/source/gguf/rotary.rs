//! How the rotary frequencies of a file are scaled: by its metadata, or by factors that it holds as tensors.

use serde_json::{Value, json};

use super::Checked;
use super::metadata::Own;
use crate::model::rope::{Rope, RopeScaling};

/// Tensors with factors on the rotary frequencies: those of Llama 3.1 and later, of LongRoPE within the pretrained context,
/// and of LongRoPE beyond it.
pub(super) const ROPE_FACTORS: [&str; 3] =
    ["rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"];

/// The values of [`ROPE_FACTORS`]; `None` for a tensor that the file does not have.
pub(super) type Factors = [Option<Vec<f32>>; 3];

/// The `rope_scaling` of the model's `config.json`, for angles of base `theta` over so many dimensions.
pub(super) fn scaling_of(own: &Own, factors: &Factors, (theta, dim): (f64, usize)) -> Checked<Value> {
    let kind = own.metadata.text(&own.key("rope.scaling.type"))?;
    let [llama3, short, long] = factors;
    match (kind.as_deref(), llama3, short, long) {
        (None | Some("none"), None, None, None) => Ok(Value::Null),
        (Some("linear"), None, None, None) => {
            Ok(json!({"rope_type": "linear", "factor": own.needed_float("rope.scaling.factor")?}))
        }
        (None | Some("none"), Some(factors), None, None) => as_llama3(theta, dim, factors),
        (None | Some("none" | "longrope"), None, Some(short), Some(long)) if own.architecture == "phi3" => {
            if short.len() != dim / 2 || long.len() != dim / 2 {
                return Err(format!(
                    "`{}` and `{}` have {} and {} values for {} frequencies",
                    ROPE_FACTORS[1],
                    ROPE_FACTORS[2],
                    short.len(),
                    long.len(),
                    dim / 2
                ));
            }
            let mut scaling = json!({"type": "longrope", "short_factor": short, "long_factor": long});
            // Without it, it follows from how far the context was lengthened.
            if let Some(factor) = own.float("rope.scaling.attn_factor")? {
                scaling["attention_factor"] = json!(factor);
            }
            Ok(scaling)
        }
        (None | Some("none" | "linear"), ..) => {
            let found = ROPE_FACTORS.iter().zip(factors).filter(|(_, values)| values.is_some());
            let found: Vec<String> = found.map(|(name, _)| format!("`{name}`")).collect();
            Err(format!("{} as it has it is not supported for `{}`", found.join(" with "), own.architecture))
        }
        (Some(other), ..) => Err(format!("`{}` {other} is not supported", own.key("rope.scaling.type"))),
    }
}

/// llama.cpp stores what Llama 3's scaling divides each frequency by, not its parameters. All published models share three
/// of the four, and the largest divisor is the fourth.
fn as_llama3(theta: f64, dim: usize, factors: &[f32]) -> Checked<Value> {
    let factor = factors.iter().copied().fold(1.0, f32::max);
    let plain = Rope { theta, dim, scaling: RopeScaling::None };
    let scaled =
        Rope { scaling: RopeScaling::Llama3 { factor, low: 1.0, high: 4.0, original: 8192.0 }, ..plain.clone() };
    // Neither depends on how long a row is.
    let (plain, found) = (plain.frequencies(1), scaled.frequencies(1));
    let same = |((plain, found), factor): ((&f32, &f32), &f32)| (plain / found / factor - 1.0).abs() < 1e-3;
    match factors.len() == plain.len() && plain.iter().zip(&found).zip(factors).all(same) {
        true => Ok(json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        })),
        false => Err(format!("`{}` is not Llama 3's rope scaling; no other is supported", ROPE_FACTORS[0])),
    }
}
