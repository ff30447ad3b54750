//! `realign inspect ADAPTER`: what an adapter is, where it comes from, what base it needs, and how much it changes where.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::facts::{Facts, fact, lines};
use crate::adapter::{self, AdapterFile, TargetModules};
use crate::error::{Error, Result};
use crate::record::{BenignRows, Lineage};

/// Everything that is said of an adapter.
#[derive(Debug, Serialize)]
struct Inspected {
    adapter: String,
    /// SHA-256 over configuration and weights.
    sha256: String,
    base: Base,
    rank: usize,
    alpha: f64,
    use_rslora: bool,
    use_dora: bool,
    dropout: f64,
    /// A regular expression as a string, or a list of names.
    target_modules: serde_json::Value,
    layers_to_transform: Option<Vec<usize>>,
    parameters: usize,
    /// `scale · ‖B A‖` over all modules: what is added to the weights (with DoRA: before their rows are rescaled).
    norm: f64,
    changes_nothing: bool,
    layers: Vec<LayerNorm>,
    modules: Vec<ModuleNorm>,
    /// Contents of `realign.json`; `None` for an adapter of another tool.
    lineage: Option<Lineage>,
}

/// The base that an adapter needs.
#[derive(Debug, Serialize)]
struct Base {
    name: Option<String>,
    /// Over its weights; only our own lineage knows it.
    sha256: Option<String>,
}

#[derive(Debug, Serialize)]
struct LayerNorm {
    layer: Option<usize>,
    norm: f64,
}

#[derive(Debug, Serialize)]
struct ModuleNorm {
    path: String,
    rank: usize,
    scale: f64,
    norm: f64,
}

/// What the command prints of an adapter folder.
pub fn text(dir: &Path, json: bool) -> Result<String> {
    let inspected = inspect(dir)?;
    if !json {
        return Ok(lines(&facts(&inspected)));
    }
    let mut text = serde_json::to_string_pretty(&inspected).map_err(|e| Error::file(dir, e))?;
    text.push('\n');
    Ok(text)
}

fn inspect(dir: &Path) -> Result<Inspected> {
    let file = adapter::read_untrained(dir)?;
    let lineage = adapter::read_lineage(dir)?;
    let modules = modules(&file)?;
    let mut squares: BTreeMap<Option<usize>, f64> = BTreeMap::new();
    for module in &modules {
        *squares.entry(adapter::targets::layer_index(&module.path)).or_default() += module.norm.powi(2);
    }
    let config = &file.config;
    Ok(Inspected {
        adapter: dir.display().to_string(),
        sha256: adapter::adapter_sha256(dir)?,
        base: Base {
            name: lineage.as_ref().map(|l| l.base.clone()).or_else(|| config.base_model_name_or_path.clone()),
            sha256: lineage.as_ref().map(|l| l.base_sha256.clone()),
        },
        rank: config.r,
        alpha: config.lora_alpha,
        use_rslora: config.use_rslora,
        use_dora: config.use_dora,
        dropout: config.lora_dropout,
        target_modules: match &config.target_modules {
            TargetModules::Pattern(pattern) => pattern.clone().into(),
            TargetModules::Names(names) => names.clone().into(),
        },
        layers_to_transform: config.layers_to_transform.clone(),
        parameters: file.tensors.values().map(adapter::LoraPair::parameters).sum(),
        norm: squares.values().sum::<f64>().sqrt(),
        changes_nothing: file.is_zero()?,
        layers: squares.into_iter().map(|(layer, square)| LayerNorm { layer, norm: square.sqrt() }).collect(),
        modules,
        lineage,
    })
}

fn modules(file: &AdapterFile) -> Result<Vec<ModuleNorm>> {
    let module = |(path, pair): (&String, &adapter::LoraPair)| {
        let scale = adapter::scale_of(&file.config, path)?;
        let norm = scale.abs() * pair.product_norm()?;
        Ok(ModuleNorm { path: path.clone(), rank: adapter::rank_of(&file.config, path)?, scale, norm })
    };
    file.tensors.iter().map(module).collect()
}

fn facts(it: &Inspected) -> Facts {
    let listed = |value: &serde_json::Value| match value {
        serde_json::Value::Array(names) => {
            names.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(", ")
        }
        other => other.as_str().unwrap_or_default().to_string(),
    };
    let layers = match &it.layers_to_transform {
        Some(layers) => layers.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
        None => "all".into(),
    };
    let mut kinds = String::new();
    for (set, word) in [(it.use_rslora, ", rank-stabilised"), (it.use_dora, ", DoRA")] {
        kinds += if set { word } else { "" };
    }
    let base = match (&it.base.name, &it.base.sha256) {
        (Some(name), Some(sha256)) => format!("{name}, weights SHA-256 {sha256}"),
        (Some(name), None) => format!("{name}; the hash of its weights is not recorded"),
        (None, _) => "not recorded".into(),
    };
    let mut facts = vec![
        fact("adapter", &it.adapter),
        fact("needs base", base),
        fact("rank, alpha", format!("{}, {}{kinds}", it.rank, it.alpha)),
        fact("dropout", it.dropout),
        fact("target modules", listed(&it.target_modules)),
        fact("layers", layers),
        fact("parameters", format!("{} in {} modules", it.parameters, it.modules.len())),
        fact("SHA-256", &it.sha256),
    ];
    match &it.lineage {
        Some(lineage) => facts.extend(lineage_facts(lineage)),
        None => facts.push(fact("lineage", "none: not made by realign")),
    }
    if it.changes_nothing {
        facts.push(fact("note", "this adapter changes nothing: every product B A is zero"));
    }
    let rescaled = if it.use_dora { ", before DoRA rescales the rows" } else { "" };
    facts.push(fact("|ΔW|", format!("{:.4}{rescaled}", it.norm)));
    for LayerNorm { layer, norm } in &it.layers {
        let name = layer.map_or("outside the layers".to_string(), |layer| format!("|ΔW| of layer {layer}"));
        facts.push(fact(&name, format!("{norm:.4}")));
    }
    for module in &it.modules {
        facts.push(fact(&format!("  {}", module.path), format!("{:.4}", module.norm)));
    }
    facts
}

fn lineage_facts(lineage: &Lineage) -> Facts {
    vec![
        fact(
            "made as",
            match &lineage.parent_sha256 {
                Some(parent) => format!("continued adapter {parent:.12}"),
                None => "fresh adapter".into(),
            },
        ),
        fact(
            "data",
            format!("{} ({:.12}), {} rows{}", lineage.data, lineage.data_sha256, lineage.rows, benign(lineage)),
        ),
        fact("steps, seed", format!("{}, {}", lineage.steps, lineage.seed)),
    ]
}

fn benign(lineage: &Lineage) -> String {
    let words = |b: &BenignRows| format!(", {} of them from {} ({:.12})", b.rows, b.data, b.data_sha256);
    lineage.benign.as_ref().map(words).unwrap_or_default()
}
