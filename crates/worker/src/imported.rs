//! Results that caches from elsewhere have: by key, the layers and where their blobs are.
//!
//! A result is brought here only when a build needs it. A blob that can't be had, or that isn't what was
//! announced, makes the result a miss; that is told in the step's log and stops nothing.

use crate::{LocalWorker, RemoteLayer};
use digest::CacheKey;
use graph::VertexRef;
use solver::{Event, LogStream, Observer};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use store::{OpHash, SnapshotId};

/// Records of caches that were asked for. Where several know a key, the first one counts.
#[derive(Debug, Default)]
pub struct ImportedCache {
    layers: Vec<RemoteLayer>,
    records: HashMap<CacheKey, Arc<[usize]>>,
    ops: HashSet<OpHash>,
}

impl ImportedCache {
    /// Take in records of one cache: keys and op of each, and its stack of layers (lowest first) as indexes
    /// into `layers`. Records with an index beyond the end are left out.
    pub fn add(
        &mut self,
        layers: Vec<RemoteLayer>,
        records: impl IntoIterator<Item = (Vec<CacheKey>, OpHash, Vec<usize>)>,
    ) {
        let (base, count) = (self.layers.len(), layers.len());
        self.layers.extend(layers);
        for (keys, op, stack) in records {
            if stack.iter().any(|i| *i >= count) {
                continue;
            }
            let stack: Arc<[usize]> = stack.into_iter().map(|i| base + i).collect();
            for key in keys {
                self.records.entry(key).or_insert_with(|| stack.clone());
            }
            self.ops.insert(op);
        }
    }

    /// The layers that a key stands for, lowest first.
    pub fn get(&self, key: &CacheKey) -> Option<Vec<RemoteLayer>> {
        let stack = self.records.get(key)?;
        Some(stack.iter().filter_map(|i| self.layers.get(*i).cloned()).collect())
    }

    pub fn has_op(&self, op: &OpHash) -> bool {
        self.ops.contains(op)
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl LocalWorker {
    /// Bring the result of `key` into the store, each layer on its own and all at the same time.
    pub(crate) async fn imported(
        self: Arc<Self>,
        vertex: VertexRef,
        key: &CacheKey,
        observer: &Arc<dyn Observer>,
    ) -> Option<Vec<SnapshotId>> {
        let layers = self.config.imports.get(key)?;
        match self.fetch_stack(layers, observer, vertex).await {
            Ok(ids) => Some(ids),
            Err(e) => {
                let text = format!("imported cache can't be used, the step runs instead: {e}\n");
                let event = Event::Log { vertex, stream: LogStream::Stderr, data: text.as_bytes() };
                observer.event(event);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use digest::{DiffId, Digest};
    use graph::ImageOrigin;
    use oci::Descriptor;

    fn layer(name: &str) -> RemoteLayer {
        let digest = Digest::of(name.as_bytes());
        RemoteLayer {
            diff_id: DiffId(digest),
            blob: Descriptor::new(oci::media::OCI_LAYER, digest, 1),
            origin: ImageOrigin::Store,
            created: None,
        }
    }

    #[test]
    fn the_first_cache_counts_and_broken_records_do_not() {
        let key = |n: u8| CacheKey::from_bytes([n; 32]);
        let op = |n: u8| OpHash::from_bytes([n; 32]);
        let mut cache = ImportedCache::default();
        assert!(cache.is_empty());
        cache.add(vec![layer("a")], [(vec![key(1), key(2)], op(1), vec![0]), (vec![key(3)], op(2), vec![1])]);
        cache.add(vec![layer("b"), layer("c")], [(vec![key(2), key(4)], op(3), vec![0, 1])]);
        assert_eq!(cache.get(&key(1)), Some(vec![layer("a")]));
        assert_eq!(cache.get(&key(2)), Some(vec![layer("a")]));
        assert_eq!(cache.get(&key(3)), None);
        assert_eq!(cache.get(&key(4)), Some(vec![layer("b"), layer("c")]));
        assert!(cache.has_op(&op(1)) && cache.has_op(&op(3)) && !cache.has_op(&op(2)));
    }
}
