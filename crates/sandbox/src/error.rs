//! What can go wrong around a step: one typed error, its cause, and apart from it a hint for people.

use std::io;
use std::path::PathBuf;

/// The limit of memory, by its name.
pub(crate) const MEMORY: &str = "memory";
/// Why a limit of memory can't be held: the kernel ended the step before its program ran.
pub(crate) const TOO_LITTLE: &str = "it is too little to start a program with";

/// A failure of the sandbox itself. What the step's own program did wrong is never here: see
/// [`Exit`](crate::Exit).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program has no slash in its name and no folder of `PATH` (as the step sees it) holds it.
    #[error("exec: \"{program}\": executable file not found in $PATH")]
    NotInPath {
        /// First word of the command.
        program: String,
    },
    /// The program was named by a path, and the kernel refused to start it.
    #[error("exec: \"{program}\": {}", words(cause))]
    Exec {
        /// Path of the program inside the root file system.
        program: String,
        /// `ENOENT`, `EACCES`, `ENOEXEC`, ... Its words are part of the message, hence not a `source`.
        cause: io::Error,
    },
    /// The working directory can't be made or entered.
    #[error("can't use working directory {}", path.display())]
    WorkingDir {
        /// As given in the specification.
        path: PathBuf,
        /// `ENOTDIR`, `EACCES`, ...
        source: io::Error,
    },
    /// The kernel refused the user, the group or the supplementary groups.
    #[error("can't become user {uid}:{gid}")]
    User {
        /// Numeric user id in the step.
        uid: u32,
        /// Numeric primary group id in the step.
        gid: u32,
        /// `EINVAL` when the id has no mapping in a user namespace.
        source: io::Error,
    },
    /// A mount of the specification or one of the default mounts failed.
    #[error("can't mount {}: {action}", target.display())]
    Mount {
        /// Path inside the root file system.
        target: PathBuf,
        /// The failing action in words.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A mount of the specification is for a place that can't take it.
    #[error("can't mount {}: {reason}", target.display())]
    MountPlace {
        /// Path inside the root file system.
        target: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The specification contradicts itself or holds what no kernel takes (NUL bytes, newlines in a host name).
    #[error("invalid sandbox specification: {0}")]
    Spec(String),
    /// A program of the host that was shown a mount has ended, and the mount is still in use.
    #[error(
        "the mounted files are still in use by a program that the command left behind, or have something mounted in them"
    )]
    LeftBehind,
    /// A limit was asked for that this host can't enforce.
    #[error("can't enforce the limit {limit}: {reason}")]
    Limit {
        /// Name of the limit, as in `memory`.
        limit: &'static str,
        /// Why not.
        reason: String,
    },
    /// Namespaces are not available to this process.
    #[error("can't create namespaces")]
    Namespaces {
        /// `EPERM`, `ENOSPC` (limits in `/proc/sys/user`), ...
        source: io::Error,
    },
    /// Ids can't be mapped for a user namespace.
    #[error("can't map ids for a user namespace: {reason}")]
    IdMap {
        /// What was tried and what it said.
        reason: String,
        /// What to do about it.
        fix: Option<&'static str>,
    },
    /// The overlay or another file system can't be mounted.
    #[error("can't mount {what}")]
    FileSystem {
        /// Which file system, with the failing option if there is one.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The runner process ended without a word: killed from outside, or by the kernel for want of memory.
    #[error("the sandbox runner ended unexpectedly ({0})")]
    RunnerDied(String),
    /// A network of its own can't be joined to the outside.
    #[error("can't join a step's network to the outside: {reason}")]
    Outside {
        /// What failed, in the words of whoever failed.
        reason: String,
        /// What to do about it.
        fix: Option<&'static str>,
    },
    /// Any other system call.
    #[error("{action}")]
    Io {
        /// The failing action in words, with its object.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error::Io { action: action.into(), source: source.into() }
    }

    /// A sentence that says what to try, where one is known.
    pub fn hint(&self) -> Option<String> {
        let errno = |e: &io::Error| e.raw_os_error().unwrap_or(0);
        Some(match self {
            Error::LeftBehind => {
                "nothing of what it changed was kept: let the command wait for what it starts, and unmount what it mounts".into()
            }
            Error::NotInPath { .. } => "install the program in an earlier step, or name it by its full path".into(),
            Error::Exec { cause, .. } => match errno(cause) {
                libc::ENOENT => "if the file is there, its interpreter (the #! line) or its dynamic loader is missing".into(),
                libc::ENOEXEC => {
                    "the program is of another architecture, or a script without a #! line; for another architecture \
                     register qemu with binfmt_misc"
                        .into()
                }
                libc::EACCES => "the file is not executable for the step's user, or its file system is noexec".into(),
                _ => return None,
            },
            Error::User { source, .. } if errno(source) == libc::EINVAL => {
                "the id is outside of the ids mapped for this user: enlarge its range in /etc/subuid and /etc/subgid".into()
            }
            Error::Limit { limit: "ulimit", .. } => {
                "write NAME=SOFT[:HARD] with a soft limit that is not above the hard one, which only root may raise".into()
            }
            Error::Limit { limit: MEMORY, reason } if reason == TOO_LITTLE => {
                "give the step a few MiB at least".into()
            }
            Error::Limit { .. } => {
                "run as root, or let systemd delegate the cgroup: systemd-run --user --scope -p Delegate=yes ...".into()
            }
            Error::Namespaces { source } => match errno(source) {
                libc::ENOSPC => "the limits in /proc/sys/user are reached: raise user.max_user_namespaces".into(),
                libc::EPERM | libc::EACCES => namespace_hint(),
                libc::ENOSYS | libc::EINVAL => "the kernel was built without namespaces".into(),
                _ => return None,
            },
            Error::IdMap { fix, .. } | Error::Outside { fix, .. } => (*fix)?.into(),
            Error::FileSystem { source, .. } | Error::Mount { source, .. } | Error::Io { source, .. }
                if errno(source) == libc::ENOSYS =>
            {
                "the kernel is too old (Linux 5.12 is needed), or a seccomp filter hides the call".into()
            }
            Error::FileSystem { source, .. } | Error::Mount { source, .. } => match errno(source) {
                libc::EPERM | libc::EACCES => {
                    "inside another container this needs more rights, such as --privileged or a relaxed \
                     seccomp and AppArmor profile"
                        .into()
                }
                libc::ENODEV => "the kernel lacks this file system".into(),
                _ => return None,
            },
            Error::Io { source, .. } if matches!(errno(source), libc::EMFILE | libc::ENFILE) => {
                "raise the limit of open files (`ulimit -n`)".into()
            }
            Error::RunnerDied(_) => "look for the out-of-memory killer in the kernel's log".into(),
            _ => return None,
        })
    }
}

/// What the kernel said, without capital and number.
fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "no such file or directory".into(),
        Some(libc::EACCES) => "permission denied".into(),
        Some(libc::ENOEXEC) => "exec format error".into(),
        Some(libc::E2BIG) => "argument list too long".into(),
        _ => error.to_string(),
    }
}

fn namespace_hint() -> String {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
    if read("kernel/unprivileged_userns_clone").trim() == "0" {
        "user namespaces are off for ordinary users: sysctl -w kernel.unprivileged_userns_clone=1".into()
    } else if read("kernel/apparmor_restrict_unprivileged_userns").trim() == "1" {
        "AppArmor restricts user namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or install \
         a profile for this program that has `userns,`"
            .into()
    } else if read("user/max_user_namespaces").trim() == "0" {
        "user namespaces are off: sysctl -w user.max_user_namespaces=15000".into()
    } else {
        "this process may not create namespaces: run as root, or allow it in the enclosing container \
         (seccomp profile, --privileged)"
            .into()
    }
}
