//! Models by their id on the Hugging Face Hub, in the cache that Python's `huggingface_hub` keeps: `blobs` by their hash,
//! `snapshots/COMMIT` of links to them, `refs/REVISION` with a commit. What Python has fetched is found here, and the other
//! way round. Only what a decoder is made of is fetched, never pickle; without a network, the cache alone answers.

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod transfer;

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::progress::Progress;

/// Id of a model on the Hub with a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    /// Repository as `owner/name`.
    pub repo: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl HubId {
    /// Reads `owner/name` or `owner/name@revision`; nothing else is an id.
    pub fn parse(spec: &str) -> Option<Self> {
        let (repo, revision) = spec.split_once('@').unwrap_or((spec, "main"));
        let (owner, name) = repo.split_once('/')?;
        let plain = |text: &str, more: &str| {
            !text.is_empty()
                && !text.starts_with(['.', '-', '/'])
                && !text.contains("..")
                && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let known = plain(owner, "-_.") && plain(name, "-_.") && plain(revision, "-_./");
        known.then(|| Self { repo: repo.into(), revision: revision.into() })
    }
}

/// How much of a model is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything that it takes to run it.
    All,
    /// Only `config.json`, which is enough for shapes and estimates.
    Config,
}

/// The folder of a model's files: from the cache, with what is missing fetched into it.
#[cfg(feature = "hub")]
pub fn folder(id: &HubId, part: Part, progress: Progress) -> Result<PathBuf> {
    let hub = cache::Hub::from_environment()?;
    let found = hub.find(id, part);
    let offline = |why: &str| {
        Error::usage(format!(
            "`{}` (revision {}) is not in the cache: {}; {why}",
            id.repo,
            id.revision,
            found.as_ref().err().map_or("", String::as_str)
        ))
    };
    match &found {
        Ok(folder) if hub.offline || cache::is_commit(&id.revision) => return Ok(folder.clone()),
        Err(_) if hub.offline => return Err(offline("HF_HUB_OFFLINE is set, so nothing is downloaded")),
        _ => {}
    }
    match transfer::fetch(&hub, id, part, progress) {
        Ok(folder) => Ok(folder),
        Err(transfer::Failure::Refused(error)) => Err(error),
        Err(transfer::Failure::Unreachable(why)) => match &found {
            Ok(folder) => {
                progress.say(&format!(
                    "{} cannot be reached ({why}): using the cached {}",
                    hub.endpoint,
                    folder.display()
                ));
                Ok(folder.clone())
            }
            Err(_) => Err(offline(&format!("and {} cannot be reached: {why}", hub.endpoint))),
        },
    }
}

/// Fails, since this build was made without the feature `hub`.
#[cfg(not(feature = "hub"))]
pub fn folder(id: &HubId, _: Part, _: Progress) -> Result<PathBuf> {
    Err(Error::usage(format!(
        "`{}` is an id on the Hugging Face Hub, and this build has no feature `hub`: build it with \
         `cargo build --release --features hub`, or give a folder",
        id.repo
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn ids_are_told_from_paths() {
        let id = |repo: &str, revision: &str| Some(HubId { repo: repo.into(), revision: revision.into() });
        assert_eq!(HubId::parse("Qwen/Qwen2.5-0.5B"), id("Qwen/Qwen2.5-0.5B", "main"));
        assert_eq!(HubId::parse("a/b@refs/pr/3"), id("a/b", "refs/pr/3"));
        for path in
            ["model", "./a/b", "../a", "/a/b", "a/b/c", "a/", "~/a", "a\\b", "a/b@", "a/b@../c", "a/..", "a/b c"]
        {
            assert_eq!(HubId::parse(path), None, "{path}");
        }
    }

    #[cfg(not(feature = "hub"))]
    #[test]
    fn without_the_feature_an_id_is_refused_by_its_name() {
        let error = folder(&HubId::parse("a/b").unwrap(), Part::All, Progress::Quiet).unwrap_err().to_string();
        assert!(error.contains("--features hub") && error.contains("a/b"), "{error}");
    }
}
