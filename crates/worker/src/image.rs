//! Image sources: layers of a pulled image become snapshots.
//!
//! Each layer is downloaded, verified and unpacked into a folder of its own, all at the same time. Its files are made of
//! bytes that nobody has verified yet, so they are thrown away unless the blob and the layer's diff id turn out right.
//!
//! A layer that cannot be understood alone (folders without entries of their own, hard links into lower layers, an
//! opaque root) is finished against the layers below it and belongs to that chain only.

use crate::snapshotter::{folders, layer_error, marks};
use crate::{LocalWorker, store_error, windows};
use digest::{CacheKey, ChainId, DiffId, Digest, StableHasher};
use graph::{ImageOrigin, ImageSource};
use layer::pack::Form;
use layer::unpack::{UnpackOptions, UnpackReport, Whiteouts};
use oci::{Descriptor, Document};
use rustix::fs::FileType;
use sandbox::RootDir;
use solver::{ErrorKind, Event, Job, Observer};
use std::future::Future;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use store::{Active, Incoming, LayerBlobV1, LayerRecordV1, LocalStore, SnapshotId, SnapshotMeta};

/// Where blobs of images are fetched from.
pub trait BlobOrigin: Send + Sync {
    /// Bring a blob into `store`, verified. Idempotent. Where that takes time, `along` is told how far it is.
    fn fetch<'a>(
        &'a self,
        store: &'a LocalStore,
        origin: &'a ImageOrigin,
        blob: &'a Descriptor,
        along: Option<Arc<Incoming>>,
        progress: Arc<dyn Fn(u64, u64) + Send + Sync>,
    ) -> Pin<Box<dyn Future<Output = Result<(), FetchError>> + Send + 'a>>;
}

/// Why a blob could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchError {
    pub message: String,
    pub hint: Option<String>,
}

impl From<FetchError> for ErrorKind {
    fn from(e: FetchError) -> Self {
        ErrorKind::Other { message: e.message, hint: e.hint }
    }
}

/// A layer and where its blob is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteLayer {
    pub diff_id: DiffId,
    pub blob: Descriptor,
    pub origin: ImageOrigin,
    /// When it was made, in seconds since 1970, where that is to be kept.
    pub created: Option<u64>,
}

/// An unpacked layer on its way to a snapshot.
enum Unpacked {
    Ready(SnapshotId),
    /// Needs the layers below.
    Dependent {
        active: Active,
        report: UnpackReport,
        created: Option<u64>,
    },
}

/// A layer's files, of which all but the store knows already.
struct Spread {
    active: Active,
    report: UnpackReport,
}

/// Tells the reader of a blob that nobody brings the rest.
struct Gate(Arc<Incoming>);

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl LocalWorker {
    /// The snapshots of an image's layers, lowest first.
    pub(crate) async fn pull(
        self: Arc<Self>,
        image: &ImageSource,
        job: &Job,
    ) -> Result<Vec<SnapshotId>, ErrorKind> {
        let layers = self.manifest_layers(image)?;
        let layers = layers.into_iter().zip(&image.diff_ids).map(|(blob, diff_id)| RemoteLayer {
            diff_id: *diff_id,
            blob,
            origin: image.origin.clone(),
            created: None,
        });
        self.fetch_stack(layers.collect(), &job.observer, job.vertex).await
    }

    /// The snapshots of a stack of layers, lowest first: each is fetched on its own, all at the same time.
    pub(crate) async fn fetch_stack(
        self: Arc<Self>,
        layers: Vec<RemoteLayer>,
        observer: &Arc<dyn Observer>,
        vertex: graph::VertexRef,
    ) -> Result<Vec<SnapshotId>, ErrorKind> {
        let diffs: Vec<DiffId> = layers.iter().map(|l| l.diff_id).collect();
        let work = layers.into_iter().enumerate().map(|(i, layer)| {
            let chain = ChainId::of(&diffs[..=i]);
            self.clone().layer(layer, chain, observer.clone(), vertex)
        });
        let unpacked = futures_util::future::try_join_all(work).await?;
        par::blocking(move || self.settle(unpacked)).await
    }

    fn manifest_layers(&self, image: &ImageSource) -> Result<Vec<Descriptor>, ErrorKind> {
        let digest = &image.manifest.digest;
        let bytes =
            self.store().read_blob(digest, oci::MAX_MANIFEST_BYTES as u64).map_err(|e| store_error(&e))?;
        let layers = match Document::verify(&bytes, &image.manifest) {
            Ok(Document::Manifest(manifest)) => manifest.value.layers,
            Ok(Document::Index(_)) => return Err(ErrorKind::other("internal error: an index is no image")),
            Err(e) => return Err(ErrorKind::other(format!("manifest {digest} of {}: {e}", image.reference))),
        };
        if layers.len() != image.diff_ids.len() {
            return Err(ErrorKind::other(format!(
                "{} has {} layers, but its configuration names {}",
                image.reference,
                layers.len(),
                image.diff_ids.len()
            )));
        }
        Ok(layers)
    }

    /// One layer, fetched unless it is here.
    async fn layer(
        self: Arc<Self>,
        layer: RemoteLayer,
        chain: Option<ChainId>,
        observer: Arc<dyn Observer>,
        vertex: graph::VertexRef,
    ) -> Result<(Unpacked, Option<ChainId>), ErrorKind> {
        let RemoteLayer { diff_id: diff, blob, origin, created } = layer;
        if let Some(id) = self.known_layer(&diff, chain)? {
            return Ok((Unpacked::Ready(id), chain));
        }
        // One process unpacks a layer, the others wait for it.
        let (store, key) = (self.store().clone(), layer_key("layer", &diff.0));
        let _lock = par::blocking(move || store.key_lock(&key)).await.map_err(|e| store_error(&e))?;
        if let Some(id) = self.known_layer(&diff, chain)? {
            return Ok((Unpacked::Ready(id), chain));
        }
        let name = blob.digest.to_string();
        let progress = move |done, total| {
            observer.event(Event::Transfer { vertex, what: &name, done, total });
        };
        let stored = self.store().blob_size(&blob.digest).map_err(|e| store_error(&e))? == Some(blob.size);
        let spread = match stored {
            true => self.clone().spread_stored(&blob, diff).await,
            false => self.clone().spread_incoming(&origin, &blob, diff, Arc::new(progress)).await?,
        };
        let spread = match spread {
            // The blob in the store was damaged, so that unpacking could not but fail: once more with a new one.
            Err(_) if self.clone().is_set_aside(blob.digest).await => {
                self.config.blobs.fetch(self.store(), &origin, &blob, None, Arc::new(|_, _| {})).await?;
                self.clone().spread_stored(&blob, diff).await?
            }
            other => other?,
        };
        let unpacked = par::blocking(move || self.keep(spread, &blob, diff, created)).await?;
        Ok((unpacked, chain))
    }

    /// Unpack a blob of the store.
    async fn spread_stored(self: Arc<Self>, blob: &Descriptor, diff: DiffId) -> Result<Spread, ErrorKind> {
        let (worker, blob) = (self.clone(), blob.clone());
        // The semaphore is never closed.
        let _turn = self.layers.acquire().await;
        par::blocking(move || {
            let file = worker.store().open_blob(&blob.digest).map_err(|e| store_error(&e))?;
            worker.spread(Box::new(file), &blob, diff)
        })
        .await
    }

    /// Fetch a blob and unpack it while it comes in. The outer error is that it could not be fetched; else all of it is
    /// in the store.
    async fn spread_incoming(
        self: Arc<Self>,
        origin: &ImageOrigin,
        blob: &Descriptor,
        diff: DiffId,
        progress: Arc<dyn Fn(u64, u64) + Send + Sync>,
    ) -> Result<Result<Spread, ErrorKind>, ErrorKind> {
        let incoming = Incoming::new(blob.size);
        // Ends the reader too where this is dropped in the middle.
        let _gate = Gate(incoming.clone());
        let begun = Arc::new(tokio::sync::Notify::new());
        let fetch = async {
            let seen = begun.clone();
            let progress = Arc::new(move |done, total| {
                seen.notify_one();
                progress(done, total);
            });
            let fetched =
                self.config.blobs.fetch(self.store(), origin, blob, Some(incoming.clone()), progress);
            let fetched = fetched.await.map_err(ErrorKind::from).and_then(|()| {
                let file = self.store().open_blob(&blob.digest).map_err(|e| store_error(&e))?;
                incoming.whole(file);
                Ok(())
            });
            if fetched.is_err() {
                incoming.give_up();
            }
            begun.notify_one();
            fetched
        };
        let spread = async {
            // Layers that wait for their download take no turn.
            begun.notified().await;
            let _turn = self.layers.acquire().await;
            let (worker, blob, reader) = (self.clone(), blob.clone(), incoming.reader());
            par::blocking(move || worker.spread(Box::new(reader), &blob, diff)).await
        };
        let (fetched, spread) = tokio::join!(fetch, spread);
        fetched?;
        match incoming.is_torn() {
            true => Ok(self.clone().spread_stored(blob, diff).await),
            false => Ok(spread),
        }
    }

    /// Whether a blob was damaged, and is out of the way now.
    async fn is_set_aside(self: Arc<Self>, digest: Digest) -> bool {
        let check = move || {
            let checked = self.store().check_blob(&digest);
            matches!(checked, Err(store::Error::Damaged { .. } | store::Error::MissingBlob(_)))
        };
        par::blocking(check).await
    }

    fn known_layer(&self, diff: &DiffId, chain: Option<ChainId>) -> Result<Option<SnapshotId>, ErrorKind> {
        if let Some(record) = self.store().layer(diff).map_err(|e| store_error(&e))?
            && let Some(id) = record.snapshot
        {
            return Ok(Some(id));
        }
        let Some(chain) = chain else { return Ok(None) };
        completed_layer(self.store(), chain).map_err(|e| store_error(&e))
    }

    /// Unpack a layer into a folder of its own. The blob need not be verified: its files are, by the layer's diff id.
    fn spread(
        &self,
        bytes: Box<dyn Read + Send>,
        blob: &Descriptor,
        diff: DiffId,
    ) -> Result<Spread, ErrorKind> {
        let store = self.store();
        let failed = |e: &layer::Error| {
            let full = match e.is_no_space() {
                true => {
                    store::note_full();
                    format!("no space left in the store {}: ", store.root().display())
                }
                false => String::new(),
            };
            layer_error(&format!("{full}can't unpack layer {}: ", blob.digest), e)
        };
        let (plain, _) = layer::decompress::decompress(bytes, Default::default())
            .map_err(|e| failed(&layer::Error::Source(e)))?;
        let active = store.prepare().map_err(|e| store_error(&e))?;
        let report =
            layer::unpack::apply(plain, &active.upper(), &unpack_options()).map_err(|e| failed(&e))?;
        if report.diff_id != diff {
            return Err(ErrorKind::with_hint(
                format!(
                    "layer {} unpacks to {}, but the image's configuration says {diff}",
                    blob.digest, report.diff_id
                ),
                "the image is damaged or was tampered with; pull it again, or from elsewhere",
            ));
        }
        Ok(Spread { active, report })
    }

    /// Commit an unpacked layer whose blob is in the store.
    fn keep(
        &self,
        spread: Spread,
        blob: &Descriptor,
        diff: DiffId,
        created: Option<u64>,
    ) -> Result<Unpacked, ErrorKind> {
        let store = self.store();
        let Spread { active, report } = spread;
        let stored = LayerBlobV1 {
            media_type: blob.media_type.clone(),
            digest: blob.digest,
            size: blob.size,
            annotations: blob.annotations.clone(),
        };
        let record = LayerRecordV1 {
            diff_id: diff,
            size: Some(report.size),
            snapshot: None,
            blobs: vec![stored],
            created: 0,
        };
        store.put_layer(record.clone()).map_err(|e| store_error(&e))?;
        if !report.implicit_dirs.is_empty() || !report.lower_links.is_empty() || report.opaque_root {
            return Ok(Unpacked::Dependent { active, report, created });
        }
        let id = store.commit(active, meta(&report, created)).map_err(|e| store_error(&e))?;
        let kept = store
            .put_layer(LayerRecordV1 { snapshot: Some(id.clone()), ..record })
            .map_err(|e| store_error(&e))?;
        Ok(Unpacked::Ready(kept.snapshot.unwrap_or(id)))
    }

    /// Finish dependent layers, from the bottom up.
    fn settle(&self, unpacked: Vec<(Unpacked, Option<ChainId>)>) -> Result<Vec<SnapshotId>, ErrorKind> {
        let mut stack: Vec<SnapshotId> = Vec::with_capacity(unpacked.len());
        for (layer, chain) in unpacked {
            let id = match layer {
                Unpacked::Ready(id) => id,
                Unpacked::Dependent { active, report, created } => {
                    self.finish_on(active, meta(&report, created), &report, &stack, chain)?
                }
            };
            stack.push(id);
        }
        Ok(stack)
    }

    fn finish_on(
        &self,
        active: Active,
        meta: SnapshotMeta,
        report: &UnpackReport,
        below: &[SnapshotId],
        chain: Option<ChainId>,
    ) -> Result<SnapshotId, ErrorKind> {
        if !below.is_empty() {
            let lowers = folders(self.store(), below)?;
            let lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
            layer::settle::settle(&active.upper(), &lowers, report, unpack_options().marks)
                .map_err(|e| layer_error("", &e))?;
            if report.opaque_root {
                let own = RootDir::open_path(active.upper()).map_err(crate::copy::io)?;
                hide_all(&own, &self.snapshotter().tree(below)?.root)?;
            }
        }
        let store = self.store();
        let id = store.commit(active, meta).map_err(|e| store_error(&e))?;
        if let Some(chain) = chain {
            store
                .cache_put(&layer_key("chain", &chain.0), store::RecordV1::of(vec![id.clone()]))
                .map_err(|e| store_error(&e))?;
        }
        Ok(id)
    }
}

/// A word for people whose disk is full; by the look of it, since a step may say anything.
pub(crate) fn is_full(store: &LocalStore) -> Option<String> {
    let stat = rustix::fs::statvfs(store.root()).ok()?;
    let no_space = stat.f_bavail * stat.f_frsize < 256 << 10;
    // Some file systems have no count of inodes.
    let no_inodes = stat.f_files > 0 && stat.f_favail < 8;
    (no_space || no_inodes).then(|| {
        store::note_full();
        format!(
            "there is no space left on the disk of the store {}: free some with `ctrbuild prune -a`, or move the store",
            store.root().display()
        )
    })
}

fn meta(report: &UnpackReport, created: Option<u64>) -> SnapshotMeta {
    SnapshotMeta {
        created,
        diff_id: Some(report.diff_id),
        tar_size: Some(report.size),
        implicit_dirs: report.implicit_dirs.clone(),
        ..windows::meta(report.form)
    }
}

/// How layers are unpacked here.
pub fn unpack_options() -> UnpackOptions {
    UnpackOptions { marks: marks(), whiteouts: Whiteouts::Devices, ..UnpackOptions::default() }
}

/// Overlay knows no opaque root, so a layer that hides everything below gets a whiteout for each name.
fn hide_all(own: &RootDir, lower: &RootDir) -> Result<(), ErrorKind> {
    let io = crate::copy::io;
    for entry in lower.read_dir("/").map_err(io)? {
        if own.symlink_metadata(&entry.name).is_err() {
            own.mknod(&entry.name, FileType::CharacterDevice, 0, 0).map_err(io)?;
        }
    }
    Ok(())
}

fn layer_key(what: &str, digest: &Digest) -> CacheKey {
    let mut h = StableHasher::new("ctrbuild.image-layer.v1");
    h.put(what).put(digest);
    CacheKey::from_bytes(h.finish())
}

/// The files of a layer that could not be understood alone, where they were completed by those below it.
pub fn completed_layer(store: &LocalStore, chain: ChainId) -> store::Result<Option<SnapshotId>> {
    let record = store.cache_get(&layer_key("chain", &chain.0))?;
    Ok(record.and_then(|r| r.snapshots.first().cloned()))
}

/// Compute, note and return the diff id of a snapshot, and record the layer.
pub(crate) fn compute_diff_id(
    store: &LocalStore,
    id: &SnapshotId,
    below: &[SnapshotId],
) -> Result<DiffId, ErrorKind> {
    let upper = store.snapshot_path(id).map_err(|e| store_error(&e))?;
    let lowers = folders(store, below)?;
    let lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
    let form = windows::form(store, id).map_err(|e| store_error(&e))?;
    let stats = layer::pack::diff_id(&upper, &lowers, &pack_options(form))
        .map_err(|e| layer_error("can't pack a layer: ", &e))?;
    let diff_id = stats.diff_id;
    store.set_diff_id(id, diff_id, stats.size).map_err(|e| store_error(&e))?;
    store
        .put_layer(LayerRecordV1 {
            diff_id,
            size: Some(stats.size),
            snapshot: Some(id.clone()),
            blobs: Vec::new(),
            created: 0,
        })
        .map_err(|e| store_error(&e))?;
    Ok(diff_id)
}

/// How layers are packed here.
pub fn pack_options(form: Form) -> layer::pack::PackOptions {
    layer::pack::PackOptions { form, marks: marks(), ..Default::default() }
}
