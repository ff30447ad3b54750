//! The cells of a sweep: which layers and coefficients are tried for which arm.

use std::collections::BTreeMap;

use super::plan::Plan;
use crate::error::{Error, Result};
use crate::record::{Choice, Measurement, SteerSpec, SweepCell, Unit};

/// Layers that are tried: those asked for, or all of a shallow model and about eight of a deep one.
pub fn layers(wanted: Option<&[usize]>, count: usize) -> Result<Vec<usize>> {
    match wanted {
        Some(layers) => match layers.iter().find(|&&l| l >= count) {
            Some(bad) => Err(Error::usage(format!(
                "sweep: layer {bad} is outside the model; its layers are 0 to {}",
                count.saturating_sub(1)
            ))),
            None => Ok(layers.to_vec()),
        },
        None => Ok((0..count).step_by(count.div_ceil(8).max(1)).collect()),
    }
}

/// A cell before it is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The arm it is a candidate for.
    pub arm: String,
    /// What is added; a coefficient of 0 is the unsteered model.
    pub steer: SteerSpec,
}

impl Cell {
    /// File name of the cell, without an extension.
    pub fn name(&self) -> String {
        let layers: Vec<String> = self.steer.layers.iter().map(usize::to_string).collect();
        // Every digit: two coefficients must never share a file.
        format!("{}-{}-layer{}-{:+}", self.arm, self.steer.name(), layers.join("+"), self.coefficient())
    }

    /// Coefficient with its sign; 0 is the unsteered model.
    pub fn coefficient(&self) -> f64 {
        self.steer.coefficient
    }

    /// The cell with its metrics over `n` samples, not chosen yet.
    pub fn measured(&self, metrics: BTreeMap<String, Measurement>, n: u64) -> SweepCell {
        let (arm, steer) = (self.arm.clone(), vec![self.steer.clone()]);
        SweepCell { arm, steer, n, metrics, eligible: false, chosen: false }
    }
}

/// One arm's cells: the unsteered model once, then layers × coefficients of the vector that `like` uses.
pub fn grid(arm: &str, like: &SteerSpec, layers: &[usize], coefficients: &[f64]) -> Vec<Cell> {
    let cell = |layer, coefficient| Cell {
        arm: arm.to_string(),
        steer: SteerSpec { layers: vec![layer], coefficient, ..like.clone() },
    };
    let mut cells = vec![cell(layers.first().copied().unwrap_or(0), 0.0)];
    for &layer in layers {
        cells.extend(coefficients.iter().map(|&coefficient| cell(layer, coefficient)));
    }
    cells
}

/// Every cell of a run: the grid of each arm that is chosen; of random vectors the first draw at the same places, as the
/// null.
pub fn cells(plan: &Plan, layers: &[usize]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for arm in &plan.arms {
        for steer in &arm.steer {
            let at = |draw, sign: f64| {
                let like = SteerSpec {
                    vector: steer.vector.clone(),
                    draw,
                    operator: steer.operator,
                    site: steer.site,
                    positions: steer.positions,
                    layers: Vec::new(),
                    coefficient: 0.0,
                    unit: Unit::ResidualNorm,
                };
                let coefficients: Vec<f64> = plan.sweep.coefficients.iter().map(|c| sign * c).collect();
                grid(&arm.name, &like, layers, &coefficients)
            };
            match (&steer.choose, steer.draws) {
                (Some(Choice::Goal { .. }), _) => cells.extend(at(None, steer.sign)),
                (Some(Choice::CellOf(_)), Some(_)) => {
                    cells.extend(at(Some(0), 1.0).into_iter().filter(|cell| cell.coefficient() != 0.0));
                }
                _ => {}
            }
        }
    }
    cells
}
