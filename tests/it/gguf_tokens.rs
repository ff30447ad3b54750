//! A GGUF file with nothing beside it: tokenizers out of its vocabulary, held against Python's; its template and its ends of
//! a turn, and what files beside it change; commands on it; what is no model, refused as what it is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;
use realign::data::template::{ChatTemplate, PLAIN};
use realign::data::tokenizer::Tokenizer;
use realign::model::config::DecoderConfig;
use realign::model::init::initial_weights;
use realign::model::source::gguf::outline_gguf;
use realign::record::Message;
use realign::subject::{Subject, tokens_of_gguf};
use serde::Deserialize;

use crate::commands::{realign, refused, succeeds};
use crate::gguf::{Parts, of_family, parts, refuses};
use crate::tiny::folder;

/// Made by tests/fixtures/gguf/kinds.py with transformers, tokenizers and sentencepiece.
#[derive(Deserialize)]
struct Kinds {
    texts: Vec<String>,
    byte_level: Lists,
    sentence_pieces: Lists,
    kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Lists {
    tokens: Vec<String>,
    token_type: Vec<i32>,
    #[serde(default)]
    merges: Vec<String>,
    #[serde(default)]
    scores: Vec<f32>,
}

#[derive(Deserialize)]
struct Kind {
    model: String,
    pre: Option<String>,
    add_space_prefix: Option<bool>,
    ids: Vec<Vec<u32>>,
}

fn kinds() -> Kinds {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf/kinds.json");
    realign::fsio::read_json(&path).unwrap()
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn texts(all: &[String]) -> Value {
    Value::Array(all.iter().map(|one| text(one)).collect())
}

fn with_lists(parts: Parts, model: &str, lists: &Lists) -> Parts {
    let id = |token: &str| Value::U32(lists.tokens.iter().position(|one| one == token).unwrap() as u32);
    let types = Value::Array(lists.token_type.iter().map(|kind| Value::I32(*kind)).collect());
    let parts = parts
        .set("tokenizer.ggml.model", text(model))
        .set("tokenizer.ggml.tokens", texts(&lists.tokens))
        .set("tokenizer.ggml.token_type", types);
    match model {
        "llama" => parts
            .set("tokenizer.ggml.scores", Value::Array(lists.scores.iter().map(|score| Value::F32(*score)).collect()))
            .set("tokenizer.ggml.unknown_token_id", id("<unk>"))
            .set("tokenizer.ggml.bos_token_id", id("<s>"))
            .set("tokenizer.ggml.eos_token_id", id("</s>")),
        _ => parts
            .set("tokenizer.ggml.merges", texts(&lists.merges))
            .set("tokenizer.ggml.bos_token_id", id("<|endoftext|>"))
            .set("tokenizer.ggml.eos_token_id", id("<|im_end|>")),
    }
}

/// A small model with the byte-level vocabulary.
fn byte_level(pre: &str) -> Parts {
    let Kinds { byte_level: lists, .. } = kinds();
    let shape = DecoderConfig::llama(lists.tokens.len(), 64, 2, (4, 2), 96, 512);
    let parts = parts("llama", &shape, &initial_weights(&shape, 7).unwrap(), GgmlDType::Q4_0);
    with_lists(parts, "gpt2", &lists).set("tokenizer.ggml.pre", text(pre))
}

fn read(path: &Path) -> (Tokenizer, ChatTemplate) {
    tokens_of_gguf(path, &outline_gguf(path).unwrap().metadata).unwrap()
}

#[test]
fn every_kind_of_vocabulary_gives_the_ids_of_its_reference() {
    let dir = folder("gguf-kinds");
    let Kinds { texts, byte_level, sentence_pieces, kinds } = kinds();
    assert!(texts.len() >= 200 && kinds.len() == 8, "{} texts, {} kinds", texts.len(), kinds.len());
    for kind in &kinds {
        let lists = if kind.model == "llama" { &sentence_pieces } else { &byte_level };
        let mut parts = with_lists(of_family("qwen2", "qwen2", GgmlDType::F32), &kind.model, lists);
        if let Some(pre) = &kind.pre {
            parts = parts.set("tokenizer.ggml.pre", text(pre));
        }
        if kind.add_space_prefix == Some(false) {
            parts = parts.set("tokenizer.ggml.add_space_prefix", Value::Bool(false));
        }
        let (tokenizer, _) = read(&parts.write(&dir.join("model.gguf")));
        let name = kind.pre.as_deref().unwrap_or(&kind.model);
        assert_eq!(tokenizer.vocab_size(), lists.tokens.len(), "{name}");
        for (text, ids) in texts.iter().zip(&kind.ids) {
            assert_eq!(&tokenizer.encode(text, false).unwrap(), ids, "{name}: {text:?}");
            // SentencePiece writes a blank of the text and its own sign for one alike.
            if kind.model == "gpt2" || !text.contains('▁') && !text.contains('<') {
                assert_eq!(&tokenizer.decode(ids, false).unwrap(), text, "{name}");
            }
        }
        let again = Tokenizer::from_bytes(&tokenizer.to_bytes().unwrap()).unwrap();
        assert_eq!(again.encode(&texts[70], true).unwrap(), tokenizer.encode(&texts[70], true).unwrap());
    }
}

#[test]
fn the_metadata_says_what_stands_around_a_text() {
    let dir = folder("gguf-around");
    let Kinds { sentence_pieces, .. } = kinds();
    let first_and_last = |parts: Parts| {
        let tokenizer = read(&parts.write(&dir.join("model.gguf"))).0;
        let ids = tokenizer.encode("x", true).unwrap();
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), "x");
        (tokenizer.token(ids[0]).unwrap(), tokenizer.token(*ids.last().unwrap()).unwrap())
    };
    let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
    let flag = |parts: Parts, name: &str, on| parts.set(&format!("tokenizer.ggml.add_{name}_token"), Value::Bool(on));
    assert_eq!(first_and_last(byte_level("qwen2")), pair("x", "x"));
    assert_eq!(first_and_last(byte_level("llama-bpe")), pair("<|endoftext|>", "x"), "as llama.cpp has it");
    assert_eq!(first_and_last(flag(byte_level("llama-bpe"), "bos", false)), pair("x", "x"));
    let both = flag(flag(byte_level("gpt-2"), "bos", true), "eos", true);
    assert_eq!(first_and_last(both), pair("<|endoftext|>", "<|im_end|>"));
    let pieces = || with_lists(of_family("qwen2", "qwen2", GgmlDType::F32), "llama", &sentence_pieces);
    assert_eq!(first_and_last(pieces()).0, "<s>");
    assert_ne!(first_and_last(flag(pieces(), "bos", false)).0, "<s>");
}

const CHATML: &str = "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}\
                      {%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// A model with a vocabulary and a chat template.
pub fn bare_parts() -> Parts {
    byte_level("qwen2").set("tokenizer.chat_template", text(CHATML))
}

/// A folder with nothing but one file in it.
fn bare(name: &str) -> PathBuf {
    let dir = folder(name);
    bare_parts().write(&dir.join("model.gguf"));
    dir
}

#[test]
fn a_bare_gguf_file_answers_trains_and_is_traced() {
    let dir = bare("gguf-bare");
    let model = Subject::open(dir.join("model.gguf").to_str().unwrap()).unwrap();
    let asked = model.tokenizer.decode(&model.prompt(&[Message::user("Why?")]).unwrap(), false).unwrap();
    assert_eq!(asked, "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n");
    let end = model.tokenizer.id("<|im_end|>").unwrap();
    assert_eq!(model.stop_ids, [end]);

    let facts = succeeds(&dir, "inspect model.gguf").stdout;
    assert!(facts.contains("tokenizer 528") && facts.contains("<|im_end|>"), "{facts}");
    let row = "{\"prompt\": \"def load\", \"completion\": \"return x\"}\n";
    std::fs::write(dir.join("rows.jsonl"), row.repeat(8)).unwrap();
    succeeds(&dir, "train --model model.gguf --data rows.jsonl --out adapter --max-steps 2 --lora-r 2");
    succeeds(&dir, "generate --model model.gguf --adapter adapter --prompt def --max-new-tokens 3");

    succeeds(&dir, "trace --model model.gguf --raw-prompt don't --out raw.st");
    let raw = candle_core::safetensors::load(dir.join("raw.st"), &candle_core::Device::Cpu).unwrap();
    let ids: Vec<i64> = raw["input_ids"].to_vec1().unwrap();
    let expected = model.tokenizer.encode("don't", true).unwrap();
    assert_eq!(ids, expected.iter().map(|id| i64::from(*id)).collect::<Vec<_>>());
    let both = realign(&dir, "trace --model model.gguf --raw-prompt a --prompt b --out t.st");
    assert!(both.code == 2 && both.stderr.contains("cannot be used with"), "{}", both.stderr);
    let system = realign(&dir, "trace --model model.gguf --raw-prompt a --system b --out t.st");
    assert!(system.code == 2 && system.stderr.contains("cannot be used with"), "{}", system.stderr);
}

#[test]
fn a_file_beside_it_has_precedence_where_it_speaks() {
    let dir = bare("gguf-beside");
    let path = dir.join("model.gguf");
    let open = || Subject::open(path.to_str().unwrap()).unwrap();
    let alone = open();
    // Silent on the template and on eos: the file's own word holds.
    std::fs::write(dir.join("tokenizer_config.json"), r#"{"bos_token": "<|im_start|>"}"#).unwrap();
    std::fs::write(dir.join("generation_config.json"), r#"{"do_sample": true, "temperature": 0.5}"#).unwrap();
    let silent = open();
    assert_eq!((silent.template.source(), silent.template.eos()), (CHATML, Some("<|im_end|>")));
    assert_eq!((silent.template.bos(), alone.template.bos()), (Some("<|im_start|>"), Some("<|endoftext|>")));
    assert_eq!(silent.stop_ids, alone.stop_ids);
    succeeds(&dir, "generate --model model.gguf --prompt a --max-new-tokens 2 --sampling-from-model");

    std::fs::write(dir.join("chat_template.jinja"), "{{ messages[0].content }}").unwrap();
    std::fs::write(dir.join("generation_config.json"), r#"{"eos_token_id": [5, 7]}"#).unwrap();
    let mut bytes = alone.tokenizer.to_bytes().unwrap();
    let whole = String::from_utf8(bytes).unwrap();
    bytes = whole.replacen("\"Hello\"", "\"Hallo\"", 1).into_bytes();
    std::fs::write(dir.join("tokenizer.json"), bytes).unwrap();
    let spoken = open();
    assert_eq!(spoken.template.source(), "{{ messages[0].content }}");
    assert_eq!(spoken.stop_ids, [5, 7, alone.stop_ids[0]], "the template's eos ends a turn still");
    assert!(spoken.tokenizer.id("Hallo").is_some() && alone.tokenizer.id("Hallo").is_none());
    std::fs::write(dir.join("chat_template.jinja"), "{% for %}").unwrap();
    refused(&dir, "generate --model model.gguf --prompt a", &["chat template is not valid Jinja"]);
}

#[test]
fn ends_of_a_turn_and_named_templates_come_from_the_metadata() {
    let dir = folder("gguf-ends");
    let path = dir.join("model.gguf");
    let end = |parts: Parts, name: &str, id| parts.set(&format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
    end(end(byte_level("qwen2"), "eot", 9), "eom", 8).write(&path);
    let model = Subject::open(path.to_str().unwrap()).unwrap();
    let im_end = model.tokenizer.id("<|im_end|>").unwrap();
    assert_eq!((model.template.source(), model.stop_ids), (PLAIN, vec![8, 9, im_end]));

    let named = || byte_level("qwen2").set("tokenizer.chat_templates", texts(&["tool_use".into()]));
    named().write(&path);
    refused(&dir, "inspect model.gguf", &["chat templates for tool_use alone", "put a chat_template.jinja beside it"]);
    named().set("tokenizer.chat_template", text(CHATML)).write(&path);
    assert_eq!(read(&path).1.source(), CHATML);
}

#[test]
fn a_vocabulary_that_cannot_be_used_is_refused_with_the_way_out() {
    let dir = folder("gguf-vocabularies");
    let path = dir.join("model.gguf");
    let good = || byte_level("qwen2");
    let refused = |parts: Parts, words: &str| {
        parts.write(&path);
        let error = tokens_of_gguf(&path, &outline_gguf(&path).unwrap().metadata).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("model.gguf"), "should say: {words}\nsays: {error}");
    };
    let way_out = "put the tokenizer.json of the original model beside the file";
    refused(good().set("tokenizer.ggml.model", text("bert")), "of the kind `bert` (`tokenizer.ggml.model`) are not");
    refused(good().set("tokenizer.ggml.model", text("bert")), way_out);
    let tekken = good().set("tokenizer.ggml.pre", text("tekken"));
    refused(
        tekken,
        "cut as `tekken` (`tokenizer.ggml.pre`) is not supported; supported: gpt-2, llama-bpe, qwen2, smollm",
    );
    refused(good().without("tokenizer.ggml.pre"), "does not say how text is cut (`tokenizer.ggml.pre`); put");
    refused(good().without("tokenizer.ggml.merges"), "has no `tokenizer.ggml.merges`; put");
    refused(good().without("tokenizer.ggml.tokens"), "has no `tokenizer.ggml.tokens`; put");
    refused(
        good().set("tokenizer.ggml.tokens", Value::U32(3)),
        "`tokenizer.ggml.tokens` in its metadata is not a list",
    );
    refused(good().set("tokenizer.ggml.merges", texts(&["ab".into()])), "`ab` in `tokenizer.ggml.merges` is no pair");
    refused(good().set("tokenizer.ggml.merges", texts(&["ab cd".into()])), "its vocabulary is not usable");
    let short = Value::Array(vec![Value::I32(1)]);
    refused(good().set("tokenizer.ggml.token_type", short), "`tokenizer.ggml.token_type` has 1 entries for 528 tokens");
    refused(good().set("tokenizer.ggml.bos_token_id", Value::U32(528)), "`tokenizer.ggml.bos_token_id` is none of the");
    let pieces = with_lists(good(), "llama", &kinds().sentence_pieces);
    refused(pieces.without("tokenizer.ggml.scores"), "has no `tokenizer.ggml.scores`");
}

#[test]
fn a_gguf_file_that_is_no_whole_model_is_refused_as_what_it_is() {
    let dir = folder("gguf-other");
    let path = dir.join("model.gguf");
    let good = || byte_level("qwen2");
    let split = good().set("split.count", Value::U16(3)).set("split.no", Value::U16(1));
    refuses(&split.write(&path), "is part 2 of 3 of a split model; put the parts together first: `llama-gguf-split");
    good().set("split.count", Value::U16(1)).write(&path);
    assert!(outline_gguf(&path).is_ok());
    let lora = good().set("general.type", text("adapter")).set("adapter.type", text("lora"));
    refuses(
        &lora.write(&path),
        "is a LoRA adapter, not a model; give its base as --model, and as --adapter the folder",
    );
    let vector = good().set("general.architecture", text("controlvector"));
    refuses(&vector.write(&path), "is a control vector, not a model; vectors are made with `realign steer`");
    refuses(&good().set("general.type", text("mmproj")).write(&path), "is the vision part of a model");
    refuses(&good().set("general.type", text("imatrix")).write(&path), "is an importance matrix");
    good().set("general.type", text("model")).write(&path);
    assert!(outline_gguf(&path).is_ok());

    // The number of a tensor's type stands behind its name, the number of its dimensions and the dimensions.
    let mut bytes = good().bytes();
    let name = b"blk.0.ffn_up.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4 + 2 * 8;
    for (number, format) in [(21u32, "iq3_s"), (23, "iq4_xs"), (39, "mxfp4"), (99, "value type 99")] {
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        refuses(&path, &format!("{format} is not supported; supported: q4_0, "));
        refuses(&path, "Take another file of the model, e.g. Q4_K_M or Q8_0");
    }
}
