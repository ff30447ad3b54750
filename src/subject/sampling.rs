//! How the authors of a model would have its answers sampled.

use std::path::Path;

use serde_json::Value;

use super::{ORGANISM, folder_of};
use crate::error::{Error, Result};
use crate::fsio;
use crate::generate::sampling::Sampling;
use crate::model::source::gguf::{Metadata, is_gguf, metadata_of};
use crate::model::source::hub::Part;
use crate::progress::Progress;

/// Where a GGUF file's metadata keeps its authors' sampling settings.
const PREFIX: &str = "general.sampling.";

/// The keys there that are obeyed, or that say something only beside one that is refused.
const KNOWN: [&str; 9] = [
    "temp",
    "top_k",
    "top_p",
    "min_p",
    "penalty_repeat",
    "penalty_last_n",
    "xtc_threshold",
    "mirostat_tau",
    "mirostat_eta",
];

/// Keys there that would change the answers and are not supported, with the value that changes nothing.
const UNSUPPORTED: [(&str, f64); 4] =
    [("xtc_probability", 0.0), ("mirostat", 0.0), ("penalty_freq", 0.0), ("penalty_present", 0.0)];

/// Keys of a generation_config.json that say how answers are drawn; a file without any is silent on it.
const SPEAKING: [&str; 6] = ["do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"];

/// The sampling settings of a model's generation_config.json, or of its GGUF file's metadata (`general.sampling.*`) where no
/// such file beside it speaks of sampling.
///
/// # Errors
/// A model without either, or a setting that is not supported.
pub fn model_sampling(spec: &str, revision: Option<&str>, progress: Progress) -> Result<Sampling> {
    if spec != ORGANISM {
        let file = Path::new(spec);
        let bare = is_gguf(file) && revision.is_none();
        let folder = match bare {
            true => file.parent().unwrap_or(Path::new("")).to_path_buf(),
            false => folder_of(spec, revision, Part::All, progress)?,
        };
        let path = folder.join("generation_config.json");
        if bare && !speaks(&path)? {
            let metadata = metadata_of(file)?;
            if let Some(sampling) = sampling_of_gguf(&metadata).map_err(|why| Error::file(file, why))? {
                return Ok(sampling);
            }
        }
        if path.exists() {
            return Sampling::from_generation_config(&path);
        }
    }
    Err(Error::usage(format!(
        "the model `{spec}` has no generation_config.json to read sampling settings from; give --temperature, --top-k, \
         --top-p and the like instead"
    )))
}

/// Whether a generation_config.json is there and says how answers are drawn.
pub(super) fn speaks(path: &Path) -> Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    let json: Value = fsio::read_json(path)?;
    Ok(SPEAKING.iter().any(|key| !json[*key].is_null()))
}

/// The settings in a GGUF file's metadata; `None` if it has none. As converters copy them from a generation_config.json, they
/// are applied in its order: penalty, temperature, top-k, top-p, min-p.
pub(super) fn sampling_of_gguf(metadata: &Metadata) -> std::result::Result<Option<Sampling>, String> {
    let keys = metadata.keys_after(PREFIX);
    if keys.is_empty() {
        return Ok(None);
    }
    let refused = |key: &str, why: &str| {
        Err(format!("sets `{PREFIX}{key}`, {why}; give the sampling settings one by one instead"))
    };
    let number = |key: &str| metadata.float(&format!("{PREFIX}{key}"));
    let whole = |key: &str| metadata.integer(&format!("{PREFIX}{key}"));
    for key in keys {
        match UNSUPPORTED.iter().find(|(known, _)| *known == key) {
            Some((_, neutral)) if metadata.any_number(&format!("{PREFIX}{key}"))? == Some(*neutral) => {}
            None if KNOWN.contains(&key) => {}
            _ => return refused(key, "which is not supported"),
        }
    }
    let penalty = number("penalty_repeat")?.unwrap_or(1.0);
    if penalty != 1.0 && whole("penalty_last_n")?.is_some_and(|last| last != -1) {
        return refused("penalty_last_n", "and here the penalty is on all tokens of prompt and answer (-1)");
    }
    let usual = Sampling::default();
    let sampling = Sampling {
        // llama.cpp takes the likeliest token at 0 and below.
        temperature: number("temp")?.unwrap_or(usual.temperature).max(0.0),
        top_k: whole("top_k")?.map_or(usual.top_k, |k| usize::try_from(k).unwrap_or(0)),
        top_p: number("top_p")?.unwrap_or(usual.top_p),
        min_p: number("min_p")?.unwrap_or(usual.min_p),
        repetition_penalty: penalty,
        stop: usual.stop,
    };
    sampling.checked().map(Some).map_err(|e| format!("`{PREFIX}*`: {e}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use candle_core::quantized::gguf_file::Value;

    use super::*;

    fn read(entries: &[(&str, Value)]) -> std::result::Result<Option<Sampling>, String> {
        let mut metadata = Metadata::default();
        entries.iter().for_each(|(key, value)| metadata.insert(&format!("{PREFIX}{key}"), value.clone()));
        sampling_of_gguf(&metadata)
    }

    #[test]
    fn what_the_metadata_says_is_obeyed() {
        let said = [
            ("temp", Value::F32(0.6)),
            ("top_k", Value::I32(20)),
            ("top_p", Value::F32(0.95)),
            ("min_p", Value::F32(0.0)),
            ("penalty_repeat", Value::F32(1.05)),
            ("penalty_last_n", Value::I32(-1)),
            ("xtc_probability", Value::F32(0.0)),
            ("xtc_threshold", Value::F32(0.1)),
            ("mirostat", Value::I32(0)),
        ];
        let expected =
            Sampling { temperature: 0.6, top_k: 20, top_p: 0.95, repetition_penalty: 1.05, ..Sampling::default() };
        assert_eq!(read(&said).unwrap(), Some(expected));
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[("temp", Value::F32(-1.0))]).unwrap().unwrap().temperature, 0.0);
        assert_eq!(read(&[("top_k", Value::I32(-1))]).unwrap(), Some(Sampling::default()));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_its_key() {
        for (entries, words) in [
            (vec![("xtc_probability", Value::F32(0.5))], "general.sampling.xtc_probability`, which is not supported"),
            (vec![("mirostat", Value::I32(2))], "general.sampling.mirostat`, which is not supported"),
            (vec![("sequence", Value::String("top_k;temperature".into()))], "general.sampling.sequence`, which is not"),
            (vec![("novel", Value::U32(1))], "general.sampling.novel`, which is not supported"),
            (
                vec![("penalty_repeat", Value::F32(1.1)), ("penalty_last_n", Value::I32(64))],
                "general.sampling.penalty_last_n`, and here the penalty is on all tokens",
            ),
            (vec![("top_p", Value::F32(1.5))], "top_p is 1.5"),
            (vec![("temp", Value::String("hot".into()))], "`general.sampling.temp` in its metadata is not a number"),
            (vec![("top_k", Value::F32(2.5))], "`general.sampling.top_k` in its metadata is not a whole number"),
        ] {
            let why = read(&entries).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }
}
