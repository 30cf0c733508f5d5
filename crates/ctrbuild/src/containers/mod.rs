//! Working containers: an image with changes on top that are made one command at a time, and committed as an image.
//!
//! A container is a record in the store: the image it started from, layers with what was changed since, and the
//! configuration that it would be committed with. Every command makes one more layer, as a step of a build does and by
//! the same executor, and then replaces the record. So a command that is killed leaves the container as it was, and
//! nothing is mounted or running in between. Only one command at a time works in a container; others wait.
//!
//! Deliberately not here: how steps run (crate `worker`), and how arguments and terminals look.

mod commit;
mod config;
mod mounted;
mod work;

pub use commit::{CommitRequest, PUBLISHER, VERSION, commit};
pub use config::{ConfigChange, configure, with_instructions};
pub use mounted::{CONTAINER_VARIABLE, VARIABLE, is_mounted, mount, run_beside, umount};
pub use work::{CopyRequest, ReadyRun, RunRequest, Setup, copy, prepare_run};

use crate::lookup::{self, PullPolicy};
use crate::{BuildObserver, Error, ErrorKind, Session, images};
use digest::Digest;
use oci::{ImageConfig, Platform};
use plan::{ImageFact, Question};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use store::{ContainerGuard, ContainerName, ContainerV1, LocalStore, SnapshotId};

/// The word for a container without an image.
pub const SCRATCH: &str = "scratch";

/// What the store's record of a container holds for us, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactsV1 {
    version: u32,
    /// As it was named; `scratch` for none.
    pub image_name: String,
    /// Digest of the configuration.
    pub image_id: Option<Digest>,
    /// What a commit would write, but for history and layers, which are the image's.
    pub config: ImageConfig,
    /// What was done, for the history.
    pub steps: Vec<String>,
    /// What the history says instead.
    #[serde(default)]
    pub created_by: Option<String>,
    /// Of the manifest.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl FactsV1 {
    fn new(image_name: String, image_id: Option<Digest>, config: ImageConfig) -> Self {
        FactsV1 {
            version: 1,
            image_name,
            image_id,
            config,
            steps: Vec::new(),
            created_by: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// A container that this process has to itself.
pub struct Container {
    guard: ContainerGuard,
    record: ContainerV1,
    pub facts: FactsV1,
}

impl Container {
    pub fn id(&self) -> &str {
        &self.record.id
    }

    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Write down what it is now, once all of that is safe.
    fn save(&mut self, store: &LocalStore) -> Result<(), Error> {
        self.record.payload = payload(&self.facts)?;
        Ok(store.update_container(&self.guard, &self.record)?)
    }

    /// One more layer of changes, by the words of the history.
    pub fn push(&mut self, store: &LocalStore, layer: SnapshotId, step: String) -> Result<(), Error> {
        self.record.layers.push(layer);
        self.facts.steps.push(step);
        self.save(store)
    }
}

fn payload(facts: &FactsV1) -> Result<serde_json::Value, Error> {
    serde_json::to_value(facts).map_err(|e| Error::world(format!("internal error: {e}")))
}

fn facts(record: &ContainerV1) -> Result<FactsV1, Error> {
    let facts: Result<FactsV1, _> = serde_json::from_value(record.payload.clone());
    facts.ok().filter(|f| f.version == 1).ok_or_else(|| {
        Error::world(format!("container {} was made by another version of ctrbuild", record.name))
            .hint("use that one, or remove the container")
    })
}

/// One line of `containers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub id: String,
    pub name: String,
    pub image_id: Option<Digest>,
    pub image_name: String,
    /// The manifest.
    pub image: Option<Digest>,
    /// Seconds since 1970.
    pub created: u64,
    /// Whether a command works in it.
    pub running: bool,
    /// Where its files are laid out.
    pub mounted: Option<PathBuf>,
}

/// All containers, by name.
pub fn list(store: &LocalStore) -> Result<Vec<Listed>, Error> {
    let mut out = Vec::new();
    for record in store.containers()? {
        let facts = facts(&record).ok();
        out.push(Listed {
            image_id: facts.as_ref().and_then(|f| f.image_id),
            image_name: facts.map_or_else(|| "<unknown>".into(), |f| f.image_name),
            image: record.image,
            created: record.created,
            running: store.is_container_busy(&record.id)?,
            mounted: mounted::files_in(&store.container_tree(&record.id)),
            id: record.id,
            name: record.name,
        });
    }
    Ok(out)
}

/// The id behind a name, an id, or the start of one.
pub fn resolve(store: &LocalStore, name: &str) -> Result<String, Error> {
    let all = store.containers()?;
    if let Some(found) = all.iter().find(|c| c.name == name || c.id == name) {
        return Ok(found.id.clone());
    }
    let mut matches = all.iter().filter(|c| !name.is_empty() && c.id.starts_with(name));
    match (matches.next(), matches.next()) {
        (Some(only), None) => Ok(only.id.clone()),
        (Some(_), Some(_)) => {
            Err(Error::new(ErrorKind::NotFound, format!("{name} is the start of several container ids"))
                .hint("give more digits"))
        }
        (None, _) => Err(not_found(name)),
    }
}

fn not_found(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("no such container: {name}"))
        .hint("`ctrbuild containers` lists them; `ctrbuild from IMAGE` makes one")
}

/// Take a container, waiting for whoever works in it.
pub async fn open(session: &Session, name: &str, observer: &dyn BuildObserver) -> Result<Container, Error> {
    let store = &session.store;
    let id = resolve(store, name)?;
    // Said before the wait, which may be long.
    if store.is_container_busy(&id)? {
        // `mount C -- CMD` waits for its command, which would wait for it.
        if std::env::var(CONTAINER_VARIABLE).is_ok_and(|own| own == id) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("container {name} is in use by the `mount` that this command runs in"),
            )
            .hint(format!("work on the files in ${VARIABLE}, or in the container after `mount` has ended")));
        }
        observer.note(&format!("waiting for another command that works in {name}"));
    }
    let (waiter, wanted) = (store.clone(), id.clone());
    let taken = par::blocking(move || waiter.lock_container(&wanted, || true)).await?;
    let (guard, record) = taken.ok_or_else(|| not_found(name))?;
    Ok(Container { facts: facts(&record)?, guard, record })
}

/// Take a container whose files are all in its layers: not one that is mounted.
pub async fn open_unmounted(
    session: &Session,
    name: &str,
    observer: &dyn BuildObserver,
) -> Result<Container, Error> {
    let container = open(session, name, observer).await?;
    if mounted::is_mounted(&container) {
        return Err(Error::new(ErrorKind::Conflict, format!("container {} is mounted", container.name()))
            .hint(format!("take in what was changed there first: ctrbuild umount {}", container.name())));
    }
    Ok(container)
}

/// Make a container of an image, which is fetched and unpacked; its name.
pub async fn create(
    session: &Session,
    setup: &Setup,
    observer: &dyn BuildObserver,
    image: &str,
    name: Option<&str>,
    platform: Option<&Platform>,
    pull: PullPolicy,
) -> Result<String, Error> {
    let exactly = name.map(|n| ContainerName::Exactly(n.to_string()));
    let store = session.store.clone();
    if image == SCRATCH {
        let config = ImageConfig::scratch(platform.unwrap_or(&session.host));
        let facts = FactsV1::new(SCRATCH.into(), None, config);
        let name = exactly.unwrap_or_else(|| ContainerName::Like("working-container".into()));
        let payload = payload(&facts)?;
        return Ok(par::blocking(move || store.create_container(&name, None, payload)).await?.name);
    }
    let fact = image_fact(session, observer, image, platform, pull).await?;
    if let Some(choice) = lookup::choice(platform.unwrap_or(&session.host), &fact.config) {
        observer.note(&choice);
    }
    let manifest = fact.manifest.digest;
    let image_id = match lookup::document(&store, &manifest)? {
        Some(oci::Document::Manifest(m)) => Some(m.value.config.digest),
        _ => None,
    };
    let facts = FactsV1::new(fact.reference.clone(), image_id, fact.config.clone());
    // Found out now whether it can be unpacked, not at the first command.
    work::base_layers(session, setup, observer, Some(manifest), &facts).await?;
    let name = exactly.unwrap_or_else(|| {
        let base =
            fact.reference.parse::<oci::Reference>().map_or_else(|_| image.to_string(), |r| r.path().into());
        let last = base.rsplit('/').next().unwrap_or("image");
        let plain: String =
            last.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(100).collect();
        let plain = if plain.is_empty() { "image" } else { &plain };
        ContainerName::Like(format!("{plain}-working-container"))
    });
    let payload = payload(&facts)?;
    Ok(par::blocking(move || store.create_container(&name, Some(manifest), payload)).await?.name)
}

/// An image of the store by whatever names it, or of a registry.
async fn image_fact(
    session: &Session,
    observer: &dyn BuildObserver,
    image: &str,
    platform: Option<&Platform>,
    pull: PullPolicy,
) -> Result<ImageFact, Error> {
    let wanted = platform.unwrap_or(&session.host);
    if pull != PullPolicy::Always
        && let Ok(found) = images::find(&session.store, image)
    {
        let of_platform = match platform {
            Some(_) => lookup::image_of(&session.store, found.document.clone(), wanted)?,
            None => images::image(session, image, None).ok(),
        };
        if let Some(inner) = of_platform {
            // By its own name, where an id was given.
            let name = found.refs.iter().find_map(|r| r.name.parse::<oci::Reference>().ok());
            return Ok(ImageFact {
                reference: name.map_or_else(|| image.to_string(), |n| n.to_string()),
                manifest: inner.manifest.descriptor(),
                config: inner.config.value,
                origin: graph::ImageOrigin::Store,
            });
        }
    }
    let reference = images::parse_name(image)?;
    let question = Question::Image { reference: reference.to_string(), platform: wanted.clone() };
    if pull != PullPolicy::Never {
        observer.lookup(&reference.to_string());
    }
    lookup::answer(session, &question, pull)
        .await
        .map_err(|e| Error::new(ErrorKind::NotFound, e.message).maybe_hint(e.hint))
}

/// How often a lock is asked for before it counts as somebody's who works: others look at it for an instant.
const ATTEMPTS: u32 = 10;

/// Remove a container and what was changed in it; its id. One that somebody works in is an error.
pub fn remove(store: &LocalStore, name: &str) -> Result<String, Error> {
    let id = resolve(store, name)?;
    for _ in 0..ATTEMPTS {
        let mut busy = false;
        let taken = store.lock_container(&id, || {
            busy = true;
            false
        })?;
        match taken {
            Some((guard, record)) => {
                store.remove_container(guard)?;
                return Ok(record.id);
            }
            None if busy => std::thread::sleep(std::time::Duration::from_millis(10)),
            None => return Err(not_found(name)),
        }
    }
    Err(Error::new(ErrorKind::Conflict, format!("container {name} is in use by another command"))
        .hint("wait until that one has ended, or end it"))
}

/// Containers that depend on an image, by its manifest.
pub fn users_of(store: &LocalStore, manifests: &[Digest]) -> Result<Vec<Listed>, Error> {
    let mut all = list(store)?;
    all.retain(|c| c.image.is_some_and(|image| manifests.contains(&image)));
    Ok(all)
}

/// For those who watch nothing.
fn quiet() -> Arc<dyn solver::Observer> {
    Arc::new(solver::Quiet)
}
