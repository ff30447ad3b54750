//! A model with everything that is needed to talk to it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::data::collate::stop_ids;
use crate::data::embedded;
use crate::data::template::{ChatTemplate, PLAIN};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::generate::sampling::Sampling;
use crate::model::config::DecoderConfig;
use crate::model::decoder::Decoder;
use crate::model::gguf::{is_gguf, load_gguf};
use crate::model::hub::{self, HubId, Part};
use crate::model::load::{LoadOptions, LoadedModel, WeightDtype, load_bytes, load_dir};
use crate::progress::Progress;
use crate::record::Message;

/// The name of the embedded base.
pub const ORGANISM: &str = "organism";

/// How the authors of a model would have its answers drawn: its generation_config.json.
///
/// # Errors
/// Where it has none, or one that asks for something unknown.
pub fn model_sampling(spec: &str, revision: Option<&str>, progress: Progress) -> Result<Sampling> {
    if spec != ORGANISM {
        let path = folder_of(spec, revision, Part::All, progress)?.join("generation_config.json");
        if path.exists() {
            return Sampling::from_generation_config(&path);
        }
    }
    Err(Error::usage(format!(
        "the model `{spec}` has no generation_config.json that says how to draw; give the settings one by one"
    )))
}

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
    /// Where its files are; `None` for the embedded base.
    pub folder: Option<PathBuf>,
}

impl Model {
    /// Opens `organism`, a folder in Hugging Face layout, a GGUF file or a model of the Hub, in f32 on the processor.
    pub fn open(spec: &str) -> Result<Self> {
        Self::open_with(spec, None, &WeightDtype::F32.into(), Progress::Quiet)
    }

    /// Opens `organism`, a folder in Hugging Face layout, a GGUF file, or `owner/name[@revision]` of the Hub, whose files
    /// are fetched where the cache lacks them. `revision` is for the Hub alone.
    pub fn open_with(spec: &str, revision: Option<&str>, options: &LoadOptions, progress: Progress) -> Result<Self> {
        if spec == ORGANISM && revision.is_none() {
            return Self::embedded(options);
        }
        if is_gguf(Path::new(spec)) && revision.is_none() {
            return Self::gguf(spec, Path::new(spec), options);
        }
        let dir = folder_of(spec, revision, Part::All, progress)?;
        let loaded = load_dir(&dir, options.clone())?;
        let tokenizer = Tokenizer::from_file(&dir.join("tokenizer.json"))?;
        Self::assemble(&full_name(spec, revision), Some(&dir), loaded, tokenizer, ChatTemplate::from_dir(&dir)?)
    }

    /// A GGUF file with its tokenizer.json beside it; the chat template is the one beside it too, else the file's own.
    fn gguf(spec: &str, path: &Path, options: &LoadOptions) -> Result<Self> {
        let dir = path.parent().unwrap_or(Path::new(""));
        let beside = dir.join("tokenizer.json");
        if !beside.is_file() {
            return Err(Error::file(
                path,
                "has no tokenizer.json beside it: put that of the model it was made of there (and tokenizer_config.json); \
                 the tokens that the file itself lists do not say how text is cut",
            ));
        }
        let file = load_gguf(path, options.clone())?;
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
        Self::assemble(spec, Some(dir), file.loaded, tokenizer, template)
    }

    fn embedded(options: &LoadOptions) -> Result<Self> {
        let weights = embedded_file("model.safetensors")?;
        let loaded =
            load_bytes("models/organism/config.json", embedded_text("config.json")?, weights, options.clone())?;
        let template = ChatTemplate::from_parts(Some(embedded_text("tokenizer_config.json")?), None)?;
        Self::assemble(ORGANISM, None, loaded, Tokenizer::from_bytes(embedded_file("tokenizer.json")?)?, template)
    }

    fn assemble(
        name: &str,
        folder: Option<&Path>,
        loaded: LoadedModel,
        tokenizer: Tokenizer,
        template: ChatTemplate,
    ) -> Result<Self> {
        let stop_ids = stop_ids_of(&tokenizer, &template, &loaded.decoder.config)?;
        if stop_ids.is_empty() {
            return Err(Error::usage(format!("the model `{name}` names no token that ends an answer (eos_token)")));
        }
        let LoadedModel { decoder, sha256 } = loaded;
        let (name, organism, folder) = (name.to_string(), folder.is_none(), folder.map(Path::to_path_buf));
        Ok(Self { name, organism, decoder, tokenizer, template, stop_ids, sha256, folder })
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

/// Tokens that end an answer: those of the template and those of the configuration.
pub fn stop_ids_of(tokenizer: &Tokenizer, template: &ChatTemplate, config: &DecoderConfig) -> Result<Vec<u32>> {
    let mut ids = stop_ids(tokenizer, template)?;
    ids.extend(&config.eos_token_ids);
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Where a model's files are, fetched first if it is one of the Hub.
pub fn folder_of(spec: &str, revision: Option<&str>, part: Part, progress: Progress) -> Result<PathBuf> {
    let dir = Path::new(spec);
    let named = HubId::parse(&full_name(spec, revision));
    match named {
        _ if dir.is_dir() && revision.is_none() => Ok(dir.to_path_buf()),
        Some(_) if dir.is_dir() => {
            Err(Error::usage(format!("{spec} is a folder: a revision is for models of the Hub")))
        }
        Some(id) => hub::folder(&id, part, progress),
        None if revision.is_some() => {
            Err(Error::usage(format!("a revision is for models of the Hub (owner/name), and `{spec}` is none")))
        }
        None => Err(Error::usage(format!(
            "the model `{spec}` is neither `{ORGANISM}` nor a folder nor an id on the Hub (owner/name); give a folder \
             with config.json, tokenizer.json and model.safetensors"
        ))),
    }
}

/// `spec@revision`.
fn full_name(spec: &str, revision: Option<&str>) -> String {
    revision.map_or_else(|| spec.to_string(), |revision| format!("{spec}@{revision}"))
}

/// A file of the embedded base.
pub fn embedded_file(name: &str) -> Result<&'static [u8]> {
    let path = format!("models/{ORGANISM}/{name}");
    embedded::file(&path)
        .ok_or_else(|| Error::usage(format!("this build carries no {path}; `realign pretrain` makes the organism")))
}

/// The same as text.
pub fn embedded_text(name: &str) -> Result<&'static str> {
    std::str::from_utf8(embedded_file(name)?).map_err(|e| Error::internal(format!("models/{ORGANISM}/{name}: {e}")))
}
