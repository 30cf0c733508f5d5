//! Exec ops: one process in a sandbox, on a fresh snapshot.

use crate::cache_mount::CacheMount;
use crate::copy::io;
use crate::log::{StepLog, pump};
use crate::{LocalWorker, open_host, passwd, store_error};
use graph::{ExecOp, MountKind, NetworkMode, Op, PathSelector, SecurityMode, Selector, Vertex};
use sandbox::{
    Access, BindSource, Identity, Limits, Mount, MountFd, Network, Overlay, SandboxSpec, Security, Status, Stdio, Upper,
    hosts_file,
};
use solver::{ErrorKind, Job, LogStream, StepStatus};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::{Active, SnapshotId};

/// What holds for every step of a build.
#[derive(Debug, Clone, Default)]
pub struct Isolation {
    /// Network of steps that do not say; `None` here means no network.
    pub default_network: DefaultNetwork,
    /// Name servers for /etc/resolv.conf instead of the host's.
    pub dns: Vec<String>,
    /// Kill a step after this long.
    pub step_timeout: Option<Duration>,
    /// Whole logs go here.
    pub logs: Option<crate::LogDir>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DefaultNetwork {
    #[default]
    Host,
    None,
}

/// A step that runs, and what must live as long.
struct Running {
    child: sandbox::Child,
    log: Arc<StepLog>,
    pumps: Vec<std::thread::JoinHandle<()>>,
    active: Active,
    mount: MountFd,
    /// Folders and locks of its mounts.
    _mounts: Vec<Held>,
}

/// Something a mount needs until the step is over.
enum Held {
    Scratch { _active: Active },
    Cache { _mount: CacheMount },
}

/// Kills the step if the build stops waiting for it.
struct KillOnDrop(Option<sandbox::Killer>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(killer) = self.0.take() {
            killer.kill();
        }
    }
}

/// Run an exec op; the result is its root's layers and one more.
pub async fn run(worker: Arc<LocalWorker>, job: Job) -> Result<Vec<SnapshotId>, ErrorKind> {
    let job = Arc::new(job);
    let (w, j) = (worker.clone(), job.clone());
    let (running, base) = par::blocking(move || start(&w, &j)).await?;
    let mut guard = KillOnDrop(Some(running.child.killer().map_err(io)?));
    let result = par::blocking(move || finish(&worker, &job, running)).await;
    guard.0 = None;
    let mut layers = base;
    layers.push(result?);
    Ok(layers)
}

fn exec_of(vertex: &Vertex) -> Result<&ExecOp, ErrorKind> {
    match &vertex.op {
        Op::Exec(exec) => Ok(exec),
        _ => Err(ErrorKind::other("internal error: not an exec op")),
    }
}

fn start(worker: &LocalWorker, job: &Job) -> Result<(Running, Vec<SnapshotId>), ErrorKind> {
    let vertex = job.graph.get(job.vertex);
    let exec = exec_of(vertex)?;
    let store = worker.store();
    let base = match exec.root {
        None => Vec::new(),
        Some(input) => worker.input_layers(job, input, &crate::everything())?,
    };
    let active = store.prepare().map_err(|e| store_error(&e))?;
    let mount = mount_root(worker, &active, &base)?;
    let root = mount.root().map_err(io)?;
    let user = passwd::process_user(&root, &exec.user)?;

    let mut held = Vec::new();
    let mut mounts = Vec::new();
    let mut masks = Vec::new();
    for m in &exec.mounts {
        let access = if m.readonly { Access::ReadOnly } else { Access::ReadWrite };
        if let Some(kind) = mount_kind(worker, job, vertex, &m.kind, access, &mut held, &mut masks)? {
            mounts.push(Mount::new(&m.target, kind));
        }
    }
    let env = environment(worker, exec, &user.home, &mut masks)?;
    let host_network = network_is_host(worker, exec);
    let hostname = exec.hostname.clone().unwrap_or_else(|| sandbox::DEFAULT_HOSTNAME.to_string());
    let extra: Vec<(String, String)> =
        exec.uncached.extra_hosts.iter().map(|(name, address)| (address.clone(), name.clone())).collect();

    let mut spec = SandboxSpec::new(mount.try_clone().map_err(io)?, &exec.args);
    spec.mounts = mounts;
    spec.env = env.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
    spec.cwd = PathBuf::from(crate::select::clean(&exec.cwd));
    spec.identity = Identity { uid: user.uid, gid: user.gid, groups: user.groups };
    spec.hosts = Some(hosts_file(&hostname, &extra));
    spec.resolv_conf = Some(resolv_conf(&worker.config.isolation.dns, host_network));
    spec.hostname = hostname;
    spec.network = if host_network { Network::Host } else { Network::None };
    spec.security = match exec.security {
        SecurityMode::Sandbox => Security::Sandbox,
        SecurityMode::Insecure => Security::Insecure,
    };
    spec.limits = limits(exec, worker.config.isolation.step_timeout);

    let log_path = worker.config.isolation.logs.as_ref().map(|dir| dir.0.join(format!("step-{}.log", job.vertex.0)));
    let log = Arc::new(StepLog::new(log_path.as_deref(), masks)?);
    let (stdout, stdout_end) = pipe()?;
    let (stderr, stderr_end) = pipe()?;
    let child = worker
        .runtime()?
        .spawn(spec, Stdio { stdout: stdout_end, stderr: stderr_end })
        .map_err(|e| spawn_failed(&e, vertex, exec))?;
    let pumps = [(stdout, LogStream::Stdout), (stderr, LogStream::Stderr)]
        .into_iter()
        .map(|(from, stream)| {
            let (log, observer, v) = (log.clone(), job.observer.clone(), job.vertex);
            std::thread::spawn(move || pump(std::fs::File::from(from), log, observer, v, stream))
        })
        .collect();
    Ok((Running { child, log, pumps, active, mount, _mounts: held }, base))
}

fn finish(worker: &LocalWorker, job: &Job, running: Running) -> Result<SnapshotId, ErrorKind> {
    let Running { child, log, pumps, active, mount, _mounts } = running;
    let exit = child.wait().map_err(io)?;
    for pump in pumps {
        // The pipes are at their end: every process that could write to them is dead.
        let _ = pump.join();
    }
    drop((mount, _mounts));
    let status = match exit.status {
        Status::Code(0) => None,
        Status::Code(code) => Some(StepStatus::Code(code)),
        Status::Signal(signal) => Some(StepStatus::Signal(signal)),
        Status::OutOfMemory => Some(StepStatus::OutOfMemory),
        Status::TimedOut => Some(StepStatus::TimedOut),
    };
    if let Some(status) = status {
        let command = exec_of(job.graph.get(job.vertex))?.args.join(" ");
        return Err(ErrorKind::Step { command, status, log_tail: log.tail() });
    }
    worker.store().commit(active, Default::default()).map_err(|e| store_error(&e))
}

/// The writable root: an overlay over the base, or over an empty folder.
fn mount_root(worker: &LocalWorker, active: &Active, base: &[SnapshotId]) -> Result<MountFd, ErrorKind> {
    let folders = match base {
        [] => {
            let empty = active.scratch();
            std::fs::create_dir_all(&empty)
                .map_err(|e| ErrorKind::other(format!("can't make {}: {e}", empty.display())))?;
            vec![empty]
        }
        _ => crate::folders(worker.store(), base)?,
    };
    let lowers: Vec<_> = folders.iter().map(|p| p.as_path().into()).collect();
    let (upper, work) = (active.upper(), active.work());
    let upper = Upper { upper: upper.as_path().into(), work: work.as_path().into() };
    let mut options = worker.overlay_options();
    // The store syncs the whole batch before anything refers to it.
    options.sync = sandbox::Sync::Volatile;
    Overlay::mount(&lowers, Some(upper), options).map_err(io)
}

fn mount_kind(
    worker: &LocalWorker,
    job: &Job,
    vertex: &Vertex,
    kind: &MountKind,
    access: Access,
    held: &mut Vec<Held>,
    masks: &mut Vec<Vec<u8>>,
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
        MountKind::Cache { id, sharing, input, source, owner } => {
            let from = match input {
                None => Vec::new(),
                Some(i) => worker.input_layers(job, *i, input_selector(vertex, *i)?)?,
            };
            let name = format!("{}/{id}", worker.config.cache_namespace);
            let cache = CacheMount::open(worker.store(), &name, *sharing, &from, source, *owner, job.fresh_mounts)?;
            let folder = open_host(&cache.folder())?;
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
        MountKind::Ssh { required: false, .. } => return Ok(None),
        MountKind::Ssh { id, .. } => {
            return Err(ErrorKind::with_hint(
                format!("ssh agent {id:?} is not available: forwarding of ssh agents is not built yet"),
                "leave out `required`, or use a secret mount with a deploy key",
            ));
        }
    }))
}

fn input_selector(vertex: &Vertex, input: usize) -> Result<&PathSelector, ErrorKind> {
    match &vertex.inputs[input].selector {
        Selector::Paths(paths) if paths.len() == 1 => Ok(&paths[0]),
        _ => Err(ErrorKind::other("internal error: a mount reads one path")),
    }
}

/// A folder that vanishes with the step.
fn scratch(worker: &LocalWorker, held: &mut Vec<Held>) -> Result<(PathBuf, PathBuf, PathBuf), ErrorKind> {
    let active = worker.store().prepare().map_err(|e| store_error(&e))?;
    let paths = (active.upper(), active.work(), active.scratch());
    held.push(Held::Scratch { _active: active });
    Ok(paths)
}

fn empty_mount(worker: &LocalWorker, held: &mut Vec<Held>) -> Result<MountFd, ErrorKind> {
    let (upper, _, _) = scratch(worker, held)?;
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
        return worker.mount_layers(layers);
    }
    let (upper, work, _) = scratch(worker, held)?;
    let folders = crate::folders(worker.store(), layers)?;
    let lowers: Vec<_> = folders.iter().map(|p| p.as_path().into()).collect();
    let upper = Upper { upper: upper.as_path().into(), work: work.as_path().into() };
    Overlay::mount(&lowers, Some(upper), worker.overlay_options()).map_err(io)
}

/// Largest secret, as in BuildKit.
const MAX_SECRET: usize = 500 * 1024;

fn secret(worker: &LocalWorker, id: &str, required: bool) -> Result<Option<Vec<u8>>, ErrorKind> {
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

/// The environment of the process: image and ARGs, HOME, proxies, secrets.
fn environment(
    worker: &LocalWorker,
    exec: &ExecOp,
    home: &str,
    masks: &mut Vec<Vec<u8>>,
) -> Result<Vec<(String, String)>, ErrorKind> {
    let mut env = exec.env.clone();
    let set = |env: &mut Vec<(String, String)>, name: &str, value: String| {
        env.retain(|(n, _)| n != name);
        env.push((name.to_string(), value));
    };
    if !env.iter().any(|(n, _)| n == "HOME") {
        set(&mut env, "HOME", home.to_string());
    }
    for (name, value) in &exec.uncached.proxy_env {
        // What the recipe itself sets wins.
        if !env.iter().any(|(n, _)| n == name) {
            set(&mut env, name, value.clone());
        }
    }
    for s in &exec.secret_env {
        let content = secret(worker, &s.id, s.required)?.unwrap_or_default();
        let text = String::from_utf8(content).map_err(|_| {
            ErrorKind::with_hint(format!("secret {:?} is not text", s.id), "mount it as a file instead of env=")
        })?;
        if text.contains('\0') {
            return Err(ErrorKind::other(format!("secret {:?} holds a NUL byte and can't be a variable", s.id)));
        }
        masks.push(text.clone().into_bytes());
        set(&mut env, &s.name, text);
    }
    Ok(env)
}

fn network_is_host(worker: &LocalWorker, exec: &ExecOp) -> bool {
    match exec.network {
        NetworkMode::Host => true,
        NetworkMode::None => false,
        NetworkMode::Default => worker.config.isolation.default_network == DefaultNetwork::Host,
    }
}

fn limits(exec: &ExecOp, timeout: Option<Duration>) -> Limits {
    let u = &exec.uncached;
    Limits {
        memory: u.memory,
        cpus: u.cpu_millis.map(|m| m as f64 / 1000.0),
        pids: u.pids,
        shm_size: u.shm_size,
        ulimits: u
            .ulimits
            .iter()
            .map(|l| sandbox::Ulimit { name: l.name.clone(), soft: l.soft, hard: l.hard })
            .collect(),
        cgroup_parent: u.cgroup_parent.as_ref().map(PathBuf::from),
        timeout,
        ..Limits::default()
    }
}

/// The host's resolv.conf. Off the host's network a lone stub resolver of systemd can't be reached, so
/// the servers behind it are named.
fn resolv_conf(dns: &[String], host_network: bool) -> Vec<u8> {
    if !dns.is_empty() {
        return dns.iter().map(|s| format!("nameserver {s}\n")).collect::<String>().into_bytes();
    }
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers: Vec<&str> = text
        .lines()
        .filter_map(|l| l.trim().strip_prefix("nameserver"))
        .map(str::trim)
        .collect();
    if !host_network
        && servers == ["127.0.0.53"]
        && let Ok(real) = std::fs::read("/run/systemd/resolve/resolv.conf")
    {
        return real;
    }
    text.into_bytes()
}

fn pipe() -> Result<(OwnedFd, OwnedFd), ErrorKind> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| ErrorKind::other(format!("can't make a pipe: {e}")))
}

/// A program that could not be started: said like the runtimes people know.
fn spawn_failed(e: &sandbox::Error, vertex: &Vertex, exec: &ExecOp) -> ErrorKind {
    let mut hint = e.hint();
    if hint.is_none() && vertex.platform.architecture != host_architecture() {
        hint = Some(format!(
            "steps for {} need an emulator: install qemu-user-static, which registers itself with binfmt_misc",
            vertex.platform
        ));
    }
    ErrorKind::Other { message: format!("process {:?} could not be started: {e}", exec.args.join(" ")), hint }
}

fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}
