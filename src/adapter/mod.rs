//! Adapters as PEFT writes and reads them: `adapter_config.json`, `adapter_model.safetensors`, and our `realign.json`
//! beside them that says where the adapter comes from.
//!
//! Read strictly: a setting that would change the result and that we do not have is refused by its name, a weight that
//! belongs to no targeted module too, and an adapter that changes nothing (every B A zero) as well. An adapter that is
//! silently not applied is the commonest complaint about today's tools.

mod attach;
pub mod config;
mod config_file;
pub mod targets;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

pub use attach::{attach, changes_nothing, collect, fresh, merged};
pub use config::{AdapterConfig, TargetModules};
pub use targets::{alpha_of, matches, rank_of, scale_of};

use crate::error::{Error, Result};
use crate::fsio;
use crate::record::Lineage;

/// File name of the configuration in an adapter folder.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// File name of the weights in an adapter folder.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// File name of the lineage in an adapter folder, which only realign writes.
pub const LINEAGE_FILE: &str = "realign.json";

/// Names in the weights file begin with this, then the module's path in the base model.
const PREFIX: &str = "base_model.model.";
/// And end with one of these.
const A_SUFFIX: &str = ".lora_A.weight";
const B_SUFFIX: &str = ".lora_B.weight";
const MAGNITUDE_SUFFIX: &str = ".lora_magnitude_vector";

/// The two matrices of one linear layer, f32 on the CPU: the layer adds `scale · B (A x)`.
#[derive(Debug, Clone)]
pub struct LoraPair {
    /// A, from the module's input down to the rank: `[rank, in]`, f32.
    pub a: Tensor,
    /// B, from the rank up to the module's output: `[out, rank]`, f32.
    pub b: Tensor,
    /// `[out]`: DoRA's lengths of the rows of `W + scale · B A`; `None` without DoRA.
    pub magnitude: Option<Tensor>,
}

impl LoraPair {
    /// Number of trained values in A, B and, with DoRA, the magnitude.
    pub fn parameters(&self) -> usize {
        self.a.elem_count() + self.b.elem_count() + self.magnitude.as_ref().map_or(0, Tensor::elem_count)
    }

    /// `‖B A‖` without the product itself, which is as large as the weight: `Σ (Bᵀ B) ∘ (A Aᵀ)`, both `[rank, rank]`.
    pub fn product_norm(&self) -> Result<f64> {
        let square = |left: &Tensor, right: Tensor| left.to_dtype(DType::F64)?.matmul(&right.to_dtype(DType::F64)?);
        let b = square(&self.b.t()?.contiguous()?, self.b.clone())?;
        let a = square(&self.a, self.a.t()?.contiguous()?)?;
        Ok((b * a)?.sum_all()?.to_scalar::<f64>()?.max(0.0).sqrt())
    }
}

/// The contents of an adapter folder, not attached to a model.
#[derive(Debug, Clone)]
pub struct AdapterFile {
    /// Contents of `adapter_config.json`, checked.
    pub config: AdapterConfig,
    /// The matrices by module path, e.g. `model.layers.0.self_attn.q_proj`.
    pub tensors: BTreeMap<String, LoraPair>,
}

impl AdapterFile {
    /// Whether it changes nothing, as far as can be said without its base: every B A is zero, and there is no DoRA.
    pub fn is_zero(&self) -> Result<bool> {
        Ok(!self.config.use_dora && self.products_are_zero()?)
    }

    fn products_are_zero(&self) -> Result<bool> {
        for (path, pair) in &self.tensors {
            if scale_of(&self.config, path)? != 0.0 && pair.product_norm()? != 0.0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Reads an adapter folder for use.
pub fn read(dir: &Path) -> Result<AdapterFile> {
    let adapter = read_untrained(dir)?;
    if adapter.is_zero()? {
        return Err(Error::file(
            dir.join(WEIGHTS_FILE),
            "this adapter changes nothing: every product B A is zero (lora_B, lora_A or lora_alpha); was it saved before training?",
        ));
    }
    Ok(adapter)
}

/// As [`read`], but an adapter that changes nothing is accepted (a fresh one, a checkpoint at step 0).
pub fn read_untrained(dir: &Path) -> Result<AdapterFile> {
    let (config, weights) = (dir.join(CONFIG_FILE), dir.join(WEIGHTS_FILE));
    if !weights.is_file() && dir.join("adapter_model.bin").is_file() {
        return Err(Error::file(
            dir.join("adapter_model.bin"),
            "pickle files are refused, since reading one can run code; save the adapter as safetensors",
        ));
    }
    let text = fsio::read_text(&config)?;
    let bytes = fsio::read_bytes(&weights)?;
    let parsed = AdapterConfig::from_json(&text).map_err(|e| Error::file(&config, e))?;
    let tensors = tensors_of(&bytes, &parsed).map_err(|e| Error::file(&weights, e))?;
    Ok(AdapterFile { config: parsed, tensors })
}

/// An adapter from the bytes of its two files (embedded ones).
pub fn from_bytes(config: &str, weights: &[u8]) -> Result<AdapterFile> {
    let config = AdapterConfig::from_json(config)?;
    let tensors = tensors_of(weights, &config)?;
    Ok(AdapterFile { config, tensors })
}

/// Where an adapter comes from; `None` if we did not make it.
pub fn read_lineage(dir: &Path) -> Result<Option<Lineage>> {
    let path = dir.join(LINEAGE_FILE);
    if path.is_file() { fsio::read_json(&path).map(Some) } else { Ok(None) }
}

/// Writes an adapter folder, whole or not at all. What was in the folder before is gone.
pub fn write(dir: &Path, adapter: &AdapterFile, lineage: &Lineage) -> Result<()> {
    fsio::write_dir_atomic(dir, |inside| write_files(inside, adapter, lineage))
}

/// Writes the three files into a folder, the weights last: before they are there the folder is no adapter to any reader.
pub fn write_files(dir: &Path, adapter: &AdapterFile, lineage: &Lineage) -> Result<()> {
    fsio::write_json(&dir.join(LINEAGE_FILE), lineage)?;
    fsio::write_atomic(&dir.join(CONFIG_FILE), written_config(adapter).to_json()?.as_bytes())?;
    fsio::write_atomic(&dir.join(WEIGHTS_FILE), &weights_bytes(adapter)?)
}

/// SHA-256 over configuration and weights of an adapter folder; the lineage beside them is not part of it.
pub fn adapter_sha256(dir: &Path) -> Result<String> {
    let sums = [fsio::sha256_file(&dir.join(CONFIG_FILE))?, fsio::sha256_file(&dir.join(WEIGHTS_FILE))?];
    Ok(fsio::sha256(sums.concat().as_bytes()))
}

/// The configuration with `all-linear` written out, as PEFT saves it: the names of the modules that have weights.
fn written_config(adapter: &AdapterFile) -> AdapterConfig {
    let mut config = adapter.config.clone();
    if matches!(&config.target_modules, TargetModules::Pattern(word) if word.eq_ignore_ascii_case(config::ALL_LINEAR)) {
        let names: BTreeSet<&str> = adapter.tensors.keys().filter_map(|path| path.rsplit('.').next()).collect();
        config.target_modules = TargetModules::Names(names.into_iter().map(str::to_string).collect());
    }
    config
}

fn weights_bytes(adapter: &AdapterFile) -> Result<Vec<u8>> {
    let mut stored: Vec<(String, &Tensor)> = Vec::new();
    for (path, pair) in &adapter.tensors {
        stored.push((format!("{PREFIX}{path}{A_SUFFIX}"), &pair.a));
        stored.push((format!("{PREFIX}{path}{B_SUFFIX}"), &pair.b));
        stored.extend(pair.magnitude.iter().map(|vector| (format!("{PREFIX}{path}{MAGNITUDE_SUFFIX}"), vector)));
    }
    // PEFT's own readers ask for this entry.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize(stored, Some(metadata))
        .map_err(|e| Error::internal(format!("the adapter cannot be written: {e}")))
}

fn tensors_of(bytes: &[u8], config: &AdapterConfig) -> Result<BTreeMap<String, LoraPair>> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| Error::usage(format!("not a safetensors file: {e}")))?;
    let mut parts: BTreeMap<String, [Option<Tensor>; 3]> = BTreeMap::new();
    let mut names: Vec<&str> = file.names().into_iter().collect();
    names.sort_unstable();
    for name in names {
        let view = file.tensor(name).map_err(|e| Error::usage(format!("{name}: {e}")))?;
        let rest = name
            .strip_prefix(PREFIX)
            .ok_or_else(|| Error::usage(format!("unexpected tensor `{name}`: PEFT's names begin with `{PREFIX}`")))?;
        let known = [(A_SUFFIX, 2), (B_SUFFIX, 2), (MAGNITUDE_SUFFIX, 1)];
        let found =
            known.iter().enumerate().find_map(|(i, (suffix, rank))| Some((i, rest.strip_suffix(suffix)?, *rank)));
        let Some((part, path, rank)) = found else {
            return Err(Error::usage(format!(
                "unexpected tensor `{name}`: only `…{A_SUFFIX}`, `…{B_SUFFIX}` and `…{MAGNITUDE_SUFFIX}` of linear layers \
                 are supported, no embeddings, biases or modules_to_save"
            )));
        };
        parts.entry(path.to_string()).or_default()[part] = Some(to_tensor(name, &view, rank)?);
    }
    if parts.is_empty() {
        return Err(Error::usage("holds no tensors"));
    }
    let mut tensors = BTreeMap::new();
    for (path, parts) in parts {
        let [Some(a), Some(b), magnitude] = parts else {
            return Err(Error::usage(format!("`{path}` lacks lora_A or lora_B")));
        };
        if magnitude.is_some() != config.use_dora {
            let (has, says) = if config.use_dora { ("no", "use_dora") } else { ("a", "no use_dora") };
            return Err(Error::usage(format!(
                "`{path}` has {has} lora_magnitude_vector, but {CONFIG_FILE} says {says}"
            )));
        }
        // A module that the configuration does not target would be left out by PEFT without a word.
        if !matches(config, &path, targets::layer_index(&path))? {
            return Err(Error::usage(format!("holds weights for `{path}`, which {CONFIG_FILE} does not target")));
        }
        let rank = rank_of(config, &path)?;
        let (a_rank, _) = a.dims2()?;
        let (_, b_rank) = b.dims2()?;
        if a_rank != rank || b_rank != rank {
            return Err(Error::usage(format!(
                "`{path}` has lora_A {:?} and lora_B {:?}, but its rank is {rank} in {CONFIG_FILE}",
                a.dims(),
                b.dims()
            )));
        }
        tensors.insert(path, LoraPair { a, b, magnitude });
    }
    Ok(tensors)
}

/// A matrix (`rank` 2) or a vector in f32.
fn to_tensor(name: &str, view: &TensorView<'_>, rank: usize) -> Result<Tensor> {
    let dtype = match view.dtype() {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        other => return Err(Error::usage(format!("`{name}` is {other:?}; supported are F32, F16 and BF16"))),
    };
    if view.shape().len() != rank {
        let expected = if rank == 2 { "matrix" } else { "vector" };
        return Err(Error::usage(format!("`{name}` has shape {:?}; expected a {expected}", view.shape())));
    }
    let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?.to_dtype(DType::F32)?;
    let finite = tensor.flatten_all()?.to_vec1::<f32>()?.iter().all(|v| v.is_finite());
    if !finite {
        return Err(Error::usage(format!("`{name}` contains NaN or infinite numbers")));
    }
    Ok(tensor)
}
