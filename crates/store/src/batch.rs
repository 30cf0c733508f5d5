//! Durability of many records at once.
//!
//! A record written during a build carries the id of the running kernel and the id of a batch, and
//! is not synced. It counts while that kernel runs (the page cache outlives every process), and for
//! ever once the batch is sealed: one checked `syncfs`, then a synced marker `batches/<id>`. So
//! `kill -9` loses nothing and power loss loses only what was not sealed yet.

use crate::disk::{self, Durability};
use crate::error::Context;
use crate::{LocalStore, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

/// When a record was written, in terms of durability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub boot: String,
    pub batch: String,
}

impl Stamp {
    /// For a record that was synced on its own.
    pub fn synced() -> Stamp {
        Stamp { boot: String::new(), batch: SYNCED.to_string() }
    }
}

/// Stands for the batch of records that need no seal.
const SYNCED: &str = "synced";

pub(crate) struct Batches {
    boot: String,
    /// Written records hold the read side, so that sealing waits until the last one that carries the
    /// old id is in place.
    current: RwLock<String>,
    dirty: AtomicBool,
    /// One seal at a time.
    sealing: Mutex<()>,
}

impl Batches {
    pub fn new(boot: String) -> Result<Batches> {
        Ok(Batches {
            boot,
            current: RwLock::new(disk::random_hex()?),
            dirty: AtomicBool::new(false),
            sealing: Mutex::new(()),
        })
    }

    pub fn stamped<T>(&self, write: impl FnOnce(Stamp) -> Result<T>) -> Result<T> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        self.dirty.store(true, Ordering::SeqCst);
        write(Stamp { boot: self.boot.clone(), batch: current.clone() })
    }
}

impl LocalStore {
    /// Make every record and snapshot that this handle wrote durable: one `syncfs` of the store's
    /// file system, then a marker. `Ok` means that they outlive power loss. Does nothing where
    /// nothing was written since the last seal.
    ///
    /// # Errors
    /// Write errors of the file system since the store was opened come back here; the batch is then
    /// not sealed.
    pub fn seal_batch(&self) -> Result<()> {
        let batches = &self.inner.batches;
        let _one = batches.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        if !batches.dirty.load(Ordering::SeqCst) {
            return Ok(());
        }
        let fresh = disk::random_hex()?;
        let sealed = {
            let mut current = batches.current.write().unwrap_or_else(PoisonError::into_inner);
            batches.dirty.store(false, Ordering::SeqCst);
            std::mem::replace(&mut *current, fresh)
        };
        self.sync_all()?;
        let tmp = self.tmp_path()?;
        disk::write_atomic(&tmp, &self.marker(&sealed), b"", Durability::Synced)
    }

    /// Write out all of the store's file system. The descriptor was open since before the first write,
    /// so every write error since then comes back.
    pub(crate) fn sync_all(&self) -> Result<()> {
        rustix::fs::syncfs(&self.inner.root_dir).at("sync", self.root())
    }

    fn marker(&self, batch: &str) -> std::path::PathBuf {
        self.path("batches").join(batch)
    }

    /// Whether what carries `stamp` is whole: it was synced or sealed, or its kernel still runs.
    pub(crate) fn is_durable(&self, stamp: &Stamp) -> bool {
        stamp.boot == self.inner.batches.boot
            || stamp.batch == SYNCED
            || (disk::is_random_hex(&stamp.batch) && Path::exists(&self.marker(&stamp.batch)))
    }
}
