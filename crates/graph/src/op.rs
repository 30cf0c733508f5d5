//! The operations of a build graph.

use digest::Digest;
use oci::Descriptor;
use serde::Serialize;

/// What a vertex does.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(
    clippy::large_enum_variant,
    reason = "a graph has few vertices, and a box would be in everybody's way"
)]
pub enum Op {
    Source(SourceOp),
    Exec(Box<ExecOp>),
    File(FileOp),
    /// Put the layers of all inputs on top of each other, first input lowest.
    Merge,
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "as for ops")]
pub enum SourceOp {
    Image(ImageSource),
    /// A folder on the builder's machine; `name` is `context` or a named context.
    Local(LocalSource),
    Http(HttpSource),
    Git(GitSource),
}

/// An image, pinned by the digest of its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageSource {
    /// The reference as resolved, for people.
    pub reference: String,
    /// The manifest (never an index) that was chosen for the platform.
    pub manifest: Descriptor,
    /// Its layers' diff ids, base first.
    pub diff_ids: Vec<digest::DiffId>,
    /// Where its blobs are.
    pub origin: ImageOrigin,
}

/// Where the blobs of an image come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageOrigin {
    /// A registry repository, `host/path`.
    Registry { repository: String },
    /// A folder with an OCI image layout.
    OciLayout { path: String },
    /// The local store has every blob or layer.
    Store,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocalSource {
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpSource {
    pub url: String,
    /// Name of the one file of the result.
    pub filename: String,
    pub checksum: Option<Digest>,
    /// Permission bits; 0600 when none are given.
    pub mode: Option<u32>,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GitSource {
    pub remote: String,
    /// Branch, tag or commit; empty means the default branch.
    pub reference: String,
    pub subdir: String,
    pub keep_git_dir: bool,
    /// The commit must start with these digits.
    pub checksum: Option<String>,
    pub submodules: bool,
    /// Fetch exactly the commit in `checksum`.
    pub fetch_by_commit: bool,
    pub times: GitTimes,
}

/// Modification times of a git source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitTimes {
    /// When they were written.
    #[default]
    Checkout,
    /// That of the commit, for all files.
    Commit,
}

/// Run a process on top of input 0 (`None`: on an empty root).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExecOp {
    /// Input that is the root file system; `None` starts from an empty one.
    pub root: Option<usize>,
    pub args: Vec<String>,
    /// In order; a later entry of the same name does not occur.
    pub env: Vec<(String, String)>,
    pub cwd: String,
    /// `user[:group]` as written; empty means the image's default (root).
    pub user: String,
    pub hostname: Option<String>,
    pub network: NetworkMode,
    pub security: SecurityMode,
    pub mounts: Vec<ExecMount>,
    pub secret_env: Vec<SecretEnv>,
    /// What a cache key must not see.
    pub uncached: Uncached,
}

/// Parts of an exec that do not change its identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Uncached {
    /// Predefined proxy variables, both cases.
    pub proxy_env: Vec<(String, String)>,
    /// Extra lines for /etc/hosts: name, address. (The names are part of the key.)
    pub extra_hosts: Vec<(String, String)>,
    #[serde(flatten)]
    pub limits: StepLimits,
}

/// What a step may use. Nothing said leaves it to the builder, 0 means without a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StepLimits {
    /// Size of /dev/shm in bytes.
    pub shm_size: Option<u64>,
    pub ulimits: Vec<Ulimit>,
    pub cgroup_parent: Option<String>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_millis: Option<u64>,
    pub pids: Option<u64>,
    /// Seconds after which it is killed.
    pub timeout: Option<u64>,
    /// How often more it is run after a failure.
    pub retries: Option<u32>,
}

impl StepLimits {
    /// What these say, and what `general` ones say besides.
    pub fn over(self, general: &StepLimits) -> StepLimits {
        let mut ulimits = general.ulimits.clone();
        ulimits.retain(|general| self.ulimits.iter().all(|own| own.name != general.name));
        ulimits.extend(self.ulimits);
        StepLimits {
            shm_size: self.shm_size.or(general.shm_size),
            ulimits,
            cgroup_parent: self.cgroup_parent.or_else(|| general.cgroup_parent.clone()),
            memory: self.memory.or(general.memory),
            cpu_millis: self.cpu_millis.or(general.cpu_millis),
            pids: self.pids.or(general.pids),
            timeout: self.timeout.or(general.timeout),
            retries: self.retries.or(general.retries),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ulimit {
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// What the builder is set to (the host's network unless told otherwise).
    Default,
    None,
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecurityMode {
    Sandbox,
    Insecure,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExecMount {
    /// Absolute path in the root.
    pub target: String,
    pub readonly: bool,
    pub kind: MountKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// A folder or file of an input (`None`: an empty folder). Writes are discarded.
    Bind {
        input: Option<usize>,
        source: String,
    },
    /// A folder that outlives the build.
    Cache {
        id: String,
        sharing: CacheSharing,
        input: Option<usize>,
        source: String,
        owner: Option<MountOwner>,
    },
    Tmpfs {
        size: Option<u64>,
    },
    Secret {
        id: String,
        required: bool,
        uid: u32,
        gid: u32,
        mode: u32,
    },
    Ssh {
        id: String,
        required: bool,
        uid: u32,
        gid: u32,
        mode: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MountOwner {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheSharing {
    Shared,
    Private,
    Locked,
}

/// A secret passed as an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretEnv {
    pub name: String,
    pub id: String,
    pub required: bool,
}

/// Change files on top of an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileOp {
    /// Input that is changed; `None` starts from an empty tree.
    pub base: Option<usize>,
    /// Done in order.
    pub actions: Vec<FileAction>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileAction {
    Copy(CopyAction),
    Mkdir(MkdirAction),
    Mkfile(MkfileAction),
}

/// Copy from an input to `dest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyAction {
    pub from: CopyFrom,
    /// The destination: absolute; a trailing `/` or `/.` makes it a folder.
    pub dest: String,
    pub owner: Option<Owner>,
    pub mode: Option<Mode>,
    /// A folder source copies its contents.
    pub contents_only: bool,
    /// Unpack a source that is an archive.
    pub unpack: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyFrom {
    /// Files that `selector` picks from an input.
    Input { input: usize, selector: PathSelector },
    /// A file given in the recipe itself (a heredoc), 0644 and owned by root.
    Inline { name: String, data: Vec<u8> },
}

pub use crate::PathSelector;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MkdirAction {
    pub path: String,
    pub mode: u32,
    pub owner: Option<Owner>,
    /// Time of the folders that are made, in seconds since 1970; `None` is the time of making.
    pub time: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MkfileAction {
    pub path: String,
    pub mode: u32,
    pub data: Vec<u8>,
}

/// `user[:group]`, by number or by name in the passwd and group files of the op's base input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owner(pub String);

/// Permission bits to set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// 0 to 07777.
    Octal(u32),
    /// chmod(1) text such as `u=rwX,go=rX`.
    Symbolic(String),
}
