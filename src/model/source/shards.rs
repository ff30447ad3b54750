//! The safetensors of a model: which files they are, what their headers say, and their tensors one after the other.
//!
//! A file is mapped, never read whole: its header is checked against its size before anything is made of it, and each
//! tensor's pages are given back once it has been copied, so that a model is in memory once.

use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::fsio;

/// File name where all weights are in one file.
pub const SINGLE: &str = "model.safetensors";
/// File name of the index where weights are in several files (shards).
pub const INDEX: &str = "model.safetensors.index.json";

/// What a header says of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Name in the checkpoint, e.g. `model.layers.0.mlp.up_proj.weight`.
    pub name: String,
    /// Type in the file.
    pub dtype: Dtype,
    /// Shape in the file, row-major.
    pub shape: Vec<usize>,
    /// Where its bytes are in the file.
    pub range: Range<usize>,
}

impl Entry {
    /// Number of values.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The same type in candle, where the decoder can be made of it.
    pub fn candle_dtype(&self) -> Option<DType> {
        match self.dtype {
            Dtype::F32 => Some(DType::F32),
            Dtype::BF16 => Some(DType::BF16),
            Dtype::F16 => Some(DType::F16),
            Dtype::F64 => Some(DType::F64),
            _ => None,
        }
    }

    /// A copy in memory, as it is stored.
    pub fn tensor(&self, bytes: &[u8]) -> Result<Tensor> {
        let Some(dtype) = self.candle_dtype() else {
            return Err(Error::usage(format!("`{}` is {:?}; F32, BF16 and F16 are read", self.name, self.dtype)));
        };
        Ok(Tensor::from_raw_buffer(bytes, dtype, &self.shape, &Device::Cpu)?)
    }
}

/// The safetensors of a folder: one file, or the shards of its index.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let index = dir.join(INDEX);
    if index.exists() {
        let names = shard_names(&fsio::read_json(&index)?).map_err(|why| Error::file(&index, why))?;
        return Ok(names.into_iter().map(|name| dir.join(name)).collect());
    }
    if dir.join(SINGLE).exists() {
        return Ok(vec![dir.join(SINGLE)]);
    }
    let pickle = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model.pt"];
    let pickle = pickle.iter().any(|name| dir.join(name).exists());
    let why = if pickle { "; pickle files are refused, convert them to safetensors" } else { "" };
    Err(Error::file(dir, format!("has no {SINGLE}{why}")))
}

/// The shards that an index names, sorted; each is a safetensors file beside it.
pub fn shard_names(index: &serde_json::Value) -> Result<Vec<String>, String> {
    let map = index["weight_map"].as_object().ok_or("has no `weight_map`")?;
    let mut names: Vec<String> = map.values().filter_map(|name| Some(name.as_str()?.to_string())).collect();
    names.sort_unstable();
    names.dedup();
    // A shard is a file of this folder: a name that leads elsewhere is not followed.
    let outside = |name: &&String| name.contains(['/', '\\', ':']) || name.contains("..");
    if let Some(bad) = names.iter().find(outside) {
        return Err(format!("names the shard `{bad}`, which is not a file of this folder"));
    }
    match names.iter().find(|name| !name.ends_with(".safetensors")) {
        Some(bad) => Err(format!("names the shard `{bad}`, which is not safetensors; pickle files are refused")),
        None if names.is_empty() => Err("names no shard".into()),
        None => Ok(names),
    }
}

/// A file that is mapped, and what its header says.
pub struct Shard {
    path: PathBuf,
    map: Mmap,
    /// Its tensors in the order of the file.
    pub entries: Vec<Entry>,
}

impl Shard {
    /// Maps a file and checks its header.
    pub fn open(path: &Path) -> Result<Self> {
        let unreadable = |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"));
        let file = std::fs::File::open(path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.len() == 0 {
            return Err(Error::file(path, "is empty"));
        }
        // SAFETY: the map is only read. Whoever shortens the file meanwhile ends the program (SIGBUS), as with every
        // program that maps its input.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        // Only a hint: larger pieces are read ahead.
        #[cfg(unix)]
        let _ = map.advise(memmap2::Advice::Sequential);
        let entries = entries(path, &map)?;
        Ok(Self { path: path.to_path_buf(), map, entries })
    }

    /// Hands out every tensor's bytes in the order of the file, and comes back with the SHA-256 of the whole file.
    pub fn read(&self, mut each: impl FnMut(&Entry, &[u8]) -> Result<()>) -> Result<String> {
        read(&self.path, &self.map, &self.entries, |entry, bytes| {
            each(entry, bytes)?;
            #[cfg(unix)]
            // SAFETY: the map is of a file and never written to: what is given back is read again if it is asked for.
            // Should the system refuse, the pages merely stay.
            let _ = unsafe {
                let (start, length) = (entry.range.start, entry.range.len());
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, length)
            };
            Ok(())
        })
    }
}

/// Hands out every tensor of several files and comes back with the model's hash: that of its one file, or of its files'
/// hashes behind each other.
pub fn sha256_of(shards: &[Shard], mut each: impl FnMut(&Entry, &[u8]) -> Result<()>) -> Result<String> {
    let hashes = shards.iter().map(|shard| shard.read(&mut each)).collect::<Result<Vec<_>>>()?;
    match hashes.as_slice() {
        [one] => Ok(one.clone()),
        several => Ok(fsio::sha256(several.concat().as_bytes())),
    }
}

/// [`Shard::read`] of bytes at hand. `name` is for messages.
pub fn read(
    name: &Path,
    bytes: &[u8],
    entries: &[Entry],
    mut each: impl FnMut(&Entry, &[u8]) -> Result<()>,
) -> Result<String> {
    let mut hash = Sha256::new();
    let mut done = 0;
    for entry in entries {
        hash.update(&bytes[done..entry.range.end]);
        done = entry.range.end.max(done);
        each(entry, &bytes[entry.range.clone()]).map_err(|e| Error::file(name, e))?;
    }
    hash.update(&bytes[done..]);
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// Reads and checks a header: every tensor has the size of its shape, they follow each other without a gap, and the file
/// ends with the last.
pub fn entries(name: &Path, bytes: &[u8]) -> Result<Vec<Entry>> {
    let refused = |why: String| Error::file(name, why);
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(refused("is a Git LFS pointer, not the weights: run `git lfs pull` to download them".into()));
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
        return Err(refused("is a pickle file despite its name; pickle files are refused".into()));
    }
    let length = bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
    let header = length.and_then(|length| bytes.get(8..8usize.checked_add(usize::try_from(length).ok()?)?));
    let Some(header) = header else {
        return Err(refused(format!(
            "is not a safetensors file, or ends within its header: it has {} bytes",
            bytes.len()
        )));
    };
    let invalid = |why: &dyn std::fmt::Display| refused(format!("has a header that is not valid: {why}"));
    let start = 8 + header.len();
    let metadata = match SafeTensors::read_metadata(bytes) {
        Ok((_, metadata)) => metadata,
        Err(SafeTensorError::MetadataIncompleteBuffer) => {
            let metadata: Metadata = serde_json::from_slice(header).map_err(|e| invalid(&e))?;
            let (has, says) = (bytes.len() - start, metadata.data_len());
            let what = if has < says { "is cut off" } else { "does not fit its header" };
            return Err(refused(format!("{what}: the header describes {says} bytes of weights, the file has {has}")));
        }
        Err(e) => return Err(invalid(&e)),
    };
    let mut entries: Vec<Entry> = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| Entry {
            name,
            dtype: info.dtype,
            shape: info.shape.clone(),
            range: start + info.data_offsets.0..start + info.data_offsets.1,
        })
        .collect();
    entries.sort_by(|a, b| (a.range.start, a.range.end, &a.name).cmp(&(b.range.start, b.range.end, &b.name)));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 1);
        bytes
    }

    fn refused(bytes: &[u8], words: &str) {
        let error = entries(Path::new("w.safetensors"), bytes).unwrap_err().to_string();
        assert!(error.contains("w.safetensors") && error.contains(words), "{error}");
    }

    const TWO: &str = r#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F16","shape":[3],"data_offsets":[8,14]}}"#;

    #[test]
    fn tensors_come_in_the_order_of_the_file_and_the_hash_is_of_all_of_it() {
        let bytes = file(TWO, 14);
        let entries = entries(Path::new("w"), &bytes).unwrap();
        let mut seen = Vec::new();
        let hash = read(Path::new("w"), &bytes, &entries, |entry, bytes| {
            seen.push((entry.name.clone(), entry.count(), bytes.len()));
            Ok(())
        });
        assert_eq!(hash.unwrap(), fsio::sha256(&bytes));
        assert_eq!(seen, [("b".to_string(), 2, 8), ("a".to_string(), 3, 6)]);
    }

    #[test]
    fn what_does_not_fit_its_header_is_refused() {
        refused(&file(TWO, 13), "is cut off: the header describes 14 bytes of weights, the file has 13");
        refused(&file(TWO, 15), "does not fit its header");
        refused(&file(&TWO.replace("[3]", "[4]"), 14), "not valid");
        refused(&file(&TWO.replace("[8,14]", "[9,15]"), 15), "not valid");
        refused(&file(&TWO.replace("[3]", "[9223372036854775807,9]"), 14), "not valid");
        refused(&file("[1, 2]", 0), "not valid");
    }

    #[test]
    fn what_is_no_safetensors_is_refused_by_what_it_is() {
        refused(b"PK\x03\x04 and the rest of a zip file", "is a pickle");
        refused(b"\x80\x02}q\x00 and the rest of a pickle", "is a pickle");
        refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull");
        refused(&u64::MAX.to_le_bytes(), "not a safetensors file");
        refused(b"short", "not a safetensors file");
    }

    #[test]
    fn an_index_names_safetensors_of_its_own_folder_only() {
        let index = |name: &str| serde_json::json!({"weight_map": {"x": "model-1.safetensors", "y": name}});
        assert_eq!(shard_names(&index("model-0.safetensors")).unwrap(), ["model-0.safetensors", "model-1.safetensors"]);
        for outside in ["../model-0.safetensors", "/etc/model-0.safetensors", "a\\b.safetensors", "c:d.safetensors"] {
            assert!(shard_names(&index(outside)).unwrap_err().contains("not a file of this folder"), "{outside}");
        }
        assert!(shard_names(&index("pytorch_model-0.bin")).unwrap_err().contains("pickle"));
        assert!(
            shard_names(&serde_json::json!({})).is_err()
                && shard_names(&serde_json::json!({"weight_map": {}})).is_err()
        );
    }
}
