//! The library face: a [`BuildRequest`] becomes a [`BuildOutput`], and images are kept.
//!
//! This is the one place where implementations are wired together: store, registry, worker, exporters.
//! Everything that comes from the machine (paths, environment, time) is in the request; nothing here
//! prints.
#![forbid(unsafe_code)]

mod annotation;
mod blobs;
mod build;
mod compose;
pub mod containers;
mod context;
pub mod dedup;
mod error;
mod export;
pub mod housekeeping;
pub mod images;
pub mod layer_check;
mod lookup;
pub mod mend;
pub mod os_image;
pub mod os_source;
pub mod relocate;
mod remote_files;
pub mod search;
mod shared_cache;

pub use annotation::Annotations;
pub use build::{
    BuildObserver, BuildOutput, BuildRequest, Built, PlanOutput, Runtime, build, keys, plan_only,
};
pub use compose::Compression;
pub use context::{ContextSpec, Recipe, SecretSource};
pub use error::{Error, ErrorKind, chain};
pub use export::{BuiltImage, Convert, Destination, Exported, Output, OutputKind};
pub use lookup::{PullPolicy, choice};
pub use remote::{GitSettings, SshSettings};
pub use remote_files::{MainContext, RemoteFiles};
pub use shared_cache::{CachePlace, CacheScope, CacheSource, CacheTarget, OnCacheError};

use std::sync::Arc;
use store::LocalStore;

/// What every operation needs.
#[derive(Clone)]
pub struct Session {
    pub store: LocalStore,
    /// Makes root file systems of its layers.
    pub snapshotter: worker::Snapshotter,
    /// Made on first use, so that what needs no network pays nothing for it.
    pub registry: Arc<dyn Fn() -> Result<registry::Client, Error> + Send + Sync>,
    /// The platform of this machine.
    pub host: oci::Platform,
}
