//! Manifests and indexes (OCI image spec, manifest.md and image-index.md; Docker schema 2).
//!
//! A document is exactly one of the two: one that has both layers and manifests, or whose media type
//! is not the one that it was served with, is refused, since two tools could read two images in it.

use crate::json::{self, JsonError};
use crate::{Descriptor, ImageConfig, Platform, media};
use digest::{Digest, VerifyError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A parsed document beside the very bytes that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw<T> {
    pub bytes: Arc<[u8]>,
    /// sha256 of `bytes`.
    pub digest: Digest,
    /// The media type that descriptors of it carry.
    pub media_type: String,
    pub value: T,
}

impl<T> Raw<T> {
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.size())
    }
    pub(crate) fn made(bytes: Vec<u8>, media_type: &str, value: T) -> Self {
        Raw { digest: Digest::of(&bytes), bytes: bytes.into(), media_type: media_type.to_string(), value }
    }
}

/// One image: a config and its layers, base first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    #[serde(
        rename = "mediaType",
        default,
        deserialize_with = "json::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub media_type: Option<String>,
    #[serde(
        rename = "artifactType",
        default,
        deserialize_with = "json::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that this version does not know; written back last.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// Several manifests, usually one a platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    #[serde(
        rename = "mediaType",
        default,
        deserialize_with = "json::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub media_type: Option<String>,
    #[serde(
        rename = "artifactType",
        default,
        deserialize_with = "json::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<String>,
    pub manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that this version does not know; written back last.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// The manifest and the config of one platform's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub manifest: Raw<Manifest>,
    pub config: Raw<ImageConfig>,
}

impl Image {
    pub fn platform(&self) -> Platform {
        self.config.value.platform()
    }
    /// The image id that Docker shows: the digest of the config.
    pub fn id(&self) -> Digest {
        self.config.digest
    }
    /// The manifest's descriptor, with the platform: an index entry.
    pub fn descriptor(&self) -> Descriptor {
        self.manifest.descriptor().with_platform(self.platform())
    }
    /// Put a manifest and its config together, checking that they belong to each other.
    pub fn new(manifest: Raw<Manifest>, config: Raw<ImageConfig>) -> Result<Self, DocumentError> {
        if manifest.value.config.digest != config.digest {
            return Err(VerifyError::Digest {
                expected: manifest.value.config.digest,
                actual: config.digest,
            }
            .into());
        }
        let (layers, diffs) = (manifest.value.layers.len(), config.value.rootfs.diff_ids.len());
        if layers != diffs {
            return Err(DocumentError::LayerCount { layers, diffs });
        }
        Ok(Image { manifest, config })
    }
}

/// What a registry or a layout serves under a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    Manifest(Box<Raw<Manifest>>),
    Index(Box<Raw<Index>>),
}

/// Why a manifest, index or image was refused.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("invalid manifest")]
    Json(#[from] JsonError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("the manifest has schema version {0}, not 2")]
    SchemaVersion(u64),
    #[error("the document is both an image and an index")]
    Ambiguous,
    #[error("the document is neither an image nor an index")]
    Neither,
    #[error("the document was served as {served}, but says that it is {inside}")]
    MediaType { served: String, inside: String },
    #[error("the manifest has {layers} layers, but its config {diffs} diff ids")]
    LayerCount { layers: usize, diffs: usize },
    #[error("the manifest spells the field {0:?} in another case")]
    FieldCase(String),
    #[error("the index refers to itself")]
    SelfReference,
}

impl DocumentError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            DocumentError::SchemaVersion(1) => {
                Some("the image is in Docker's schema 1 of before 2016: push it again with a current tool")
            }
            DocumentError::Verify(_) => Some("the content was damaged or replaced on its way: try again"),
            DocumentError::Json(_) => None,
            _ => Some("the image is malformed: report it to those who publish it"),
        }
    }
}

/// The fields by which the kind of a document is told, read before anything else.
#[derive(Deserialize)]
struct Probe {
    #[serde(rename = "schemaVersion", default)]
    schema_version: u64,
    #[serde(rename = "mediaType", default, deserialize_with = "json::non_empty")]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde::de::IgnoredAny>,
}

/// Names that must not come in another case: readers written in Go would take them for these.
const FIELDS: [&str; 8] =
    ["schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations"];

/// As [`FIELDS`], for descriptors.
const DESCRIPTOR_FIELDS: [&str; 8] =
    ["mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType"];

fn check_case<'a>(descriptors: impl Iterator<Item = &'a Descriptor>) -> Result<(), DocumentError> {
    let folded = |key: &&String| DESCRIPTOR_FIELDS.iter().any(|f| f.eq_ignore_ascii_case(key));
    match descriptors.flat_map(|d| d.extra.keys()).find(folded) {
        Some(key) => Err(DocumentError::FieldCase(key.chars().take(100).collect())),
        None => Ok(()),
    }
}

impl Document {
    /// Strict parse. `served` is the Content-Type of the answer or the media type of the descriptor
    /// that led here; types that name no manifest (`application/json`) say nothing.
    pub fn parse(bytes: &[u8], served: Option<&str>) -> Result<Document, DocumentError> {
        let probe: Probe = json::parse(bytes, json::MAX_MANIFEST_BYTES)?;
        let folded = probe.rest.keys().find(|k| FIELDS.iter().any(|f| f.eq_ignore_ascii_case(k) && f != k));
        if let Some(key) = folded {
            return Err(DocumentError::FieldCase(key.chars().take(100).collect()));
        }
        if probe.schema_version != 2 {
            return Err(DocumentError::SchemaVersion(probe.schema_version));
        }
        let image_like = probe.layers.is_some() || probe.config.is_some();
        let index_like = probe.manifests.is_some();
        let served = served.map(media::essence).filter(|t| media::is_index(t) || media::is_manifest(t));
        let media_type = match (served, probe.media_type) {
            (Some(served), Some(inside)) if served != inside => {
                return Err(DocumentError::MediaType { served, inside });
            }
            (Some(t), _) | (None, Some(t)) => t,
            (None, None) if index_like => media::OCI_INDEX.to_string(),
            (None, None) => media::OCI_MANIFEST.to_string(),
        };
        match (image_like, index_like) {
            (true, true) => Err(DocumentError::Ambiguous),
            (true, false) if media::is_manifest(&media_type) => {
                let value: Manifest = json::parse(bytes, json::MAX_MANIFEST_BYTES)?;
                check_case(value.layers.iter().chain([&value.config]).chain(&value.subject))?;
                Ok(Document::Manifest(Box::new(Raw::made(bytes.to_vec(), &media_type, value))))
            }
            (false, true) if media::is_index(&media_type) => {
                let value: Index = json::parse(bytes, json::MAX_MANIFEST_BYTES)?;
                check_case(value.manifests.iter().chain(&value.subject))?;
                let raw = Raw::made(bytes.to_vec(), &media_type, value);
                if raw.value.manifests.iter().any(|d| d.digest == raw.digest) {
                    return Err(DocumentError::SelfReference);
                }
                Ok(Document::Index(Box::new(raw)))
            }
            (false, false) => Err(DocumentError::Neither),
            (true, false) => Err(DocumentError::MediaType { served: media_type, inside: "an image".into() }),
            (false, true) => Err(DocumentError::MediaType { served: media_type, inside: "an index".into() }),
        }
    }

    /// As [`Document::parse`], and the bytes must be those of `descriptor`.
    pub fn verify(bytes: &[u8], descriptor: &Descriptor) -> Result<Document, DocumentError> {
        let actual = Digest::of(bytes);
        if actual != descriptor.digest {
            return Err(VerifyError::Digest { expected: descriptor.digest, actual }.into());
        }
        if bytes.len() as u64 != descriptor.size {
            let (expected, actual) = (descriptor.size, bytes.len() as u64);
            return Err(VerifyError::Size { digest: descriptor.digest, expected, actual }.into());
        }
        Document::parse(bytes, Some(&descriptor.media_type))
    }

    pub fn digest(&self) -> Digest {
        match self {
            Document::Manifest(m) => m.digest,
            Document::Index(i) => i.digest,
        }
    }
    pub fn bytes(&self) -> &Arc<[u8]> {
        match self {
            Document::Manifest(m) => &m.bytes,
            Document::Index(i) => &i.bytes,
        }
    }
    pub fn media_type(&self) -> &str {
        match self {
            Document::Manifest(m) => &m.media_type,
            Document::Index(i) => &i.media_type,
        }
    }
    pub fn descriptor(&self) -> Descriptor {
        match self {
            Document::Manifest(m) => m.descriptor(),
            Document::Index(i) => i.descriptor(),
        }
    }
}

/// An index has no image for a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no image for platform {wanted} (there is: {})", list(.available))]
pub struct SelectError {
    pub wanted: Box<Platform>,
    pub available: Vec<Platform>,
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "none".into();
    }
    platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")
}

impl Index {
    /// The entry that a machine of `platform` runs best. Attestations are never chosen; an entry
    /// without a platform only where it is the single image (its config then says the platform).
    pub fn select(&self, platform: &Platform) -> Result<&Descriptor, SelectError> {
        let matcher = platform.matcher();
        let images: Vec<&Descriptor> = self.images().collect();
        let ranked = images.iter().enumerate().filter_map(|(i, d)| {
            let rank = d.platform.as_ref().and_then(|p| matcher.rank(p))?;
            Some((rank, i))
        });
        if let Some((_, i)) = ranked.min() {
            return Ok(images[i]);
        }
        if let [only] = images[..]
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let available = images.iter().filter_map(|d| d.platform.clone()).collect();
        Err(SelectError { wanted: Box::new(platform.clone()), available })
    }

    /// The entries that are images (or indexes of images), without attestations.
    pub fn images(&self) -> impl Iterator<Item = &Descriptor> {
        let unknown = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.os == "unknown");
        self.manifests.iter().filter(move |d| !d.is_attestation() && !unknown(d))
    }
}
