//! Adapters on a decoder: made fresh, attached strictly, taken off again.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Device, Tensor};

use super::{AdapterConfig, AdapterFile, LoraPair, matches, rank_of, scale_of, targets};
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::linear::Linear;
use crate::model::lora::{Lora, Magnitude};
use crate::model::ops::to_vec;
use crate::rng;

/// A fresh adapter for every linear that the configuration names: A random as PEFT makes it, B zero, and DoRA's magnitudes
/// the lengths of the weight's rows, so that it changes nothing.
pub fn fresh(decoder: &Decoder, config: &AdapterConfig, seed: u64) -> Result<AdapterFile> {
    let mut tensors = BTreeMap::new();
    for linear in decoder.linears() {
        if targeted(config, linear)? {
            let mut rng = rng::stream(seed, "lora", &[rng::key(0, &linear.path, &[])]);
            let lora = Lora::fresh(linear.shape()?, rank_of(config, &linear.path)?, 1.0, 0.0, &mut rng)?;
            let magnitude = match config.use_dora {
                true => Some(lora.norms(&linear.weight)?.flatten_all()?.to_device(&Device::Cpu)?),
                false => None,
            };
            tensors.insert(linear.path.clone(), LoraPair { a: lora.a, b: lora.b, magnitude });
        }
    }
    if tensors.is_empty() {
        let last = decoder.blocks.len().saturating_sub(1);
        let mut names: Vec<&str> = decoder.linears().filter_map(|linear| linear.path.rsplit('.').next()).collect();
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(*name));
        return Err(Error::usage(format!(
            "no linear of the model matches target_modules and layers_to_transform; layers are 0 to {last}, linears are {} \
             (or all-linear)",
            names.join(", ")
        )));
    }
    Ok(AdapterFile { config: config.clone(), tensors })
}

/// The decoder with the adapter on it; `trainable` makes its matrices variables. The base's weights are shared.
///
/// # Errors
/// An adapter weight without a linear, a targeted linear without adapter weights, or another shape than the linear needs:
/// another base's adapter, or a part of one.
pub fn attach(decoder: &Decoder, adapter: &AdapterFile, trainable: bool) -> Result<Decoder> {
    let mut adapted = decoder.clone();
    let mut left: BTreeMap<&str, &LoraPair> =
        adapter.tensors.iter().map(|(path, pair)| (path.as_str(), pair)).collect();
    let mut missing = Vec::new();
    for linear in adapted.linears_mut() {
        match left.remove(linear.path.as_str()) {
            Some(pair) => {
                let lora = lora_of(&adapter.config, linear, pair)?;
                linear.lora = Some(if trainable { lora.trainable()? } else { lora.frozen(&linear.weight)? });
            }
            None if targeted(&adapter.config, linear)? => missing.push(linear.path.clone()),
            None => {}
        }
    }
    if let Some(path) = left.keys().next() {
        return Err(Error::usage(match path.rsplit('.').next() {
            Some(name @ ("lm_head" | "embed_tokens" | "wte" | "wpe")) => {
                format!("the adapter has weights for {path}; adapters on {name} are not supported")
            }
            _ => format!(
                "the adapter has weights for {path}, which the model does not have: it was made for another base"
            ),
        }));
    }
    match missing.as_slice() {
        [] => Ok(adapted),
        [first, rest @ ..] => Err(Error::usage(format!(
            "the adapter's configuration targets {first}{}, but its weights are missing: it was made for another base, or \
             the file is incomplete",
            if rest.is_empty() { String::new() } else { format!(" and {} more linears of the model", rest.len()) }
        ))),
    }
}

/// The adapter that is on a decoder, as it stands after training.
pub fn collect(decoder: &Decoder, config: &AdapterConfig) -> Result<AdapterFile> {
    let mut tensors = BTreeMap::new();
    let here = |t: &Tensor| t.detach().copy()?.to_device(&Device::Cpu);
    for linear in decoder.linears() {
        if let Some(lora) = &linear.lora {
            let magnitude = match &lora.magnitude {
                Some(magnitude) => Some(here(&magnitude.vector)?.flatten_all()?),
                None => None,
            };
            let (a, b) = (here(&lora.a)?, here(&lora.b)?);
            tensors.insert(linear.path.clone(), LoraPair { a, b, magnitude });
        }
    }
    Ok(AdapterFile { config: config.clone(), tensors })
}

/// A decoder whose weights do by themselves what they and the adapter on it did.
pub fn merged(decoder: &Decoder) -> Result<Decoder> {
    let mut merged = decoder.clone();
    for linear in merged.linears_mut() {
        if let Some(lora) = linear.lora.take() {
            linear.weight = lora.merged(&linear.weight)?.into();
        }
    }
    Ok(merged)
}

/// Whether an adapter leaves this base as it is. (Without the base, B A = 0 says so for plain LoRA, see
/// [`AdapterFile::is_zero`]; DoRA's magnitudes change the base unless they are the lengths of its rows.)
pub fn changes_nothing(decoder: &Decoder, adapter: &AdapterFile) -> Result<bool> {
    if !adapter.products_are_zero()? {
        return Ok(false);
    }
    for linear in attach(decoder, adapter, false)?.linears() {
        let factor = linear.lora.as_ref().and_then(|lora| lora.magnitude.as_ref()).and_then(|m| m.factor.as_ref());
        // Of the norm of another implementation the last places differ.
        if let Some(factor) = factor
            && to_vec(factor)?.iter().any(|f| (f - 1.0).abs() > 1e-5)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn targeted(config: &AdapterConfig, linear: &Linear) -> Result<bool> {
    matches(config, &linear.path, targets::layer_index(&linear.path))
}

fn lora_of(config: &AdapterConfig, linear: &Linear, pair: &LoraPair) -> Result<Lora> {
    let (out, width) = linear.shape()?;
    let (rank, a_in) = pair.a.dims2()?;
    let rows = pair.magnitude.as_ref().map_or(out, |magnitude| magnitude.elem_count());
    if a_in != width || pair.b.dims() != [out, rank] || rows != out {
        let magnitudes = if rows == out { String::new() } else { format!(", {rows} magnitudes") };
        return Err(Error::usage(format!(
            "the adapter's {} is A {:?}, B {:?}{magnitudes}, the model's linear is [{out}, {width}]: it was made for \
             another base",
            linear.path,
            pair.a.dims(),
            pair.b.dims()
        )));
    }
    let device = &linear.weight.device();
    let magnitude = match &pair.magnitude {
        Some(vector) => Some(Magnitude { vector: vector.reshape((1, out))?.to_device(device)?, factor: None }),
        None => None,
    };
    let (scale, dropout) = (scale_of(config, &linear.path)? as f32, config.lora_dropout as f32);
    Ok(Lora { a: pair.a.to_device(device)?, b: pair.b.to_device(device)?, scale, dropout, magnitude })
}
