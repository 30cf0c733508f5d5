//! Leases: what a running process uses, written down where a collection sees it.
//!
//! A lease is a file `leases/<id>`, locked by its process for as long as it lives, with one line a
//! held thing. Its id also begins the names of the process's files under `tmp` and `active`, so that
//! what a dead process left behind can be told apart and removed.
//!
//! Leases are also the journal of a collection: whoever finds, makes or names something writes a line before, under
//! the shared collection lock, and while somebody collects no lease goes. So whatever changed since a collection
//! looked at the store is in lines that were added since then.

use crate::disk;
use crate::error::Context;
use crate::lock::{is_collecting, retry, shared_at, try_lock};
use crate::{LocalStore, Result, SnapshotId};
use digest::{CacheKey, DiffId, Digest};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
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
    /// What a reference was pointed at, with all that this reaches.
    Named(Digest),
}

impl Held {
    fn line(&self) -> String {
        match self {
            Held::Blob(d) => format!("b {}\n", d.hex()),
            Held::Snapshot(s) => format!("s {s}\n"),
            Held::Layer(d) => format!("l {}\n", d.hex()),
            Held::Record(k) => format!("r {k}\n"),
            Held::Named(d) => format!("n {}\n", d.hex()),
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
            "n" => Held::Named(sha()?),
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
    /// Whether the last line may have been cut short by a full disk.
    torn: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What could not be removed, say since no more files can be opened, is found by its dead lease.
        if self.left_something() {
            return;
        }
        let Some(root) = self.path.ancestors().nth(2) else { return };
        let Ok(guard) = shared_at(root) else { return };
        if is_collecting(root, &guard) {
            // It has to read what was noted here, and removes the file itself. Dead before the guard goes: its last
            // look at dead leases comes after that.
            let _ = self.file.unlock();
        } else {
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
        let mut lines: String = things.iter().filter(|t| !lease.held.contains(*t)).map(Held::line).collect();
        if !lines.is_empty() {
            self.inner.batches.note_found();
            if std::mem::replace(&mut lease.torn, true) {
                lines.insert(0, '\n');
            }
            lease.file.write_all(lines.as_bytes()).at("write", &lease.path)?;
            lease.torn = false;
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
        let lease = Lease { id, path, file, held: HashSet::new(), torn: false };
        retry(|| lease.file.lock()).at("lock", &lease.path)?;
        Ok(lease)
    }

    /// What all leases hold. Call under the exclusive collection lock.
    pub(crate) fn held_by_all(&self) -> Result<HashSet<Held>> {
        Journal::default().read(self).map(HashSet::from_iter)
    }

    /// Remove what dead processes left, unless nothing is to do or a collection is at work already.
    pub(crate) fn reap_if_needed(&self) -> Result<()> {
        let mut dead = false;
        for id in disk::names(&self.path("leases"))? {
            dead = is_dead(&self.path("leases").join(id))?;
            if dead {
                break;
            }
        }
        if !dead {
            return Ok(());
        }
        // Before the dead leases, by which they are found.
        self.drop_dead_key_locks()?;
        let doomed = {
            let Some(guard) = self.try_exclusive()? else { return Ok(()) };
            // Whoever collects reads them first.
            let Some(_turn) = self.try_turn(&guard)? else { return Ok(()) };
            let mut doomed = self.reap(&guard)?;
            // A collection that was killed had taken it away and not deleted yet; so has one that deletes by now, which
            // does not mind.
            self.add_trash(&mut doomed)?;
            doomed
        };
        for path in doomed {
            disk::remove_tree(&path)?;
        }
        Ok(())
    }

    /// Forget dead leases and move their leftovers to `trash`; returns what is left to delete there
    /// without any lock. Call under the exclusive collection lock, with the turn to collect.
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

    /// Add all that is in `trash`, whoever left it there, to what is to be deleted.
    pub(crate) fn add_trash(&self, doomed: &mut Vec<PathBuf>) -> Result<()> {
        let trash = self.path("trash");
        doomed.retain(|path| !path.starts_with(&trash));
        doomed.extend(disk::names(&trash)?.into_iter().map(|name| trash.join(name)));
        Ok(())
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

/// What was read of all leases so far.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Bytes that were read of each lease, by its id; always whole lines.
    read: HashMap<String, u64>,
    /// Those that nobody adds to any more. There may be many: of all that ended during a collection.
    ended: HashSet<String>,
}

impl Journal {
    /// The lines that came since the last call. Under the exclusive collection lock nobody is between noting a thing
    /// and finding, making or naming it: what the lines tell of has happened.
    pub(crate) fn read(&mut self, store: &LocalStore) -> Result<Vec<Held>> {
        let mut held = Vec::new();
        for id in disk::names(&store.path("leases"))? {
            if self.ended.contains(&id) {
                continue;
            }
            let path = store.path("leases").join(&id);
            let mut file = match File::open(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.at("open", &path)?,
            };
            // Before it is read, so that nothing comes after that.
            let dead = try_lock(&file).at("lock", &path)?;
            let from = self.read.entry(id.clone()).or_default();
            let mut text = Vec::new();
            file.seek(SeekFrom::Start(*from)).and_then(|_| file.read_to_end(&mut text)).at("read", &path)?;
            let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            *from += whole as u64;
            held.extend(String::from_utf8_lossy(&text[..whole]).lines().filter_map(Held::parse));
            if dead {
                self.ended.insert(id);
            }
        }
        Ok(held)
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
