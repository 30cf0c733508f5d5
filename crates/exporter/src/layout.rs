//! Writers of the OCI image layout, as a folder or as a tar with Docker's `manifest.json` beside it.

use crate::error::Error;
use crate::tarball::Tarball;
use crate::{IMAGE_NAME, Named, REF_NAME};
use digest::{Digest, VerifyingReader};
use oci::media::Format;
use oci::{BlobSource, Descriptor, Document, Index, MAX_MANIFEST_BYTES, Manifest, Raw, Reference, mutate};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

pub(crate) const LAYOUT_FILE: &str = "oci-layout";
pub(crate) const INDEX_FILE: &str = "index.json";
pub(crate) const DOCKER_FILE: &str = "manifest.json";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// `blobs/sha256/<hex>`.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// An element of Docker's `manifest.json`.
#[derive(Serialize)]
pub(crate) struct DockerEntry {
    #[serde(rename = "Config")]
    pub config: String,
    #[serde(rename = "RepoTags")]
    pub repo_tags: Vec<String>,
    #[serde(rename = "Layers")]
    pub layers: Vec<String>,
}

/// What a layout contains, in the order in which it is written.
struct Parts {
    documents: BTreeMap<Digest, Arc<[u8]>>,
    blobs: BTreeMap<Digest, Descriptor>,
    entries: Vec<Descriptor>,
}

fn parts(images: &[Named]) -> Parts {
    let mut parts = Parts { documents: BTreeMap::new(), blobs: BTreeMap::new(), entries: Vec::new() };
    for image in images {
        for document in image.content.documents() {
            parts.documents.insert(document.digest(), document.bytes().clone());
        }
        parts.blobs.extend(image.content.blobs().into_iter().map(|b| (b.digest, b)));
        let bare = image.content.descriptor.clone();
        let names: BTreeSet<&Reference> = image.references.iter().collect();
        if names.is_empty() {
            parts.entries.push(bare.clone());
        }
        parts.entries.extend(names.into_iter().map(|r| named(bare.clone(), r)));
    }
    // An attestation or artifact may list a document as a layer.
    parts.blobs.retain(|d, _| !parts.documents.contains_key(d));
    parts
}

fn named(entry: Descriptor, reference: &Reference) -> Descriptor {
    let reference = reference.clone().with_default_tag();
    let short = reference.tag().map_or_else(|| reference.manifest_key(), str::to_string);
    entry.with_annotation(IMAGE_NAME, reference.to_string()).with_annotation(REF_NAME, short)
}

/// Entries of `manifest.json`: one for each image that Docker can read from it, which is the single
/// manifest of a content (Docker reads indexes from `index.json`).
fn docker_entries(images: &[Named]) -> Vec<DockerEntry> {
    let mut out = Vec::new();
    for image in images {
        let Some(manifest) = docker_manifest(image) else { continue };
        out.push(DockerEntry {
            config: blob_path(&manifest.value.config.digest),
            repo_tags: repo_tags(image),
            layers: manifest.value.layers.iter().map(|l| blob_path(&l.digest)).collect(),
        });
    }
    out
}

/// The one manifest of an image that is no attestation; `None` for several platforms.
pub(crate) fn docker_manifest(image: &Named) -> Option<&Raw<Manifest>> {
    let is_image = |m: &&Raw<Manifest>| oci::media::is_config(&m.value.config.media_type);
    let attested: BTreeSet<Digest> = match &image.content.top {
        Document::Manifest(_) => BTreeSet::new(),
        Document::Index(i) => {
            i.value.manifests.iter().filter(|d| d.is_attestation()).map(|d| d.digest).collect()
        }
    };
    let all = image.content.manifests().into_iter();
    let mut images = all.filter(is_image).filter(|m| !attested.contains(&m.digest));
    let first = images.next()?;
    images.next().is_none().then_some(first)
}

/// Familiar names with a tag; Docker takes no digests here.
pub(crate) fn repo_tags(image: &Named) -> Vec<String> {
    let tags: BTreeSet<String> = image
        .references
        .iter()
        .filter_map(|r| {
            let r = r.clone().with_default_tag();
            Some(format!("{}:{}", r.familiar_name(), r.tag()?))
        })
        .collect();
    tags.into_iter().collect()
}

fn index(entries: Vec<Descriptor>) -> Raw<Index> {
    mutate::index(entries, Format::Oci, BTreeMap::new())
}

fn open(source: &dyn BlobSource, blob: &Descriptor) -> Result<impl Read + use<>, Error> {
    let reader = source.open(blob).map_err(|source| Error::Blob { digest: blob.digest, source })?;
    Ok(VerifyingReader::new(reader, blob.digest, blob.size))
}

/// Whether a blob may be left out: a foreign layer that lives elsewhere.
fn is_absent(source: &dyn BlobSource, blob: &Descriptor) -> bool {
    let absent = |e: io::Error| e.kind() == io::ErrorKind::NotFound;
    blob.is_foreign() && !blob.urls.is_empty() && source.open(blob).err().is_some_and(absent)
}

/// Write a tar that is an OCI layout and a Docker archive at once. Equal images give equal bytes.
pub fn write_oci_archive<W: Write>(out: W, images: &[Named], source: &dyn BlobSource) -> Result<W, Error> {
    let parts = parts(images);
    let io = Error::Output;
    let mut tar = Tarball::new(out);
    tar.file(LAYOUT_FILE, LAYOUT).map_err(io)?;
    tar.file(INDEX_FILE, &index(parts.entries).bytes).map_err(io)?;
    let docker = docker_entries(images);
    if !docker.is_empty() {
        let bytes = serde_json::to_vec(&docker).map_err(|e| Error::Internal(e.to_string()))?;
        tar.file(DOCKER_FILE, &bytes).map_err(io)?;
    }
    tar.folder("blobs/").map_err(io)?;
    tar.folder("blobs/sha256/").map_err(io)?;
    let all: BTreeSet<Digest> = parts.documents.keys().chain(parts.blobs.keys()).copied().collect();
    for digest in all {
        let path = blob_path(&digest);
        if let Some(bytes) = parts.documents.get(&digest) {
            tar.file(&path, bytes).map_err(io)?;
        } else if let Some(blob) = parts.blobs.get(&digest)
            && !is_absent(source, blob)
        {
            tar.stream(&path, blob.size, &mut open(source, blob)?).map_err(|e| blame(digest, e))?;
        }
    }
    tar.finish().map_err(io)
}

/// Content that is not what its descriptor says is the blob's fault, all else the output's.
pub(crate) fn blame(digest: Digest, e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::InvalidData => Error::Blob { digest, source: e },
        _ => Error::Output(e),
    }
}

/// Write an OCI layout into the folder `path`, which is made if it is missing. A layout that is there
/// keeps its other images; entries of the same names are replaced. The index is replaced last and at
/// once, so that the folder is a valid layout at any time.
pub fn write_layout(path: &Path, images: &[Named], source: &dyn BlobSource) -> Result<(), Error> {
    let at = |name: &str| path.join(name);
    let mut entries = existing(path)?;
    let fail = |name: &str| {
        let path = at(name);
        move |source| Error::Write { path: path.clone(), source }
    };
    fs::create_dir_all(at("blobs/sha256")).map_err(fail("blobs/sha256"))?;
    let parts = parts(images);
    for (digest, bytes) in &parts.documents {
        let name = blob_path(digest);
        if !is_file_of(&at(&name), bytes.len() as u64) {
            replace(path, &name, &mut &bytes[..]).map_err(fail(&name))?;
        }
    }
    for (digest, blob) in &parts.blobs {
        let name = blob_path(digest);
        if !is_file_of(&at(&name), blob.size) && !is_absent(source, blob) {
            replace(path, &name, &mut open(source, blob)?).map_err(|source| match source.kind() {
                io::ErrorKind::InvalidData => Error::Blob { digest: *digest, source },
                _ => fail(&name)(source),
            })?;
        }
    }
    replace(path, LAYOUT_FILE, &mut &LAYOUT[..]).map_err(fail(LAYOUT_FILE))?;
    entries.retain(|old| parts.entries.iter().all(|new| !same_name(old, new)));
    entries.extend(parts.entries);
    replace(path, INDEX_FILE, &mut &index(entries).bytes[..]).map_err(fail(INDEX_FILE))?;
    File::open(path).and_then(|d| d.sync_all()).map_err(fail(""))
}

/// Whether a new entry takes the place of an old one.
fn same_name(old: &Descriptor, new: &Descriptor) -> bool {
    let key = |d: &Descriptor| d.annotations.get(IMAGE_NAME).or(d.annotations.get(REF_NAME)).cloned();
    match (key(old), key(new)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => old.digest == new.digest,
        _ => false,
    }
}

/// The index entries of the layout at `path`; none if there is nothing.
fn existing(path: &Path) -> Result<Vec<Descriptor>, Error> {
    let fail = |source| Error::Read { path: path.to_path_buf(), source };
    match fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(fail(e)),
        Ok(mut entries) => {
            if entries.next().is_none() {
                return Ok(Vec::new());
            }
        }
    }
    if !path.join(LAYOUT_FILE).is_file() {
        return Err(Error::Occupied(path.to_path_buf()));
    }
    let mut bytes = Vec::new();
    match File::open(path.join(INDEX_FILE)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(fail(e)),
        Ok(f) => f.take(MAX_MANIFEST_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(fail)?,
    };
    match Document::parse(&bytes, None) {
        Ok(Document::Index(i)) => Ok(i.value.manifests),
        Ok(Document::Manifest(_)) => Err(Error::Malformed(format!("{INDEX_FILE} is no index"))),
        Err(source) => Err(Error::Document { what: INDEX_FILE.into(), source }),
    }
}

fn is_file_of(path: &Path, size: u64) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && m.len() == size)
}

/// Write a file beside its place, sync it, and rename it into place.
fn replace(root: &Path, name: &str, content: &mut dyn Read) -> io::Result<()> {
    let target = root.join(name);
    let folder = target.parent().unwrap_or(root);
    let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder)?;
    io::copy(content, file.as_file_mut())?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode)?;
    file.as_file().sync_all()?;
    file.persist(&target).map_err(|e| e.error)?;
    Ok(())
}
