//! The solver with an executor that counts: what runs, what is a hit, and why something is not.

use digest::{StableHasher, TreeHash};
use graph::*;
use oci::Platform;
use solver::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use store::{LocalStore, SnapshotId};

/// Content of local folders by path, and of snapshots: whatever the op makes of its inputs.
#[derive(Default)]
struct Fake {
    files: Mutex<BTreeMap<String, String>>,
    made: Mutex<BTreeMap<SnapshotId, String>>,
    runs: Mutex<Vec<String>>,
    /// Ops whose result says nothing about their inputs.
    constant: Mutex<BTreeMap<String, String>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    store: Mutex<Option<LocalStore>>,
}

fn hash(text: &str) -> TreeHash {
    let mut h = StableHasher::new("test");
    h.put(text);
    TreeHash::from_bytes(h.finish())
}

struct Exec(Arc<Fake>);

impl Executor for Exec {
    async fn source_hash(&self, _: &Vertex, selector: &Selector) -> Result<TreeHash, ErrorKind> {
        let files = self.0.files.lock().unwrap();
        let Selector::Paths(paths) = selector else { return Ok(hash("all")) };
        let mut text = String::new();
        for p in paths {
            let content =
                files.get(&p.path).ok_or_else(|| ErrorKind::other(format!("{} not found", p.path)))?;
            text.push_str(&format!("{}={content};", p.path));
        }
        Ok(hash(&text))
    }
    async fn tree_hash(&self, layers: &[SnapshotId], _: &[PathSelector]) -> Result<TreeHash, ErrorKind> {
        self.layers_hash(layers).await
    }
    async fn layers_hash(&self, layers: &[SnapshotId]) -> Result<TreeHash, ErrorKind> {
        let made = self.0.made.lock().unwrap();
        let all: Vec<&str> = layers.iter().map(|l| made[l].as_str()).collect();
        Ok(hash(&all.join("/")))
    }
    async fn execute(&self, job: Job) -> Result<Vec<SnapshotId>, ErrorKind> {
        let now = self.0.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most_at_once.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
        let name = job.graph.get(job.vertex).provenance.name.clone();
        self.0.runs.lock().unwrap().push(name.clone());
        if name.starts_with("fail") {
            return Err(ErrorKind::other("it failed"));
        }
        let store = self.0.store.lock().unwrap().clone().unwrap();
        let active = store.prepare().unwrap();
        let id = store.commit(active, Default::default()).unwrap();
        let mut layers = Vec::new();
        let mut inputs = String::new();
        for (i, input) in job.inputs.iter().enumerate() {
            if let InputValue::Layers(l) = input {
                let made = self.0.made.lock().unwrap();
                inputs.push_str(&l.iter().map(|l| made[l].clone()).collect::<String>());
                if job.graph.get(job.vertex).inputs[i].selector == Selector::Whole {
                    layers = l.clone();
                }
            }
        }
        let content = self.0.constant.lock().unwrap().get(&name).cloned();
        self.0.made.lock().unwrap().insert(id.clone(), content.unwrap_or(format!("{name}({inputs})")));
        layers.push(id);
        Ok(layers)
    }
}

/// Remembers what was told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn event(&self, event: Event<'_>) {
        let text = match event {
            Event::Started { vertex, miss } => format!("start {} ({miss})", vertex.0),
            Event::Cached { vertex } => format!("hit {}", vertex.0),
            Event::Failed { vertex, message, .. } => format!("fail {}: {message}", vertex.0),
            _ => return,
        };
        self.0.lock().unwrap().push(text);
    }
}

struct World {
    _dir: tempfile::TempDir,
    store: LocalStore,
    fake: Arc<Fake>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&dir.path().join("store"), Default::default()).unwrap();
        let fake = Arc::new(Fake::default());
        *fake.store.lock().unwrap() = Some(store.clone());
        World { _dir: dir, store, fake }
    }
    fn file(&self, path: &str, content: &str) {
        self.fake.files.lock().unwrap().insert(path.into(), content.into());
    }
    async fn solve(
        &self,
        graph: &Graph,
        mode: CacheMode,
    ) -> (Result<Solved, SolveError>, Vec<String>, Vec<String>) {
        let told = Arc::new(Told::default());
        let exec = Arc::new(Exec(self.fake.clone()));
        let solver = Solver::new(Arc::new(graph.clone()), exec, self.store.clone(), told.clone(), mode, 8);
        let target = VertexRef(graph.vertices.len() as u32 - 1);
        let result = solver.solve(target).await;
        let runs = std::mem::take(&mut *self.fake.runs.lock().unwrap());
        let told = std::mem::take(&mut *told.0.lock().unwrap());
        (result, runs, told)
    }
}

fn paths(path: &str) -> Selector {
    Selector::Paths(vec![PathSelector {
        path: path.into(),
        wildcard: false,
        follow_links: false,
        include: vec![],
        exclude: vec![],
        required: vec![],
    }])
}

fn vertex(name: &str, op: Op, inputs: Vec<(VertexRef, Selector)>) -> Vertex {
    Vertex {
        op,
        inputs: inputs.into_iter().map(|(v, selector)| Input { edge: v.into(), selector }).collect(),
        platform: Platform::new("linux", "amd64"),
        provenance: Provenance { name: name.into(), ..Provenance::default() },
    }
}

fn local() -> Vertex {
    vertex("context", Op::Source(SourceOp::Local(LocalSource { name: "context".into() })), vec![])
}

fn step(name: &str, inputs: Vec<(VertexRef, Selector)>) -> Vertex {
    // The path makes each op another one.
    let action =
        FileAction::Mkdir(MkdirAction { path: format!("/{name}"), mode: 0o755, owner: None, time: None });
    vertex(name, Op::File(FileOp { base: (!inputs.is_empty()).then_some(0), actions: vec![action] }), inputs)
}

/// context -> build (reads /src) -> final (reads /out of build).
fn two_stages() -> Graph {
    let mut g = Graph::default();
    let context = g.push(local());
    let build = g.push(step("build", vec![(context, paths("/src"))]));
    g.push(step("final", vec![(build, paths("/out"))]));
    g
}

#[tokio::test]
async fn a_second_build_runs_nothing_and_looks_at_no_stage() {
    let w = World::new();
    w.file("/src", "1");
    let (first, runs, _) = w.solve(&two_stages(), CacheMode::Use).await;
    assert_eq!(runs, ["build", "final"]);
    let (second, runs, told) = w.solve(&two_stages(), CacheMode::Use).await;
    assert_eq!(runs, [""; 0]);
    assert_eq!(told, ["hit 2"], "the stage below a hit is not even asked for");
    assert_eq!(first.unwrap().layers, second.unwrap().layers);
}

#[tokio::test]
async fn a_stage_that_comes_out_the_same_hits_by_content() {
    let w = World::new();
    w.file("/src", "1");
    w.fake.constant.lock().unwrap().insert("build".into(), "same binary".into());
    w.solve(&two_stages(), CacheMode::Use).await.0.unwrap();
    w.file("/src", "2, but only a comment");
    let (result, runs, told) = w.solve(&two_stages(), CacheMode::Use).await;
    assert!(result.unwrap().cached);
    assert_eq!(runs, ["build"]);
    assert_eq!(told, ["start 1 (changed: /src of context)", "hit 2"]);
    // And from then on by definition.
    let (_, runs, told) = w.solve(&two_stages(), CacheMode::Use).await;
    assert_eq!((runs.len(), told), (0, vec!["hit 2".to_string()]));
}

#[tokio::test]
async fn no_cache_runs_everything_and_records_it() {
    let w = World::new();
    w.file("/src", "1");
    w.solve(&two_stages(), CacheMode::Use).await.0.unwrap();
    let (_, runs, told) = w.solve(&two_stages(), CacheMode::Ignore).await;
    assert_eq!(runs, ["build", "final"]);
    assert_eq!(told, ["start 1 (cache not used)", "start 2 (cache not used)"]);
    assert_eq!(w.solve(&two_stages(), CacheMode::Use).await.1.len(), 0);
}

#[tokio::test]
async fn a_missing_source_is_an_error_of_the_instruction_that_names_it() {
    let w = World::new();
    let (result, runs, _) = w.solve(&two_stages(), CacheMode::Use).await;
    let e = result.unwrap_err();
    assert_eq!((e.vertex, e.to_string()), (Some(VertexRef(1)), "/src not found".to_string()));
    assert_eq!(runs.len(), 0);
}

#[tokio::test]
async fn a_failure_is_not_recorded() {
    let w = World::new();
    let mut g = Graph::default();
    g.push(step("fail", vec![]));
    for _ in 0..2 {
        let (result, runs, told) = w.solve(&g, CacheMode::Use).await;
        assert!(result.is_err());
        assert_eq!(runs, ["fail"]);
        assert_eq!(told, ["start 0 (not built before)", "fail 0: it failed"]);
    }
}

#[tokio::test]
async fn independent_stages_run_at_once_and_shared_ones_once() {
    let w = World::new();
    let mut g = Graph::default();
    let base = g.push(step("base", vec![]));
    let arms: Vec<VertexRef> =
        (0..4).map(|i| g.push(step(&format!("arm{i}"), vec![(base, Selector::Whole)]))).collect();
    g.push(step("join", arms.into_iter().map(|a| (a, paths("/"))).collect()));
    let (_, runs, _) = w.solve(&g, CacheMode::Use).await;
    assert_eq!(runs.iter().filter(|r| *r == "base").count(), 1);
    assert_eq!(runs.len(), 6);
    assert_eq!(w.fake.most_at_once.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_merge_stacks_layers_without_running() {
    let w = World::new();
    let mut g = Graph::default();
    let a = g.push(step("a", vec![]));
    let b = g.push(step("b", vec![]));
    g.push(vertex("link", Op::Merge, vec![(a, Selector::Whole), (b, Selector::Whole)]));
    let (result, runs, _) = w.solve(&g, CacheMode::Use).await;
    assert_eq!((result.unwrap().layers.len(), runs.len()), (2, 2));
    // Another base leaves the linked layer as it was.
    let mut g = Graph::default();
    let a = g.push(step("a2", vec![]));
    let b = g.push(step("b", vec![]));
    g.push(vertex("link", Op::Merge, vec![(a, Selector::Whole), (b, Selector::Whole)]));
    assert_eq!(w.solve(&g, CacheMode::Use).await.1, ["a2"]);
}

#[tokio::test]
async fn two_builds_at_once_run_a_step_once() {
    let w = World::new();
    w.file("/src", "1");
    let g = two_stages();
    let (a, b) = tokio::join!(w.solve(&g, CacheMode::Use), w.solve(&g, CacheMode::Use));
    assert_eq!(a.1.len() + b.1.len(), 2);
    assert_eq!(a.0.unwrap().layers, b.0.unwrap().layers);
}

/// A changed key is a cache that everybody loses: it must be meant.
#[tokio::test]
async fn definition_keys_are_pinned() {
    let w = World::new();
    w.file("/src", "1");
    let g = two_stages();
    let exec = Arc::new(Exec(w.fake.clone()));
    let solver = Solver::new(Arc::new(g), exec, w.store.clone(), Arc::new(Quiet), CacheMode::Use, 1);
    let mut keys = Vec::new();
    for v in 1..3 {
        keys.push(solver.definition_key(VertexRef(v)).await.unwrap().hex()[..16].to_string());
    }
    assert_eq!(keys, ["f4cba3d92f09cccd", "e2f8432052d30278"]);
}
