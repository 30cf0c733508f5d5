//! Exec ops: one process in a sandbox, on a fresh snapshot.

pub(crate) mod attached;
pub(crate) mod foreign;
mod mounts;

use crate::cache_mount::CacheMount;
use crate::copy::io;
use crate::egress::{AllowList, Egress};
use crate::failed::{FailedStep, KeptNetwork};
use crate::log::{StepLog, pump, remark};
use crate::outside::Outside;
use crate::snapshotter::Prepared;
use crate::ssh::{Forwarding, SshAgent};
use crate::{LocalWorker, passwd, store_error};
use attached::Attached;
use graph::{ExecOp, MountKind, NetworkMode, Op, PathSelector, SecurityMode, StepLimits, Vertex};
use sandbox::{
    Access, Exit, Identity, Limits, Mount, Network, SandboxSpec, Security, Status, Stdio, Usage, hosts_file,
};
use solver::{ErrorKind, Event, Job, LogStream, StepStatus, StepUsage};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::{Active, SnapshotId};

/// What holds for every step of a build.
#[derive(Debug, Clone, Default)]
pub struct Isolation {
    /// Network of steps that do not say.
    pub default_network: DefaultNetwork,
    /// Name servers for /etc/resolv.conf instead of the host's.
    pub dns: Vec<String>,
    /// Whole logs go here.
    pub logs: Option<crate::LogDir>,
    /// ssh agents that steps may ask for, by id.
    pub ssh: BTreeMap<String, SshAgent>,
    /// Copy the root of a failed step to this folder.
    pub fail_export: Option<PathBuf>,
    /// Steps reach these places and nothing else.
    pub allow_net: Option<AllowList>,
}

/// What the network of steps is unless they or the caller ask for one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DefaultNetwork {
    #[default]
    Host,
    None,
    /// One of its own, with a way out through this program.
    Isolated(sandbox::NetworkStack),
}

/// A step that runs, and what must live as long.
struct Running {
    child: sandbox::Child,
    log: Arc<StepLog>,
    pumps: Vec<std::thread::JoinHandle<()>>,
    active: Active,
    root: Prepared,
    /// Folders, locks and services of its mounts.
    _held: Vec<Held>,
    /// Who and where it is, for a later look at it.
    place: Place,
}

/// Something a step needs until it is over.
enum Held {
    Scratch { _active: Active },
    Cache { _mount: CacheMount },
    Agent { _forwarding: Forwarding, _active: Active },
    Network { _egress: Egress },
    Outside { _outside: Outside },
}

/// Where a step runs and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Without secrets.
    pub env: Vec<(String, String)>,
    pub cwd: String,
    pub identity: Identity,
    pub hostname: String,
    pub platform: oci::Platform,
    pub network: KeptNetwork,
    /// Further lines of /etc/hosts that were asked for: address, name.
    pub hosts: Vec<(String, String)>,
    /// Name servers that were asked for.
    pub dns: Vec<String>,
}

/// A step that ended badly, with what it left.
struct Failed {
    status: StepStatus,
    log: Arc<StepLog>,
    active: Active,
    place: Place,
}

/// How one attempt ended.
enum Ended {
    Well(SnapshotId),
    Badly(Box<Failed>),
}

/// Kills the step if the build stops waiting for it, or keeps it from starting.
struct KillOnDrop {
    killer: Option<sandbox::Killer>,
    cancelled: Arc<AtomicBool>,
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Of a step that has ended nobody asks any more.
        self.cancelled.store(true, Ordering::SeqCst);
        if let Some(killer) = self.killer.take() {
            killer.kill();
        }
    }
}

/// Run an exec op; the result is its root's layers and one more.
pub async fn run(worker: Arc<LocalWorker>, job: Job) -> Result<Vec<SnapshotId>, ErrorKind> {
    let job = Arc::new(job);
    let retries = exec_of(job.graph.get(job.vertex))?.uncached.limits.retries;
    let attempts = retries.unwrap_or(0).saturating_add(1);
    let mut attempt = 1;
    loop {
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut guard = KillOnDrop { killer: None, cancelled: cancelled.clone() };
        let (w, j, c) = (worker.clone(), job.clone(), cancelled.clone());
        let (running, mut layers) = par::blocking(move || start(&w, &j, &c, None)).await?;
        guard.killer = Some(running.child.killer().map_err(io)?);
        let (w, j) = (worker.clone(), job.clone());
        let ended = par::blocking(move || finish(&w, &j, running, &cancelled)).await;
        guard.killer = None;
        match ended? {
            Ended::Well(layer) => {
                layers.push(layer);
                return Ok(layers);
            }
            Ended::Badly(failed) if attempt < attempts => {
                let text = format!(
                    "attempt {attempt} of {attempts} failed ({}); the step runs again",
                    failed.status
                );
                remark(&text, &failed.log, &*job.observer, job.vertex);
                attempt += 1;
                // Removing what it left may take a while.
                par::blocking(move || drop(failed)).await;
            }
            Ended::Badly(failed) => {
                return Err(par::blocking(move || give_up(&worker, &job, *failed, layers)).await);
            }
        }
    }
}

fn exec_of(vertex: &Vertex) -> Result<&ExecOp, ErrorKind> {
    match &vertex.op {
        Op::Exec(exec) => Ok(exec),
        _ => Err(ErrorKind::other("internal error: not an exec op")),
    }
}

fn start(
    worker: &LocalWorker,
    job: &Job,
    cancelled: &AtomicBool,
    attached: Option<Attached>,
) -> Result<(Running, Vec<SnapshotId>), ErrorKind> {
    let vertex = job.graph.get(job.vertex);
    let exec = exec_of(vertex)?;
    let isolation = &worker.config.isolation;
    let store = worker.store();
    let base = match exec.root {
        None => Vec::new(),
        Some(input) => worker.input_layers(job, input, &PathSelector::everything())?,
    };
    let active = store.prepare().map_err(|e| store_error(&e))?;
    // The store syncs the whole batch before anything refers to it.
    let root = worker.snapshotter().prepare(&active, &base, sandbox::Sync::Volatile)?;
    let user = passwd::process_user(&root.root()?, &exec.user)?;

    let log = Arc::new(StepLog::new(isolation.logs.as_ref(), job.vertex.0, worker.masks.clone()));
    let tell = |text: &str| remark(text, &log, &*job.observer, job.vertex);
    let locks = mounts::lock_caches(worker, job, vertex, &exec.mounts, cancelled, &tell)?;
    let mut held = Vec::new();
    let mut targets = Vec::new();
    let mut agent = None;
    for m in &exec.mounts {
        let access = if m.readonly { Access::ReadOnly } else { Access::ReadWrite };
        if let Some(kind) = mounts::mount_kind(worker, job, vertex, &m.kind, access, &locks, &mut held)? {
            if let MountKind::Ssh { .. } = m.kind {
                agent.get_or_insert(&m.target);
            }
            targets.push(Mount::new(&m.target, kind));
        }
    }
    let mut env = environment(exec, &user.home);
    if let Some(socket) = agent
        && !env.iter().any(|(n, _)| n == "SSH_AUTH_SOCK")
    {
        set(&mut env, "SSH_AUTH_SOCK", socket.clone());
    }
    let mut hosts: Vec<(String, String)> =
        exec.uncached.extra_hosts.iter().map(|(name, address)| (address.clone(), name.clone())).collect();
    let mut place = Place {
        env: env.clone(),
        cwd: crate::select::clean(&exec.cwd),
        identity: Identity { uid: user.uid, gid: user.gid, groups: user.groups },
        hostname: exec.hostname.clone().unwrap_or_else(|| sandbox::DEFAULT_HOSTNAME.to_string()),
        platform: vertex.platform.clone(),
        network: KeptNetwork::None,
        hosts: hosts.clone(),
        dns: isolation.dns.clone(),
    };
    add_secrets(worker, exec, &mut env)?;
    if let Some(reason) = worker.snapshotter().refusal() {
        worker.told.call_once(|| {
            let text = format!(
                "overlay is refused here ({reason}); each step works on a copy of its root, which is slower"
            );
            tell(&text);
        });
    }
    let (network, resolv_conf) = match network(worker, job, exec, &log)? {
        Way::Host => {
            place.network = KeptNetwork::Host;
            (Network::Host, resolv_conf(&isolation.dns, true))
        }
        Way::None => (Network::None, resolv_conf(&isolation.dns, false)),
        Way::Served(egress) => {
            place.network = KeptNetwork::AllowList;
            hosts.extend(egress.hosts.iter().cloned());
            for (name, value) in &egress.env {
                if !env.iter().any(|(n, _)| n == name) {
                    env.push((name.clone(), value.clone()));
                }
            }
            let namespace = egress.namespace.try_clone();
            let namespace =
                namespace.map_err(|e| ErrorKind::other(format!("can't duplicate a descriptor: {e}")))?;
            let resolv_conf = egress.resolv_conf.clone();
            held.push(Held::Network { _egress: egress });
            (Network::Namespace(namespace), resolv_conf)
        }
        Way::Outside(mut outside) => {
            place.network = KeptNetwork::Isolated;
            let namespace = outside.namespace.try_clone();
            let namespace =
                namespace.map_err(|e| ErrorKind::other(format!("can't duplicate a descriptor: {e}")))?;
            let resolv_conf = std::mem::take(&mut outside.resolv_conf);
            held.push(Held::Outside { _outside: outside });
            (Network::Namespace(namespace), resolv_conf)
        }
    };

    let mut spec = SandboxSpec::new(root.mount()?, &exec.args);
    spec.mounts = targets;
    spec.env = env.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
    spec.cwd = PathBuf::from(&place.cwd);
    spec.identity = place.identity.clone();
    spec.hosts = Some(hosts_file(&place.hostname, &hosts));
    spec.resolv_conf = Some(resolv_conf);
    spec.hostname = place.hostname.clone();
    spec.network = network;
    spec.security = match exec.security {
        SecurityMode::Sandbox => Security::Sandbox,
        SecurityMode::Insecure => Security::Insecure,
    };
    spec.limits = limits(&exec.uncached.limits);
    spec.emulator = foreign::emulator(&vertex.platform);

    let mut ends = Vec::new();
    let output = match attached {
        Some(streams) => {
            spec.input = streams.input;
            streams.output
        }
        None => {
            let (stdout, stdout_end) = pipe()?;
            let (stderr, stderr_end) = pipe()?;
            ends.extend([(stdout, LogStream::Stdout), (stderr, LogStream::Stderr)]);
            Stdio { stdout: stdout_end, stderr: stderr_end }
        }
    };
    let child =
        worker.runtime()?.spawn(spec, output).map_err(|e| spawn_failed(worker.store(), e, vertex, exec))?;
    let pumps = ends
        .into_iter()
        .map(|(from, stream)| {
            let (log, observer, v) = (log.clone(), job.observer.clone(), job.vertex);
            std::thread::spawn(move || pump(std::fs::File::from(from), log, observer, v, stream))
        })
        .collect();
    Ok((Running { child, log, pumps, active, root, _held: held, place }, base))
}

fn finish(
    worker: &LocalWorker,
    job: &Job,
    running: Running,
    cancelled: &AtomicBool,
) -> Result<Ended, ErrorKind> {
    let Running { child, log, pumps, active, root, _held, place } = running;
    let Exit { status, usage, .. } = child.wait().map_err(io)?;
    for pump in pumps {
        // The pipes are at their end: every process that could write to them is dead.
        let _ = pump.join();
    }
    drop(_held);
    job.observer.event(Event::Used { vertex: job.vertex, usage: &step_usage(&usage) });
    let status = match status {
        Status::Code(0) => {
            root.settle(&active)?;
            return worker
                .store()
                .commit(active, Default::default())
                .map(Ended::Well)
                .map_err(|e| store_error(&e));
        }
        // Whatever it looks like, it was us.
        _ if cancelled.load(Ordering::SeqCst) => return Err(ErrorKind::Cancelled),
        Status::Code(code) => StepStatus::Code(code),
        Status::Signal(signal) => StepStatus::Signal(signal),
        Status::OutOfMemory => StepStatus::OutOfMemory,
        Status::TimedOut => StepStatus::TimedOut,
    };
    root.settle(&active)?;
    Ok(Ended::Badly(Box::new(Failed { status, log, active, place })))
}

/// Keep what a failed step left, and find the words for its end.
fn give_up(worker: &LocalWorker, job: &Job, failed: Failed, base: Vec<SnapshotId>) -> ErrorKind {
    let Failed { status, log, active, place } = failed;
    let vertex = job.graph.get(job.vertex);
    let exec = match exec_of(vertex) {
        Ok(exec) => exec,
        Err(e) => return e,
    };
    let args = exec.args.clone();
    let path = log.path();
    let mut hints = Vec::new();
    match status {
        StepStatus::OutOfMemory => hints.push(
            "give it more with --memory or --step-limit, or run fewer steps at once with --jobs".to_string(),
        ),
        StepStatus::TimedOut => hints.push(format!(
            "it had {} s; --step-timeout gives every step more, --step-limit this one",
            exec.uncached.limits.timeout.unwrap_or(0)
        )),
        _ if sandbox::userns::single_id() => hints.push(crate::copy::ONE_ID.to_string()),
        _ => {}
    }
    hints.extend(by_signal(status));
    // The step's own words may be anything.
    hints.extend(crate::image::is_full(worker.store()));
    if let Some(path) = &path {
        hints.push(format!("the whole log is in {}", path.display()));
    }
    let command = args.join(" ");
    let name = vertex.provenance.name.clone();
    match FailedStep::keep(worker.store(), active, &base, name, args, place, status, path) {
        Ok(step) => {
            hints.push("look at what the step left with `ctrbuild shell --failed`".to_string());
            if let Some(dir) = &worker.config.isolation.fail_export {
                match step.export(worker.snapshotter(), dir) {
                    Ok(()) => hints.push(format!("its root file system is in {}", dir.display())),
                    Err(e) => hints.push(format!("its root file system could not be saved: {e}")),
                }
            }
        }
        // The step's own failure is what matters.
        Err(e) => hints.push(format!("what the step left could not be kept: {e}")),
    }
    ErrorKind::Step { command, status, log_tail: log.tail(), hint: Some(hints.join("; ")) }
}

/// The signal behind a status, by its name; a shell tells of one that ended its command by the exit code.
fn by_signal(status: StepStatus) -> Option<String> {
    let (number, how) = match status {
        StepStatus::Signal(number) => (number, "the step was"),
        StepStatus::Code(code @ 129..=192) => (code - 128, "as a shell tells it, a program was"),
        _ => return None,
    };
    let name = match number {
        4 => "SIGILL, an instruction that this processor doesn't have",
        6 => "SIGABRT, which it sends itself when something is badly wrong",
        7 => "SIGBUS, often a file that was cut short while it was mapped",
        8 => "SIGFPE, a division by zero",
        9 => "SIGKILL, sent by another process or by the kernel for want of memory",
        11 => "SIGSEGV, a wrong memory access",
        13 => "SIGPIPE: nobody read its output any more",
        15 => "SIGTERM",
        24 => "SIGXCPU, over its limit of processor time",
        25 => "SIGXFSZ, over its limit of a file's size",
        31 => "SIGSYS, a system call that is not allowed",
        _ => return None,
    };
    Some(format!("{how} ended by {name}"))
}

fn step_usage(usage: &Usage) -> StepUsage {
    StepUsage {
        cpu: usage.cpu_user + usage.cpu_sys,
        peak_memory: usage.peak_memory,
        read: usage.io_read_blocks * 512,
        written: usage.io_write_blocks * 512,
    }
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: String) {
    env.retain(|(n, _)| n != name);
    env.push((name.to_string(), value));
}

/// The environment of the process without its secrets: image and ARGs, HOME, proxies.
fn environment(exec: &ExecOp, home: &str) -> Vec<(String, String)> {
    let mut env = exec.env.clone();
    // An empty one counts as none, as runtimes have it.
    if !env.iter().any(|(n, v)| n == "HOME" && !v.is_empty()) {
        set(&mut env, "HOME", home.to_string());
    }
    // Also over what the recipe sets.
    for (name, value) in &exec.uncached.proxy_env {
        set(&mut env, name, value.clone());
    }
    env
}

fn add_secrets(
    worker: &LocalWorker,
    exec: &ExecOp,
    env: &mut Vec<(String, String)>,
) -> Result<(), ErrorKind> {
    for s in &exec.secret_env {
        let content = mounts::secret(worker, &s.id, s.required)?.unwrap_or_default();
        let text = String::from_utf8(content).map_err(|_| {
            ErrorKind::with_hint(
                format!("secret {:?} is not text", s.id),
                "mount it as a file instead of env=",
            )
        })?;
        if text.contains('\0') {
            return Err(ErrorKind::other(format!(
                "secret {:?} holds a NUL byte and can't be a variable",
                s.id
            )));
        }
        set(env, &s.name, text);
    }
    Ok(())
}

/// A step's way to others.
enum Way {
    Host,
    None,
    Served(Egress),
    Outside(Outside),
}

fn network(worker: &LocalWorker, job: &Job, exec: &ExecOp, log: &Arc<StepLog>) -> Result<Way, ErrorKind> {
    let isolation = &worker.config.isolation;
    let network = match exec.network {
        NetworkMode::None => return Ok(Way::None),
        NetworkMode::Host => &DefaultNetwork::Host,
        NetworkMode::Default => &isolation.default_network,
    };
    match &isolation.allow_net {
        Some(_) if exec.network == NetworkMode::Host => Err(ErrorKind::with_hint(
            "the step asks for the host's network, which --allow-net forbids",
            "leave out --network=host, or --allow-net",
        )),
        Some(list) => {
            let (log, observer, vertex) = (log.clone(), job.observer.clone(), job.vertex);
            let tell = Box::new(move |text: &str| remark(text, &log, &*observer, vertex));
            Egress::start(list, tell).map(Way::Served)
        }
        None => match network {
            DefaultNetwork::Host => Ok(Way::Host),
            DefaultNetwork::None => Ok(Way::None),
            DefaultNetwork::Isolated(stack) => {
                let resolv_conf = resolv_conf(&isolation.dns, false);
                Outside::start(worker.runtime()?, stack, resolv_conf).map(Way::Outside)
            }
        },
    }
}

fn limits(step: &StepLimits) -> Limits {
    // Nothing and 0 are no limit, but for /dev/shm: the size that all have.
    let some = |limit: Option<u64>| limit.filter(|n| *n > 0);
    Limits {
        memory: some(step.memory),
        cpus: some(step.cpu_millis).map(|m| m as f64 / 1000.0),
        pids: some(step.pids),
        shm_size: some(step.shm_size),
        ulimits: step
            .ulimits
            .iter()
            .map(|l| sandbox::Ulimit { name: l.name.clone(), soft: l.soft, hard: l.hard })
            .collect(),
        cgroup_parent: step.cgroup_parent.as_ref().map(PathBuf::from),
        timeout: some(step.timeout).map(Duration::from_secs),
        ..Limits::default()
    }
}

/// The host's resolv.conf. Off the host's network a lone stub resolver of systemd can't be reached, so
/// the servers behind it are named.
pub(crate) fn resolv_conf(dns: &[String], host_network: bool) -> Vec<u8> {
    if !dns.is_empty() {
        return dns.iter().map(|s| format!("nameserver {s}\n")).collect::<String>().into_bytes();
    }
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers: Vec<&str> =
        text.lines().filter_map(|l| l.trim().strip_prefix("nameserver")).map(str::trim).collect();
    if !host_network
        && servers == ["127.0.0.53"]
        && let Ok(real) = std::fs::read("/run/systemd/resolve/resolv.conf")
    {
        return real;
    }
    text.into_bytes()
}

pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), ErrorKind> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| ErrorKind::other(format!("can't make a pipe: {e}")))
}

/// A program that could not be started: said like the runtimes people know.
fn spawn_failed(store: &store::LocalStore, e: sandbox::Error, vertex: &Vertex, exec: &ExecOp) -> ErrorKind {
    let (message, mut hint) = match e {
        sandbox::Error::NotInPath { .. } | sandbox::Error::Exec { .. } => (e.to_string(), e.hint()),
        sandbox::Error::User { .. } if sandbox::userns::single_id() => {
            (io(e).to_string(), Some(crate::copy::ONE_ID.to_string()))
        }
        other => match io(other) {
            ErrorKind::Other { message, hint } => (message, hint),
            other => (other.to_string(), None),
        },
    };
    if message.contains("exec format error")
        && let Some(better) = foreign::hint(&vertex.platform)
    {
        hint = Some(better);
    }
    // Mount points and such are made in the store.
    hint = crate::image::is_full(store).or(hint);
    ErrorKind::Other {
        message: format!("process {:?} could not be started: {message}", exec.args.join(" ")),
        hint,
    }
}
