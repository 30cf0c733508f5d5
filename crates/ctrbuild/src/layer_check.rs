//! Whether the files of unpacked layers are still those of their digests, for `ctrbuild store verify`.
//!
//! A layer that was made here packs to its digest, if it is known what lies below it: the images with a name tell; if
//! not, it can't be judged. One that was pulled was packed by somebody else, in a way that we may not know; where its blob is here, that is unpacked
//! again, and both are compared in our own packing. What has neither can't be judged, and passes.

use crate::blobs::{LayerFolders, layer_folders};
use crate::images::images_of;
use crate::{Error, lookup};
use digest::DiffId;
use layer::pack::{Form, PackOptions, Xattrs};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use store::{LocalStore, SnapshotV1};

/// Judges snapshots of a store.
pub struct LayerCheck {
    store: LocalStore,
    /// The diff ids from the base up to a layer, as one of the named images has them.
    chains: HashMap<DiffId, Vec<DiffId>>,
}

fn other(e: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(e)
}

impl LayerCheck {
    /// Learns from all named images what their layers lie on. Documents that are damaged tell nothing.
    pub fn new(store: &LocalStore) -> Result<Self, Error> {
        let mut chains = HashMap::new();
        for found in store.list_refs()? {
            let Ok(Some(document)) = lookup::document(store, &found.target.digest) else { continue };
            for image in images_of(store, &document).unwrap_or_default() {
                let diffs = &image.config.value.rootfs.diff_ids;
                for (i, diff) in diffs.iter().enumerate() {
                    chains.entry(*diff).or_insert_with(|| diffs[..=i].to_vec());
                }
            }
        }
        Ok(LayerCheck { store: store.clone(), chains })
    }

    /// Whether `files` are what `snapshot` says. Reads them all.
    pub fn is_sound(&self, files: &Path, snapshot: &SnapshotV1) -> io::Result<bool> {
        let Some(diff) = snapshot.diff_id else { return Ok(true) };
        let Some(record) = self.store.layer(&diff).map_err(other)? else { return Ok(true) };
        // What was completed by the layers below it is another thing than the layer by itself.
        let own = record.snapshot.as_ref().map(|id| self.store.idle_files(id));
        if own.as_deref() != Some(files) {
            return Ok(true);
        }
        let packed = match self.below(&diff)? {
            None => None,
            Some(LayerFolders { lowers, form, .. }) => {
                match pack(files, &lowers, &worker::pack_options(form)) {
                    // A Windows base may have what none of ours would.
                    Err(_) if !snapshot.made_here && form == Form::Windows => None,
                    packed => Some(packed?),
                }
            }
        };
        if packed == Some(diff) {
            return Ok(true);
        }
        if snapshot.made_here {
            // Its blobs were packed of these files, without what is as it is below. Who does not know what that was
            // can't tell.
            return Ok(packed.is_none());
        }
        for blob in &record.blobs {
            if self.store.blob_size(&blob.digest).map_err(other)?.is_some() {
                return self.is_what_unpacks(files, &blob.digest);
            }
        }
        Ok(packed.is_none())
    }

    fn below(&self, diff: &DiffId) -> io::Result<Option<LayerFolders>> {
        let Some(chain) = self.chains.get(diff) else { return Ok(None) };
        layer_folders(&self.store, chain)
    }

    fn is_what_unpacks(&self, files: &Path, blob: &digest::Digest) -> io::Result<bool> {
        let reader = match self.store.blob_reader(blob) {
            Ok(reader) => reader,
            // The blob's own damage is another finding.
            Err(_) => return Ok(true),
        };
        let active = self.store.prepare().map_err(other)?;
        let fresh = layer::decompress::decompress(reader, Default::default()).and_then(|(plain, _)| {
            layer::unpack::apply(plain, &active.upper(), &worker::unpack_options()).map_err(other)
        });
        if fresh.is_err() {
            return Ok(true);
        }
        let all = PackOptions { xattrs: Xattrs::All, ..worker::pack_options(Form::Unix) };
        Ok(pack(files, &[], &all)? == pack(&active.upper(), &[], &all)?)
    }
}

fn pack(files: &Path, lowers: &[PathBuf], options: &PackOptions) -> io::Result<DiffId> {
    let lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
    layer::pack::diff_id(files, &lowers, options).map(|stats| stats.diff_id).map_err(other)
}
