//! Adding a vector to the residual stream, at `resid_post` of one layer and every token.

use candle_core::{Result, Tensor};

use super::SteeringVector;
use crate::model::hooks::{Intervention, Site, Tap};

/// `h + v` at one layer.
pub struct AddVector {
    layer: usize,
    vector: Tensor,
}

impl AddVector {
    /// `coefficient` is in units of the mean residual norm at that layer.
    pub fn new(vector: &SteeringVector, layer: usize, coefficient: f64) -> crate::error::Result<Self> {
        Ok(Self { layer, vector: vector.scaled(layer, coefficient)? })
    }
}

impl Intervention for AddVector {
    fn apply(&self, tap: Tap, x: &Tensor) -> Result<Option<Tensor>> {
        if tap != (Tap { layer: self.layer, site: Site::ResidPost }) {
            return Ok(None);
        }
        x.broadcast_add(&self.vector).map(Some)
    }
}
