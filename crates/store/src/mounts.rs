//! Folders of cache mounts, which steps leave beside layers.
//!
//! `mounts/<key>/<slot>/fs` with a lock `<slot>.lock` beside it; a mount in use holds the lock. The store
//! knows no steps: whoever runs them makes the folders (crate `worker`), the store counts and collects them.

use crate::disk;
use crate::lock::try_lock;
use crate::{LocalStore, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One folder of a cache mount.
#[derive(Debug, Clone)]
pub(crate) struct MountFolder {
    pub path: PathBuf,
    /// As the recipe names it, with the slot.
    pub name: String,
    pub used: SystemTime,
    /// Bytes on disk.
    pub bytes: u64,
}

/// The lock of whoever uses the folder at `path`, if nobody does.
pub(crate) fn try_lock_mount(path: &Path) -> Option<File> {
    let mut lock = path.to_path_buf().into_os_string();
    lock.push(".lock");
    let lock = File::options().write(true).open(&lock).ok()?;
    try_lock(&lock).unwrap_or(false).then_some(lock)
}

impl LocalStore {
    /// Reads all names in all of them, so not under the collection lock.
    pub(crate) fn mount_folders(&self) -> Result<Vec<MountFolder>> {
        let mut out = Vec::new();
        for key in disk::names(&self.path("mounts"))? {
            let dir = self.path("mounts").join(&key);
            let id = disk::read_optional(&dir.join("id"))?.unwrap_or_default();
            let id = String::from_utf8_lossy(&id).into_owned();
            for slot in disk::names(&dir)? {
                let path = dir.join(&slot);
                let Ok(meta) = fs::symlink_metadata(&path) else { continue };
                if meta.is_dir() {
                    let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    let bytes = disk::tree_usage(&path).bytes;
                    out.push(MountFolder { path, name: format!("{id} ({slot})"), used, bytes });
                }
            }
        }
        Ok(out)
    }
}
