//! Taps in the forward pass. A model is never mutated to steer it: an intervention is passed in, sees the residual
//! stream at each tap, and may hand back another value.

use candle_core::{Result, Tensor};

/// Where in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// The residual stream before the block.
    ResidPre,
    /// What attention adds to it.
    AttnOut,
    /// What the MLP adds to it.
    MlpOut,
    /// The residual stream after the block.
    ResidPost,
}

/// A site of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tap {
    /// 0-based.
    pub layer: usize,
    /// Where in it.
    pub site: Site,
}

/// Something that watches or changes the residual stream.
pub trait Intervention: Send + Sync {
    /// Sees `x [tokens, d_model]` at a tap; `None` leaves it as it is, bit for bit.
    fn apply(&self, tap: Tap, x: &Tensor) -> Result<Option<Tensor>>;
}
