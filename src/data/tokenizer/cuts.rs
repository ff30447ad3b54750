//! How byte-level vocabularies cut text into words before they merge bytes: a GGUF file gives this by a mere name
//! (`tokenizer.ggml.pre`). A name means what llama.cpp, whose format it is, takes it for: the patterns of its models'
//! `tokenizer.json`, without the normaliser that some of them have (Qwen2's composes characters).

use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

/// The names that are known, for messages.
pub(super) const KNOWN: &str = "gpt-2, llama-bpe, qwen2, smollm, starcoder, deepseek-coder";

/// Contractions, words with one sign before them, digits up to three, signs with line breaks, blanks.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with every digit apart.
const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// One after the other: line breaks, words, punctuation, and the scripts that are written without blanks.
const DEEPSEEK_CODER: [&str; 4] = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"];

/// A way to cut text, and what goes with it in the models that have it.
pub(super) struct Cut {
    /// Cuts the text into words and writes bytes as characters.
    pub(super) pre_tokenizer: PreTokenizerWrapper,
    /// Whether a word that is a token is taken whole, without its merges.
    pub(super) ignore_merges: bool,
    /// Whether a text begins with bos where the file does not say.
    pub(super) add_bos: bool,
}

/// The way to cut of a name; `None` if it is not known.
pub(super) fn cut(pre: &str) -> tokenizers::Result<Option<Cut>> {
    let plain = |pre_tokenizer| Cut { pre_tokenizer, ignore_merges: false, add_bos: false };
    Ok(Some(match pre {
        "gpt-2" => plain(words_of_gpt_2().into()),
        "smollm" | "starcoder" | "refact" => {
            plain(Sequence::new(vec![Digits::new(true).into(), words_of_gpt_2().into()]).into())
        }
        "llama-bpe" | "llama3" | "llama-v3" => {
            Cut { ignore_merges: true, add_bos: true, ..plain(by_patterns(&[LLAMA_3], None)?) }
        }
        "qwen2" | "deepseek-r1-qwen" => plain(by_patterns(&[QWEN_2], None)?),
        "deepseek-coder" => plain(by_patterns(&DEEPSEEK_CODER, Some(Digits::new(true)))?),
        _ => return Ok(None),
    }))
}

/// GPT-2's own pattern, which the library has built in.
fn words_of_gpt_2() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

fn by_patterns(patterns: &[&str], digits: Option<Digits>) -> tokenizers::Result<PreTokenizerWrapper> {
    let split = |pattern: &&str| {
        let pattern = SplitPattern::Regex((*pattern).to_string());
        Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map(PreTokenizerWrapper::from)
    };
    let mut steps = patterns.iter().map(split).collect::<tokenizers::Result<Vec<_>>>()?;
    steps.extend(digits.map(PreTokenizerWrapper::from));
    steps.push(ByteLevel::new(false, true, false).into());
    Ok(Sequence::new(steps).into())
}
