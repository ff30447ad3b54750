//! A block forward and backward by hand: the same as [`Block::forward`] under candle's graph, for the case that nearly
//! all training is, frozen weights with or without LoRAs and nobody watching. The graph starts each gradient from zeros
//! and adds to it, and keeps what each node was given; here gradients are added where they are made, and only what the
//! backward pass reads is kept: queries, keys and values, what attention gave, the middle of the block, gate and up. Norms
//! and the gate's product are made again.
//!
//! Everything else (weights in training, DoRA, an intervention, other devices) takes the graph, which is also what the
//! tests hold this against.

use candle_core::Result;

use super::block::{Block, MlpLinears, NormLayer, Pass, QkvLinears};
use super::config::{Activation, Norm};
use super::linear::Linear;
use super::lora::Lora;
use super::ops::attention::Attention;
use super::ops::linear::Low;
use super::ops::read;
use super::ops::rms_norm::{add_input_grad, normed};
use super::ops::simd::add;
use super::ops::swiglu::{gated, gated_backward};
use super::ops::weight::{add_times, times, times_transposed};

/// What the backward pass reads beside the block's input.
pub struct Kept {
    q: Vec<f32>, // turned by its position, as the keys are
    k: Vec<f32>,
    v: Vec<f32>,
    mixed: Vec<f32>,
    middle: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    low: [Vec<f32>; 7], // each LoRA's x Aᵀ, in the order of `Block::linears`
}

/// What a backward pass gives: the input's gradient, if it was wanted, and those of each LoRA's A and B.
pub type Grads = (Option<Vec<f32>>, Vec<Vec<f32>>);

/// The linears of a block like Llama's, in the order of [`Block::linears`]: no other is done by hand.
fn parts(block: &Block) -> Option<[&Linear; 7]> {
    let (QkvLinears::Apart { q, k, v }, MlpLinears::Gated { gate, up }) = (&block.qkv, &block.mlp) else { return None };
    let norms = matches!(block.input_norm.kind, Norm::Rms { .. }) && block.qk_norms.is_none();
    let plain = norms && block.post_norms.is_none() && block.activation == Activation::Silu;
    plain.then_some([q, k, v, &block.o, gate, up, &block.down])
}

fn parts_of(block: &Block) -> Result<[&Linear; 7]> {
    parts(block).ok_or_else(|| candle_core::Error::Msg("a block of this family is not done by hand".into()))
}

/// Whether this block, of whose weights `trained` are trained, can be done by hand.
pub fn applies(block: &Block, trained: usize) -> bool {
    let plain = |linear: &&Linear| !linear.weight.is_trained() && linear.weight.by_kernels();
    let loras = block.linears().iter().filter(|linear| linear.lora.is_some()).count();
    let dora = block.linears().iter().any(|linear| linear.lora.as_ref().is_some_and(|l| l.magnitude.is_some()));
    parts(block).is_some() && block.linears().iter().all(plain) && !dora && trained == 2 * loras
}

/// `[tokens, d_model] → [tokens, d_model]`.
pub fn forward(block: &Block, x: &[f32], pass: &Pass) -> Result<(Vec<f32>, Kept)> {
    let [q, k, v, o, gate, up, down] = parts_of(block)?;
    let h = norm(&block.input_norm, x)?;
    let (mut q, low_q) = linear(q, &h, pass)?; // [tokens, heads · head_dim]
    let (mut k, low_k) = linear(k, &h, pass)?; // [tokens, kv_heads · head_dim]
    let (v, low_v) = linear(v, &h, pass)?;
    let attention = Attention::new(&block.heads, &pass.attend.segments())?;
    attention.turn(&mut q, &mut k, false);
    let mixed = attention.forward(&q, &k, &v);
    let (mut middle, low_o) = linear(o, &mixed, pass)?;
    add(&mut middle, x);
    let h = norm(&block.mlp_norm, &middle)?;
    let (gate, low_gate) = linear(gate, &h, pass)?; // [tokens, intermediate]
    let (up, low_up) = linear(up, &h, pass)?;
    let (mut out, low_down) = linear(down, &gated(&gate, &up), pass)?;
    add(&mut out, &middle);
    let low = [low_q, low_k, low_v, low_o, low_gate, low_up, low_down];
    Ok((out, Kept { q, k, v, mixed, middle, gate, up, low }))
}

/// From the gradient of the output, that of the input (if `with_input`), and those of each LoRA's A and B in the order of
/// [`Block::linears`].
pub fn backward(
    block: &Block,
    x: &[f32],
    kept: &Kept,
    mut grad: Vec<f32>,
    pass: &Pass,
    with_input: bool,
) -> Result<Grads> {
    let linears = parts_of(block)?;
    let Kept { q, k, v, mixed, middle, gate, up, low } = kept;
    let [low_q, low_k, low_v, low_o, low_gate, low_up, low_down] = low;

    let mut dg = Vec::new();
    let down = linear_grad(linears[6], &gated(gate, up), low_down, &grad, Some(&mut dg), pass)?;
    let (dgate, dup) = gated_backward(gate, up, &dg);
    let h = norm(&block.mlp_norm, middle)?;
    let mut dh = Vec::new();
    let gate = linear_grad(linears[4], &h, low_gate, &dgate, Some(&mut dh), pass)?;
    let up = linear_grad(linears[5], &h, low_up, &dup, Some(&mut dh), pass)?;
    norm_grad(&block.mlp_norm, middle, &dh, &mut grad)?; // now the gradient of the middle

    let mut dmixed = Vec::new();
    let o = linear_grad(linears[3], mixed, low_o, &grad, Some(&mut dmixed), pass)?;
    let attention = Attention::new(&block.heads, &pass.attend.segments())?;
    let [dq, dk, dv] = attention.backward(q, k, v, &dmixed);
    let h = norm(&block.input_norm, x)?;
    let mut dh = with_input.then(Vec::new);
    let q = linear_grad(linears[0], &h, low_q, &dq, dh.as_mut(), pass)?;
    let k = linear_grad(linears[1], &h, low_k, &dk, dh.as_mut(), pass)?;
    let v = linear_grad(linears[2], &h, low_v, &dv, dh.as_mut(), pass)?;
    let grads = [q, k, v, o, gate, up, down].into_iter().flatten().flat_map(|(a, b)| [a, b]).collect();
    match dh {
        None => Ok((None, grads)),
        Some(dh) => {
            norm_grad(&block.input_norm, x, &dh, &mut grad)?;
            Ok((Some(grad), grads))
        }
    }
}

fn norm(layer: &NormLayer, x: &[f32]) -> Result<Vec<f32>> {
    let Norm::Rms { eps } = layer.kind else { candle_core::bail!("`{}` is not normalised by hand", layer.path) };
    read([&layer.weight], |[weight]| Ok(normed(x, weight, eps)))
}

/// Adds to the gradient of `x`.
fn norm_grad(layer: &NormLayer, x: &[f32], grad: &[f32], dx: &mut [f32]) -> Result<()> {
    let Norm::Rms { eps } = layer.kind else { candle_core::bail!("`{}` is not normalised by hand", layer.path) };
    read([&layer.weight], |[weight]| {
        add_input_grad(x, weight, grad, eps, dx);
        Ok(())
    })
}

/// The linear's output, and its LoRA's `x Aᵀ` (empty without one).
fn linear(linear: &Linear, x: &[f32], pass: &Pass) -> Result<(Vec<f32>, Vec<f32>)> {
    let mut y = times_transposed(x, &linear.weight)?;
    let low = match &linear.lora {
        None => Vec::new(),
        Some(lora) => with_low(linear, lora, pass, |low| low.forward(x, &mut y))?,
    };
    if let Some(bias) = &linear.bias {
        read([bias], |[bias]| {
            y.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
            Ok(())
        })?;
    }
    Ok((y, low))
}

/// Gradients of the LoRA's A and B, if there is one; that of the input is added to `dx`, or begins it.
fn linear_grad(
    linear: &Linear,
    x: &[f32],
    low: &[f32],
    dy: &[f32],
    mut dx: Option<&mut Vec<f32>>,
    pass: &Pass,
) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
    match dx.as_deref_mut() {
        None => {}
        Some(dx) if dx.is_empty() => *dx = times(dy, &linear.weight)?,
        Some(dx) => add_times(dy, &linear.weight, dx)?,
    }
    let dx = dx.map(Vec::as_mut_slice);
    match &linear.lora {
        None => Ok(None),
        Some(lora) => with_low(linear, lora, pass, |given| given.backward(x, low, dy, dx)).map(Some),
    }
}

fn with_low<R>(linear: &Linear, lora: &Lora, pass: &Pass, work: impl FnOnce(Low) -> R) -> Result<R> {
    let mask = linear.mask(lora, pass);
    let rank = lora.a.dim(0)?;
    read([&lora.a, &lora.b], |[a, b]| Ok(work(Low { a, b, rank, scale: lora.scale, mask: mask.as_ref() })))
}
