//! Durability of many records at once.
//!
//! A record written during a build carries the id of the running kernel and the id of a batch, and
//! is not synced. It counts while that kernel runs (the page cache outlives every process), and for
//! ever once the batch is sealed: one checked `syncfs`, then a synced marker `batches/<id>`. So
//! `kill -9` loses nothing and power loss loses only what was not sealed yet.
//!
//! A build may find what another one has written and not sealed, or never will. What its own references
//! and records may need of that (layers and snapshots) it stamps anew, as synced, when it seals its own batch.

use crate::disk::{self, Durability};
use crate::error::{Context, Error};
use crate::lease::Held;
use crate::{LocalStore, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::io;
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
    /// One seal at a time. Holds the error number of the first that failed, which is final: the kernel
    /// reports a lost write once.
    sealing: Mutex<Option<i32>>,
    /// What was found in batches that are not sealed, such as those of a build beside us or of one that
    /// was killed. A reference of ours may need it.
    adopted: Mutex<HashSet<Held>>,
    /// Whether something was held since the last `syncfs`.
    found: AtomicBool,
}

impl Batches {
    /// Of the running kernel.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    pub fn new(boot: String) -> Result<Batches> {
        Ok(Batches {
            boot,
            current: RwLock::new(disk::random_hex()?),
            dirty: AtomicBool::new(false),
            sealing: Mutex::new(None),
            adopted: Mutex::new(HashSet::new()),
            found: AtomicBool::new(false),
        })
    }

    pub fn stamped<T>(&self, write: impl FnOnce(Stamp) -> Result<T>) -> Result<T> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        self.dirty.store(true, Ordering::SeqCst);
        write(Stamp { boot: self.boot.clone(), batch: current.clone() })
    }

    pub fn note_found(&self) {
        self.found.store(true, Ordering::SeqCst);
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
        let mut failed = batches.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(errno) = *failed {
            return Err(Error::io("sync", self.root(), io::Error::from_raw_os_error(errno)));
        }
        let adopted = std::mem::take(&mut *batches.adopted.lock().unwrap_or_else(PoisonError::into_inner));
        let dirty = batches.dirty.load(Ordering::SeqCst);
        if !dirty && adopted.is_empty() {
            return Ok(());
        }
        let fresh = disk::random_hex()?;
        let sealed = {
            let mut current = batches.current.write().unwrap_or_else(PoisonError::into_inner);
            batches.dirty.store(false, Ordering::SeqCst);
            std::mem::replace(&mut *current, fresh)
        };
        let written = self.seal(&sealed, &adopted);
        if let Err(e) = &written {
            *failed = Some(e.errno());
        }
        written
    }

    fn seal(&self, batch: &str, adopted: &HashSet<Held>) -> Result<()> {
        self.sync_found()?;
        // Their files are on disk now, whoever wrote them, and nobody changes them. They come before the marker:
        // records of this batch may need them.
        for thing in adopted {
            match thing {
                Held::Layer(diff_id) => self.restamp_layer(diff_id)?,
                Held::Snapshot(id) => self.restamp_snapshot(id)?,
                Held::Blob(_) | Held::Record(_) | Held::Named(_) => {}
            }
        }
        disk::write_atomic(&self.tmp_path()?, &self.marker(batch), b"", Durability::Synced)
    }

    /// Write out what this handle found or made, where that was not done since. What another process
    /// named a moment ago need not be durable yet.
    pub(crate) fn sync_found(&self) -> Result<()> {
        self.inner.batches.found.store(false, Ordering::SeqCst);
        self.sync_all()
    }
    pub(crate) fn has_found(&self) -> bool {
        self.inner.batches.found.load(Ordering::SeqCst)
    }

    /// Whether what carries `stamp` would not survive power loss, though it can be used now, and is not of
    /// our own batch.
    pub(crate) fn is_unsealed(&self, stamp: &Stamp) -> bool {
        let batches = &self.inner.batches;
        stamp.batch != SYNCED
            && *batches.current.read().unwrap_or_else(PoisonError::into_inner) != stamp.batch
            && !Path::exists(&self.marker(&stamp.batch))
    }

    /// Make it durable with the next seal, too.
    pub(crate) fn adopt(&self, thing: Held) {
        if self.inner.writable {
            self.inner.batches.adopted.lock().unwrap_or_else(PoisonError::into_inner).insert(thing);
        }
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
