//! Images as files: OCI layout folders, archives that Docker, podman and skopeo load, and reading them.
//!
//! Sources: OCI image spec, image-layout.md; docker save's `manifest.json` (Docker image spec 1.2).
//!
//! Invariants: equal images give equal bytes (fixed order, times and owners); documents keep their
//! original bytes; on reading, every digest and size is checked before [`Loaded::ingest`] returns, so a
//! caller that then sets references never points at anything unverified.
//!
//! Deliberately not here: registries, compression of layers, root file systems as folders.
#![forbid(unsafe_code)]

mod archive;
mod docker;
mod error;
mod layout;
mod load;
mod tarball;

pub use docker::write_docker_archive;
pub use error::Error;
pub use layout::{write_layout, write_oci_archive};
pub use load::{LoadLimits, Loaded, LoadedImage, open, open_reader};

use oci::{Content, Reference};

/// An image to be written, with its names. Without names it can be found by digest only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub references: Vec<Reference>,
    pub content: Content,
}

/// Annotation of an index entry: the tag, or any short name (OCI image spec, annotations.md).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation of an index entry: the full name, as containerd and Docker read it.
pub const IMAGE_NAME: &str = "io.containerd.image.name";
