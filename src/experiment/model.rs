//! A model with everything that is needed to talk to it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::data::collate::stop_ids;
use crate::data::embedded;
use crate::data::template::{ChatTemplate, PLAIN};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::gguf::{is_gguf, load_gguf};
use crate::model::load::{LoadedModel, WeightDtype, load_bytes, load_dir};
use crate::record::Message;

/// The name of the embedded base.
pub const ORGANISM: &str = "organism";

/// A decoder, its tokenizer and its chat template.
#[derive(Clone)]
pub struct Model {
    /// As it was asked for.
    pub name: String,
    /// Whether it is the embedded base, whose effect is planted.
    pub organism: bool,
    /// The base, without adapters.
    pub decoder: Decoder,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// Conversations to text.
    pub template: ChatTemplate,
    /// Tokens that end an answer.
    pub stop_ids: Vec<u32>,
    /// SHA-256 over its weights.
    pub sha256: String,
}

impl Model {
    /// Opens `organism`, a folder in Hugging Face layout or a GGUF file, in f32.
    pub fn open(spec: &str) -> Result<Self> {
        Self::open_as(spec, WeightDtype::F32)
    }

    /// Opens `organism`, a folder in Hugging Face layout or a GGUF file.
    pub fn open_as(spec: &str, dtype: WeightDtype) -> Result<Self> {
        if spec == ORGANISM {
            return Self::embedded(dtype);
        }
        let dir = Path::new(spec);
        if is_gguf(dir) {
            return Self::gguf(spec, dir, dtype);
        }
        if !dir.is_dir() {
            return Err(Error::usage(format!(
                "the model `{spec}` is neither `{ORGANISM}`, a folder nor a GGUF file; give a folder with config.json, \
                 tokenizer.json and model.safetensors"
            )));
        }
        let loaded = load_dir(dir, dtype)?;
        let tokenizer = Tokenizer::from_file(&dir.join("tokenizer.json"))?;
        Self::assemble(spec, false, loaded, tokenizer, ChatTemplate::from_dir(dir)?)
    }

    /// A GGUF file with its tokenizer.json beside it; the chat template is the one beside it too, else the file's own.
    fn gguf(spec: &str, path: &Path, dtype: WeightDtype) -> Result<Self> {
        let dir = path.parent().unwrap_or(Path::new(""));
        let beside = dir.join("tokenizer.json");
        if !beside.is_file() {
            return Err(Error::file(
                path,
                "has no tokenizer.json beside it: put that of the model it was made of there (and tokenizer_config.json); \
                 the tokens that the file itself lists do not say how text is cut",
            ));
        }
        let file = load_gguf(path, dtype)?;
        let tokenizer = Tokenizer::from_file(&beside)?;
        let known = (0..).zip(&file.tokens).filter_map(|(id, token)| Some((tokenizer.token(id)?, token)));
        let (same, other): (Vec<_>, Vec<_>) = known.partition(|(ours, theirs)| ours == *theirs);
        // A converter may write an added token otherwise.
        if other.len() * 100 > same.len() + other.len() {
            return Err(Error::file(
                &beside,
                format!(
                    "is the tokenizer of another model: {} of {} tokens are not those of {spec}",
                    other.len(),
                    same.len() + other.len()
                ),
            ));
        }
        let template =
            match ["tokenizer_config.json", "chat_template.jinja"].iter().any(|name| dir.join(name).is_file()) {
                true => ChatTemplate::from_dir(dir)?,
                false => {
                    let source = file.chat_template.as_deref().unwrap_or(PLAIN);
                    ChatTemplate::parse(source, file.bos.as_deref(), file.eos.as_deref())
                        .map_err(|e| Error::file(path, e))?
                }
            };
        Self::assemble(spec, false, file.loaded, tokenizer, template)
    }

    fn embedded(dtype: WeightDtype) -> Result<Self> {
        let file = |name: &str| {
            let path = format!("models/organism/{name}");
            embedded::file(&path).ok_or_else(|| {
                Error::usage(format!("this build carries no {path}; `realign pretrain` makes the organism"))
            })
        };
        let text = |name: &str| {
            let bytes = file(name)?;
            std::str::from_utf8(bytes).map_err(|e| Error::usage(format!("models/organism/{name}: {e}")))
        };
        let weights = file("model.safetensors")?;
        let loaded = load_bytes("models/organism/config.json", text("config.json")?, weights, dtype)?;
        let template = ChatTemplate::from_parts(Some(text("tokenizer_config.json")?), None)?;
        Self::assemble(ORGANISM, true, loaded, Tokenizer::from_bytes(file("tokenizer.json")?)?, template)
    }

    fn assemble(
        name: &str,
        organism: bool,
        loaded: LoadedModel,
        tokenizer: Tokenizer,
        template: ChatTemplate,
    ) -> Result<Self> {
        let mut stop_ids = stop_ids(&tokenizer, &template)?;
        stop_ids.extend(&loaded.decoder.config.eos_token_ids);
        stop_ids.sort_unstable();
        stop_ids.dedup();
        if stop_ids.is_empty() {
            return Err(Error::usage(format!("the model `{name}` names no token that ends an answer (eos_token)")));
        }
        let LoadedModel { decoder, sha256 } = loaded;
        Ok(Self { name: name.to_string(), organism, decoder, tokenizer, template, stop_ids, sha256 })
    }

    /// How its weights are held, where that is not f32: `bf16`, or the formats of its linears where some are quantised.
    pub fn reduced_dtype(&self) -> Option<String> {
        let formats: BTreeSet<&str> = self.decoder.linears().map(|linear| linear.weight.format_name()).collect();
        let formats: Vec<&str> = formats.into_iter().collect();
        (formats != ["f32"]).then(|| formats.join("+"))
    }

    /// A conversation up to where the model's answer begins.
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.tokenizer.encode(&self.template.render(messages, true)?, false)
    }
}
