//! What goes wrong while images are written or read.

use digest::{Digest, VerifyError};
use oci::{DocumentError, JsonError};
use std::io;
use std::path::PathBuf;

/// Why an image could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot write {}", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the archive")]
    Output(#[source] io::Error),
    #[error("cannot read blob {digest}")]
    Blob {
        digest: Digest,
        #[source]
        source: io::Error,
    },
    #[error("cannot store blob {digest}")]
    Sink {
        digest: Digest,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is neither an OCI layout nor an image archive", .0.display())]
    NotAnImage(PathBuf),
    #[error("{} is not empty and no OCI layout", .0.display())]
    Occupied(PathBuf),
    #[error("invalid archive: {0}")]
    Malformed(String),
    #[error("the archive has no {0}")]
    Missing(String),
    #[error("the archive unpacks to more than {0} bytes")]
    TooLarge(u64),
    #[error("{what} is damaged")]
    Verify {
        what: String,
        #[source]
        source: VerifyError,
    },
    #[error("{what} is not acceptable")]
    Document {
        what: String,
        #[source]
        source: DocumentError,
    },
    #[error("{what} is not acceptable")]
    Json {
        what: String,
        #[source]
        source: JsonError,
    },
    #[error("layer {index} has the diff id {actual}, but the config says {expected}")]
    DiffId { index: usize, expected: Digest, actual: Digest },
    #[error("an image index cannot be written as a Docker archive")]
    IndexInDocker,
    #[error("layer {0} is a foreign layer that is not here")]
    ForeignLayer(Digest),
    #[error("there is no image {name:?} (there is: {available})")]
    NoSuchImage { name: String, available: String },
    #[error("internal error: {0} (please report this)")]
    Internal(String),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Error::Verify { .. } | Error::DiffId { .. } => {
                "the file was damaged or changed: make or copy it again"
            }
            Error::IndexInDocker => {
                "choose one platform, or write an oci archive, which Docker loads as well"
            }
            Error::Occupied(_) => "choose an empty folder, or one that holds an OCI layout already",
            Error::NotAnImage(_) => "a file system archive is imported, not loaded",
            Error::NoSuchImage { .. } => "name one of those that are there",
            Error::Document { source, .. } => return source.hint(),
            Error::Write { source, .. } | Error::Output(source)
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                "free space on that disk; `ctrbuild prune` does if the store is on it"
            }
            _ => return None,
        })
    }
}
