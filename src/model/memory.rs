//! Memory that a model of a given shape takes: its weights, the keys and values of a row, a training step. `inspect` prints
//! it, `run` estimates with it, and loading refuses a model that does not fit.
//!
//! Weights are counted exactly. A training step is estimated from what the trainer keeps (activations by token and layer),
//! what the block at work needs beside it, and the adapter with its gradients and moments.

use std::path::Path;

use super::config::{Activation, DecoderConfig, Mlp, Norm, Positions, Qkv};
use crate::error::{Error, Result};
use crate::process;

const F32: u64 = 4;
/// Tokens whose logits exist at once in training ([`super::ops::cross_entropy`]).
const LOGIT_ROWS: usize = 128;

/// A format in which weights may be held, with its size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    /// Name as `inspect` prints it.
    pub name: &'static str,
    /// Bits per weight of a linear, the scales of quantised blocks included.
    pub linears: f64,
    /// Bits per weight of the embedding and the head.
    pub tables: f64,
}

/// The formats that loading makes. With 4-bit linears, the embedding and the head have 8 bits.
pub const HELD: [Held; 4] = [
    Held { name: "f32", linears: 32.0, tables: 32.0 },
    Held { name: "bf16", linears: 16.0, tables: 16.0 },
    Held { name: "8-bit", linears: 8.5, tables: 8.5 },
    Held { name: "4-bit", linears: 4.5, tables: 8.5 },
];

/// Bytes of all weights; norms and biases are f32.
pub fn weight_bytes(config: &DecoderConfig, held: &Held) -> u64 {
    let tables = config.hidden_size * config.vocab_size * if config.tie_word_embeddings { 1 } else { 2 };
    // A table of positions is never quantised.
    let positions = match config.positions {
        Positions::Learned => config.hidden_size * config.max_position_embeddings,
        Positions::Rotary { .. } => 0,
    };
    let linears = linears(config).iter().map(|(out, width)| out * width).sum::<usize>() * config.num_hidden_layers;
    let vectors = config.parameters() - tables - positions - linears;
    let bits = tables as f64 * held.tables + positions as f64 * held.tables.max(16.0) + linears as f64 * held.linears;
    (bits / 8.0) as u64 + vectors as u64 * F32
}

/// Bytes of the KV cache of one row with this many tokens.
pub fn cache_bytes(config: &DecoderConfig, tokens: usize) -> u64 {
    (2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * tokens) as u64 * F32
}

/// Weights of a LoRA of this rank on every linear.
pub fn lora_parameters(config: &DecoderConfig, rank: usize) -> usize {
    config.num_hidden_layers * linears(config).iter().map(|(out, width)| rank * (out + width)).sum::<usize>()
}

/// What the memory of a training step depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// Number of trained values of the adapter.
    pub lora_parameters: usize,
    /// Chunks of a step, each of which keeps its gradients until the update.
    pub chunks: usize,
    /// Chunks that are worked on at once, one a core.
    pub at_once: usize,
    /// Tokens per chunk.
    pub tokens: usize,
    /// Whether blocks keep only their inputs and are recomputed in the backward pass (gradient checkpointing).
    pub recompute: bool,
}

impl Training {
    /// Rows of one length in chunks of whole rows of up to `chunk_tokens`, worked on by so many workers.
    pub fn of_batch(
        lora_parameters: usize,
        (rows, length): (usize, usize),
        chunk_tokens: usize,
        workers: usize,
        recompute: bool,
    ) -> Self {
        let together = (chunk_tokens / length).clamp(1, rows);
        let chunks = rows.div_ceil(together);
        Self { lora_parameters, chunks, at_once: workers.min(chunks), tokens: together * length, recompute }
    }
}

/// Bytes of a training step of a LoRA on frozen weights, those of the base not counted.
pub fn training_bytes(config: &DecoderConfig, training: &Training) -> u64 {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
    let (kept, at_work) = match fused(config) {
        // Input, middle; queries, keys, values, what attention gave; gate and up. Then the gradients on their way.
        true => (2 * hidden + 2 * q + 2 * kv + 2 * inner, 6 * hidden + 2 * q + 2 * kv + 4 * inner),
        // In and out of every op of the graph, and a gradient each.
        false => (10 * hidden + 4 * inner, 2 * (10 * hidden + 4 * inner)),
    };
    let layers = config.num_hidden_layers;
    let by_token = match training.recompute {
        true => layers * hidden + kept + at_work,
        false => layers * kept + at_work,
    };
    let logits = training.tokens.min(LOGIT_ROWS) * config.vocab_size;
    let chunk = (training.tokens * by_token + logits) as u64 * F32;
    // The weights themselves, two moments, the sum of the gradients, and every chunk's own.
    let adapter = (training.lora_parameters * (4 + training.chunks)) as u64 * F32;
    training.at_once as u64 * chunk + adapter
}

/// Whether a family's blocks have a fused form, as `fused_block::applies` says of a block.
fn fused(config: &DecoderConfig) -> bool {
    let plain = config.qkv == Qkv::Apart && config.mlp == Mlp::Gated && config.activation == Activation::Silu;
    plain && matches!(config.norm, Norm::Rms { .. }) && !config.qk_norm && !config.post_norms
}

/// Shapes `(out, in)` of the linears of one block.
fn linears(config: &DecoderConfig) -> Vec<(usize, usize)> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
    let mut all = match config.qkv {
        Qkv::Apart => vec![(q, hidden), (kv, hidden), (kv, hidden)],
        Qkv::Fused | Qkv::Interleaved => vec![(q + 2 * kv, hidden)],
    };
    all.push((hidden, q));
    match config.mlp {
        Mlp::Gated => all.extend([(inner, hidden), (inner, hidden)]),
        Mlp::FusedGated => all.push((2 * inner, hidden)),
        Mlp::Plain => all.push((inner, hidden)),
    }
    all.push((hidden, inner));
    all
}

/// An error if `needed` bytes are more than the free memory. `what` names the file in the message.
pub fn refuse_more_than_free(needed: u64, what: &Path) -> Result<()> {
    match process::free_memory_bytes() {
        Some(free) if needed > free => Err(Error::file(
            what,
            format!(
                "its weights need {} of memory, but only {} are free; --dtype bf16 needs half of what f32 needs, \
                 --quantize 4bit a seventh, and `realign inspect` prints what each format needs, training and KV \
                 cache included",
                words(needed),
                words(free)
            ),
        )),
        _ => Ok(()),
    }
}

/// A size in words, e.g. `3.4 GiB` or `12 MiB`.
pub fn words(bytes: u64) -> String {
    const MIB: f64 = 1048576.0;
    match bytes as f64 / MIB {
        mib if mib >= 1000.0 => format!("{:.1} GiB", mib / 1024.0),
        mib if mib >= 10.0 => format!("{mib:.0} MiB"),
        mib => format!("{mib:.1} MiB"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// The shape of TinyLlama-1.1B, whose published sizes the test compares with.
    fn tiny_llama() -> DecoderConfig {
        let config = DecoderConfig::llama(32_000, 2048, 22, (32, 4), 5632, 2048);
        DecoderConfig { tie_word_embeddings: false, ..config }
    }

    #[test]
    fn weights_are_counted_exactly() {
        let config = tiny_llama();
        assert_eq!(config.parameters(), 1_100_048_384);
        let [full, half, _, four] = HELD.map(|held| weight_bytes(&config, &held));
        assert_eq!(full, 4 * 1_100_048_384);
        let vectors = 45 * 2048;
        assert_eq!(half, 2 * (1_100_048_384 - vectors) + 4 * vectors);
        let (tables, linears) = (2 * 32_000 * 2048, 22 * 44_040_192);
        assert_eq!(four, tables * 17 / 16 + linears * 9 / 16 + 4 * vectors);
    }

    #[test]
    fn a_cache_holds_keys_and_values_of_every_layer() {
        assert_eq!(cache_bytes(&tiny_llama(), 1000), 2 * 22 * 4 * 64 * 1000 * 4);
    }

    #[test]
    fn recomputation_takes_less_and_longer_rows_take_more() {
        let config = tiny_llama();
        let lora_parameters = lora_parameters(&config, 16);
        assert_eq!(lora_parameters, 22 * 16 * (4096 + 2 * 2304 + 4096 + 3 * 7680));
        let training = Training { lora_parameters, chunks: 1, at_once: 1, tokens: 512, recompute: false };
        let bytes = |training: Training| training_bytes(&config, &training);
        let (kept, again) = (bytes(training), bytes(Training { recompute: true, ..training }));
        assert!(again < kept / 2 && again > lora_parameters as u64 * 20, "{again} of {kept}");
        assert!(bytes(Training { tokens: 1024, ..training }) > kept * 3 / 2);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let error = refuse_more_than_free(1 << 60, Path::new("big")).unwrap_err().to_string();
        assert!(
            error.contains("big: its weights need 1073741824.0 GiB of memory, ") && error.contains("free"),
            "{error}"
        );
        refuse_more_than_free(1 << 10, Path::new("small")).unwrap();
    }

    #[test]
    fn sizes_are_said_in_the_unit_that_fits() {
        for (bytes, expected) in [(5 << 18, "1.2 MiB"), (300 << 20, "300 MiB"), (7 << 29, "3.5 GiB")] {
            assert_eq!(words(bytes), expected);
        }
    }
}
