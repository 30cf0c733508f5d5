//! The archive of `docker save` before Docker 25: uncompressed layers beside `manifest.json`, which every
//! tool reads that ever read Docker's images.

use crate::archive::decompressed;
use crate::error::Error;
use crate::layout::{DOCKER_FILE, DockerEntry, blame, docker_manifest, repo_tags};
use crate::tarball::Tarball;
use crate::{LoadLimits, Named};
use digest::{DiffId, Digest, Sha256, VerifyingReader};
use oci::{BlobSource, Descriptor, ImageConfig, MAX_CONFIG_BYTES, Manifest, Raw};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// Write images as a Docker archive. Layers are unpacked on the way, and must give the diff ids of the
/// config. An image of several platforms cannot be written. Equal images give equal bytes.
pub fn write_docker_archive<W: Write>(out: W, images: &[Named], source: &dyn BlobSource) -> Result<W, Error> {
    let mut configs: BTreeMap<Digest, Raw<ImageConfig>> = BTreeMap::new();
    let mut layers: BTreeMap<DiffId, (Descriptor, u64)> = BTreeMap::new();
    let mut entries = Vec::new();
    for image in images {
        let manifest = docker_manifest(image).ok_or(Error::IndexInDocker)?;
        let config = read_config(manifest, source)?;
        let diffs = &config.value.rootfs.diff_ids;
        if diffs.len() != manifest.value.layers.len() {
            return Err(Error::Malformed("the image has not as many layers as diff ids".into()));
        }
        for (index, (layer, diff)) in manifest.value.layers.iter().zip(diffs).enumerate() {
            if !layers.contains_key(diff) {
                let (actual, size) = measure(source, layer)?;
                if actual != diff.0 {
                    return Err(Error::DiffId { index, expected: diff.0, actual });
                }
                layers.insert(*diff, (layer.clone(), size));
            }
        }
        entries.push(DockerEntry {
            config: format!("{}.json", config.digest.hex()),
            repo_tags: repo_tags(image),
            layers: diffs.iter().map(layer_path).collect(),
        });
        configs.insert(config.digest, config);
    }
    let io = Error::Output;
    let mut tar = Tarball::new(out);
    let bytes = serde_json::to_vec(&entries).map_err(|e| Error::Internal(e.to_string()))?;
    tar.file(DOCKER_FILE, &bytes).map_err(io)?;
    for (digest, config) in &configs {
        tar.file(&format!("{}.json", digest.hex()), &config.bytes).map_err(io)?;
    }
    for (diff, (layer, size)) in &layers {
        let reader = unpacked(source, layer)?;
        tar.folder(&format!("{}/", diff.hex())).map_err(io)?;
        let mut reader = VerifyingReader::new(reader, diff.0, *size);
        tar.stream(&layer_path(diff), *size, &mut reader).map_err(|e| blame(layer.digest, e))?;
    }
    tar.finish().map_err(io)
}

fn layer_path(diff: &DiffId) -> String {
    format!("{}/layer.tar", diff.hex())
}

fn read_config(manifest: &Raw<Manifest>, source: &dyn BlobSource) -> Result<Raw<ImageConfig>, Error> {
    let blob = &manifest.value.config;
    let fail = |source| Error::Blob { digest: blob.digest, source };
    let mut bytes = Vec::new();
    let limit = MAX_CONFIG_BYTES as u64 + 1;
    let reader = VerifyingReader::new(source.open(blob).map_err(fail)?, blob.digest, blob.size);
    reader.take(limit).read_to_end(&mut bytes).map_err(fail)?;
    ImageConfig::parse(&bytes, &blob.media_type)
        .map_err(|source| Error::Json { what: format!("config {}", blob.digest), source })
}

fn unpacked(source: &dyn BlobSource, layer: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound if layer.is_foreign() => Error::ForeignLayer(layer.digest),
        _ => Error::Blob { digest: layer.digest, source },
    };
    let reader = VerifyingReader::new(source.open(layer).map_err(fail)?, layer.digest, layer.size);
    decompressed(Box::new(reader), LoadLimits::default().unpacked).map_err(fail)
}

/// Digest and size of the uncompressed layer.
fn measure(source: &dyn BlobSource, layer: &Descriptor) -> Result<(Digest, u64), Error> {
    let mut reader = unpacked(source, layer)?;
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 128 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok((hash.finish(), size)),
            Ok(n) => {
                hash.update(&buffer[..n]);
                size += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::Blob { digest: layer.digest, source }),
        }
    }
}
