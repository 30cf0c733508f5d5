//! What a step may see and do, as data: [`SandboxSpec`] and its parts. No policy is hidden elsewhere.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::overlay::MountFd;

/// Whether something can be written through a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Access {
    /// Reads and writes.
    #[default]
    ReadWrite,
    /// Writes fail with `EROFS`.
    ReadOnly,
}

/// One run of one program in one root file system.
#[derive(Debug)]
pub struct SandboxSpec {
    /// The root file system: a detached mount (see [`crate::Overlay`]). It is consumed; file operations through
    /// another descriptor of the same mount stay possible before, during and after the step.
    pub root: MountFd,
    /// `ReadOnly` remounts the root after all mount points have been made.
    pub root_access: Access,
    /// Mounts in any order; a later one with the same target replaces an earlier one, also a default one.
    pub mounts: Vec<Mount>,
    /// Program and arguments. A program without a slash is looked up in `PATH` of [`SandboxSpec::env`].
    pub args: Vec<OsString>,
    /// The whole environment, in this order. Nothing is added.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory; made with mode 0755 and the step's owner if it is missing, and then it stays.
    pub cwd: PathBuf,
    /// Who the step is.
    pub identity: Identity,
    /// Host name in the step's own uts namespace.
    pub hostname: String,
    /// Standard input.
    pub input: Input,
    /// Network of the step.
    pub network: Network,
    /// How far the step is confined.
    pub security: Security,
    /// Limits; the default is none.
    pub limits: Limits,
    /// Content of a read-only `/etc/hosts`; `None` leaves the root's own file.
    pub hosts: Option<Vec<u8>>,
    /// Content of a read-only `/etc/resolv.conf`; `None` leaves the root's own file.
    pub resolv_conf: Option<Vec<u8>>,
    /// Further device nodes of the host, by path below `/dev`, that appear at the same place.
    pub devices: Vec<PathBuf>,
    /// Runs programs of another architecture, for this step alone. Where the kernel offers no such thing (before
    /// Linux 6.7), they fail to start as they would without it.
    pub emulator: Option<Emulator>,
}

impl SandboxSpec {
    /// A specification with the defaults of a `RUN` step: root user, `/` as working directory, host network,
    /// empty environment, all protections.
    pub fn new(root: MountFd, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        SandboxSpec {
            root,
            root_access: Access::ReadWrite,
            mounts: Vec::new(),
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            identity: Identity::default(),
            hostname: DEFAULT_HOSTNAME.into(),
            input: Input::Empty,
            network: Network::Host,
            security: Security::Sandbox,
            limits: Limits::default(),
            hosts: None,
            resolv_conf: None,
            devices: Vec::new(),
            emulator: None,
        }
    }
}

/// Host name of steps that name none. The same as BuildKit's, since some builds record it.
pub const DEFAULT_HOSTNAME: &str = "buildkitsandbox";

/// The content of `/etc/hosts` for a step: localhost and the step's own name for v4 and v6, then `extra`
/// (address, name) pairs in order.
pub fn hosts_file(hostname: &str, extra: &[(String, String)]) -> Vec<u8> {
    let mut text = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (address, name) in extra {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text.into_bytes()
}

/// Numeric ids; names are resolved by the caller (who reads passwd through [`crate::RootDir`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// One mount of a step.
#[derive(Debug)]
pub struct Mount {
    /// Absolute path inside the root. Symlinks are followed, but never out of the root.
    pub target: PathBuf,
    /// What appears there.
    pub kind: MountKind,
}

impl Mount {
    /// Makes a mount of `kind` at `target`.
    pub fn new(target: impl AsRef<Path>, kind: MountKind) -> Self {
        Mount { target: target.as_ref().to_owned(), kind }
    }
}

/// What a mount shows.
#[derive(Debug)]
#[non_exhaustive]
pub enum MountKind {
    /// Files that exist elsewhere: a folder, a file or a socket.
    Bind {
        /// Where they are.
        source: BindSource,
        /// Read-only applies to everything below, also to mounts inside of the source.
        access: Access,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Bytes; `None` is the kernel's default (half of the memory).
        size: Option<u64>,
        /// Permission bits of its root, as in 0o1777.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// A file that lives in memory only and is read-only for the step: a secret, a configuration.
    File {
        /// Its bytes.
        content: Vec<u8>,
        /// Permission bits, as in 0o400.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// Where a bind mount's files are.
#[derive(Debug)]
#[non_exhaustive]
pub enum BindSource {
    /// A detached mount, and a path in it that is resolved inside of it (`""` or `/` is the whole).
    /// The mount is consumed: mount it again for another step.
    Tree {
        /// From [`crate::Overlay`] or [`MountFd::clone_of`].
        mount: MountFd,
        /// Path below its root; must exist.
        subpath: PathBuf,
    },
    /// A file, folder or socket of the host, already opened (`O_PATH` is enough) by whoever checked it.
    Host(OwnedFd),
}

/// Standard input of a step.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Input {
    /// Nothing can be read: the rule for builds.
    #[default]
    Empty,
    /// A file or pipe of the caller.
    Stream(OwnedFd),
    /// The lower end of a pseudo-terminal of the caller's own. It becomes the step's controlling terminal, and
    /// output goes there too instead of to [`crate::Stdio`]. Never give a step the terminal that the builder was
    /// started from: input can be pushed into a controlling terminal.
    Terminal(OwnedFd),
}

/// Network of a step.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Network {
    /// The builder's own network.
    #[default]
    Host,
    /// A network namespace of its own in which only `lo` is up.
    None,
    /// A network namespace that somebody else has set up (a descriptor of `/proc/PID/ns/net`).
    Namespace(OwnedFd),
}

/// A program of the host that runs programs of another architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulator {
    /// As images name it: `arm64`, `riscv64`.
    pub architecture: String,
    /// Linked statically, since the libraries it would find are the step's.
    pub program: PathBuf,
}

/// How far a step is confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Fourteen capabilities, seccomp, masked paths, device rules.
    #[default]
    Sandbox,
    /// `RUN --security=insecure`: every capability the builder has, no seccomp, nothing masked, all devices.
    /// Namespaces remain. The caller must have checked the entitlement.
    Insecure,
}

/// Limits of a step; `None` is unlimited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Memory and swap together in bytes, as in `--memory-swap`.
    pub memory_swap: Option<u64>,
    /// Processors as a fraction, as in `--cpus=1.5`.
    pub cpus: Option<f64>,
    /// Relative weight, 2 to 262144, as in `--cpu-shares`.
    pub cpu_shares: Option<u64>,
    /// Processors the step may use, as in `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes the step may use, as in `0`.
    pub cpuset_mems: Option<String>,
    /// Number of tasks (threads count).
    pub pids: Option<u64>,
    /// Size of `/dev/shm` in bytes; the default is 64 MiB.
    pub shm_size: Option<u64>,
    /// Resource limits; all others are inherited.
    pub ulimits: Vec<Ulimit>,
    /// Absolute path of a cgroup (below the mount point of each hierarchy) under which the step's cgroup is made.
    pub cgroup_parent: Option<PathBuf>,
    /// Wall time after which every process of the step is killed.
    pub timeout: Option<Duration>,
}

/// One resource limit, as in `--ulimit nofile=1024:2048`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// Lower-case name without prefix: `nofile`, `nproc`, `core`, ... (see `getrlimit(2)`).
    pub name: String,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

impl Ulimit {
    /// The resources in the order of their numbers (`asm-generic/resource.h`; the same on all machines we know).
    pub const NAMES: [&str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// Code, signal, or a limit that was hit.
    pub status: Status,
    /// What it used.
    pub usage: Usage,
    /// Mount points that were made for the step and are gone again.
    pub stubs: Vec<Stub>,
}

/// The reason for the end of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The program returned this code.
    Code(i32),
    /// The program was ended by this signal.
    Signal(i32),
    /// A process of the step was killed since the memory limit was reached, and the step failed.
    OutOfMemory,
    /// The time limit was reached.
    TimedOut,
}

impl Status {
    /// True for code 0.
    pub fn success(self) -> bool {
        self == Status::Code(0)
    }

    /// The exit code as a shell reports it: 128 + signal, 137 for a lack of memory, 124 for a time-out.
    pub fn code(self) -> i32 {
        match self {
            Status::Code(code) => code,
            Status::Signal(signal) => 128 + signal,
            Status::OutOfMemory => 137,
            Status::TimedOut => 124,
        }
    }
}

/// What a step used: of all its processes where a cgroup counts, else of those that were waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user mode.
    pub cpu_user: Duration,
    /// Processor time in the kernel.
    pub cpu_sys: Duration,
    /// Peak memory in bytes: of the cgroup if it has one with a memory controller, else of the largest process.
    pub peak_memory: u64,
    /// Blocks of 512 bytes read from devices.
    pub io_read_blocks: u64,
    /// Blocks of 512 bytes written to devices.
    pub io_write_blocks: u64,
    /// Wall time from the start of the program to its end.
    pub wall: Duration,
}

/// A mount point (or a new parent of one) that was made in the root for a step. All of them are removed after
/// the step if they are still empty, and the times of the folder that held them are restored if nothing else
/// changed it; on an overlay that folder has been copied up all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stub {
    /// Absolute path inside the root, without symlinks.
    pub path: PathBuf,
    /// False if the step put something into it, so that it stays.
    pub removed: bool,
}
