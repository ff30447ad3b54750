//! Weights as Hugging Face lays them out: one safetensors file, or shards with an index where they are large.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::fsio;
use crate::model::decoder::Weights;

/// The size at which transformers starts another shard.
pub const SHARD_BYTES: usize = 5_000_000_000;

/// Weights as the bytes of one safetensors file.
pub fn safetensors_bytes<'a>(weights: impl IntoIterator<Item = (&'a String, &'a Tensor)>) -> Result<Vec<u8>> {
    let metadata = [("format".to_string(), "pt".to_string())].into();
    safetensors::serialize(weights, Some(metadata))
        .map_err(|e| Error::internal(format!("the weights cannot be written: {e}")))
}

/// Writes `model.safetensors` into a folder, or its shards of at most `shard_bytes` each with their index. (A weight is
/// never cut, so that a shard may be longer by one.)
pub fn write_weights(dir: &Path, weights: &Weights, shard_bytes: usize) -> Result<()> {
    let mut shards: Vec<(usize, Vec<(&String, &Tensor)>)> = Vec::new();
    for (name, tensor) in weights {
        let size = tensor.elem_count() * tensor.dtype().size_in_bytes();
        match shards.last_mut() {
            Some((total, shard)) if *total + size <= shard_bytes => {
                *total += size;
                shard.push((name, tensor));
            }
            _ => shards.push((size, vec![(name, tensor)])),
        }
    }
    if let [(_, all)] = shards.as_slice() {
        return fsio::write_atomic(&dir.join("model.safetensors"), &safetensors_bytes(all.iter().copied())?);
    }
    let mut map = BTreeMap::new();
    for (number, (_, shard)) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        fsio::write_atomic(&dir.join(&file), &safetensors_bytes(shard.iter().copied())?)?;
        map.extend(shard.iter().map(|(name, _)| (*name, file.clone())));
    }
    let total: usize = shards.iter().map(|(size, _)| size).sum();
    let index = serde_json::json!({"metadata": {"total_size": total}, "weight_map": map});
    fsio::write_json(&dir.join("model.safetensors.index.json"), &index)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::model::config::DecoderConfig;
    use crate::model::decoder::Decoder;
    use crate::model::init::initial_weights;
    use crate::model::ops::to_vec;
    use crate::model::source::load::{WeightDtype, load_dir};

    #[test]
    fn a_large_model_is_written_in_shards_and_read_again() {
        let config = DecoderConfig::llama(50, 16, 2, (2, 2), 24, 64);
        let weights = initial_weights(&config, 1).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fsio::write_json(&folder.path().join("config.json"), &config.to_json(0, 0, 0)).unwrap();
        write_weights(folder.path(), &weights, 4_000).unwrap();
        let files = fsio::list(folder.path(), "safetensors").unwrap();
        assert!(files.len() > 3, "{files:?}");
        assert!(!folder.path().join("model.safetensors").exists());
        let read: Decoder = load_dir(folder.path(), WeightDtype::F32).unwrap().decoder;
        let again = read.weights();
        assert_eq!(again.keys().collect::<Vec<_>>(), weights.keys().collect::<Vec<_>>());
        for (name, tensor) in &weights {
            assert_eq!(to_vec(tensor).unwrap(), to_vec(&again[name]).unwrap(), "{name}");
        }
    }
}
