//! Adding a vector to the residual stream, at `resid_post` of some layers and every token.

use candle_core::{Result, Tensor};

use super::SteeringVector;
use super::vector::Unit;
use crate::error::Error;
use crate::model::hooks::{HookContext, Intervention, Site, Tap};

/// `h + v`, with each layer's own `v`.
#[derive(Debug)]
pub struct AddVector {
    taps: Vec<Tap>,
    /// By tap.
    added: Vec<Tensor>,
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
        let mut taps: Vec<Tap> = layers.iter().map(|&layer| Tap { layer, site: Site::ResidPost }).collect();
        let added =
            layers.iter().map(|&layer| vector.scaled(layer, coefficient, unit)).collect::<crate::error::Result<_>>()?;
        if coefficient == 0.0 {
            taps.clear();
        }
        Ok(Self { taps, added })
    }
}

impl Intervention for AddVector {
    fn taps(&self) -> &[Tap] {
        &self.taps
    }

    fn apply(&self, tap: Tap, x: &Tensor, _: &HookContext) -> Result<Option<Tensor>> {
        let here = self.taps.iter().zip(&self.added).find(|(at, _)| **at == tap);
        here.map(|(_, vector)| x.broadcast_add(&vector.to_device(x.device())?)).transpose()
    }
}
