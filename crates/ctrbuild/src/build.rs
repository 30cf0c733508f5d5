//! The straight line of a build: parse, plan, solve, compose, export.

use crate::blobs::Origins;
use crate::context::{ContextSpec, Contexts, Recipe, SecretMap, SecretSource};
use crate::export::{BuiltImage, Exported, Output, OutputKind};
use crate::{Error, ErrorKind, PullPolicy, Session, compose, context, export, lookup};
use graph::Graph;
use oci::media::Format;
use oci::{Content, Platform, Reference};
use plan::{Facts, Outcome, Plan, Request};
use solver::{CacheMode, Observer, Solver};
use std::collections::BTreeMap;
use std::sync::Arc;
use worker::{Isolation, LocalWorker, Worker};

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

fn parse(recipe: &Recipe) -> Result<dockerfile::Parsed, Error> {
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
                Outcome::Need(questions) => {
                    let asked = questions.into_iter().map(|q| async move {
                        if let plan::Question::Image { reference, .. } = &q {
                            observer.lookup(reference);
                        }
                        let answer = lookup::answer(session, &q, request.pull).await;
                        (q, answer)
                    });
                    facts.images.extend(futures_util::future::join_all(asked).await);
                }
            }
        }
    }
    Ok(out)
}

/// Plan without building anything. Base images are looked up.
pub async fn plan_only(
    session: &Session,
    request: &BuildRequest,
    observer: &dyn BuildObserver,
) -> Result<PlanOutput, Error> {
    let contexts = context::load(&request.context, &request.contexts, request.recipe.path.as_deref())?;
    Ok(PlanOutput { plans: plans(session, request, &contexts, observer).await? })
}

/// Build, keep and export.
pub async fn build(
    session: &Session,
    request: &BuildRequest,
    observer: &dyn BuildObserver,
) -> Result<BuildOutput, Error> {
    let contexts = context::load(&request.context, &request.contexts, request.recipe.path.as_deref())?;
    let plans = plans(session, request, &contexts, observer).await?;
    if let Some(plan) = plans.first()
        && !plan.unused_args.is_empty()
    {
        observer.note(&format!("one or more build-args were not consumed: {}", plan.unused_args.join(", ")));
    }
    if request.outputs.iter().any(|o| o.rewrite_timestamp) && plans.iter().any(|p| p.epoch.is_none()) {
        observer.note("rewrite-timestamp is asked for, but SOURCE_DATE_EPOCH is not given");
    }
    let worker = worker(session, request, contexts);
    let solved = plans.iter().map(|plan| solve(session, request, &worker, plan, observer));
    let built = futures_util::future::try_join_all(solved).await?;
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
    let images = built.into_iter().map(|b| (b.image.platform.to_string(), b)).collect();
    Ok(BuildOutput { images, content, exported })
}

/// The executor of this machine, for one build.
fn worker(session: &Session, request: &BuildRequest, contexts: Contexts) -> Worker {
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
    })
    .into()
}

async fn solve(
    session: &Session,
    request: &BuildRequest,
    worker: &Worker,
    plan: &Arc<Plan>,
    observer: &dyn BuildObserver,
) -> Result<Built, Error> {
    let graph = Arc::new(plan.graph.clone());
    let layers = match plan.result {
        None => Vec::new(),
        Some(target) => {
            let solver = Solver::new(
                graph.clone(),
                Arc::new(worker.clone()),
                session.store.clone(),
                observer.plan(plan, &graph),
                request.cache,
                request.parallel,
            );
            let solved = solver.solve(target).await.map_err(|e| step_error(&e, &graph))?;
            solved.layers
        }
    };
    let diff_ids = worker.0.diff_ids(&layers).await.map_err(|e| Error::from(&e))?;
    let (store, plan_, layers_) = (session.store.clone(), plan.clone(), layers.clone());
    let image = par::blocking(move || {
        let config = compose::configure(&store, &plan_, &layers_, &diff_ids)?;
        compose::local(&store, &config, Format::Oci)
    })
    .await?;
    let base_layers = compose::base_layers(plan, &image.config.value.rootfs.diff_ids);
    let platform = plan.platform.clone();
    let image = BuiltImage { platform, layers, image, epoch: plan.epoch, base_layers };
    Ok(Built { image, plan: plan.clone() })
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
    let plans = plans(session, request, &contexts, observer).await?;
    let worker = worker(session, request, contexts);
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
