//! The inventory of a store: what there is, how large it is, and what needs what.

use crate::disk;
use crate::lease::Journal;
use crate::mounts::{MountFolder, try_lock_mount};
use crate::reach::Unreadable;
use crate::roots::Roots;
use crate::{LocalStore, Result, SnapshotId};
use digest::{CacheKey, DiffId, Digest};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
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

/// What is in a folder of records.
type Listed = std::result::Result<Entry, EntryId>;

impl LocalStore {
    /// The roots as they are now, without any lock; see [`Roots`].
    pub(crate) fn roots(&self, unreadable: Unreadable) -> Result<Roots> {
        let mut roots = Roots::new(unreadable);
        roots.note(self, Journal::default().read(self)?)?;
        roots.add_named(self, self.ref_targets(Unreadable::Skip)?)?;
        roots.add_containers(self, self.containers_for_roots(Unreadable::Skip)?)?;
        Ok(roots)
    }

    /// Everything there is; `mounts` were looked at before, since that takes long.
    pub(crate) fn inventory(&self, roots: &Roots, mounts: Vec<MountFolder>) -> Result<Inventory> {
        let mut inventory = Inventory { rooted: roots.objects.clone(), ..Inventory::default() };
        let blobs = self.each_shard("blobs/sha256", |shard, dir| {
            let found = disk::blocks(dir)?.into_iter().filter_map(|(hex, bytes)| {
                let raw = digest::from_hex(&hex).filter(|_| hex.starts_with(shard))?;
                Some((Object::Blob(Digest::from_bytes(raw)), bytes))
            });
            Ok(found.collect())
        })?;
        inventory.objects.extend(blobs);
        let ids: Vec<SnapshotId> =
            disk::names(&self.path("snapshots"))?.iter().filter_map(|name| name.parse().ok()).collect();
        let snapshots: Vec<_> = ids
            .into_par_iter()
            .map(|id| -> Result<_> { Ok((self.snapshot_usage(&id), self.peek_snapshot(&id)?, id)) })
            .collect::<Result<_>>()?;
        for (usage, record, id) in snapshots {
            inventory.objects.insert(Object::Snapshot(id.clone()), usage.bytes);
            if usage.saved > 0 {
                inventory.saved.insert(id.clone(), usage.saved);
            }
            if let Some(record) = record {
                inventory.snapshot_batches.insert(id, record.stamp.batch);
            }
        }
        let layers = self.each_record("layers-v1", |hex, path| {
            let Some(diff) = digest::from_hex(hex).map(|raw| DiffId(Digest::from_bytes(raw))) else {
                return Ok(None);
            };
            let Some((record, batch)) = self.peek_layer(&diff)?.zip(self.layer_batch(&diff)?) else {
                return Ok(Some(Err(EntryId::Layer(diff))));
            };
            let mut needs: Vec<_> = record.blobs.iter().map(|b| Object::Blob(b.digest)).collect();
            needs.extend(record.snapshot.map(Object::Snapshot));
            let (id, used, created) = (EntryId::Layer(diff), used(path), record.created);
            Ok(Some(Ok(Entry { rooted: roots.entries.contains(&id), id, used, created, needs, batch })))
        })?;
        let records = self.each_record("cache-v1", |hex, path| {
            let Ok(key) = hex.parse::<CacheKey>() else { return Ok(None) };
            let found = match self.peek_record(&key)? {
                Some((record, batch)) if self.needs_present(&record)? => Some((record, batch)),
                _ => None,
            };
            let Some((record, batch)) = found else { return Ok(Some(Err(EntryId::Record(key)))) };
            let mut needs: Vec<_> = record.blobs.into_iter().map(Object::Blob).collect();
            needs.extend(record.snapshots.into_iter().map(Object::Snapshot));
            let (id, used, created) = (EntryId::Record(key), used(path), record.created);
            Ok(Some(Ok(Entry { rooted: roots.entries.contains(&id), id, used, created, needs, batch })))
        })?;
        for listed in layers.into_iter().chain(records) {
            match listed {
                Ok(entry) => inventory.add(entry),
                Err(broken) => inventory.broken.push(broken),
            }
        }
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

    /// The batch of a record that can be used; see [`Inventory::broken`].
    pub(crate) fn batch_of(&self, id: &EntryId) -> Result<Option<String>> {
        Ok(match id {
            EntryId::Record(key) => match self.peek_record(key)? {
                Some((record, batch)) => self.needs_present(&record)?.then_some(batch),
                None => None,
            },
            EntryId::Layer(diff) => match self.peek_layer(diff)? {
                Some(_) => self.layer_batch(diff)?,
                None => None,
            },
            EntryId::Mount(_) => None,
        })
    }

    fn each_record(
        &self,
        folder: &str,
        read: impl Fn(&str, &Path) -> Result<Option<Listed>> + Sync,
    ) -> Result<Vec<Listed>> {
        self.each_shard(folder, |shard, dir| {
            let mut out = Vec::new();
            for name in disk::names(dir)? {
                if let Some(stem) = name.strip_suffix(".json").filter(|stem| stem.starts_with(shard)) {
                    out.extend(read(stem, &dir.join(&name))?);
                }
            }
            Ok(out)
        })
    }

    /// What `look` finds in each of the 256 folders below `folder`, by name; several threads look.
    fn each_shard<T: Send>(
        &self,
        folder: &str,
        look: impl Fn(&str, &Path) -> Result<Vec<T>> + Sync,
    ) -> Result<Vec<T>> {
        let shards = disk::names(&self.path(folder))?;
        let found: Vec<Vec<T>> = shards
            .par_iter()
            .map(|shard| look(shard, &self.path(folder).join(shard)))
            .collect::<Result<_>>()?;
        Ok(found.into_iter().flatten().collect())
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
