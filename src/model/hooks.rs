//! The hook: how something outside the model watches or changes a forward pass. A model is never mutated to steer it:
//! an [`Intervention`] is handed to the [`Pass`](super::pass::Pass), declares its taps, and is called there and nowhere
//! else. Blocks without a tap stay on the fast path.

use candle_core::{Result, Tensor};

use super::segments::Segments;
pub use crate::record::{Site, Tap};

/// What an intervention is told about the tokens of a pass.
#[derive(Debug, Clone, Copy)]
pub struct HookContext<'a> {
    /// Which tokens form a sequence. In a decoding step each row is a sequence of one token.
    pub segments: &'a Segments,
    /// Of each token, its place in its sequence, counted from the first token of the prompt; 0 for padding.
    pub positions: &'a [u32],
    /// Of each token, whether it belongs to an answer; `None` where the caller did not say. While decoding it is always
    /// known: the tokens of a prefill are a prompt, those of a step are answers.
    pub answer: Option<&'a [bool]>,
    /// Of each segment, the job that it belongs to, by the caller's numbering; its own place where the caller gave none.
    pub jobs: &'a [usize],
}

/// Something that watches or changes what passes through the decoder.
pub trait Intervention: Send + Sync {
    /// Where it is called. The list must stay the same for the whole pass.
    fn taps(&self) -> &[Tap];

    /// Sees `x [tokens, width]` at one of its taps and may return a replacement of the same shape. The width is `d_model`,
    /// at `head_out` it is `heads · head_dim`. `None` leaves `x` as it is, bit for bit.
    ///
    /// While a model is trained the replacement must keep candle's graph towards `x`.
    fn apply(&self, tap: Tap, x: &Tensor, context: &HookContext) -> Result<Option<Tensor>>;
}

/// A borrowed intervention is one too, so that several passes can share it.
impl<T: Intervention + ?Sized> Intervention for &T {
    fn taps(&self) -> &[Tap] {
        (**self).taps()
    }

    fn apply(&self, tap: Tap, x: &Tensor, context: &HookContext) -> Result<Option<Tensor>> {
        (**self).apply(tap, x, context)
    }
}
