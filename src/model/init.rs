//! Weights before any training: matrices normal, those that write to the residual stream smaller by √(2 · layers)
//! (Radford et al. 2019), norms one, biases zero.

use candle_core::{Device, Result, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::config::DecoderConfig;
use super::decoder::Weights;
use crate::rng;

/// Every weight of a shape: its checkpoint name and its dimensions.
pub fn shapes(shape: &DecoderConfig) -> Vec<(String, Vec<usize>)> {
    let (hidden, inner) = (shape.hidden_size, shape.intermediate_size);
    let (q, kv) = (shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim);
    let mut all = vec![("model.embed_tokens.weight".to_string(), vec![shape.vocab_size, hidden])];
    if !shape.tie_word_embeddings {
        all.push(("lm_head.weight".into(), vec![shape.vocab_size, hidden]));
    }
    all.push(("model.norm.weight".into(), vec![hidden]));
    for layer in 0..shape.num_hidden_layers {
        let at = |name: &str, what: &str| format!("model.layers.{layer}.{name}.{what}");
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            all.push((at(norm, "weight"), vec![hidden]));
        }
        for (name, out, width, bias) in [
            ("self_attn.q_proj", q, hidden, shape.attention_bias),
            ("self_attn.k_proj", kv, hidden, shape.attention_bias),
            ("self_attn.v_proj", kv, hidden, shape.attention_bias),
            ("self_attn.o_proj", hidden, q, shape.attention_bias),
            ("mlp.gate_proj", inner, hidden, shape.mlp_bias),
            ("mlp.up_proj", inner, hidden, shape.mlp_bias),
            ("mlp.down_proj", hidden, inner, shape.mlp_bias),
        ] {
            all.push((at(name, "weight"), vec![out, width]));
            if bias {
                all.push((at(name, "bias"), vec![out]));
            }
        }
    }
    all
}

/// Fresh weights of a shape. The deviation is .02 at a width of 768 and grows as the width shrinks.
pub fn initial_weights(shape: &DecoderConfig, seed: u64) -> Result<Weights> {
    let usual = 0.02 * (768.0 / shape.hidden_size as f32).sqrt();
    let residual = usual / (2.0 * shape.num_hidden_layers as f32).sqrt();
    let fresh = |(name, dims): (String, Vec<usize>)| {
        let size = dims.iter().product();
        let mut rng = rng::stream(seed, "initial", &[rng::key(0, name.trim_end_matches(".weight"), &[])]);
        let to_stream = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
        let deviation = if to_stream { residual } else { usual };
        let values: Vec<f32> = if name.ends_with(".bias") {
            vec![0.0; size]
        } else if dims.len() == 1 {
            vec![1.0; size]
        } else {
            (0..size).map(|_| deviation * normal(&mut rng)).collect()
        };
        Ok((name, Tensor::from_vec(values, dims, &Device::Cpu)?))
    };
    shapes(shape).into_iter().map(fresh).collect()
}

/// One standard normal number (Box and Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    ((-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()) as f32
}
