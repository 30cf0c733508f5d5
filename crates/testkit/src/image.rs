//! Small images with deterministic bytes.

use digest::{DiffId, Digest};
use oci::media::{self, Format};
use oci::{Content, Descriptor, History, Image, ImageConfig, MemoryBlobs, Platform, mutate};
use std::collections::BTreeMap;
use std::io::Write;

/// An image (or an index of images) and all its bytes.
#[derive(Debug, Clone)]
pub struct TestImage {
    pub content: Content,
    /// Of a single image.
    pub image: Image,
    pub blobs: MemoryBlobs,
}

/// A tar of plain files.
pub fn layer_tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut h = tar::Header::new_gnu();
        h.set_mode(0o644);
        h.set_mtime(0);
        h.set_size(bytes.len() as u64);
        tar.append_data(&mut h, name, *bytes).expect("a tar in memory");
    }
    tar.into_inner().expect("a tar in memory")
}

/// An image of gzip layers, one for each list of files.
pub fn image(platform: &Platform, layers: &[&[(&str, &[u8])]]) -> TestImage {
    let blobs = MemoryBlobs::new();
    let mut config = ImageConfig::scratch(platform);
    config.created = Some("1970-01-01T00:00:00Z".into());
    config.config.cmd = Some(vec!["/bin/sh".into()]);
    let mut descriptors = Vec::new();
    for files in layers {
        let tar = layer_tar(files);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&tar).expect("gzip in memory");
        let bytes = gz.finish().expect("gzip in memory");
        let layer = mutate::Layer {
            descriptor: Descriptor::of(media::OCI_LAYER_GZIP, &bytes),
            diff_id: DiffId(Digest::of(&tar)),
        };
        blobs.insert(bytes);
        let history = History { created_by: "COPY files".into(), ..History::default() };
        mutate::append_layer(&mut config, &mut descriptors, layer, history);
    }
    let image = mutate::image(&config, &descriptors, Format::Oci, BTreeMap::new()).expect("a sound image");
    blobs.insert(image.config.bytes.clone());
    TestImage { content: Content::image(&image), image, blobs }
}

/// An index of some images.
pub fn index(images: &[TestImage]) -> TestImage {
    let blobs = MemoryBlobs::new();
    for i in images {
        for d in i.blobs.digests() {
            if let Some(bytes) = i.blobs.get(&d) {
                blobs.insert(bytes);
            }
        }
    }
    let entries = images.iter().map(|i| i.image.descriptor()).collect();
    let index = mutate::index(entries, Format::Oci, BTreeMap::new());
    let manifests = images.iter().map(|i| i.image.manifest.clone()).collect();
    TestImage { content: Content::index(index, manifests), image: images[0].image.clone(), blobs }
}
