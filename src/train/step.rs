//! Forward and backward of one chunk of rows, stage by stage: `embed`, each block, the last norm, the head with its
//! loss. Each block takes its fused form where it has one ([`fused_block`]). Any other block is a separate candle
//! graph, cut at its input, so that its memory is freed as soon as its gradients are in their buffers, and so that it
//! can be recomputed instead of kept. An intervention's taps before and after a block are separate stages.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, Var};

use super::packed::Packed;
use super::trainable::Trainable;
use crate::model::decoder::Decoder;
use crate::model::fused_block;
use crate::model::hooks::{Intervention, Site};
use crate::model::ops::cross_entropy::{CrossEntropy, cross_entropy};
use crate::model::ops::divergence::kl_divergence;
use crate::model::ops::{to_vec, uses_cpu_kernels, with_slices};
use crate::model::pass::{Attend, Pass};

/// Losses and gradients of a chunk.
pub struct ChunkGrad {
    /// Loss of each token; 0 for tokens without a target.
    pub losses: Vec<f32>,
    /// Gradient of `Σ weight · loss` (times a factor, plus a penalty) by trained weight, in [`Trainable`]'s order.
    pub grads: Vec<Vec<f32>>,
    /// KL(trained ‖ base) of every token; empty without a penalty.
    pub divergences: Vec<f32>,
}

/// Adds `coefficient · Σ weight · KL(trained ‖ base)` to the loss.
#[derive(Clone, Copy)]
pub struct Penalty<'a> {
    /// The same decoder without its adapter.
    pub base: &'a Decoder,
    /// Weight of the divergence in the loss.
    pub coefficient: f32,
}

/// From a chunk's losses, a factor on each of its tokens' weights in the gradient.
pub type Factors<'a> = &'a (dyn Fn(&[f32]) -> Vec<f32> + Sync);

/// Settings for the forward and backward pass of a chunk.
#[derive(Clone, Copy, Default)]
pub struct StepOptions<'a> {
    /// Key of (seed, step) for dropout.
    pub dropout: Option<u64>,
    /// Keep the inputs of blocks only, and compute the rest again in the backward pass.
    pub recompute: bool,
    /// Intervention that watches or steers the model in training.
    pub intervention: Option<&'a dyn Intervention>,
    /// Holds the model to its base.
    pub penalty: Option<Penalty<'a>>,
    /// Factors on the tokens' weights in the gradient.
    pub factors: Option<Factors<'a>>,
}

/// Losses of a chunk without gradients.
pub fn forward(decoder: &Decoder, chunk: &Packed) -> Result<Vec<f32>> {
    let cap = decoder.config.logit_softcap;
    let normed = normed(decoder, chunk)?.detach();
    Ok(cross_entropy(&normed, decoder.output.detach(), cap, &chunk.targets, &chunk.weights, false)?.losses)
}

/// What the head reads, `[tokens, d_model]`, without gradients.
fn normed(decoder: &Decoder, chunk: &Packed) -> Result<Tensor> {
    let mut x = decoder.embed(&chunk.ids, &Attend::Sequences(&chunk.segments))?;
    for block in &decoder.blocks {
        let pass = &mut Pass::sequences(&chunk.segments);
        x = match fused_block::applies(block) {
            true => {
                let (out, _) = with_slices([&x], |[x]| fused_block::forward(block, x, pass, None))?;
                Tensor::from_vec(out, x.shape(), x.device())?
            }
            false => block.forward(&x, pass)?.detach(),
        };
    }
    decoder.norm.forward(&x)
}

/// Losses and gradients of a chunk.
pub fn forward_backward(
    decoder: &Decoder,
    trained: &Trainable,
    chunk: &Packed,
    options: &StepOptions,
) -> Result<ChunkGrad> {
    let mut grads: Vec<Vec<f32>> = vec![Vec::new(); trained.vars.len()];
    let pass = || {
        Pass::sequences(&chunk.segments)
            .with_dropout(options.dropout)
            .with_intervention(options.intervention)
            .with_answer(&chunk.answer)
    };
    let run = |layer: usize, x: &Tensor| decoder.blocks[layer].between_taps(x, &mut pass());
    let fused = |layer: usize| {
        !pass().has_tap_inside(layer) && fused_block::trains(&decoder.blocks[layer], trained.in_block[layer].len())
    };
    // The tokens that the head reads: those that predict something, where the last block can leave the others out.
    let last = decoder.blocks.len() - 1;
    let mut rows: Vec<usize> = (0..chunk.ids.len()).collect();
    let narrows = fused_block::narrows(&decoder.blocks[last], &pass()) && !pass().has_tap(last, Site::ResidPost);
    if fused(last) && narrows && chunk.weights.iter().any(|w| *w != 0.0) {
        rows.retain(|&token| chunk.weights[token] != 0.0);
    }
    let narrow = rows.len() < chunk.ids.len();
    let run_fused = |layer: usize, x: &Tensor| -> Result<(Tensor, fused_block::Kept)> {
        let wanted = (narrow && layer == last).then(|| rows.clone());
        let (out, kept) = with_slices([x], |[x]| fused_block::forward(&decoder.blocks[layer], x, &mut pass(), wanted))?;
        let width = x.dim(1)?;
        Ok((Tensor::from_vec(out, ((), width), x.device())?, kept))
    };

    let mut x = decoder.embed(&chunk.ids, &Attend::Sequences(&chunk.segments))?; // [tokens, d_model]
    let mut kept: Vec<Stage> = Vec::new();
    for layer in 0..decoder.blocks.len() {
        x = tap(&pass(), layer, Site::ResidPre, x, trained.any_below(layer), &mut kept)?;
        if fused(layer) {
            let (output, left) = run_fused(layer, &x)?;
            let wanted = !options.recompute && (trained.any_below(layer) || !trained.in_block[layer].is_empty());
            kept.push(Stage { layer, input: x, forward: Forward::Fused(wanted.then(|| Box::new(left))) });
            x = output;
        } else {
            let input = if trained.any_below(layer) { Var::from_tensor(&x)?.as_tensor().clone() } else { x };
            let output = run(layer, &input)?;
            x = output.detach();
            kept.push(Stage { layer, input, forward: Forward::Graph((!options.recompute).then_some(output)) });
        }
        x = tap(&pass(), layer, Site::ResidPost, x, trained.any_below(layer + 1), &mut kept)?;
    }

    let of_rows = |values: &[f32]| rows.iter().map(|&token| values[token]).collect::<Vec<_>>();
    let by_token = |values: &[f32]| {
        let mut all = vec![0.0; chunk.ids.len()];
        rows.iter().zip(values).for_each(|(&token, &value)| all[token] = value);
        all
    };
    let targets: Vec<u32> = rows.iter().map(|&token| chunk.targets[token]).collect();
    let (weights, cap, head) = (of_rows(&chunk.weights), decoder.config.logit_softcap, decoder.output.detach());
    let read_by_head = Var::from_tensor(&x)?; // [rows, d_model]
    let normed = decoder.norm.forward(&read_by_head)?;
    let CrossEntropy { losses, mut hidden_grad, weight_grad } =
        cross_entropy(&normed.detach(), &head, cap, &targets, &weights, trained.output.is_some())?;
    let losses = by_token(&losses);
    if let (Some(index), Some(grad)) = (trained.output, &weight_grad) {
        add(&mut grads[index], grad)?;
    }
    if let Some(factors) = options.factors {
        // A token's gradient is linear in its weight.
        let factors = Tensor::from_vec(of_rows(&factors(&losses)), (rows.len(), 1), hidden_grad.device())?;
        hidden_grad = hidden_grad.broadcast_mul(&factors)?;
    }
    let mut divergences = Vec::new();
    if let Some(Penalty { base, coefficient }) = options.penalty {
        let places = Tensor::from_iter(rows.iter().map(|&token| token as u32), x.device())?;
        let base = self::normed(base, chunk)?.index_select(&places, 0)?;
        let kl = kl_divergence(&normed.detach(), &base, &head, cap, &weights)?;
        hidden_grad = (hidden_grad + (kl.hidden_grad * f64::from(coefficient))?)?;
        divergences = by_token(&kl.values);
    }
    let store = backward(&normed, hidden_grad)?;
    if let Some(index) = trained.in_final_norm {
        add_from(&store, trained, index, &mut grads)?;
    }
    let mut upstream = store.get(&read_by_head).map(to_vec).transpose()?;

    for Stage { layer, input, forward } in kept.into_iter().rev() {
        // Nothing below is trained.
        let Some(grad) = upstream.take() else { break };
        let needed = trained.any_below(layer);
        if !needed && trained.in_block[layer].is_empty() {
            break;
        }
        let output = match forward {
            Forward::Tap(output) => {
                upstream = Some(back_through_tap(&input, &output, grad)?);
                continue;
            }
            Forward::Fused(left) => {
                let left = match left {
                    Some(left) => left,
                    None => Box::new(run_fused(layer, &input)?.1),
                };
                let block = &decoder.blocks[layer];
                let (dx, of_weights) =
                    with_slices([&input], |[x]| fused_block::backward(block, x, *left, grad, &pass(), needed))?;
                for (&index, grad) in trained.in_block[layer].iter().zip(of_weights) {
                    grads[index] = grad;
                }
                upstream = dx;
                continue;
            }
            Forward::Graph(Some(output)) => output,
            Forward::Graph(None) => run(layer, &input)?,
        };
        let store = backward(&output, Tensor::from_vec(grad, output.shape(), output.device())?)?;
        for &index in &trained.in_block[layer] {
            add_from(&store, trained, index, &mut grads)?;
        }
        upstream = if needed { store.get(&input).map(to_vec).transpose()? } else { None };
    }
    if let (Some(index), Some(grad)) = (trained.embedding, upstream) {
        let width = decoder.config.hidden_size;
        grads[index].resize(decoder.config.vocab_size * width, 0.0);
        for (token, &id) in chunk.ids.iter().enumerate() {
            let row = &mut grads[index][id as usize * width..(id as usize + 1) * width];
            row.iter_mut().zip(&grad[token * width..(token + 1) * width]).for_each(|(sum, g)| *sum += g);
        }
    }
    Ok(ChunkGrad { losses, grads, divergences })
}

/// A block, or an intervention's tap before or after one, as its backward pass needs it.
struct Stage {
    layer: usize,
    /// `[tokens, d_model]`; a variable where something below is trained and the stage is a graph.
    input: Tensor,
    forward: Forward,
}

/// What the forward pass keeps for the backward pass; `None` for a block that will be recomputed.
enum Forward {
    /// The block's output with candle's graph.
    Graph(Option<Tensor>),
    Fused(Option<Box<fused_block::Kept>>),
    /// What the intervention returned, with its graph.
    Tap(Tensor),
}

/// Lets the intervention see and change `x` at a tap; a change becomes a separate stage. `needed` says whether anything
/// before the tap is trained.
fn tap(pass: &Pass, layer: usize, site: Site, x: Tensor, needed: bool, kept: &mut Vec<Stage>) -> Result<Tensor> {
    if !pass.has_tap(layer, site) {
        return Ok(x);
    }
    let input = if needed { Var::from_tensor(&x)?.as_tensor().clone() } else { x.clone() };
    let output = pass.tap(layer, site, input.clone())?;
    if output.id() == input.id() {
        return Ok(x);
    }
    let changed = output.detach();
    kept.push(Stage { layer, input, forward: Forward::Tap(output) });
    Ok(changed)
}

/// Gradient of a tap's input, from the gradient of what the intervention returned.
fn back_through_tap(input: &Tensor, output: &Tensor, grad: Vec<f32>) -> Result<Vec<f32>> {
    if !input.is_variable() {
        // Only the block after the tap is trained, which needs no gradient of its input.
        return Ok(grad);
    }
    let store = backward(output, Tensor::from_vec(grad, output.shape(), output.device())?)?;
    match store.get(input) {
        Some(grad) => to_vec(grad),
        None => candle_core::bail!(
            "an intervention returned a tensor without a graph to its input, so no gradient can pass it"
        ),
    }
}

/// Runs a graph backward from `output` with a given gradient.
fn backward(output: &Tensor, grad: Tensor) -> Result<candle_core::backprop::GradStore> {
    match uses_cpu_kernels(output) {
        true => output.apply_op1(Upstream { grad })?.backward(),
        false => (output * grad)?.sum_all()?.backward(),
    }
}

fn add_from(
    store: &candle_core::backprop::GradStore,
    trained: &Trainable,
    index: usize,
    grads: &mut [Vec<f32>],
) -> Result<()> {
    match store.get(&trained.vars[index]) {
        Some(grad) => add(&mut grads[index], grad),
        // A trained weight without a gradient means that an op cut the graph: the loss would stay flat in silence.
        None => {
            candle_core::bail!("`{}` got no gradient: an op on its path has no backward pass", trained.names[index])
        }
    }
}

/// Adds to a buffer that may not have been begun.
fn add(sum: &mut Vec<f32>, grad: &Tensor) -> Result<()> {
    let grad = to_vec(grad)?;
    if sum.is_empty() {
        *sum = grad;
    } else {
        sum.iter_mut().zip(grad).for_each(|(s, g)| *s += g);
    }
    Ok(())
}

/// A scalar whose gradient towards its argument is given: the seam between two stages.
struct Upstream {
    grad: Tensor,
}

impl CustomOp1 for Upstream {
    fn name(&self) -> &'static str {
        "upstream-gradient"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.grad.clone()))
    }
}
