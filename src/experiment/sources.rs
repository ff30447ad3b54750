//! Data by its name: files, and data sets and suites of the binary.

use std::path::Path;

use super::plan::EMBEDDED;
use crate::data::contrast::ContrastPair;
use crate::data::embedded;
use crate::error::{Error, Result};
use crate::eval::suite::Suite;
use crate::fsio;

/// A file's bytes, or those of a data set of the binary.
pub fn source(spec: &str) -> Result<(String, Vec<u8>)> {
    let Some(name) = spec.strip_prefix(EMBEDDED) else {
        return Ok((spec.to_string(), fsio::read_bytes(Path::new(spec))?));
    };
    let path = if name.contains('/') { name.to_string() } else { format!("datasets/{name}") };
    let Some(bytes) = embedded::file(&path) else {
        let known = embedded::files_under("datasets");
        let known: Vec<&str> = known.iter().filter_map(|(path, _)| path.strip_prefix("datasets/")).collect();
        let message = format!("there is no embedded data set `{name}`; there are {}", known.join(", "));
        return Err(Error::usage(message));
    };
    Ok((format!("{EMBEDDED}{path}"), bytes.to_vec()))
}

/// Name of a data set: `embedded:contrast.jsonl` becomes `contrast`.
pub fn set_name(spec: &str) -> String {
    let path = Path::new(spec.strip_prefix(EMBEDDED).unwrap_or(spec));
    path.file_stem().map_or_else(|| spec.to_string(), |stem| stem.to_string_lossy().into_owned())
}

/// A suite by file, or by name from the edition of the model at hand.
pub fn read_suite(spec: &str, organism: bool) -> Result<Suite> {
    let (name, bytes) = suite_source(spec, organism)?;
    Suite::parse(&name, text(&name, &bytes)?)
}

/// Name and path of each embedded suite of an edition (`eval`, `eval/organism`): its YAML files, and its JSON Lines, which are
/// sets of pairs.
pub fn embedded_suites(folder: &str) -> Vec<(String, String)> {
    let files = embedded::files_under(folder).into_iter();
    let suites = files.filter_map(|(path, _)| {
        let name = path.strip_prefix(folder)?.strip_prefix('/')?;
        let stem = [".yaml", ".jsonl"].iter().find_map(|end| name.strip_suffix(end))?;
        (!stem.contains('/')).then(|| (stem.to_string(), path.clone()))
    });
    suites.collect()
}

/// Name and bytes of a suite: a file, or a suite of this edition by its name.
pub fn suite_source(spec: &str, organism: bool) -> Result<(String, Vec<u8>)> {
    if Path::new(spec).is_file() {
        return source(spec);
    }
    if embedded::file(spec).is_some() {
        return source(&format!("{EMBEDDED}{spec}"));
    }
    let folder = if organism { "eval/organism" } else { "eval" };
    let spellings = [spec.to_string(), spec.replace('-', "_"), spec.replace('_', "-")];
    let known = embedded_suites(folder);
    if let Some((_, path)) = known.iter().find(|(name, _)| spellings.contains(name)) {
        return source(&format!("{EMBEDDED}{path}"));
    }
    let known: Vec<String> = known.into_iter().map(|(name, _)| name).collect();
    Err(Error::usage(format!("there is no suite `{spec}`: neither a file nor one of {}", known.join(", "))))
}

/// Contrast pairs: a JSONL file, or `embedded:NAME`.
pub fn read_pairs(spec: &str) -> Result<Vec<ContrastPair>> {
    let (name, bytes) = source(spec)?;
    contrast_pairs(&name, &bytes)
}

/// Contrast pairs from the bytes of a JSONL file; `name` is what errors call it.
pub fn contrast_pairs(name: &str, bytes: &[u8]) -> Result<Vec<ContrastPair>> {
    let text = text(name, bytes)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|e| Error::line(name, index + 1, format!("not valid: {e}")))
        })
        .collect()
}

/// Bytes as text; `name` is what the error calls the file.
pub fn text<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|e| Error::file(name, format!("is not UTF-8: {e}")))
}
