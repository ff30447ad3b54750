//! Opening a subject: the embedded base, a folder in Hugging Face layout, a GGUF file or a model on the Hub.

use std::path::{Path, PathBuf};

use super::folder::full_name;
use super::{ORGANISM, Subject, embedded_file, embedded_text, folder_of, stop_ids_of, tokens_of_gguf};
use crate::data::template::ChatTemplate;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::source::gguf::{is_gguf, load_gguf, outline_gguf};
use crate::model::source::hub::Part;
use crate::model::source::load::{LoadOptions, LoadedModel, WeightDtype, load_bytes, load_dir};
use crate::progress::Progress;

/// A model to open, with an adapter or without one.
#[derive(Debug, Clone)]
pub struct SubjectSpec {
    /// `organism`, a folder in Hugging Face layout, a GGUF file, or `owner/name[@revision]` on the Hub.
    pub model: String,
    /// A branch, tag or commit of a model on the Hub.
    pub revision: Option<String>,
    /// How the base's weights are held, and where.
    pub load: LoadOptions,
    /// The folder of an adapter to put on the base.
    pub adapter: Option<PathBuf>,
}

impl SubjectSpec {
    /// A base alone, in f32 on the processor.
    pub fn new(model: &str) -> Self {
        Self { model: model.to_string(), revision: None, load: WeightDtype::F32.into(), adapter: None }
    }

    /// Opens it; what is on the Hub is fetched first where the cache lacks it.
    ///
    /// # Errors
    /// A base that cannot be found or read, or that names no token that ends an answer; an adapter that
    /// [`Subject::with_adapter`] refuses.
    pub fn open(&self, progress: Progress) -> Result<Subject> {
        let subject = self.open_base(progress)?;
        match &self.adapter {
            Some(folder) => subject.with_adapter(folder, progress),
            None => Ok(subject),
        }
    }

    fn open_base(&self, progress: Progress) -> Result<Subject> {
        let (spec, revision) = (self.model.as_str(), self.revision.as_deref());
        if spec == ORGANISM && revision.is_none() {
            return embedded(&self.load);
        }
        if is_gguf(Path::new(spec)) && revision.is_none() {
            return gguf(spec, Path::new(spec), &self.load);
        }
        let dir = folder_of(spec, revision, Part::All, progress)?;
        let loaded = load_dir(&dir, self.load.clone())?;
        let tokenizer = Tokenizer::from_file(&dir.join("tokenizer.json"))?;
        assemble(&full_name(spec, revision), Some(&dir), loaded, tokenizer, ChatTemplate::from_dir(&dir)?)
    }
}

impl Subject {
    /// Opens a base alone, in f32 on the processor.
    pub fn open(model: &str) -> Result<Self> {
        SubjectSpec::new(model).open(Progress::Quiet)
    }
}

fn gguf(spec: &str, path: &Path, options: &LoadOptions) -> Result<Subject> {
    // Tokens first: a vocabulary that is not supported is told before gigabytes are read.
    let (tokenizer, template) = tokens_of_gguf(path, &outline_gguf(path)?.metadata)?;
    let dir = path.parent().unwrap_or(Path::new(""));
    assemble(spec, Some(dir), load_gguf(path, options.clone())?, tokenizer, template)
}

fn embedded(options: &LoadOptions) -> Result<Subject> {
    let weights = embedded_file("model.safetensors")?;
    let loaded = load_bytes("models/organism/config.json", embedded_text("config.json")?, weights, options.clone())?;
    let template = ChatTemplate::from_parts(Some(embedded_text("tokenizer_config.json")?), None)?;
    assemble(ORGANISM, None, loaded, Tokenizer::from_bytes(embedded_file("tokenizer.json")?)?, template)
}

fn assemble(
    name: &str,
    folder: Option<&Path>,
    loaded: LoadedModel,
    tokenizer: Tokenizer,
    template: ChatTemplate,
) -> Result<Subject> {
    let stop_ids = stop_ids_of(&tokenizer, &template, &loaded.decoder.config)?;
    if stop_ids.is_empty() {
        return Err(Error::usage(format!(
            "the model `{name}` names no token that ends an answer; set eos_token in its tokenizer_config.json"
        )));
    }
    let LoadedModel { decoder, sha256 } = loaded;
    Ok(Subject {
        name: name.to_string(),
        organism: folder.is_none(),
        base: decoder.clone(),
        decoder,
        adapter: None,
        tokenizer,
        template,
        stop_ids,
        sha256,
        folder: folder.map(Path::to_path_buf),
    })
}
