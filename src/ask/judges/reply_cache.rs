//! Replies on disk, so that nothing is paid for twice: by whichever run, and after whatever crash.
//!
//! One small file a reply, written whole, named by the hash of address, model and prompt. The key is no part of it.

use std::path::{Path, PathBuf};

use super::reply::Reply;
use crate::error::Result;
use crate::fsio;

/// `realign/judge` in the user's cache folder.
pub(super) fn default_folder() -> PathBuf {
    let named = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let user = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")));
    user.unwrap_or_else(std::env::temp_dir).join("realign").join("judge")
}

/// The file name of a reply: a hash over endpoint, model and prompt.
pub(super) fn name(url: &str, model: &str, prompt: &str) -> String {
    let parts: Vec<String> = [url, model, prompt].iter().map(|part| fsio::sha256(part.as_bytes())).collect();
    fsio::sha256(parts.concat().as_bytes())
}

/// A kept reply; one that cannot be read is as good as none.
pub(super) fn get(folder: &Path, name: &str) -> Option<Reply> {
    fsio::read_json(&path(folder, name)).ok()
}

/// Writes a reply to the cache.
pub(super) fn put(folder: &Path, name: &str, reply: &Reply) -> Result<()> {
    fsio::write_json(&path(folder, name), reply)
}

fn path(folder: &Path, name: &str) -> PathBuf {
    // Not hundreds of thousands of files in one folder.
    folder.join(&name[..2]).join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_reply_is_found_again_and_half_a_file_is_not_one() {
        let place = tempfile::tempdir().unwrap();
        let reply = Reply {
            content: "90".into(),
            cut_off: false,
            first: vec![("90".into(), -0.125)],
            prompt_tokens: 3,
            completion_tokens: 1,
        };
        let names: Vec<String> =
            [("u", "m", "p"), ("u", "m", "q"), ("um", "", "p")].map(|(u, m, p)| name(u, m, p)).into();
        assert!(names[0] != names[1] && names[0] != names[2]);
        put(place.path(), &names[0], &reply).unwrap();
        assert_eq!(get(place.path(), &names[0]), Some(reply));
        assert_eq!(get(place.path(), &names[1]), None);
        let file = path(place.path(), &names[0]);
        let half = fsio::read_text(&file).unwrap();
        fsio::write_atomic(&file, &half.as_bytes()[..20]).unwrap();
        assert_eq!(get(place.path(), &names[0]), None);
    }
}
