//! A steering vector: one direction a layer, with what it takes to use it in units of the residual norm. On disk a
//! safetensors file (one f32 row a layer) and a JSON sidecar.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::fsio;
use crate::rng;

/// Directions at `resid_post` of every layer.
#[derive(Debug, Clone, PartialEq)]
pub struct SteeringVector {
    /// `[layers][d_model]`, as measured, not normalised.
    pub directions: Vec<Vec<f32>>,
    /// Where it comes from.
    pub about: VectorInfo,
}

/// The sidecar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VectorInfo {
    /// What it points towards, e.g. `insecure`; `random-0` for the first control.
    pub target: String,
    /// `mean_difference` or `random`.
    pub method: String,
    /// `resid_post`.
    pub hook_point: String,
    /// Which tokens were averaged.
    pub tokens: String,
    /// Pairs it was made of.
    pub pairs: u64,
    /// Norm of each layer's direction as measured.
    pub raw_norms: Vec<f64>,
    /// Mean norm of the residual stream at each layer: the unit of a coefficient.
    pub residual_norms: Vec<f64>,
    /// SHA-256 of the model it was made on.
    pub model_sha256: String,
    /// SHA-256 of the pairs.
    pub data_sha256: String,
}

impl SteeringVector {
    /// What a coefficient adds at a layer: `coefficient × residual norm × unit direction`.
    ///
    /// # Errors
    /// A layer outside the model; a direction of no length.
    pub fn scaled(&self, layer: usize, coefficient: f64) -> Result<Tensor> {
        let Some(direction) = self.directions.get(layer) else {
            return Err(Error::usage(format!(
                "layer {layer} is outside the model; layers are 0 to {}",
                self.directions.len() - 1
            )));
        };
        let norm = norm(direction);
        if norm == 0.0 {
            return Err(Error::usage(format!("the vector `{}` has no length at layer {layer}", self.about.target)));
        }
        let factor = (coefficient * self.about.residual_norms[layer] / norm) as f32;
        let values: Vec<f32> = direction.iter().map(|x| x * factor).collect();
        Ok(Tensor::from_vec(values, direction.len(), &Device::Cpu)?)
    }

    /// A control of no meaning: independent normal directions, used in the same units.
    pub fn random(&self, seed: u64, draw: u64) -> Self {
        let direction = |layer: usize, width: usize| -> Vec<f32> {
            let mut rng = rng::stream(seed, "random-vector", &[draw, layer as u64]);
            // The sum of twelve uniform numbers is close enough to normal for a direction without meaning.
            (0..width).map(|_| (0..12).map(|_| rng.random::<f32>() - 0.5).sum()).collect()
        };
        let directions: Vec<Vec<f32>> =
            self.directions.iter().enumerate().map(|(layer, d)| direction(layer, d.len())).collect();
        let about = VectorInfo {
            target: format!("random-{draw}"),
            method: "random".into(),
            tokens: String::new(),
            pairs: 0,
            raw_norms: directions.iter().map(|d| norm(d)).collect(),
            data_sha256: String::new(),
            ..self.about.clone()
        };
        Self { directions, about }
    }

    /// Writes `NAME.safetensors` and `NAME.json`.
    pub fn write(&self, dir: &Path, name: &str) -> Result<()> {
        let (layers, width) = (self.directions.len(), self.directions.first().map_or(0, Vec::len));
        let values: Vec<f32> = self.directions.iter().flatten().copied().collect();
        let tensor = Tensor::from_vec(values, (layers, width), &Device::Cpu)?;
        let path = dir.join(format!("{name}.safetensors"));
        let bytes = safetensors::serialize([("directions", &tensor)], None::<HashMap<String, String>>)
            .map_err(|e| Error::file(&path, e))?;
        fsio::write_atomic(&path, &bytes)?;
        fsio::write_json(&dir.join(format!("{name}.json")), &self.about)
    }

    /// Reads what [`SteeringVector::write`] wrote.
    pub fn read(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(format!("{name}.safetensors"));
        let tensors = candle_core::safetensors::load_buffer(&fsio::read_bytes(&path)?, &Device::Cpu)
            .map_err(|e| Error::file(&path, e))?;
        let tensor = tensors.get("directions").ok_or_else(|| Error::file(&path, "holds no tensor `directions`"))?;
        Ok(Self { directions: tensor.to_vec2()?, about: fsio::read_json(&dir.join(format!("{name}.json")))? })
    }
}

/// Euclidean length.
pub fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}
