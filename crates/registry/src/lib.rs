//! Client of OCI and Docker registries: resolve, pull, push, lists, authentication.
//!
//! Sources: OCI distribution spec 1.1, Docker's token authentication, docker/cli's config.json.
//!
//! Invariants:
//! - a digest or size that came over the network is checked before anything relies on it;
//! - memory is bounded: blobs are streamed, everything else has a limit;
//! - credentials reach the registry's own origin and trusted token services, nobody else;
//! - verified TLS never falls back to anything weaker;
//! - transient failures are retried with pauses, broken downloads go on where they broke.
//!
//! Deliberately not here: where blobs are kept ([`oci::BlobSink`], [`oci::BlobSource`]), what the screen
//! shows ([`Progress`]), the environment ([`Config`] is given).
#![forbid(unsafe_code)]

mod auth;
mod client;
mod config;
mod credential;
mod download;
mod error;
mod header;
mod helper;
mod http;
mod login;
mod progress;
mod pull;
mod push;
mod search;
mod tls;
mod upload;

pub use client::Client;
pub use config::{Config, Insecure, ProxySettings, Retries, Timeouts, Trust};
pub use credential::{
    Credential, CredentialError, CredentialFiles, Credentials, NoCredentials, StaticCredentials,
};
pub use download::{BlobStream, Fetched};
pub use error::{Error, Login};
pub use login::{Kept, forget_credential, save_credential};
pub use progress::{Event, Progress, Silent};
pub use pull::Resolved;
pub use push::MountHints;
pub use search::{MAX_RESULTS, SearchResult};
pub use tls::web_client;
pub use upload::Uploaded;
