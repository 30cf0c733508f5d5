//! Media types of OCI (image spec, media-types.md) and Docker (distribution, schema 2).

pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub const OCI_FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
pub const OCI_FOREIGN_GZIP: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
pub const OCI_FOREIGN_ZSTD: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";

pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
pub const DOCKER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
pub const DOCKER_FOREIGN_GZIP: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// What manifests of build attestations (provenance, SBOM) carry as layers.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// The manifest types that can be asked for, in the order of an `Accept` header.
pub const ACCEPTED: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];

/// Which family of media types is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    #[default]
    Oci,
    Docker,
}

impl Format {
    pub fn index(self) -> &'static str {
        match self {
            Format::Oci => OCI_INDEX,
            Format::Docker => DOCKER_LIST,
        }
    }
    pub fn manifest(self) -> &'static str {
        match self {
            Format::Oci => OCI_MANIFEST,
            Format::Docker => DOCKER_MANIFEST,
        }
    }
    pub fn config(self) -> &'static str {
        match self {
            Format::Oci => OCI_CONFIG,
            Format::Docker => DOCKER_CONFIG,
        }
    }
    /// The type of a layer. Docker has a zstd type only in newer releases.
    pub fn layer(self, coding: LayerCoding) -> &'static str {
        match (self, coding) {
            (Format::Oci, LayerCoding::Plain) => OCI_LAYER,
            (Format::Oci, LayerCoding::Gzip) => OCI_LAYER_GZIP,
            (Format::Oci, LayerCoding::Zstd) => OCI_LAYER_ZSTD,
            (Format::Docker, LayerCoding::Plain) => DOCKER_LAYER,
            (Format::Docker, LayerCoding::Gzip) => DOCKER_LAYER_GZIP,
            (Format::Docker, LayerCoding::Zstd) => DOCKER_LAYER_ZSTD,
        }
    }
}

/// How the tar of a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerCoding {
    Plain,
    Gzip,
    Zstd,
}

/// Who may hand a layer on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// Stored in the registry of the image.
    Free,
    /// A "foreign" or "non-distributable" layer, which may live at the descriptor's `urls`.
    Foreign,
}

/// The coding and the distribution rule of a layer media type; `None` if it is no filesystem layer.
pub fn layer(media_type: &str) -> Option<(LayerCoding, Distribution)> {
    use {Distribution::*, LayerCoding::*};
    Some(match media_type {
        OCI_LAYER | DOCKER_LAYER => (Plain, Free),
        OCI_LAYER_GZIP | DOCKER_LAYER_GZIP => (Gzip, Free),
        OCI_LAYER_ZSTD | DOCKER_LAYER_ZSTD => (Zstd, Free),
        OCI_FOREIGN | DOCKER_FOREIGN => (Plain, Foreign),
        OCI_FOREIGN_GZIP | DOCKER_FOREIGN_GZIP => (Gzip, Foreign),
        OCI_FOREIGN_ZSTD => (Zstd, Foreign),
        _ => return None,
    })
}

pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

pub fn is_config(media_type: &str) -> bool {
    matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
}

/// The family of a manifest or index type.
pub fn format_of(media_type: &str) -> Option<Format> {
    match media_type {
        OCI_INDEX | OCI_MANIFEST => Some(Format::Oci),
        DOCKER_LIST | DOCKER_MANIFEST => Some(Format::Docker),
        _ => None,
    }
}

/// A `Content-Type` header without its parameters, in lower case.
pub fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
