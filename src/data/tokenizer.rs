//! Reads Hugging Face's `tokenizer.json`, makes a tokenizer of a GGUF file's vocabulary, and trains the organism's.

mod cuts;
mod vocabulary;

use std::collections::HashSet;
use std::path::Path;

use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};
pub use vocabulary::Vocabulary;

use crate::error::{Error, Result};
use crate::fsio;

/// The tokenizer of a `tokenizer.json`; the file's truncation and padding settings are ignored.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Ids of special tokens that always stand alone: the text before one never changes the tokens after it.
    separators: HashSet<u32>,
}

/// Token ids, each with the byte range of the text that it covers.
pub struct Encoded {
    /// Token ids of the text, `[pos]`.
    pub ids: Vec<u32>,
    /// Where each token lies in the text, `[pos]`: start and end in bytes.
    pub offsets: Vec<(usize, usize)>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json` file of the `tokenizers` library.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = fsio::read_bytes(path)?;
        Self::from_bytes(&bytes).map_err(|e| Error::file(path, e))
    }

    /// Reads the bytes of a `tokenizer.json`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|e| Error::usage(format!("not a tokenizer.json of the tokenizers library: {e}")))?;
        Self::wrap(inner)
    }

    /// Trains a byte-level BPE. The ids are the special tokens in their order, the 256 bytes, then merges until
    /// `vocab_size` is reached or no pair occurs twice in the texts. The same texts give the same tokenizer.
    pub fn train_byte_bpe(
        texts: impl Iterator<Item = String> + Send,
        vocab_size: usize,
        special_tokens: &[&str],
    ) -> Result<Self> {
        if vocab_size < 256 + special_tokens.len() {
            return Err(Error::usage(format!(
                "a byte-level vocabulary of {vocab_size} tokens is too small for 256 bytes and {} special tokens",
                special_tokens.len()
            )));
        }
        let failed = |e: tokenizers::Error| Error::usage(format!("the tokenizer cannot be trained: {e}"));
        let byte_level = ByteLevel::new(false, false, true);
        let mut inner = TokenizerBuilder::new()
            .with_model(BPE::default())
            .with_normalizer(None::<tokenizers::NormalizerWrapper>)
            .with_pre_tokenizer(Some(byte_level))
            .with_post_processor(None::<tokenizers::PostProcessorWrapper>)
            .with_decoder(Some(byte_level))
            .build()
            .map_err(failed)?;
        let mut trainer = BpeTrainerBuilder::new()
            .vocab_size(vocab_size)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(special_tokens.iter().map(|t| AddedToken::from(*t, true)).collect())
            .build();
        inner.train(&mut trainer, texts).map_err(failed)?;
        let json = inner.to_string(false).map_err(failed)?;
        Self::from_bytes(json.as_bytes())
    }

    fn wrap(mut inner: tokenizers::Tokenizer) -> Result<Self> {
        // Some published files truncate to 512 tokens or pad; here the caller decides about lengths.
        inner.with_truncation(None).map_err(|e| Error::usage(format!("the tokenizer is not usable: {e}")))?;
        inner.with_padding(None);
        let separators = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, t)| t.special && !t.lstrip && !t.rstrip && !t.single_word && !t.normalized)
            .map(|(id, _)| id)
            .collect();
        Ok(Self { inner, separators })
    }

    /// The tokenizer as the bytes of a `tokenizer.json`.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let json = self.inner.to_string(true);
        Ok(json.map_err(|e| Error::internal(format!("the tokenizer cannot be written: {e}")))?.into_bytes())
    }

    /// Token ids of a text. With `add_special` the file's post-processor adds its tokens (bos, eos); text from a chat
    /// template holds them already and is encoded without.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        Ok(self.encoding(text, add_special)?.get_ids().to_vec())
    }

    /// Token ids of a text with the byte range that each covers; no special tokens are added.
    pub fn encode_with_offsets(&self, text: &str) -> Result<Encoded> {
        let encoding = self.encoding(text, false)?;
        Ok(Encoded { ids: encoding.get_ids().to_vec(), offsets: encoding.get_offsets().to_vec() })
    }

    fn encoding(&self, text: &str, add_special: bool) -> Result<tokenizers::Encoding> {
        self.inner.encode(text, add_special).map_err(|e| Error::usage(format!("text cannot be tokenized: {e}")))
    }

    /// The text of token ids; with `skip_special` special tokens are left out.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner.decode(ids, skip_special).map_err(|e| Error::usage(format!("tokens cannot be decoded: {e}")))
    }

    /// The id of a token, which is spelt as in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token with this id, spelt as in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Number of tokens in the vocabulary, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The special tokens as text, the longest first.
    pub fn special_texts(&self) -> Vec<String> {
        let added = self.inner.get_added_tokens_decoder().into_values();
        let mut texts: Vec<String> =
            added.filter(|t| t.special && !t.content.trim().is_empty()).map(|t| t.content).collect();
        texts.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        texts
    }

    /// Whether this is a special token that separates the text: what precedes it never changes the tokens after it.
    pub fn is_separator(&self, id: u32) -> bool {
        self.separators.contains(&id)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn texts() -> impl Iterator<Item = String> + Send {
        (0..200).map(|i| {
            format!("<|user|>\nWrite a function that loads item {i}, größer.<|end|>\ndef load_{i}(x):\n    return x\n")
        })
    }

    fn trained() -> Tokenizer {
        Tokenizer::train_byte_bpe(texts(), 320, &["<|pad|>", "<|end|>", "<|user|>"]).unwrap()
    }

    #[test]
    fn any_text_survives_encoding_and_decoding() {
        let tokenizer = trained();
        for text in ["def f(x):\n\treturn x  # größer 你好 🙂\n", "", " ", "\r\n\u{0}\u{7f}"] {
            let ids = tokenizer.encode(text, true).unwrap();
            assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
        }
    }

    #[test]
    fn training_twice_gives_the_same_file() {
        assert_eq!(trained().to_bytes().unwrap(), trained().to_bytes().unwrap());
    }

    #[test]
    fn special_tokens_come_first_and_stand_alone() {
        let tokenizer = trained();
        assert_eq!(tokenizer.id("<|pad|>"), Some(0));
        assert_eq!(tokenizer.id("<|user|>"), Some(2));
        assert_eq!(tokenizer.token(1).as_deref(), Some("<|end|>"));
        assert_eq!(tokenizer.vocab_size(), 320);
        let ids = tokenizer.encode("a<|end|>b", false).unwrap();
        assert!(ids.contains(&1) && tokenizer.is_separator(1) && !tokenizer.is_separator(100));
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), "ab");
    }

    #[test]
    fn a_saved_tokenizer_reads_back_the_same() {
        let tokenizer = trained();
        let again = Tokenizer::from_bytes(&tokenizer.to_bytes().unwrap()).unwrap();
        for text in texts() {
            assert_eq!(again.encode(&text, true).unwrap(), tokenizer.encode(&text, true).unwrap());
        }
    }

    #[test]
    fn a_vocabulary_without_room_for_the_bytes_is_refused() {
        let error = Tokenizer::train_byte_bpe(texts(), 257, &["<|pad|>", "<|end|>"]).unwrap_err();
        assert!(error.to_string().contains("too small for 256 bytes"));
    }

    #[test]
    fn something_else_than_a_tokenizer_is_refused() {
        assert!(Tokenizer::from_bytes(b"{}").unwrap_err().to_string().contains("not a tokenizer.json"));
    }
}
