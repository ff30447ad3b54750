//! The only place that writes files: whole or not at all, except JSONL logs, which grow line by line.
//!
//! A file is written beside its name, flushed to disk and renamed over it; a folder is built under a
//! temporary name and renamed. A crash leaves the old version or none, never half of the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Reads a UTF-8 file.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))
}

/// Reads a file's bytes.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))
}

/// Reads a JSON file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = read_text(path)?;
    serde_json::from_str(&text).map_err(|e| Error::line(path, e.line().max(1), format!("not valid: {e}")))
}

/// Reads a JSON Lines file; an empty line is skipped, a bad one named by its number.
pub fn read_jsonl<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = read_text(path)?;
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        rows.push(serde_json::from_str(line).map_err(|e| Error::line(path, index + 1, format!("not valid: {e}")))?);
    }
    Ok(rows)
}

/// The files of a folder with this extension, by name.
pub fn list(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(|e| Error::file(dir, format!("cannot be read: {e}")))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == extension));
    paths.sort();
    Ok(paths)
}

/// Makes a folder and its parents.
pub fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| Error::file(path, format!("the folder cannot be made: {e}")))
}

/// Writes a file whole: temporary name, flush to disk, rename.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        create_dir(parent)?;
    }
    let temporary = sibling(path);
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    written.map_err(|e| {
        // The half-written temporary file must not stay behind; its own removal may fail for the same reason.
        let _ = fs::remove_file(&temporary);
        Error::file(path, format!("cannot be written: {e}"))
    })
}

/// Writes a file that can be made again from others (extracted code, figures): not flushed to disk one by one.
pub fn write_derived(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    fs::write(path, bytes).map_err(|e| Error::file(path, format!("cannot be written: {e}")))
}

/// Writes a value as indented JSON with a final newline.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| Error::file(path, e))?;
    bytes.push(b'\n');
    write_atomic(path, &bytes)
}

/// Writes values as JSON Lines, whole.
pub fn write_jsonl<T: Serialize>(path: &Path, values: &[T]) -> Result<()> {
    let mut bytes = Vec::new();
    for value in values {
        serde_json::to_writer(&mut bytes, value).map_err(|e| Error::file(path, e))?;
        bytes.push(b'\n');
    }
    write_atomic(path, &bytes)
}

/// Builds a folder under a temporary name and renames it into place; an older one is replaced.
pub fn write_dir_atomic(path: &Path, build: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temporary = sibling(path);
    remove_dir(&temporary)?;
    create_dir(&temporary)?;
    let built = build(&temporary).and_then(|()| {
        remove_dir(path)?;
        fs::rename(&temporary, path).map_err(|e| Error::file(path, format!("cannot be put in place: {e}")))
    });
    if built.is_err() {
        let _ = fs::remove_dir_all(&temporary);
    }
    built
}

/// Removes a folder if it is there.
pub fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file(path, format!("cannot be removed: {e}"))),
        _ => Ok(()),
    }
}

/// A JSON Lines file that grows by whole lines, each flushed as it is made.
pub struct JsonlAppender {
    path: PathBuf,
    file: File,
}

impl JsonlAppender {
    /// Opens for appending. A last line without its newline is what a crash left: it is cut off first.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent() {
            create_dir(parent)?;
        }
        let opened = (|| {
            let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
            let mut whole = 0;
            let mut reader = BufReader::new(&file);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line)? > 0 {
                if line.ends_with(b"\n") {
                    whole += line.len() as u64;
                }
                line.clear();
            }
            file.set_len(whole)?;
            OpenOptions::new().append(true).open(path)
        })();
        let file = opened.map_err(|e| Error::file(path, format!("cannot be opened for writing: {e}")))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Appends values, one line each, in a single write.
    pub fn append<T: Serialize>(&mut self, values: &[T]) -> Result<()> {
        let mut bytes = Vec::new();
        for value in values {
            serde_json::to_writer(&mut bytes, value).map_err(|e| Error::file(&self.path, e))?;
            bytes.push(b'\n');
        }
        self.file.write_all(&bytes).map_err(|e| Error::file(&self.path, format!("cannot be written: {e}")))
    }
}

/// Lower-case hexadecimal SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// SHA-256 of a file.
pub fn sha256_file(path: &Path) -> Result<String> {
    Ok(sha256(&read_bytes(path)?))
}

fn sibling(path: &Path) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}
