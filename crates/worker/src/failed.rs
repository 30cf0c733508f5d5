//! The failed step that was last: kept as a snapshot, so that people can look at what it left.
//!
//! One record in the cache, replaced by the next failure, holds its layers and says where the step ran and as
//! whom. Secrets are not in it: neither their mounts nor variables made of them.

use crate::exec::{Place, resolv_conf};
use crate::outside::Outside;
use crate::{Snapshotter, store_error};
use digest::{CacheKey, StableHasher};
use sandbox::{
    Child, Identity, Input, MountFd, Network, NetworkStack, Runtime, SandboxSpec, Stdio, Sync, hosts_file,
};
use serde::{Deserialize, Serialize};
use solver::{ErrorKind, StepStatus};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use store::{Active, LocalStore, RecordV1, SnapshotId};

/// Shells, best first.
const SHELLS: [&str; 5] = ["/bin/bash", "/bin/sh", "/bin/ash", "/usr/bin/sh", "/busybox/sh"];

/// A step that failed, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStep {
    facts: FactsV1,
    layers: Vec<SnapshotId>,
}

/// What the cache record says, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FactsV1 {
    version: u32,
    name: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    cwd: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    hostname: String,
    #[serde(default)]
    platform: Option<oci::Platform>,
    #[serde(default)]
    network: KeptNetwork,
    /// Address and name.
    #[serde(default)]
    hosts: Vec<(String, String)>,
    #[serde(default)]
    dns: Vec<String>,
    status: String,
    log: Option<PathBuf>,
}

/// The network that a failed step had, and that a look at it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeptNetwork {
    Host,
    /// Also what older records mean, which don't say.
    #[default]
    None,
    /// One of its own with a way out.
    Isolated,
    /// The places of an allow-list. Nobody serves them any more.
    AllowList,
}

fn key() -> CacheKey {
    CacheKey::from_bytes(StableHasher::new("ctrbuild.failed-step.v1").finish())
}

impl FailedStep {
    /// Keep what is in `active`, on top of `base`, in place of an earlier failure.
    pub(crate) fn keep(
        store: &LocalStore,
        active: Active,
        base: &[SnapshotId],
        name: String,
        args: Vec<String>,
        place: Place,
        status: StepStatus,
        log: Option<PathBuf>,
    ) -> Result<FailedStep, ErrorKind> {
        let mut layers = base.to_vec();
        layers.push(store.commit(active, Default::default()).map_err(|e| store_error(&e))?);
        let Identity { uid, gid, groups } = place.identity;
        let facts = FactsV1 {
            version: 1,
            name,
            args,
            env: place.env,
            cwd: place.cwd,
            uid,
            gid,
            groups,
            hostname: place.hostname,
            platform: Some(place.platform),
            network: place.network,
            hosts: place.hosts,
            dns: place.dns,
            status: status.to_string(),
            log,
        };
        let payload = serde_json::to_value(&facts).map_err(|e| ErrorKind::other(e.to_string()))?;
        let record = RecordV1 { payload, ..RecordV1::of(layers.clone()) };
        store.cache_put(&key(), record).map_err(|e| store_error(&e))?;
        Ok(FailedStep { facts, layers })
    }

    /// The last step that failed, unless it was pruned.
    pub fn load(store: &LocalStore) -> Result<Option<FailedStep>, ErrorKind> {
        let Some(record) = store.cache_get(&key()).map_err(|e| store_error(&e))? else { return Ok(None) };
        // A record of another version is no record.
        let Ok(facts) = serde_json::from_value::<FactsV1>(record.payload) else { return Ok(None) };
        Ok((facts.version == 1).then_some(FailedStep { facts, layers: record.snapshots }))
    }

    /// Its instruction, as progress shows it.
    pub fn name(&self) -> &str {
        &self.facts.name
    }

    /// How it ended, in words.
    pub fn status(&self) -> &str {
        &self.facts.status
    }

    /// The command that failed.
    pub fn args(&self) -> &[String] {
        &self.facts.args
    }

    /// The file with its whole log.
    pub fn log(&self) -> Option<&Path> {
        self.facts.log.as_deref()
    }

    /// The network it had.
    pub fn network(&self) -> KeptNetwork {
        self.facts.network
    }

    /// Copy its root file system into a folder, which is made where it is missing and must be empty.
    pub fn export(&self, snapshotter: &Snapshotter, dest: &Path) -> Result<(), ErrorKind> {
        // Out of reach of other users of the host: the step may have made programs that are setuid.
        let mut maker = std::fs::DirBuilder::new();
        maker
            .recursive(true)
            .mode(0o700)
            .create(dest)
            .map_err(|e| ErrorKind::other(format!("can't make {}: {e}", dest.display())))?;
        must_be_empty(dest)?;
        crate::export_folder(snapshotter, &self.layers, dest, None, layer::pack::Form::Unix)
    }

    /// Run a command in its root, with its environment, user, working directory and network; without a command, a
    /// shell. `env` is added where the step doesn't have it. A network behind an allow-list is none here, and an
    /// isolated one needs a `stack`, or is none. What the command changes is discarded.
    pub fn enter(
        &self,
        snapshotter: &Snapshotter,
        runtime: &Runtime,
        command: &[String],
        env: &[(String, String)],
        stack: Option<&NetworkStack>,
        input: Input,
        output: Stdio,
    ) -> Result<Entered, ErrorKind> {
        let scratch = snapshotter.store().prepare().map_err(|e| store_error(&e))?;
        let mount = snapshotter.prepare(&scratch, &self.layers, Sync::Volatile)?.into_mount();
        let args = match command {
            [] => vec![shell(&mount)?.to_string()],
            some => some.to_vec(),
        };
        let f = &self.facts;
        let mut spec = SandboxSpec::new(mount, &args);
        let more = env.iter().filter(|(name, _)| f.env.iter().all(|(n, _)| n != name));
        spec.env = f.env.iter().chain(more).map(|(n, v)| (n.into(), v.into())).collect();
        spec.cwd = PathBuf::from(&f.cwd);
        spec.identity = Identity { uid: f.uid, gid: f.gid, groups: f.groups.clone() };
        spec.hosts = Some(hosts_file(&f.hostname, &f.hosts));
        spec.resolv_conf = Some(resolv_conf(&f.dns, f.network == KeptNetwork::Host));
        spec.hostname = f.hostname.clone();
        let mut outside = None;
        spec.network = match (f.network, stack) {
            (KeptNetwork::Host, _) => Network::Host,
            (KeptNetwork::Isolated, Some(stack)) => {
                let mut made = Outside::start(runtime, stack, resolv_conf(&f.dns, false))?;
                spec.resolv_conf = Some(std::mem::take(&mut made.resolv_conf));
                let namespace = made.namespace.try_clone();
                outside = Some(made);
                Network::Namespace(
                    namespace.map_err(|e| ErrorKind::other(format!("can't duplicate a descriptor: {e}")))?,
                )
            }
            (KeptNetwork::None | KeptNetwork::Isolated | KeptNetwork::AllowList, _) => Network::None,
        };
        spec.emulator = f.platform.as_ref().and_then(crate::emulator);
        spec.input = input;
        let child = runtime.spawn(spec, output).map_err(crate::copy::io)?;
        Ok(Entered { child, scratch, _outside: outside })
    }
}

/// A folder in which nothing of somebody else's would be mixed with a root file system.
pub fn must_be_empty(folder: &Path) -> Result<(), ErrorKind> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(ErrorKind::with_hint(
                format!("{} is not empty", folder.display()),
                "name a folder that is empty or that is not there yet",
            )),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(ErrorKind::other(format!("can't use {}: {e}", folder.display()))),
    }
}

/// The first shell that the root has.
fn shell(mount: &MountFd) -> Result<&'static str, ErrorKind> {
    let root = mount.root().map_err(crate::copy::io)?;
    SHELLS.into_iter().find(|s| root.exists(s)).ok_or_else(|| {
        ErrorKind::with_hint(
            "the step's root file system has no shell",
            "name a program of it after `--`, or save its files with `ctrbuild build --on-fail-export DIR`",
        )
    })
}

/// A command in a failed step's root.
pub struct Entered {
    child: Child,
    scratch: Active,
    _outside: Option<Outside>,
}

impl Entered {
    /// Ends the command from another thread.
    pub fn killer(&self) -> Result<sandbox::Killer, ErrorKind> {
        self.child.killer().map_err(crate::copy::io)
    }

    /// Wait for its end; the exit code as a shell reports it.
    pub fn wait(self) -> Result<i32, ErrorKind> {
        let exit = self.child.wait().map_err(crate::copy::io)?;
        drop(self.scratch);
        Ok(exit.status.code())
    }
}
