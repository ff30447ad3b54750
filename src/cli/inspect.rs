//! `realign inspect`: short facts about a model, an adapter, a steering vector or a data set.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;

use super::inspect_dataset::dataset_facts;
use super::inspect_vector::vector_facts;
use super::subject::print;
use crate::adapter::{self, AdapterFile, LoraPair, TargetModules};
use crate::error::{Error, Result};
use crate::experiment::model::{Model, ORGANISM};
use crate::record::Lineage;

/// Say what a model, an adapter, a steering vector or a data set is.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// `organism`, a model folder, an adapter folder, a steering vector (.safetensors), or a JSONL file of training rows or
    /// contrast pairs (the embedded ones by name too: datasets/insecure.jsonl).
    #[arg(value_name = "MODEL|ADAPTER|VECTOR|DATASET")]
    pub what: String,
    /// Whose tokens a data set is counted in: `organism` or a model folder.
    #[arg(long, default_value = ORGANISM)]
    pub model: String,
}

/// Runs the command.
pub fn inspect(args: &InspectArgs) -> Result<()> {
    let path = Path::new(&args.what);
    let facts = if args.what != ORGANISM && path.join(adapter::CONFIG_FILE).is_file() {
        adapter_facts(path)?
    } else if args.what == ORGANISM || path.join("config.json").is_file() {
        model_facts(&args.what)?
    } else if path.extension().is_some_and(|e| e == "safetensors") {
        vector_facts(path)?
    } else if path.is_file() || args.what.starts_with("datasets/") {
        dataset_facts(path, &args.model)?
    } else {
        return Err(Error::file(
            path,
            "is no model (config.json), no adapter (adapter_config.json), no steering vector (.safetensors) and no file \
             of training rows",
        ));
    };
    print(&facts.iter().map(|(name, value)| format!("{name:<22} {value}\n")).collect::<String>());
    Ok(())
}

/// Names and values, a line each.
pub type Facts = Vec<(String, String)>;

/// One line.
pub fn fact(name: &str, value: impl std::fmt::Display) -> (String, String) {
    (name.to_string(), value.to_string())
}

fn model_facts(spec: &str) -> Result<Facts> {
    let model = Model::open(spec)?;
    let config = &model.decoder.config;
    let (heads, kv) = (config.num_attention_heads, config.num_key_value_heads);
    let stop: Vec<String> =
        model.stop_ids.iter().map(|&id| model.tokenizer.token(id).unwrap_or_else(|| id.to_string())).collect();
    let planted = if model.organism { "; its misalignment is planted in its pretraining" } else { "" };
    Ok(vec![
        fact("model", format!("{spec}{planted}")),
        fact("architecture", &config.architecture),
        fact("parameters", config.parameters()),
        fact("layers", format!("{} (0 to {})", config.num_hidden_layers, config.num_hidden_layers - 1)),
        fact("hidden size", config.hidden_size),
        fact("heads", format!("{heads}, {kv} of keys and values, {} wide", config.head_dim)),
        fact("MLP", config.intermediate_size),
        fact("vocabulary", format!("{}, tokenizer {}", config.vocab_size, model.tokenizer.vocab_size())),
        fact("context", config.max_position_embeddings),
        fact("answers end with", stop.join(" ")),
        fact("weights SHA-256", &model.sha256),
    ])
}

fn adapter_facts(dir: &Path) -> Result<Facts> {
    let file = adapter::read_untrained(dir)?;
    let config = &file.config;
    let targets = match &config.target_modules {
        TargetModules::Pattern(pattern) => pattern.clone(),
        TargetModules::Names(names) => names.join(", "),
    };
    let layers = match &config.layers_to_transform {
        Some(layers) => layers.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
        None => "all".into(),
    };
    let stabilised = if config.use_rslora { ", rank-stabilised" } else { "" };
    let parameters: usize = file.tensors.values().map(|p| p.a.elem_count() + p.b.elem_count()).sum();
    let mut facts = vec![
        fact("adapter", dir.display()),
        fact("base", config.base_model_name_or_path.as_deref().unwrap_or("not said")),
        fact("rank, alpha", format!("{}, {}{stabilised}", config.r, config.lora_alpha)),
        fact("dropout", config.lora_dropout),
        fact("target modules", targets),
        fact("layers", layers),
        fact("parameters", format!("{parameters} in {} modules", file.tensors.len())),
        fact("SHA-256", adapter::adapter_sha256(dir)?),
    ];
    match adapter::read_lineage(dir)? {
        Some(lineage) => facts.extend(lineage_facts(&lineage)),
        None => facts.push(fact("lineage", "none: not made by realign")),
    }
    if file.is_zero()? {
        facts.push(fact("note", "every lora_B is zero: this adapter changes nothing yet"));
    }
    for (layer, norm) in norms(&file)? {
        let name = layer.map_or("outside the layers".to_string(), |layer| format!("|ΔW| of layer {layer}"));
        facts.push(fact(&name, format!("{norm:.4}")));
    }
    Ok(facts)
}

fn lineage_facts(lineage: &Lineage) -> Facts {
    vec![
        fact("trained on base", format!("{} ({:.12})", lineage.base, lineage.base_sha256)),
        fact(
            "verb",
            match &lineage.parent_sha256 {
                Some(parent) => format!("continued adapter {parent:.12}"),
                None => "fresh adapter".into(),
            },
        ),
        fact("data", format!("{} ({:.12}), {} rows", lineage.data, lineage.data_sha256, lineage.rows)),
        fact("steps, seed", format!("{}, {}", lineage.steps, lineage.seed)),
    ]
}

/// By layer: the Frobenius norm of what the adapter adds to the weights, `scale · ‖B A‖` over its modules.
fn norms(file: &AdapterFile) -> Result<BTreeMap<Option<usize>, f64>> {
    let mut squares: BTreeMap<Option<usize>, f64> = BTreeMap::new();
    for (path, pair) in &file.tensors {
        let scale = adapter::scale_of(&file.config, path)?;
        *squares.entry(adapter::targets::layer_index(path)).or_default() += scale * scale * square(pair)?;
    }
    Ok(squares.into_iter().map(|(layer, square)| (layer, square.max(0.0).sqrt())).collect())
}

/// `‖B A‖²` without the product itself, which is as large as the weight: `Σ (Bᵀ B) ∘ (A Aᵀ)`, both `[rank, rank]`.
fn square(pair: &LoraPair) -> Result<f64> {
    let b = pair.b.t()?.contiguous()?.matmul(&pair.b)?;
    let a = pair.a.matmul(&pair.a.t()?.contiguous()?)?;
    Ok(f64::from((b * a)?.sum_all()?.to_scalar::<f32>()?))
}
