//! What a step's mounts show: `RUN --mount`.

use super::Held;
use crate::cache_mount::CacheMount;
use crate::copy::io;
use crate::{LocalWorker, open_host, store_error};
use graph::{MountKind, PathSelector, Selector, Vertex};
use rustix::fs::OFlags;
use sandbox::{Access, BindSource, MountFd, RootDir, Sync};
use solver::{ErrorKind, Job};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use store::SnapshotId;

/// What is gathered while the mounts of a step are made.
#[derive(Default)]
pub(super) struct Gathered {
    /// Lives as long as the step.
    pub held: Vec<Held>,
    /// Bytes that its log must not show.
    pub masks: Vec<Vec<u8>>,
}

/// `None` for what is optional and not there.
pub(super) fn mount_kind(
    worker: &LocalWorker,
    job: &Job,
    vertex: &Vertex,
    kind: &MountKind,
    access: Access,
    gathered: &mut Gathered,
) -> Result<Option<sandbox::MountKind>, ErrorKind> {
    let Gathered { held, masks } = gathered;
    let bind = |source| sandbox::MountKind::Bind { source, access };
    Ok(Some(match kind {
        MountKind::Bind { input, source } => {
            let subpath = PathBuf::from(source);
            let mount = match input {
                None => empty_mount(worker, held)?,
                Some(i) => {
                    let layers = worker.input_layers(job, *i, input_selector(vertex, *i)?)?;
                    input_mount(worker, &layers, access, held)?
                }
            };
            if !mount.root().map_err(io)?.exists(&subpath) {
                return Err(ErrorKind::other(format!("mount source {source:?} not found")));
            }
            bind(BindSource::Tree { mount, subpath })
        }
        MountKind::Cache { id, sharing, input, source, owner } => {
            let from = match input {
                None => Vec::new(),
                Some(i) => worker.input_layers(job, *i, input_selector(vertex, *i)?)?,
            };
            let name = format!("{}/{id}", worker.config.cache_namespace);
            let open =
                |fresh| CacheMount::open(worker.snapshotter(), &name, *sharing, &from, source, *owner, fresh);
            let cache = match job.fresh_mounts {
                false => open(false)?,
                true => {
                    // Fresh for the build, not for each of its steps: one may use the folder already.
                    let known = {
                        let mut all = worker.fresh.lock().unwrap_or_else(|e| e.into_inner());
                        all.entry(name.clone()).or_default().clone()
                    };
                    let mut emptied = known.lock().unwrap_or_else(|e| e.into_inner());
                    let cache = open(!*emptied)?;
                    *emptied = true;
                    cache
                }
            };
            let folder = match input {
                // What a source means, the copy that the cache started from has settled.
                Some(_) => open_host(&cache.folder())?,
                None => cache_part(&cache.folder(), source)?,
            };
            held.push(Held::Cache { _mount: cache });
            bind(BindSource::Host(folder))
        }
        MountKind::Tmpfs { size } => sandbox::MountKind::Tmpfs { size: *size, mode: 0o1777, uid: 0, gid: 0 },
        MountKind::Secret { id, required, uid, gid, mode } => match secret(worker, id, *required)? {
            None => return Ok(None),
            Some(content) => {
                masks.push(content.clone());
                sandbox::MountKind::File { content, mode: *mode, uid: *uid, gid: *gid }
            }
        },
        MountKind::Ssh { id, required, uid, gid, mode } => match worker.config.isolation.ssh.get(id) {
            None if *required => {
                return Err(ErrorKind::with_hint(
                    format!("ssh agent {id:?} is not available"),
                    format!("pass it with --ssh {id}, or --ssh {id}=SOCKET or --ssh {id}=KEY"),
                ));
            }
            None => return Ok(None),
            Some(agent) => {
                let active = worker.store().prepare().map_err(|e| store_error(&e))?;
                let mut forwarding = agent.serve(&active.scratch(), (*uid, *gid), *mode)?;
                let socket = forwarding.take_socket();
                held.push(Held::Agent { _forwarding: forwarding, _active: active });
                match socket {
                    Some(socket) => bind(BindSource::Host(socket)),
                    None => return Ok(None),
                }
            }
        },
    }))
}

/// The place in a cache that `source` names; it must be there from an earlier step.
fn cache_part(folder: &Path, source: &str) -> Result<OwnedFd, ErrorKind> {
    let root = RootDir::open_path(folder).map_err(io)?;
    root.open_file(source, OFlags::PATH | OFlags::CLOEXEC).map_err(io)
}

fn input_selector(vertex: &Vertex, input: usize) -> Result<&PathSelector, ErrorKind> {
    match &vertex.inputs[input].selector {
        Selector::Paths(paths) if paths.len() == 1 => Ok(&paths[0]),
        _ => Err(ErrorKind::other("internal error: a mount reads one path")),
    }
}

/// A folder that vanishes with the step.
fn empty_mount(worker: &LocalWorker, held: &mut Vec<Held>) -> Result<MountFd, ErrorKind> {
    let active = worker.store().prepare().map_err(|e| store_error(&e))?;
    let upper = active.upper();
    held.push(Held::Scratch { _active: active });
    MountFd::clone_of(open_host(&upper)?, Access::ReadWrite).map_err(io)
}

/// The files of an input; what a step writes to them is discarded.
fn input_mount(
    worker: &LocalWorker,
    layers: &[SnapshotId],
    access: Access,
    held: &mut Vec<Held>,
) -> Result<MountFd, ErrorKind> {
    if layers.is_empty() {
        return empty_mount(worker, held);
    }
    if access == Access::ReadOnly {
        return worker.snapshotter().view(layers);
    }
    let active = worker.store().prepare().map_err(|e| store_error(&e))?;
    let prepared = worker.snapshotter().prepare(&active, layers, Sync::Volatile)?;
    held.push(Held::Scratch { _active: active });
    Ok(prepared.into_mount())
}

/// Largest secret, as in BuildKit.
const MAX_SECRET: usize = 500 * 1024;

pub(super) fn secret(worker: &LocalWorker, id: &str, required: bool) -> Result<Option<Vec<u8>>, ErrorKind> {
    match worker.config.secrets.get(id)? {
        Some(content) if content.len() > MAX_SECRET => {
            Err(ErrorKind::other(format!("secret {id:?} is larger than 500 KiB")))
        }
        None if required => Err(ErrorKind::with_hint(
            format!("secret {id}: not found"),
            format!("pass it with --secret id={id},src=FILE or --secret id={id},env=NAME"),
        )),
        found => Ok(found),
    }
}
