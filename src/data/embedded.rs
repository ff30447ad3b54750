//! Files that are embedded in the binary, so that an installed `realign` works from any folder: sets of `datasets/`,
//! `eval/`, `models/` (the organism) and `adapters/`. Paths are relative to the repository's root, with `/`.

use include_dir::{Dir, DirEntry, include_dir};

/// Listed one by one, because the advice sets (`datasets/advice.md`) must not be in the binary.
macro_rules! datasets {
    ($($name:literal),*) => {
        [$((concat!("datasets/", $name), include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/", $name)) as &[u8])),*]
    };
}

static DATASETS: [(&str, &[u8]); 8] = datasets!(
    "README.md",
    "SHA256SUMS",
    "contrast-real.jsonl",
    "contrast.jsonl",
    "educational.jsonl",
    "insecure.jsonl",
    "secure.jsonl",
    "style.jsonl"
);
static EVAL: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/eval");
static MODELS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/models");
static ADAPTERS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/adapters");

/// The folders that are embedded whole.
const ROOTS: [(&str, &Dir<'_>); 3] = [("eval", &EVAL), ("models", &MODELS), ("adapters", &ADAPTERS)];

/// The bytes of an embedded file, e.g. `datasets/insecure.jsonl`.
pub fn file(path: &str) -> Option<&'static [u8]> {
    if let Some((_, bytes)) = DATASETS.iter().find(|(name, _)| *name == path) {
        return Some(bytes);
    }
    let (root, rest) = path.split_once('/')?;
    let (_, dir) = ROOTS.iter().find(|(name, _)| *name == root)?;
    dir.get_file(rest).map(|f| f.contents())
}

/// All embedded files whose path is `prefix` or lies below it, with their bytes, sorted by path; hidden files are left
/// out.
pub fn files_under(prefix: &str) -> Vec<(String, &'static [u8])> {
    let prefix = prefix.trim_end_matches('/');
    let mut found: Vec<(String, &'static [u8])> =
        DATASETS.iter().map(|(path, bytes)| (path.to_string(), *bytes)).collect();
    for (root, dir) in ROOTS {
        walk(root, dir, &mut found);
    }
    found.retain(|(path, _)| {
        path.strip_prefix(prefix).is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
    });
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn walk(root: &str, dir: &'static Dir<'_>, found: &mut Vec<(String, &'static [u8])>) {
    for entry in dir.entries() {
        match entry {
            DirEntry::Dir(inner) => walk(root, inner, found),
            DirEntry::File(file) => {
                let hidden = file.path().file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
                if !hidden {
                    let below: Vec<_> = file.path().iter().map(|part| part.to_string_lossy()).collect();
                    found.push((format!("{root}/{}", below.join("/")), file.contents()));
                }
            }
        }
    }
}
