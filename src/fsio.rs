//! The only place that writes files: whole or not at all, except logs, which grow record by record.
//!
//! A file is written beside its name, flushed to disk and renamed over it; a folder is built under a
//! temporary name and renamed, and taken away under one. A crash leaves the old version or none, never half of one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Reads a text file; one that is not UTF-8 is an error.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))
}

/// Reads all bytes of a file; an error names the file.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))
}

/// Reads a JSON file; an error names the file and the line.
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
    fs::create_dir_all(path).map_err(|e| Error::file(path, format!("the folder cannot be created: {e}")))
}

/// Makes a folder and all in it readable to every user, whatever the process's file mode mask took away.
#[cfg(unix)]
pub fn make_readable(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |e: std::io::Error| Error::file(dir, format!("cannot be made readable: {e}"));
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            make_readable(&path)?;
        } else {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(failed)?;
        }
    }
    Ok(())
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
        fs::rename(&temporary, path)?;
        sync_folder_of(path)
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
    write_atomic(path, &json_lines(values)?)
}

/// Encodes values as JSON Lines, one value per line.
pub fn json_lines<T: Serialize>(values: &[T]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for value in values {
        serde_json::to_writer(&mut bytes, value).map_err(Error::internal)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Builds a folder under a temporary name and renames it into place; an older one is replaced.
pub fn write_dir_atomic(path: &Path, build: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temporary = sibling(path);
    remove_dir(&temporary)?;
    create_dir(&temporary)?;
    let built = build(&temporary).and_then(|()| {
        remove_dir(path)?;
        fs::rename(&temporary, path)
            .and_then(|()| sync_folder_of(path))
            .map_err(|e| Error::file(path, format!("cannot be put in place: {e}")))
    });
    if built.is_err() {
        let _ = fs::remove_dir_all(&temporary);
    }
    built
}

/// Builds a folder that several processes may want at the same time, unless it is there and `whole`: one builds it, the
/// others wait and take what it has built.
pub fn build_once(path: &Path, whole: impl Fn(&Path) -> bool, build: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if whole(path) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let at = path.with_file_name(format!("{name}.lock"));
    let failed = |e: std::io::Error| Error::file(&at, format!("cannot be written: {e}"));
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&at).map_err(failed)?;
    // Some file systems have no locks: two may build then, and the later folder takes the place of the earlier.
    let _ = lock.lock();
    if whole(path) {
        return Ok(());
    }
    // What a crash left under the names of other processes.
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for half in list(parent, "tmp")? {
        if half.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!(".{name}."))) {
            remove_dir(&half)?;
        }
    }
    write_dir_atomic(path, build)
}

/// Removes a folder if it is there: out of sight at once, so that a crash leaves no half of it under its name.
pub fn remove_dir(path: &Path) -> Result<()> {
    if path.is_file() {
        return Err(Error::file(path, "is a file where a folder is expected"));
    }
    let doomed = sibling(&path.with_extension("removed"));
    // What a crash left; a process id may come back.
    let _ = fs::remove_dir_all(&doomed);
    match fs::rename(path, &doomed).and_then(|()| fs::remove_dir_all(&doomed)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file(path, format!("cannot be removed: {e}"))),
        _ => Ok(()),
    }
}

/// Removes what a crash left in a folder of files and folders that were still being written or removed.
pub fn remove_leftovers(dir: &Path) -> Result<()> {
    for path in list(dir, "tmp")? {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden && path.is_dir() {
            remove_dir(&path)?;
        } else if hidden {
            fs::remove_file(&path).map_err(|e| Error::file(&path, format!("cannot be removed: {e}")))?;
        }
    }
    Ok(())
}

/// A file that grows by whole records and is claimed by one process at a time.
pub struct Appender {
    path: PathBuf,
    file: File,
}

impl Appender {
    /// Opens for appending, emptied first.
    ///
    /// # Errors
    /// Also where another process has it open in this way.
    pub fn restart(path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::file(path, format!("cannot be opened for writing: {e}"));
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(Error::file(path, "another process is writing it: is the same command still running?"));
            }
            // Some file systems have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let mut empty = Self { path: path.to_path_buf(), file };
        empty.replace(&[])?;
        Ok(empty)
    }

    /// Puts this in the place of all that it holds.
    pub fn replace(&mut self, records: &[u8]) -> Result<()> {
        self.file.set_len(0).map_err(|e| Error::file(&self.path, format!("cannot be emptied: {e}")))?;
        self.append(records)
    }

    /// Appends a record in a single write.
    pub fn append(&mut self, record: &[u8]) -> Result<()> {
        self.file.write_all(record).map_err(|e| Error::file(&self.path, format!("cannot be written: {e}")))
    }
}

/// A file that is downloaded in pieces and gets its final name once it is complete.
pub struct Partial {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Partial {
    /// Opens the file that an earlier try left, or creates it.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent() {
            create_dir(parent)?;
        }
        let opened = (|| {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            let len = file.metadata()?.len();
            Ok((file, len))
        })();
        let (file, len) = opened.map_err(|e: std::io::Error| Error::file(path, format!("cannot be written: {e}")))?;
        Ok(Self { path: path.to_path_buf(), file, len })
    }

    /// Size of the file in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Empties the file, to begin from its first byte.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|e| Error::file(&self.path, format!("cannot be emptied: {e}")))?;
        self.len = 0;
        Ok(())
    }

    /// Writes the next bytes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::file(&self.path, format!("cannot be written: {e}")))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// SHA-256 of the bytes written so far.
    pub fn sha256(&self) -> Result<String> {
        sha256_file(&self.path)
    }

    /// Flushes it to disk and gives it its name.
    pub fn finish(self, place: &Path) -> Result<()> {
        let done = self.file.sync_all().and_then(|()| fs::rename(&self.path, place));
        done.map_err(|e| Error::file(place, format!("cannot be written: {e}")))
    }
}

/// Waits until no other process holds this lock; it is held until what comes back is dropped.
pub fn lock(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    let failed = |e: std::io::Error| Error::file(path, format!("cannot be opened for writing: {e}"));
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    // Some file systems have no locks.
    let _ = file.lock();
    Ok(file)
}

/// Makes `place` a relative link to a file (its new name, where a system has no links).
pub fn link(file: &Path, place: &Path) -> Result<()> {
    let failed = |e: std::io::Error| Error::file(place, format!("cannot be made: {e}"));
    if let Some(parent) = place.parent() {
        create_dir(parent)?;
    }
    #[cfg(unix)]
    {
        let common = file.components().zip(place.components()).take_while(|(a, b)| a == b).count();
        let up = place.components().count().saturating_sub(common + 1);
        let target: PathBuf =
            std::iter::repeat_n(std::path::Component::ParentDir, up).chain(file.components().skip(common)).collect();
        // A link into nowhere is what a removed file left.
        if place.is_symlink() {
            fs::remove_file(place).map_err(failed)?;
        }
        std::os::unix::fs::symlink(target, place).map_err(failed)
    }
    #[cfg(not(unix))]
    fs::rename(file, place).map_err(failed)
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
        self.file
            .write_all(&json_lines(values)?)
            .map_err(|e| Error::file(&self.path, format!("cannot be written: {e}")))
    }
}

/// SHA-256 of these bytes, as lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// SHA-256 of a file, read a piece at a time.
pub fn sha256_file(path: &Path) -> Result<String> {
    let hashed = (|| {
        let (mut file, mut hash, mut piece) = (File::open(path)?, Sha256::new(), vec![0; 1 << 18]);
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(hash.finalize()),
                read => hash.update(&piece[..read]),
            }
        }
    })();
    let hash = hashed.map_err(|e: std::io::Error| Error::file(path, format!("cannot be read: {e}")))?;
    Ok(hash.iter().map(|b| format!("{b:02x}")).collect())
}

/// Flushes a folder's list of names, without which a rename may be lost with the power. Not every system can.
fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(parent)?.sync_all() } else { Ok(()) }
}

fn sibling(path: &Path) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_that_fails_half_way_leaves_the_old_one_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("result");
        write_dir_atomic(&dir, |inside| write_atomic(&inside.join("a"), b"old")).unwrap();
        let failed = write_dir_atomic(&dir, |inside| {
            write_atomic(&inside.join("a"), b"new")?;
            Err(Error::usage("half way"))
        });
        assert!(failed.is_err());
        assert_eq!(
            (names(place.path()), read_text(&dir.join("a")).unwrap()),
            (vec!["result".to_string()], "old".into())
        );
        write_dir_atomic(&dir, |inside| write_atomic(&inside.join("b"), b"new")).unwrap();
        assert_eq!((names(place.path()), names(&dir)), (vec!["result".to_string()], vec!["b".to_string()]));
        remove_dir(&dir).unwrap();
        remove_dir(&dir).unwrap();
        assert!(names(place.path()).is_empty());
        write_atomic(&dir, b"a file").unwrap();
        assert!(remove_dir(&dir).is_err(), "a file is not taken for a folder");
    }

    #[test]
    fn a_folder_that_several_want_is_built_by_one_of_them() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("shared");
        fs::create_dir(place.path().join(".shared.1.tmp")).unwrap();
        let built = std::sync::atomic::AtomicU32::new(0);
        let whole = |dir: &Path| dir.join("a").is_file();
        let build = |inside: &Path| {
            built.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::thread::sleep(std::time::Duration::from_millis(100));
            write_atomic(&inside.join("a"), b"x")
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| build_once(&path, whole, build).unwrap());
            }
        });
        assert_eq!((built.into_inner(), names(place.path())), (1, vec!["shared".into(), "shared.lock".into()]));
        // A half of one is built again, and a build that fails leaves none.
        fs::remove_file(path.join("a")).unwrap();
        assert!(build_once(&path, whole, |_| Err(Error::usage("offline"))).is_err());
        build_once(&path, whole, |inside| write_atomic(&inside.join("a"), b"y")).unwrap();
        assert_eq!(read_text(&path.join("a")).unwrap(), "y");
    }

    #[test]
    fn leftovers_of_a_crash_are_removed_and_nothing_else_is() {
        let place = tempfile::tempdir().unwrap();
        for name in [".checkpoint-4.17.tmp/a", ".checkpoint-2.removed.17.tmp/a", "checkpoint-4/a", "mine.tmp/a"] {
            write_atomic(&place.path().join(name), b"x").unwrap();
        }
        for name in [".state.json.17.tmp", ".hidden", "notes.tmp"] {
            write_atomic(&place.path().join(name), b"x").unwrap();
        }
        remove_leftovers(place.path()).unwrap();
        assert_eq!(names(place.path()), [".hidden", "checkpoint-4", "mine.tmp", "notes.tmp"]);
    }

    #[test]
    fn a_file_in_pieces_goes_on_where_it_was_and_is_linked_to() {
        let place = tempfile::tempdir().unwrap();
        let (half, whole) = (place.path().join("blobs/a.incomplete"), place.path().join("blobs/a"));
        Partial::open(&half).unwrap().append(b"one ").unwrap();
        let mut part = Partial::open(&half).unwrap();
        assert_eq!(part.len(), 4);
        part.append(b"two").unwrap();
        assert_eq!(part.sha256().unwrap(), sha256(b"one two"));
        part.finish(&whole).unwrap();
        let at = place.path().join("snapshots/c/sub/name");
        link(&whole, &at).unwrap();
        link(&whole, &at).unwrap();
        assert_eq!((read_text(&at).unwrap().as_str(), half.exists()), ("one two", false));
        #[cfg(unix)]
        assert_eq!(fs::read_link(&at).unwrap(), Path::new("../../../blobs/a"));
    }

    #[test]
    fn an_appended_file_is_claimed_until_it_is_closed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let mut first = Appender::restart(&path).unwrap();
        first.append(b"one\n").unwrap();
        assert!(Appender::restart(&path).err().unwrap().to_string().contains("another process"));
        assert_eq!(read_text(&path).unwrap(), "one\n", "the refused one has not emptied it");
        drop(first);
        Appender::restart(&path).unwrap().append(b"two\n").unwrap();
        assert_eq!(read_text(&path).unwrap(), "two\n");
    }
}
