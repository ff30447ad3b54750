//! A tokenizer from a vocabulary and a few words about it, as a GGUF file has them: byte-level BPE (`gpt2`), or
//! SentencePiece's BPE with a token a byte for what it lacks (`llama`). Every other kind is refused by name.

use std::collections::HashSet;

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab};
use tokenizers::normalizers::{Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, NormalizerWrapper};

use super::Tokenizer;
use super::cuts::{Cut, KNOWN, cut};
use crate::error::{Error, Result};

/// What a file says of its tokens. Ids are places in `tokens`.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    /// The kind: `gpt2` (byte-level BPE) or `llama` (SentencePiece).
    pub kind: String,
    /// How text is cut before it is merged, by name; byte-level kinds alone need it.
    pub cut: Option<String>,
    /// The tokens.
    pub tokens: Vec<String>,
    /// What each token is, by GGUF's numbers; empty where the file does not say.
    pub types: Vec<usize>,
    /// Pairs of tokens to merge, the first first, each as two tokens with a blank between; byte-level kinds alone.
    pub merges: Vec<String>,
    /// Score of each token; `llama` alone, whose merges follow from them.
    pub scores: Vec<f32>,
    /// The token that begins a text.
    pub bos: Option<usize>,
    /// The token that ends a text.
    pub eos: Option<usize>,
    /// The token for what the vocabulary lacks.
    pub unknown: Option<usize>,
    /// Whether a text begins with `bos`; `None` where the file does not say.
    pub add_bos: Option<bool>,
    /// Whether a text ends with `eos`.
    pub add_eos: bool,
    /// Whether a text of `llama` begins with a blank; `None` where the file does not say.
    pub add_space_prefix: Option<bool>,
}

/// GGUF's numbers for what a token is. The others (normal 1, unused 5, byte 6) are tokens like any other here.
const UNKNOWN: usize = 2;
const CONTROL: usize = 3;
const USER_DEFINED: usize = 4;

/// How SentencePiece writes a blank.
const BLANK: &str = "▁";

/// The way out where a vocabulary cannot be used.
const WAY_OUT: &str = "put the tokenizer.json of the original model beside the file";

impl Tokenizer {
    /// Makes a tokenizer from a vocabulary.
    ///
    /// # Errors
    /// A kind or a way to cut that is not supported, and lists that contradict each other.
    pub fn from_vocabulary(vocabulary: &Vocabulary) -> Result<Self> {
        vocabulary.check()?;
        let made = match vocabulary.kind.as_str() {
            "gpt2" => vocabulary.byte_level()?,
            "llama" => vocabulary.sentence_pieces().map_err(unusable)?,
            "" => return Err(Error::usage(format!("its metadata has no `tokenizer.ggml.model`; {WAY_OUT}"))),
            other => {
                return Err(Error::usage(format!(
                    "vocabularies of the kind `{other}` (`tokenizer.ggml.model`) are not supported, gpt2 and llama are; \
                     {WAY_OUT}"
                )));
            }
        };
        Self::wrap(made)
    }
}

fn unusable(e: tokenizers::Error) -> Error {
    Error::usage(format!("its vocabulary is not usable: {e}; {WAY_OUT}"))
}

impl Vocabulary {
    /// The text of a token.
    pub fn token(&self, id: Option<usize>) -> Option<&str> {
        self.tokens.get(id?).map(String::as_str)
    }

    fn check(&self) -> Result<()> {
        let count = self.tokens.len();
        if count == 0 {
            return Err(Error::usage(format!("its metadata has no `tokenizer.ggml.tokens`; {WAY_OUT}")));
        }
        for (list, name) in [(self.types.len(), "token_type"), (self.scores.len(), "scores")] {
            if list != 0 && list != count {
                return Err(Error::usage(format!("`tokenizer.ggml.{name}` has {list} entries for {count} tokens")));
            }
        }
        for (id, name) in [(self.bos, "bos"), (self.eos, "eos"), (self.unknown, "unknown")] {
            if id.is_some_and(|id| id >= count) {
                return Err(Error::usage(format!("`tokenizer.ggml.{name}_token_id` is none of the {count} tokens")));
            }
        }
        Ok(())
    }

    /// Byte-level BPE: the merges are in the file, the cuts follow from a name.
    fn byte_level(&self) -> Result<tokenizers::Tokenizer> {
        let Some(name) = &self.cut else {
            return Err(Error::usage(format!(
                "its metadata does not say how text is cut (`tokenizer.ggml.pre`); {WAY_OUT}"
            )));
        };
        let Some(Cut { pre_tokenizer, ignore_merges, add_bos }) = cut(name).map_err(unusable)? else {
            return Err(Error::usage(format!(
                "text that is cut as `{name}` (`tokenizer.ggml.pre`) is not supported; supported: {KNOWN}; {WAY_OUT}"
            )));
        };
        if self.merges.is_empty() {
            return Err(Error::usage(format!("its metadata has no `tokenizer.ggml.merges`; {WAY_OUT}")));
        }
        // A token may begin with a blank only where it is one.
        let pair = |merge: &String| {
            let at = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
            let at = at.ok_or_else(|| Error::usage(format!("`{merge}` in `tokenizer.ggml.merges` is no pair")))?;
            Ok((merge[..at].to_string(), merge[at + 1..].to_string()))
        };
        let merges = self.merges.iter().map(pair).collect::<Result<Vec<_>>>()?;
        let build = || {
            let model = self.bpe(merges).ignore_merges(ignore_merges).build()?;
            let mut made = tokenizers::Tokenizer::new(model);
            made.with_pre_tokenizer(Some(pre_tokenizer));
            made.with_decoder(Some(ByteLevel::default()));
            self.finish(made, add_bos)
        };
        build().map_err(unusable)
    }

    /// SentencePiece's BPE: the pair whose union scores highest is merged first, so the scores give the merges.
    fn sentence_pieces(&self) -> tokenizers::Result<tokenizers::Tokenizer> {
        if self.scores.is_empty() {
            return Err("its metadata has no `tokenizer.ggml.scores`".into());
        }
        let blank_first = self.add_space_prefix.unwrap_or(true);
        let unknown = self.token(self.unknown.or(Some(0))).unwrap_or_default();
        let model = self.bpe(self.merges_by_score());
        let model = model.unk_token(unknown.to_string()).fuse_unk(true).byte_fallback(true).build()?;
        let mut made = tokenizers::Tokenizer::new(model);
        let mut steps: Vec<NormalizerWrapper> = Vec::new();
        let mut back = vec![Replace::new(BLANK, " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
        if blank_first {
            steps.push(Prepend::new(BLANK.to_string()).into());
            back.push(Strip::new(' ', 1, 0).into());
        }
        steps.push(Replace::new(" ", BLANK)?.into());
        made.with_normalizer(Some(Normalizers::new(steps)))?;
        made.with_decoder(Some(Decoders::new(back)));
        self.finish(made, true)
    }

    /// Every way to put a token together of two others, the highest score first; of one score, the longest beginning.
    fn merges_by_score(&self) -> Vec<(String, String)> {
        let known: HashSet<&str> = self.tokens.iter().map(String::as_str).collect();
        let mut merges: Vec<(f32, &str, &str)> = Vec::new();
        for (token, score) in self.tokens.iter().zip(&self.scores) {
            let pairs = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
            merges.extend(pairs.filter(|(a, b)| known.contains(a) && known.contains(b)).map(|(a, b)| (*score, a, b)));
        }
        merges.sort_by(|(one, a, _), (other, b, _)| other.total_cmp(one).then(b.len().cmp(&a.len())));
        merges.into_iter().map(|(_, a, b)| (a.to_string(), b.to_string())).collect()
    }

    fn bpe(&self, merges: Vec<(String, String)>) -> BpeBuilder {
        let ids: Vocab = self.tokens.iter().cloned().zip(0..).collect();
        BPE::builder().vocab_and_merges(ids, merges)
    }

    /// Special and added tokens, and what stands before and after a text.
    fn finish(&self, mut made: tokenizers::Tokenizer, add_bos: bool) -> tokenizers::Result<tokenizers::Tokenizer> {
        let named = [self.bos, self.eos, self.unknown];
        let kind = |id: usize| match self.types.get(id) {
            Some(&kind) => kind,
            None if named.contains(&Some(id)) => CONTROL,
            None => 0,
        };
        let added = self.tokens.iter().enumerate().filter_map(|(id, token)| match kind(id) {
            CONTROL | UNKNOWN => Some(AddedToken::from(token.as_str(), true)),
            USER_DEFINED => Some(AddedToken::from(token.as_str(), false).normalized(false)),
            _ => None,
        });
        made.add_tokens(added)?;
        let bos = self.bos.filter(|_| self.add_bos.unwrap_or(add_bos));
        let around = [bos, self.eos.filter(|_| self.add_eos)];
        if around != [None, None] {
            let [before, after] = around.map(|id| self.token(id));
            let single: Vec<&str> = before.into_iter().chain(["$A"]).chain(after).collect();
            let special: Vec<(String, u32)> = around
                .into_iter()
                .flatten()
                .filter_map(|id| Some((self.token(Some(id))?.to_string(), u32::try_from(id).ok()?)))
                .collect();
            let template = TemplateProcessing::builder().try_single(single)?.special_tokens(special).build();
            made.with_post_processor(Some(template.map_err(|e| e.to_string())?));
        }
        Ok(made)
    }
}
