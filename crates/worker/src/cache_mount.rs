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
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use store::{LocalStore, SnapshotId};

/// A cache folder in use; its lock is given back on drop.
pub struct CacheMount {
    slot: PathBuf,
    _lock: File,
}

fn failed(what: &str, path: &Path, e: &std::io::Error) -> ErrorKind {
    ErrorKind::other(format!("can't {what} cache mount {}: {e}", path.display()))
}

impl CacheMount {
    /// Open (or make) the folder named `id`. Blocks while a `locked` mount is in use elsewhere.
    pub fn open(
        snapshotter: &Snapshotter,
        id: &str,
        sharing: CacheSharing,
        from: &[SnapshotId],
        source: &str,
        owner: Option<MountOwner>,
        fresh: bool,
    ) -> Result<Self, ErrorKind> {
        let store = snapshotter.store();
        let mut h = StableHasher::new("ctrbuild.cache-mount.v1");
        // Without a start from elsewhere, the source is a place in the folder that all share.
        h.put(id).put(if from.is_empty() { "" } else { source });
        h.u64(from.len() as u64);
        for layer in from {
            h.put(layer.as_str());
        }
        match owner {
            None => h.tag(0),
            Some(o) => h.tag(1).put(&o.uid).put(&o.gid).put(&o.mode),
        };
        let dir = store.root().join("mounts").join(digest::to_hex(&h.finish()));
        fs::create_dir_all(&dir).map_err(|e| failed("make", &dir, &e))?;
        let named = dir.join("id");
        if !named.exists() {
            fs::write(&named, id).map_err(|e| failed("name", &named, &e))?;
        }
        let (slot, lock) = match sharing {
            CacheSharing::Shared => (dir.join("shared"), lock(&dir.join("shared.lock"), How::Shared)?),
            CacheSharing::Locked => (dir.join("shared"), lock(&dir.join("shared.lock"), How::Exclusive)?),
            CacheSharing::Private => private(&dir)?,
        };
        let mount =
            CacheMount { slot, _lock: lock.ok_or_else(|| ErrorKind::other("cache mount is locked"))? };
        // One at a time makes it.
        let _making = lock_blocking(&dir.join("make.lock"))?;
        if fresh {
            mount.discard(store)?;
        }
        if !mount.folder().exists() {
            mount.make(snapshotter, from, source, owner)?;
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
    Try,
}

/// `None` only for `How::Try`, if somebody else holds it.
fn lock(path: &Path, how: How) -> Result<Option<File>, ErrorKind> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|e| failed("lock", path, &e))?;
    let locked = match how {
        How::Shared => file.lock_shared(),
        How::Exclusive => file.lock(),
        How::Try => match file.try_lock() {
            Ok(()) => Ok(()),
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e),
        },
    };
    locked.map_err(|e| failed("lock", path, &e))?;
    Ok(Some(file))
}

fn lock_blocking(path: &Path) -> Result<File, ErrorKind> {
    lock(path, How::Exclusive)?.ok_or_else(|| ErrorKind::other("cache mount is locked"))
}

/// The first slot that nobody uses.
fn private(dir: &Path) -> Result<(PathBuf, Option<File>), ErrorKind> {
    for n in 0.. {
        if let Some(file) = lock(&dir.join(format!("private-{n}.lock")), How::Try)? {
            return Ok((dir.join(format!("private-{n}")), Some(file)));
        }
    }
    Err(ErrorKind::other("no slot for a private cache mount"))
}
