//! What an image reaches: manifests of an index, config and layers of a manifest.

use crate::disk;
use crate::{LocalStore, Result};
use digest::{DiffId, Digest};
use serde_json::Value;
use std::collections::HashSet;

/// Manifests larger than this are not looked into (registries refuse those above 4 MiB).
pub(crate) const LARGEST: u64 = 16 << 20;

/// What to do about a manifest that the disk can't read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Unreadable {
    /// What it reaches is unknown, so nothing can be said to be garbage.
    #[default]
    Stop,
    /// It reaches nothing.
    Skip,
}

/// Blobs and layers that are reached from some manifest.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    pub blobs: HashSet<Digest>,
    pub layers: HashSet<DiffId>,
    /// Those of the blobs that are configurations.
    pub configs: HashSet<Digest>,
    pub unreadable: Unreadable,
}

impl LocalStore {
    /// Add what `digest` reaches. Absent blobs and those that are no JSON reach nothing, so a partial image (one
    /// platform of an index) is fine.
    pub(crate) fn reach(&self, digest: Digest, into: &mut Reached) -> Result<()> {
        let mut todo = vec![digest];
        while let Some(digest) = todo.pop() {
            if !into.blobs.insert(digest) {
                continue;
            }
            if !matches!(self.peek_blob(&digest)?, Some(size) if size <= LARGEST) {
                continue;
            }
            let value = match self.json_blob(&digest) {
                Err(_) if into.unreadable == Unreadable::Skip => None,
                other => other?,
            };
            let Some(value) = value else { continue };
            if let Some(diffs) = value.pointer("/rootfs/diff_ids").and_then(Value::as_array) {
                into.layers.extend(diffs.iter().filter_map(|d| d.as_str()?.parse::<DiffId>().ok()));
            }
            let link = |v: &Value| v.get("digest")?.as_str()?.parse::<Digest>().ok();
            for list in ["manifests", "layers", "blobs"] {
                for item in value.get(list).and_then(Value::as_array).into_iter().flatten() {
                    // Layers are no JSON; looking into them would read gigabytes.
                    match (link(item), list) {
                        (Some(d), "manifests") => todo.push(d),
                        (Some(d), _) => {
                            into.blobs.insert(d);
                        }
                        (None, _) => {}
                    }
                }
            }
            if let Some(config) = value.get("config").and_then(link) {
                into.configs.insert(config);
                todo.push(config);
            }
        }
        Ok(())
    }

    fn json_blob(&self, digest: &Digest) -> Result<Option<Value>> {
        let bytes = disk::read_optional(&self.blob_path(digest))?.unwrap_or_default();
        // A first byte tells packed layers and other binary blobs apart without parsing.
        if bytes.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
            return Ok(None);
        }
        Ok(serde_json::from_slice(&bytes).ok())
    }
}
