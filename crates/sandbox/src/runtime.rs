//! The builder's side: [`Runtime`] starts a runner for each step, [`Child`] is the step.
//!
//! A runner is this same program, started anew (never forked from a process with threads) with a marker as
//! `argv[0]`. It has one end of a socket; when the builder dies, however it dies, the runner sees the other end
//! close and kills the step.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as ProcessStdio};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, MemfdFlags, OFlags, SealFlags};

use crate::error::Error;
use crate::overlay::MountFd;
use crate::seccomp;
use crate::spec::{Access, BindSource, Exit, MountKind, SandboxSpec, Security};
use crate::wire::{self, Report, Request};

/// `argv[0]` of a runner.
pub(crate) const MARKER: &str = "ctrbuild-sandbox-runner";

/// Starts steps. Cheap to share between threads; every method may be called at the same time.
#[derive(Debug)]
pub struct Runtime {
    /// A read-only view of the executable, so that no step can write to it through `/proc/PID/exe`.
    program: OwnedFd,
}

/// Where a step's output goes. Input is always empty.
#[derive(Debug)]
pub struct Stdio {
    /// Descriptor 1 of the step.
    pub stdout: OwnedFd,
    /// Descriptor 2 of the step.
    pub stderr: OwnedFd,
}

impl Stdio {
    /// Both to one descriptor, in the order of writing.
    pub fn merged(output: OwnedFd) -> io::Result<Stdio> {
        Ok(Stdio { stdout: output.try_clone()?, stderr: output })
    }
}

impl Runtime {
    /// A runtime that starts the running program itself as runner; its `main` must begin with
    /// [`crate::reexec`]. Also removes cgroups that killed builders have left.
    pub fn new() -> Result<Runtime, Error> {
        Runtime::with_program("/proc/self/exe")
    }

    /// A runtime whose runner is the program at `path`, for programs that can't call [`crate::reexec`] themselves.
    pub fn with_program(path: impl AsRef<Path>) -> Result<Runtime, Error> {
        crate::cgroup::sweep();
        Ok(Runtime { program: sealed(path.as_ref())? })
    }

    /// A name of the program for this process and its children.
    pub(crate) fn program_path(&self) -> String {
        format!("/proc/self/fd/{}", self.program.as_raw_fd())
    }

    /// Starts a step and returns once its program runs (`execve` has succeeded). Blocks for a few milliseconds.
    pub fn spawn(&self, mut spec: SandboxSpec, stdio: Stdio) -> Result<Child, Error> {
        check(&spec)?;
        for mount in &mut spec.mounts {
            // The runner's mount namespace is ours, but the step's is a copy, from which nothing of ours can be bound.
            if let MountKind::Bind { source, access } = &mut mount.kind
                && let BindSource::Host(fd) = source
            {
                let failed = |source| {
                    let (target, action) = (mount.target.clone(), "binding its source".to_owned());
                    Error::Mount { target, action, source }
                };
                *fd = MountFd::clone_of(&*fd, *access)
                    .map_err(|e| match e {
                        Error::FileSystem { source, .. } => failed(source),
                        other => other,
                    })?
                    .into();
            }
        }
        let (ours, theirs) = UnixStream::pair().map_err(|e| Error::io("can't make a socket pair", e))?;
        let mut command = Command::new(self.program_path());
        command.arg0(MARKER).env_clear().stdin(ProcessStdio::from(OwnedFd::from(theirs)));
        command.stdout(ProcessStdio::from(stdio.stdout)).stderr(ProcessStdio::from(stdio.stderr));
        let runner = command.spawn().map_err(|e| Error::io("can't start the sandbox runner", e))?;
        // The command holds the runner's end of the socket and the step's output.
        drop(command);
        let filter = match spec.security {
            Security::Sandbox => Some(seccomp::default_program().iter().map(|insn| insn.to_bits()).collect()),
            Security::Insecure => None,
        };
        let cgroup_name = cgroup_name();
        let mut child = Child { socket: ours, runner, process: None, cgroup_name, ended: false };
        let request = Request { spec, filter, cgroup_name: child.cgroup_name.clone() };
        if let Err(e) = wire::send(&child.socket, request) {
            return Err(child.lost(e));
        }
        match wire::receive(&child.socket) {
            Ok(Report::Started { process }) => {
                child.process = Some(process);
                Ok(child)
            }
            Ok(Report::Failed(error)) => {
                child.reap();
                Err(error)
            }
            Ok(Report::Ended(_)) => Err(child.lost(io::ErrorKind::InvalidData.into())),
            Err(e) => Err(child.lost(e)),
        }
    }
}

/// A running step. Dropping it kills the step and waits for its end.
#[derive(Debug)]
pub struct Child {
    socket: UnixStream,
    runner: std::process::Child,
    process: Option<OwnedFd>,
    cgroup_name: String,
    ended: bool,
}

/// Ends a step from another thread.
#[derive(Debug)]
pub struct Killer(UnixStream);

impl Killer {
    /// Asks for the end of every process of the step. Harmless if it has already ended.
    pub fn kill(&self) {
        // Closing our sending side is what the runner would see if we died.
        let _already_closed = self.0.shutdown(std::net::Shutdown::Write);
    }
}

impl Child {
    /// Blocks until every process of the step is dead and its mounts and cgroups are gone.
    pub fn wait(mut self) -> Result<Exit, Error> {
        match wire::receive(&self.socket) {
            Ok(Report::Ended(exit)) => {
                self.reap();
                Ok(exit)
            }
            Ok(Report::Failed(error)) => {
                self.reap();
                Err(error)
            }
            Ok(Report::Started { .. }) => Err(self.lost(io::ErrorKind::InvalidData.into())),
            Err(e) => Err(self.lost(e)),
        }
    }

    /// Asks for the end of every process of the step (SIGKILL); [`Child::wait`] then tells of signal 9.
    pub fn kill(&self) {
        let _already_closed = self.socket.shutdown(std::net::Shutdown::Write);
    }

    /// A handle that can end the step while another thread waits for it.
    pub fn killer(&self) -> Result<Killer, Error> {
        self.socket.try_clone().map(Killer).map_err(|e| Error::io("can't duplicate a descriptor", e))
    }

    /// The step's first process (pid 1 inside) as the host sees it: a pidfd.
    pub fn pidfd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.process.as_ref().map(AsFd::as_fd)
    }

    fn reap(&mut self) {
        self.ended = true;
        // The runner has nothing left to do but to exit, and only we can reap it.
        let _exit_status = self.runner.wait();
    }

    /// The runner said nothing more: ends what may be left, and finds words for it.
    fn lost(&mut self, error: io::Error) -> Error {
        if let Some(process) = &self.process {
            // The kernel has already done so when the runner died; this is for a runner that misbehaves.
            let _already_dead = rustix::process::pidfd_send_signal(process, rustix::process::Signal::KILL);
        }
        self.ended = true;
        let _already_closed = self.socket.shutdown(std::net::Shutdown::Both);
        let status = self.runner.wait();
        crate::cgroup::remove_named(&self.cgroup_name);
        match status {
            Ok(status) => Error::RunnerDied(format!("{status}, {error}")),
            Err(e) => Error::RunnerDied(e.to_string()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
            self.reap();
        }
    }
}

/// What the kernel would misunderstand or refuse with an error that explains nothing.
fn check(spec: &SandboxSpec) -> Result<(), Error> {
    use std::os::unix::ffi::OsStrExt;
    let wrong = |text: &str| Err(Error::Spec(text.into()));
    if spec.args.first().is_none_or(|program| program.is_empty()) {
        return wrong("no program to run");
    }
    let has_nul = |bytes: &[u8]| bytes.contains(&0);
    if spec.args.iter().any(|arg| has_nul(arg.as_bytes())) {
        return wrong("an argument holds a NUL byte");
    }
    for (name, value) in &spec.env {
        if name.is_empty()
            || name.as_bytes().contains(&b'=')
            || has_nul(name.as_bytes())
            || has_nul(value.as_bytes())
        {
            return wrong("an environment variable's name is empty or holds '=', or it holds a NUL byte");
        }
    }
    // 64 is the kernel's limit.
    if spec.hostname.is_empty()
        || spec.hostname.len() > 64
        || !spec.hostname.bytes().all(|b| b.is_ascii_graphic())
    {
        return wrong("the host name must have 1 to 64 printable ASCII letters and no blanks");
    }
    if !spec.cwd.is_absolute() || has_nul(spec.cwd.as_os_str().as_bytes()) {
        return wrong("the working directory is not an absolute path");
    }
    for mount in &spec.mounts {
        if !mount.target.is_absolute() || has_nul(mount.target.as_os_str().as_bytes()) {
            return wrong("the target of a mount is not an absolute path");
        }
        if clean(&mount.target) == Path::new("/") {
            return wrong("a mount can't replace the root");
        }
    }
    // The kernel's (uid_t)-1 means "no change".
    let ids = [spec.identity.uid, spec.identity.gid];
    if ids.iter().chain(&spec.identity.groups).any(|id| *id == u32::MAX) {
        return wrong("4294967295 is not a user or group id");
    }
    for device in &spec.devices {
        if !clean(device).starts_with("/dev") || clean(device) == Path::new("/dev") {
            return wrong("a device is not below /dev");
        }
    }
    if spec.limits.cpus.is_some_and(|cpus| !cpus.is_finite() || cpus <= 0.0) {
        return wrong("the number of processors is not positive");
    }
    Ok(())
}

/// `path` without `.`, `..` and double slashes, by text alone.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::Normal(name) => out.push(name),
            _ => {}
        }
    }
    out
}

/// A name that says whose it is, so that the next builder can tell what nobody owns any more.
fn cgroup_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", crate::cgroup::owner_prefix(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The executable `path` as a file that can't be written to: a step that names `/proc/self/exe` as its program (or in
/// a `#!` line) would otherwise get hold of the builder's binary on the host.
fn sealed(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let exe = rustix::fs::openat(CWD, path, flags, rustix::fs::Mode::empty())
        .map_err(|e| Error::io(format!("can't open {}", path.display()), e))?;
    if let Ok(mount) = MountFd::clone_of(&exe, Access::ReadOnly) {
        return Ok(mount.into());
    }
    // No right to mount, or an executable outside of this mount namespace: a sealed copy in memory.
    sealed_copy(path).map_err(|e| Error::io(format!("can't make a read-only view of {}", path.display()), e))
}

fn sealed_copy(path: &Path) -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("ctrbuild", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(memory);
    io::copy(&mut std::fs::File::open(path)?, &mut file)?;
    let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, all)?;
    // Through this descriptor; a writable one can't be executed (ETXTBSY).
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::open(link, OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn executables_are_sealed() {
        let write = |fd: &OwnedFd| {
            let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let written =
                std::fs::OpenOptions::new().write(true).open(link).and_then(|mut f| f.write_all(b"x"));
            written.map_err(|e| e.raw_os_error())
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::copy("/bin/true", &path).unwrap();
        let copy = sealed_copy(&path).unwrap();
        assert_eq!(write(&copy), Err(Some(libc::EPERM)));
        let run =
            |fd: &OwnedFd| Command::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).arg0("true").status();
        assert!(run(&copy).unwrap().success());
        if crate::userns::needed() {
            return eprintln!("skipped: needs root");
        }
        let view = sealed(&path).unwrap();
        assert_eq!(write(&view), Err(Some(libc::EROFS)));
        assert!(run(&view).unwrap().success());
    }

    #[test]
    fn paths_are_cleaned_by_text() {
        let cases = [("/a/./b//c/", "/a/b/c"), ("/a/../../b", "/b"), ("/..", "/"), ("", "/"), ("a", "/a")];
        for (path, expected) in cases {
            assert_eq!(clean(Path::new(path)), Path::new(expected));
        }
    }
}
