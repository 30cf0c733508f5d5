//! Cache records: what a cache key stands for, and an index from operations to keys.

use crate::batch::Stamp;
use crate::disk::{self, Durability};
use crate::error::{Context, Error};
use crate::lease::Held;
use crate::{LocalStore, Result, SnapshotId, sealed};
use digest::{CacheKey, Digest};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::str::FromStr;

/// Of an index, only this many bytes at the end are read: the newest thousand keys.
const INDEX_TAIL: u64 = 65 * 1024;

/// Hash of an operation without its inputs. Records of one operation can be listed together, which
/// is how a miss is explained.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpHash([u8; 32]);

impl OpHash {
    pub const fn from_bytes(bytes: [u8; 32]) -> OpHash {
        OpHash(bytes)
    }
    pub fn hex(&self) -> String {
        digest::to_hex(&self.0)
    }
}
impl fmt::Debug for OpHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpHash({})", self.hex())
    }
}
impl Serialize for OpHash {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.hex())
    }
}
impl<'de> Deserialize<'de> for OpHash {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(d)?;
        digest::from_hex(&hex)
            .map(OpHash)
            .ok_or_else(|| serde::de::Error::custom("not 64 hexadecimal digits"))
    }
}

/// The stored result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordV1 {
    /// The result, in a form that only its writer knows. It should carry a version of its own.
    pub payload: serde_json::Value,
    /// Snapshots that the result needs: kept as long as the record, and the record is a miss where
    /// one is gone.
    #[serde(default)]
    pub snapshots: Vec<SnapshotId>,
    /// Blobs that the result needs, likewise.
    #[serde(default)]
    pub blobs: Vec<Digest>,
    /// The operation, for the index.
    #[serde(default)]
    pub op: Option<OpHash>,
    /// The named parts of the key.
    #[serde(default)]
    pub parts: BTreeMap<String, String>,
    /// Seconds since 1970; set by the store.
    #[serde(default)]
    pub created: u64,
}

impl RecordV1 {
    /// A result of snapshots and nothing else.
    pub fn of(snapshots: Vec<SnapshotId>) -> Self {
        RecordV1 {
            payload: serde_json::Value::Null,
            snapshots,
            blobs: Vec::new(),
            op: None,
            parts: BTreeMap::new(),
            created: 0,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    key: CacheKey,
    stamp: Stamp,
    #[serde(flatten)]
    record: RecordV1,
}

impl LocalStore {
    /// Look a key up. A hit is held, with all that it needs. A record whose needs are gone is a miss
    /// and is dropped.
    pub fn cache_get(&self, key: &CacheKey) -> Result<Option<RecordV1>> {
        let guard = self.shared()?;
        let Some(stored) = self.stored_record(key)? else { return Ok(None) };
        if !self.needs_present(&stored.record)? {
            if self.inner.writable {
                disk::remove_file(&self.cache_path(key))?;
            }
            return Ok(None);
        }
        let record = stored.record;
        let mut held = vec![Held::Record(*key)];
        held.extend(record.snapshots.iter().cloned().map(Held::Snapshot));
        held.extend(record.blobs.iter().copied().map(Held::Blob));
        self.hold_guarded(&held, &guard)?;
        drop(guard);
        self.touch(&self.cache_path(key));
        Ok(Some(record))
    }

    /// Store what `key` stands for, replacing what was there. Visible to all at once, durable with
    /// the next [`LocalStore::seal_batch`]. The record is held.
    pub fn cache_put(&self, key: &CacheKey, mut record: RecordV1) -> Result<()> {
        record.created = self.now_secs();
        let path = self.cache_path(key);
        let guard = self.shared()?;
        self.hold_guarded(&[Held::Record(*key)], &guard)?;
        for id in &record.snapshots {
            self.adopt_snapshot(id)?;
        }
        let op = record.op;
        self.stamped(|stamp| {
            let stored = Stored { version: 1, key: *key, stamp, record };
            let bytes =
                sealed::encode(&stored).map_err(|source| Error::Malformed { path: path.clone(), source })?;
            disk::write_atomic(&self.tmp_path()?, &path, &bytes, Durability::Cached)
        })?;
        match op {
            Some(op) => self.index_add(&op, key),
            None => Ok(()),
        }
    }

    /// Forget one key. `Ok(true)` where there was a record.
    pub fn cache_remove(&self, key: &CacheKey) -> Result<bool> {
        self.check_writable()?;
        disk::remove_file(&self.cache_path(key))
    }

    /// The keys that were stored for an operation, newest first, each once. Their records may be gone.
    pub fn cache_index(&self, op: &OpHash) -> Result<Vec<CacheKey>> {
        let path = self.index_path(&op.hex());
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        let len = file.metadata().at("read", &path)?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(INDEX_TAIL))).at("read", &path)?;
        let mut text = Vec::new();
        file.take(INDEX_TAIL).read_to_end(&mut text).at("read", &path)?;
        let mut seen = HashSet::new();
        Ok(text
            .rsplit(|b| *b == b'\n')
            // Lines cut by the window or by a loss of power do not parse.
            .filter_map(|line| CacheKey::from_str(std::str::from_utf8(line).ok()?).ok())
            .filter(|key| seen.insert(*key))
            .collect())
    }

    fn index_add(&self, op: &OpHash, key: &CacheKey) -> Result<()> {
        let path = self.index_path(&op.hex());
        let mut file = disk::with_parent(&path, || disk::open_or_create(&path)).at("open", &path)?;
        // One append of less than a page: lines of several writers never mix. The line begins with a
        // line end, so that it stands apart from one that a full disk cut short.
        file.write_all(format!("\n{}\n", key.hex()).as_bytes()).at("write", &path)
    }

    /// A valid record, without holding it and without looking at its needs.
    pub(crate) fn peek_record(&self, key: &CacheKey) -> Result<Option<(RecordV1, String)>> {
        Ok(self.stored_record(key)?.map(|s| (s.record, s.stamp.batch)))
    }

    pub(crate) fn needs_present(&self, record: &RecordV1) -> Result<bool> {
        for id in &record.snapshots {
            if !self.has_snapshot(id)? {
                return Ok(false);
            }
        }
        for digest in &record.blobs {
            if self.peek_blob(digest)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn stored_record(&self, key: &CacheKey) -> Result<Option<Stored>> {
        let Some(bytes) = disk::read_optional(&self.cache_path(key))? else { return Ok(None) };
        // Torn by a loss of power before the seal: as if it had not been written.
        let Ok(stored) = sealed::decode::<Stored>(&bytes) else { return Ok(None) };
        let usable = stored.version == 1 && stored.key == *key && self.is_durable(&stored.stamp);
        Ok(usable.then_some(stored))
    }
}
