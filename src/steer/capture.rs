//! Capturing what passes through the decoder: any sites of any layers, of several sequences in one forward pass. Vectors,
//! `realign trace` and probes are all made of it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use candle_core::Tensor;

use crate::data::collate::Example;
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::hooks::{HookContext, Intervention, Tap};
use crate::model::ops::to_vec;
use crate::model::pass::Pass;
use crate::model::segments::Segments;
use crate::record::TokenRule;
use crate::sync::unpoisoned;

/// Results of one forward pass with taps.
pub struct Captured {
    /// The sequences, in the order given.
    pub segments: Segments,
    /// By tap, `[tokens, width]` over the tokens of all sequences, without a graph.
    pub values: BTreeMap<Tap, Tensor>,
    /// What the last block returned, `[tokens, d_model]`: the input of the final norm.
    pub hidden: Tensor,
}

/// Runs the sequences through the decoder in one pass and keeps what it computes at `taps`.
///
/// # Errors
/// A tap at a layer that the decoder does not have; a token outside its vocabulary.
pub fn capture(decoder: &Decoder, rows: &[&[u32]], taps: &[Tap]) -> Result<Captured> {
    if let Some(bad) = taps.iter().find(|tap| tap.layer >= decoder.blocks.len()) {
        return Err(Error::usage(format!(
            "layer {} is outside the model; its layers are 0 to {}",
            bad.layer,
            decoder.blocks.len().saturating_sub(1)
        )));
    }
    let segments = Segments::packed(rows.iter().map(|ids| ids.len()), 0);
    let watch = Watch { taps: taps.to_vec(), seen: Mutex::default() };
    let mut pass = Pass::sequences(&segments).with_intervention(Some(&watch));
    let hidden = decoder.blocks(decoder.embed(&rows.concat(), &pass.attend)?, &mut pass)?.detach();
    drop(pass);
    let values = unpoisoned(watch.seen.into_inner());
    Ok(Captured { segments, values, hidden })
}

impl Captured {
    /// The values at a tap, copied out; `None` where it was not captured.
    pub fn at(&self, tap: Tap) -> Result<Option<Vec<f32>>> {
        Ok(self.values.get(&tap).map(to_vec).transpose()?)
    }
}

/// The tokens of a row that a rule speaks of, by their places in the row; weights mark the answer's tokens.
pub fn tokens_of(rule: TokenRule, row: &Example) -> Vec<usize> {
    let answer = || (0..row.ids.len()).filter(|&token| row.weights[token] > 0.0);
    match rule {
        TokenRule::All => (0..row.ids.len()).collect(),
        TokenRule::AnswerMean => answer().collect(),
        TokenRule::LastPrompt => answer().next().unwrap_or(row.ids.len()).checked_sub(1).into_iter().collect(),
    }
}

struct Watch {
    taps: Vec<Tap>,
    seen: Mutex<BTreeMap<Tap, Tensor>>,
}

impl Intervention for Watch {
    fn taps(&self) -> &[Tap] {
        &self.taps
    }

    fn apply(&self, tap: Tap, x: &Tensor, _: &HookContext) -> candle_core::Result<Option<Tensor>> {
        unpoisoned(self.seen.lock()).insert(tap, x.detach());
        Ok(None)
    }
}
