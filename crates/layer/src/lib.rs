//! Layers: overlay folders to tar and back, compression, archives of `ADD`.
//!
//! - [`pack`]: an overlay upper folder becomes a deterministic tar (OCI image spec, layer.md);
//! - [`known`]: a layer of a Windows image of what somebody else knows of each file;
//! - [`unpack`]: a layer tar becomes such a folder, independent of the layers below it;
//! - [`settle`]: what a layer leaves to those below it;
//! - [`stack`]: layers copied into one folder where overlay is refused; [`diff`]: such a folder, changed, as a layer;
//! - [`squash`]: several layers as one;
//! - [`mirror`]: folders copied, compared and linked as they are, mark for mark;
//! - [`extract`]: an archive is extracted into an existing root file system;
//! - [`compress`], [`decompress`]: gzip, zstd and what else archives come in.
//!
//! Invariants:
//! - the same folder gives the same bytes, on any machine and with any number of threads;
//! - nothing outside the destination folder is ever read or written, whatever an archive says;
//! - link targets are stored as they are: resolution is confined, not targets.
//!
//! Deliberately not here: mounts, where layers are kept, and anything asynchronous.
#![forbid(unsafe_code)]

pub mod compress;
pub mod decompress;
pub mod diff;
mod error;
pub mod extract;
mod fsat;
mod ids;
pub mod known;
pub mod mirror;
pub mod pack;
mod pax;
mod read;
mod record;
pub mod settle;
pub mod squash;
pub mod stack;
mod stream;
pub mod unpack;
mod windows;
mod write;
mod writers;

pub use error::Error;
pub use fsat::Marks;
pub use ids::{IdMap, IdRange};

/// What layer calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
