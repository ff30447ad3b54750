//! The operators: what is done with a vector where it meets the forward pass.
//!
//! [`AddVector`] is `x + coefficient · vector`, each layer with its own direction.

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::vector::SteeringVector;
use crate::error::Error;
use crate::model::cpu::simd::add;
use crate::model::hooks::{HookContext, Intervention, Tap};
use crate::model::ops::{f32_slice, to_vec, uses_cpu_kernels};
use crate::record::{Operator, Positions, Site, SteerSpec, Unit};

/// Adds a vector at some taps.
#[derive(Debug)]
pub struct AddVector {
    taps: Vec<Tap>,
    /// The vector added at each of `taps`, `[d_model]`, its coefficient multiplied in.
    added: Vec<Arc<[f32]>>,
    positions: Positions,
}

impl AddVector {
    /// Adds `coefficient` of the vector after each of these layers, at every token.
    ///
    /// # Errors
    /// As [`AddVector::of`].
    pub fn new(vector: &SteeringVector, layers: &[usize], coefficient: f64, unit: Unit) -> crate::error::Result<Self> {
        Self::of(vector, &SteerSpec { layers: layers.to_vec(), coefficient, unit, ..SteerSpec::default() })
    }

    /// What a spec says, with the vector that it names. A coefficient of 0 adds nothing: not even the sign of a zero
    /// changes.
    ///
    /// # Errors
    /// A layer outside the model or without a direction; no layer at all; a coefficient that is not a finite number; a site
    /// that is not as wide as the residual stream.
    pub fn of(vector: &SteeringVector, spec: &SteerSpec) -> crate::error::Result<Self> {
        let SteerSpec { operator: Operator::Add, site, positions, coefficient, unit, .. } = *spec;
        if !coefficient.is_finite() {
            return Err(Error::usage(format!("the coefficient {coefficient} is not a finite number")));
        }
        if site == Site::HeadOut {
            return Err(Error::usage("a vector of the residual stream cannot be added at head_out"));
        }
        let layers: BTreeSet<usize> = spec.layers.iter().copied().collect();
        if layers.is_empty() {
            return Err(Error::usage("give at least one layer to add the vector at"));
        }
        let scaled = |&layer: &usize| Ok(to_vec(&vector.scaled(layer, coefficient, unit)?)?.into());
        let added = layers.iter().map(scaled).collect::<crate::error::Result<_>>()?;
        let taps = if coefficient == 0.0 { BTreeSet::new() } else { layers };
        Ok(Self { taps: taps.into_iter().map(|layer| Tap { layer, site }).collect(), added, positions })
    }
}

impl Intervention for AddVector {
    fn taps(&self) -> &[Tap] {
        &self.taps
    }

    fn apply(&self, tap: Tap, x: &Tensor, context: &HookContext) -> Result<Option<Tensor>> {
        let Some(at) = self.taps.iter().position(|own| *own == tap) else { return Ok(None) };
        let rows = match (self.positions, context.answer) {
            (Positions::All, _) => None,
            (_, None) => candle_core::bail!("this pass does not say which tokens belong to an answer"),
            (Positions::Answer, Some(answer)) => Some(answer.to_vec()),
            (Positions::Prompt, Some(answer)) => Some(answer.iter().map(|answer| !answer).collect()),
        };
        AddRows { vector: self.added[at].clone(), rows }.apply(x).map(Some)
    }
}

/// `x [tokens, d_model]` with the vector added to these rows, or to all: one copy and one addition over raw floats. The
/// gradient of `x` is that of the result.
struct AddRows {
    vector: Arc<[f32]>,
    rows: Option<Vec<bool>>,
}

impl AddRows {
    fn apply(self, x: &Tensor) -> Result<Tensor> {
        if uses_cpu_kernels(x) {
            return x.apply_op1(self);
        }
        let (device, width) = (x.device(), self.vector.len());
        let vector = Tensor::from_slice(&self.vector, width, device)?;
        match self.rows {
            None => x.broadcast_add(&vector),
            Some(rows) => {
                let factors = rows.iter().map(|&row| f32::from(u8::from(row)));
                let factors = Tensor::from_iter(factors, device)?.reshape((rows.len(), 1))?;
                x + factors.broadcast_mul(&vector)?
            }
        }
    }
}

impl CustomOp1 for AddRows {
    fn name(&self) -> &'static str {
        "add-vector"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut sum = f32_slice(x, layout)?.to_vec();
        for (index, row) in sum.chunks_exact_mut(self.vector.len()).enumerate() {
            if self.rows.as_ref().is_none_or(|rows| rows[index]) {
                add(row, &self.vector);
            }
        }
        Ok((CpuStorage::F32(sum), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.clone()))
    }
}
