//! A GGUF file as the folder in Hugging Face layout that it stands for, but for its weights: what a merged model needs
//! beside them.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::Subject;
use super::gguf::{own_words, vocabulary_of};
use super::sampling::{sampling_of_gguf, speaks};
use crate::data::template::TemplateWords;
use crate::error::{Error, Result};
use crate::fsio;
use crate::model::source::gguf::{GgufOutline, outline_gguf};

/// The files of a folder beside its weights.
pub struct FolderFiles {
    /// `config.json`.
    pub config: Value,
    /// `tokenizer_config.json` and `generation_config.json`: what lies beside the GGUF file, with its own word where they are
    /// silent.
    pub words: [(&'static str, Value); 2],
    /// `tokenizer.json`, where none lies beside the file.
    pub tokenizer: Option<Vec<u8>>,
}

impl Subject {
    /// What a folder with this model, which was opened from the GGUF file `path`, holds beside its weights. Sampling settings
    /// of the file that are not supported are left out.
    ///
    /// # Errors
    /// A file that can no longer be read.
    pub fn folder_files(&self, path: &Path) -> Result<FolderFiles> {
        let dir = path.parent().unwrap_or(Path::new(""));
        let GgufOutline { config_json: mut config, metadata, .. } = outline_gguf(path)?;
        // A generation_config.json beside the file may name other ends than its metadata.
        config["eos_token_id"] = json!(self.base.config.eos_token_ids);
        let refused = |why: String| Error::file(path, why);
        let words = TemplateWords::from_dir(dir)?;
        let vocabulary = vocabulary_of(&metadata).map_err(refused)?;
        let own = own_words(&metadata, &vocabulary).map_err(refused)?;

        let mut tokens = object_of(&dir.join("tokenizer_config.json"))?;
        let said = words.clone().or(own.clone());
        // A chat_template.jinja is copied as it is.
        let template = own.source.filter(|_| words.source.is_none());
        for (key, value) in [("chat_template", template), ("bos_token", said.bos), ("eos_token", said.eos)] {
            if let Some(value) = value {
                tokens.entry(key).or_insert(json!(value));
            }
        }
        tokens.entry("tokenizer_class").or_insert(json!("PreTrainedTokenizerFast"));
        tokens.entry("clean_up_tokenization_spaces").or_insert(json!(false));

        let beside = dir.join("generation_config.json");
        let mut generation = object_of(&beside)?;
        generation.entry("eos_token_id").or_insert(json!(self.base.config.eos_token_ids));
        if let Some(sampling) = sampling_of_gguf(&metadata).ok().flatten()
            && !speaks(&beside)?
        {
            let drawn = sampling.temperature > 0.0;
            generation.insert("do_sample".into(), json!(drawn));
            generation.insert("repetition_penalty".into(), json!(sampling.repetition_penalty));
            let settings = [
                ("temperature", json!(sampling.temperature)),
                ("top_k", json!(sampling.top_k)),
                ("top_p", json!(sampling.top_p)),
                ("min_p", json!(sampling.min_p)),
            ];
            generation.extend(settings.into_iter().filter(|_| drawn).map(|(key, value)| (key.to_string(), value)));
        }

        let tokenizer = match dir.join("tokenizer.json").is_file() {
            true => None,
            false => Some(self.tokenizer.to_bytes()?),
        };
        let words =
            [("tokenizer_config.json", Value::Object(tokens)), ("generation_config.json", Value::Object(generation))];
        Ok(FolderFiles { config, words, tokenizer })
    }
}

/// The object in a JSON file; empty where there is no file.
fn object_of(path: &Path) -> Result<Map<String, Value>> {
    if !path.exists() {
        return Ok(Map::new());
    }
    match fsio::read_json(path)? {
        Value::Object(keys) => Ok(keys),
        _ => Err(Error::file(path, "is not a JSON object")),
    }
}
