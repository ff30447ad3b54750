//! One pass through the decoder: which tokens attend to which, which intervention is called, and whether dropout is on.
//!
//! ```
//! use realign::model::{pass::Pass, segments::Segments};
//! let segments = Segments::packed([5, 3], 0);
//! let pass = Pass::sequences(&segments); // nobody watches, no dropout
//! ```

use candle_core::{Result, Tensor};

use super::cpu::cache::RowCache;
use super::hooks::{HookContext, Intervention, Site, Tap};
use super::ops::quantised::Products;
use super::segments::Segments;

/// Settings and state of one pass through the decoder.
pub struct Pass<'a> {
    /// Which tokens attend to which, and which caches are filled or read.
    pub attend: Attend<'a>,
    /// Key of (seed, step) for the dropout masks; `None` outside training.
    pub dropout: Option<u64>,
    /// How products with quantised weights are made; exact unless [`Pass::with_products`] says otherwise.
    pub products: Products,
    hook: Option<Hook<'a>>,
}

/// Which tokens attend to which, and which caches are filled or read.
pub enum Attend<'a> {
    /// Whole sequences, without a cache.
    Sequences(&'a Segments),
    /// Whole sequences whose keys and values are kept, in one cache per segment.
    Prefill(&'a Segments, &'a mut [RowCache]),
    /// One new token per row, which attends to the row's cache.
    Step(&'a mut [&'a mut RowCache]),
}

/// An intervention with its context, computed before the pass begins because caches grow while it runs.
struct Hook<'a> {
    intervention: &'a dyn Intervention,
    segments: Segments,
    positions: Vec<u32>,
    answer: Option<Vec<bool>>,
    jobs: Vec<usize>,
}

impl<'a> Pass<'a> {
    /// A pass over whole sequences without a cache, as in training.
    pub fn sequences(segments: &'a Segments) -> Self {
        Self { attend: Attend::Sequences(segments), dropout: None, products: Products::Exact, hook: None }
    }

    /// Prompts, whose keys and values go into one cache a segment.
    pub fn prefill(segments: &'a Segments, caches: &'a mut [RowCache]) -> Self {
        Self { attend: Attend::Prefill(segments, caches), dropout: None, products: Products::Exact, hook: None }
    }

    /// A decoding pass: one new token per row.
    pub fn step(rows: &'a mut [&'a mut RowCache]) -> Self {
        Self { attend: Attend::Step(rows), dropout: None, products: Products::Exact, hook: None }
    }

    /// The same with this key for the dropout masks.
    pub fn with_dropout(mut self, key: Option<u64>) -> Self {
        self.dropout = key;
        self
    }

    /// The same with products with quantised weights made like this.
    pub fn with_products(mut self, products: Products) -> Self {
        self.products = products;
        self
    }

    /// The same with an intervention, if there is one that has any taps.
    pub fn with_intervention(mut self, intervention: Option<&'a dyn Intervention>) -> Self {
        self.hook = intervention.filter(|intervention| !intervention.taps().is_empty()).map(|intervention| {
            let segments = self.attend.segments();
            let tokens = segments.iter().map(|s| s.start + s.len).max().unwrap_or(0);
            Hook {
                intervention,
                positions: self.attend.positions(tokens),
                answer: match &self.attend {
                    Attend::Sequences(_) => None,
                    Attend::Prefill(..) => Some(vec![false; tokens]),
                    Attend::Step(rows) => Some(vec![true; rows.len()]),
                },
                jobs: (0..segments.len()).collect(),
                segments,
            }
        });
        self
    }

    /// Tells the intervention which tokens belong to an answer; call it after [`Pass::with_intervention`].
    pub fn with_answer(mut self, answer: &[bool]) -> Self {
        if let Some(hook) = &mut self.hook {
            hook.answer = Some(answer.to_vec());
        }
        self
    }

    /// Tells the intervention which job each segment belongs to; call it after [`Pass::with_intervention`].
    pub fn with_jobs(mut self, jobs: &[usize]) -> Self {
        if let Some(hook) = &mut self.hook {
            hook.jobs = jobs.to_vec();
        }
        self
    }

    /// Tells the intervention each token's place in its sequence, where the caches do not: call it after
    /// [`Pass::with_intervention`].
    pub fn with_positions(mut self, positions: &[u32]) -> Self {
        if let Some(hook) = &mut self.hook {
            hook.positions = positions.to_vec();
        }
        self
    }

    /// Whether any intervention is called in this pass.
    pub fn has_intervention(&self) -> bool {
        self.hook.is_some()
    }

    /// Whether the intervention is called at this tap.
    pub fn has_tap(&self, layer: usize, site: Site) -> bool {
        self.hook.as_ref().is_some_and(|hook| hook.intervention.taps().contains(&Tap { layer, site }))
    }

    /// Whether the intervention is called between a block's input and its output.
    pub fn has_tap_inside(&self, layer: usize) -> bool {
        [Site::HeadOut, Site::AttnOut, Site::MlpOut].into_iter().any(|site| self.has_tap(layer, site))
    }

    /// What the intervention makes of `x [tokens, width]` at a tap; `x` itself where it is not called or changes nothing.
    pub fn tap(&self, layer: usize, site: Site, x: Tensor) -> Result<Tensor> {
        let Some(hook) = self.hook.as_ref().filter(|_| self.has_tap(layer, site)) else { return Ok(x) };
        let context = HookContext {
            segments: &hook.segments,
            positions: &hook.positions,
            answer: hook.answer.as_deref(),
            jobs: &hook.jobs,
        };
        let Some(changed) = hook.intervention.apply(Tap { layer, site }, &x, &context)? else { return Ok(x) };
        if changed.shape() != x.shape() {
            candle_core::bail!(
                "an intervention returned shape {:?} at layer {layer}, {site}, for an input of shape {:?}",
                changed.shape(),
                x.shape()
            );
        }
        Ok(changed)
    }
}

impl Attend<'_> {
    /// The pass's sequences; in a decoding step every row is one of a single token.
    pub fn segments(&self) -> Segments {
        match self {
            Self::Sequences(segments) | Self::Prefill(segments, _) => (*segments).clone(),
            Self::Step(rows) => Segments::packed(rows.iter().map(|_| 1), 0),
        }
    }

    /// The place of each of `tokens` tokens in its sequence; 0 for padding.
    pub fn positions(&self, tokens: usize) -> Vec<u32> {
        let mut positions = vec![0; tokens];
        match self {
            Self::Sequences(segments) | Self::Prefill(segments, _) => {
                for segment in segments.iter() {
                    (0..segment.len).for_each(|at| positions[segment.start + at] = at as u32);
                }
            }
            Self::Step(rows) => {
                positions.iter_mut().zip(rows.iter()).for_each(|(position, row)| *position = row.len() as u32);
            }
        }
        positions
    }
}
