//! What can go wrong while a base image is made, each with a cause and, apart from it, a hint.

use std::path::PathBuf;

use crate::fetch::FetchError;
use crate::pgp::PgpError;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why no base image could be made. [`Error::hint`] says what may help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be had from the mirror.
    #[error("cannot fetch {url}")]
    Fetch {
        url: String,
        #[source]
        source: FetchError,
    },
    /// The signature of a release file is not good.
    #[error("the signature of {url} is not good")]
    Signature {
        url: String,
        #[source]
        source: PgpError,
    },
    /// A keyring could not be used.
    #[error("cannot use the keyring {path}")]
    Keyring {
        path: PathBuf,
        #[source]
        source: PgpError,
    },
    /// None of the usual keyrings is on this machine.
    #[error("no archive keyring found")]
    NoKeyring,
    /// A release file, index or control file is malformed.
    #[error("{what} is malformed: {why}")]
    Malformed { what: String, why: String },
    /// The release file is too old (`Valid-Until`) or from the future (`Date`).
    #[error("{url} is {why}")]
    Stale { url: String, why: String },
    /// The mirror's release file is for another suite than the one asked for.
    #[error("{url} is the release file of `{found}`, not of `{wanted}`")]
    WrongSuite { url: String, wanted: String, found: String },
    /// The suite has no packages for this architecture or component.
    #[error("suite `{suite}` has no {what}")]
    NotOffered { suite: String, what: String },
    /// A name that no Debian mirror could have.
    #[error("`{name}` is not a valid {kind}")]
    Name { kind: &'static str, name: String },
    /// A package was asked for that no suite has.
    #[error("package `{name}` is in none of the suites {suites}")]
    NoPackage { name: String, suites: String },
    /// A dependency that nothing satisfies.
    #[error("package `{package}` needs `{relation}`, which nothing satisfies")]
    Unsatisfied { package: String, relation: String },
    /// Two chosen packages exclude each other.
    #[error("package `{package}` cannot be installed together with `{other}` ({relation})")]
    Conflict { package: String, other: String, relation: String },
    /// A package archive is damaged or of an unknown kind.
    #[error("package archive {path} is damaged: {why}")]
    Archive { path: String, why: String },
    /// Two packages hold the same file and none says that it replaces the other.
    #[error("`{path}` is in both `{first}` and `{second}`")]
    FileClash { path: String, first: String, second: String },
    /// The destination is not an empty folder.
    #[error("{0} is not an empty folder")]
    NotEmpty(PathBuf),
    /// A program in the new root failed.
    #[error("{step} failed with {exit}")]
    Step { step: String, exit: String, log: String },
    /// A program could not be run in the new root at all.
    #[error("{step} could not be run in the new root")]
    Runner {
        step: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A fault of this program.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    pub(crate) fn io<P: Into<PathBuf>>(
        action: &'static str,
        path: P,
    ) -> impl FnOnce(std::io::Error) -> Error + use<P> {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }

    pub(crate) fn malformed(what: impl Into<String>, why: impl Into<String>) -> Error {
        Error::Malformed { what: what.into(), why: why.into() }
    }

    /// What may help, apart from the message. One or two lines, without final period.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Fetch { source, url } => return source.hint(url),
            Error::Signature { source, .. } | Error::Keyring { source, .. } => return source.hint(),
            Error::NoKeyring => "install the package debian-archive-keyring, or name a keyring with --keyring FILE \
                                 (binary .gpg or armored .asc)"
                .into(),
            Error::Stale { .. } => "check this machine's clock; a mirror that is no longer updated can be used with \
                                    the expiry check turned off"
                .into(),
            Error::WrongSuite { .. } => "check the mirror's address and the name of the suite".into(),
            Error::NotOffered { .. } => {
                "check the architecture and the component; `os-image find debian` lists what the mirror has".into()
            }
            Error::NoPackage { .. } => "check the name, or add the component that holds it (contrib, non-free)".into(),
            Error::Unsatisfied { .. } => {
                "the mirror may be in the middle of an update: try again in a few minutes".into()
            }
            Error::Conflict { .. } | Error::FileClash { .. } => "leave one of the two out of --include".into(),
            Error::NotEmpty(_) => "name a folder that is empty or does not exist yet".into(),
            Error::Step { log, exit, .. } if exit.contains("126") || log.contains("Exec format error") => {
                "this machine cannot run programs of that architecture: install qemu-user-static with binfmt support"
                    .into()
            }
            Error::Step { log, .. } => {
                let tail: Vec<&str> = log.lines().rev().filter(|l| !l.trim().is_empty()).take(12).collect();
                if tail.is_empty() {
                    return None;
                }
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                format!("the last lines were:\n{}", tail.join("\n"))
            }
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                "the disk is full: free some space or choose another folder".into()
            }
            Error::Internal(_) => "please report this".into(),
            _ => return None,
        })
    }
}
