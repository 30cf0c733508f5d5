//! Files from elsewhere: HTTP(S) URLs, git repositories and archives become snapshots in the store.
//!
//! Invariants:
//! - a snapshot is whole or not there; an unchanged source is found again without transferring it;
//! - memory is bounded whatever a server sends, and a silent server is given up;
//! - credentials reach the host they were given for and no other, and are never in a command line, a
//!   message, a file of the result or a record of the store;
//! - nothing of a repository is ever run: no hooks, no filters, no transports but http, https, git and ssh;
//! - paths of repositories and archives stay inside their folder ([`sandbox::RootDir`]).
//!
//! Deliberately not here: what an instruction means (crate `plan`), certificates and proxies (the caller
//! gives an HTTP client), and the environment ([`GitSettings`] is given).
#![forbid(unsafe_code)]

mod archive;
mod date;
mod error;
mod git;
mod http;
mod secret;
mod url;

pub use archive::{MAX_TEXT, Unpacked, unpack_file, unpack_stream};
pub use error::{Error, HttpFailure};
pub use git::{GitSettings, SshSettings};
pub use http::{ClientSource, HttpSettings, Retries, Route, Timeouts};
pub use secret::{NoSecrets, SecretError, Secrets};
pub use url::redact;

use digest::TreeHash;
use graph::SourceOp;
use std::sync::Arc;
use store::{LocalStore, SnapshotId};

/// What remote sources need from their surroundings.
#[derive(Clone)]
pub struct Config {
    pub http: HttpSettings,
    pub git: GitSettings,
    /// Holds `HTTP_AUTH_HEADER_<host>`, `HTTP_AUTH_TOKEN_<host>`, `GIT_AUTH_HEADER[.<host>]` and
    /// `GIT_AUTH_TOKEN[.<host>]`, where there are any.
    pub secrets: Arc<dyn Secrets>,
}

/// A source that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its files as one layer. Held by the store handle that fetched it.
    pub snapshot: SnapshotId,
    /// What of the source counts for a cache key. For HTTP: content, name, mode, owner and `Last-Modified`.
    /// For git: the commit and what the result shows of the repository.
    pub hash: TreeHash,
}

/// Fetches remote sources. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Remote {
    http: http::Http,
    git: git::Git,
    secrets: Arc<dyn Secrets>,
}

impl Remote {
    pub fn new(config: Config) -> Self {
        Remote { http: http::Http::new(config.http), git: git::Git::new(config.git), secrets: config.secrets }
    }

    /// Bring an HTTP or git source into `store`. Idempotent; a source that did not change is found there.
    ///
    /// # Errors
    /// [`Error::Internal`] for other kinds of sources; else whatever keeps it from being fetched whole.
    pub async fn fetch(&self, store: &LocalStore, source: &SourceOp) -> Result<Fetched, Error> {
        match source {
            SourceOp::Http(source) => self.http.fetch(store, source, &self.secrets).await,
            SourceOp::Git(source) => self.git.fetch(store, source, &self.secrets).await,
            _ => Err(Error::Internal("not a remote source")),
        }
    }
}
