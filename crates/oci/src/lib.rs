//! Image values of the OCI and Docker formats: names, platforms, descriptors, manifests, configs.
//!
//! Invariants: everything here is pure; parsing is strict (duplicate keys, mixed documents and wrong
//! media types are refused); raw bytes stay beside every parsed document ([`Raw`]), so passing an
//! image through never re-serialises it; what is written has a fixed field order.
//!
//! Deliberately not here: any I/O of its own (only the roles [`BlobSource`] and [`BlobSink`]), any network name of a registry, any file tree.
#![forbid(unsafe_code)]

mod blob;
mod config;
mod content;
mod descriptor;
mod json;
mod manifest;
pub mod media;
pub mod mutate;
mod platform;
mod reference;
mod time;
pub mod windows;

pub use blob::{BlobSink, BlobSource, BlobWriter, MemoryBlobs};
pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs};
pub use content::Content;
pub use descriptor::{Descriptor, EmbeddedError};
pub use json::{JsonError, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
pub use manifest::{Document, DocumentError, Image, Index, Manifest, Raw, SelectError};
pub use platform::{Matcher, ParsePlatformError, Platform, WindowsVersion};
pub use reference::{DEFAULT_DOMAIN, DEFAULT_TAG, ParseReferenceError, Reference, is_tag};
pub use time::{Timestamp, rfc3339};
