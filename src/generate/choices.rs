//! How likely a model is to begin its answer with each of some given texts: exact probabilities, nothing is drawn.
//!
//! The texts' tokens form a tree. A text whose tokens begin those of others (`8` and `85`, where digits are tokens of
//! their own) is the answer only if none of the longer ones continues it:
//!
//! `p(text) = p(its tokens) · (1 − Σ p(next token of a longer text | its tokens))`.
//!
//! So the texts are disjoint events, and where every text is a single token its probability is that token's. Common
//! prefixes of texts are computed once, over the prompt's cache.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::model::cpu::cache::RowCache;
use crate::model::cpu::team::side_by_side;
use crate::model::decoder::Decoder;
use crate::model::ops::to_vec;
use crate::model::pass::Pass;
use crate::model::segments::Segments;
use crate::process::{self, CancellationToken};

/// The token sequences of all texts, as a prefix tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choices {
    /// Every prefix of a text; `nodes[0]` is the empty one.
    nodes: Vec<Node>,
    count: usize,
    depth: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    children: BTreeMap<u32, usize>,
    /// The choice whose tokens end here.
    choice: Option<usize>,
}

/// A branch that is less likely than this is not followed; its probability counts for the text that ends where it begins.
const LEAST: f64 = 1e-9;

/// Prompt tokens per forward pass, about.
const BATCH_TOKENS: usize = 2048;

impl Choices {
    /// A tree of choices, each given by one or more token sequences.
    ///
    /// # Errors
    /// A sequence without tokens, or one that two choices share: they could not be told apart.
    pub fn new(choices: &[Vec<Vec<u32>>]) -> Result<Self> {
        let mut nodes = vec![Node::default()];
        for (choice, sequences) in choices.iter().enumerate() {
            for sequence in sequences {
                let mut at = 0;
                for &token in sequence {
                    let fresh = nodes.len();
                    at = *nodes[at].children.entry(token).or_insert(fresh);
                    if at == fresh {
                        nodes.push(Node::default());
                    }
                }
                if at == 0 || nodes[at].choice.is_some_and(|other| other != choice) {
                    return Err(Error::usage("two of the texts to choose from have the same tokens, or one has none"));
                }
                nodes[at].choice = Some(choice);
            }
        }
        let depth = choices.iter().flatten().map(Vec::len).max().unwrap_or(0);
        Ok(Self { nodes, count: choices.len(), depth })
    }

    /// Number of tokens of the longest text.
    pub fn depth(&self) -> usize {
        self.depth
    }
}

/// Each choice's probability behind each prompt, `[prompt][choice]`, in [0, 1]. The same prompts give the same bits on one
/// kind of processor. `workers` 0 means one per core.
///
/// # Errors
/// A prompt that is empty or too long for the model; [`Error::Interrupted`] once `cancel` is cancelled.
pub fn choice_probabilities(
    decoder: &Decoder,
    prompts: &[Vec<u32>],
    choices: &Choices,
    workers: usize,
    cancel: &CancellationToken,
) -> Result<Vec<Vec<f64>>> {
    let longest = decoder.config.max_position_embeddings;
    if let Some(bad) = prompts.iter().find(|p| p.is_empty() || p.len() + choices.depth > longest) {
        let (tokens, depth) = (bad.len(), choices.depth);
        return Err(Error::usage(format!(
            "a prompt of {tokens} tokens and an answer of up to {depth} do not fit: the model takes 1 to {longest} tokens"
        )));
    }
    let batches = batches(prompts);
    let cores = process::workers(workers);
    let workers = cores.min(batches.len()).max(1);
    let parts = side_by_side(workers, cores, |number| {
        let mine = batches.iter().skip(number).step_by(workers);
        let each = mine.map(|batch| Ok((batch.start, one_batch(decoder, &prompts[batch.clone()], choices, cancel)?)));
        each.collect::<Result<Vec<_>>>()
    });
    let mut done: Vec<(usize, Vec<Vec<f64>>)> = Vec::with_capacity(batches.len());
    for part in parts {
        done.extend(part?);
    }
    done.sort_by_key(|(start, _)| *start);
    Ok(done.into_iter().flat_map(|(_, rows)| rows).collect())
}

/// Runs of prompts of about [`BATCH_TOKENS`] together.
fn batches(prompts: &[Vec<u32>]) -> Vec<std::ops::Range<usize>> {
    let (mut batches, mut start, mut tokens) = (Vec::new(), 0, 0);
    for (index, prompt) in prompts.iter().enumerate() {
        if index > start && tokens + prompt.len() > BATCH_TOKENS {
            batches.push(start..index);
            (start, tokens) = (index, 0);
        }
        tokens += prompt.len();
    }
    if start < prompts.len() {
        batches.push(start..prompts.len());
    }
    batches
}

/// A node of the tree, reached behind one prompt and not yet expanded.
struct Place {
    prompt: usize,
    node: usize,
    /// Probability of the tokens from the root to this node.
    probability: f64,
    cache: RowCache,
}

fn one_batch(
    decoder: &Decoder,
    prompts: &[Vec<u32>],
    choices: &Choices,
    cancel: &CancellationToken,
) -> Result<Vec<Vec<f64>>> {
    let mut found = vec![vec![0.0; choices.count]; prompts.len()];
    let mut caches: Vec<RowCache> = prompts.iter().map(|p| decoder.new_cache(p.len() + choices.depth)).collect();
    let ids = prompts.concat();
    let segments = Segments::packed(prompts.iter().map(Vec::len), 0);
    let mut pass = Pass::prefill(&segments, &mut caches);
    let hidden = decoder.blocks(decoder.embed(&ids, &pass.attend)?, &mut pass)?;
    // Only each prompt's last token needs logits.
    let last: Vec<u32> = segments.iter().map(|s| (s.start + s.len - 1) as u32).collect();
    let last = candle_core::Tensor::from_vec(last, segments.len(), decoder.device())?;
    let mut logits = to_vec(&decoder.head(&decoder.norm.forward(&hidden.index_select(&last, 0)?)?)?)?;
    let root = |(prompt, cache)| Place { prompt, node: 0, probability: 1.0, cache };
    let mut level: Vec<Place> = caches.into_iter().enumerate().map(root).collect();
    loop {
        if cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        let mut next: Vec<(Place, u32)> = Vec::new();
        for (place, logits) in level.iter().zip(logits.chunks_exact(decoder.config.vocab_size)) {
            let node = &choices.nodes[place.node];
            let shares = shares(logits, node.children.keys().copied());
            if let Some(choice) = node.choice {
                found[place.prompt][choice] += place.probability * (1.0 - shares.iter().sum::<f64>()).max(0.0);
            }
            for ((&token, &child), share) in node.children.iter().zip(shares) {
                let (below, probability) = (&choices.nodes[child], place.probability * share);
                if !below.children.is_empty() && probability >= LEAST {
                    let cache = place.cache.clone();
                    next.push((Place { prompt: place.prompt, node: child, probability, cache }, token));
                } else if let Some(choice) = below.choice {
                    found[place.prompt][choice] += probability;
                }
            }
        }
        if next.is_empty() {
            return Ok(found);
        }
        let (places, tokens): (Vec<Place>, Vec<u32>) = next.into_iter().unzip();
        level = places;
        let mut rows: Vec<&mut RowCache> = level.iter_mut().map(|place| &mut place.cache).collect();
        logits = to_vec(&decoder.forward(&tokens, &mut Pass::step(&mut rows))?)?;
    }
}

/// The softmax at these tokens, in double precision.
fn shares(logits: &[f32], tokens: impl Iterator<Item = u32>) -> Vec<f64> {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let total: f64 = logits.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
    let share = |t: u32| logits.get(t as usize).map_or(0.0, |&x| (f64::from(x) - largest).exp() / total);
    tokens.map(share).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn texts_that_cannot_be_told_apart_are_refused() {
        assert!(Choices::new(&[vec![vec![1, 2]], vec![vec![1, 2]]]).is_err());
        assert!(Choices::new(&[vec![vec![]]]).is_err());
        let choices = Choices::new(&[vec![vec![1], vec![3, 1]], vec![vec![1, 2]]]).unwrap();
        assert_eq!((choices.depth(), choices.nodes.len()), (2, 5));
    }

    #[test]
    fn prompts_are_cut_into_batches_without_a_loss() {
        let prompts: Vec<Vec<u32>> = [900, 900, 900, 3000, 10].map(|n| vec![0; n]).into();
        assert_eq!(batches(&prompts), [0..2, 2..3, 3..4, 4..5]);
        assert!(batches(&[]).is_empty());
    }
}
