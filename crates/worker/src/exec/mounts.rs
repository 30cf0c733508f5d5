//! What a step's mounts show: `RUN --mount`.

use super::Held;
use crate::cache_mount::{CacheLocks, CacheMount, CacheWish};
use crate::copy::io;
use crate::{LocalWorker, open_host, store_error};
use graph::{ExecMount, MountKind, PathSelector, Selector, Vertex};
use rustix::fs::OFlags;
use sandbox::{Access, BindSource, MountFd, RootDir, Sync};
use solver::{ErrorKind, Job};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use store::SnapshotId;

/// `None` for what is optional and not there.
pub(super) fn mount_kind(
    worker: &LocalWorker,
    job: &Job,
    vertex: &Vertex,
    kind: &MountKind,
    access: Access,
    locks: &CacheLocks,
    held: &mut Vec<Held>,
) -> Result<Option<sandbox::MountKind>, ErrorKind> {
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
        MountKind::Cache { .. } => {
            let wanted = CacheWish::of(worker, job, vertex, kind)?;
            let Some(wanted) = wanted else { return Err(ErrorKind::other("internal error: no cache mount")) };
            let open = |fresh| CacheMount::open(worker.snapshotter(), &wanted, locks, fresh);
            let cache = match job.fresh_mounts {
                false => open(false)?,
                true => {
                    // Fresh for the build, not for each of its steps: one may use the folder already.
                    let known = {
                        let mut all = worker.fresh.lock().unwrap_or_else(|e| e.into_inner());
                        all.entry(wanted.id.clone()).or_default().clone()
                    };
                    let mut emptied = known.lock().unwrap_or_else(|e| e.into_inner());
                    let cache = open(!*emptied)?;
                    *emptied = true;
                    cache
                }
            };
            let folder = match wanted.from.is_empty() {
                // What a source means, the copy that the cache started from has settled.
                false => open_host(&cache.folder())?,
                true => cache_part(&cache.folder(), &wanted.source)?,
            };
            held.push(Held::Cache { _mount: cache });
            bind(BindSource::Host(folder))
        }
        MountKind::Tmpfs { size } => sandbox::MountKind::Tmpfs { size: *size, mode: 0o1777, uid: 0, gid: 0 },
        MountKind::Secret { id, required, uid, gid, mode } => match secret(worker, id, *required)? {
            None => return Ok(None),
            Some(content) => sandbox::MountKind::File { content, mode: *mode, uid: *uid, gid: *gid },
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
    root.open_file(source, OFlags::PATH | OFlags::CLOEXEC).map_err(|e| match crate::is_missing(&e) {
        true => ErrorKind::with_hint(
            format!("mount source {source:?} not found in the cache"),
            "an earlier step must have made it there; without `from`, `source` is a place in the cache itself",
        ),
        false => io(e),
    })
}

impl CacheWish {
    /// `None` for a mount of another kind.
    fn of(
        worker: &LocalWorker,
        job: &Job,
        vertex: &Vertex,
        kind: &MountKind,
    ) -> Result<Option<CacheWish>, ErrorKind> {
        let MountKind::Cache { id, sharing, input, source, owner } = kind else { return Ok(None) };
        let from = match input {
            None => Vec::new(),
            Some(i) => worker.input_layers(job, *i, input_selector(vertex, *i)?)?,
        };
        let id = format!("{}/{id}", worker.config.cache_namespace);
        let (sharing, source, owner) = (*sharing, source.clone(), *owner);
        Ok(Some(CacheWish { id, sharing, from, source, owner }))
    }
}

/// The locks of all caches that a step mounts. `tell` says that it has to wait.
pub(super) fn lock_caches(
    worker: &LocalWorker,
    job: &Job,
    vertex: &Vertex,
    mounts: &[ExecMount],
    cancelled: &AtomicBool,
    tell: &dyn Fn(&str),
) -> Result<CacheLocks, ErrorKind> {
    let all = mounts.iter().map(|m| CacheWish::of(worker, job, vertex, &m.kind));
    let wanted: Vec<CacheWish> = all.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    CacheLocks::take(worker.store(), &wanted, cancelled, tell)
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

/// A secret for a step. From now on no log shows it.
pub(super) fn secret(worker: &LocalWorker, id: &str, required: bool) -> Result<Option<Vec<u8>>, ErrorKind> {
    match worker.config.secrets.get(id)? {
        Some(content) if content.len() > MAX_SECRET => {
            Err(ErrorKind::other(format!("secret {id:?} is larger than 500 KiB")))
        }
        None if required => Err(ErrorKind::with_hint(
            format!("secret {id}: not found"),
            format!("pass it with --secret id={id},src=FILE or --secret id={id},env=NAME"),
        )),
        found => {
            found.iter().for_each(|content| worker.masks.add(content));
            Ok(found)
        }
    }
}
