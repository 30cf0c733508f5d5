//! The failed step that was last: kept as a snapshot, so that people can look at what it left.
//!
//! One record in the cache, replaced by the next failure, holds its layers and says where the step ran and as
//! whom. Secrets are not in it: neither their mounts nor variables made of them.

use crate::exec::{Place, resolv_conf};
use crate::{Snapshotter, store_error};
use digest::{CacheKey, StableHasher};
use sandbox::{Child, Identity, Input, MountFd, Network, Runtime, SandboxSpec, Stdio, Sync, hosts_file};
use serde::{Deserialize, Serialize};
use solver::{ErrorKind, StepStatus};
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
    status: String,
    log: Option<PathBuf>,
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

    /// Copy its root file system into a folder, which is made where it is missing.
    pub fn export(&self, snapshotter: &Snapshotter, dest: &Path) -> Result<(), ErrorKind> {
        std::fs::create_dir_all(dest)
            .map_err(|e| ErrorKind::other(format!("can't make {}: {e}", dest.display())))?;
        crate::export_folder(snapshotter, &self.layers, dest, None)
    }

    /// Run a command in its root, with its environment, user and working directory; without a command, a
    /// shell. What the command changes is discarded.
    pub fn enter(
        &self,
        snapshotter: &Snapshotter,
        runtime: &Runtime,
        command: &[String],
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
        spec.env = f.env.iter().map(|(n, v)| (n.into(), v.into())).collect();
        spec.cwd = PathBuf::from(&f.cwd);
        spec.identity = Identity { uid: f.uid, gid: f.gid, groups: f.groups.clone() };
        spec.hosts = Some(hosts_file(&f.hostname, &[]));
        spec.resolv_conf = Some(resolv_conf(&[], true));
        spec.hostname = f.hostname.clone();
        spec.network = Network::Host;
        spec.input = input;
        let child = runtime.spawn(spec, output).map_err(crate::copy::io)?;
        Ok(Entered { child, scratch })
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
