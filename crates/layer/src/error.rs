//! What can go wrong with layers, as one typed error with an optional hint.

use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A failure to read or write a layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {op} `{}`", path.display())]
    Io { op: &'static str, path: PathBuf, source: io::Error },
    /// The stream that brings the archive failed.
    #[error("cannot read the archive")]
    Source(#[source] io::Error),
    /// The stream that takes the archive failed.
    #[error("cannot write the archive")]
    Sink(#[source] io::Error),
    /// The archive breaks the format.
    #[error("malformed archive at byte {offset}: {reason}")]
    Malformed { offset: u64, reason: String },
    /// The archive is well formed, but an entry asks for what cannot be.
    #[error("archive entry `{}`: {reason}", path.display())]
    Entry { path: PathBuf, reason: String },
    /// More bytes, entries or regions than allowed.
    #[error("the archive has more than {limit} {what}")]
    Limit { what: &'static str, limit: u64 },
    /// A file was written to while it was packed or hashed.
    #[error("`{}` changed while it was read", path.display())]
    Changed { path: PathBuf },
    /// An owner has no number on the other side of the id map.
    #[error("`{}` belongs to {kind} {id}, which the id map does not cover", path.display())]
    Unmapped { path: PathBuf, kind: &'static str, id: u32 },
    /// A bug of ours.
    #[error("internal error: {0}; please report this")]
    Internal(&'static str),
}

impl Error {
    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Io { op, source, .. } => match Errno::from_io_error(source) {
                Some(Errno::INVAL | Errno::PERM) if *op == "chown" => Some(
                    "in a rootless build, give the user more subordinate ids in /etc/subuid and /etc/subgid",
                ),
                Some(Errno::NOSPC | Errno::DQUOT) => Some("free space with `ctrbuild prune`"),
                Some(Errno::PERM) => Some("the file system or the user namespace forbids this kind of file"),
                Some(Errno::MFILE | Errno::NFILE) => Some("raise the limit of open files (`ulimit -n`)"),
                _ => None,
            },
            Error::Unmapped { .. } => {
                Some("give the user more subordinate ids in /etc/subuid and /etc/subgid")
            }
            Error::Changed { .. } => Some("let nothing write to these files during the build"),
            _ => None,
        }
    }

    /// Whether the file system that files are written to is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Error::Io { source, .. }
            if matches!(Errno::from_io_error(source), Some(Errno::NOSPC | Errno::DQUOT)))
    }

    /// Whether this process, or the machine, may not open more files.
    pub(crate) fn is_too_many_files(&self) -> bool {
        matches!(self, Error::Io { source, .. }
            if matches!(Errno::from_io_error(source), Some(Errno::MFILE | Errno::NFILE)))
    }

    pub(crate) fn entry(path: &[u8], reason: impl Into<String>) -> Error {
        Error::Entry { path: shown(path), reason: reason.into() }
    }
}

/// Bytes of an archive's name as a path, for messages.
pub(crate) fn shown(path: &[u8]) -> PathBuf {
    if path.is_empty() { PathBuf::from(".") } else { Path::new(OsStr::from_bytes(path)).to_path_buf() }
}

/// Turns the error of a system call on `path` into [`Error`].
pub(crate) trait Context<T> {
    fn at(self, op: &'static str, path: &[u8]) -> Result<T, Error>;
    fn at_path(self, op: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn at(self, op: &'static str, path: &[u8]) -> Result<T, Error> {
        self.map_err(|e| Error::Io { op, path: shown(path), source: e.into() })
    }
    fn at_path(self, op: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|e| Error::Io { op, path: path.to_path_buf(), source: e.into() })
    }
}
