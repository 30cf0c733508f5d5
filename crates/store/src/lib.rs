//! The local content-addressed store: blobs, snapshots, layer and cache records, references.
//!
//! Everything is a file and every change is an atomic rename, so any number of processes use one
//! store at the same time without a server. The on-disk layout and its promises are written down in
//! `docs/store-layout.md`, which is normative.
//!
//! Invariants:
//! - what has a final name is whole; what is not whole lives under `tmp`, `active` or `partial`;
//! - a [`LocalStore`] value is a lease: all that it found or wrote stays until it is dropped, so a
//!   collection in another process never takes away what a running build uses;
//! - locks are kernel locks, freed when their process dies, however it dies;
//! - a reference is written only after everything it reaches is durable.
//!
//! Deliberately not here: tar and overlay formats (crate `layer`), networks, and any `async`.
#![forbid(unsafe_code)]

mod batch;
mod blob;
mod cache;
mod collect;
mod containers;
mod disk;
mod error;
mod format;
mod gc;
mod hints;
mod idle;
mod incoming;
mod layers;
mod lease;
mod local;
mod lock;
mod mark;
mod mounts;
mod moved;
mod partial;
mod reach;
mod refs;
mod roots;
mod sealed;
mod snapshot;
mod verify;

pub use blob::{BlobReader, BlobWriter};
pub use cache::{OpHash, RecordV1};
pub use containers::{ContainerGuard, ContainerName, ContainerV1};
pub use error::{Error, note_full};
pub use gc::{GcPolicy, GcReport, Kind, Kinds, Removed, Usage};
pub use idle::Idle;
pub use incoming::{Incoming, IncomingReader};
pub use layers::{LayerBlobV1, LayerRecordV1};
pub use lease::Held;
pub use local::{LocalStore, StoreOptions};
pub use lock::{KeyGuard, RefsGuard};
pub use moved::Move;
pub use partial::{Partial, PartialBlob};
pub use refs::{Expected, RefTarget, RefV1};
pub use snapshot::{Active, SnapshotId, SnapshotMeta, SnapshotV1};
pub use verify::{Finding, SnapshotCheck, VerifyOptions, VerifyReport};

/// What store calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
