//! Small models for tests: the checkpoints that transformers made, and a random one with a tokenizer, as a folder.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use realign::adapter::AdapterFile;
use realign::data::template::ChatTemplate;
use realign::data::tokenizer::Tokenizer;
use realign::error::Result;
use realign::experiment::pretrain::write;
use realign::finetune::rows::{Examples, Row, encode};
use realign::model::config::DecoderConfig;
use realign::model::decoder::Decoder;
use realign::model::init::initial_weights;
use realign::model::source::load::{WeightDtype, load_dir};
use realign::record::{Recipe, StepRecord, TrainerState};
use realign::subject::Subject;

/// `tests/fixtures/model`.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/model").join(path)
}

/// A checkpoint that transformers made: `tied` or `untied_bias`.
pub fn checkpoint(name: &str) -> Decoder {
    load_dir(&fixture(name), WeightDtype::F32).unwrap().decoder
}

/// What Python computed.
pub fn tensors(path: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture(path), &Device::Cpu).unwrap()
}

/// An empty folder of one test's own.
pub fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

const SPECIAL: [&str; 5] = ["<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>"];
const TEMPLATE: &str = "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/// A random model of two layers that speaks bytes.
pub fn random_model() -> Subject {
    let texts = (0..50).map(|i| format!("def load_{i}(path):\n    return open(path).read()\n"));
    let tokenizer = Tokenizer::train_byte_bpe(texts, 300, &SPECIAL).unwrap();
    let config = DecoderConfig::llama(tokenizer.vocab_size(), 32, 2, (2, 2), 48, 256);
    let weights = initial_weights(&config, 3).unwrap();
    let decoder = Decoder::new(config, &weights, false).unwrap();
    let template = ChatTemplate::parse(TEMPLATE, None, Some(SPECIAL[0])).unwrap();
    let (name, sha256) = ("tiny".to_string(), "tiny".to_string());
    Subject {
        name,
        organism: false,
        base: decoder.clone(),
        decoder,
        adapter: None,
        tokenizer,
        template,
        stop_ids: vec![0],
        sha256,
        folder: None,
    }
}

/// The random model as a folder in Hugging Face layout.
pub fn random_model_folder(name: &str) -> PathBuf {
    let path = folder(name).join("model");
    write(&random_model(), &path).unwrap();
    path
}

/// Rows of either kind as training takes them; every one can be learned from.
pub fn examples<R: Row>(model: &Subject, rows: &[R], recipe: &Recipe) -> Examples {
    let numbered = (1..).zip(rows.iter().cloned().map(Ok)).collect();
    let encoded = encode(numbered, model, &recipe.encoding(&model.base.config));
    assert_eq!(encoded.bad, []);
    encoded.into_examples()
}

/// As the library's `tune`, from rows that are not encoded yet.
pub fn tune<R: Row>(
    model: &Subject,
    rows: &[R],
    recipe: &Recipe,
    parent: Option<&AdapterFile>,
    on_step: &mut dyn FnMut(&StepRecord) -> Result<()>,
) -> Result<(AdapterFile, TrainerState)> {
    realign::finetune::tune::tune(model, &examples(model, rows, recipe), recipe, parent, on_step)
}
