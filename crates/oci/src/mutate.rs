//! Pure functions that make images from images: append a layer, set the config, write the bytes.

use crate::json;
use crate::manifest::{Image, Index, Manifest, Raw};
use crate::media::{self, Format};
use crate::{Descriptor, History, ImageConfig};
use digest::DiffId;
use std::collections::BTreeMap;

/// A layer to be put on top of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The stored (usually compressed) blob.
    pub descriptor: Descriptor,
    /// The uncompressed tar.
    pub diff_id: DiffId,
}

/// Why config and layers do not make an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MutateError {
    #[error("internal error: {layers} layers but {diffs} diff ids (please report this)")]
    LayerCount { layers: usize, diffs: usize },
    #[error("internal error: {layers} layers but {steps} history entries with a layer (please report this)")]
    HistoryCount { layers: usize, steps: usize },
    #[error("internal error: the media type {0:?} is no layer (please report this)")]
    LayerType(String),
    #[error("internal error: the image has no platform (please report this)")]
    NoPlatform,
}

/// Put one layer on top: diff id and history go into the config, the descriptor behind the others.
pub fn append_layer(config: &mut ImageConfig, layers: &mut Vec<Descriptor>, layer: Layer, history: History) {
    config.rootfs.diff_ids.push(layer.diff_id);
    config.history.push(History { empty_layer: false, ..history });
    layers.push(layer.descriptor);
}

/// Record a step that made no layer.
pub fn append_empty(config: &mut ImageConfig, history: History) {
    config.history.push(History { empty_layer: true, ..history });
}

/// Write config and manifest. The media types of the layers are turned into those of `format`; their
/// bytes stay as they are. An image whose base has no history keeps none for the base.
pub fn image(
    config: &ImageConfig,
    layers: &[Descriptor],
    format: Format,
    annotations: BTreeMap<String, String>,
) -> Result<Image, MutateError> {
    let diffs = config.rootfs.diff_ids.len();
    if diffs != layers.len() {
        return Err(MutateError::LayerCount { layers: layers.len(), diffs });
    }
    let steps = config.history.iter().filter(|h| !h.empty_layer).count();
    if steps > diffs {
        return Err(MutateError::HistoryCount { layers: diffs, steps });
    }
    if config.os.is_empty() || config.architecture.is_empty() {
        return Err(MutateError::NoPlatform);
    }
    manifest(Raw::made(config.to_json(), format.config(), config.clone()), layers, format, annotations)
}

/// As [`image`], around a config whose bytes exist already and stay as they are.
pub fn manifest(
    config: Raw<ImageConfig>,
    layers: &[Descriptor],
    format: Format,
    annotations: BTreeMap<String, String>,
) -> Result<Image, MutateError> {
    let (layer_count, diffs) = (layers.len(), config.value.rootfs.diff_ids.len());
    if layer_count != diffs {
        return Err(MutateError::LayerCount { layers: layer_count, diffs });
    }
    let config = Raw { media_type: format.config().to_string(), ..config };
    let layers = layers.iter().map(|l| convert_layer(l, format)).collect::<Result<_, _>>()?;
    let value = Manifest {
        schema_version: 2,
        media_type: Some(format.manifest().to_string()),
        artifact_type: None,
        config: config.descriptor(),
        layers,
        subject: None,
        annotations,
        extra: BTreeMap::new(),
    };
    let manifest = Raw::made(json::pretty(&value), format.manifest(), value);
    Ok(Image { manifest, config })
}

/// A manifest that is no image: its config says what the layers are (image spec, manifest.md, "Guidelines for
/// Artifact Usage").
pub fn artifact(artifact_type: &str, config: Descriptor, layers: Vec<Descriptor>) -> Raw<Manifest> {
    let value = Manifest {
        schema_version: 2,
        media_type: Some(Format::Oci.manifest().to_string()),
        artifact_type: Some(artifact_type.to_string()),
        config,
        layers,
        subject: None,
        annotations: BTreeMap::new(),
        extra: BTreeMap::new(),
    };
    Raw::made(json::pretty(&value), Format::Oci.manifest(), value)
}

/// Write an index of `entries`, in the order given.
pub fn index(entries: Vec<Descriptor>, format: Format, annotations: BTreeMap<String, String>) -> Raw<Index> {
    let value = Index {
        schema_version: 2,
        media_type: Some(format.index().to_string()),
        artifact_type: None,
        manifests: entries,
        subject: None,
        annotations,
        extra: BTreeMap::new(),
    };
    Raw::made(json::pretty(&value), format.index(), value)
}

/// The same layer under the media type of `format`. Foreign layers stay foreign.
pub fn convert_layer(layer: &Descriptor, format: Format) -> Result<Descriptor, MutateError> {
    let Some((coding, distribution)) = media::layer(&layer.media_type) else {
        return Err(MutateError::LayerType(layer.media_type.clone()));
    };
    let mut out = layer.clone();
    if distribution == media::Distribution::Free {
        out.media_type = format.layer(coding).to_string();
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Document, DocumentError, Platform};
    use digest::Digest;

    fn config() -> (ImageConfig, Vec<Descriptor>) {
        let mut c = ImageConfig::scratch(&Platform::new("linux", "amd64"));
        let mut layers = Vec::new();
        let layer = Layer {
            descriptor: Descriptor::of(media::DOCKER_LAYER_GZIP, b"gz"),
            diff_id: DiffId(Digest::of(b"tar")),
        };
        append_layer(&mut c, &mut layers, layer, History { created_by: "COPY".into(), ..History::default() });
        append_empty(&mut c, History { created_by: "CMD".into(), ..History::default() });
        (c, layers)
    }

    #[test]
    fn image_round_trips_through_bytes() {
        let (c, layers) = config();
        let img = image(&c, &layers, Format::Oci, BTreeMap::new()).unwrap();
        assert_eq!(img.manifest.value.layers[0].media_type, media::OCI_LAYER_GZIP);
        let Document::Manifest(m) =
            Document::verify(&img.manifest.bytes, &img.manifest.descriptor()).unwrap()
        else {
            panic!("an image")
        };
        assert_eq!(*m, img.manifest);
        let config = ImageConfig::parse(&img.config.bytes, &img.config.media_type).unwrap();
        assert_eq!(Image::new(*m, config).unwrap(), img);
        assert_eq!(image(&c, &layers, Format::Oci, BTreeMap::new()).unwrap(), img);
        assert!(matches!(image(&c, &[], Format::Oci, BTreeMap::new()), Err(MutateError::LayerCount { .. })));
    }

    #[test]
    fn documents_are_strict() {
        let (c, layers) = config();
        let img = image(&c, &layers, Format::Oci, BTreeMap::new()).unwrap();
        let text = String::from_utf8(img.manifest.bytes.to_vec()).unwrap();
        let parse = |t: &str, s: Option<&str>| Document::parse(t.as_bytes(), s);
        assert!(parse(&text, Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")).is_ok());
        assert!(parse(&text, Some("application/json")).is_ok());
        assert!(matches!(parse(&text, Some(media::DOCKER_MANIFEST)), Err(DocumentError::MediaType { .. })));
        assert!(matches!(parse(&text, Some(media::OCI_INDEX)), Err(DocumentError::MediaType { .. })));
        let both = text.replacen('{', r#"{"manifests":[],"#, 1);
        assert!(matches!(parse(&both, None), Err(DocumentError::Ambiguous)));
        let cased = text.replacen('{', r#"{"Layers":[],"#, 1);
        assert!(matches!(parse(&cased, None), Err(DocumentError::FieldCase(_))));
        let cased = text.replacen("\"size\"", "\"Size\": 1, \"size\"", 1);
        assert!(matches!(parse(&cased, None), Err(DocumentError::FieldCase(_))));
        let twice = text.replacen('{', r#"{"schemaVersion":2,"#, 1);
        assert!(matches!(parse(&twice, None), Err(DocumentError::Json(_))));
        let old = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(matches!(parse(old, None), Err(DocumentError::SchemaVersion(1))));
        assert!(matches!(parse(r#"{"schemaVersion":2}"#, None), Err(DocumentError::Neither)));
        assert!(matches!(parse("[]", None), Err(DocumentError::Json(_))));
        let mut d = img.manifest.descriptor();
        d.size += 1;
        assert!(matches!(Document::verify(&img.manifest.bytes, &d), Err(DocumentError::Verify(_))));
    }

    #[test]
    fn selection_skips_attestations_and_lists_what_there_is() {
        let entry = |bytes: &[u8], p: Option<Platform>| Descriptor {
            platform: p,
            ..Descriptor::of(media::OCI_MANIFEST, bytes)
        };
        let amd = Platform::new("linux", "amd64");
        let attestation = entry(b"att", Some(Platform::new("unknown", "unknown")))
            .with_annotation("vnd.docker.reference.type", "attestation-manifest");
        let idx = index(
            vec![
                attestation,
                entry(b"arm", Some(Platform::new("linux", "arm64"))),
                entry(b"amd", Some(amd.clone())),
            ],
            Format::Oci,
            BTreeMap::new(),
        );
        assert_eq!(idx.value.select(&amd).unwrap().digest, Digest::of(b"amd"));
        let err = idx.value.select(&Platform::new("linux", "s390x")).unwrap_err();
        assert_eq!(err.to_string(), "no image for platform linux/s390x (there is: linux/arm64, linux/amd64)");
        let bare = index(vec![entry(b"x", None)], Format::Oci, BTreeMap::new());
        assert!(bare.value.select(&amd).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_document_makes_the_parsers_panic(at in 0usize..2000, byte in 0u8..255, cut in 0usize..2000) {
            let (c, layers) = config();
            let img = image(&c, &layers, Format::Oci, BTreeMap::new()).unwrap();
            for bytes in [&img.manifest.bytes, &img.config.bytes] {
                let mut bytes = bytes.to_vec();
                let end = bytes.len();
                bytes[at % end] = byte;
                bytes.truncate(end - cut % end);
                let _ = (Document::parse(&bytes, None), ImageConfig::parse(&bytes, ""));
            }
        }
    }
}
