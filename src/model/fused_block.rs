//! A block's forward and backward pass as one function each, over raw floats: the same as the block under candle's graph,
//! for the case that nearly all work is. That case is a block like Llama's on the CPU with no tap inside it, its weights
//! trained (pretraining) or frozen, with or without LoRAs.
//!
//! The graph starts each gradient from zeros, adds to it, and keeps the input of every node. Here gradients are added where
//! they are made, and only what the backward pass reads is kept: queries, keys and values, attention's output, the residual
//! stream between attention and MLP, gate and up. Norms and the gate's product are computed again. Decoding uses the forward
//! pass too, in which queries, keys and values (gate and up) are one call to this worker's helpers.
//!
//! Everything else (other families' blocks, DoRA, a tap between a block's input and its output, other devices) goes through
//! candle's graph, which the tests compare this with.

use candle_core::Result;

use super::block::{Block, MlpLinears, NormLayer, QkvLinears};
use super::config::{Activation, Norm};
use super::cpu::simd::add;
use super::linear::Linear;
use super::lora::Lora;
use super::ops::attention::Attention;
use super::ops::linear::Low;
use super::ops::rms_norm::{add_grads, normed};
use super::ops::swiglu::{gated, gated_backward};
use super::ops::weight::{add_times, each_times_transposed, times, weight_grad};
use super::ops::with_slices;
use super::pass::{Attend, Pass};

/// What the backward pass reads beside the block's input.
pub struct Kept {
    q: Vec<f32>, // rotated by its position, as the keys are
    k: Vec<f32>,
    v: Vec<f32>,
    attn_out: Vec<f32>, // [tokens, heads · head_dim], before the output projection
    middle: Vec<f32>,   // the residual stream between attention and MLP
    gate: Vec<f32>,
    up: Vec<f32>,
    low: [Vec<f32>; 7], // each LoRA's x Aᵀ, in the order of `Block::linears`
    rows: Option<Vec<usize>>,
}

/// What a backward pass returns: the input's gradient, if it was wanted, and those of the trained weights: the two norms', then
/// each linear's weight, bias, A and B in the order of [`Block::linears`].
pub type Grads = (Option<Vec<f32>>, Vec<Vec<f32>>);

/// The linears of a block like Llama's, in the order of [`Block::linears`]; no other block is fused.
fn parts(block: &Block) -> Option<[&Linear; 7]> {
    let (QkvLinears::Apart { q, k, v }, MlpLinears::Gated { gate, up }) = (&block.qkv, &block.mlp) else { return None };
    let norms = matches!(block.input_norm.kind, Norm::Rms { .. }) && block.qk_norms.is_none();
    let plain = norms && block.post_norms.is_none() && block.activation == Activation::Silu;
    plain.then_some([q, k, v, &block.o, gate, up, &block.down])
}

fn parts_of(block: &Block) -> Result<[&Linear; 7]> {
    parts(block).ok_or_else(|| candle_core::Error::Msg("a block of this family has no fused form".into()))
}

/// Whether this block has a fused form.
pub fn applies(block: &Block) -> bool {
    let plain = |linear: &Linear| {
        linear.weight.uses_cpu_kernels() && linear.lora.as_ref().is_none_or(|lora| lora.magnitude.is_none())
    };
    parts(block).is_some_and(|linears| linears.into_iter().all(plain))
}

/// Whether its backward pass has one too, given that `trained` of its weights are trained.
pub fn trains(block: &Block, trained: usize) -> bool {
    let of = |linear: &Linear| {
        let bias = linear.bias.as_ref().is_some_and(|bias| bias.is_variable());
        usize::from(linear.weight.is_trained()) + usize::from(bias) + 2 * usize::from(linear.lora.is_some())
    };
    let norms = block.norms().filter(|norm| norm.weight.is_variable()).count();
    applies(block) && trained == norms + block.linears().into_iter().map(of).sum::<usize>()
}

/// Whether a block may be asked for some tokens' outputs alone. Dropout masks go by a token's place, so they forbid it.
pub fn narrows(block: &Block, pass: &Pass) -> bool {
    let dropped = |linear: &Linear| linear.lora.as_ref().is_some_and(|lora| lora.dropout > 0.0);
    pass.dropout.is_none() || !block.linears().into_iter().any(dropped)
}

/// `[tokens, d_model] → [tokens, d_model]`, or only these `rows` of the result (of the last block, the head reads those of
/// tokens that predict something): then everything after attention, forward and backward, is computed for them alone.
pub fn forward(block: &Block, x: &[f32], pass: &mut Pass, rows: Option<Vec<usize>>) -> Result<(Vec<f32>, Kept)> {
    let [q, k, v, o, gate, up, down] = parts_of(block)?;
    let width = block.input_norm.weight.elem_count();
    let h = norm(&block.input_norm, x)?;
    // [tokens, heads · head_dim] and twice [tokens, kv_heads · head_dim]
    let [(mut q, low_q), (mut k, low_k), (v, low_v)] = linears([q, k, v], &h, pass)?;
    let mut attn_out = attend(block, &mut q, &mut k, &v, &mut pass.attend)?;
    if let Some(rows) = &rows {
        attn_out = gathered(&attn_out, rows, attn_out.len() * width / x.len());
    }
    let [(mut middle, low_o)] = linears([o], &attn_out, pass)?;
    match &rows {
        None => add(&mut middle, x),
        Some(rows) => add(&mut middle, &gathered(x, rows, width)),
    }
    let h = norm(&block.mlp_norm, &middle)?;
    let [(gate, low_gate), (up, low_up)] = linears([gate, up], &h, pass)?; // [tokens, intermediate]
    let [(mut out, low_down)] = linears([down], &gated(&gate, &up), pass)?;
    add(&mut out, &middle);
    let low = [low_q, low_k, low_v, low_o, low_gate, low_up, low_down];
    Ok((out, Kept { q, k, v, attn_out, middle, gate, up, low, rows }))
}

/// Attention's output, `[tokens, heads · head_dim]`; queries and keys come back rotated by their positions.
fn attend(block: &Block, q: &mut [f32], k: &mut [f32], v: &[f32], attend: &mut Attend) -> Result<Vec<f32>> {
    let (segments, caches) = match attend {
        Attend::Step(rows) => return Ok(block.step(q, k, v, rows)),
        Attend::Sequences(segments) => (segments, None),
        Attend::Prefill(segments, caches) => (segments, Some(caches)),
    };
    let attention = Attention::new(&block.heads, segments)?;
    attention.rotate(q, k, false);
    if let Some(caches) = caches {
        block.append_kv(k, v, segments, caches);
    }
    Ok(attention.forward(q, k, v))
}

/// From the gradient of the output (of its `rows`, if only those were asked for): that of the input (if `with_input`), and
/// those of the trained weights.
pub fn backward(
    block: &Block,
    x: &[f32],
    kept: Kept,
    mut grad: Vec<f32>,
    pass: &Pass,
    with_input: bool,
) -> Result<Grads> {
    let [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj] = parts_of(block)?;
    let Kept { q, k, v, attn_out, middle, mut gate, mut up, low, rows } = kept;
    let [low_q, low_k, low_v, low_o, low_gate, low_up, low_down] = &low;

    let mut dg = Vec::new();
    let h = if reads(down_proj) { gated(&gate, &up) } else { Vec::new() };
    let down = linear_grad(down_proj, &h, low_down, &grad, Some(&mut dg), pass)?;
    gated_backward(&mut gate, &mut up, &dg);
    let h = if reads(gate_proj) || reads(up_proj) { norm(&block.mlp_norm, &middle)? } else { Vec::new() };
    let mut dh = Vec::new();
    let gate = linear_grad(gate_proj, &h, low_gate, &gate, Some(&mut dh), pass)?;
    let up = linear_grad(up_proj, &h, low_up, &up, Some(&mut dh), pass)?;
    let mlp_norm = norm_grad(&block.mlp_norm, &middle, &dh, &mut grad)?; // now the gradient of the middle

    let mut d_attn_out = Vec::new();
    let o = linear_grad(o_proj, &attn_out, low_o, &grad, Some(&mut d_attn_out), pass)?;
    if let Some(rows) = &rows {
        d_attn_out = scattered(&d_attn_out, rows, q.len());
        grad = scattered(&grad, rows, x.len());
    }
    let attention = Attention::new(&block.heads, &pass.attend.segments())?;
    let [dq, dk, dv] = attention.backward(&q, &k, &v, &d_attn_out);
    let read = [q_proj, k_proj, v_proj].into_iter().any(reads);
    let h = if read { norm(&block.input_norm, x)? } else { Vec::new() };
    let mut dh = (with_input || block.input_norm.weight.is_variable()).then(Vec::new);
    let q = linear_grad(q_proj, &h, low_q, &dq, dh.as_mut(), pass)?;
    let k = linear_grad(k_proj, &h, low_k, &dk, dh.as_mut(), pass)?;
    let v = linear_grad(v_proj, &h, low_v, &dv, dh.as_mut(), pass)?;
    let input_norm = match &dh {
        None => None,
        Some(dh) => norm_grad(&block.input_norm, x, dh, &mut grad)?,
    };
    let norms = [input_norm, mlp_norm].into_iter().flatten();
    let grads = norms.chain([q, k, v, o, gate, up, down].into_iter().flatten()).collect();
    Ok((with_input.then_some(grad), grads))
}

/// Copies these rows of a row-major matrix.
fn gathered(values: &[f32], rows: &[usize], width: usize) -> Vec<f32> {
    rows.iter().flat_map(|row| &values[row * width..(row + 1) * width]).copied().collect()
}

/// Rows put back where they were among `len` values, zeros elsewhere.
fn scattered(values: &[f32], rows: &[usize], len: usize) -> Vec<f32> {
    let (mut all, width) = (vec![0.0; len], values.len() / rows.len().max(1));
    for (row, values) in rows.iter().zip(values.chunks_exact(width.max(1))) {
        all[row * width..(row + 1) * width].copy_from_slice(values);
    }
    all
}

/// Whether a linear's own gradients need its input.
fn reads(linear: &Linear) -> bool {
    linear.lora.is_some() || linear.weight.is_trained()
}

fn eps(layer: &NormLayer) -> Result<f32> {
    match layer.kind {
        Norm::Rms { eps } => Ok(eps),
        _ => candle_core::bail!("the norm `{}` has no fused form", layer.path),
    }
}

fn norm(layer: &NormLayer, x: &[f32]) -> Result<Vec<f32>> {
    let eps = eps(layer)?;
    with_slices([&layer.weight], |[weight]| Ok(normed(x, weight, eps)))
}

/// Adds to the gradient of `x`, and returns the weight's where that is trained.
fn norm_grad(layer: &NormLayer, x: &[f32], grad: &[f32], dx: &mut [f32]) -> Result<Option<Vec<f32>>> {
    let eps = eps(layer)?;
    let mut dw = layer.weight.is_variable().then(|| vec![0.0; layer.weight.elem_count()]);
    with_slices([&layer.weight], |[weight]| {
        add_grads(x, weight, grad, eps, dx, dw.as_deref_mut());
        Ok(())
    })?;
    Ok(dw)
}

/// Each linear's output, and its LoRA's `x Aᵀ` (empty without one).
fn linears<const N: usize>(linears: [&Linear; N], x: &[f32], pass: &Pass) -> Result<[(Vec<f32>, Vec<f32>); N]> {
    let weights = linears.map(|linear| linear.weight.with_products(pass.products));
    let ys = each_times_transposed(x, weights.each_ref())?;
    let mut done = ys.map(|y| (y, Vec::new()));
    for ((y, low), linear) in done.iter_mut().zip(linears) {
        if let Some(lora) = &linear.lora {
            *low = with_low(linear, lora, pass, |low| low.forward(x, y))?;
        }
        if let Some(bias) = &linear.bias {
            with_slices([bias], |[bias]| {
                y.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
                Ok(())
            })?;
        }
    }
    Ok(done)
}

/// Gradients of what is trained of a linear: weight, bias, the LoRA's A and B. That of the input is added to `dx`, or begins
/// it.
fn linear_grad(
    linear: &Linear,
    x: &[f32],
    low: &[f32],
    dy: &[f32],
    mut dx: Option<&mut Vec<f32>>,
    pass: &Pass,
) -> Result<Vec<Vec<f32>>> {
    match dx.as_deref_mut() {
        None => {}
        Some(dx) if dx.is_empty() => *dx = times(dy, &linear.weight)?,
        Some(dx) => add_times(dy, &linear.weight, dx)?,
    }
    let mut grads = Vec::new();
    if linear.weight.is_trained() {
        grads.push(weight_grad(dy, x, linear.weight.dims2()?)?);
    }
    if let Some(bias) = linear.bias.as_ref().filter(|bias| bias.is_variable()) {
        let mut sum = vec![0.0; bias.elem_count()];
        dy.chunks_exact(sum.len()).for_each(|row| add(&mut sum, row));
        grads.push(sum);
    }
    if let Some(lora) = &linear.lora {
        let (a, b) = with_low(linear, lora, pass, |given| given.backward(x, low, dy, dx.map(Vec::as_mut_slice)))?;
        grads.extend([a, b]);
    }
    Ok(grads)
}

fn with_low<R>(linear: &Linear, lora: &Lora, pass: &Pass, work: impl FnOnce(Low) -> R) -> Result<R> {
    let mask = linear.mask(lora, pass);
    let rank = lora.a.dim(0)?;
    with_slices([&lora.a, &lora.b], |[a, b]| Ok(work(Low { a, b, rank, scale: lora.scale, mask: mask.as_ref() })))
}
