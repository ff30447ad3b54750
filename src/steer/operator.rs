//! Adding a vector to the residual stream, at `resid_post` of some layers and every token.

use candle_core::{Result, Tensor};

use super::SteeringVector;
use super::vector::Unit;
use crate::error::Error;
use crate::model::hooks::{Intervention, Site, Tap};

/// `h + v`, with each layer's own `v`.
#[derive(Debug)]
pub struct AddVector {
    added: Vec<(usize, Tensor)>,
}

impl AddVector {
    /// Adds `coefficient` of the vector at each of these layers. A coefficient of 0 adds nothing: not even the sign of a
    /// zero changes.
    ///
    /// # Errors
    /// A layer outside the model or without a direction; a coefficient that is no finite number.
    pub fn new(vector: &SteeringVector, layers: &[usize], coefficient: f64, unit: Unit) -> crate::error::Result<Self> {
        if !coefficient.is_finite() {
            return Err(Error::usage(format!("a coefficient of {coefficient} cannot be added")));
        }
        let mut added = Vec::new();
        for &layer in layers {
            added.push((layer, vector.scaled(layer, coefficient, unit)?));
        }
        if coefficient == 0.0 {
            added.clear();
        }
        Ok(Self { added })
    }
}

impl Intervention for AddVector {
    fn apply(&self, tap: Tap, x: &Tensor) -> Result<Option<Tensor>> {
        if tap.site != Site::ResidPost {
            return Ok(None);
        }
        let here = self.added.iter().find(|(layer, _)| *layer == tap.layer);
        here.map(|(_, vector)| x.broadcast_add(&vector.to_device(x.device())?)).transpose()
    }
}
