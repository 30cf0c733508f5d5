//! The step's first process, from its birth in new namespaces to `execve`. Everything here runs single-threaded,
//! as pid 1 of the step, and reports to the runner; it never returns.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::bpf::Insn;
use crate::cgroup::{BornInside, Cgroup, Hierarchies};
use crate::error::Error;
use crate::runner::{identity, mounts};
use crate::spec::{Identity, Input, Network, SandboxSpec};
use crate::sys;
use crate::wire::{self, Progress};

/// All that the process needs to know.
pub struct Plan<'a> {
    pub spec: SandboxSpec,
    pub filter: Option<Vec<u64>>,
    pub hierarchies: &'a Hierarchies,
    pub cgroup: &'a Cgroup,
    pub born: BornInside,
    /// A user namespace to enter once all is set up.
    pub users: Option<&'a OwnedFd>,
}

/// Becomes the step's program, or reports why not.
pub fn main(plan: Plan<'_>, mut progress: OwnedFd) -> ! {
    let attempt = std::panic::AssertUnwindSafe(|| become_program(plan, &mut progress));
    let error = match std::panic::catch_unwind(attempt) {
        Ok(Err(error)) => error,
        Ok(Ok(never)) => match never {},
        Err(_) => Error::RunnerDied("internal error while the step was set up; please report it".into()),
    };
    // If the runner is gone, nobody is left to tell.
    let _runner_gone = wire::send(&progress, Progress::Failed(error));
    exit_now(1)
}

fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process at once, without handlers and destructors that belong to the runner.
    unsafe { libc::_exit(code) }
}

fn failed(action: &'static str) -> impl Fn(rustix::io::Errno) -> Error {
    move |e| Error::io(action, e)
}

/// Ends with the runner. The kernel forgets this when ids change, so that it is said twice.
fn die_with_runner() -> Result<(), Error> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(failed("can't tie the step to its runner"))
}

fn become_program(plan: Plan<'_>, progress: &mut OwnedFd) -> Result<std::convert::Infallible, Error> {
    let Plan { mut spec, filter, hierarchies, cgroup, born, users } = plan;
    die_with_runner()?;
    cgroup.enter(born)?;
    // SAFETY: only a cgroup namespace, which no other code of this single-threaded process relies on.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) }
        .or_else(|e| if e == rustix::io::Errno::INVAL { Ok(()) } else { Err(e) })
        .map_err(failed("can't make a cgroup namespace"))?;
    match &spec.network {
        Network::Host => {}
        Network::None => {
            sys::loopback_up().map_err(|e| Error::io("can't bring the loopback interface up", e))?
        }
        Network::Namespace(fd) => {
            rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(fd),
                Some(LinkNameSpaceType::Network),
            )
            .map_err(failed("can't enter the network namespace"))?;
        }
    }
    // Born in the runner's session; this one is the step's alone.
    rustix::process::setsid().map_err(failed("can't make a session"))?;
    sys::new_session_keyring();
    rustix::system::sethostname(spec.hostname.as_bytes()).map_err(failed("can't set the host name"))?;
    forget_oom_protection();

    let identity = spec.identity.clone();
    let input = take_input(std::mem::take(&mut spec.input), &identity)?;
    let (security, cwd, ulimits) = (spec.security, spec.cwd.clone(), spec.limits.ulimits.clone());
    let (args, env) = (c_strings(&spec.args)?, environment(&spec.env)?);
    let stubs = mounts::enter_root(spec, hierarchies, cgroup.devices_confined)?;
    if let Some(users) = users {
        // Raising a limit is nothing that another user namespace may do.
        identity::limit_resources(&ulimits)?;
        let kind = Some(LinkNameSpaceType::User);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(users), kind)
            .map_err(failed("can't enter the user namespace of the emulator"))?;
    }

    // From here on paths are the step's own. No descriptor of the host may stay open now: the working directory or
    // the program could name it as /proc/self/fd/N.
    move_last(progress)?;
    if input == Taken::No {
        empty_input();
    }
    give_output_to(&identity);
    if users.is_none() {
        identity::limit_resources(&ulimits)?;
    }
    change_directory(&cwd)?;
    let filter: Option<Vec<Insn>> = filter.map(|bits| bits.into_iter().map(Insn::from_bits).collect());
    identity::assume(&identity, security, filter.as_deref())?;
    die_with_runner()?;
    wire::send(&*progress, Progress::Ready { stubs }).map_err(|e| Error::io("the runner is gone", e))?;
    sys::reset_signals();
    Err(execute(&args, &env))
}

/// Moves the progress socket to the lowest number and closes everything above. What this process still owns by
/// value is never used or dropped again.
fn move_last(progress: &mut OwnedFd) -> Result<(), Error> {
    const NUMBER: i32 = 3;
    let failed = |e: io::Error| Error::io("can't move a descriptor", e);
    if progress.as_raw_fd() != NUMBER {
        sys::put_at(&*progress, NUMBER).map_err(failed)?;
        let moved =
            sys::inherited(NUMBER).ok_or_else(|| failed(io::Error::from_raw_os_error(libc::EBADF)))?;
        // Its number is closed below, whoever else had the new one.
        std::mem::forget(std::mem::replace(progress, moved));
    }
    sys::cloexec_from(NUMBER);
    sys::close_from(NUMBER + 1);
    Ok(())
}

/// A builder that the out-of-memory killer spares doesn't make its steps exempt.
fn forget_oom_protection() {
    const FILE: &str = "/proc/self/oom_score_adj";
    let score = std::fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if score.is_some_and(|score| score < 0) {
        // Raising the score is always allowed.
        let _no_proc = std::fs::write(FILE, "0");
    }
}

/// Whether the step has an input that is not empty.
#[derive(PartialEq)]
enum Taken {
    Yes,
    No,
}

/// Puts the caller's input at 0; a terminal also at 1 and 2, as the controlling one of this new session.
fn take_input(input: Input, identity: &Identity) -> Result<Taken, Error> {
    let failed = |e: io::Error| Error::io("can't pass the input on", e);
    match input {
        Input::Empty => return Ok(Taken::No),
        Input::Stream(fd) => sys::put_at(&fd, 0).map_err(failed)?,
        Input::Terminal(fd) => {
            for number in 0..3 {
                sys::put_at(&fd, number).map_err(failed)?;
            }
            rustix::process::ioctl_tiocsctty(&fd).map_err(|e| failed(e.into()))?;
            // So that the step's user can open /dev/tty's other names; writing works all the same.
            let owner = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
            let _not_ours = rustix::fs::fchown(&fd, Some(owner.0), Some(owner.1));
        }
    }
    Ok(Taken::Yes)
}

/// Input is the step's own `/dev/null`, unless something else lies there; then it stays the host's.
fn empty_input() {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(null) =
        rustix::fs::open("/dev/null", flags.difference(OFlags::NONBLOCK) | OFlags::PATH, Mode::empty())
    else {
        return;
    };
    let is_null = |stat: rustix::fs::Stat| {
        FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == rustix::fs::makedev(1, 3)
    };
    if !rustix::fs::fstat(&null).is_ok_and(is_null) {
        return;
    }
    if let Ok(null) = rustix::fs::open("/dev/null", flags, Mode::empty())
        && rustix::fs::fstat(&null).is_ok_and(is_null)
    {
        let _stays_the_hosts = sys::put_at(null, 0);
    }
}

/// Lets an ordinary user open `/dev/stdout` and `/dev/stderr`, which are pipes of the builder.
fn give_output_to(identity: &Identity) {
    if identity.uid == 0 {
        return;
    }
    for fd in [1, 2] {
        // SAFETY: the numbers 1 and 2 are open for the life of this process, and nothing here closes them.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        let is_pipe = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode).is_fifo();
        if rustix::fs::fstat(fd).is_ok_and(is_pipe) {
            let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
            // Writing through the open descriptor works all the same.
            let _not_ours = rustix::fs::fchown(fd, Some(uid), Some(gid));
        }
    }
}

fn change_directory(cwd: &Path) -> Result<(), Error> {
    let failed = |source: io::Error| Error::WorkingDir { path: cwd.to_owned(), source };
    rustix::process::chdir(cwd).map_err(|e| failed(e.into()))?;
    // The kernel marks a directory outside of the root as "(unreachable)".
    let real = rustix::process::getcwd(Vec::new()).map_err(|e| failed(e.into()))?;
    if !real.as_bytes().starts_with(b"/") {
        return Err(failed(io::Error::other("it lies outside of the root")));
    }
    Ok(())
}

fn c_strings(list: &[OsString]) -> Result<Vec<CString>, Error> {
    list.iter()
        .map(|arg| sys::cstring(arg))
        .collect::<io::Result<_>>()
        .map_err(|e| Error::io("can't pass an argument", e))
}

fn environment(env: &[(OsString, OsString)]) -> Result<Vec<CString>, Error> {
    let joined: Vec<OsString> = env
        .iter()
        .map(|(name, value)| {
            let mut text = name.clone().into_vec();
            text.push(b'=');
            text.extend_from_slice(value.as_bytes());
            OsString::from_vec(text)
        })
        .collect();
    c_strings(&joined)
}

/// `execve` with a search in the step's `PATH`. Returns the error only.
fn execute(args: &[CString], env: &[CString]) -> Error {
    let program = args[0].to_string_lossy().into_owned();
    if args[0].as_bytes().contains(&b'/') {
        return Error::Exec { program, cause: sys::execve(&args[0], args, env) };
    }
    let path = env.iter().find_map(|var| var.as_bytes().strip_prefix(b"PATH=")).unwrap_or_default();
    let mut refused = None;
    for dir in path.split(|b| *b == b':') {
        let dir = if dir.is_empty() { b"." } else { dir };
        let candidate = PathBuf::from(OsStr::from_bytes(dir)).join(OsStr::from_bytes(args[0].as_bytes()));
        let Ok(candidate_c) = sys::cstring(candidate.as_os_str()) else { continue };
        let cause = sys::execve(&candidate_c, args, env);
        match cause.raw_os_error() {
            // ENOENT also stands for a missing interpreter of a file that is there.
            Some(libc::ENOENT) if !std::fs::symlink_metadata(&candidate).is_ok_and(|m| m.is_file()) => {}
            Some(libc::ENOTDIR | libc::ENAMETOOLONG | libc::ELOOP) => {}
            Some(libc::EACCES) => refused = Some((candidate, cause)),
            _ => return Error::Exec { program: candidate.to_string_lossy().into_owned(), cause },
        }
    }
    match refused {
        Some((path, cause)) => Error::Exec { program: path.to_string_lossy().into_owned(), cause },
        None => Error::NotInPath { program },
    }
}
