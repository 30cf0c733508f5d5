//! Layer records: what the store has of a layer, by the digest of its tar.

use crate::batch::Stamp;
use crate::disk::{self, Durability};
use crate::error::Error;
use crate::lease::Held;
use crate::lock::lock_dir;
use crate::{LocalStore, Result, SnapshotId, sealed};
use digest::{DiffId, Digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One stored form of a layer: as it was pulled, or as it was compressed here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBlobV1 {
    pub media_type: String,
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What is known of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecordV1 {
    pub diff_id: DiffId,
    /// Bytes of the uncompressed tar, where they are known.
    pub size: Option<u64>,
    /// The unpacked form.
    pub snapshot: Option<SnapshotId>,
    /// The packed forms.
    #[serde(default)]
    pub blobs: Vec<LayerBlobV1>,
    /// Seconds since 1970; set by the store.
    #[serde(default)]
    pub created: u64,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    stamp: Stamp,
    #[serde(flatten)]
    record: LayerRecordV1,
}

impl LocalStore {
    /// What the store has of a layer; `None` where it has neither the files nor a blob. Forms that
    /// are gone are left out. What is returned is held.
    pub fn layer(&self, diff_id: &DiffId) -> Result<Option<LayerRecordV1>> {
        let guard = self.shared()?;
        let Some(record) = self.peek_layer(diff_id)? else { return Ok(None) };
        let mut held = vec![Held::Layer(*diff_id)];
        held.extend(record.snapshot.iter().cloned().map(Held::Snapshot));
        held.extend(record.blobs.iter().map(|b| Held::Blob(b.digest)));
        self.hold_guarded(&held, &guard)?;
        drop(guard);
        self.adopt_layer(&record)?;
        self.touch(&self.layer_path(diff_id));
        Ok(Some(record))
    }

    /// Bytes of a layer's tar, where that is known. Nothing is held.
    pub fn layer_size(&self, diff_id: &DiffId) -> Result<Option<u64>> {
        Ok(self.stored_layer(diff_id)?.and_then(|s| s.record.size))
    }

    /// Add what `record` knows to what is known of the layer: another blob joins the list, a snapshot
    /// is noted unless a usable one is there already, so of two writers none is lost. The layer is
    /// held. Returns the merged record.
    pub fn put_layer(&self, record: LayerRecordV1) -> Result<LayerRecordV1> {
        let path = self.layer_path(&record.diff_id);
        let shard = path.parent().unwrap_or(self.root());
        let _lock = lock_dir(shard)?;
        let guard = self.shared()?;
        self.hold_guarded(&[Held::Layer(record.diff_id)], &guard)?;
        // Nothing is written, and nothing has to be sealed, where all of it is known: as when what is up to date is pulled.
        let old = match self.stored_layer(&record.diff_id)? {
            None => None,
            Some(old) => {
                let merged = merge(self.present_forms(old.record.clone())?, record.clone());
                if merged == old.record {
                    self.adopt_layer(&merged)?;
                    return Ok(merged);
                }
                Some((old.stamp, merged))
            }
        };
        self.stamped(|stamp| {
            let (merged, stamp, durability) = match old {
                None => {
                    let created = self.now_secs();
                    (LayerRecordV1 { created, ..record }, stamp, Durability::Cached)
                }
                // Replacing the record of another batch must not make it less durable than it was.
                Some((old, merged)) if old == stamp => (merged, stamp, Durability::Cached),
                Some((_, merged)) => (merged, Stamp::synced(), Durability::Synced),
            };
            let stored = Stored { version: 1, stamp, record: merged };
            let bytes =
                sealed::encode(&stored).map_err(|source| Error::Malformed { path: path.clone(), source })?;
            disk::write_atomic(&self.tmp_path()?, &path, &bytes, durability)?;
            self.adopt_layer(&stored.record)?;
            Ok(stored.record)
        })
    }

    /// See to it that a layer that was found outlives power loss once our batch is sealed.
    fn adopt_layer(&self, record: &LayerRecordV1) -> Result<()> {
        if let Some(stored) = self.stored_layer(&record.diff_id)?
            && self.is_unsealed(&stored.stamp)
        {
            self.adopt(Held::Layer(record.diff_id));
        }
        match &record.snapshot {
            Some(id) => self.adopt_snapshot(id),
            None => Ok(()),
        }
    }

    /// Note that a record and all that it means is on disk, where its batch does not say so.
    pub(crate) fn restamp_layer(&self, diff_id: &DiffId) -> Result<()> {
        let path = self.layer_path(diff_id);
        let _lock = lock_dir(path.parent().unwrap_or(self.root()))?;
        match self.stored_layer(diff_id)? {
            Some(mut stored) if self.is_unsealed(&stored.stamp) => {
                stored.stamp = Stamp::synced();
                let bytes = sealed::encode(&stored)
                    .map_err(|source| Error::Malformed { path: path.clone(), source })?;
                disk::write_atomic(&self.tmp_path()?, &path, &bytes, Durability::Synced)
            }
            _ => Ok(()),
        }
    }

    /// The record without forms that are gone, and without holding anything.
    pub(crate) fn peek_layer(&self, diff_id: &DiffId) -> Result<Option<LayerRecordV1>> {
        let Some(stored) = self.stored_layer(diff_id)? else { return Ok(None) };
        let record = self.present_forms(stored.record)?;
        Ok((record.snapshot.is_some() || !record.blobs.is_empty()).then_some(record))
    }

    /// The batch that made the record durable, for the collection of markers.
    pub(crate) fn layer_batch(&self, diff_id: &DiffId) -> Result<Option<String>> {
        Ok(self.stored_layer(diff_id)?.map(|s| s.stamp.batch))
    }

    /// All forms that were ever noted, also those that are gone.
    pub(crate) fn known_blobs(&self, diff_id: &DiffId) -> Result<Vec<Digest>> {
        let stored = self.stored_layer(diff_id)?;
        Ok(stored.into_iter().flat_map(|s| s.record.blobs).map(|b| b.digest).collect())
    }

    fn stored_layer(&self, diff_id: &DiffId) -> Result<Option<Stored>> {
        let Some(bytes) = disk::read_optional(&self.layer_path(diff_id))? else { return Ok(None) };
        // Torn by a loss of power before the seal: as if it had not been written.
        let Ok(stored) = sealed::decode::<Stored>(&bytes) else { return Ok(None) };
        let usable =
            stored.version == 1 && stored.record.diff_id == *diff_id && self.is_durable(&stored.stamp);
        Ok(usable.then_some(stored))
    }

    fn present_forms(&self, mut record: LayerRecordV1) -> Result<LayerRecordV1> {
        if let Some(id) = &record.snapshot
            && !self.has_snapshot(id)?
        {
            record.snapshot = None;
        }
        let mut blobs = Vec::with_capacity(record.blobs.len());
        for blob in record.blobs {
            if self.peek_blob(&blob.digest)? == Some(blob.size) {
                blobs.push(blob);
            }
        }
        record.blobs = blobs;
        Ok(record)
    }
}

fn merge(mut old: LayerRecordV1, new: LayerRecordV1) -> LayerRecordV1 {
    old.size = old.size.or(new.size);
    old.snapshot = old.snapshot.or(new.snapshot);
    for blob in new.blobs {
        match old.blobs.iter_mut().find(|b| b.digest == blob.digest && b.media_type == blob.media_type) {
            Some(known) => known.annotations.extend(blob.annotations),
            None => old.blobs.push(blob),
        }
    }
    old
}
