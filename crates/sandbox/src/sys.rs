//! System calls that rustix doesn't wrap. Each function is a thin, safe face; all invariants are stated at the call.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// Turns -1 into the thread's `errno`.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A C string; a NUL inside is `EINVAL`.
pub fn cstring(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// `mount_setattr(2)` on the mount that `fd` is the root of (Linux 5.12).
pub fn mount_setattr(fd: impl AsFd, recursive: Recursive, set: u64, clear: u64) -> io::Result<()> {
    set_mount(
        fd,
        recursive,
        libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 },
    )
}

/// Lets nothing that is mounted on a clone appear on what it was cloned from, nor the other way round.
pub fn make_private(fd: impl AsFd) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    set_mount(fd, Recursive::Yes, attr)
}

fn set_mount(fd: impl AsFd, recursive: Recursive, attr: libc::mount_attr) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive == Recursive::Yes {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a static C string, and `attr` outlives the call and has the size that is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// Whether a mount attribute applies to the mounts below, too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Recursive {
    /// The whole tree.
    Yes,
    /// One mount.
    No,
}

/// What `clone` returns on either side.
pub enum Forked {
    /// In the new process.
    Child,
    /// In the old process: pid in the caller's pid namespace, and a descriptor of the process.
    Parent { pid: libc::pid_t, pidfd: OwnedFd },
}

/// `clone3(2)` without a new stack and without sharing memory: a `fork` into new namespaces and, if given, into
/// a cgroup v2. Must only be called by a single-threaded process: the child goes on to allocate and lock.
pub fn fork_into(namespaces: libc::c_int, cgroup: Option<&OwnedFd>) -> io::Result<Forked> {
    /// `linux/sched.h`; too large for the libc crate's type.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    // SAFETY: an all-zero clone_args is valid: every field is an integer.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces as u32 as u64 | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and without a stack clone3 behaves as fork: the child has a copy of the whole
    // address space. The process has one thread, so no lock is held by anyone else.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) });
    let pid = match pid {
        // Containers hide clone3; the older call can do all but the cgroup.
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) && cgroup.is_none() => {
            return fork_by_clone(namespaces);
        }
        other => other?,
    };
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: the kernel has stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Forked::Parent { pid: pid as libc::pid_t, pidfd })
}

/// [`fork_into`] by `clone(2)` (Linux 5.2 for the pidfd).
fn fork_by_clone(namespaces: libc::c_int) -> io::Result<Forked> {
    let mut pidfd: RawFd = -1;
    let flags = namespaces | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: as for clone3 above. The third argument is where the pidfd goes on every machine; the last two, whose
    // order differs, are null and unused without their flags.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0usize, &raw mut pidfd, 0usize, 0usize)
    })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: the kernel has stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Forked::Parent { pid: pid as libc::pid_t, pidfd })
}

/// End of a child and what it used.
pub struct Reaped {
    /// Raw wait status.
    pub status: libc::c_int,
    /// User and system time of the child and what it waited for.
    pub cpu: (Duration, Duration),
    /// Largest resident set in bytes.
    pub max_rss: u64,
    /// Block reads and writes.
    pub blocks: (u64, u64),
}

/// Waits for the end of the child `pid`.
pub fn reap(pid: libc::pid_t) -> io::Result<Reaped> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is valid: every field is an integer.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live values of the right type.
        let got = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
        if got == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    Ok(Reaped {
        status,
        cpu: (time(usage.ru_utime), time(usage.ru_stime)),
        max_rss: usage.ru_maxrss as u64 * 1024,
        blocks: (usage.ru_inblock as u64, usage.ru_oublock as u64),
    })
}

/// `execve(2)`: returns only on failure.
pub fn execve(path: &CString, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer, and the strings they point to are borrowed for the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// The descriptors from `first` on, where the kernel can't treat them all at once (before Linux 5.11): what /proc says,
/// or all that are possible.
fn open_from(first: RawFd) -> impl Iterator<Item = RawFd> {
    let known: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .map(|dir| dir.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect())
        .unwrap_or_else(|_| (first..65536).collect());
    known.into_iter().filter(move |fd| *fd >= first)
}

/// Marks every descriptor from `first` on as close-on-exec.
pub fn cloexec_from(first: RawFd) {
    // SAFETY: close_range with this flag closes nothing; it only sets a flag on descriptors that exist.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_uint,
        )
    };
    if done == 0 {
        return;
    }
    for fd in open_from(first) {
        // SAFETY: F_SETFD takes an integer; a descriptor that isn't open is reported as EBADF.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Closes every descriptor from `first` on, whoever owns it. Only for a process that is about to become another
/// program and uses none of them any more.
pub fn close_from(first: RawFd) {
    // SAFETY: see above; owners of the descriptors are never dropped, since the process ends in execve or _exit.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0 as libc::c_uint) };
    if done == 0 {
        return;
    }
    for fd in open_from(first) {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}

/// Default action for every signal, and none blocked: what a program expects to start with.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: installing SIG_DFL runs no code of ours. KILL, STOP and libc's own signals are refused: harmless.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero set is a valid empty one on Linux, and both pointers are valid or null.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Starts a session keyring of the process's own, so that keys of the caller are out of reach.
pub fn new_session_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring. A kernel without keyrings has nothing to hide.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
}

/// `setrlimit` for the calling process, `u64::MAX` being unlimited.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is live, and no old value is asked for.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const limit,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    })?;
    Ok(())
}

/// Loads a seccomp program for the calling thread. Needs `CAP_SYS_ADMIN`, since `no_new_privs` stays off.
pub fn load_seccomp(program: &[crate::bpf::Insn]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    // `Insn` has the layout of `sock_filter`.
    let prog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    let load = |flags: libc::c_ulong| {
        // SAFETY: `prog` points to `len` live instructions; the kernel only reads them.
        check(unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER as libc::c_long,
                flags,
                &raw const prog,
            )
        })
    };
    // Speculation stays as fast as outside; kernels before 4.17 don't know the flag.
    match load(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => load(0).map(drop),
        other => other.map(drop),
    }
}

/// Replaces the device rules of the cgroup v2 `cgroup` by the eBPF program `program`.
pub fn attach_device_program(cgroup: &OwnedFd, program: &[u64]) -> io::Result<()> {
    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
    }
    #[repr(C)]
    struct Attach {
        target_fd: u32,
        attach_bpf_fd: u32,
        attach_type: u32,
        attach_flags: u32,
    }
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_ATTACH: libc::c_int = 8;
    const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    const BPF_CGROUP_DEVICE: u32 = 6;
    let load = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: `load` is a prefix of `union bpf_attr` with its size given; all it points to lives longer.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) })?;
    // SAFETY: the kernel returned a new descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    let attach = Attach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: fd.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: 0,
    };
    // SAFETY: `attach` is a prefix of `union bpf_attr` with its size given; both descriptors are open.
    check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<Attach>()) })?;
    Ok(())
}

/// Brings the loopback interface of the current network namespace up.
pub fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: an all-zero ifreq is valid: integers and a union of plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which is live.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } as libc::c_long)?;
    Ok(())
}

/// Number of the last capability the running kernel knows.
pub fn last_capability() -> u32 {
    std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|s| s.trim().parse().ok())
        .unwrap_or(40)
}

/// `capset(2)` with the same permitted and effective set, and `inheritable`.
pub fn set_capabilities(permitted: u64, inheritable: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let part = |shift: u32| Data {
        effective: (permitted >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [part(0), part(32)];
    // SAFETY: version 3 reads a header and two data structs, which are live.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    Ok(())
}

/// The permitted capabilities of the calling thread.
pub fn permitted_capabilities() -> io::Result<u64> {
    let sets = rustix::thread::capabilities(None)?;
    Ok(sets.permitted.bits())
}

/// `prctl` with integer arguments.
pub fn prctl(option: libc::c_int, a: u64, b: u64) -> io::Result<libc::c_int> {
    // SAFETY: the options used here take integers, no pointers; unused arguments are zero as they must be.
    let result = unsafe {
        libc::prctl(option, a as libc::c_ulong, b as libc::c_ulong, 0 as libc::c_ulong, 0 as libc::c_ulong)
    };
    check(result as libc::c_long)?;
    Ok(result)
}

/// Takes over an inherited descriptor. `None` if it isn't open.
pub fn inherited(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD only asks whether the number is open.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: the descriptor is open and was handed over by the parent; nothing else in this process owns it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes `number` refer to what `fd` refers to, without close-on-exec.
pub fn put_at(fd: impl AsFd, number: RawFd) -> io::Result<()> {
    // SAFETY: callers use the numbers 0 to 2 only, which no owner in this process holds.
    check(unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) } as libc::c_long)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_forking_work() {
        for fork in [|| fork_into(0, None), || fork_by_clone(0)] {
            match fork().unwrap() {
                // SAFETY: the copy of a process with threads does nothing but end.
                Forked::Child => unsafe { libc::_exit(7) },
                Forked::Parent { pid, .. } => assert_eq!(libc::WEXITSTATUS(reap(pid).unwrap().status), 7),
            }
        }
    }
}
