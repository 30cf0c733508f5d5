//! Kernel locks: the collection lock, one lock a cache key, the lock of references.
//!
//! All are `flock`s on files of their own; the kernel frees them when their process dies. A lock
//! conflicts between two guards also inside one process.

use crate::disk;
use crate::error::{Context, Error};
use crate::{LocalStore, Result};
use digest::CacheKey;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Holds the store-wide collection lock. Shared: nothing is collected meanwhile, held for the
/// microseconds between finding a thing and noting that it is in use. Exclusive: nothing is found
/// or noted meanwhile, held for the milliseconds in which a collection takes some things away.
pub(crate) struct GcGuard(#[expect(dead_code, reason = "dropping it frees the lock")] File);

/// The turn to collect: a lock of the folder `leases`. While somebody has it, no lease goes, not even one whose
/// process has ended, so that what was noted since a collection began can be read there. Taken before `gc.lock`,
/// or without waiting under it.
pub(crate) struct Turn(#[expect(dead_code, reason = "dropping it frees the lock")] File);

/// The right to compute what one cache key stands for. Freed when dropped.
#[derive(Debug)]
pub struct KeyGuard {
    path: PathBuf,
    _file: File,
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        // Unlinked while still locked: whoever waits sees a file without a name and starts over.
        let _ = fs::remove_file(&self.path);
    }
}

/// The right to change several references as one. Freed when dropped.
#[derive(Debug)]
pub struct RefsGuard {
    _dir: File,
}

impl LocalStore {
    fn gc_lock_file(&self) -> Result<(File, PathBuf)> {
        let path = self.path("gc.lock");
        match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(self.moved()),
            other => Ok((other.at("open", &path)?, path)),
        }
    }
    pub(crate) fn shared(&self) -> Result<GcGuard> {
        let (file, path) = self.gc_lock_file()?;
        retry(|| file.lock_shared()).at("lock", &path)?;
        self.guard(file, &path)
    }
    pub(crate) fn exclusive(&self) -> Result<GcGuard> {
        let (file, path) = self.gc_lock_file()?;
        retry(|| file.lock()).at("lock", &path)?;
        self.guard(file, &path)
    }
    pub(crate) fn try_exclusive(&self) -> Result<Option<GcGuard>> {
        let (file, path) = self.gc_lock_file()?;
        match try_lock(&file).at("lock", &path)? {
            true => self.guard(file, &path).map(Some),
            false => Ok(None),
        }
    }
    /// Wait for the turn to collect.
    pub(crate) fn turn(&self) -> Result<Turn> {
        Ok(Turn(lock_dir(&self.path("leases"))?))
    }
    /// `None` where somebody collects.
    pub(crate) fn try_turn(&self, _guard: &GcGuard) -> Result<Option<Turn>> {
        let path = self.path("leases");
        let dir = File::open(&path).at("open", &path)?;
        Ok(try_lock(&dir).at("lock", &path)?.then_some(Turn(dir)))
    }
    /// Whoever moves a store away has the lock meanwhile, and takes the file along.
    fn guard(&self, file: File, path: &Path) -> Result<GcGuard> {
        match still_named(&file, path) {
            true => Ok(GcGuard(file)),
            false => Err(self.moved()),
        }
    }
    fn moved(&self) -> Error {
        Error::Moved { path: self.root().to_path_buf() }
    }

    /// Wait until nobody else computes `key`, in this process or another, and take the turn. Look the
    /// key up again afterwards: the one before may have stored it. Blocks; two threads of one process
    /// that ask for the same key wait for each other too.
    pub fn key_lock(&self, key: &CacheKey) -> Result<KeyGuard> {
        self.check_writable()?;
        let path = self.path("locks").join(key.hex());
        loop {
            let file = disk::open_or_create(&path).at("open", &path)?;
            retry(|| file.lock()).at("lock", &path)?;
            if still_named(&file, &path) {
                return Ok(KeyGuard { path, _file: file });
            }
        }
    }

    /// As [`LocalStore::key_lock`], but `None` where somebody else has the turn.
    pub fn try_key_lock(&self, key: &CacheKey) -> Result<Option<KeyGuard>> {
        self.check_writable()?;
        let path = self.path("locks").join(key.hex());
        loop {
            let file = disk::open_or_create(&path).at("open", &path)?;
            if !try_lock(&file).at("lock", &path)? {
                return Ok(None);
            }
            if still_named(&file, &path) {
                return Ok(Some(KeyGuard { path, _file: file }));
            }
        }
    }

    /// Remove the lock files of processes that died with a turn.
    pub(crate) fn drop_dead_key_locks(&self) -> Result<()> {
        for name in disk::names(&self.path("locks"))? {
            let path = self.path("locks").join(name);
            // As KeyGuard does: unlinked only while locked, and only the file that the name means.
            if let Ok(file) = File::open(&path)
                && try_lock(&file).at("lock", &path)?
                && still_named(&file, &path)
            {
                disk::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Keep all others from changing references. [`LocalStore::set_ref`] and
    /// [`LocalStore::delete_ref`] take this lock themselves; use their `_locked` forms under it.
    pub fn refs_lock(&self) -> Result<RefsGuard> {
        self.check_writable()?;
        Ok(RefsGuard { _dir: lock_dir(&self.path("refs"))? })
    }
}

/// Lock a folder itself, as a lock for read-modify-write of the files in it.
pub(crate) fn lock_dir(dir: &Path) -> Result<File> {
    let file = match File::open(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            disk::with_parent(&dir.join("x"), || File::open(dir)).at("open", dir)?
        }
        other => other.at("open", dir)?,
    };
    retry(|| file.lock()).at("lock", dir)?;
    Ok(file)
}

/// Shared collection lock of the store at `root`, for those who have no handle any more.
pub(crate) fn shared_at(root: &Path) -> io::Result<GcGuard> {
    let file = File::open(root.join("gc.lock"))?;
    retry(|| file.lock_shared())?;
    Ok(GcGuard(file))
}

/// Whether somebody has the turn to collect. What can't be found out is taken for a yes.
pub(crate) fn is_collecting(root: &Path, _guard: &GcGuard) -> bool {
    loop {
        match File::open(root.join("leases")).map(|dir| dir.try_lock_shared()) {
            Ok(Ok(())) => return false,
            Ok(Err(TryLockError::Error(e))) if e.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(_)) | Err(_) => return true,
        }
    }
}

/// `Ok(false)` where somebody else holds the lock.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
}

pub(crate) fn retry(mut lock: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match lock() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Whether `path` still names the file that is open as `file`.
pub(crate) fn still_named(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => open.ino() == named.ino() && open.dev() == named.dev(),
        _ => false,
    }
}
