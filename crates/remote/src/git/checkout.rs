//! Fetching a commit and writing its files.

use super::command::{Failed, Place, error};
use super::location::{Credentials, Location};
use super::resolve::check;
use super::{Git, Resolved, check_folders, is_object};
use crate::Error;
use crate::secret::Secrets;
use rustix::fs::{FileType, Timespec, Timestamps};
use sandbox::RootDir;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FETCH: &str = "fetch";
/// Where a fetched object is noted in a repository that is thrown away.
const TIP: &str = "refs/ctrbuild/tip";

/// One checkout of a repository and its submodules.
pub(super) struct Checkout<'a> {
    pub git: &'a Git,
    pub secrets: &'a Arc<dyn Secrets>,
    /// The repository that was asked for.
    pub main: &'a Location,
    /// Vanishes with the checkout.
    pub scratch: &'a Path,
    /// `.git` folders stay.
    pub keep: bool,
    /// Only this part is wanted; empty for all.
    pub subdir: &'a str,
}

/// What is fetched from where to where.
pub(super) struct Target<'a> {
    pub location: &'a Location,
    pub credentials: &'a Credentials,
    /// The work tree, an existing folder.
    pub work: &'a Path,
    pub resolved: &'a Resolved,
    /// Folder below the scratch folder for a repository that is not kept.
    pub name: String,
}

impl Checkout<'_> {
    /// Write the files of the repository itself; its commit.
    pub async fn main(
        &self,
        work: &Path,
        resolved: &Resolved,
        checksum: Option<&str>,
    ) -> Result<String, Error> {
        let credentials = Credentials::of(self.main, self.secrets).await?;
        let target =
            Target { location: self.main, credentials: &credentials, work, resolved, name: "git".into() };
        let commit = self.write(&target).await?;
        // An annotated tag that was given by its object's name is known by its commit only now.
        check(self.main, checksum, &[&commit, &resolved.object])?;
        Ok(commit)
    }

    /// The repository of a work tree: inside it, or in the scratch folder.
    pub fn git_dir(&self, work: &Path, name: &str) -> PathBuf {
        if self.keep { work.join(".git") } else { self.scratch.join(name) }
    }

    /// Fetch and write the files of one repository; the commit.
    pub async fn write(&self, target: &Target<'_>) -> Result<String, Error> {
        let Target { location, work, resolved, .. } = target;
        let git_dir = self.git_dir(work, &target.name);
        self.init(target, &git_dir).await?;
        let place = Place { git_dir: Some(&git_dir), work };
        self.fetch(target, place).await?;
        let runner = &self.git.runner;
        let peeled = format!("{}^{{commit}}", resolved.object);
        let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", &peeled];
        let commit = runner.local(location, "find the commit in", place, &args).await?;
        let commit = String::from_utf8_lossy(&commit).trim().to_string();
        if !is_object(&commit) {
            return Err(Error::Internal("git named no commit"));
        }
        let peels = resolved.commit != resolved.object;
        if peels && commit != resolved.commit {
            // The server said that the tag means another commit.
            return Err(Error::Commit {
                remote: location.shown(),
                expected: resolved.commit.clone(),
                actual: commit,
            });
        }
        if self.keep {
            let args = ["update-ref", "--no-deref", "HEAD", &commit];
            runner.local(location, "check out", place, &args).await?;
        }
        runner.local(location, "check out", place, &["read-tree", "--reset", "-u", &commit]).await?;
        Ok(commit)
    }

    /// When the commit was made, in seconds since 1970.
    pub async fn commit_time(&self, work: &Path, commit: &str) -> Result<i64, Error> {
        let git_dir = self.git_dir(work, "git");
        let place = Place { git_dir: Some(&git_dir), work };
        let args = ["log", "-1", "--no-show-signature", "--format=%ct", "--end-of-options", commit];
        let out = self.git.runner.local(self.main, "read the commit of", place, &args).await?;
        String::from_utf8_lossy(&out).trim().parse().map_err(|_| Error::Internal("a commit without a time"))
    }

    async fn init(&self, target: &Target<'_>, git_dir: &Path) -> Result<(), Error> {
        let Target { location, work, resolved, .. } = target;
        let runner = &self.git.runner;
        let place = Place { git_dir: None, work };
        let format =
            if resolved.object.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
        // An empty template: no sample hooks.
        let mut args: Vec<&std::ffi::OsStr> =
            ["init", "--quiet", "--template=", format].map(AsRef::as_ref).to_vec();
        if self.keep {
            args.push(work.as_os_str());
        } else {
            args.extend(["--bare".as_ref(), git_dir.as_os_str()]);
        }
        runner.local(location, "prepare", place, &args).await?;
        if self.keep {
            let place = Place { git_dir: Some(git_dir), work };
            let args = ["remote", "add", "--", "origin", location.url()];
            runner.local(location, "prepare", place, &args).await?;
        }
        Ok(())
    }

    /// Bring the object into the repository: by its name if the server gives it, else by the ref, else with
    /// everything.
    async fn fetch(&self, target: &Target<'_>, place: Place<'_>) -> Result<(), Error> {
        let Target { location, resolved, .. } = target;
        let object = resolved.object.as_str();
        let to = match (&resolved.name, self.keep) {
            (Some(name), true) => name.as_str(),
            _ => TIP,
        };
        let by_object = format!("+{object}:{to}");
        let mut failed = match self.try_fetch(target, place, &[&by_object]).await? {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        let refused = ["not our ref", "unadvertised", "no such remote ref", "couldn't find remote ref"];
        if failed.says(&refused) {
            if let Some(name) = &resolved.name {
                let by_name = format!("+{name}:{to}");
                match self.try_fetch(target, place, &[&by_name]).await? {
                    Ok(()) if self.has(target, place).await => return Ok(()),
                    // Moved meanwhile, or hidden: perhaps some other ref still leads to it.
                    _ => {}
                }
            }
            let all = ["+refs/heads/*:refs/ctrbuild/heads/*", "+refs/tags/*:refs/ctrbuild/tags/*"];
            match self.all(target, place, &all).await? {
                Ok(()) if self.has(target, place).await => return self.note(target, place, to).await,
                Ok(()) => {
                    return Err(Error::NoRef { remote: location.shown(), reference: object.to_string() });
                }
                Err(f) => failed = f,
            }
        }
        Err(error(FETCH, location, &failed))
    }

    /// One commit deep where the server can do that.
    async fn try_fetch(
        &self,
        target: &Target<'_>,
        place: Place<'_>,
        refspecs: &[&str],
    ) -> Result<Result<(), Failed>, Error> {
        match self.run_fetch(target, place, &["--depth=1"], refspecs).await? {
            Err(failed) if failed.says(&["shallow", "--depth"]) => self.all(target, place, refspecs).await,
            other => Ok(other),
        }
    }

    /// With all history.
    async fn all(
        &self,
        target: &Target<'_>,
        place: Place<'_>,
        refspecs: &[&str],
    ) -> Result<Result<(), Failed>, Error> {
        self.run_fetch(target, place, &[], refspecs).await
    }

    async fn run_fetch(
        &self,
        target: &Target<'_>,
        place: Place<'_>,
        depth: &[&str],
        refspecs: &[&str],
    ) -> Result<Result<(), Failed>, Error> {
        let mut args = vec![
            "fetch",
            "--progress",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--update-head-ok",
        ];
        args.extend(depth);
        args.extend(["--", target.location.url()]);
        args.extend(refspecs);
        let done = self.git.runner.remote(target.location, FETCH, place, target.credentials, &args).await?;
        Ok(done.map(|_| ()))
    }

    async fn has(&self, target: &Target<'_>, place: Place<'_>) -> bool {
        let args = ["cat-file", "-e", &target.resolved.object];
        self.git.runner.local(target.location, "look into", place, &args).await.is_ok()
    }

    async fn note(&self, target: &Target<'_>, place: Place<'_>, to: &str) -> Result<(), Error> {
        let args = ["update-ref", "--no-deref", to, &target.resolved.object];
        self.git.runner.local(target.location, "check out", place, &args).await.map(|_| ())
    }
}

/// Move what is in the folder `subdir` of `work` to `upper`. Blocks.
pub(super) fn move_subdir(location: &Location, work: &Path, subdir: &str, upper: &Path) -> Result<(), Error> {
    let root = RootDir::open_path(work)?;
    check_folders(&root, subdir).map_err(|reason| Error::Subdir {
        remote: location.shown(),
        subdir: subdir.into(),
        reason,
    })?;
    let from = root.subdir(subdir)?;
    let to = RootDir::open_path(upper)?;
    for entry in from.read_dir("/")? {
        rustix::fs::renameat(&from, &entry.name, &to, &entry.name)
            .map_err(|e| Error::io("move", &work.join(subdir).join(&entry.name))(e.into()))?;
    }
    Ok(())
}

/// Everything belongs to root, and what its owner may read or run, all may; nobody else may write. With
/// `time` (seconds since 1970) everything is of that time. Blocks.
pub(super) fn normalize(upper: &Path, time: Option<i64>) -> Result<(), Error> {
    let mut folders = vec![PathBuf::new()];
    let root = RootDir::open_path(upper)?;
    let stamp = time.map(|tv_sec| {
        let at = Timespec { tv_sec, tv_nsec: 0 };
        Timestamps { last_access: at, last_modification: at }
    });
    while let Some(path) = folders.pop() {
        let shown = if path.as_os_str().is_empty() { Path::new("/") } else { &path };
        for entry in root.read_dir(shown)? {
            let below = path.join(&entry.name);
            let stat = root.symlink_metadata(&below)?;
            if stat.st_uid != 0 || stat.st_gid != 0 {
                root.chown(&below, 0, 0)?;
            }
            // A folder's time stays: its entries exist by now, and only their attributes are set.
            if let Some(stamp) = &stamp {
                root.set_times(&below, stamp)?;
            }
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => continue,
                FileType::Directory => folders.push(below.clone()),
                _ => {}
            }
            let owner = stat.st_mode & 0o700;
            let mode = owner | (owner & 0o500) >> 3 | (owner & 0o500) >> 6;
            if mode != stat.st_mode & 0o7777 {
                root.chmod(&below, mode)?;
            }
        }
    }
    if let Some(stamp) = &stamp {
        root.set_times("/", stamp)?;
    }
    Ok(())
}
