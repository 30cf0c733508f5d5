//! Cache mounts: folders that outlive builds, `store/mounts/<key>/<slot>/fs`.
//!
//! The key covers the id, what the folder starts from, and its owner. Locks are kernel locks on a file
//! beside the folder: `shared` users take it shared, `locked` ones exclusively; a `private` mount takes
//! the first slot that nobody holds. The folder is made complete under another name and renamed.

use crate::copy::{Style, Target, io};
use crate::{Snapshotter, store_error};
use digest::StableHasher;
use graph::{CacheSharing, MountOwner, PathSelector};
use sandbox::RootDir;
use solver::ErrorKind;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::{LocalStore, SnapshotId};

/// A cache mount that a step asks for.
pub struct CacheWish {
    /// With the namespace of the build.
    pub id: String,
    pub sharing: CacheSharing,
    /// What the folder starts from.
    pub from: Vec<SnapshotId>,
    pub source: String,
    pub owner: Option<MountOwner>,
}

impl CacheWish {
    /// The folder of all slots, which is made if it is not there.
    fn dir(&self, store: &LocalStore) -> Result<PathBuf, ErrorKind> {
        let mut h = StableHasher::new("ctrbuild.cache-mount.v1");
        // Without a start from elsewhere, the source is a place in the folder that all share.
        h.put(&self.id).put(if self.from.is_empty() { "" } else { self.source.as_str() });
        h.u64(self.from.len() as u64);
        for layer in &self.from {
            h.put(layer.as_str());
        }
        match self.owner {
            None => h.tag(0),
            Some(o) => h.tag(1).put(&o.uid).put(&o.gid).put(&o.mode),
        };
        let dir = store.root().join("mounts").join(digest::to_hex(&h.finish()));
        fs::create_dir_all(&dir).map_err(|e| failed("make", &dir, &e))?;
        let named = dir.join("id");
        if !named.exists() {
            fs::write(&named, &self.id).map_err(|e| failed("name", &named, &e))?;
        }
        Ok(dir)
    }
}

/// The locks of all folders that a step mounts and does not have for itself, each taken once. They are taken in the
/// order of their names, so that two steps never wait for each other.
pub struct CacheLocks(BTreeMap<PathBuf, Arc<File>>);

impl CacheLocks {
    /// Waits while a `locked` mount is in use elsewhere, unless it is `cancelled`; `tell` says so.
    pub fn take(
        store: &LocalStore,
        wanted: &[CacheWish],
        cancelled: &AtomicBool,
        tell: &dyn Fn(&str),
    ) -> Result<CacheLocks, ErrorKind> {
        let mut all: BTreeMap<PathBuf, (How, &str)> = BTreeMap::new();
        for wish in wanted {
            let how = match wish.sharing {
                CacheSharing::Shared => How::Shared,
                CacheSharing::Locked => How::Exclusive,
                CacheSharing::Private => continue,
            };
            let (known, _) = all.entry(wish.dir(store)?).or_insert((how, &wish.id));
            if how == How::Exclusive {
                *known = how;
            }
        }
        let mut taken = BTreeMap::new();
        for (dir, (how, id)) in all {
            let path = dir.join("shared.lock");
            let file = open_lock(&path)?;
            let mut pause = Duration::from_millis(5);
            let mut waiting = false;
            while !try_lock(&file, &path, how)? {
                if cancelled.load(Ordering::SeqCst) {
                    return Err(ErrorKind::Cancelled);
                }
                if !waiting {
                    let id = id.trim_start_matches('/');
                    tell(&format!("waiting for cache mount {id:?}, which another step uses"));
                    waiting = true;
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(100));
            }
            taken.insert(dir, Arc::new(file));
        }
        Ok(CacheLocks(taken))
    }
}

/// A cache folder in use; its lock is given back with the last one of the step.
pub struct CacheMount {
    slot: PathBuf,
    _lock: Arc<File>,
}

fn failed(what: &str, path: &Path, e: &std::io::Error) -> ErrorKind {
    ErrorKind::other(format!("can't {what} cache mount {}: {e}", path.display()))
}

impl CacheMount {
    /// Open (or make) the folder.
    pub fn open(
        snapshotter: &Snapshotter,
        wish: &CacheWish,
        locks: &CacheLocks,
        fresh: bool,
    ) -> Result<Self, ErrorKind> {
        let store = snapshotter.store();
        let dir = wish.dir(store)?;
        let (slot, lock) = match wish.sharing {
            CacheSharing::Private => private(&dir)?,
            CacheSharing::Shared | CacheSharing::Locked => (dir.join("shared"), locks.0.get(&dir).cloned()),
        };
        let lock = lock.ok_or_else(|| ErrorKind::other("internal error: a cache mount is not locked"))?;
        let mount = CacheMount { slot, _lock: lock };
        // One at a time makes it.
        let making = dir.join("make.lock");
        let maker = open_lock(&making)?;
        maker.lock().map_err(|e| failed("lock", &making, &e))?;
        if fresh {
            mount.discard(store)?;
        }
        if !mount.folder().exists() {
            mount.make(snapshotter, &wish.from, &wish.source, wish.owner)?;
        }
        // The time of the last use, for pruning.
        let used = File::open(&mount.slot).map_err(|e| failed("open", &mount.slot, &e))?;
        let _ = used.set_modified(std::time::SystemTime::now());
        Ok(mount)
    }

    /// The folder that is mounted.
    pub fn folder(&self) -> PathBuf {
        self.slot.join("fs")
    }

    /// Others that use the folder keep what they have mounted.
    fn discard(&self, store: &LocalStore) -> Result<(), ErrorKind> {
        if !self.slot.exists() {
            return Ok(());
        }
        // An active snapshot's folder vanishes with it, whatever happens to this process.
        let grave = store.prepare().map_err(|e| store_error(&e))?;
        let to = grave.scratch().join("cache");
        fs::create_dir_all(grave.scratch()).map_err(|e| failed("discard", &self.slot, &e))?;
        fs::rename(&self.slot, &to).map_err(|e| failed("discard", &self.slot, &e))
    }

    fn make(
        &self,
        snapshotter: &Snapshotter,
        from: &[SnapshotId],
        source: &str,
        owner: Option<MountOwner>,
    ) -> Result<(), ErrorKind> {
        let making = snapshotter.store().prepare().map_err(|e| store_error(&e))?;
        let slot = making.scratch().join("slot");
        let folder = slot.join("fs");
        fs::create_dir_all(&folder).map_err(|e| failed("make", &folder, &e))?;
        let (uid, gid, mode) = owner.map_or((0, 0, 0o755), |o| (o.uid, o.gid, o.mode));
        let root = RootDir::open_path(&folder).map_err(io)?;
        if !from.is_empty() {
            let tree = snapshotter.tree(from)?;
            let selector = PathSelector::of(source);
            for selected in tree.select(&selector)? {
                Target { root: &root, style: &Style::default() }.copy(&tree, &selected, "/")?;
            }
        }
        drop(root);
        std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).map_err(|e| failed("chown", &folder, &e))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode & 0o777))
            .map_err(|e| failed("chmod", &folder, &e))?;
        fs::rename(&slot, &self.slot).map_err(|e| failed("make", &self.slot, &e))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Shared,
    Exclusive,
}

fn open_lock(path: &Path) -> Result<File, ErrorKind> {
    let opened = File::options().create(true).truncate(false).write(true).open(path);
    opened.map_err(|e| failed("lock", path, &e))
}

/// False if somebody else holds it.
fn try_lock(file: &File, path: &Path, how: How) -> Result<bool, ErrorKind> {
    let locked = match how {
        How::Shared => file.try_lock_shared(),
        How::Exclusive => file.try_lock(),
    };
    match locked {
        Ok(()) => Ok(true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(e)) => Err(failed("lock", path, &e)),
    }
}

/// The first slot that nobody uses.
fn private(dir: &Path) -> Result<(PathBuf, Option<Arc<File>>), ErrorKind> {
    for n in 0.. {
        let path = dir.join(format!("private-{n}.lock"));
        let file = open_lock(&path)?;
        if try_lock(&file, &path, How::Exclusive)? {
            return Ok((dir.join(format!("private-{n}")), Some(Arc::new(file))));
        }
    }
    Err(ErrorKind::other("no slot for a private cache mount"))
}
