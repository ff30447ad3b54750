//! A steering vector: one direction a layer, and what is needed to use it in units of the residual norm. On disk it is a
//! safetensors file (`directions`, `[layers, d_model]` in f32) and a JSON sidecar with a schema version.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::fsio;
use crate::record::{Site, TokenRule, Unit, VectorMethod};
use crate::rng;

/// The sidecar's schema that is written. Schema 1 had no `schema` and no `unit`, and called the site `hook_point`; it is
/// still read.
pub const SCHEMA: u32 = 2;

/// Directions at one site of every layer.
#[derive(Debug, Clone, PartialEq)]
pub struct SteeringVector {
    /// `[layers][d_model]`, as measured, not normalised; a layer left out is zero.
    pub directions: Vec<Vec<f32>>,
    /// What it is and where it comes from.
    pub about: VectorInfo,
}

/// The sidecar: what a vector is and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorInfo {
    /// Version of the sidecar's fields, [`SCHEMA`] in new files.
    pub schema: u32,
    /// What it points towards, e.g. `insecure`; `random-0` for the first control.
    pub target: String,
    /// Method that computed the directions.
    pub method: VectorMethod,
    /// Site at which the residual stream was measured.
    #[serde(alias = "hook_point")]
    pub site: Site,
    /// At which tokens it was measured.
    pub tokens: TokenRule,
    /// What coefficients count in unless a command says otherwise.
    #[serde(default)]
    pub unit: Unit,
    /// Number of contrast pairs; 0 for a random vector.
    pub pairs: u64,
    /// Norm of each layer's direction as measured.
    pub raw_norms: Vec<f64>,
    /// Mean norm of the residual stream at each layer: the length of one [`Unit::ResidualNorm`].
    pub residual_norms: Vec<f64>,
    /// SHA-256 of the model it was made on.
    pub model_sha256: String,
    /// SHA-256 of the adapter that was on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_sha256: Option<String>,
    /// SHA-256 of the contrast pairs.
    pub data_sha256: String,
}

impl SteeringVector {
    /// What a coefficient adds at a layer: `coefficient × residual norm × unit direction`, or `coefficient × direction`.
    ///
    /// # Errors
    /// A layer outside the model; a layer whose direction is zero.
    pub fn scaled(&self, layer: usize, coefficient: f64, unit: Unit) -> Result<Tensor> {
        let Some(direction) = self.directions.get(layer) else {
            return Err(Error::usage(format!(
                "layer {layer} is outside the model; its layers are 0 to {}",
                self.directions.len().saturating_sub(1)
            )));
        };
        let norm = norm(direction);
        if norm == 0.0 {
            let layers: Vec<String> = self.layers().iter().map(usize::to_string).collect();
            return Err(Error::usage(format!(
                "the vector `{}` has no direction at layer {layer}; it has one at layers {}",
                self.about.target,
                layers.join(", ")
            )));
        }
        let factor = match unit {
            Unit::ResidualNorm => coefficient * self.about.residual_norms[layer] / norm,
            Unit::Raw => coefficient,
        };
        let values: Vec<f32> = direction.iter().map(|x| x * factor as f32).collect();
        Ok(Tensor::from_vec(values, direction.len(), &Device::Cpu)?)
    }

    /// The layers that have a direction.
    pub fn layers(&self) -> Vec<usize> {
        (0..self.directions.len()).filter(|&layer| norm(&self.directions[layer]) > 0.0).collect()
    }

    /// The same with directions at these layers only.
    ///
    /// # Errors
    /// A layer outside the model.
    pub fn only(mut self, layers: &[usize]) -> Result<Self> {
        for &layer in layers {
            self.scaled(layer, 1.0, Unit::Raw)?;
        }
        for layer in (0..self.directions.len()).filter(|layer| !layers.contains(layer)) {
            self.directions[layer].fill(0.0);
            self.about.raw_norms[layer] = 0.0;
        }
        Ok(self)
    }

    /// A control without meaning: independent normal directions, used in the same units.
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
            method: VectorMethod::Random,
            pairs: 0,
            raw_norms: directions.iter().map(|d| norm(d)).collect(),
            data_sha256: String::new(),
            ..self.about.clone()
        };
        Self { directions, about }
    }

    /// Writes the safetensors file and, beside it, the sidecar of the same name ending in `.json`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let (layers, width) = (self.directions.len(), self.directions.first().map_or(0, Vec::len));
        let values: Vec<f32> = self.directions.iter().flatten().copied().collect();
        let tensor = Tensor::from_vec(values, (layers, width), &Device::Cpu)?;
        let bytes = safetensors::serialize([("directions", &tensor)], None::<HashMap<String, String>>)
            .map_err(|e| Error::file(path, e))?;
        fsio::write_atomic(path, &bytes)?;
        fsio::write_json(&sidecar(path), &self.about)
    }

    /// Reads what [`SteeringVector::write`] wrote.
    ///
    /// # Errors
    /// Names the file that is missing, malformed or of an unknown schema, or that does not fit the other one.
    pub fn read(path: &Path) -> Result<Self> {
        let tensors = candle_core::safetensors::load_buffer(&fsio::read_bytes(path)?, &Device::Cpu)
            .map_err(|e| Error::file(path, format!("is not a safetensors file: {e}")))?;
        let tensor = tensors
            .get("directions")
            .ok_or_else(|| Error::file(path, "is not a steering vector: it has no tensor `directions`"))?;
        let directions: Vec<Vec<f32>> = tensor
            .to_vec2()
            .map_err(|e| Error::file(path, format!("`directions` is not [layers, d_model] in f32: {e}")))?;
        let about = read_sidecar(&sidecar(path))?;
        let sound = |numbers: &[f64]| numbers.len() == directions.len() && numbers.iter().all(|x| x.is_finite());
        if !sound(&about.residual_norms) || !sound(&about.raw_norms) {
            return Err(Error::file(
                sidecar(path),
                format!("does not belong to {}, which has {} layers", path.display(), directions.len()),
            ));
        }
        if directions.iter().flatten().any(|x| !x.is_finite()) {
            return Err(Error::file(path, "contains NaN or infinite numbers"));
        }
        Ok(Self { directions, about })
    }
}

/// Reads a sidecar of this schema or an earlier one.
fn read_sidecar(path: &Path) -> Result<VectorInfo> {
    let mut fields: serde_json::Map<String, serde_json::Value> = fsio::read_json(path)?;
    match fields.get("schema").map(serde_json::Value::as_u64) {
        None => {
            fields.insert("schema".into(), SCHEMA.into());
        }
        Some(Some(version)) if version == u64::from(SCHEMA) => {}
        Some(_) => {
            return Err(Error::file(
                path,
                format!("has schema {}, which this version does not know; it reads 1 and {SCHEMA}", fields["schema"]),
            ));
        }
    }
    serde_json::from_value(fields.into())
        .map_err(|e| Error::file(path, format!("does not describe a steering vector: {e}")))
}

/// Path of a vector's sidecar: `NAME.json` beside `NAME.safetensors`.
pub fn sidecar(path: &Path) -> PathBuf {
    path.with_extension("json")
}

/// Euclidean length of a vector, summed in f64.
pub fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}
