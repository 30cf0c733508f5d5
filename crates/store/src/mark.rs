//! The inventory of a store: what there is, how large it is, and what needs what.

use crate::disk;
use crate::lease::Held;
use crate::mounts::{MountFolder, try_lock_mount};
use crate::reach::{Reached, Unreadable};
use crate::{LocalStore, Result, SnapshotId};
use digest::{CacheKey, DiffId, Digest};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What takes space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Object {
    Blob(Digest),
    Snapshot(SnapshotId),
    /// The folder of a cache mount, by its path and the name that people know.
    Mount(PathBuf, String),
}

/// What keeps objects and may be evicted by a policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum EntryId {
    Record(CacheKey),
    Layer(DiffId),
    /// A cache mount, which needs itself only.
    Mount(PathBuf),
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub id: EntryId,
    pub used: SystemTime,
    /// Seconds since 1970.
    pub created: u64,
    pub needs: Vec<Object>,
    pub batch: String,
    /// Kept by a reference or by a lease: no policy evicts it.
    pub rooted: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Inventory {
    /// Bytes on disk of each object.
    pub objects: BTreeMap<Object, u64>,
    pub entries: Vec<Entry>,
    /// Objects that a reference or a lease keeps.
    pub rooted: HashSet<Object>,
    /// Records that can never be used again: torn, not durable, or with needs that are gone.
    pub broken: Vec<EntryId>,
    /// Bytes that snapshots would take in addition if they shared no files, of those that share some.
    pub saved: HashMap<SnapshotId, u64>,
    /// Batches of usable snapshots.
    pub snapshot_batches: HashMap<SnapshotId, String>,
}

impl LocalStore {
    /// Everything there is; `mounts` were looked at before, since that takes long.
    pub(crate) fn inventory(&self, unreadable: Unreadable, mounts: Vec<MountFolder>) -> Result<Inventory> {
        let mut inventory = Inventory::default();
        let mut reached = Reached { unreadable, ..Reached::default() };
        for reference in self.list_refs()? {
            self.reach(reference.target.digest, &mut reached)?;
        }
        let held = self.held_by_all()?;
        inventory.rooted.extend(reached.blobs.iter().copied().map(Object::Blob));
        for thing in &held {
            match thing {
                Held::Blob(d) => drop(inventory.rooted.insert(Object::Blob(*d))),
                Held::Snapshot(s) => drop(inventory.rooted.insert(Object::Snapshot(s.clone()))),
                Held::Layer(_) | Held::Record(_) => {}
            }
        }
        self.each_sharded("blobs/sha256", "", |hex, path| {
            if let (Some(raw), Ok(meta)) = (digest::from_hex(hex), fs::symlink_metadata(path)) {
                inventory.objects.insert(Object::Blob(Digest::from_bytes(raw)), meta.blocks() * 512);
            }
            Ok(())
        })?;
        for name in disk::names(&self.path("snapshots"))? {
            let Ok(id) = name.parse::<SnapshotId>() else { continue };
            let usage = self.snapshot_usage(&id);
            inventory.objects.insert(Object::Snapshot(id.clone()), usage.bytes);
            if usage.saved > 0 {
                inventory.saved.insert(id.clone(), usage.saved);
            }
            if let Some(record) = self.peek_snapshot(&id)? {
                inventory.snapshot_batches.insert(id, record.stamp.batch);
            }
        }
        self.each_sharded("layers-v1", ".json", |hex, path| {
            let Some(diff) = digest::from_hex(hex).map(|raw| DiffId(Digest::from_bytes(raw))) else {
                return Ok(());
            };
            let Some((record, batch)) = self.peek_layer(&diff)?.zip(self.layer_batch(&diff)?) else {
                inventory.broken.push(EntryId::Layer(diff));
                return Ok(());
            };
            let mut needs: Vec<_> = record.blobs.iter().map(|b| Object::Blob(b.digest)).collect();
            needs.extend(record.snapshot.map(Object::Snapshot));
            let rooted = reached.layers.contains(&diff) || held.contains(&Held::Layer(diff));
            inventory.add(Entry {
                id: EntryId::Layer(diff),
                used: used(path),
                created: record.created,
                needs,
                batch,
                rooted,
            });
            Ok(())
        })?;
        self.each_sharded("cache-v1", ".json", |hex, path| {
            let Ok(key) = hex.parse::<CacheKey>() else { return Ok(()) };
            let found = match self.peek_record(&key)? {
                Some((record, batch)) if self.needs_present(&record)? => Some((record, batch)),
                _ => None,
            };
            let Some((record, batch)) = found else {
                inventory.broken.push(EntryId::Record(key));
                return Ok(());
            };
            let mut needs: Vec<_> = record.blobs.into_iter().map(Object::Blob).collect();
            needs.extend(record.snapshots.into_iter().map(Object::Snapshot));
            let rooted = held.contains(&Held::Record(key));
            inventory.add(Entry {
                id: EntryId::Record(key),
                used: used(path),
                created: record.created,
                needs,
                batch,
                rooted,
            });
            Ok(())
        })?;
        for mount in mounts {
            let object = Object::Mount(mount.path.clone(), mount.name.clone());
            inventory.objects.insert(object.clone(), mount.bytes);
            let used = mount.used;
            let created = used.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
            inventory.add(Entry {
                rooted: try_lock_mount(&mount.path).is_none(),
                id: EntryId::Mount(mount.path),
                used,
                created,
                needs: vec![object],
                batch: String::new(),
            });
        }
        Ok(inventory)
    }

    /// Call `visit` with the stem and the path of each file in the 256 folders below `folder`.
    pub(crate) fn each_sharded(
        &self,
        folder: &str,
        suffix: &str,
        mut visit: impl FnMut(&str, &Path) -> Result<()>,
    ) -> Result<()> {
        for shard in disk::names(&self.path(folder))? {
            let dir = self.path(folder).join(&shard);
            for name in disk::names(&dir)? {
                match name.strip_suffix(suffix) {
                    Some(stem) if stem.starts_with(&shard) => visit(stem, &dir.join(&name))?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    pub(crate) fn entry_path(&self, id: &EntryId) -> PathBuf {
        match id {
            EntryId::Record(key) => self.cache_path(key),
            EntryId::Layer(diff) => self.layer_path(diff),
            EntryId::Mount(path) => path.clone(),
        }
    }
}

impl Inventory {
    fn add(&mut self, entry: Entry) {
        if entry.rooted {
            self.rooted.extend(entry.needs.iter().cloned());
        }
        self.entries.push(entry);
    }
}

fn used(path: &Path) -> SystemTime {
    fs::symlink_metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}
