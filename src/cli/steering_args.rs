//! Steering on the command line: the flags that `generate` and `evaluate` share.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::steer::{AddVector, SteeringVector, Unit};
use crate::subject::Subject;

/// Flags for a vector that is added to the residual stream.
#[derive(Debug, Args)]
pub struct SteeringArgs {
    /// Steering vector: a .safetensors file from `realign steer extract` or a run's vectors/, with its .json beside it. It is
    /// added to the residual stream at every token, after each of --layers.
    #[arg(long, value_name = "FILE", requires_all = ["coefficient", "layers"])]
    pub vector: Option<PathBuf>,
    /// Length of the added vector in units of the layer's mean residual norm: 0.3 adds a vector 0.3 times as long as the
    /// residual stream is on average. Negative values steer the other way; 0 changes nothing.
    #[arg(long, value_name = "X", requires = "vector", allow_negative_numbers = true)]
    pub coefficient: Option<f64>,
    /// Layers to steer, counted from 0.
    #[arg(long, value_name = "L,L", requires = "vector", value_delimiter = ',')]
    pub layers: Option<Vec<usize>>,
    /// Take --coefficient in units of the vector's own length instead.
    #[arg(long, requires = "vector")]
    pub raw: bool,
}

impl SteeringArgs {
    /// Reads the vector and checks that it fits the model; `None` without --vector.
    pub fn open(&self, subject: &Subject, progress: Progress) -> Result<Option<AddVector>> {
        let (Some(path), Some(coefficient), Some(layers)) = (&self.vector, self.coefficient, &self.layers) else {
            return Ok(None);
        };
        let vector = open_vector(subject, path)?;
        let unit = if self.raw { Unit::Raw } else { Unit::ResidualNorm };
        let added = AddVector::new(&vector, layers, coefficient, unit).map_err(|e| Error::file(path, e))?;
        let names: Vec<String> = layers.iter().map(usize::to_string).collect();
        let unit = if self.raw { "its own length" } else { "the mean residual norm" };
        let target = &vector.about.target;
        progress.say(&format!("steering: {coefficient:+} × {unit} along `{target}` after layers {}", names.join(", ")));
        Ok(Some(added))
    }
}

/// Reads a vector and checks that it was extracted from this base.
///
/// # Errors
/// A vector of another shape, or one that was extracted from other weights.
pub fn open_vector(subject: &Subject, path: &Path) -> Result<SteeringVector> {
    let vector = SteeringVector::read(path)?;
    let config = &subject.base.config;
    let (layers, width) = (vector.directions.len(), vector.directions.first().map_or(0, Vec::len));
    if (layers, width) != (config.num_hidden_layers, config.hidden_size) {
        return Err(Error::file(
            path,
            format!(
                "is for a model with {layers} layers of width {width}; {} has {} layers of width {}",
                subject.name, config.num_hidden_layers, config.hidden_size
            ),
        ));
    }
    if vector.about.model_sha256 != subject.sha256 {
        return Err(Error::file(
            path,
            format!(
                "was extracted from other weights ({:.12}) than those of {} ({:.12}); extract one with `realign steer extract`",
                vector.about.model_sha256, subject.name, subject.sha256
            ),
        ));
    }
    Ok(vector)
}
