//! Which modules an adapter's configuration means, and with which rank and scale: PEFT 0.21's rules.
//!
//! A name matches a module's path if it is the path or its end after a dot; a string is a regular expression for the
//! whole path. `rank_pattern` and `alpha_pattern` match `(.*\.)?(pattern)$`, the first one wins.

use regex::Regex;

use super::config::{ALL_LINEAR, AdapterConfig, TargetModules};
use crate::error::{Error, Result};

/// Output embeddings by their names in the families we know: `all-linear` leaves them out.
const OUTPUT_EMBEDDINGS: [&str; 3] = ["lm_head", "embed_out", "output"];

/// Whether a linear module carries an adapter. `layer_index` is its 0-based layer, `None` outside the layers.
pub fn matches(config: &AdapterConfig, module_path: &str, layer_index: impl Into<Option<usize>>) -> Result<bool> {
    if let Some(excluded) = &config.exclude_modules
        && named(excluded, module_path)?
    {
        return Ok(false);
    }
    let by_name = match &config.target_modules {
        TargetModules::Pattern(word) if word.eq_ignore_ascii_case(ALL_LINEAR) => {
            let name = module_path.rsplit('.').next().unwrap_or(module_path);
            !OUTPUT_EMBEDDINGS.contains(&name)
        }
        // A pattern and a full path are taken as they stand, whatever the layers say.
        TargetModules::Pattern(_) => return named(&config.target_modules, module_path),
        TargetModules::Names(names) if names.iter().any(|name| name == module_path) => return Ok(true),
        TargetModules::Names(_) => named(&config.target_modules, module_path)?,
    };
    let Some(layers) = config.layers_to_transform.as_ref().filter(|_| by_name) else { return Ok(by_name) };
    let index = match config.layers_pattern.as_slice() {
        [] => layer_index.into(),
        patterns => layer_after(patterns, module_path)?,
    };
    Ok(index.is_some_and(|index| layers.contains(&index)))
}

/// Rank of a module's adapter, from `rank_pattern` or the common `r`.
pub fn rank_of(config: &AdapterConfig, module_path: &str) -> Result<usize> {
    Ok(first_match(&config.rank_pattern, module_path)?.unwrap_or(config.r))
}

/// Alpha of a module's adapter, from `alpha_pattern` or the common `lora_alpha`.
pub fn alpha_of(config: &AdapterConfig, module_path: &str) -> Result<f64> {
    Ok(first_match(&config.alpha_pattern, module_path)?.unwrap_or(config.lora_alpha))
}

/// What a module's `B (A x)` is multiplied by: α / r, or α / √r with rsLoRA.
pub fn scale_of(config: &AdapterConfig, module_path: &str) -> Result<f64> {
    let rank = rank_of(config, module_path)? as f64;
    Ok(alpha_of(config, module_path)? / if config.use_rslora { rank.sqrt() } else { rank })
}

/// The 0-based layer in a module's path, `model.layers.3.mlp.up_proj` → 3: the first number after two names.
pub fn layer_index(module_path: &str) -> Option<usize> {
    let parts: Vec<&str> = module_path.split('.').collect();
    let inner = parts.len().checked_sub(1)?;
    (2..inner).find_map(|at| parts[at].parse().ok())
}

/// Whether every pattern of a configuration is a regular expression that we can run.
pub(super) fn check_patterns(config: &AdapterConfig) -> Result<()> {
    named(&config.target_modules, "none")?;
    config.exclude_modules.as_ref().map_or(Ok(false), |excluded| named(excluded, "none"))?;
    layer_after(&config.layers_pattern, "none")?;
    rank_of(config, "none")?;
    alpha_of(config, "none")?;
    Ok(())
}

fn named(modules: &TargetModules, module_path: &str) -> Result<bool> {
    match modules {
        TargetModules::Pattern(pattern) => Ok(compile(pattern, &format!("^(?:{pattern})$"))?.is_match(module_path)),
        TargetModules::Names(names) => Ok(names.iter().any(|name| {
            module_path.strip_suffix(name.as_str()).is_some_and(|head| head.is_empty() || head.ends_with('.'))
        })),
    }
}

fn layer_after(patterns: &[String], module_path: &str) -> Result<Option<usize>> {
    for pattern in patterns {
        let found = compile(pattern, &format!(r"^(?:.*?\.)?(?:{pattern})\.(?P<index>\d+)\."))?;
        if let Some(index) = found.captures(module_path).and_then(|c| c["index"].parse().ok()) {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

fn first_match<T: Copy>(patterns: &[(String, T)], module_path: &str) -> Result<Option<T>> {
    for (pattern, value) in patterns {
        if compile(pattern, &format!(r"^(.*\.)?({pattern})$"))?.is_match(module_path) {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

fn compile(as_written: &str, whole: &str) -> Result<Regex> {
    Regex::new(whole).map_err(|e| {
        // Python has look-around, this engine has not; its message says which of the two it is.
        let last = e.to_string().lines().last().unwrap_or_default().trim().to_string();
        Error::usage(format!("the pattern `{as_written}` cannot be used: {last}; write the names out in a list"))
    })
}
