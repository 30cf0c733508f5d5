//! The runner: a single-threaded process for one step. It makes the step's cgroup and first process, waits for its
//! end, cleans up and reports. It ends the step when the builder's end of the socket closes.

mod identity;
mod init;
mod mounts;
mod nodes;
mod stubs;

pub(crate) use mounts::attach;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::binfmt::Emulation;
use crate::bpf;
use crate::cgroup::{BornInside, Cgroup, Hierarchies};
use crate::error::{self, Error};
use crate::overlay::MountFd;
use crate::spec::{Exit, Limits, Network, Security, Status, Usage};
use crate::sys::{self, Forked};
use crate::wire::{self, Progress, Report, Request, StubRecord};

/// Serves the builder at descriptor 0 and exits.
pub fn main() -> ! {
    let code = match sys::inherited(0) {
        Some(socket) => serve(UnixStream::from(socket)),
        None => 2,
    };
    std::process::exit(code)
}

fn serve(socket: UnixStream) -> i32 {
    // Keeps the numbers 0 to 2 for the step, and everything else away from it.
    let Ok(socket) = rustix::io::fcntl_dupfd_cloexec(&socket, 3) else { return 2 };
    let _null = null_input();
    sys::cloexec_from(3);
    // A session of its own: signals of the builder's terminal are for the builder to handle.
    let _own_session = rustix::process::setsid();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let report = match wire::receive::<Request>(&socket) {
        Ok(request) => match run(request, &socket) {
            Ok(exit) => Report::Ended(exit),
            Err(error) => Report::Failed(error),
        },
        Err(e) => Report::Failed(Error::io("can't read the builder's request", e)),
    };
    // Fails only if the builder is gone.
    match wire::send(&socket, report) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn null_input() -> io::Result<()> {
    sys::put_at(std::fs::File::open("/dev/null")?, 0)
}

fn run(request: Request, socket: &OwnedFd) -> Result<Exit, Error> {
    let Request { spec, filter, cgroup_name } = request;
    let hierarchies = Hierarchies::find();
    let mut rules = bpf::default_devices();
    rules.extend(nodes::rules_for(&spec.devices)?);
    let rules = (spec.security == Security::Sandbox).then_some(&rules);
    let cgroup = Cgroup::create(&hierarchies, &cgroup_name, &spec.limits, rules)?;
    let root = spec.root.try_clone();
    let result = root.and_then(|root| {
        let limits = spec.limits.clone();
        // Without one, programs of other machines end as the kernel ends them.
        let emulation = spec.emulator.as_ref().and_then(|emulator| Emulation::new(emulator).ok());
        let users = emulation.as_ref().map(|emulation| &emulation.user_namespace);
        let (process, progress) = start(spec, filter, &hierarchies, &cgroup, users)?;
        watch(process, progress, socket, &limits, &cgroup, root)
    });
    cgroup.remove();
    result
}

/// The step's first process as its parent sees it.
struct Process {
    pid: libc::pid_t,
    pidfd: OwnedFd,
}

impl Process {
    fn kill(&self) {
        let _already_dead = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }
}

fn start(
    spec: crate::spec::SandboxSpec,
    filter: Option<Vec<u64>>,
    hierarchies: &Hierarchies,
    cgroup: &Cgroup,
    users: Option<&OwnedFd>,
) -> Result<(Process, OwnedFd), Error> {
    let (ours, theirs) = UnixStream::pair().map_err(|e| Error::io("can't make a socket pair", e))?;
    let mut namespaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if matches!(spec.network, Network::None) {
        namespaces |= libc::CLONE_NEWNET;
    }
    let mut born = if cgroup.v2_dir().is_some() { BornInside::Yes } else { BornInside::No };
    let forked = match sys::fork_into(namespaces, cgroup.v2_dir()) {
        // Before Linux 5.7, or where the cgroup may be made but not joined this way.
        Err(_) if born == BornInside::Yes => {
            born = BornInside::No;
            sys::fork_into(namespaces, None)
        }
        other => other,
    };
    match forked.map_err(|source| Error::Namespaces { source })? {
        Forked::Child => {
            drop(ours);
            init::main(init::Plan { spec, filter, hierarchies, cgroup, born, users }, theirs.into())
        }
        Forked::Parent { pid, pidfd } => {
            // The step's output belongs to the step alone, so that its readers see the end.
            if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
                for fd in [1, 2] {
                    sys::put_at(&null, fd).map_err(|e| Error::io("can't redirect the runner's output", e))?;
                }
            }
            Ok((Process { pid, pidfd }, ours.into()))
        }
    }
}

/// Follows the process from its first progress message to its end.
fn watch(
    process: Process,
    progress: OwnedFd,
    socket: &OwnedFd,
    limits: &Limits,
    cgroup: &Cgroup,
    root: MountFd,
) -> Result<Exit, Error> {
    let mut failure = None;
    let mut made: Vec<StubRecord> = Vec::new();
    // First Ready, then either Failed or, by a successful execve, the end of the stream.
    let mut ready = false;
    loop {
        wait_for(&progress, socket, &process, None);
        match wire::receive::<Progress>(&progress) {
            Ok(Progress::Ready { stubs }) => {
                made = stubs;
                ready = true;
            }
            Ok(Progress::Failed(error)) => {
                failure = Some(error);
                break;
            }
            Err(_) => break,
        }
    }
    let started = Instant::now();
    let mut timed_out = false;
    if failure.is_none() && ready {
        let process_fd =
            process.pidfd.try_clone().map_err(|e| Error::io("can't duplicate a descriptor", e))?;
        // If the builder is gone, the next wait sees it.
        let _builder_gone = wire::send(socket, Report::Started { process: process_fd });
        timed_out = !wait_for(&process.pidfd, socket, &process, limits.timeout);
    }
    if failure.is_some() {
        process.kill();
    }
    // The kernel lets the first process of a pid namespace end last.
    let reaped = sys::reap(process.pid).map_err(|e| Error::io("can't wait for the step", e))?;
    let wall = started.elapsed();
    let stubs = stubs::clean(root, made);
    if let Some(error) = failure {
        return Err(error);
    }
    if !ready {
        return Err(match cgroup.out_of_memory() {
            true => Error::Limit { limit: error::MEMORY, reason: error::TOO_LITTLE.into() },
            false => Error::RunnerDied("killed while the step was set up".into()),
        });
    }
    let status = if libc::WIFSIGNALED(reaped.status) {
        Status::Signal(libc::WTERMSIG(reaped.status))
    } else {
        Status::Code(libc::WEXITSTATUS(reaped.status))
    };
    let status = match status {
        Status::Code(0) => status,
        _ if cgroup.out_of_memory() => Status::OutOfMemory,
        _ if timed_out => Status::TimedOut,
        other => other,
    };
    let (cpu_user, cpu_sys) = cgroup.cpu().unwrap_or(reaped.cpu);
    let blocks = cgroup.io().map(|(read, written)| (read / 512, written / 512));
    let (io_read_blocks, io_write_blocks) = blocks.unwrap_or(reaped.blocks);
    let usage = Usage {
        cpu_user,
        cpu_sys,
        peak_memory: cgroup.peak_memory().unwrap_or(reaped.max_rss),
        io_read_blocks,
        io_write_blocks,
        wall,
    };
    Ok(Exit { status, usage, stubs })
}

/// Waits until `fd` is readable. When the builder asks for the end (or is gone), or the time is over, kills the
/// process. False only if the time was over.
fn wait_for(fd: &OwnedFd, socket: &OwnedFd, process: &Process, timeout: Option<Duration>) -> bool {
    let deadline = timeout.map(|t| Instant::now() + t);
    let mut in_time = true;
    let mut watch_builder = true;
    loop {
        let left = deadline.filter(|_| in_time).map(|d| d.saturating_duration_since(Instant::now()));
        let left =
            left.map(|d| Timespec { tv_sec: d.as_secs() as i64, tv_nsec: i64::from(d.subsec_nanos()) });
        let mut fds =
            [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
        let count = if watch_builder { 2 } else { 1 };
        match rustix::event::poll(&mut fds[..count], left.as_ref()) {
            Ok(0) => {
                in_time = false;
                process.kill();
            }
            Ok(_) => {
                if !fds[0].revents().is_empty() {
                    return in_time;
                }
                // The builder never writes after its request: this is the end of the stream.
                process.kill();
                watch_builder = false;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => {
                process.kill();
                return in_time;
            }
        }
    }
}
