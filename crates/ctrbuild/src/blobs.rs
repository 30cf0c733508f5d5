//! Blobs between the store and the rest: sinks for pulls and loads, sources for pushes and archives.

use digest::{ChainId, DiffId, Digest, Sha256};
use layer::pack::Form;
use oci::{BlobSink, BlobSource, BlobWriter, Content, Descriptor};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use store::{Incoming, LocalStore, Partial, PartialBlob};
use worker::{BlobOrigin, FetchError};

/// Takes blobs into the store; broken downloads go on where they broke.
pub struct StoreSink {
    store: LocalStore,
    /// Who reads the one blob along that comes.
    along: Option<Arc<Incoming>>,
}

impl StoreSink {
    pub fn new(store: &LocalStore) -> Self {
        StoreSink { store: store.clone(), along: None }
    }

    /// For a single blob.
    fn of_one(store: &LocalStore, along: Option<Arc<Incoming>>) -> Self {
        StoreSink { store: store.clone(), along }
    }
}

impl BlobSink for StoreSink {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        Ok(self.store.blob_size(&blob.digest).map_err(other)? == Some(blob.size))
    }
    fn begin(&self, blob: &Descriptor) -> io::Result<Box<dyn BlobWriter>> {
        Ok(match self.store.partial(&blob.digest, blob.size).map_err(other)? {
            Partial::Present => Box::new(Present),
            Partial::Resume(mut partial) => {
                if let Some(along) = &self.along {
                    partial.publish_to(along.clone()).map_err(other)?;
                }
                Box::new(Writer { partial })
            }
        })
    }
}

/// Bytes that are not the announced ones stay recognisable as such.
fn other(e: store::Error) -> io::Error {
    match e {
        store::Error::Mismatch(mismatch) => mismatch.into(),
        e => io::Error::other(e),
    }
}

struct Writer {
    partial: Box<PartialBlob>,
}

impl BlobWriter for Writer {
    fn resume(&mut self) -> io::Result<(u64, Sha256)> {
        Ok((self.partial.len(), self.partial.hasher()))
    }
    fn restart(&mut self) -> io::Result<()> {
        self.partial.restart().map_err(other)
    }
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.partial.append(bytes).map_err(other)
    }
    fn commit(self: Box<Self>) -> io::Result<()> {
        self.partial.commit().map(|_| ()).map_err(other)
    }
}

/// Somebody else brought the blob meanwhile: what comes is dropped.
struct Present;

impl BlobWriter for Present {
    fn restart(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn commit(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
    fn is_present(&self) -> bool {
        true
    }
}

/// Gives out the blobs of images. A layer that exists only unpacked is packed while it is read; the same
/// snapshot always gives the same bytes.
pub struct ImageBlobs {
    store: LocalStore,
    /// For the digest of an unpacked layer, the diff ids from the base up to it.
    chains: BTreeMap<Digest, Vec<DiffId>>,
}

impl ImageBlobs {
    /// The blobs of all images of some contents.
    pub fn of<'c>(
        store: &LocalStore,
        contents: impl IntoIterator<Item = &'c Content>,
    ) -> Result<Self, crate::Error> {
        let mut chains = BTreeMap::new();
        for manifest in contents.into_iter().flat_map(Content::manifests) {
            let Some(config) = crate::lookup::config(store, manifest)? else { continue };
            let diffs = &config.value.rootfs.diff_ids;
            for (i, diff) in diffs.iter().enumerate() {
                chains.entry(diff.0).or_insert_with(|| diffs[..=i].to_vec());
            }
        }
        Ok(ImageBlobs::with_chains(store, chains))
    }

    /// Blobs of the store, and unpacked layers by the digest of their tar, each with the diff ids from the base
    /// up to it.
    pub fn with_chains(store: &LocalStore, chains: BTreeMap<Digest, Vec<DiffId>>) -> Self {
        ImageBlobs { store: store.clone(), chains }
    }

    fn packed(&self, digest: &Digest) -> io::Result<Option<Box<dyn Read + Send>>> {
        let Some(chain) = self.chains.get(digest) else { return Ok(None) };
        let Some(LayerFolders { upper, lowers, form }) = layer_folders(&self.store, chain)? else {
            return Ok(None);
        };
        let (reader, mut writer) = io::pipe()?;
        let options = worker::pack_options(form);
        // The store handle keeps the folders from being collected meanwhile.
        let store = self.store.clone();
        std::thread::spawn(move || {
            let _held = store;
            let lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
            // A failure ends the stream early, and whoever reads it sees that size and digest are wrong.
            let _ = layer::pack::write_layer(&upper, &lowers, &options, &mut writer);
        });
        Ok(Some(Box::new(reader)))
    }
}

/// Where a layer and those below it are.
pub struct LayerFolders {
    pub upper: PathBuf,
    /// The topmost first.
    pub lowers: Vec<PathBuf>,
    /// How the layer is packed.
    pub form: Form,
}

/// The folder of the last of `chain` and those below it. `None` if one is not unpacked.
pub fn layer_folders(store: &LocalStore, chain: &[DiffId]) -> io::Result<Option<LayerFolders>> {
    let mut form = Form::Unix;
    let mut folders = Vec::with_capacity(chain.len());
    for (i, diff) in chain.iter().enumerate() {
        let mut id = store.layer(diff).map_err(other)?.and_then(|l| l.snapshot);
        if id.is_none()
            && i + 1 < chain.len()
            && let Some(up_to) = ChainId::of(&chain[..=i])
        {
            // One that lies below may be there only as it was completed, which is what the layer was made on.
            id = worker::completed_layer(store, up_to).map_err(other)?;
        }
        let Some(id) = id else { return Ok(None) };
        folders.push(store.snapshot_path(&id).map_err(other)?);
        form = worker::windows::form(store, &id).map_err(other)?;
    }
    folders.reverse();
    let upper = folders.remove(0);
    Ok(Some(LayerFolders { upper, lowers: folders, form }))
}

impl BlobSource for ImageBlobs {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        match self.store.blob_reader(&blob.digest) {
            Ok(reader) => return Ok(Box::new(reader)),
            Err(e) if e.is_missing() => {}
            Err(e) => return Err(other(e)),
        }
        self.packed(&blob.digest)?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("blob {} is not in the store", blob.digest))
        })
    }
}

/// Fetches layers of base images from where they are.
pub struct Origins {
    pub registry: Arc<dyn Fn() -> Result<registry::Client, crate::Error> + Send + Sync>,
}

/// Progress of one blob as numbers.
struct Counter {
    report: Arc<dyn Fn(u64, u64) + Send + Sync>,
    done: std::sync::atomic::AtomicU64,
    total: u64,
}

impl registry::Progress for Counter {
    fn event(&self, event: registry::Event<'_>) {
        use std::sync::atomic::Ordering::Relaxed;
        match event {
            registry::Event::Started { offset, .. } => {
                self.done.store(offset, Relaxed);
                (self.report)(offset, self.total);
            }
            registry::Event::Bytes { count, .. } => {
                let done = self.done.fetch_add(count, Relaxed) + count;
                (self.report)(done, self.total);
            }
            _ => {}
        }
    }
}

impl BlobOrigin for Origins {
    fn fetch<'a>(
        &'a self,
        store: &'a LocalStore,
        origin: &'a graph::ImageOrigin,
        blob: &'a Descriptor,
        along: Option<Arc<Incoming>>,
        progress: Arc<dyn Fn(u64, u64) + Send + Sync>,
    ) -> Pin<Box<dyn Future<Output = Result<(), FetchError>> + Send + 'a>> {
        Box::pin(async move {
            let failed = |e: crate::Error| FetchError { message: e.message, hint: e.hint };
            if store.blob_size(&blob.digest).map_err(|e| failed(e.into()))? == Some(blob.size) {
                return Ok(());
            }
            match origin {
                graph::ImageOrigin::Registry { repository } => {
                    let reference: oci::Reference = repository
                        .parse()
                        .map_err(|e: oci::ParseReferenceError| failed(crate::Error::world(e.to_string())))?;
                    let client = (self.registry)().map_err(failed)?;
                    let counter = Counter { report: progress, done: Default::default(), total: blob.size };
                    let sink = Arc::new(StoreSink::of_one(store, along));
                    client
                        .fetch_blob(&reference, blob, sink, &counter)
                        .await
                        .map_err(|e| failed(e.into()))?;
                    Ok(())
                }
                graph::ImageOrigin::OciLayout { path } => {
                    let (store, blob, path) = (store.clone(), blob.clone(), PathBuf::from(path));
                    par::blocking(move || copy_from_layout(&store, &path, &blob)).await.map_err(failed)
                }
                graph::ImageOrigin::Store => Err(FetchError {
                    message: format!("layer {} is missing in the store", blob.digest),
                    hint: Some(
                        "pull the image again (--pull), or run `ctrbuild store verify --repair`".into(),
                    ),
                }),
            }
        })
    }
}

fn copy_from_layout(store: &LocalStore, path: &Path, blob: &Descriptor) -> Result<(), crate::Error> {
    let loaded = exporter::open(path, &store.root().join("tmp"), Default::default())?;
    let reader = loaded
        .open(blob)
        .map_err(|e| crate::Error::world(format!("can't read {} of {}: {e}", blob.digest, path.display())))?;
    store.ingest_from(Some((blob.digest, blob.size)), reader)?;
    Ok(())
}
