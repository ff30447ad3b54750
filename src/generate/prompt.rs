//! Reading a prompt. Jobs with the same prompt share the blocks below the first tap of their interventions: these run
//! once, and each intervention continues from their output.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use candle_core::Tensor;

use super::job::Job;
use super::mixed::untouched_blocks;
use crate::error::Result;
use crate::model::cpu::cache::{LayerCache, RowCache};
use crate::model::decoder::Decoder;
use crate::model::hooks::{HookContext, Intervention, Site, Tap};
use crate::model::ops::to_vec;
use crate::model::pass::Pass;
use crate::model::segments::Segments;

/// A prompt's forward pass without any intervention, as far up as some job needed it.
#[derive(Default)]
pub(super) struct Prompt {
    /// `[prompt, d_model]` before the block of this number.
    hidden: BTreeMap<usize, Tensor>,
    /// Keys and values of the blocks that have run; the others are absent.
    cache: Option<RowCache>,
}

/// A prompt that was read under an intervention, from the first block that it touches.
pub(super) struct Prefix {
    /// Layers below that block are absent.
    pub cache: RowCache,
    /// Logits behind the last token, `[vocab]`.
    pub logits: Vec<f32>,
}

/// Computed by the first worker that needs it; the others wait.
pub(super) type Shared<T> = Arc<Mutex<T>>;

impl Prompt {
    /// Its tokens, once some row has read it.
    pub fn len(&self) -> usize {
        self.cache.as_ref().map_or(0, RowCache::len)
    }

    /// Its keys and values below `depth`, which some row of it has read.
    pub fn layer(&self, layer: usize) -> Option<&LayerCache> {
        self.cache.as_ref()?.layers.get(layer).filter(|layer| !layer.is_absent())
    }

    /// `[prompt, d_model]` before the block `depth`, whose caches below it are then there.
    fn before(&mut self, decoder: &Decoder, ids: &[u32], depth: usize) -> Result<Tensor> {
        if let Some(hidden) = self.hidden.get(&depth) {
            return Ok(hidden.clone());
        }
        let segments = Segments::packed([ids.len()], 0);
        let mut caches = [decoder.new_cache(ids.len())];
        let mut pass = Pass::prefill(&segments, &mut caches);
        let (from, mut hidden) = match self.hidden.range(..depth).next_back() {
            Some((&from, hidden)) => (from, hidden.clone()),
            None => (0, decoder.embed(ids, &pass.attend)?),
        };
        for block in &decoder.blocks[from..depth] {
            hidden = block.forward(&hidden, &mut pass)?;
        }
        let [new] = caches;
        let absent = || RowCache { layers: decoder.blocks.iter().map(|_| LayerCache::absent(ids.len())).collect() };
        let kept = self.cache.get_or_insert_with(absent);
        for (layer, new) in new.layers.into_iter().enumerate().take(depth).skip(from) {
            kept.layers[layer] = new;
        }
        self.hidden.insert(depth, hidden.clone());
        Ok(hidden)
    }
}

/// Reads one prompt alone: packed with others, the last bits of its values would depend on them.
pub(super) fn read_prompt(decoder: &Decoder, number: usize, job: &Job, prompt: &mut Prompt) -> Result<Prefix> {
    let (ids, blocks) = (&job.prompt, decoder.blocks.len());
    let intervention = job.intervention.as_deref().map(|one| one as &dyn Intervention);
    let depth = untouched_blocks(blocks, intervention);
    let mut hidden = prompt.before(decoder, ids, depth)?;
    let segments = Segments::packed([ids.len()], 0);
    if let (Some(one), Some(layer)) = (intervention, depth.checked_sub(1)) {
        let tap = Tap { layer, site: Site::ResidPost };
        if one.taps().contains(&tap) {
            let positions: Vec<u32> = (0..ids.len() as u32).collect();
            let answer = vec![false; ids.len()];
            let context =
                HookContext { segments: &segments, positions: &positions, answer: Some(&answer), jobs: &[number] };
            hidden = changed(one, tap, hidden, &context)?;
        }
    }
    let mut caches = [decoder.new_cache(ids.len())];
    let mut pass = Pass::prefill(&segments, &mut caches).with_intervention(intervention).with_jobs(&[number]);
    for block in &decoder.blocks[depth..] {
        hidden = block.forward(&hidden, &mut pass)?;
    }
    // Only the last token needs logits.
    let hidden = hidden.narrow(0, ids.len() - 1, 1)?.contiguous()?;
    let logits = to_vec(&decoder.head(&decoder.norm.forward(&hidden)?)?)?;
    let [mut cache] = caches;
    cache.layers[..depth].iter_mut().for_each(|layer| *layer = LayerCache::absent(ids.len()));
    Ok(Prefix { cache, logits })
}

/// What an intervention makes of `x` at a tap, outside of a pass.
pub(super) fn changed(one: &dyn Intervention, tap: Tap, x: Tensor, context: &HookContext) -> Result<Tensor> {
    let Some(changed) = one.apply(tap, &x, context)? else { return Ok(x) };
    if changed.shape() != x.shape() {
        let (layer, site) = (tap.layer, tap.site);
        let (got, passes) = (changed.shape(), x.shape());
        return Err(candle_core::Error::Msg(format!(
            "an intervention returned shape {got:?} at layer {layer}, {site}, for an input of shape {passes:?}"
        ))
        .into());
    }
    Ok(changed)
}
