//! Commands in a container: each is planned as the instruction of a recipe that it is, and done by the executor of
//! builds, on the container's layers in place of a base image. Nothing of it is cached.

use super::{Container, FactsV1, SCRATCH, quiet};
use crate::blobs::Origins;
use crate::context::SecretMap;
use crate::{BuildObserver, Error, ErrorKind, PullPolicy, Session, lookup};
use digest::{DiffId, Digest};
use graph::{Graph, ImageSource, Op, Provenance, SourceOp, Vertex, VertexRef};
use oci::{Descriptor, ImageConfig, Platform};
use plan::{Facts, ImageFact, NetworkDefault, Outcome, Plan, Question, Request};
use solver::{CacheMode, Executor, InputValue, Job, Solver};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use store::SnapshotId;
use worker::{Attached, AttachedStep, ContextFolder, ContextKind, Isolation, LocalWorker, Worker};

/// The name by which recipes of one instruction know the container. Nobody's registry: RFC 2606.
const SELF: &str = "ctrbuild.invalid/container:latest";
/// And the container that is copied from.
const OTHER: &str = "ctrbuild.invalid/from:latest";
/// Layers of changes that are merged before the next command adds one more: an overlay takes only so many.
const MANY: usize = 24;

/// What commands in containers need of the machine.
#[derive(Clone)]
pub struct Setup {
    pub runtime: crate::Runtime,
    pub isolation: Isolation,
    /// Of commands that don't say.
    pub network: NetworkDefault,
    /// Reads remote ADD sources.
    pub remote: Arc<dyn worker::RemoteSources>,
    /// The folder that COPY and bind mounts read.
    pub context: PathBuf,
    pub pull: PullPolicy,
}

/// A stack of layers that stands for an image.
struct Stand {
    fact: ImageFact,
    layers: Vec<SnapshotId>,
}

impl Stand {
    fn new(id: &str, config: &ImageConfig, layers: Vec<SnapshotId>) -> Stand {
        let mut text = format!("ctrbuild container {id}");
        layers.iter().for_each(|l| text.push_str(&format!(" {l}")));
        // Never stored, and never asked for: only so that the plan can tell it from others.
        let digest = Digest::of(text.as_bytes());
        let mut config = config.clone();
        config.rootfs.diff_ids = vec![DiffId(digest); layers.len()];
        config.config.on_build.clear();
        config.history.clear();
        let manifest = Descriptor::new(oci::media::OCI_MANIFEST, digest, text.len() as u64);
        let fact =
            ImageFact { reference: id.to_string(), manifest, config, origin: graph::ImageOrigin::Store };
        Stand { fact, layers }
    }
}

/// The executor, for commands of this process.
fn worker(session: &Session, setup: &Setup) -> Worker {
    let context = ContextFolder { path: setup.context.clone(), kind: ContextKind::Folder { ignore: None } };
    LocalWorker::new(worker::Config {
        snapshotter: session.snapshotter.clone(),
        runtime: setup.runtime.clone(),
        contexts: BTreeMap::from([("context".to_string(), context)]),
        secrets: Arc::new(SecretMap(BTreeMap::new())),
        blobs: Arc::new(Origins { registry: session.registry.clone() }),
        isolation: setup.isolation.clone(),
        cache_namespace: String::new(),
        transfer: setup.remote.clone(),
        imports: Arc::default(),
    })
    .into()
}

/// The layers of the image that a container starts from, fetched and unpacked where they are not.
pub(super) async fn base_layers(
    session: &Session,
    setup: &Setup,
    observer: &dyn BuildObserver,
    image: Option<Digest>,
    facts: &FactsV1,
) -> Result<Vec<SnapshotId>, Error> {
    let (Some(image), diff_ids) = (image, facts.config.rootfs.diff_ids.clone()) else {
        return Ok(Vec::new());
    };
    if diff_ids.is_empty() {
        return Ok(Vec::new());
    }
    let Some(document) = lookup::document(&session.store, &image)? else {
        return Err(Error::new(ErrorKind::NotFound, format!("{} is not in the store", facts.image_name))
            .hint("run `ctrbuild store verify --repair`"));
    };
    let origin = match facts.image_name.parse::<oci::Reference>() {
        Ok(name) => graph::ImageOrigin::Registry { repository: name.with_default_tag().repository() },
        Err(_) => graph::ImageOrigin::Store,
    };
    let source = ImageSource {
        reference: facts.image_name.clone(),
        manifest: document.descriptor(),
        diff_ids,
        origin,
    };
    let mut graph = Graph::default();
    let vertex = graph.push(Vertex {
        op: Op::Source(SourceOp::Image(source)),
        inputs: Vec::new(),
        platform: facts.config.platform(),
        provenance: Provenance { name: format!("FROM {}", facts.image_name), ..Provenance::default() },
    });
    let unpacked = |diff: &DiffId| matches!(session.store.layer(diff), Ok(Some(l)) if l.snapshot.is_some());
    let plan = Plan {
        platform: facts.config.platform(),
        graph: graph.clone(),
        result: Some(vertex),
        config: facts.config.clone(),
        base: None,
        epoch: None,
        unused_args: Vec::new(),
    };
    let graph = Arc::new(graph);
    // Nobody is told of what is there already.
    let told = match facts.config.rootfs.diff_ids.iter().all(unpacked) {
        true => quiet(),
        false => observer.plan(&Arc::new(plan), &graph),
    };
    let executor = Arc::new(worker(session, setup));
    let solver = Solver::new(graph, executor, session.store.clone(), told, CacheMode::Use, 1);
    Ok(solver.solve(vertex).await.map_err(|e| Error::from(&*e.kind))?.layers)
}

/// All layers of a container, the lowest first.
pub(super) async fn stack(
    session: &Session,
    setup: &Setup,
    observer: &dyn BuildObserver,
    container: &Container,
) -> Result<Vec<SnapshotId>, Error> {
    let record = &container.record;
    let mut layers = base_layers(session, setup, observer, record.image, &container.facts).await?;
    layers.extend(record.layers.iter().cloned());
    Ok(layers)
}

/// Merge the changes into one layer where there are more than `most`.
pub(super) async fn merge_changes(
    session: &Session,
    setup: &Setup,
    observer: &dyn BuildObserver,
    container: &mut Container,
    most: usize,
) -> Result<(), Error> {
    if container.record.layers.len() <= most {
        return Ok(());
    }
    let base = base_layers(session, setup, observer, container.record.image, &container.facts).await?;
    let (snapshotter, changes) = (session.snapshotter.clone(), container.record.layers.clone());
    let merged = par::blocking(move || snapshotter.squash(&base, &changes)).await;
    container.record.layers = vec![merged.map_err(|e| Error::from(&e))?];
    container.save(&session.store)
}

/// Plan a recipe whose images may be stands; others are looked up.
pub(super) async fn plan_text(
    session: &Session,
    text: &str,
    request: &Request,
    stands: &BTreeMap<&str, ImageFact>,
    pull: PullPolicy,
) -> Result<Plan, Error> {
    let parsed = crate::build::parse(&crate::Recipe { name: "-".into(), text: text.into(), path: None })
        .map_err(without_lines)?;
    let mut facts = Facts::default();
    loop {
        match plan::plan(&parsed.recipe, request, &facts).map_err(|e| without_lines(e.into()))? {
            Outcome::Plan(plan) => return Ok(*plan),
            Outcome::Need(questions) => {
                for question in questions {
                    let stand = match &question {
                        Question::Image { reference, .. } => stands.get(reference.as_str()).cloned(),
                        Question::OciLayout { .. } => None,
                    };
                    let answer = match stand {
                        Some(fact) => Ok(fact),
                        None => lookup::answer(session, &question, pull).await,
                    };
                    facts.images.insert(question, answer);
                }
            }
        }
    }
}

/// The lines are those of a recipe that nobody wrote.
pub(super) fn without_lines(mut e: Error) -> Error {
    e.lines.clear();
    e
}

/// A recipe that begins in the container.
pub(super) fn recipe(instructions: &str) -> String {
    format!("FROM {SELF}\n{instructions}\n")
}

/// The container as an image that only its configuration matters of.
pub(super) fn stand_in(id: &str, config: &ImageConfig) -> BTreeMap<&'static str, ImageFact> {
    BTreeMap::from([(SELF, Stand::new(id, config, Vec::new()).fact)])
}

/// What plans of a container are asked for.
pub(super) fn plan_request(session: &Session, network: NetworkDefault, platform: Platform) -> Request {
    Request { platform: Some(platform), build_platform: session.host.clone(), network, ..Request::default() }
}

/// Plan one instruction in a container, and solve what it needs besides the container itself.
async fn job(
    session: &Session,
    setup: &Setup,
    worker: &Worker,
    instruction: &str,
    stands: BTreeMap<&str, Stand>,
) -> Result<Job, Error> {
    let platform = stands[SELF].fact.config.platform();
    let request = plan_request(session, setup.network, platform);
    let facts = stands.iter().map(|(name, stand)| (*name, stand.fact.clone())).collect();
    let plan = plan_text(session, &recipe(instruction), &request, &facts, setup.pull).await?;
    let target = plan.result.ok_or_else(|| Error::world("internal error: nothing is to be done"))?;
    let graph = Arc::new(plan.graph);
    let executor = Arc::new(worker.clone());
    let solver = Solver::new(graph.clone(), executor, session.store.clone(), quiet(), CacheMode::Use, 1);
    let mut inputs = Vec::new();
    for input in &graph.get(target).inputs {
        inputs.push(input_value(&graph, input.edge.vertex, &stands, &solver).await?);
    }
    Ok(Job { graph, vertex: target, inputs, fresh_mounts: false, observer: quiet() })
}

async fn input_value(
    graph: &Graph,
    v: VertexRef,
    stands: &BTreeMap<&str, Stand>,
    solver: &Solver<Worker>,
) -> Result<InputValue, Error> {
    match &graph.get(v).op {
        Op::Source(SourceOp::Local(_)) => return Ok(InputValue::Local(v)),
        Op::Source(SourceOp::Image(image)) => {
            let same = |s: &&Stand| s.fact.manifest.digest == image.manifest.digest;
            if let Some(stand) = stands.values().find(same) {
                return Ok(InputValue::Layers(stand.layers.clone()));
            }
        }
        _ => {}
    }
    let solved = solver.solve(v).await.map_err(|e| Error::from(&*e.kind))?;
    Ok(InputValue::Layers(solved.layers))
}

/// A command to be run in a container.
#[derive(Debug, Clone, Default)]
pub struct RunRequest {
    pub args: Vec<String>,
    /// Over those of the container, for this command.
    pub env: Vec<(String, String)>,
    pub user: Option<String>,
    pub workdir: Option<String>,
    /// As `RUN --mount`.
    pub mounts: Vec<String>,
}

/// A command that can be started.
pub struct ReadyRun {
    worker: Worker,
    job: Job,
    /// For the history.
    pub step: String,
}

impl ReadyRun {
    /// Start it. Whatever it changes goes into the layer that [`AttachedStep::wait`] returns.
    pub fn start(&self, streams: Attached) -> Result<AttachedStep, Error> {
        self.worker.0.attach(&self.job, streams).map_err(|e| missing(Error::from(&e)))
    }
}

/// Everything that a command needs before it can start.
pub async fn prepare_run(
    session: &Session,
    setup: &Setup,
    observer: &dyn BuildObserver,
    container: &mut Container,
    request: &RunRequest,
) -> Result<ReadyRun, Error> {
    if request.args.first().is_none_or(String::is_empty) {
        return Err(Error::new(ErrorKind::Recipe, "there is no command to run")
            .hint("ctrbuild run CONTAINER -- CMD ARGS"));
    }
    merge_changes(session, setup, observer, container, MANY).await?;
    let mut config = container.facts.config.clone();
    let os = config.os.clone();
    request.env.iter().for_each(|(name, value)| config.config.set_env(name, value, &os));
    if let Some(user) = &request.user {
        config.config.user = user.clone();
    }
    if let Some(dir) = &request.workdir {
        config.config.working_dir =
            plan::path::workdir(&config.config.working_dir, dir, plan::path::PathStyle::of(&os))
                .map_err(|e| Error::new(ErrorKind::Recipe, format!("--workdir {dir:?}: {e}")))?;
    }
    let mut line = String::from("RUN");
    for mount in &request.mounts {
        // However it is written: fields may be quoted, and their case does not matter.
        let fields = mount.split(',').map(|f| f.trim().trim_matches('"').to_ascii_lowercase());
        if fields.into_iter().any(|field| matches!(field.as_str(), "type=secret" | "type=ssh")) {
            return Err(Error::new(
                ErrorKind::Recipe,
                format!("--mount {mount:?}: secrets and ssh agents are for builds"),
            )
            .hint("type=bind, type=cache and type=tmpfs work here"));
        }
        line.push_str(&format!(" --mount={}", flag("mount", mount)?));
    }
    line.push_str(&format!(" {}", json(&request.args)?));
    let layers = stack(session, setup, observer, container).await?;
    let stands = BTreeMap::from([(SELF, Stand::new(container.id(), &config, layers))]);
    let worker = worker(session, setup);
    let job = job(session, setup, &worker, &line, stands).await.map_err(missing)?;
    Ok(ReadyRun { worker, job, step: format!("RUN {}", request.args.join(" ")) })
}

/// Files to be copied into a container.
#[derive(Debug, Clone, Default)]
pub struct CopyRequest {
    /// As `ADD`: archives are unpacked, URLs are fetched.
    pub add: bool,
    /// Paths in the context, or in `from`; for ADD URLs too.
    pub sources: Vec<String>,
    /// As they were named, for the history.
    pub named: Vec<String>,
    pub dest: String,
    pub chown: Option<String>,
    pub chmod: Option<String>,
    /// A container or an image.
    pub from: Option<String>,
    pub excludes: Vec<String>,
}

/// Copy files into a container.
pub async fn copy(
    session: &Session,
    setup: &Setup,
    observer: &dyn BuildObserver,
    container: &str,
    request: &CopyRequest,
) -> Result<(), Error> {
    let keyword = if request.add { "ADD" } else { "COPY" };
    let mut line = keyword.to_string();
    let mut stands = BTreeMap::new();
    let id = super::resolve(&session.store, container)?;
    if let Some(from) = &request.from {
        let name = match super::resolve(&session.store, from) {
            Ok(other) if other == id => SELF.to_string(),
            Ok(other) => {
                // Let go before the other one is taken, so that two that copy from each other don't wait for ever. The
                // layers are held by this process.
                let other = super::open_unmounted(session, &other, observer).await?;
                let layers = stack(session, setup, observer, &other).await?;
                stands.insert(OTHER, Stand::new(other.id(), &other.facts.config, layers));
                OTHER.to_string()
            }
            Err(_) if from == SCRATCH => {
                return Err(Error::new(ErrorKind::Recipe, "there is nothing in scratch"));
            }
            Err(_) => crate::images::parse_name(from)?.to_string(),
        };
        line.push_str(&format!(" --from={name}"));
    }
    let mut container = super::open_unmounted(session, &id, observer).await?;
    merge_changes(session, setup, observer, &mut container, MANY).await?;
    let layers = stack(session, setup, observer, &container).await?;
    stands.insert(SELF, Stand::new(container.id(), &container.facts.config, layers));
    let mut step = keyword.to_string();
    for (name, value) in [("chown", &request.chown), ("chmod", &request.chmod)] {
        if let Some(value) = value {
            line.push_str(&format!(" --{name}={}", flag(name, value)?));
            step.push_str(&format!(" --{name}={value}"));
        }
    }
    for pattern in &request.excludes {
        line.push_str(&format!(" --exclude={}", flag("exclude", pattern)?));
    }
    let words: Vec<String> = request.sources.iter().chain([&request.dest]).map(|w| literal(w)).collect();
    line.push_str(&format!(" {}", json(&words)?));
    request.named.iter().chain([&request.dest]).for_each(|w| step.push_str(&format!(" {w}")));
    let worker = worker(session, setup);
    let job = job(session, setup, &worker, &line, stands).await.map_err(missing)?;
    let mut layers = worker.execute(job).await.map_err(|e| missing(Error::from(&e)))?;
    let layer = layers.pop().ok_or_else(|| Error::world("internal error: nothing was copied"))?;
    container.push(&session.store, layer, step)
}

/// A build's words for a path that is not there, without what a container knows nothing of: cache keys and contexts.
fn missing(e: Error) -> Error {
    match e.message.strip_prefix("failed to compute cache key: failed to calculate checksum: ") {
        Some(rest) => Error { message: rest.to_string(), ..e }.hint(
            "paths are of this machine; of the folder with --contextdir, of what --from names with that",
        ),
        None => e,
    }
}

/// A word that means itself, whatever the language makes of `$` and quotes.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '$' | '"' | '\'') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The value of a flag, which has no blanks to end it.
fn flag(name: &str, value: &str) -> Result<String, Error> {
    match value.is_empty() || value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        true => Err(Error::new(ErrorKind::Recipe, format!("--{name} {value:?} is no value for this option"))),
        false if name == "mount" => Ok(value.to_string()),
        false => Ok(literal(value)),
    }
}

/// Words as the JSON form of an instruction.
pub(super) fn json(words: &[String]) -> Result<String, Error> {
    serde_json::to_string(words).map_err(|e| Error::world(format!("internal error: {e}")))
}

/// Diff ids of layers; those that are not known yet are computed.
pub(super) async fn diff_ids(
    session: &Session,
    setup: &Setup,
    layers: &[SnapshotId],
) -> Result<Vec<DiffId>, Error> {
    worker(session, setup).0.diff_ids(layers).await.map_err(|e| Error::from(&e))
}
