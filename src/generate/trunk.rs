//! One decoding step for all rows of a worker. Rows with the same tokens so far differ only from the first block that
//! one of their interventions touches. The blocks below it run once for all of them: this shared row is their trunk,
//! and its keys and values are held once. A row without such company is the only branch of its trunk. Products are
//! batch-invariant, so sharing changes no bit of an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use candle_core::Tensor;

use super::engine::MAX_BATCH;
use super::mixed::Steering;
use super::prompt::{Prompt, Shared, changed};
use crate::error::Result;
use crate::model::cpu::cache::{LayerCache, RowCache};
use crate::model::decoder::Decoder;
use crate::model::hooks::{HookContext, Intervention, Site, Tap};
use crate::model::pass::{Attend, Pass};
use crate::model::segments::Segments;
use crate::sync::unpoisoned;

/// The blocks that rows with the same tokens share.
struct Trunk {
    /// Layers below `depth`; the others are absent.
    cache: RowCache,
    depth: usize,
    next: u32,
    /// The prompt that the rows begin with; `None` once a token of the answer has been read.
    fresh: Option<Shared<Prompt>>,
}

/// The trunks of a worker's rows.
#[derive(Default)]
pub(super) struct Trunks {
    all: BTreeMap<usize, Trunk>,
    made: usize,
}

/// The part of a row that it does not share: its blocks from the first tap on.
pub(super) struct Branch<'a> {
    /// Number of its job, in the order of pushing.
    pub number: usize,
    pub intervention: Option<Arc<dyn Intervention + 'a>>,
    /// The first block that the intervention touches, see [`super::mixed::untouched_blocks`].
    pub depth: usize,
    pub trunk: usize,
    /// Layers from `depth` on; the others are absent.
    pub cache: RowCache,
    /// The token that the row reads in the next step.
    pub next: u32,
    /// Position of that token in its sequence, from 0.
    pub position: u32,
}

/// A row of the pass at some block: trunks whose branches are still the same, then branches.
#[derive(Clone, Copy, PartialEq)]
enum Lane {
    Trunk(usize),
    Branch(usize),
}

impl Trunks {
    /// The trunk of a row that begins with `next` behind a prompt: that of another such row, or a new one.
    pub fn begin(&mut self, decoder: &Decoder, prompt: &Shared<Prompt>, depth: usize, next: u32) -> usize {
        let same =
            |trunk: &Trunk| trunk.next == next && trunk.fresh.as_ref().is_some_and(|fresh| Arc::ptr_eq(fresh, prompt));
        let found = self.all.iter().find(|(_, trunk)| same(trunk)).map(|(id, _)| *id);
        let read = unpoisoned(prompt.lock());
        let id = found.unwrap_or_else(|| {
            let len = read.len();
            let cache = RowCache { layers: decoder.blocks.iter().map(|_| LayerCache::absent(len)).collect() };
            self.add(Trunk { cache, depth: 0, next, fresh: Some(prompt.clone()) })
        });
        if let Some(trunk) = self.all.get_mut(&id) {
            for layer in trunk.depth..depth {
                if let Some(read) = read.layer(layer) {
                    let most = decoder.config.max_position_embeddings;
                    trunk.cache.layers[layer] = read.with_room(most, decoder.config.head_dim);
                }
            }
            trunk.depth = trunk.depth.max(depth);
        }
        id
    }

    /// Drops the trunks of rows that ended before their first step or were cancelled: a pass has no lane for nobody.
    pub fn keep(&mut self, used: &BTreeSet<usize>) {
        self.all.retain(|id, _| used.contains(id));
    }

    fn add(&mut self, trunk: Trunk) -> usize {
        self.made += 1;
        self.all.insert(self.made, trunk);
        self.made
    }

    /// Each branch's logits, `[branches, vocab]`, once its newest token is read.
    pub fn step(&mut self, decoder: &Decoder, branches: &mut [&mut Branch]) -> Result<Tensor> {
        let blocks = decoder.blocks.len();
        let mut lanes: Vec<Lane> = self.all.keys().map(|&id| Lane::Trunk(id)).collect();
        let ids: Vec<u32> = self.all.values().map(|trunk| trunk.next).collect();
        let mut x = {
            let mut caches: Vec<&mut RowCache> = self.all.values_mut().map(|trunk| &mut trunk.cache).collect();
            decoder.embed(&ids, &Attend::Step(&mut caches))?
        };
        for layer in 0..=blocks {
            let (next, joined) = self.lanes_of(layer, branches);
            if next != lanes {
                let from = |lane: &Lane| {
                    let trunk = |i: usize| Lane::Trunk(branches[i].trunk);
                    let place = |wanted: Lane| lanes.iter().position(|lane| *lane == wanted);
                    match *lane {
                        Lane::Branch(i) => place(*lane).or_else(|| place(trunk(i))),
                        Lane::Trunk(_) => place(*lane),
                    }
                };
                let from: Vec<u32> = next.iter().filter_map(from).map(|place| place as u32).collect();
                x = x.index_select(&Tensor::from_vec(from, next.len(), x.device())?, 0)?;
                lanes = next;
            }
            if let Some(before) = layer.checked_sub(1) {
                x = self.leave_trunks(before, x, &lanes, &joined, branches)?;
            }
            let Some(block) = decoder.blocks.get(layer) else { break };
            let about = About::of(&lanes, branches);
            let mut caches: Vec<&mut RowCache> = Vec::with_capacity(lanes.len());
            caches.extend(self.all.values_mut().filter(|t| t.depth > layer).map(|trunk| &mut trunk.cache));
            caches.extend(branches.iter_mut().filter(|b| b.depth <= layer).map(|branch| &mut branch.cache));
            x = in_batches(&x, |start, x| {
                let places = start..start + x.dim(0)?;
                let interventions: Vec<_> = about.interventions[places.clone()].iter().map(Option::as_ref).collect();
                let steering = Steering::of(&interventions);
                let mut caches: Vec<&mut RowCache> =
                    caches[places.clone()].iter_mut().map(|cache| &mut **cache).collect();
                let mut pass = Pass::step(&mut caches)
                    .with_products(decoder.step_products)
                    .with_intervention(steering.as_intervention())
                    .with_jobs(&about.jobs[places.clone()])
                    .with_positions(&about.positions[places]);
                block.forward(x, &mut pass)
            })?;
        }
        for cache in self.all.values_mut().map(|t| &mut t.cache).chain(branches.iter_mut().map(|b| &mut b.cache)) {
            cache.layers.iter_mut().filter(|layer| layer.is_absent()).for_each(LayerCache::count_token);
        }
        Ok(in_batches(&x, |_, x| decoder.head_by(&decoder.norm.forward(x)?, decoder.step_products))?)
    }

    /// What goes through a block, and the branches that leave their trunk before it.
    fn lanes_of(&self, layer: usize, branches: &[&mut Branch]) -> (Vec<Lane>, Vec<usize>) {
        let trunks = self.all.iter().filter(|(_, trunk)| trunk.depth > layer).map(|(id, _)| Lane::Trunk(*id));
        let apart = (0..branches.len()).filter(|&i| branches[i].depth <= layer);
        let joined = (0..branches.len()).filter(|&i| branches[i].depth == layer).collect();
        (trunks.chain(apart.map(Lane::Branch)).collect(), joined)
    }

    /// Applies what is added behind block `before` to the branches that leave their trunk there; to those that had left it,
    /// the block did.
    fn leave_trunks(
        &self,
        before: usize,
        x: Tensor,
        lanes: &[Lane],
        joined: &[usize],
        branches: &[&mut Branch],
    ) -> Result<Tensor> {
        let tap = Tap { layer: before, site: Site::ResidPost };
        let steered = |lane: &Lane| match *lane {
            Lane::Branch(i) if joined.contains(&i) => branches[i].intervention.as_ref(),
            _ => None,
        };
        let steered: Vec<_> = lanes.iter().map(|lane| steered(lane).filter(|one| one.taps().contains(&tap))).collect();
        let steering = Steering::of(&steered);
        let Some(one) = steering.as_intervention() else { return Ok(x) };
        let about = About::of(lanes, branches);
        let context = HookContext {
            segments: &Segments::packed(lanes.iter().map(|_| 1), 0),
            positions: &about.positions,
            answer: Some(&vec![true; lanes.len()]),
            jobs: &about.jobs,
        };
        changed(one, tap, x, &context)
    }

    /// Regroups the branches after each has its next token: branches whose tokens now differ get separate trunks, and
    /// trunks without a branch are dropped.
    pub fn regroup(&mut self, branches: &mut [&mut Branch]) {
        let mut members: BTreeMap<(usize, u32), Vec<usize>> = BTreeMap::new();
        for (place, branch) in branches.iter().enumerate() {
            members.entry((branch.trunk, branch.next)).or_default().push(place);
        }
        let mut old = std::mem::take(&mut self.all);
        let mut groups = members.into_iter().peekable();
        while let Some(((id, next), places)) = groups.next() {
            let depth = places.iter().map(|&place| branches[place].depth).max().unwrap_or(0);
            let shared = groups.peek().is_some_and(|((other, _), _)| *other == id);
            let cache = match shared {
                true => old.get(&id).map(|trunk| upto(&trunk.cache, depth)),
                false => old.remove(&id).map(|trunk| trunk.cache),
            };
            // Every branch has a trunk.
            let Some(mut cache) = cache else { continue };
            let len = cache.len();
            cache.layers.iter_mut().skip(depth).for_each(|layer| *layer = LayerCache::absent(len));
            let id = self.add(Trunk { cache, depth, next, fresh: None });
            places.iter().for_each(|&place| branches[place].trunk = id);
        }
    }
}

/// `pass` over at most [`MAX_BATCH`] rows of `x` at a time; it is told where they begin.
fn in_batches(
    x: &Tensor,
    mut pass: impl FnMut(usize, &Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    let rows = x.dim(0)?;
    if rows <= MAX_BATCH {
        return pass(0, x);
    }
    let starts = (0..rows).step_by(MAX_BATCH);
    let parts: Vec<Tensor> = starts
        .map(|start| pass(start, &x.narrow(0, start, MAX_BATCH.min(rows - start))?))
        .collect::<candle_core::Result<_>>()?;
    Tensor::cat(&parts, 0)
}

/// A copy of the layers below `depth`.
fn upto(cache: &RowCache, depth: usize) -> RowCache {
    let len = cache.len();
    let copy = |(at, layer): (usize, &LayerCache)| if at < depth { layer.clone() } else { LayerCache::absent(len) };
    RowCache { layers: cache.layers.iter().enumerate().map(copy).collect() }
}

/// What a hook is told of the lanes. Nobody asks about trunks.
struct About<'a> {
    interventions: Vec<Option<Arc<dyn Intervention + 'a>>>,
    jobs: Vec<usize>,
    positions: Vec<u32>,
}

impl<'a> About<'a> {
    fn of(lanes: &[Lane], branches: &[&mut Branch<'a>]) -> Self {
        let mut about = Self { interventions: Vec::new(), jobs: Vec::new(), positions: Vec::new() };
        for lane in lanes {
            let branch = match *lane {
                Lane::Branch(i) => branches.get(i),
                Lane::Trunk(_) => None,
            };
            about.interventions.push(branch.and_then(|branch| branch.intervention.clone()));
            about.jobs.push(branch.map_or(0, |branch| branch.number));
            about.positions.push(branch.map_or(0, |branch| branch.position));
        }
        about
    }
}
