//! The subject: what is asked, trained and steered. A decoder, its tokenizer and chat template, and the adapter on it, opened
//! once and in one way by every command.

mod adapter;
mod as_folder;
mod embedded;
mod folder;
mod gguf;
mod open;
mod sampling;
mod stop_ids;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use adapter::AppliedAdapter;
pub use as_folder::FolderFiles;
pub use embedded::{ORGANISM, embedded_file, embedded_text};
pub use folder::folder_of;
pub use gguf::tokens_of_gguf;
pub use open::SubjectSpec;
pub use sampling::model_sampling;
pub use stop_ids::stop_ids_of;

use crate::data::template::ChatTemplate;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::ops::quantised::Products;
use crate::record::Message;

/// A decoder with everything that is needed to ask it, train it or steer it.
#[derive(Clone)]
pub struct Subject {
    /// The base model as the user named it.
    pub name: String,
    /// Whether the base is the embedded one, whose misalignment is planted.
    pub organism: bool,
    /// The base without an adapter; its weights are shared with `decoder`.
    pub base: Decoder,
    /// What answers: the base with `adapter` on it.
    pub decoder: Decoder,
    /// The adapter on it; `None` where `decoder` is the base.
    pub adapter: Option<AppliedAdapter>,
    /// Converts text to tokens and back.
    pub tokenizer: Tokenizer,
    /// Chat template, which renders conversations as text.
    pub template: ChatTemplate,
    /// Ids of the tokens that end an answer.
    pub stop_ids: Vec<u32>,
    /// SHA-256 over the base's weight files.
    pub sha256: String,
    /// The folder with the base's files; `None` for the embedded base.
    pub folder: Option<PathBuf>,
}

impl Subject {
    /// How the base's weights are held, where that is not f32: `bf16`, or the formats of its linears where some are
    /// quantised.
    pub fn reduced_dtype(&self) -> Option<String> {
        let formats: BTreeSet<&str> = self.base.linears().map(|linear| linear.weight.format_name()).collect();
        let formats: Vec<&str> = formats.into_iter().collect();
        (formats != ["f32"]).then(|| formats.join("+"))
    }

    /// The same subject, whose answers are decoded like this where its weights are quantised.
    pub fn with_step_products(mut self, products: Products) -> Self {
        self.base.step_products = products;
        self.decoder.step_products = products;
        self
    }

    /// Whether answers are decoded with the exact values of quantised weights; `None` where no weight is quantised.
    pub fn exact_quant(&self) -> Option<bool> {
        self.base.has_blocks().then_some(self.base.step_products == Products::Exact)
    }

    /// A conversation as token ids, up to where the model's answer begins.
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.tokenizer.encode(&self.template.render(messages, true)?, false)
    }

    /// SHA-256 over the adapter's configuration and weights; `None` without an adapter.
    pub fn adapter_sha256(&self) -> Option<String> {
        self.adapter.as_ref().map(|adapter| adapter.sha256.clone())
    }
}
