//! Steering on the command line: the flags that every command that asks a model shares.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::steer::{AddVector, SteeringVector, Unit};
use crate::subject::Subject;

/// What is added to the residual stream.
#[derive(Debug, Args)]
pub struct SteeringArgs {
    /// A steering vector: the .safetensors that `realign steer extract` or a run's vectors/ holds, its .json beside it.
    /// It is added at every token, after each of --layers.
    #[arg(long, value_name = "FILE", requires_all = ["coefficient", "layers"])]
    pub vector: Option<PathBuf>,
    /// How much of it, in mean residual norms of the layer: 0.3 adds a vector 0.3 times as long as the residual stream is
    /// there on average. Negative points the other way, 0 changes nothing.
    #[arg(long, value_name = "X", requires = "vector", allow_negative_numbers = true)]
    pub coefficient: Option<f64>,
    /// At which layers, counted from 0.
    #[arg(long, value_name = "L,L", requires = "vector", value_delimiter = ',')]
    pub layers: Option<Vec<usize>>,
    /// Count --coefficient in the vector's own length instead.
    #[arg(long, requires = "vector")]
    pub raw: bool,
}

impl SteeringArgs {
    /// Reads the vector and holds it against the model; `None` where nothing is steered.
    pub fn open(&self, model: &Subject, progress: Progress) -> Result<Option<AddVector>> {
        let (Some(path), Some(coefficient), Some(layers)) = (&self.vector, self.coefficient, &self.layers) else {
            return Ok(None);
        };
        let vector = open_vector(model, path)?;
        let unit = if self.raw { Unit::Raw } else { Unit::ResidualNorm };
        let added = AddVector::new(&vector, layers, coefficient, unit).map_err(|e| Error::file(path, e))?;
        let places: Vec<String> = layers.iter().map(usize::to_string).collect();
        let unit = if self.raw { "its own length" } else { "the mean residual norm" };
        let target = &vector.about.target;
        progress
            .say(&format!("steering: {coefficient:+} × {unit} along `{target}` after layers {}", places.join(", ")));
        Ok(Some(added))
    }
}

/// Reads a vector for a model. One of another shape, or made on other weights, is refused.
pub fn open_vector(model: &Subject, path: &Path) -> Result<SteeringVector> {
    let vector = SteeringVector::read(path)?;
    let config = &model.decoder.config;
    let (layers, width) = (vector.directions.len(), vector.directions.first().map_or(0, Vec::len));
    if (layers, width) != (config.num_hidden_layers, config.hidden_size) {
        return Err(Error::file(
            path,
            format!(
                "is a vector for {layers} layers of width {width}; {} has {} layers of width {}",
                model.name, config.num_hidden_layers, config.hidden_size
            ),
        ));
    }
    if vector.about.model_sha256 != model.sha256 {
        return Err(Error::file(
            path,
            format!(
                "was made on other weights ({:.12}) than {} has ({:.12}); extract one with `realign steer extract`",
                vector.about.model_sha256, model.name, model.sha256
            ),
        ));
    }
    Ok(vector)
}
