//! The local executor: does the ops of a build graph on this machine.
//!
//! Snapshots are overlay folders in the store; a step gets a detached overlay mount over those of its
//! inputs and the fresh upper folder (or a copy of them, see [`Snapshotter`]), and committing it is a
//! rename. Mounts are never attached in the host's namespace, so a killed builder leaves none.
//!
//! Invariants: no program of a root file system runs outside [`sandbox`]; every path inside one goes
//! through [`sandbox::RootDir`]; sources are copied exactly as they were hashed, or the build fails.
//!
//! Deliberately not here: what an instruction means (crate `plan`), and cache keys (crate `solver`).
#![forbid(unsafe_code)]

mod cache_mount;
mod copy;
mod egress;
mod exec;
mod export;
mod failed;
mod file_hashes;
mod file_op;
mod hash;
mod image;
mod imported;
mod log;
mod mask;
mod outside;
mod passwd;
mod relink;
mod select;
mod snapshotter;
mod ssh;
mod transfer;
pub mod windows;

pub use egress::{AllowList, AllowListError};
pub use exec::attached::{Attached, AttachedStep};
pub use exec::foreign::emulator;
pub use exec::{DefaultNetwork, Isolation};
pub use export::{TarRoot, export_folder, export_tar};
pub use failed::{Entered, FailedStep, KeptNetwork, must_be_empty};
pub use image::{BlobOrigin, FetchError, RemoteLayer, completed_layer, pack_options, unpack_options};
pub use imported::ImportedCache;
pub use log::LogDir;
pub use passwd::{User, owner, process_user};
pub use select::{Entry, Kind, Selected, Tree, TreeKind};
pub use snapshotter::{Prepared, Snapshotter, SnapshotterKind, Unsettled};
pub use ssh::SshAgent;

use crate::file_hashes::FileHashes;
use digest::{DiffId, StableHasher, TreeHash};
use graph::{Graph, Op, PathSelector, Selector, SourceOp, Vertex, VertexRef};
use sandbox::RootDir;
use select::clean;
use solver::{ErrorKind, Executor, InputValue, Job, Observer};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use store::{LocalStore, SnapshotId};

/// A folder of the builder's machine that recipes may read.
#[derive(Clone)]
pub struct ContextFolder {
    pub path: PathBuf,
    pub kind: ContextKind,
}

/// How the files of a context are seen.
#[derive(Clone)]
pub enum ContextKind {
    /// A folder of the user: everything belongs to root, and what is ignored is not there.
    Folder { ignore: Option<Arc<dockerfile::ignore::Matcher>> },
    /// What an archive or a repository brought into the store: files are as they are, nothing is ignored.
    Fetched,
}

/// A secret's bytes.
pub trait Secrets: Send + Sync {
    /// `None` if there is no such secret.
    fn get(&self, id: &str) -> Result<Option<Vec<u8>>, ErrorKind>;
}

/// Makes the sandbox's runtime.
pub type RuntimeSource = Arc<dyn Fn() -> Result<sandbox::Runtime, ErrorKind> + Send + Sync>;

/// What the executor is made of.
pub struct Config {
    /// With the store.
    pub snapshotter: Snapshotter,
    /// Starts the sandbox. Called when the first step has to run, since a cached build needs none.
    pub runtime: RuntimeSource,
    /// By name: `context` and the named ones.
    pub contexts: BTreeMap<String, ContextFolder>,
    pub secrets: Arc<dyn Secrets>,
    pub blobs: Arc<dyn BlobOrigin>,
    pub isolation: Isolation,
    /// Names cache mounts apart (`BUILDKIT_CACHE_MOUNT_NS`).
    pub cache_namespace: String,
    pub transfer: Arc<dyn transfer::RemoteSources>,
    /// What caches from elsewhere have.
    pub imports: Arc<ImportedCache>,
}

pub use transfer::{FetchedFile, NoRemoteSources, RemoteSources};

/// What was selected from which context.
type Selections = HashMap<(String, PathSelector), Arc<Vec<Selected>>>;

/// The executor of this machine.
pub struct LocalWorker {
    config: Config,
    /// What was selected, so that a copy sees what was hashed.
    selections: Mutex<Selections>,
    /// Contents that are known, by the name of the context.
    hashes: BTreeMap<String, Arc<FileHashes>>,
    sources: transfer::Pinned,
    runtime: std::sync::OnceLock<Result<sandbox::Runtime, (String, Option<String>)>>,
    /// Cache mounts that this build has emptied, if it starts with fresh ones.
    fresh: Mutex<HashMap<String, Arc<Mutex<bool>>>>,
    /// Secrets that steps were given.
    masks: Arc<mask::Masks>,
    /// Whether it was said that there are no overlays here.
    told: std::sync::Once,
    /// Layers that are unpacked or packed at the same time, so that many of them need no more memory than some.
    layers: tokio::sync::Semaphore,
}

impl LocalWorker {
    pub fn new(config: Config) -> Self {
        let of = |folder: &ContextFolder| match folder.kind {
            ContextKind::Folder { .. } => FileHashes::of_folder(config.snapshotter.store(), &folder.path),
            ContextKind::Fetched => FileHashes::of_build(),
        };
        let hashes =
            config.contexts.iter().map(|(name, folder)| (name.clone(), Arc::new(of(folder)))).collect();
        LocalWorker {
            config,
            hashes,
            selections: Mutex::new(HashMap::new()),
            sources: transfer::Pinned::default(),
            runtime: std::sync::OnceLock::new(),
            fresh: Mutex::default(),
            masks: Arc::default(),
            told: std::sync::Once::new(),
            layers: tokio::sync::Semaphore::new(rayon::current_num_threads().clamp(8, 16)),
        }
    }

    fn runtime(&self) -> Result<&sandbox::Runtime, ErrorKind> {
        let made = self.runtime.get_or_init(|| {
            (self.config.runtime)().map_err(|e| match e {
                ErrorKind::Other { message, hint } => (message, hint),
                other => (other.to_string(), None),
            })
        });
        made.as_ref()
            .map_err(|(message, hint)| ErrorKind::Other { message: message.clone(), hint: hint.clone() })
    }

    fn store(&self) -> &LocalStore {
        self.config.snapshotter.store()
    }

    fn snapshotter(&self) -> &Snapshotter {
        &self.config.snapshotter
    }

    fn context_tree(&self, name: &str) -> Result<Tree, ErrorKind> {
        let Some(context) = self.config.contexts.get(name) else {
            return Err(ErrorKind::other(match name {
                "context" => "there is no build context".to_string(),
                _ => format!("there is no context named {name:?}"),
            }));
        };
        let root = RootDir::open_path(&context.path).map_err(copy::io)?;
        let kind = match &context.kind {
            ContextKind::Folder { ignore } => TreeKind::Context { ignore: ignore.clone() },
            ContextKind::Fetched => TreeKind::Layers,
        };
        Ok(Tree { root, kind, known: self.hashes.get(name).cloned() })
    }

    /// Select from a context once, and remember it for the copy.
    fn select_context(&self, name: &str, selector: &PathSelector) -> Result<Arc<Vec<Selected>>, ErrorKind> {
        let key = (name.to_string(), selector.clone());
        if let Some(found) = self.selections.lock().unwrap_or_else(|e| e.into_inner()).get(&key) {
            return Ok(found.clone());
        }
        let selected = Arc::new(self.context_tree(name)?.select(selector)?);
        self.selections.lock().unwrap_or_else(|e| e.into_inner()).insert(key, selected.clone());
        Ok(selected)
    }

    fn hash_context(&self, name: &str, selector: &Selector) -> Result<TreeHash, ErrorKind> {
        let everything = [PathSelector::everything()];
        let selectors = match selector {
            Selector::Whole => &everything[..],
            Selector::Paths(paths) => paths,
        };
        let tree = self.context_tree(name)?;
        combine(selectors.iter().map(|s| hash::hash(&tree, &self.select_context(name, s)?)))
    }

    /// Keep what was learned of the files of contexts for later builds.
    pub fn remember(&self) {
        self.hashes.values().for_each(|h| h.keep());
    }
}

fn combine(hashes: impl Iterator<Item = Result<TreeHash, ErrorKind>>) -> Result<TreeHash, ErrorKind> {
    let all: Vec<TreeHash> = hashes.collect::<Result<_, _>>()?;
    let mut h = StableHasher::new("ctrbuild.selections.v1");
    h.put(&all);
    Ok(TreeHash::from_bytes(h.finish()))
}

pub(crate) fn store_error(e: &store::Error) -> ErrorKind {
    ErrorKind::Other { message: e.with_cause(), hint: e.hint().map(str::to_string) }
}

/// Whether an error of the sandbox says that a path is not there.
pub(crate) fn is_missing(e: &sandbox::Error) -> bool {
    use rustix::io::Errno;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(e);
    while let Some(e) = cause {
        if let Some(code) = e.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
            return code == Errno::NOENT.raw_os_error() || code == Errno::NOTDIR.raw_os_error();
        }
        cause = e.source();
    }
    false
}

/// The executor behind an `Arc`, as the solver wants it.
#[derive(Clone)]
pub struct Worker(pub Arc<LocalWorker>);

impl Executor for Worker {
    async fn source_hash(&self, vertex: &Vertex, selector: &Selector) -> Result<TreeHash, ErrorKind> {
        match &vertex.op {
            Op::Source(SourceOp::Local(local)) => {
                let (worker, name, selector) = (self.0.clone(), local.name.clone(), selector.clone());
                par::blocking(move || worker.hash_context(&name, &selector)).await
            }
            Op::Source(source @ (SourceOp::Http(_) | SourceOp::Git(_))) => self.0.pin_remote(source).await,
            _ => Err(ErrorKind::other("internal error: not a source")),
        }
    }

    async fn source_files(&self, vertex: &Vertex, selector: &Selector) -> Vec<(String, String)> {
        let Op::Source(SourceOp::Local(local)) = &vertex.op else { return Vec::new() };
        let Selector::Paths(paths) = selector else { return Vec::new() };
        let (worker, name, paths) = (self.0.clone(), local.name.clone(), paths.clone());
        let told = par::blocking(move || {
            let tree = worker.context_tree(&name)?;
            let mut all = Vec::new();
            for path in &paths {
                let files = hash::files(&tree, &worker.select_context(&name, path)?)?;
                if files.is_empty() {
                    return Ok(Vec::new());
                }
                all.extend(files);
            }
            Ok::<_, ErrorKind>(all)
        });
        // Only an explanation.
        told.await.unwrap_or_default()
    }

    async fn tree_hash(
        &self,
        layers: &[SnapshotId],
        selectors: &[PathSelector],
    ) -> Result<TreeHash, ErrorKind> {
        let (worker, layers, selectors) = (self.0.clone(), layers.to_vec(), selectors.to_vec());
        par::blocking(move || {
            let tree = worker.snapshotter().tree(&layers)?;
            combine(selectors.iter().map(|s| hash::hash(&tree, &tree.select(s)?)))
        })
        .await
    }

    async fn layers_hash(&self, layers: &[SnapshotId]) -> Result<TreeHash, ErrorKind> {
        let ids = self.0.diff_ids(layers).await?;
        let mut h = StableHasher::new("ctrbuild.layers.v1");
        h.put(&ids);
        Ok(TreeHash::from_bytes(h.finish()))
    }

    async fn execute(&self, job: Job) -> Result<Vec<SnapshotId>, ErrorKind> {
        let graph = job.graph.clone();
        let done = match &graph.get(job.vertex).op {
            Op::Source(SourceOp::Image(image)) => self.0.clone().pull(image, &job).await,
            Op::Source(SourceOp::Local(_)) => Err(ErrorKind::other("internal error: a folder is no layer")),
            Op::Source(source @ (SourceOp::Http(_) | SourceOp::Git(_))) => {
                self.0.fetch_remote(source, &job).await
            }
            Op::Exec(_) => exec::run(self.0.clone(), job).await,
            Op::File(_) => {
                let worker = self.0.clone();
                par::blocking(move || file_op::run(&worker, &job)).await
            }
            Op::Merge => Err(ErrorKind::other("internal error: a merge needs no execution")),
        };
        // Much may be in the way where a disk is full, and seldom says what to do about it.
        done.map_err(|e| match e {
            ErrorKind::Other { message, hint: None } => {
                ErrorKind::Other { message, hint: image::is_full(self.0.store()) }
            }
            e => e,
        })
    }

    async fn imported(
        &self,
        vertex: VertexRef,
        key: &digest::CacheKey,
        observer: &Arc<dyn Observer>,
    ) -> Option<Vec<SnapshotId>> {
        self.0.clone().imported(vertex, key, observer).await
    }

    fn imports_op(&self, op: &store::OpHash) -> bool {
        self.0.config.imports.has_op(op)
    }
}

impl LocalWorker {
    /// The diff ids of layers, computing (and noting) those that are not known yet, several at the same time.
    pub async fn diff_ids(self: &Arc<Self>, layers: &[SnapshotId]) -> Result<Vec<DiffId>, ErrorKind> {
        let each = layers.iter().enumerate().map(|(i, id)| async move {
            // The semaphore is never closed.
            let _turn = self.layers.acquire().await;
            let (worker, id, below) = (self.clone(), id.clone(), layers[..i].to_vec());
            par::blocking(move || worker.diff_id(&id, &below)).await
        });
        futures_util::future::try_join_all(each).await
    }

    fn diff_id(&self, id: &SnapshotId, below: &[SnapshotId]) -> Result<DiffId, ErrorKind> {
        let store = self.store();
        // Another process may have noted the id and not yet recorded the layer.
        if let Some(known) = store.snapshot(id).map_err(|e| store_error(&e))?.diff_id
            && store.layer(&known).map_err(|e| store_error(&e))?.is_some()
        {
            return Ok(known);
        }
        image::compute_diff_id(store, id, below)
    }

    /// A real path below a local source, for bind mounts.
    fn context_path(&self, graph: &Graph, v: VertexRef) -> Result<String, ErrorKind> {
        match &graph.get(v).op {
            Op::Source(SourceOp::Local(local)) => Ok(local.name.clone()),
            _ => Err(ErrorKind::other("internal error: not a local source")),
        }
    }

    /// The layers of an input; a local folder is copied into one first.
    fn input_layers(
        &self,
        job: &Job,
        input: usize,
        selector: &PathSelector,
    ) -> Result<Vec<SnapshotId>, ErrorKind> {
        match &job.inputs[input] {
            InputValue::Layers(layers) => Ok(layers.clone()),
            InputValue::Local(v) => {
                let name = self.context_path(&job.graph, *v)?;
                self.context_layer(&name, selector).map(|id| vec![id])
            }
        }
    }

    /// A snapshot with the selected part of a context, at its own place in the tree; made once for each
    /// content.
    fn context_layer(&self, name: &str, selector: &PathSelector) -> Result<SnapshotId, ErrorKind> {
        let tree = self.context_tree(name)?;
        let selection = self.select_context(name, selector)?;
        let content = hash::hash(&tree, &selection)?;
        let mut h = StableHasher::new("ctrbuild.context-layer.v1");
        h.put(&content).put(&selector.path);
        let key = digest::CacheKey::from_bytes(h.finish());
        let store = self.store();
        let _lock = store.key_lock(&key).map_err(|e| store_error(&e))?;
        if let Some(found) = store.cache_get(&key).map_err(|e| store_error(&e))?
            && let [id] = found.snapshots.as_slice()
        {
            return Ok(id.clone());
        }
        let active = store.prepare().map_err(|e| store_error(&e))?;
        let root = RootDir::open_path(active.upper()).map_err(copy::io)?;
        let style = copy::Style::default();
        let target = copy::Target { root: &root, style: &style };
        for selected in selection.iter() {
            // Where the selector says, so that a bind mount finds it under the name it asked for.
            target.copy(&tree, selected, &clean(&selector.path))?;
        }
        drop(root);
        let id = store.commit(active, Default::default()).map_err(|e| store_error(&e))?;
        store.cache_put(&key, store::RecordV1::of(vec![id.clone()])).map_err(|e| store_error(&e))?;
        Ok(id)
    }
}

/// The folder `path` of the host, opened for a bind mount.
pub(crate) fn open_host(path: &Path) -> Result<std::os::fd::OwnedFd, ErrorKind> {
    rustix::fs::open(path, rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .map_err(|e| ErrorKind::other(format!("can't open {}: {e}", path.display())))
}
