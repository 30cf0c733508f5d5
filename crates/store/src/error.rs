//! What can go wrong in the store, as one typed error with an optional hint.

use crate::SnapshotId;
use digest::{Digest, VerifyError};
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A failure of the store. The message names the object; [`Error::hint`] says what may help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {op} `{}`", path.display())]
    Io { op: &'static str, path: PathBuf, source: io::Error },
    /// No blocks, no inodes or no quota. What was written for the failed call is gone again.
    #[error("no space left to {op} `{}`", path.display())]
    NoSpace { op: &'static str, path: PathBuf, source: io::Error },
    /// The device itself failed (EIO). Nothing was committed.
    #[error("the disk failed to {op} `{}`", path.display())]
    Device { op: &'static str, path: PathBuf, source: io::Error },
    /// No such blob.
    #[error("blob {0} is not in the store")]
    MissingBlob(Digest),
    /// No such snapshot, or one that a power failure made unusable.
    #[error("snapshot {0} is not in the store")]
    MissingSnapshot(SnapshotId),
    /// A stored blob no longer has the bytes of its name. It was moved to `quarantine`.
    #[error("blob {digest} is damaged and was set aside")]
    Damaged { digest: Digest, source: VerifyError },
    /// Bytes offered for storage are not the announced ones.
    #[error("refused content that is not what was announced")]
    Mismatch(#[source] VerifyError),
    /// A blob is larger than the caller wants to hold in memory.
    #[error("blob {digest} has {size} bytes, more than the {max} allowed here")]
    TooLarge { digest: Digest, size: u64, max: u64 },
    /// The store on disk is of a kind that this program does not know.
    #[error("the store `{}` has format {found}, which this program cannot use", path.display())]
    Format { path: PathBuf, found: String },
    /// Another process uses the store, which what was asked for can't share.
    #[error("the store `{}` is in use by another process", path.display())]
    Busy { path: PathBuf },
    /// The store went elsewhere while this process had it open.
    #[error("the store `{}` was moved while it was in use", path.display())]
    Moved { path: PathBuf },
    /// What is left here says that the store is elsewhere, but it is not.
    #[error("the store `{}` was moved to `{}`, where there is none", path.display(), to.display())]
    Lost { path: PathBuf, to: PathBuf },
    /// The copy of a store that was being moved.
    #[error("`{}` is an unfinished copy of the store `{}`", path.display(), of.display())]
    Unfinished { path: PathBuf, of: PathBuf },
    /// A store can't be moved there.
    #[error("the store cannot be moved to `{}`: {reason}", to.display())]
    Place { to: PathBuf, reason: &'static str },
    /// The store may only be read by this program.
    #[error("the store `{}` is read-only for this program", path.display())]
    ReadOnly { path: PathBuf },
    /// The store may only be read here.
    #[error("the store `{}` is on a read-only file system", path.display())]
    ReadOnlyDisk { path: PathBuf },
    /// A file of the store holds something else than it must.
    #[error("`{}` is malformed", path.display())]
    Malformed { path: PathBuf, source: serde_json::Error },
    /// A reference was changed by someone else.
    #[error("reference `{name}` points at {found}, not at {expected}")]
    RefConflict { name: String, expected: String, found: String },
    /// A container can't be called so.
    #[error("a container cannot be called `{name}`: {reason}")]
    ContainerName { name: String, reason: &'static str },
    /// A reference name that cannot be stored.
    #[error("`{0}` cannot be a reference name")]
    RefName(String),
}

impl Error {
    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::NoSpace { .. } => {
                Some("free space with `ctrbuild prune`, or move the store to a larger disk")
            }
            Error::Device { .. } => {
                Some("check the kernel log and the disk; then run `ctrbuild store verify`")
            }
            Error::Damaged { .. } => Some("run `ctrbuild store verify --repair`, then build or pull again"),
            Error::Malformed { .. } => Some("run `ctrbuild store verify --repair`"),
            Error::Busy { .. } => Some("wait until builds and other commands on this store have ended"),
            Error::Moved { .. } => Some("run the command again: it finds the new place by itself"),
            Error::Lost { .. } => Some(
                "mount the disk that it is on; or delete the old folder, and an empty store is made there",
            ),
            Error::Unfinished { .. } => {
                Some("run `ctrbuild store move` to it again, or delete it: the store is where it was")
            }
            Error::Format { .. } => Some("use a newer ctrbuild, or another folder for the store"),
            Error::ContainerName { .. } => Some(
                "take another name: letters, digits, `_`, `.` and `-`; `ctrbuild containers` lists those in use",
            ),
            Error::ReadOnly { .. } => Some("a newer ctrbuild upgraded this store; use that one to change it"),
            Error::ReadOnlyDisk { .. } => {
                Some("use another folder for the store (--root or CTRBUILD_ROOT), or remount it")
            }
            Error::Io { source, .. } => match Errno::from_io_error(source) {
                Some(Errno::MFILE | Errno::NFILE) => Some("raise the limit of open files (`ulimit -n`)"),
                Some(Errno::ACCESS | Errno::PERM) => {
                    Some("the store must belong to the user who runs the build")
                }
                Some(Errno::ROFS) => Some("the store is on a read-only file system"),
                _ => None,
            },
            _ => None,
        }
    }

    /// The message with its cause, for those who keep words only.
    pub fn with_cause(&self) -> String {
        match std::error::Error::source(self) {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }

    /// Whether this means that the thing asked for does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Error::MissingBlob(_) | Error::MissingSnapshot(_))
    }

    /// The number of the system's error; EIO where there is none.
    pub(crate) fn errno(&self) -> i32 {
        match self {
            Error::Io { source, .. } | Error::NoSpace { source, .. } | Error::Device { source, .. } => {
                source.raw_os_error()
            }
            _ => None,
        }
        .unwrap_or(Errno::IO.raw_os_error())
    }

    pub(crate) fn io(op: &'static str, path: &Path, source: io::Error) -> Error {
        let path = path.to_path_buf();
        match Errno::from_io_error(&source) {
            Some(Errno::NOSPC | Errno::DQUOT) => {
                note_full();
                Error::NoSpace { op, path, source }
            }
            Some(Errno::IO) => Error::Device { op, path, source },
            _ => Error::Io { op, path, source },
        }
    }
}

/// Whether this process has found a disk full. Of the process and not of a store, since whoever meets the error knows no
/// store; where there are several stores, one of them keeps a download less than it could.
static FULL: AtomicBool = AtomicBool::new(false);

/// Something found no room on the disk: downloads that are given up from now on leave nothing.
pub fn note_full() {
    FULL.store(true, Ordering::Relaxed);
}

pub(crate) fn found_full() -> bool {
    FULL.load(Ordering::Relaxed)
}

/// Turns the error of a system call on `path` into [`Error`].
pub(crate) trait Context<T> {
    fn at(self, op: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn at(self, op: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|e| Error::io(op, path, e.into()))
    }
}
