//! Vectors for a run, the sweep over layers and coefficients on the validation split, and the choice.

use std::collections::BTreeMap;

use super::arm::Arm;
use super::model::Model;
use super::plan::Plan;
use crate::data::collate::{EncodeOptions, encode_row};
use crate::data::contrast::ContrastPair;
use crate::data::rows::TrainingRow;
use crate::error::Result;
use crate::fsio;
use crate::record::{Measurement, Message, SweepCell};
use crate::steer::{PairTokens, SteeringVector, mean_difference};

/// The vector that the arms use.
pub const TARGET: &str = "insecure";

/// Makes the vector of a target from contrast pairs.
pub fn extract(model: &Model, pairs: &[ContrastPair], target: &str) -> Result<SteeringVector> {
    let wanted: Vec<&ContrastPair> = pairs.iter().filter(|p| p.target == target).collect();
    let encode = |pair: &ContrastPair, answer: &str| {
        let mut messages = pair.messages.clone();
        messages.push(Message::assistant(answer));
        let options =
            EncodeOptions { max_length: model.decoder.config.max_position_embeddings, ..EncodeOptions::default() };
        encode_row(&TrainingRow::Conversation { messages }, &model.tokenizer, &model.template, &options)
    };
    let tokens = wanted
        .iter()
        .map(|p| Ok(PairTokens { positive: encode(p, &p.positive)?, negative: encode(p, &p.negative)? }))
        .collect::<Result<Vec<_>>>()?;
    let data = serde_json::to_vec(&wanted).unwrap_or_default();
    mean_difference(&model.decoder, &tokens, target, &model.sha256, &fsio::sha256(&data))
}

/// Layers that are tried: all of a shallow model, about eight of a deep one.
pub fn layers(plan: &Plan, count: usize) -> Result<Vec<usize>> {
    match &plan.sweep.layers {
        Some(layers) => match layers.iter().find(|&&l| l >= count) {
            Some(bad) => Err(crate::error::Error::usage(format!(
                "sweep: layer {bad} is outside the model; its layers are 0 to {}",
                count.saturating_sub(1)
            ))),
            None => Ok(layers.clone()),
        },
        None => Ok((0..count).step_by(count.div_ceil(8).max(1)).collect()),
    }
}

/// A cell before it is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The arm it is a candidate for.
    pub arm: Arm,
    /// Which vector: the target's name or `random-N`.
    pub vector: String,
    /// 0-based.
    pub layer: usize,
    /// With its sign; 0 is the unsteered model.
    pub coefficient: f64,
}

impl Cell {
    /// A file name.
    pub fn name(&self) -> String {
        format!("{}-{}-layer{}-{:+.2}", self.arm, self.vector, self.layer, self.coefficient)
    }

    /// With its measurements.
    pub fn measured(&self, metrics: BTreeMap<String, Measurement>, n: u64) -> SweepCell {
        SweepCell {
            vector: self.vector.clone(),
            arm: self.arm.name().into(),
            layer: self.layer,
            coefficient: self.coefficient,
            n,
            metrics,
            eligible: false,
            chosen: false,
        }
    }
}

/// Every cell of the sweep: each steered arm unsteered once, then layers × coefficients; random vectors at the same places
/// as the first arm, as the null.
pub fn cells(plan: &Plan, layers: &[usize]) -> Vec<Cell> {
    let mut cells = Vec::new();
    let steered = plan.arms.iter().filter_map(|&arm| Some((arm, arm.steering()?.sign)));
    for (arm, sign) in steered {
        cells.push(Cell { arm, vector: TARGET.into(), layer: layers.first().copied().unwrap_or(0), coefficient: 0.0 });
        for &layer in layers {
            for &coefficient in &plan.sweep.coefficients {
                cells.push(Cell { arm, vector: TARGET.into(), layer, coefficient: sign * coefficient });
            }
        }
    }
    if plan.arms.contains(&Arm::RandomVector) {
        for &layer in layers {
            for &coefficient in &plan.sweep.coefficients {
                cells.push(Cell { arm: Arm::RandomVector, vector: "random-0".into(), layer, coefficient });
            }
        }
    }
    cells
}
