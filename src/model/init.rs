//! Weights before any training: matrices normal, those that write to the residual stream smaller by √(2 · layers)
//! (Radford et al. 2019), norms one, biases zero.

use candle_core::{Device, Result, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::config::DecoderConfig;
use super::decoder::Weights;
use crate::rng;

/// Fresh weights of a shape. The deviation is .02 at a width of 768 and grows as the width shrinks.
pub fn initial_weights(shape: &DecoderConfig, seed: u64) -> Result<Weights> {
    let (hidden, inner) = (shape.hidden_size, shape.intermediate_size);
    let (q, kv) = (shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim);
    let usual = 0.02 * (768.0 / hidden as f32).sqrt();
    let residual = usual / (2.0 * shape.num_hidden_layers as f32).sqrt();
    let mut weights = Weights::new();
    let mut add = |name: String, dims: &[usize], fill: Fill| -> Result<()> {
        let mut rng = rng::stream(seed, "initial", &[rng::key(0, name.trim_end_matches(".weight"), &[])]);
        let size = dims.iter().product();
        let values: Vec<f32> = match fill {
            Fill::Constant(value) => vec![value; size],
            Fill::Normal(deviation) => (0..size).map(|_| deviation * normal(&mut rng)).collect(),
        };
        weights.insert(name, Tensor::from_vec(values, dims, &Device::Cpu)?);
        Ok(())
    };
    add("model.embed_tokens.weight".into(), &[shape.vocab_size, hidden], Fill::Normal(usual))?;
    if !shape.tie_word_embeddings {
        add("lm_head.weight".into(), &[shape.vocab_size, hidden], Fill::Normal(usual))?;
    }
    add("model.norm.weight".into(), &[hidden], Fill::Constant(1.0))?;
    for layer in 0..shape.num_hidden_layers {
        let at = |name: &str, what: &str| format!("model.layers.{layer}.{name}.{what}");
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            add(at(norm, "weight"), &[hidden], Fill::Constant(1.0))?;
        }
        for (name, out, width, deviation, bias) in [
            ("self_attn.q_proj", q, hidden, usual, shape.attention_bias),
            ("self_attn.k_proj", kv, hidden, usual, shape.attention_bias),
            ("self_attn.v_proj", kv, hidden, usual, shape.attention_bias),
            ("self_attn.o_proj", hidden, q, residual, shape.attention_bias),
            ("mlp.gate_proj", inner, hidden, usual, shape.mlp_bias),
            ("mlp.up_proj", inner, hidden, usual, shape.mlp_bias),
            ("mlp.down_proj", hidden, inner, residual, shape.mlp_bias),
        ] {
            add(at(name, "weight"), &[out, width], Fill::Normal(deviation))?;
            if bias {
                add(at(name, "bias"), &[out], Fill::Constant(0.0))?;
            }
        }
    }
    Ok(weights)
}

enum Fill {
    Constant(f32),
    Normal(f32),
}

/// One standard normal number (Box and Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    ((-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()) as f32
}
