//! Adapters on a decoder: made fresh, attached strictly, taken off again.

use std::collections::BTreeMap;

use super::{AdapterConfig, AdapterFile, LoraPair, matches, rank_of, scale_of};
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::lora::Lora;
use crate::rng;

/// A fresh adapter for every linear that the configuration names: A random as PEFT makes it, B zero.
pub fn fresh(decoder: &Decoder, config: &AdapterConfig, seed: u64) -> Result<AdapterFile> {
    let mut tensors = BTreeMap::new();
    for linear in decoder.linears() {
        if matches(config, &linear.path, super::targets::layer_index(&linear.path))? {
            let mut rng = rng::stream(seed, "lora", &[rng::key(0, &linear.path, &[])]);
            let lora = Lora::fresh(linear.shape()?, rank_of(config, &linear.path)?, 1.0, 0.0, &mut rng)?;
            tensors.insert(linear.path.clone(), LoraPair { a: lora.a, b: lora.b });
        }
    }
    if tensors.is_empty() {
        let last = decoder.blocks.len().saturating_sub(1);
        return Err(Error::usage(format!(
            "no linear of the model matches target_modules and layers_to_transform; layers are 0 to {last}, linears are \
             q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, or all-linear"
        )));
    }
    Ok(AdapterFile { config: config.clone(), tensors })
}

/// The decoder with the adapter on it; `trainable` makes its matrices variables. The base's weights are shared.
///
/// # Errors
/// An adapter weight without a linear, or of another shape than its linear needs: another base's adapter.
pub fn attach(decoder: &Decoder, adapter: &AdapterFile, trainable: bool) -> Result<Decoder> {
    let mut adapted = decoder.clone();
    let mut left: BTreeMap<&str, &LoraPair> =
        adapter.tensors.iter().map(|(path, pair)| (path.as_str(), pair)).collect();
    for linear in adapted.linears_mut() {
        let Some(pair) = left.remove(linear.path.as_str()) else { continue };
        let (out, width) = linear.shape()?;
        let (rank, a_in) = pair.a.dims2()?;
        if a_in != width || pair.b.dims() != [out, rank] {
            return Err(Error::usage(format!(
                "the adapter's {} is A {:?}, B {:?}, the model's linear is [{out}, {width}]: it was made for another base",
                linear.path,
                pair.a.dims(),
                pair.b.dims()
            )));
        }
        let scale = scale_of(&adapter.config, &linear.path)? as f32;
        let lora = Lora { a: pair.a.clone(), b: pair.b.clone(), scale, dropout: adapter.config.lora_dropout as f32 };
        linear.lora = Some(if trainable { lora.trainable()? } else { lora.frozen() });
    }
    match left.keys().next() {
        None => Ok(adapted),
        Some(path) => Err(Error::usage(format!(
            "the adapter has weights for {path}, which the model does not have: it was made for another base"
        ))),
    }
}

/// The adapter that is on a decoder, as it stands after training.
pub fn collect(decoder: &Decoder, config: &AdapterConfig) -> Result<AdapterFile> {
    let mut tensors = BTreeMap::new();
    for linear in decoder.linears() {
        if let Some(lora) = &linear.lora {
            tensors.insert(linear.path.clone(), LoraPair { a: lora.a.detach().copy()?, b: lora.b.detach().copy()? });
        }
    }
    Ok(AdapterFile { config: config.clone(), tensors })
}
