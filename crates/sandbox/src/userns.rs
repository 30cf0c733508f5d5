//! Running the whole builder as root of a user namespace of its own, for ordinary users.
//!
//! The program starts itself again inside of new user and mount namespaces in which the user is uid 0 and, with the
//! help of `newuidmap` and `newgidmap`, the ranges of `/etc/subuid` and `/etc/subgid` are the uids from 1 on. All
//! other code then has one path only: it is root. Where there are no ranges, uid 0 is all there is.

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

use rustix::process::Signal;
use rustix::thread::UnshareFlags;

use crate::error::Error;
use crate::sys;

const CAP_SYS_ADMIN: u64 = 1 << 21;

/// True if this process can't make namespaces and mounts as it is: it is not root, or root without the capability.
pub fn needed() -> bool {
    !sys::permitted_capabilities().is_ok_and(|set| set & CAP_SYS_ADMIN != 0)
}

/// True inside of a user namespace (any but the initial one).
pub fn inside() -> bool {
    // The initial namespace maps everything to itself.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

/// True inside of a user namespace with no id but 0: the fallback for users without subordinate ranges.
pub fn single_id() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    matches!(map.split_whitespace().collect::<Vec<_>>()[..], ["0", _, "1"])
}

/// One line of a uid map or gid map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The ranges of `/etc/subuid` or `/etc/subgid` (`subuid(5)`) that belong to a user, named or by number.
pub fn subordinate_ranges(text: &str, user: &str, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut parts = line.trim().split(':');
            let owner = parts.next()?;
            let (start, count) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            ((owner == user && !user.is_empty() || owner == number) && count > 0).then_some((start, count))
        })
        .collect()
}

/// The map for an own id and its subordinate ranges: the own id is 0, the others follow from 1 on.
pub fn map_for(own: u32, ranges: &[(u32, u32)]) -> Vec<IdRange> {
    let mut map = vec![IdRange { inside: 0, outside: own, count: 1 }];
    let mut next = 1u32;
    for (start, count) in ranges {
        let count = (*count).min(u32::MAX - next);
        if count > 0 {
            map.push(IdRange { inside: next, outside: *start, count });
            next += count;
        }
    }
    map
}

/// Runs this program again, with the same arguments, as root of a new user namespace, and returns its exit code
/// (128 + signal if it was killed). SIGTERM and SIGHUP are passed on; what a terminal sends reaches both anyway. The
/// inner program dies with this one. Must be called before any thread exists.
pub fn reexec_in_userns() -> Result<i32, Error> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let pipe = || {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| Error::io("can't make a pipe", e))
    };
    // The inner process says "unshared" on one, the outer one "mapped" on the other.
    let ((said_read, said_write), (go_read, go_write)) = (pipe()?, pipe()?);
    let block = block_signals();
    let (pid, pidfd) = match sys::fork_into(0, None).map_err(|e| Error::io("can't fork", e))? {
        sys::Forked::Child => {
            drop((said_read, go_write));
            inner(said_write.into(), go_read.into(), block)
        }
        sys::Forked::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop((said_write, go_read));
    let mut said = Vec::new();
    let mut said_pipe = std::fs::File::from(said_read);
    let mut byte = [0];
    let got = said_pipe.read_exact(&mut byte);
    let result = match (got, byte[0]) {
        (Ok(()), b'u') => map_ids(pid, uid, gid).and_then(|()| {
            let mut go = std::fs::File::from(go_write);
            go.write_all(b"g").map_err(|e| Error::io("can't talk to the inner process", e))
        }),
        (Ok(()), b'e') => {
            drop(go_write);
            let _truncated = said_pipe.read_to_end(&mut said);
            let errno = String::from_utf8_lossy(&said).parse().unwrap_or(libc::EPERM);
            Err(Error::Namespaces { source: io::Error::from_raw_os_error(errno) })
        }
        _ => Err(Error::Namespaces { source: io::Error::other("the inner process ended early") }),
    };
    if let Err(error) = result {
        let _already_dead = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        let _reaped = sys::reap(pid);
        block.restore();
        return Err(error);
    }
    let status = forward_signals(pid, &pidfd);
    block.restore();
    let status = status.map_err(|e| Error::io("can't wait for the inner process", e))?;
    Ok(if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) })
}

/// The signal mask before [`block_signals`].
#[derive(Clone, Copy)]
struct Mask(libc::sigset_t);

fn waited_signals() -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set; the signal numbers are valid.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [
            libc::SIGCHLD,
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGTERM,
            libc::SIGHUP,
            libc::SIGUSR1,
            libc::SIGUSR2,
        ] {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

fn block_signals() -> Mask {
    let set = waited_signals();
    // SAFETY: both sets are live and initialised; the process is single-threaded.
    unsafe {
        let mut old: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, &raw mut old);
        Mask(old)
    }
}

impl Mask {
    fn restore(self) {
        // SAFETY: the set came from sigprocmask.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// Waits for the child and passes signals on to it. Returns the raw wait status.
fn forward_signals(pid: libc::pid_t, pidfd: &std::os::fd::OwnedFd) -> io::Result<libc::c_int> {
    let set = waited_signals();
    loop {
        // SAFETY: an all-zero siginfo is valid, and both pointers are live.
        let (signal, info) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            (libc::sigwaitinfo(&raw const set, &raw mut info), info)
        };
        match signal {
            libc::SIGCHLD => {
                let options = rustix::process::WaitOptions::NOHANG;
                let child = rustix::process::Pid::from_raw(pid);
                if let Some((_, status)) = rustix::process::waitpid(child, options)? {
                    return Ok(status.as_raw());
                }
            }
            // A positive code other than from kill(2): the terminal sent it to the whole group.
            _ if signal > 0 && info.si_code <= 0 => {
                if let Some(signal) = Signal::from_named_raw(signal) {
                    let _ended_meanwhile = rustix::process::pidfd_send_signal(pidfd, signal);
                }
            }
            _ => {}
        }
    }
}

/// The inner process: unshares, waits for its ids, becomes root and starts the program again.
fn inner(mut said: std::fs::File, mut go: std::fs::File, block: Mask) -> ! {
    let failed = |said: &mut std::fs::File, e: &io::Error| -> ! {
        let _outer_gone = write!(said, "e{}", e.raw_os_error().unwrap_or(libc::EPERM));
        // SAFETY: ends the forked process at once, without the outer one's handlers.
        unsafe { libc::_exit(127) }
    };
    let prepare = || -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // SAFETY: this process has one thread; a new user and mount namespace breaks no invariant of it.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) }?;
        Ok(())
    };
    if let Err(e) = prepare() {
        failed(&mut said, &e);
    }
    let _outer_gone = said.write_all(b"u");
    let mut byte = [0];
    if go.read_exact(&mut byte).is_err() {
        // SAFETY: as above. The outer process reports what went wrong, or is dead.
        unsafe { libc::_exit(127) }
    }
    let start = || -> io::Result<io::Error> {
        let root = rustix::fs::Gid::ROOT;
        rustix::thread::set_thread_res_gid(root, root, root)?;
        let root = rustix::fs::Uid::ROOT;
        rustix::thread::set_thread_res_uid(root, root, root)?;
        // The change of ids has cleared it, and the outer process may have died before.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        use rustix::mount::{MountPropagationFlags, mount_change};
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        block.restore();
        let strings =
            |list: Vec<OsString>| list.iter().map(|s| sys::cstring(s)).collect::<io::Result<Vec<CString>>>();
        let args = strings(std::env::args_os().collect())?;
        let env = strings(
            std::env::vars_os()
                .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
                .map(OsString::from_vec)
                .collect(),
        )?;
        Ok(sys::execve(&sys::cstring(OsStr::new("/proc/self/exe"))?, &args, &env))
    };
    let error = match start() {
        Ok(e) | Err(e) => e,
    };
    eprintln!("error: can't start again in a user namespace: {error}");
    // SAFETY: as above.
    unsafe { libc::_exit(127) }
}

/// Writes the maps of `pid`: with ranges through the setuid helpers, else the own id alone.
fn map_ids(pid: libc::pid_t, uid: u32, gid: u32) -> Result<(), Error> {
    let user = user_name(uid);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let uids = subordinate_ranges(&read("/etc/subuid"), &user, uid);
    let gids = subordinate_ranges(&read("/etc/subgid"), &user, uid);
    if uids.is_empty() || gids.is_empty() {
        return map_single(pid, uid, gid);
    }
    helper("newuidmap", pid, &map_for(uid, &uids))?;
    helper("newgidmap", pid, &map_for(gid, &gids))
}

fn helper(program: &'static str, pid: libc::pid_t, map: &[IdRange]) -> Result<(), Error> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for IdRange { inside, outside, count } in map {
        command.args([inside.to_string(), outside.to_string(), count.to_string()]);
    }
    let output = command.output().map_err(|e| Error::IdMap {
        reason: format!("{program}: {e}"),
        fix: (e.kind() == io::ErrorKind::NotFound).then_some("apt-get install uidmap"),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::IdMap {
        reason: format!("{program}: {}", said.trim().lines().last().unwrap_or("failed without a word")),
        fix: Some(
            "check that the program is setuid root (or has cap_setuid) and that the user's ranges in /etc/subuid and \
             /etc/subgid don't overlap with others: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
        ),
    })
}

/// Only uid 0 and gid 0 exist inside: enough for steps that neither change ids nor own files by others.
fn map_single(pid: libc::pid_t, uid: u32, gid: u32) -> Result<(), Error> {
    let write = |file: &str, text: String| {
        std::fs::write(format!("/proc/{pid}/{file}"), text).map_err(|e| Error::IdMap {
            reason: format!("{file}: {e}"),
            fix: Some(
                "give the user ranges of ids: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, \
                 and apt-get install uidmap",
            ),
        })
    };
    // The kernel wants this before an ordinary user may write a gid map.
    write("setgroups", "deny".into())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}

/// The name of a user in `/etc/passwd`; empty if there is none.
fn user_name(uid: u32) -> String {
    let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
    let line = passwd.split(|b| *b == b'\n').map(String::from_utf8_lossy).find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?.to_owned();
        (parts.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    line.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_belong_to_a_name_or_a_number() {
        let text = "root:1:2\nbob:100000:65536\n\n1000:300000:10\nbobby:5:5\nbob:x:1\nbob:7:0\n";
        assert_eq!(subordinate_ranges(text, "bob", 1000), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(subordinate_ranges(text, "", 5), []);
    }

    #[test]
    fn maps_are_dense() {
        let map = map_for(1000, &[(100_000, 65_536), (300_000, 10)]);
        let triples: Vec<_> = map.iter().map(|r| (r.inside, r.outside, r.count)).collect();
        assert_eq!(triples, [(0, 1000, 1), (1, 100_000, 65_536), (65_537, 300_000, 10)]);
        assert_eq!(map_for(1, &[(5, u32::MAX), (9, 9)]).len(), 2, "ids end at 2^32 - 1");
    }
}
