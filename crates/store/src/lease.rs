//! Leases: what a running process uses, written down where a collection sees it.
//!
//! A lease is a file `leases/<id>`, locked by its process for as long as it lives, with one line a
//! held thing. Its id also begins the names of the process's files under `tmp` and `active`, so that
//! what a dead process left behind can be told apart and removed.

use crate::disk;
use crate::error::Context;
use crate::lock::{retry, try_lock};
use crate::{LocalStore, Result, SnapshotId};
use digest::{CacheKey, DiffId, Digest};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// A thing that a lease keeps from being collected.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Held {
    /// One blob, without what it refers to.
    Blob(Digest),
    Snapshot(SnapshotId),
    /// A layer record with its snapshot and blobs.
    Layer(DiffId),
    /// A cache record with its snapshots and blobs.
    Record(CacheKey),
}

impl Held {
    fn line(&self) -> String {
        match self {
            Held::Blob(d) => format!("b {}\n", d.hex()),
            Held::Snapshot(s) => format!("s {s}\n"),
            Held::Layer(d) => format!("l {}\n", d.hex()),
            Held::Record(k) => format!("r {k}\n"),
        }
    }
    fn parse(line: &str) -> Option<Held> {
        let (kind, id) = line.split_once(' ')?;
        let sha = || digest::from_hex(id).map(Digest::from_bytes);
        Some(match kind {
            "b" => Held::Blob(sha()?),
            "s" => Held::Snapshot(id.parse().ok()?),
            "l" => Held::Layer(DiffId(sha()?)),
            "r" => Held::Record(id.parse().ok()?),
            _ => return None,
        })
    }
}

/// This process's own lease.
pub(crate) struct Lease {
    id: String,
    path: PathBuf,
    file: File,
    held: HashSet<Held>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What could not be removed, say since no more files can be opened, is found by its dead lease.
        if !self.left_something() {
            // Where this fails, the next open or collection finds the lease dead and removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Lease {
    fn left_something(&self) -> bool {
        let Some(root) = self.path.ancestors().nth(2) else { return true };
        ["tmp", "active"].iter().any(|folder| match disk::names(&root.join(folder)) {
            Ok(names) => names.iter().any(|n| n.starts_with(&self.id)),
            Err(_) => true,
        })
    }
}

impl LocalStore {
    /// Keep `things` until this handle is dropped. Finding and writing already does this; call it
    /// for what came from elsewhere. Things that do not exist may be named too.
    pub fn hold(&self, things: &[Held]) -> Result<()> {
        let guard = self.shared()?;
        self.hold_guarded(things, &guard)
    }

    /// As [`LocalStore::hold`], under a collection lock taken before the things were looked for.
    pub(crate) fn hold_guarded(&self, things: &[Held], _guard: &crate::lock::GcGuard) -> Result<()> {
        if !self.inner.writable {
            return Ok(());
        }
        let mut slot = self.inner.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(self.new_lease()?);
        }
        let Some(lease) = slot.as_mut() else { return Ok(()) };
        let lines: String = things.iter().filter(|t| !lease.held.contains(*t)).map(Held::line).collect();
        if !lines.is_empty() {
            self.inner.batches.note_found();
            lease.file.write_all(lines.as_bytes()).at("write", &lease.path)?;
            lease.held.extend(things.iter().cloned());
        }
        Ok(())
    }

    /// The id of this handle's lease, made at first need.
    pub(crate) fn lease_id(&self) -> Result<String> {
        self.check_writable()?;
        if let Some(id) = self.own_lease() {
            return Ok(id);
        }
        self.hold(&[])?;
        self.own_lease().ok_or_else(|| crate::Error::ReadOnly { path: self.root().to_path_buf() })
    }

    /// The id of this handle's lease, where it has one already.
    pub(crate) fn own_lease(&self) -> Option<String> {
        self.inner.lease.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|l| l.id.clone())
    }

    /// Called under a shared collection lock, so that nobody takes the file for a dead one between
    /// its creation and its locking.
    fn new_lease(&self) -> Result<Lease> {
        let id = disk::random_hex()?;
        let path = self.path("leases").join(&id);
        let file = disk::open_or_create(&path).at("create", &path)?;
        let lease = Lease { id, path, file, held: HashSet::new() };
        retry(|| lease.file.lock()).at("lock", &lease.path)?;
        Ok(lease)
    }

    /// What all living leases hold. Call under the exclusive collection lock.
    pub(crate) fn held_by_all(&self) -> Result<HashSet<Held>> {
        let mut held = HashSet::new();
        for id in disk::names(&self.path("leases"))? {
            let path = self.path("leases").join(&id);
            let bytes = disk::read_optional(&path)?.unwrap_or_default();
            held.extend(String::from_utf8_lossy(&bytes).lines().filter_map(Held::parse));
        }
        Ok(held)
    }

    /// Remove what dead processes left, unless nothing is to do or a collection is at work already.
    pub(crate) fn reap_if_needed(&self) -> Result<()> {
        let mut dead = false;
        for id in disk::names(&self.path("leases"))? {
            dead |= is_dead(&self.path("leases").join(id))?;
        }
        if !dead {
            return Ok(());
        }
        // Before the dead leases, by which they are found.
        self.drop_dead_key_locks()?;
        let doomed = match self.try_exclusive()? {
            Some(guard) => self.reap(&guard)?,
            None => return Ok(()),
        };
        for path in doomed {
            disk::remove_tree(&path)?;
        }
        Ok(())
    }

    /// Forget dead leases and move their leftovers to `trash`; returns what is left to delete there
    /// without any lock. Call under the exclusive collection lock.
    pub(crate) fn reap(&self, _guard: &crate::lock::GcGuard) -> Result<Vec<PathBuf>> {
        let mut alive = HashSet::new();
        let mut dead = Vec::new();
        for id in disk::names(&self.path("leases"))? {
            let path = self.path("leases").join(&id);
            if is_dead(&path)? {
                dead.push(path);
            } else {
                alive.insert(id);
            }
        }
        let mut doomed = Vec::new();
        for folder in ["tmp", "active"] {
            for name in disk::names(&self.path(folder))? {
                let owner = name.split_once('.').map_or(name.as_str(), |(owner, _)| owner);
                if !alive.contains(owner) {
                    doomed.push(self.to_trash(&self.path(folder).join(&name))?);
                }
            }
        }
        // The lease goes last: as long as it exists, a killed reaper's work is found again.
        for path in dead {
            disk::remove_file(&path)?;
        }
        Ok(doomed)
    }

    /// Take a file or folder out of sight by renaming it into `trash`. Where even a rename finds no
    /// space, it stays where it is and is removed from there.
    pub(crate) fn to_trash(&self, path: &Path) -> Result<PathBuf> {
        let trash = self.path("trash").join(disk::random_hex()?);
        match fs::rename(path, &trash) {
            Ok(()) => Ok(trash),
            Err(_) => Ok(path.to_path_buf()),
        }
    }
}

/// Whether nobody holds the lock of the lease at `path`.
fn is_dead(path: &Path) -> Result<bool> {
    match File::open(path) {
        Ok(file) => try_lock(&file).at("lock", path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(crate::Error::io("open", path, e)),
    }
}
