//! The tokenizer and the chat template of a GGUF file: out of its metadata, but for what a file beside it says.

use std::path::Path;

use crate::data::template::{ChatTemplate, TemplateWords};
use crate::data::tokenizer::{Tokenizer, Vocabulary};
use crate::error::{Error, Result};
use crate::model::source::gguf::Metadata;

/// Tokenizer and chat template of a GGUF file. `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` beside
/// it have precedence; on a point where they are silent, the file's own word holds.
///
/// # Errors
/// A vocabulary that is not supported, a template that does not compile, a `tokenizer.json` of another model.
pub fn tokens_of_gguf(path: &Path, metadata: &Metadata) -> Result<(Tokenizer, ChatTemplate)> {
    let refused = |why: String| Error::file(path, why);
    let vocabulary = vocabulary_of(metadata).map_err(refused)?;
    let own = own_words(metadata, &vocabulary).map_err(refused)?;
    let dir = path.parent().unwrap_or(Path::new(""));
    let words = TemplateWords::from_dir(dir)?;
    // The error names the file whose template it is.
    let from = if words.source.is_some() { dir.join("tokenizer_config.json") } else { path.to_path_buf() };
    let template = words.or(own).compile().map_err(|e| Error::file(from, e))?;
    let beside = dir.join("tokenizer.json");
    let tokenizer = match beside.is_file() {
        true => {
            let tokenizer = Tokenizer::from_file(&beside)?;
            refuse_another_models(&tokenizer, &vocabulary.tokens, path).map_err(|why| Error::file(&beside, why))?;
            tokenizer
        }
        false => Tokenizer::from_vocabulary(&vocabulary).map_err(|e| Error::file(path, e))?,
    };
    Ok((tokenizer, template))
}

/// What the metadata says of the chat template.
pub(super) fn own_words(metadata: &Metadata, vocabulary: &Vocabulary) -> std::result::Result<TemplateWords, String> {
    Ok(TemplateWords {
        source: template_source(metadata)?,
        bos: vocabulary.token(vocabulary.bos).map(str::to_string),
        eos: vocabulary.token(vocabulary.eos).map(str::to_string),
    })
}

/// What the metadata says of the tokens.
pub(super) fn vocabulary_of(metadata: &Metadata) -> std::result::Result<Vocabulary, String> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    Ok(Vocabulary {
        kind: metadata.text(&key("model"))?.unwrap_or_default(),
        cut: metadata.text(&key("pre"))?,
        tokens: metadata.texts(&key("tokens"))?,
        types: metadata.counts(&key("token_type"))?,
        merges: metadata.texts(&key("merges"))?,
        scores: metadata.floats(&key("scores"))?,
        bos: metadata.count(&key("bos_token_id"))?,
        eos: metadata.count(&key("eos_token_id"))?,
        unknown: metadata.count(&key("unknown_token_id"))?,
        add_bos: metadata.flag(&key("add_bos_token"))?,
        add_eos: metadata.flag(&key("add_eos_token"))?.unwrap_or(false),
        add_space_prefix: metadata.flag(&key("add_space_prefix"))?,
    })
}

/// The chat template; of several, the one for plain conversations, which has no name.
fn template_source(metadata: &Metadata) -> std::result::Result<Option<String>, String> {
    let source = metadata.text("tokenizer.chat_template")?;
    let named = metadata.texts("tokenizer.chat_templates")?;
    match source.is_none() && !named.is_empty() {
        false => Ok(source),
        true => match metadata.text("tokenizer.chat_template.default")? {
            Some(source) => Ok(Some(source)),
            None => Err(format!(
                "has chat templates for {} alone, none for plain conversations; put a chat_template.jinja beside it",
                named.join(", ")
            )),
        },
    }
}

/// A converter may write an added token differently, hence one in a hundred may differ.
fn refuse_another_models(tokenizer: &Tokenizer, tokens: &[String], path: &Path) -> std::result::Result<(), String> {
    let known = (0..).zip(tokens).filter_map(|(id, token)| Some((tokenizer.token(id)?, token)));
    let (same, other): (Vec<_>, Vec<_>) = known.partition(|(ours, theirs)| ours == *theirs);
    let (other, all) = (other.len(), same.len() + other.len());
    match other * 100 > all {
        false => Ok(()),
        true => Err(format!(
            "is the tokenizer of another model: {other} of {all} tokens differ from those of {}",
            path.display()
        )),
    }
}
