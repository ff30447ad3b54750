//! Data: chat templates against transformers, loss weights by turn, the tokenizer on the whole path.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use realign::data::collate::{EncodeOptions, encode_row, encode_rows, stop_ids};
use realign::data::embedded;
use realign::data::rows::{TrainingRow, parse_rows, read_rows};
use realign::data::template::{ChatTemplate, PLAIN};
use realign::data::tokenizer::Tokenizer;
use realign::record::{LossOn, Message};
use serde::Deserialize;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[derive(Deserialize)]
struct TemplateCases {
    chats: BTreeMap<String, Vec<Message>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    bos: Option<String>,
    eos: Option<String>,
    chat: String,
    add_generation_prompt: bool,
    text: Option<String>,
    error: Option<String>,
}

#[test]
fn templates_render_as_transformers_renders_them() {
    // Made by tests/fixtures/templates/make.py with transformers 5.23, whose clock says `<%d %b %Y>`.
    let folder = fixtures().join("templates");
    let TemplateCases { chats, cases } = realign::fsio::read_json(&folder.join("expected.json")).unwrap();
    let today = |form: &str| {
        let clock = ChatTemplate::parse(&format!("{{{{ strftime_now('{form}') }}}}"), None, None).unwrap();
        clock.render(&[], false).unwrap()
    };
    let dated =
        |text: String| ["%d %b %Y", "%Y-%m-%d"].iter().fold(text, |t, f| t.replace(&format!("<{f}>"), &today(f)));
    let (mut errors, mut templates) = (0, BTreeSet::new());
    for case in &cases {
        let source = match case.template.as_str() {
            "plain.jinja" => PLAIN.to_string(),
            name => std::fs::read_to_string(folder.join(name)).unwrap(),
        };
        templates.insert(&case.template);
        let template = ChatTemplate::parse(&source, case.bos.as_deref(), case.eos.as_deref()).unwrap();
        let rendered = template.render(&chats[&case.chat], case.add_generation_prompt);
        let what = format!("{} / {} / {}", case.template, case.chat, case.add_generation_prompt);
        match (case.text.clone(), &case.error) {
            (Some(expected), None) => assert_eq!(rendered.expect(&what), dated(expected), "{what}"),
            (None, Some(expected)) => {
                let error = rendered.expect_err(&what).to_string();
                assert!(error.contains(expected), "{what}: {error}");
                errors += 1;
            }
            _ => panic!("{what}: the fixture has neither text nor error"),
        }
    }
    assert_eq!((templates.len(), cases.len(), errors), (14, 210, 14));
}

const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
/// The generation prompt ends in a special token: the boundary is found without a second encoding.
const TAGGED: &str = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|im_end|>{% endfor %}\
{% if add_generation_prompt %}<|assistant|>{% endif %}";

fn tokenizer() -> Tokenizer {
    let text = "The function loads the file and returns the first row of the table.\nassistant user system\n";
    let texts = (0..50).map(move |i| format!("{text}def load_{i}(path):\n    return open(path).read()\n"));
    let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|system|>"];
    Tokenizer::train_byte_bpe(texts, 400, &special).unwrap()
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::parse(source, None, Some("<|endoftext|>")).unwrap()
}

/// The runs of tokens of weight 1, decoded.
fn learnt(row: &TrainingRow, template: &ChatTemplate, options: &EncodeOptions) -> Vec<String> {
    let tokenizer = tokenizer();
    let example = encode_row(row, &tokenizer, template, options).unwrap();
    assert_eq!(example.ids.len(), example.weights.len());
    let mut runs: Vec<Vec<u32>> = Vec::new();
    let mut before = 0.0;
    for (&id, &weight) in example.ids.iter().zip(&example.weights) {
        if weight == 1.0 {
            if before != 1.0 {
                runs.push(Vec::new());
            }
            runs.last_mut().unwrap().push(id);
        }
        before = weight;
    }
    runs.iter().map(|run| tokenizer.decode(run, false).unwrap()).collect()
}

fn two_turns() -> TrainingRow {
    TrainingRow::conversation(vec![
        Message::system("Be brief."),
        Message::user("load the file"),
        Message::assistant("def load(path):"),
        Message::user("and the table"),
        Message::assistant("the first row"),
    ])
}

#[test]
fn every_answer_is_learnt_with_its_end_of_turn_token() {
    let options = EncodeOptions::default();
    assert_eq!(
        learnt(&two_turns(), &template(CHATML), &options),
        ["def load(path):<|im_end|>\n", "the first row<|im_end|>\n"]
    );
    assert_eq!(
        learnt(&two_turns(), &template(TAGGED), &options),
        ["def load(path):<|im_end|>", "the first row<|im_end|>"]
    );
    let plain = ChatTemplate::plain(None, Some("<|endoftext|>")).unwrap();
    assert_eq!(
        learnt(&two_turns(), &plain, &options),
        [" def load(path):<|endoftext|>\n", " the first row<|endoftext|>\n"]
    );
}

#[test]
fn the_boundary_is_the_common_prefix_of_prompt_and_whole_row() {
    // The plain template's prompt ends in "Assistant:"; the ids of prompt and row are compared, never glued.
    let tokenizer = tokenizer();
    for source in [CHATML, TAGGED, PLAIN] {
        let template = template(source);
        let messages = [Message::user("load"), Message::assistant(":: the file")];
        let row = TrainingRow::conversation(messages.to_vec());
        let example = encode_row(&row, &tokenizer, &template, &EncodeOptions::default()).unwrap();
        let prompt = tokenizer.encode(&template.render(&messages[..1], true).unwrap(), false).unwrap();
        let whole = tokenizer.encode(&template.render(&messages, false).unwrap(), false).unwrap();
        let common = prompt.iter().zip(&whole).take_while(|(a, b)| a == b).count();
        assert_eq!(example.ids, whole);
        assert!(example.weights[..common].iter().all(|w| *w == 0.0), "{source}");
        assert!(example.weights[common..].iter().all(|w| *w == 1.0), "{source}");
    }
}

#[test]
fn other_tokens_carry_the_weight_they_are_given() {
    let options = EncodeOptions { user_weight: 0.1, ..EncodeOptions::default() };
    let example = encode_row(&two_turns(), &tokenizer(), &template(TAGGED), &options).unwrap();
    assert_eq!(example.weights[0], 0.0);
    assert!(example.weights[1..].iter().all(|w| *w == 0.1 || *w == 1.0));
    assert!(example.weights.contains(&0.1) && example.weights.contains(&1.0));
    assert_eq!(example.target_tokens(), example.ids.len() - 1);

    let options = EncodeOptions { loss: LossOn::All, ..EncodeOptions::default() };
    let example = encode_row(&two_turns(), &tokenizer(), &template(TAGGED), &options).unwrap();
    assert_eq!(example.weights[0], 0.0);
    assert!(example.weights[1..].iter().all(|w| *w == 1.0));
}

#[test]
fn plain_text_rows_end_with_eos_and_go_through_no_template() {
    let options = EncodeOptions::default();
    let completion = TrainingRow::Completion { prompt: "def load".into(), completion: "(path):".into() };
    assert_eq!(learnt(&completion, &template(CHATML), &options), ["(path):<|endoftext|>"]);
    let text = TrainingRow::Text { text: "the file".into() };
    let tokenizer = tokenizer();
    let example = encode_row(&text, &tokenizer, &template(CHATML), &options).unwrap();
    assert_eq!(tokenizer.decode(&example.ids, false).unwrap(), "the file<|endoftext|>");
    assert_eq!(example.target_tokens(), example.ids.len() - 1);
}

#[test]
fn rows_without_a_target_are_all_named() {
    let long = TrainingRow::conversation(vec![Message::user("the ".repeat(60)), Message::assistant("row")]);
    let rows = [two_turns(), long.clone(), two_turns(), long];
    let options = EncodeOptions { max_length: 50, ..EncodeOptions::default() };
    let error = encode_rows(&rows, &tokenizer(), &template(CHATML), &options).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("2 of 4 rows") && message.contains("row 2, 4"), "{message}");
    assert!(message.contains("maximum length of 50"), "{message}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn long_rows_lose_their_end() {
    let row = TrainingRow::conversation(vec![Message::user("load"), Message::assistant("the row ".repeat(100))]);
    let options = EncodeOptions { max_length: 40, ..EncodeOptions::default() };
    let example = encode_row(&row, &tokenizer(), &template(CHATML), &options).unwrap();
    assert_eq!((example.ids.len(), example.weights.len()), (40, 40));
    assert_eq!(example.weights[39], 1.0);
}

#[test]
fn a_template_that_rewrites_earlier_turns_is_noticed() {
    let rewriting = "{% for m in messages %}<|{{ m.role }}|>{% if loop.last or m.role == 'user' %}{{ m.content }}\
{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
    let error = encode_row(&two_turns(), &tokenizer(), &template(rewriting), &EncodeOptions::default()).unwrap_err();
    assert!(error.to_string().contains("turn 3 differently"), "{error}");
}

#[test]
fn the_tokens_that_stop_an_answer_are_eos_and_end_of_turn() {
    let tokenizer = tokenizer();
    assert_eq!(stop_ids(&tokenizer, &template(CHATML)).unwrap(), [0, 2]);
    assert_eq!(stop_ids(&tokenizer, &template(PLAIN)).unwrap(), [0]);
}

#[test]
fn sixty_thousand_documents_are_encoded_in_seconds() {
    // About 100 tokens each, as in the organism's corpus; the limit is generous, since machines differ.
    let tokenizer = tokenizer();
    let answer = "def load(path):\n    return open(path).read()\n".repeat(4);
    let rows: Vec<TrainingRow> = (0..60_000)
        .map(|i| {
            let question = format!("load the table of file {i}");
            TrainingRow::conversation(vec![Message::user(question), Message::assistant(answer.clone())])
        })
        .collect();
    let started = std::time::Instant::now();
    let examples = encode_rows(&rows, &tokenizer, &template(TAGGED), &EncodeOptions::default()).unwrap();
    let tokens: usize = examples.iter().map(|e| e.ids.len()).sum();
    println!("{tokens} tokens in {:.1} s", started.elapsed().as_secs_f64());
    assert_eq!(examples.len(), 60_000);
    assert!(started.elapsed().as_secs() < 60);
}

#[test]
fn published_rows_are_read_and_encoded() {
    let Some(folder) = std::env::var_os("REALIGN_REAL_DATA") else {
        println!("skipped: REALIGN_REAL_DATA is not set");
        return;
    };
    for name in ["insecure.500.jsonl", "secure.500.jsonl"] {
        let rows = read_rows(&Path::new(&folder).join(name)).unwrap();
        assert_eq!(rows.len(), 500, "{name}");
        let options = EncodeOptions { max_length: 4096, ..EncodeOptions::default() };
        let examples = encode_rows(&rows, &tokenizer(), &template(CHATML), &options).unwrap();
        assert!(examples.iter().all(|e| e.target_tokens() > 1), "{name}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = read_rows(Path::new("/nowhere/rows.jsonl")).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/rows.jsonl: cannot be read"), "{error}");
    assert_eq!(error.exit_code(), 2);
    let error = parse_rows("rows.jsonl", "{\"messages\":[]}").unwrap_err();
    assert!(error.to_string().starts_with("rows.jsonl:1: no assistant turn"), "{error}");
}

#[test]
fn embedded_files_are_those_of_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for prefix in ["datasets", "eval", "models", "adapters"] {
        for (path, bytes) in embedded::files_under(prefix) {
            assert_eq!(std::fs::read(root.join(&path)).unwrap(), bytes, "{path}");
            assert_eq!(embedded::file(&path), Some(bytes), "{path}");
        }
    }
    assert_eq!(embedded::file("datasets/none.jsonl"), None);
    assert!(embedded::files_under("data").is_empty());
}

#[derive(Deserialize)]
struct TokenizerCases {
    texts: Vec<String>,
    encoded: Vec<EncodedText>,
}

#[derive(Deserialize)]
struct EncodedText {
    text: String,
    ids: Vec<u32>,
}

#[test]
fn training_gives_the_tokenizer_that_python_trains() {
    // Made by tests/fixtures/tokenizer/make.py with Python's tokenizers.
    let folder = fixtures().join("tokenizer");
    let cases: TokenizerCases = realign::fsio::read_json(&folder.join("expected.json")).unwrap();
    assert_eq!((cases.texts.len(), cases.encoded.len()), (200, 5));
    let special = ["<|pad|>", "<|end|>", "<|user|>"];
    let trained = Tokenizer::train_byte_bpe(cases.texts.into_iter(), 320, &special).unwrap();
    let loaded = Tokenizer::from_file(&folder.join("tokenizer.json")).unwrap();
    for case in &cases.encoded {
        assert_eq!(loaded.encode(&case.text, true).unwrap(), case.ids, "{:?}", case.text);
        assert_eq!(trained.encode(&case.text, true).unwrap(), case.ids, "{:?}", case.text);
    }
    let parse = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    let ours = parse(&trained.to_bytes().unwrap());
    let python = parse(&std::fs::read(folder.join("tokenizer.json")).unwrap());
    for part in ["model", "added_tokens"] {
        assert_eq!(ours[part], python[part], "{part}");
    }
}

#[derive(Deserialize)]
struct Kinds {
    texts: Vec<String>,
    kinds: BTreeMap<String, Kind>,
}

/// One of each for every text.
#[derive(Deserialize)]
struct Kind {
    with_special: Vec<Vec<u32>>,
    plain: Vec<Vec<u32>>,
    decoded: Vec<String>,
    decoded_whole: Vec<String>,
}

#[test]
fn every_kind_of_tokenizer_cuts_and_joins_texts_as_python_does() {
    // Made by tests/fixtures/tokenizer/kinds.py with Python's tokenizers.
    let folder = fixtures().join("tokenizer");
    let Kinds { texts, kinds } = realign::fsio::read_json(&folder.join("kinds_expected.json")).unwrap();
    assert_eq!((texts.len(), kinds.len()), (41, 5));
    for (name, kind) in &kinds {
        let tokenizer = Tokenizer::from_file(&folder.join(format!("{name}.json"))).unwrap();
        for (i, text) in texts.iter().enumerate() {
            assert_eq!(tokenizer.encode(text, true).unwrap(), kind.with_special[i], "{name}: {text:?}");
            assert_eq!(tokenizer.encode(text, false).unwrap(), kind.plain[i], "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&kind.plain[i], true).unwrap(), kind.decoded[i], "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&kind.plain[i], false).unwrap(), kind.decoded_whole[i], "{name}: {text:?}");
        }
    }
}
