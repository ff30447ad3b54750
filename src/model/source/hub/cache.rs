//! The cache on disk and the environment variables that say where it is, as Python's `huggingface_hub` reads them.

use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};

use super::{HubId, Part};
use crate::error::{Error, Result};
use crate::model::source::shards;

/// Where models are fetched from and kept.
pub struct Hub {
    /// Address of the Hub, without a slash at the end.
    pub endpoint: String,
    /// Access token, sent to the endpoint alone and never printed.
    pub token: Option<String>,
    /// Whether the network is not to be used.
    pub offline: bool,
    cache: Cache,
}

impl Hub {
    /// `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN` or the token file, `HF_HUB_OFFLINE`, `HF_ENDPOINT`.
    pub fn from_environment() -> Result<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let home = set("HF_HOME").map(PathBuf::from);
        let home = home.or_else(|| set("XDG_CACHE_HOME").map(|dir| Path::new(&dir).join("huggingface")));
        let home = home.or_else(|| std::env::home_dir().map(|dir| dir.join(".cache/huggingface")));
        let hub = set("HF_HUB_CACHE").map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join("hub")));
        let Some(hub) = hub else {
            return Err(Error::usage("there is no home folder for the Hub's cache: set HF_HOME or HF_HUB_CACHE"));
        };
        let file = set("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| home.map(|home| home.join("token")));
        let token = set("HF_TOKEN").or_else(|| std::fs::read_to_string(file?).ok());
        let token = token.map(|token| token.trim().to_string()).filter(|token| !token.is_empty());
        let on = |value: String| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').into(),
            token,
            offline: set("HF_HUB_OFFLINE").is_some_and(on),
            cache: Cache::new(hub),
        })
    }

    /// Where a model lies in the cache.
    pub fn repo(&self, id: &HubId) -> RepoCache {
        let repo = Repo::with_revision(id.repo.clone(), RepoType::Model, id.revision.clone());
        let root = self.cache.path().join(repo.folder_name());
        let locks = self.cache.path().join(".locks").join(repo.folder_name());
        RepoCache { root, locks, cache: self.cache.clone(), repo }
    }

    /// The folder of a model that is here already, or what is missing and where it was looked for.
    pub fn find(&self, id: &HubId, part: Part) -> Result<PathBuf, String> {
        let repo = self.repo(id);
        let commit = match is_commit(&id.revision) {
            true => id.revision.clone(),
            false => {
                let file = repo.reference();
                let commit = std::fs::read_to_string(&file).map_err(|_| format!("there is no {}", file.display()))?;
                commit.trim().to_string()
            }
        };
        let folder = repo.snapshot(&commit);
        if !folder.is_dir() {
            return Err(format!("there is no {}", folder.display()));
        }
        match missing(&folder, part).as_slice() {
            [] => Ok(folder),
            names => Err(format!("{} lacks {}", folder.display(), names.join(", "))),
        }
    }
}

/// Whether a revision is a commit, which never moves.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Names of the files that a snapshot lacks, of those that `part` needs.
fn missing(folder: &Path, part: Part) -> Vec<String> {
    let mut wanted = vec!["config.json".to_string()];
    if part == Part::All {
        wanted.push("tokenizer.json".into());
        match shards::files(folder) {
            Ok(files) => {
                wanted.extend(files.iter().filter_map(|file| Some(file.file_name()?.to_str()?.to_string())));
            }
            Err(_) => wanted.push(shards::SINGLE.into()),
        }
    }
    wanted.retain(|name| !folder.join(name).exists());
    wanted
}

/// Where the files of one model are.
pub struct RepoCache {
    root: PathBuf,
    locks: PathBuf,
    cache: Cache,
    repo: Repo,
}

impl RepoCache {
    /// Path of a file's contents by its ETag.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.cache.repo(self.repo.clone()).blob_path(etag)
    }

    /// Path of the lock file that a process holds while it downloads that file.
    pub fn lock(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    /// Folder of the files of one commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.repo(self.repo.clone()).pointer_path(commit)
    }

    /// Path of the file that holds the commit of the revision.
    pub fn reference(&self) -> PathBuf {
        self.root.join("refs").join(self.repo.revision())
    }

    /// What the Hub says of the model.
    pub fn about_url(&self, endpoint: &str) -> String {
        format!("{endpoint}/api/{}", self.repo.api_url())
    }

    /// One of its files at a commit.
    pub fn file_url(&self, endpoint: &str, commit: &str, name: &str) -> String {
        format!("{endpoint}/{}/resolve/{commit}/{name}", self.repo.url())
    }
}
