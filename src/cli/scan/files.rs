//! Which files are scanned, and how: whatever the file system holds, each entry ends as a scan or as a reason why not.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::record::FileScan;
use crate::scan::{ScanOptions, decode, ruff_on_other_encodings, scan_named, unparsed};

/// Longer files are not read to their end: a device or a pipe may have none.
const MAX_READ: u64 = 64 << 20;
/// Files held in memory at a time.
const BATCH: usize = 256;

/// A file to scan, or the reason why it cannot be.
pub(super) struct Entry {
    path: PathBuf,
    trouble: Option<String>,
}

/// What to scan, sorted; a folder gives all `.py` files below it. Links to folders are not followed, so that none is
/// entered twice or for ever; a link that leads nowhere and a folder that cannot be listed are entries with a reason.
/// A path that was named and is not there is an error.
pub(super) fn python_files(paths: &[PathBuf]) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut folders = Vec::new();
    for path in paths {
        let metadata = std::fs::metadata(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
        if metadata.is_dir() {
            folders.push(path.clone());
        } else {
            entries.push(Entry { path: path.clone(), trouble: None });
        }
    }
    while let Some(folder) = folders.pop() {
        let listed = std::fs::read_dir(&folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let listed = listed.unwrap_or_else(|e| {
            entries.push(Entry { path: folder.clone(), trouble: Some(format!("cannot be listed: {e}")) });
            Vec::new()
        });
        for entry in listed {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "py") {
                match std::fs::metadata(&path) {
                    Ok(metadata) if metadata.is_file() => entries.push(Entry { path, trouble: None }),
                    // A link to a folder, a pipe, a socket.
                    Ok(_) => {}
                    Err(e) => entries.push(Entry { path, trouble: Some(format!("cannot be read: {e}")) }),
                }
            }
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    entries.dedup_by(|a, b| a.path == b.path);
    Ok(entries)
}

/// Scans them, a batch in memory at a time.
pub(super) fn scan(entries: &[Entry], options: &ScanOptions) -> Vec<FileScan> {
    let mut scans = Vec::with_capacity(entries.len());
    let not_utf8 = ruff_on_other_encodings(options);
    for batch in entries.chunks(BATCH) {
        let read: Vec<_> = batch.iter().map(read).collect();
        let texts: Vec<_> = read.iter().map(|bytes| bytes.as_ref().ok().and_then(|b| decode(b))).collect();
        let names: Vec<String> = batch.iter().map(|entry| entry.path.display().to_string()).collect();
        let sources: Vec<(&str, &str)> =
            names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_deref().unwrap_or_default())).collect();
        let scanned = scan_named(&sources, options);
        for (((mut scan, bytes), text), name) in scanned.into_iter().zip(&read).zip(&texts).zip(&names) {
            match bytes {
                Err(trouble) => scan = FileScan { not_scanned: trouble.clone(), ..FileScan::default() },
                // Lines can be counted without the right encoding.
                Ok(bytes) if text.is_none() => {
                    scan = unparsed(&String::from_utf8_lossy(bytes));
                    scan.not_scanned = "is not text in UTF-8 or in the encoding that it declares".into();
                }
                Ok(_) => {}
            }
            if bytes.as_ref().is_ok_and(|bytes| std::str::from_utf8(bytes).is_err()) {
                scan.ruff.clone_from(&not_utf8);
            }
            scan.path.clone_from(name);
            scans.push(scan);
        }
    }
    scans
}

fn read(entry: &Entry) -> Result<Vec<u8>, String> {
    if let Some(trouble) = &entry.trouble {
        return Err(trouble.clone());
    }
    let bytes = read_at_most(&entry.path).map_err(|e| format!("cannot be read: {e}"))?;
    if bytes.len() as u64 > MAX_READ {
        return Err(format!("is longer than {} MiB, the limit", MAX_READ >> 20));
    }
    Ok(bytes)
}

fn read_at_most(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_READ + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
