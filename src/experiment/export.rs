//! A model with an adapter merged into it, as a folder in Hugging Face layout.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::embedded;
use crate::error::{Error, Result};
use crate::fsio;
use crate::model::decoder::Decoder;
use crate::model::families;
use crate::model::source::gguf::is_gguf;
use crate::model::source::save::{SHARD_BYTES, write_weights};
use crate::subject::{FolderFiles, Subject};

/// What stands beside a model's weights and is not changed by an adapter.
const BESIDE: [&str; 11] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
];

/// `realign.json` beside a merged model: what it was merged from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merged {
    /// The base model's name or folder.
    pub base: String,
    /// SHA-256 over the base's weights.
    pub base_sha256: String,
    /// Folder that the adapter was read from.
    pub adapter: String,
    /// SHA-256 over the adapter's configuration and weights.
    pub adapter_sha256: String,
}

/// Writes `decoder`, of the same shape as the model's own, with the model's configuration and tokenizer files; whole or not
/// at all.
pub fn write_merged(dir: &Path, model: &Subject, decoder: &Decoder, origin: &Merged) -> Result<()> {
    // A GGUF file brings its configuration and, where nothing lies beside it, its tokenizer.
    let file = Path::new(&model.name);
    let (mut config, words, tokenizer) = match is_gguf(file) {
        true => {
            let FolderFiles { config, words, tokenizer } = model.folder_files(file)?;
            (config, Some(words), tokenizer)
        }
        false => (config_beside(model)?, None, None),
    };
    // Of a model that also sees, the text part is a model by itself.
    let mut weights = decoder.weights();
    if config["text_config"].is_object() {
        let text = |name: String| name.replacen("model.language_model.", "model.", 1);
        weights = weights.into_iter().map(|(name, tensor)| (text(name), tensor)).collect();
        config = families::text_part(&config);
    }
    if let Some(keys) = config.as_object_mut() {
        // The weights are written as they were computed.
        let key = if keys.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        keys.insert(key.into(), "float32".into());
    }
    fsio::write_dir_atomic(dir, |inside| {
        fsio::write_json(&inside.join("config.json"), &config)?;
        for name in BESIDE {
            if let Some(bytes) = beside(model, name)? {
                fsio::write_atomic(&inside.join(name), &bytes)?;
            }
        }
        for (name, value) in words.iter().flatten() {
            fsio::write_json(&inside.join(name), value)?;
        }
        if let Some(tokenizer) = &tokenizer {
            fsio::write_atomic(&inside.join("tokenizer.json"), tokenizer)?;
        }
        write_weights(inside, &weights, SHARD_BYTES)?;
        fsio::write_json(&inside.join("realign.json"), origin)
    })
}

fn config_beside(model: &Subject) -> Result<serde_json::Value> {
    let Some(config) = beside(model, "config.json")? else {
        return Err(Error::usage(format!("the model `{}` has no config.json to copy", model.name)));
    };
    serde_json::from_slice(&config).map_err(|e| Error::usage(format!("config.json: {e}")))
}

/// A file of the model's own folder, or of the embedded one.
fn beside(model: &Subject, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(folder) = &model.folder else {
        return Ok(embedded::file(&format!("models/organism/{name}")).map(<[u8]>::to_vec));
    };
    let path = folder.join(name);
    if path.is_file() { fsio::read_bytes(&path).map(Some) } else { Ok(None) }
}
