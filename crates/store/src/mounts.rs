//! Folders of cache mounts, which steps leave beside layers.
//!
//! `mounts/<key>/<slot>/fs` with a lock `<slot>.lock` beside it; a mount in use holds the lock. The store
//! knows no steps: whoever runs them makes the folders (crate `worker`), the store counts and collects them.

use crate::disk;
use crate::{LocalStore, Result};
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// One folder of a cache mount.
#[derive(Debug, Clone)]
pub(crate) struct MountFolder {
    pub path: PathBuf,
    /// As the recipe names it, with the slot.
    pub name: String,
    pub used: SystemTime,
}

impl LocalStore {
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
                    out.push(MountFolder { path, name: format!("{id} ({slot})"), used });
                }
            }
        }
        Ok(out)
    }

    /// Take away cache mounts that nobody uses and that were not used for `unused_for`. Returns what was
    /// taken; the caller removes it for good.
    pub(crate) fn drop_mounts(&self, unused_for: Duration) -> Result<Vec<(String, PathBuf, u64)>> {
        let mut out = Vec::new();
        for mount in self.mount_folders()? {
            if self.now().duration_since(mount.used).unwrap_or_default() < unused_for {
                continue;
            }
            let mut lock = mount.path.clone().into_os_string();
            lock.push(".lock");
            let Ok(lock) = File::options().write(true).open(&lock) else { continue };
            if lock.try_lock().is_err() {
                continue;
            }
            let bytes = disk::tree_usage(&mount.path);
            out.push((mount.name, self.to_trash(&mount.path)?, bytes));
        }
        Ok(out)
    }
}
