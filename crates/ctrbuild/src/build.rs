//! The straight line of a build: parse, plan, solve, compose, export.

use crate::blobs::Origins;
use crate::context::{ContextSpec, Contexts, Recipe, SecretMap, SecretSource};
use crate::export::{BuiltImage, Exported, Output, OutputKind};
use crate::shared_cache::{self, CacheSource, CacheTarget, OnCacheError, Solution};
use crate::{Error, ErrorKind, PullPolicy, Session, compose, context, export, lookup};
use digest::DiffId;
use graph::Graph;
use oci::media::Format;
use oci::{Content, Descriptor, Platform, Reference};
use plan::snapshot::Bases;
use plan::{Facts, Outcome, Plan, Request};
use solver::{CacheMode, Observer, SolveError, Solver};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::SnapshotId;
use worker::{ImportedCache, Isolation, LocalWorker, RemoteLayer, Worker};

/// Everything that a build is made from.
pub struct BuildRequest {
    pub context: ContextSpec,
    pub recipe: Recipe,
    /// `--build-context`, as given.
    pub contexts: BTreeMap<String, String>,
    /// Shared by all platforms; `platform` in it is set for each.
    pub plan: Request,
    /// Empty means the machine's own.
    pub platforms: Vec<Platform>,
    pub secrets: BTreeMap<String, SecretSource>,
    pub names: Vec<Reference>,
    /// Empty means the local store.
    pub outputs: Vec<Output>,
    pub pull: PullPolicy,
    pub cache: CacheMode,
    /// Caches of other machines, the first ones first.
    pub cache_from: Vec<CacheSource>,
    pub cache_to: Vec<CacheTarget>,
    pub isolation: Isolation,
    /// Ops that may execute at once.
    pub parallel: usize,
    /// Reads remote ADD sources.
    pub remote: Arc<dyn worker::RemoteSources>,
    pub runtime: Runtime,
}

/// How the sandbox is started; made only when a step has to run.
pub type Runtime = worker::RuntimeSource;

/// Tells what happens in a build.
pub trait BuildObserver: Send + Sync {
    /// A plan is about to be solved. Events of its vertices go to the observer that is returned.
    fn plan(&self, plan: &Arc<Plan>, graph: &Arc<Graph>) -> Arc<dyn Observer>;
    /// An image has to be looked up (outside of any vertex).
    fn lookup(&self, reference: &str);
    /// Something the user should know that stops nothing.
    fn note(&self, text: &str);
    /// Progress of exports.
    fn transfers(&self) -> Arc<dyn registry::Progress>;
}

/// One platform of a build.
#[derive(Debug, Clone)]
pub struct Built {
    pub image: BuiltImage,
    pub plan: Arc<Plan>,
}

/// What a build came to.
#[derive(Debug, Clone)]
pub struct BuildOutput {
    pub images: BTreeMap<String, Built>,
    /// As the local store has it: one image, or an index.
    pub content: Content,
    /// By output, in order.
    pub exported: Vec<Exported>,
}

impl BuildOutput {
    /// The content that left the machine, if any did; else what the store has.
    pub fn published(&self) -> &Content {
        self.exported.iter().rev().find_map(|e| e.content.as_ref()).unwrap_or(&self.content)
    }
}

/// A plan without a build.
#[derive(Debug, Clone)]
pub struct PlanOutput {
    pub plans: Vec<Arc<Plan>>,
}

fn recipe_error(e: &dockerfile::RecipeError) -> Error {
    let mut error = Error::new(ErrorKind::Recipe, e.kind.to_string()).maybe_hint(e.kind.hint());
    // BuildKit names no line for what is about the whole file.
    if e.buildkit_line > 0 {
        let (first, last) = (e.lines.first.min(e.buildkit_line), e.lines.last.max(e.buildkit_line));
        error.lines.push(dockerfile::instruction::Lines { first, last });
    }
    error
}

pub(crate) fn parse(recipe: &Recipe) -> Result<dockerfile::Parsed, Error> {
    let source = diagnostic::SourceFile::new(recipe.name.clone(), recipe.text.clone());
    let parsed = dockerfile::parse(source);
    match parsed.first_error() {
        Some(e) => Err(recipe_error(e)),
        None => Ok(parsed),
    }
}

/// Whether `# syntax=` names the language that the built-in reader knows: docker/dockerfile, any version.
fn is_own_syntax(text: &str) -> bool {
    let image = text.split_whitespace().next().unwrap_or_default();
    let name = image.strip_prefix("docker.io/").unwrap_or(image);
    let name = name.split(['@', ':']).next().unwrap_or_default();
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream" | "dockerfile")
}

async fn plans(
    session: &Session,
    request: &BuildRequest,
    contexts: &Contexts,
    bases: Bases,
    observer: &dyn BuildObserver,
) -> Result<Vec<Arc<Plan>>, Error> {
    let parsed = parse(&request.recipe)?;
    if let Some(syntax) = &parsed.recipe.directives.syntax
        && !is_own_syntax(&syntax.value)
    {
        observer.note(&format!(
            "syntax {} is read by the built-in reader, which may not know all of it",
            syntax.value
        ));
    }
    let wanted: Vec<Option<Platform>> = match request.platforms.as_slice() {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    let mut facts = Facts::default();
    let mut out = Vec::with_capacity(wanted.len());
    for platform in wanted {
        let plan_request = Request {
            platform,
            multi_platform: request.platforms.len() > 1,
            contexts: contexts.named.clone(),
            ..request.plan.clone()
        };
        loop {
            match plan::plan(&parsed.recipe, &plan_request, &facts)? {
                Outcome::Plan(plan) => {
                    out.push(Arc::new(*plan));
                    break;
                }
                Outcome::Need(questions) if bases == Bases::ByName => {
                    facts.images.extend(questions.into_iter().map(|q| {
                        let answer = plan::snapshot::by_name(&q);
                        (q, Ok(answer))
                    }));
                }
                Outcome::Need(questions) => {
                    let asked = questions.into_iter().map(|q| async move {
                        if let plan::Question::Image { reference, .. } = &q {
                            observer.lookup(reference);
                        }
                        let answer = lookup::answer(session, &q, request.pull).await;
                        (q, answer)
                    });
                    let answers = futures_util::future::join_all(asked).await;
                    for (question, answer) in &answers {
                        if let (plan::Question::Image { reference, platform }, Ok(fact)) = (question, answer)
                            && let Some(choice) = lookup::choice(platform, &fact.config)
                        {
                            observer.note(&format!("{reference}: {choice}"));
                        }
                    }
                    facts.images.extend(answers);
                }
            }
        }
    }
    Ok(out)
}

/// Plan without building anything. Base images are looked up only if they are to be resolved.
pub async fn plan_only(
    session: &Session,
    request: &BuildRequest,
    bases: Bases,
    observer: &dyn BuildObserver,
) -> Result<PlanOutput, Error> {
    let contexts = context::load(&request.context, &request.contexts, request.recipe.path.as_deref())?;
    Ok(PlanOutput { plans: plans(session, request, &contexts, bases, observer).await? })
}

/// Build, keep and export.
pub async fn build(
    session: &Session,
    request: &BuildRequest,
    observer: &dyn BuildObserver,
) -> Result<BuildOutput, Error> {
    let contexts = context::load(&request.context, &request.contexts, request.recipe.path.as_deref())?;
    let (plans, imports) = tokio::join!(
        plans(session, request, &contexts, Bases::Resolved, observer),
        imports(session, request, observer)
    );
    let plans = plans?;
    if let Some(plan) = plans.first()
        && !plan.unused_args.is_empty()
    {
        observer.note(&format!("one or more build-args were not consumed: {}", plan.unused_args.join(", ")));
    }
    // Found out now, not after a long build.
    let platforms: Vec<_> = plans.iter().map(|plan| &plan.platform).collect();
    request.outputs.iter().try_for_each(|output| output.check(&platforms))?;
    if request.outputs.iter().any(|o| o.rewrite_timestamp) && plans.iter().any(|p| p.epoch.is_none()) {
        observer.note("rewrite-timestamp is asked for, but SOURCE_DATE_EPOCH is not given");
    }
    let worker = worker(session, request, contexts, imports.clone());
    let solved = plans.iter().map(|plan| solve(session, request, &worker, &imports, plan, observer));
    let built = futures_util::future::try_join_all(solved).await;
    let learned = worker.0.clone();
    par::blocking(move || learned.remember()).await;
    let built = built?;
    let images: Vec<BuiltImage> = built.iter().map(|b| b.image.clone()).collect();

    let stored: Vec<oci::Image> = images.iter().map(|i| i.image.clone()).collect();
    let content = export::content(&session.store, &stored, &Output::store())?;
    let mut exported = Vec::new();
    let outputs = match request.outputs.as_slice() {
        [] => &[Output::store()][..],
        some => some,
    };
    let keeps = outputs.iter().any(|o| matches!(o.kind, OutputKind::Image { .. }));
    for output in outputs {
        exported.push(export::export(session, output, &images, &request.names, observer.transfers()).await?);
    }
    if !keeps {
        // Nothing refers to the image, but what was built is worth keeping as a cache.
        session.store.seal_batch()?;
    }
    if !request.cache_to.is_empty() {
        let mut solutions = Vec::with_capacity(built.len());
        for b in &built {
            solutions.push(solution(session, request, &worker, b).await?);
        }
        let solutions = Arc::new(solutions);
        for target in &request.cache_to {
            let done =
                shared_cache::export(session, target, &solutions, &imports, observer.transfers()).await;
            match (done, target.on_error) {
                (Err(e), OnCacheError::Ignore) => {
                    observer.note(&format!("the cache was not written to {}: {}", target.place, e.message));
                }
                (Err(mut e), OnCacheError::Fail) => {
                    e.message = format!("can't write the cache to {}: {}", target.place, e.message);
                    return Err(e);
                }
                (Ok(()), _) => {}
            }
        }
    }
    let images = built.into_iter().map(|b| (b.image.platform.to_string(), b)).collect();
    Ok(BuildOutput { images, content, exported })
}

/// What the caches have that the request names.
async fn imports(
    session: &Session,
    request: &BuildRequest,
    observer: &dyn BuildObserver,
) -> Arc<ImportedCache> {
    if request.cache_from.is_empty() || request.cache == CacheMode::Ignore {
        return Arc::default();
    }
    Arc::new(shared_cache::import(session, &request.cache_from, observer).await)
}

/// What the cache has of a built image.
async fn solution(
    session: &Session,
    request: &BuildRequest,
    worker: &Worker,
    built: &Built,
) -> Result<Solution, Error> {
    let image = built.image.image.config.value.rootfs.diff_ids.clone();
    let Some(target) = built.plan.result else {
        return Ok(Solution { records: Vec::new(), diff_ids: Vec::new(), image });
    };
    let graph = Arc::new(built.plan.graph.clone());
    let quiet = Arc::new(solver::Quiet);
    let executor = Arc::new(worker.clone());
    let solver = Solver::new(graph.clone(), executor, session.store.clone(), quiet, request.cache, 1);
    let records = solver.records(target).await.map_err(|e| step_error(&e, &graph))?;
    let mut diff_ids = Vec::with_capacity(records.len());
    for record in &records {
        diff_ids.push(match &record.layers {
            None => None,
            Some(layers) => Some(worker.0.diff_ids(layers).await.map_err(|e| Error::from(&e))?),
        });
    }
    Ok(Solution { records, diff_ids, image })
}

/// The executor of this machine, for one build.
fn worker(
    session: &Session,
    request: &BuildRequest,
    contexts: Contexts,
    imports: Arc<ImportedCache>,
) -> Worker {
    let namespace = request.plan.build_args.get("BUILDKIT_CACHE_MOUNT_NS").cloned().unwrap_or_default();
    LocalWorker::new(worker::Config {
        snapshotter: session.snapshotter.clone(),
        runtime: request.runtime.clone(),
        contexts: contexts.folders,
        secrets: Arc::new(SecretMap(request.secrets.clone())),
        blobs: Arc::new(Origins { registry: session.registry.clone() }),
        isolation: request.isolation.clone(),
        cache_namespace: namespace,
        transfer: request.remote.clone(),
        imports,
    })
    .into()
}

async fn solve(
    session: &Session,
    request: &BuildRequest,
    worker: &Worker,
    imports: &ImportedCache,
    plan: &Arc<Plan>,
    observer: &dyn BuildObserver,
) -> Result<Built, Error> {
    let graph = Arc::new(plan.graph.clone());
    let Some(target) = plan.result else { return compose_image(session, worker, plan, Vec::new()).await };
    let observer = observer.plan(plan, &graph);
    let executor = Arc::new(worker.clone());
    let store = session.store.clone();
    let solver =
        Solver::new(graph.clone(), executor, store, observer.clone(), request.cache, request.parallel);
    let failed = |e: SolveError| step_error(&e, &graph);
    if !request.outputs.is_empty() && request.outputs.iter().all(Output::needs_no_files) {
        let key = solver.definition_key(target).await.map_err(failed)?;
        if let Some(layers) = shared_cache::elsewhere(session, imports, &key).await? {
            observer.event(solver::Event::Cached { vertex: target });
            return image_elsewhere(session, plan, layers).await;
        }
    }
    let solved = solver.solve(target).await.map_err(failed)?;
    compose_image(session, worker, plan, solved.layers).await
}

/// The image of a plan from its layers.
async fn compose_image(
    session: &Session,
    worker: &Worker,
    plan: &Arc<Plan>,
    layers: Vec<SnapshotId>,
) -> Result<Built, Error> {
    let diff_ids = worker.0.diff_ids(&layers).await.map_err(|e| Error::from(&e))?;
    let (store, plan_, layers_) = (session.store.clone(), plan.clone(), layers.clone());
    let image = par::blocking(move || {
        let created = layers_.iter().map(|id| Ok(store.snapshot(id)?.created));
        let created: Vec<u64> = created.collect::<Result<_, Error>>()?;
        let config = compose::configure(&plan_, &created, &diff_ids);
        compose::local(&store, &config, Format::Oci)
    })
    .await?;
    Ok(built(plan, layers, image, Vec::new()))
}

/// The image of a plan whose layers an imported cache has, all of them: none is fetched.
async fn image_elsewhere(
    session: &Session,
    plan: &Arc<Plan>,
    layers: Vec<RemoteLayer>,
) -> Result<Built, Error> {
    let (store, plan_, layers_) = (session.store.clone(), plan.clone(), layers.clone());
    let image = par::blocking(move || {
        let created: Vec<u64> = layers_.iter().map(|l| l.created.unwrap_or(0)).collect();
        let diff_ids: Vec<DiffId> = layers_.iter().map(|l| l.diff_id).collect();
        let blobs: Vec<Descriptor> = layers_.into_iter().map(|l| l.blob).collect();
        let config = compose::configure(&plan_, &created, &diff_ids);
        compose::assemble(&store, &config, &blobs, Format::Oci, BTreeMap::new())
    })
    .await?;
    Ok(built(plan, Vec::new(), image, layers))
}

fn built(plan: &Arc<Plan>, layers: Vec<SnapshotId>, image: oci::Image, elsewhere: Vec<RemoteLayer>) -> Built {
    let base_layers = compose::base_layers(plan, &image.config.value.rootfs.diff_ids);
    let platform = plan.platform.clone();
    let image = BuiltImage { platform, layers, image, epoch: plan.epoch, base_layers, elsewhere };
    Built { image, plan: plan.clone() }
}

/// An error of a vertex with the lines of its instruction.
fn step_error(e: &solver::SolveError, graph: &Graph) -> Error {
    let mut error = Error::from(&*e.kind);
    if let Some(v) = e.vertex {
        let lines = &graph.get(v).provenance.lines;
        error.lines = lines
            .iter()
            .map(|(first, last)| dockerfile::instruction::Lines { first: *first, last: *last })
            .collect();
    }
    error
}

/// Definition keys of a plan's vertices, by vertex. Reads the context, builds nothing.
pub async fn keys(
    session: &Session,
    request: &BuildRequest,
    observer: &dyn BuildObserver,
) -> Result<Vec<(Arc<Plan>, Vec<(graph::VertexRef, digest::CacheKey)>)>, Error> {
    let contexts = context::load(&request.context, &request.contexts, request.recipe.path.as_deref())?;
    let plans = plans(session, request, &contexts, Bases::Resolved, observer).await?;
    let worker = worker(session, request, contexts, Arc::default());
    let mut out = Vec::with_capacity(plans.len());
    for plan in plans {
        let graph = Arc::new(plan.graph.clone());
        let quiet = Arc::new(solver::Quiet);
        let executor = Arc::new(worker.clone());
        let solver = Solver::new(graph.clone(), executor, session.store.clone(), quiet, request.cache, 1);
        let mut keys = Vec::new();
        for v in plan.result.map(|t| graph.reachable(t)).unwrap_or_default() {
            keys.push((v, solver.definition_key(v).await.map_err(|e| step_error(&e, &graph))?));
        }
        out.push((plan, keys));
    }
    Ok(out)
}
