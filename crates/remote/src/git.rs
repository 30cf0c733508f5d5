//! Git sources: a commit's files, fetched by the `git` executable in an environment of its own.
//!
//! The ref is resolved first, so that a commit that was fetched before is found in the store. Only http,
//! https, git and ssh are ever spoken, also by submodules. The files belong to root, with the modes of a
//! umask of 022.
//!
//! Invariants: no hook, filter or program of a repository runs; nothing that comes from a recipe, a
//! repository or a server can become an option of a command; credentials are in the environment of the
//! commands and never in their arguments or in files.

mod checkout;
mod command;
mod location;
mod resolve;
mod submodule;

pub use command::{GitSettings, SshSettings};

use crate::secret::Secrets;
use crate::{Error, Fetched};
use checkout::Checkout;
use command::Runner;
use digest::{CacheKey, StableHasher, TreeHash};
use graph::{GitSource, GitTimes};
use location::{Credentials, Location};
use std::path::Path;
use std::sync::Arc;
use store::{Active, LocalStore, RecordV1};

/// Fetches git sources.
#[derive(Clone)]
pub struct Git {
    runner: Arc<Runner>,
}

/// A ref that was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Resolved {
    /// What the ref names: a commit, or an annotated tag.
    object: String,
    /// The commit, where that is known already.
    commit: String,
    /// The full name (`refs/heads/main`); none for a bare commit.
    name: Option<String>,
}

impl Git {
    pub fn new(settings: GitSettings) -> Self {
        Git { runner: Arc::new(Runner::new(settings)) }
    }

    pub async fn fetch(
        &self,
        store: &LocalStore,
        source: &GitSource,
        secrets: &Arc<dyn Secrets>,
    ) -> Result<Fetched, Error> {
        let location = Location::parse(&source.remote)?;
        let subdir = clean_subdir(&location, &source.subdir)?;
        let credentials = Credentials::of(&location, secrets).await?;
        let resolved = self.resolve(&location, source, &credentials).await?;
        let hash = tree_hash(source, &subdir, &resolved);
        let mut h = StableHasher::new("ctrbuild.git-source.v1");
        h.put(location.url()).put(&hash);
        let key = CacheKey::from_bytes(h.finish());
        let s = store.clone();
        let _lock = par::blocking(move || s.key_lock(&key)).await?;
        let s = store.clone();
        if let Some(found) = par::blocking(move || s.cache_get(&key)).await?
            && let [snapshot] = found.snapshots.as_slice()
        {
            return Ok(Fetched { snapshot: snapshot.clone(), hash });
        }
        let s = store.clone();
        let active = par::blocking(move || s.prepare()).await?;
        self.fill(&active, &location, source, &subdir, &resolved, secrets).await?;
        let store = store.clone();
        par::blocking(move || {
            let snapshot = store.commit(active, Default::default())?;
            let record = RecordV1::of(vec![snapshot.clone()]);
            store.cache_put(&key, record)?;
            Ok(Fetched { snapshot, hash })
        })
        .await
    }

    /// Put the files into the upper folder.
    async fn fill(
        &self,
        active: &Active,
        location: &Location,
        source: &GitSource,
        subdir: &str,
        resolved: &Resolved,
        secrets: &Arc<dyn Secrets>,
    ) -> Result<(), Error> {
        let (upper, scratch) = (active.upper(), active.scratch());
        // A part of a repository is moved out of the whole.
        let work = if subdir.is_empty() { upper.clone() } else { scratch.join("tree") };
        for folder in [&scratch, &work] {
            match tokio::fs::create_dir(folder).await {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("make", folder)(e));
                }
                _ => {}
            }
        }
        // As in BuildKit, part of a repository has no repository around it.
        let keep = source.keep_git_dir && subdir.is_empty();
        let checkout = Checkout { git: self, secrets, main: location, scratch: &scratch, keep, subdir };
        let commit = checkout.main(&work, resolved, source.checksum.as_deref()).await?;
        if source.submodules {
            checkout.submodules(location, &work, &commit).await?;
        }
        let time = match source.times {
            GitTimes::Checkout => None,
            GitTimes::Commit => Some(checkout.commit_time(&work, &commit).await?),
        };
        let (location, subdir) = (location.clone(), subdir.to_string());
        par::blocking(move || {
            if !subdir.is_empty() {
                checkout::move_subdir(&location, &work, &subdir, &upper)?;
            }
            checkout::normalize(&upper, time)
        })
        .await
    }
}

/// The commit and what of it shows.
fn tree_hash(source: &GitSource, subdir: &str, resolved: &Resolved) -> TreeHash {
    let mut h = StableHasher::new("ctrbuild.git-tree.v1");
    // A kept repository shows the tag and the name of the ref, too.
    let kept = source.keep_git_dir && subdir.is_empty();
    let shown = kept.then(|| (resolved.object.clone(), resolved.name.clone().unwrap_or_default()));
    h.put(&resolved.commit).put(&shown).put(subdir).put(&source.submodules);
    h.put(&matches!(source.times, GitTimes::Commit));
    TreeHash::from_bytes(h.finish())
}

/// A relative path without `.` and empty components; empty means the whole repository.
fn clean_subdir(location: &Location, subdir: &str) -> Result<String, Error> {
    let refuse = |reason| Error::Subdir { remote: location.shown(), subdir: subdir.to_string(), reason };
    let mut parts = Vec::new();
    for part in subdir.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(refuse("it leaves the repository")),
            part if part.eq_ignore_ascii_case(".git") => return Err(refuse("it is the repository itself")),
            part if part.contains('\0') => return Err(refuse("it has a NUL")),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// Whether `text` is a whole object name, sha1 or sha256.
fn is_object(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Fails unless every component of `path` below `root` is a real folder.
fn check_folders(root: &sandbox::RootDir, path: &str) -> Result<(), &'static str> {
    let mut at = std::path::PathBuf::new();
    for part in Path::new(path).components() {
        at.push(part);
        let stat = root.symlink_metadata(&at).map_err(|_| "it does not exist")?;
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
            return Err("it is not a folder, or there is a symlink on the way to it");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subdirs_stay_inside() {
        let location = Location::parse("https://h/r.git").unwrap();
        let clean = |s: &str| clean_subdir(&location, s).ok();
        assert_eq!(clean("/a//./b/").as_deref(), Some("a/b"));
        assert_eq!(clean("").as_deref(), Some(""));
        for bad in ["..", "a/../..", "a/..", ".git", "a/.GIT/hooks", "a\0"] {
            assert_eq!(clean(bad), None, "{bad}");
        }
    }

    #[test]
    fn object_names() {
        assert!(is_object(&"a".repeat(40)) && is_object(&"0".repeat(64)));
        assert!(!is_object(&"A".repeat(40)) && !is_object(&"a".repeat(39)) && !is_object("main"));
    }
}
