//! Descriptors (OCI image spec, descriptor.md): type, digest and size of a blob, always together.

use crate::{Platform, media};
use base64::Engine as _;
use digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Points at content. Fields are written in the order of the Go structure that Docker uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    #[serde(rename = "mediaType", default, deserialize_with = "crate::json::nullable")]
    pub media_type: String,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    #[serde(default, deserialize_with = "crate::json::nullable", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(default, deserialize_with = "crate::json::nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Base64 of the content itself; see [`Descriptor::embedded`].
    #[serde(default, deserialize_with = "crate::json::non_empty", skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(
        rename = "artifactType",
        default,
        deserialize_with = "crate::json::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<String>,
    /// Fields that this version does not know; written back last.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// Why the content embedded in a descriptor was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbeddedError {
    #[error("the data embedded in the descriptor of {0} is not base64")]
    Base64(Digest),
    #[error("the data embedded in the descriptor of {0} has another digest or size")]
    Mismatch(Digest),
}

impl Descriptor {
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
            extra: BTreeMap::new(),
        }
    }
    /// The descriptor of bytes at hand.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }
    pub fn with_annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }
    /// The embedded content, verified; `None` if there is none.
    pub fn embedded(&self) -> Result<Option<Vec<u8>>, EmbeddedError> {
        let Some(text) = &self.data else { return Ok(None) };
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|_| EmbeddedError::Base64(self.digest))?;
        if bytes.len() as u64 != self.size || Digest::of(&bytes) != self.digest {
            return Err(EmbeddedError::Mismatch(self.digest));
        }
        Ok(Some(bytes))
    }
    /// Whether this index entry is an attestation (provenance, SBOM) of another entry, not an image.
    pub fn is_attestation(&self) -> bool {
        self.annotations.get("vnd.docker.reference.type").is_some_and(|t| t == "attestation-manifest")
    }
    /// Whether this is a layer that may be missing from registries.
    pub fn is_foreign(&self) -> bool {
        matches!(media::layer(&self.media_type), Some((_, media::Distribution::Foreign)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_order_and_omission() {
        let d = Descriptor::of(media::OCI_LAYER, b"x").with_annotation("k", "v");
        let text = serde_json::to_string(&d).unwrap();
        assert_eq!(
            text,
            format!(
                r#"{{"mediaType":"{}","digest":"{}","size":1,"annotations":{{"k":"v"}}}}"#,
                media::OCI_LAYER,
                d.digest
            )
        );
        assert_eq!(serde_json::from_str::<Descriptor>(&text).unwrap(), d);
    }

    #[test]
    fn hostile_values_do_not_parse() {
        for bad in [
            r#"{"mediaType":"a","digest":"sha256:../../x","size":1}"#,
            r#"{"mediaType":"a","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":-1}"#,
            r#"{"mediaType":"a","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#,
        ] {
            assert!(serde_json::from_str::<Descriptor>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn embedded_data_is_verified() {
        let mut d = Descriptor::of(media::OCI_EMPTY, b"{}");
        assert_eq!(d.embedded(), Ok(None));
        d.data = Some("e30=".into());
        assert_eq!(d.embedded(), Ok(Some(b"{}".to_vec())));
        d.data = Some("e31=".into());
        assert!(d.embedded().is_err());
        d.data = Some("*".into());
        assert_eq!(d.embedded(), Err(EmbeddedError::Base64(d.digest)));
    }
}
