//! The solver proper: one future a vertex, single flight, probe before work.

use crate::event::{Event, Observer};
use crate::key::{self, MissReason, Part};
use crate::{ErrorKind, SolveError};
use digest::{CacheKey, StableHasher, TreeHash};
use futures_util::future::{BoxFuture, try_join_all};
use graph::{Graph, Input, Op, PathSelector, Selector, SourceOp, Vertex, VertexRef};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;
use store::{LocalStore, OpHash, RecordV1, SnapshotId};
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;

/// Does the work of ops. Implementations take values (snapshot ids, hashes), never host paths, so that
/// steps can run elsewhere.
pub trait Executor: Send + Sync + 'static {
    /// Content hash of what `selector` picks from a local, HTTP or git source. Fails if a required path
    /// is missing.
    fn source_hash(
        &self,
        vertex: &Vertex,
        selector: &Selector,
    ) -> impl Future<Output = Result<TreeHash, ErrorKind>> + Send;

    /// What `selector` picks from a local source, file by file: the path, and anything that changes with the file. Empty
    /// where there are too many to be told.
    fn source_files(
        &self,
        _vertex: &Vertex,
        _selector: &Selector,
    ) -> impl Future<Output = Vec<(String, String)>> + Send {
        async { Vec::new() }
    }

    /// Content hash of what `selectors` pick from a stack of layers.
    fn tree_hash(
        &self,
        layers: &[SnapshotId],
        selectors: &[PathSelector],
    ) -> impl Future<Output = Result<TreeHash, ErrorKind>> + Send;

    /// A hash of the layers' own content (their diff ids), for content keys of root file systems.
    fn layers_hash(&self, layers: &[SnapshotId]) -> impl Future<Output = Result<TreeHash, ErrorKind>> + Send;

    /// Do the op. The result is the whole stack of layers, lowest first.
    fn execute(&self, job: Job) -> impl Future<Output = Result<Vec<SnapshotId>, ErrorKind>> + Send;

    /// The result that a cache from elsewhere has for `key`, brought into the store. `None` if there is none,
    /// or if it can't be had: then the op is executed.
    fn imported(
        &self,
        _vertex: VertexRef,
        _key: &CacheKey,
        _observer: &Arc<dyn Observer>,
    ) -> impl Future<Output = Option<Vec<SnapshotId>>> + Send {
        async { None }
    }

    /// Whether a cache from elsewhere has results of an op, whatever its inputs.
    fn imports_op(&self, _op: &OpHash) -> bool {
        false
    }
}

/// One op to execute.
pub struct Job {
    pub graph: Arc<Graph>,
    pub vertex: VertexRef,
    /// By index of the vertex's inputs.
    pub inputs: Vec<InputValue>,
    /// Cache mounts start empty (`--no-cache`).
    pub fresh_mounts: bool,
    pub observer: Arc<dyn Observer>,
}

/// What an input is when an op runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputValue {
    Layers(Vec<SnapshotId>),
    /// A local folder, read in place; the executor knows it by the vertex.
    Local(VertexRef),
}

/// Which records may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    #[default]
    Use,
    /// Execute everything; the results are still recorded.
    Ignore,
}

/// A solved vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solved {
    pub layers: Vec<SnapshotId>,
    pub key: CacheKey,
    /// Whether nothing had to be executed for it.
    pub cached: bool,
}

type Cell<T> = OnceCell<Result<T, SolveError>>;

/// Solves one graph.
pub struct Solver<E> {
    pub(crate) graph: Arc<Graph>,
    pub(crate) executor: Arc<E>,
    store: LocalStore,
    observer: Arc<dyn Observer>,
    mode: CacheMode,
    running: Semaphore,
    keys: Vec<Cell<CacheKey>>,
    results: Vec<Cell<Solved>>,
    /// Content records of what was executed, written while later steps run.
    background: Mutex<JoinSet<Result<(), SolveError>>>,
}

impl<E: Executor> Solver<E> {
    /// `parallel` is the number of ops that may execute at once.
    pub fn new(
        graph: Arc<Graph>,
        executor: Arc<E>,
        store: LocalStore,
        observer: Arc<dyn Observer>,
        mode: CacheMode,
        parallel: usize,
    ) -> Self {
        let n = graph.vertices.len();
        Solver {
            graph,
            executor,
            store,
            observer,
            mode,
            running: Semaphore::new(parallel.max(1)),
            keys: (0..n).map(|_| OnceCell::new()).collect(),
            results: (0..n).map(|_| OnceCell::new()).collect(),
            background: Mutex::new(JoinSet::new()),
        }
    }

    /// Solve `target` and what it needs. Dropping the future stops the work.
    pub async fn solve(&self, target: VertexRef) -> Result<Solved, SolveError> {
        let solved = self.result(target).await?;
        let mut background = std::mem::take(&mut *self.background.lock().unwrap_or_else(|e| e.into_inner()));
        while let Some(done) = background.join_next().await {
            match done {
                Ok(outcome) => outcome?,
                Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
                Err(_) => return Err(ErrorKind::Cancelled.at(target)),
            }
        }
        Ok(solved)
    }

    /// The definition key of a vertex, without building anything.
    pub async fn definition_key(&self, v: VertexRef) -> Result<CacheKey, SolveError> {
        self.key(v).await
    }

    fn ignores_cache(&self, vertex: &Vertex) -> bool {
        // Sources are pinned: fetching them again could not give anything else.
        !matches!(vertex.op, Op::Source(_))
            && (self.mode == CacheMode::Ignore || vertex.provenance.ignore_cache)
    }

    fn key(&self, v: VertexRef) -> BoxFuture<'_, Result<CacheKey, SolveError>> {
        Box::pin(async move {
            let cell = &self.keys[v.index()];
            cell.get_or_init(|| async move {
                let (op, parts) = self.definition(v).await?;
                Ok(key::combine("definition", &op, &parts))
            })
            .await
            .clone()
        })
    }

    /// Op hash and the parts of the definition key.
    pub(crate) async fn definition(&self, v: VertexRef) -> Result<([u8; 32], Vec<Part>), SolveError> {
        let vertex = self.graph.get(v);
        let op = key::op_hash(vertex);
        if let Op::Source(SourceOp::Local(_) | SourceOp::Http(_) | SourceOp::Git(_)) = &vertex.op {
            let hash = self.source_hash(v, v, &Selector::Whole).await?;
            return Ok((op, vec![Part { name: "content".into(), hash: key::content_part(&hash) }]));
        }
        let parts = vertex.inputs.iter().enumerate().map(|(i, input)| async move {
            let name = self.part_name(vertex, i);
            let from = self.graph.get(input.edge.vertex);
            let hash = if matches!(from.op, Op::Source(SourceOp::Local(_))) {
                key::content_part(&self.source_hash(v, input.edge.vertex, &input.selector).await?)
            } else {
                let input_key = self.key(input.edge.vertex).await?;
                StableHasher::new("ctrbuild.part.definition.v1")
                    .put(&input_key)
                    .u64(u64::from(input.edge.output))
                    .put(&input.selector)
                    .finish()
            };
            Ok(Part { name, hash })
        });
        Ok((op, try_join_all(parts).await?))
    }

    /// The files of local inputs, each as a part that is in no key: for telling which of them changed.
    async fn files(&self, vertex: &Vertex) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for (i, input) in vertex.inputs.iter().enumerate() {
            let from = self.graph.get(input.edge.vertex);
            if matches!(from.op, Op::Source(SourceOp::Local(_))) {
                let files = self.executor.source_files(from, &input.selector).await;
                out.extend(files.into_iter().map(|(path, hash)| (key::file_part(i, &path), hash)));
            }
        }
        out
    }

    /// What people call an input.
    fn part_name(&self, vertex: &Vertex, index: usize) -> String {
        let input = &vertex.inputs[index];
        let from = &self.graph.get(input.edge.vertex).provenance.name;
        match &input.selector {
            Selector::Whole => format!("{index} base {from}"),
            Selector::Paths(p) => {
                let paths: Vec<&str> = p.iter().map(|p| p.path.as_str()).collect();
                format!("{index} files {} of {from}", paths.join(" "))
            }
        }
    }

    /// An error in a source's content belongs to the instruction that names the paths.
    async fn source_hash(
        &self,
        user: VertexRef,
        source: VertexRef,
        selector: &Selector,
    ) -> Result<TreeHash, SolveError> {
        self.executor.source_hash(self.graph.get(source), selector).await.map_err(|e| e.at(user))
    }

    fn result(&self, v: VertexRef) -> BoxFuture<'_, Result<Solved, SolveError>> {
        Box::pin(async move { self.results[v.index()].get_or_init(|| self.run(v)).await.clone() })
    }

    async fn run(&self, v: VertexRef) -> Result<Solved, SolveError> {
        let vertex = self.graph.get(v);
        if let Op::Merge = vertex.op {
            return self.merge(v).await;
        }
        let key = self.key(v).await?;
        let ignore = self.ignores_cache(vertex);
        if !ignore && let Some(solved) = self.probe_everywhere(v, key).await? {
            self.observer.event(Event::Cached { vertex: v });
            return Ok(solved);
        }
        let solved = try_join_all(vertex.inputs.iter().map(|i| self.input(i))).await?;
        let (op, parts) = self.definition(v).await?;
        let mut named = key::named(&op, &parts);
        named.extend(self.files(vertex).await);
        let miss = if ignore { MissReason::Ignored } else { self.miss_reason(&op, &named) };

        // A content key can only hit if the same op ran before.
        let known = match &miss {
            MissReason::Changed(_) => true,
            MissReason::Never => self.executor.imports_op(&OpHash::from_bytes(op)),
            MissReason::Ignored => false,
        };
        let content = match known {
            true => Some(content_key(&*self.executor, &self.graph, v, &op, &parts, &solved).await?),
            false => None,
        };
        if let Some(content) = content {
            if let Some(found) = self.probe(v, content)? {
                put(&self.store, v, &key, record(&found.layers, Some(&op), named))?;
                self.observer.event(Event::Cached { vertex: v });
                return Ok(Solved { key, ..found });
            }
            if let Some(layers) = self.executor.imported(v, &content, &self.observer).await {
                self.observer.event(Event::Cached { vertex: v });
                return Ok(Solved { layers, key, cached: true });
            }
        }

        let started = Instant::now();
        let outcome = self.execute(v, key, ignore, &miss, &solved, (&op, &named)).await;
        match outcome {
            Ok(Executed::ByAnother(solved)) => {
                self.observer.event(Event::Cached { vertex: v });
                Ok(solved)
            }
            Ok(Executed::Here(layers)) => {
                let record = record(&layers, Some(&op), named);
                self.record_content(v, content, op, parts, solved, record);
                self.observer.event(Event::Finished { vertex: v, took: started.elapsed() });
                Ok(Solved { layers, key, cached: false })
            }
            Err(kind) => {
                let message = kind.to_string();
                self.observer.event(Event::Failed { vertex: v, took: started.elapsed(), message: &message });
                Err(kind.at(v))
            }
        }
    }

    async fn execute(
        &self,
        v: VertexRef,
        key: CacheKey,
        ignore: bool,
        miss: &MissReason,
        solved: &[InputValue],
        (op, named): (&[u8; 32], &BTreeMap<String, String>),
    ) -> Result<Executed, ErrorKind> {
        let store = self.store.clone();
        let _lock = par::blocking(move || store.key_lock(&key)).await.map_err(|e| store_error(&e))?;
        if !ignore && let Some(found) = self.probe(v, key).map_err(unwrap_kind)? {
            return Ok(Executed::ByAnother(found));
        }
        let _slot = self.running.acquire().await.map_err(|_| ErrorKind::Cancelled)?;
        self.observer.event(Event::Started { vertex: v, miss });
        let job = Job {
            graph: self.graph.clone(),
            vertex: v,
            inputs: solved.to_vec(),
            fresh_mounts: ignore,
            observer: self.observer.clone(),
        };
        let layers = self.executor.execute(job).await?;
        // Before the lock is let go: whoever waits for it looks for this record.
        let record = record(&layers, Some(op), named.clone());
        self.store.cache_put(&key, record).map_err(|e| store_error(&e))?;
        Ok(Executed::Here(layers))
    }

    /// Layers on top of layers: nothing to execute, nothing to record.
    async fn merge(&self, v: VertexRef) -> Result<Solved, SolveError> {
        let inputs = &self.graph.get(v).inputs;
        let solved = try_join_all(inputs.iter().map(|i| self.result(i.edge.vertex))).await?;
        let key = self.key(v).await?;
        let cached = solved.iter().all(|s| s.cached);
        Ok(Solved { layers: solved.into_iter().flat_map(|s| s.layers).collect(), key, cached })
    }

    async fn input(&self, input: &Input) -> Result<InputValue, SolveError> {
        let v = input.edge.vertex;
        match &self.graph.get(v).op {
            Op::Source(SourceOp::Local(_)) => Ok(InputValue::Local(v)),
            _ => self.result(v).await.map(|s| InputValue::Layers(s.layers)),
        }
    }

    /// Record an executed vertex under its content key too. Hashing what it was made from takes a
    /// while, so unless the key is known already it is done beside the steps that follow.
    fn record_content(
        &self,
        v: VertexRef,
        content: Option<CacheKey>,
        op: [u8; 32],
        parts: Vec<Part>,
        solved: Vec<InputValue>,
        record: RecordV1,
    ) {
        let (executor, store, graph) = (self.executor.clone(), self.store.clone(), self.graph.clone());
        let task = async move {
            let key = match content {
                Some(key) => key,
                None => content_key(&*executor, &graph, v, &op, &parts, &solved).await?,
            };
            put(&store, v, &key, RecordV1 { op: None, ..record })
        };
        self.background.lock().unwrap_or_else(|e| e.into_inner()).spawn(task);
    }

    /// In the store, then in caches from elsewhere. What comes from there makes no record here: it is trusted
    /// only in builds that ask for it.
    async fn probe_everywhere(&self, v: VertexRef, key: CacheKey) -> Result<Option<Solved>, SolveError> {
        if let Some(found) = self.probe(v, key)? {
            return Ok(Some(found));
        }
        let layers = self.executor.imported(v, &key, &self.observer).await;
        Ok(layers.map(|layers| Solved { layers, key, cached: true }))
    }

    pub(crate) fn probe(&self, v: VertexRef, key: CacheKey) -> Result<Option<Solved>, SolveError> {
        let record = self.store.cache_get(&key).map_err(|e| store_error(&e).at(v))?;
        Ok(record.map(|r| Solved { layers: r.snapshots, key, cached: true }))
    }

    fn miss_reason(&self, op: &[u8; 32], now: &BTreeMap<String, String>) -> MissReason {
        // Only an explanation: a damaged index must not stop a build.
        let keys = self.store.cache_index(&OpHash::from_bytes(*op)).unwrap_or_default();
        let nearest = keys
            .iter()
            .take(16)
            .filter_map(|k| self.store.cache_get(k).ok().flatten())
            .min_by_key(|r| key::distance(&r.parts, now));
        match nearest {
            None => MissReason::Never,
            Some(record) => MissReason::Changed(key::difference(&record.parts, now)),
        }
    }
}

pub(crate) async fn content_key<E: Executor>(
    executor: &E,
    graph: &Graph,
    v: VertexRef,
    op: &[u8; 32],
    definition: &[Part],
    solved: &[InputValue],
) -> Result<CacheKey, SolveError> {
    let inputs = &graph.get(v).inputs;
    let parts = inputs.iter().zip(solved).zip(definition).map(|((input, value), part)| async move {
        let hash = match (value, &input.selector) {
            // Already by content.
            (InputValue::Local(_), _) => return Ok(part.clone()),
            (InputValue::Layers(layers), Selector::Whole) => executor.layers_hash(layers).await,
            (InputValue::Layers(layers), Selector::Paths(p)) => executor.tree_hash(layers, p).await,
        };
        let hash = hash.map_err(|e| e.at(v))?;
        Ok(Part { name: part.name.clone(), hash: key::content_part(&hash) })
    });
    Ok(key::combine("content", op, &try_join_all(parts).await?))
}

/// `op` lists the record among those of the same op.
fn record(layers: &[SnapshotId], op: Option<&[u8; 32]>, parts: BTreeMap<String, String>) -> RecordV1 {
    RecordV1 { op: op.map(|o| OpHash::from_bytes(*o)), parts, ..RecordV1::of(layers.to_vec()) }
}

fn put(store: &LocalStore, v: VertexRef, key: &CacheKey, record: RecordV1) -> Result<(), SolveError> {
    store.cache_put(key, record).map_err(|e| store_error(&e).at(v))
}

enum Executed {
    Here(Vec<SnapshotId>),
    /// Another process made it while this one waited.
    ByAnother(Solved),
}

fn store_error(e: &store::Error) -> ErrorKind {
    ErrorKind::Other { message: e.with_cause(), hint: e.hint().map(str::to_string) }
}

fn unwrap_kind(e: SolveError) -> ErrorKind {
    Arc::try_unwrap(e.kind).unwrap_or_else(|shared| ErrorKind::other(shared.to_string()))
}
