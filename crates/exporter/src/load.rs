//! Reading: OCI layouts (folder or tar) and Docker archives, old and new, plain or compressed.

use crate::archive::{Archive, Extent, LimitPassed, decompressed, spool};
use crate::error::Error;
use crate::layout::{DOCKER_FILE, INDEX_FILE, LAYOUT_FILE, blob_path};
use crate::{IMAGE_NAME, REF_NAME};
use digest::{Digest, Sha256, VerifyingReader};
use oci::media::{self, Format};
use oci::{
    BlobSink, BlobSource, Content, Descriptor, Document, DocumentError, Image, ImageConfig, MAX_CONFIG_BYTES,
    MAX_MANIFEST_BYTES, Platform, Raw, Reference, mutate,
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bounds against archives that unpack to more than they should.
#[derive(Debug, Clone, Copy)]
pub struct LoadLimits {
    /// Bytes of an unpacked archive, and of any one unpacked layer.
    pub unpacked: u64,
}

impl Default for LoadLimits {
    fn default() -> Self {
        LoadLimits { unpacked: 256 << 30 }
    }
}

/// One image (or index of images) that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// Full names that the archive gives it.
    pub references: Vec<Reference>,
    /// The short name of a layout's entry, usually a tag.
    pub ref_name: Option<String>,
    /// What is there of it.
    pub content: Content,
    /// Entries of its index that the archive leaves out.
    pub missing: Vec<Descriptor>,
}

/// An archive or layout whose documents were read and verified. Its blobs are verified by
/// [`Loaded::ingest`], or by whoever reads them through [`BlobSource`].
pub struct Loaded {
    images: Vec<LoadedImage>,
    place: Place,
}

enum Place {
    Folder(PathBuf),
    Archive(Archive),
    /// Blobs by where they lie, and blobs that were made while reading.
    Docker(Archive, BTreeMap<Digest, Extent>),
}

/// Open an OCI layout folder, or an archive as a file. A compressed archive is unpacked into an unnamed
/// file in the folder `scratch`.
pub fn open(path: &Path, scratch: &Path, limits: LoadLimits) -> Result<Loaded, Error> {
    let fail = |source| Error::Read { path: path.to_path_buf(), source };
    let meta = fs::metadata(path).map_err(fail)?;
    if meta.is_dir() {
        if !path.join(INDEX_FILE).is_file() {
            return Err(Error::NotAnImage(path.to_path_buf()));
        }
        return from_layout(Place::Folder(path.to_path_buf()));
    }
    let mut file = File::open(path).map_err(fail)?;
    let mut magic = Vec::new();
    io::Read::by_ref(&mut file).take(4).read_to_end(&mut magic).map_err(fail)?;
    let packed = magic.starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd];
    if packed || !meta.is_file() {
        return open_reader(Box::new(io::Cursor::new(magic).chain(file)), scratch, limits);
    }
    from_tar(file, path, limits)
}

/// Open an archive that comes as a stream (standard input).
pub fn open_reader(
    reader: Box<dyn Read + Send>,
    scratch: &Path,
    limits: LoadLimits,
) -> Result<Loaded, Error> {
    let file = spool(reader, scratch, limits.unpacked)?;
    from_tar(file, Path::new("the archive"), limits)
}

fn from_tar(file: File, name: &Path, limits: LoadLimits) -> Result<Loaded, Error> {
    let archive = Archive::new(file, &[LAYOUT_FILE, INDEX_FILE, DOCKER_FILE])?;
    if archive.find(INDEX_FILE).is_some() {
        return from_layout(Place::Archive(archive));
    }
    if archive.find(DOCKER_FILE).is_some() {
        return from_docker(archive, limits);
    }
    Err(Error::NotAnImage(name.to_path_buf()))
}

impl Loaded {
    pub fn images(&self) -> &[LoadedImage] {
        &self.images
    }

    /// The image of that tag, full name or digest; without a name the only one, or the one tagged
    /// `latest`.
    pub fn find(&self, name: Option<&str>) -> Result<&LoadedImage, Error> {
        let found = match name {
            None => match &self.images[..] {
                [only] => Some(only),
                many => many.iter().find(|i| i.ref_name.as_deref() == Some(oci::DEFAULT_TAG)),
            },
            Some(name) => {
                let reference = Reference::parse(name).ok().map(Reference::with_default_tag);
                let by_name = |i: &&LoadedImage| {
                    i.ref_name.as_deref() == Some(name)
                        || i.content.digest().to_string() == name
                        || reference.as_ref().is_some_and(|r| i.references.contains(r))
                };
                self.images.iter().find(by_name)
            }
        };
        found.ok_or_else(|| {
            let names = |i: &LoadedImage| {
                let full = i.references.first().map(Reference::familiar);
                full.or(i.ref_name.clone()).unwrap_or_else(|| i.content.digest().to_string())
            };
            Error::NoSuchImage {
                name: name.unwrap_or(oci::DEFAULT_TAG).chars().take(200).collect(),
                available: self.images.iter().map(names).collect::<Vec<_>>().join(", "),
            }
        })
    }

    /// The image of `name` for a platform: its manifest and its config, verified.
    pub fn image(&self, name: Option<&str>, platform: &Platform) -> Result<Image, Error> {
        let found = self.find(name)?;
        let mut document = &found.content.top;
        for _ in 0..MAX_DEPTH {
            match document {
                Document::Manifest(m) => return self.with_config(m),
                Document::Index(index) => {
                    let entry = index.value.select(platform).map_err(|e| Error::NoSuchImage {
                        name: e.wanted.to_string(),
                        available: e.available.iter().map(Platform::to_string).collect::<Vec<_>>().join(", "),
                    })?;
                    let inner = found.content.inner.iter().find(|d| d.digest() == entry.digest);
                    document = inner.ok_or_else(|| Error::Missing(format!("manifest {}", entry.digest)))?;
                }
            }
        }
        Err(Error::Document { what: "the image".into(), source: DocumentError::SelfReference })
    }

    fn with_config(&self, manifest: &Raw<oci::Manifest>) -> Result<Image, Error> {
        let blob = &manifest.value.config;
        let bytes = self.small(blob, MAX_CONFIG_BYTES)?.ok_or_else(|| missing(blob))?;
        let what = format!("config {}", blob.digest);
        let config = ImageConfig::parse(&bytes, &blob.media_type)
            .map_err(|source| Error::Json { what: what.clone(), source })?;
        Image::new(manifest.clone(), config).map_err(|source| Error::Document { what, source })
    }

    /// Bring all blobs and documents of `images` into `sink`, several blobs at the same time; every digest and size
    /// is checked. Documents come after what they reach. Only after Ok may a reference be set. Idempotent.
    pub fn ingest(&self, images: &[LoadedImage], sink: &dyn BlobSink) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        let blobs: Vec<Descriptor> =
            images.iter().flat_map(|i| i.content.blobs()).filter(|b| seen.insert(b.digest)).collect();
        self.ingest_blobs(&blobs, sink)?;
        for document in images.iter().flat_map(|i| i.content.documents()) {
            let descriptor = document.descriptor();
            let put = sink.put(&descriptor, document.bytes());
            put.map_err(|source| Error::Sink { digest: descriptor.digest, source })?;
        }
        Ok(())
    }

    /// After a failure no blob is begun; that of the first one in the order of `blobs` is told.
    fn ingest_blobs(&self, blobs: &[Descriptor], sink: &dyn BlobSink) -> Result<(), Error> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || -> Result<(), (usize, Error)> {
            while !failed.load(Ordering::SeqCst) {
                let i = next.fetch_add(1, Ordering::SeqCst);
                let Some(blob) = blobs.get(i) else { break };
                self.ingest_blob(blob, sink).map_err(|e| {
                    failed.store(true, Ordering::SeqCst);
                    (i, e)
                })?;
            }
            Ok(())
        };
        let outcomes = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..blobs.len().min(AT_ONCE)).map(|_| scope.spawn(work)).collect();
            let mut outcomes = vec![work()];
            for thread in threads {
                outcomes.push(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            outcomes
        });
        match outcomes.into_iter().filter_map(Result::err).min_by_key(|(i, _)| *i) {
            Some((_, e)) => Err(e),
            None => Ok(()),
        }
    }

    fn ingest_blob(&self, blob: &Descriptor, sink: &dyn BlobSink) -> Result<(), Error> {
        let to_sink = |source| Error::Sink { digest: blob.digest, source };
        if sink.has(blob).map_err(to_sink)? {
            return Ok(());
        }
        let reader = match self.open(blob) {
            Ok(reader) => reader,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if blob.is_foreign() && !blob.urls.is_empty() {
                    return Ok(());
                }
                return Err(missing(blob));
            }
            Err(source) => return Err(Error::Blob { digest: blob.digest, source }),
        };
        // The sink verifies: that is its contract, and hashing twice would take twice as long.
        let to_sink = |source: io::Error| match verify_error(&source) {
            Some(_) => damaged(blob, source),
            None => to_sink(source),
        };
        let mut reader = reader.take(blob.size.saturating_add(1));
        let mut writer = sink.begin(blob).map_err(to_sink)?;
        if writer.is_present() {
            return Ok(());
        }
        writer.restart().map_err(to_sink)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return writer.commit().map_err(to_sink),
                Ok(n) => {
                    if let Err(e) = writer.write(&buffer[..n]) {
                        let _ = writer.restart();
                        return Err(to_sink(e));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let _ = writer.restart();
                    return Err(damaged(blob, source));
                }
            }
        }
    }

    /// A small blob, verified; `None` if it is absent.
    fn small(&self, blob: &Descriptor, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        if blob.size > limit as u64 {
            return Err(Error::Malformed(format!("{} is larger than {limit} bytes", blob.digest)));
        }
        let reader = match self.open(blob) {
            Ok(reader) => reader,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Blob { digest: blob.digest, source }),
        };
        let mut out = Vec::new();
        let mut reader = VerifyingReader::new(reader, blob.digest, blob.size);
        reader.read_to_end(&mut out).map_err(|source| damaged(blob, source))?;
        Ok(Some(out))
    }
}

fn missing(blob: &Descriptor) -> Error {
    Error::Missing(format!("blob {}", blob.digest))
}

fn damaged(blob: &Descriptor, source: io::Error) -> Error {
    match verify_error(&source) {
        Some(e) => Error::Verify { what: blob.digest.to_string(), source: e.clone() },
        None => Error::Blob { digest: blob.digest, source },
    }
}

/// What a sink or a verifying reader found wrong, behind an error of reading or writing.
fn verify_error(e: &io::Error) -> Option<&digest::VerifyError> {
    e.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Blobs that are taken in at the same time.
const AT_ONCE: usize = 4;

impl BlobSource for Loaded {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        let absent = || io::Error::new(io::ErrorKind::NotFound, format!("there is no blob {}", blob.digest));
        match &self.place {
            Place::Folder(path) => {
                let path = path.join(blob_path(&blob.digest));
                // No pipe or device that would block or never end.
                if !fs::metadata(&path)?.is_file() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the blob is no regular file"));
                }
                Ok(Box::new(File::open(path)?))
            }
            Place::Archive(a) => {
                let extent = a.find(&blob_path(&blob.digest)).ok_or_else(absent)?;
                Ok(Box::new(a.open(extent)))
            }
            Place::Docker(a, blobs) => Ok(Box::new(a.open(*blobs.get(&blob.digest).ok_or_else(absent)?))),
        }
    }
}

const MAX_DEPTH: usize = 4;
const MAX_DOCUMENTS: usize = 10_000;

fn from_layout(place: Place) -> Result<Loaded, Error> {
    let mut loaded = Loaded { images: Vec::new(), place };
    let bytes = match &loaded.place {
        Place::Folder(path) => {
            let path = path.join(INDEX_FILE);
            let fail = |source| Error::Read { path: path.clone(), source };
            let mut out = Vec::new();
            let file = File::open(&path).map_err(fail)?;
            file.take(MAX_MANIFEST_BYTES as u64 + 1).read_to_end(&mut out).map_err(fail)?;
            out
        }
        Place::Archive(a) | Place::Docker(a, _) => {
            a.read(INDEX_FILE, MAX_MANIFEST_BYTES)?.ok_or_else(|| Error::Missing(INDEX_FILE.into()))?
        }
    };
    let index = match Document::parse(&bytes, None) {
        Ok(Document::Index(index)) => index,
        Ok(Document::Manifest(_)) => return Err(Error::Malformed(format!("{INDEX_FILE} is no index"))),
        Err(source) => return Err(Error::Document { what: INDEX_FILE.into(), source }),
    };
    let mut budget = MAX_DOCUMENTS;
    let mut images: Vec<LoadedImage> = Vec::new();
    for entry in &index.value.manifests {
        let annotation = |key: &str| entry.annotations.get(key);
        let ref_name = annotation(REF_NAME).cloned();
        let full = annotation(IMAGE_NAME).or(annotation(REF_NAME).filter(|n| n.contains(['/', ':'])));
        let reference = full.and_then(|n| Reference::parse(n).ok()).map(Reference::with_default_tag);
        let same = |i: &&mut LoadedImage| i.content.digest() == entry.digest && i.ref_name == ref_name;
        if let Some(known) = images.iter_mut().find(same) {
            known.references.extend(reference);
            continue;
        }
        let mut inner = Vec::new();
        let mut missing_entries = Vec::new();
        let what = || format!("manifest {}", entry.digest);
        let top = loaded.document(entry)?.ok_or_else(|| Error::Missing(what()))?;
        if let Document::Index(i) = &top {
            loaded.descend(i, 1, &mut budget, &mut inner, &mut missing_entries)?;
        }
        let mut descriptor = entry.clone();
        descriptor.annotations.retain(|k, _| k != REF_NAME && k != IMAGE_NAME);
        if descriptor.media_type.is_empty() {
            descriptor.media_type = top.media_type().to_string();
        }
        images.push(LoadedImage {
            references: reference.into_iter().collect(),
            ref_name,
            content: Content { descriptor, top, inner },
            missing: missing_entries,
        });
    }
    if let Place::Archive(archive) = &loaded.place {
        name_by_docker(archive, &mut images)?;
    }
    loaded.images = images;
    Ok(loaded)
}

impl Loaded {
    fn document(&self, d: &Descriptor) -> Result<Option<Document>, Error> {
        let Some(bytes) = self.small(d, MAX_MANIFEST_BYTES)? else { return Ok(None) };
        let source_of = |source| Error::Document { what: format!("manifest {}", d.digest), source };
        Document::verify(&bytes, d).map(Some).map_err(source_of)
    }

    fn descend(
        &self,
        index: &Raw<oci::Index>,
        depth: usize,
        budget: &mut usize,
        inner: &mut Vec<Document>,
        missing: &mut Vec<Descriptor>,
    ) -> Result<(), Error> {
        for entry in &index.value.manifests {
            *budget =
                budget.checked_sub(1).ok_or_else(|| Error::Malformed("it has too many manifests".into()))?;
            match self.document(entry)? {
                None => missing.push(entry.clone()),
                Some(Document::Index(_)) if depth == MAX_DEPTH => {
                    let what = format!("index {}", entry.digest);
                    return Err(Error::Document { what, source: DocumentError::SelfReference });
                }
                Some(document) => {
                    if let Document::Index(i) = &document {
                        self.descend(i, depth + 1, budget, inner, missing)?;
                    }
                    inner.push(document);
                }
            }
        }
        Ok(())
    }
}

/// An element of Docker's `manifest.json`, as it is read.
#[derive(Deserialize)]
struct DockerEntryV1 {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags", default)]
    repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers", default)]
    layers: Option<Vec<String>>,
}

impl DockerEntryV1 {
    fn references(&self) -> Vec<Reference> {
        let tags = self.repo_tags.iter().flatten();
        tags.filter_map(|t| Reference::parse(t).ok()).map(Reference::with_default_tag).collect()
    }
}

fn docker_entries(archive: &Archive) -> Result<Vec<DockerEntryV1>, Error> {
    let Some(bytes) = archive.read(DOCKER_FILE, MAX_MANIFEST_BYTES)? else { return Ok(Vec::new()) };
    serde_json::from_slice(&bytes).map_err(|e| Error::Malformed(format!("{DOCKER_FILE}: {e}")))
}

/// Names from `manifest.json` for images of a layout that have none.
fn name_by_docker(archive: &Archive, images: &mut [LoadedImage]) -> Result<(), Error> {
    for entry in docker_entries(archive)? {
        for image in images.iter_mut().filter(|i| i.references.is_empty()) {
            let manifests = image.content.manifests();
            if manifests.iter().any(|m| blob_path(&m.value.config.digest) == entry.config) {
                image.references = entry.references();
            }
        }
    }
    Ok(())
}

fn from_docker(archive: Archive, limits: LoadLimits) -> Result<Loaded, Error> {
    let mut images = Vec::new();
    let mut blobs = BTreeMap::new();
    let mut measured: BTreeMap<Extent, (Descriptor, Digest)> = BTreeMap::new();
    for entry in docker_entries(&archive)? {
        let no_file = |name: &str| Error::Missing(name.chars().take(200).collect());
        let bytes = archive.read(&entry.config, MAX_CONFIG_BYTES)?.ok_or_else(|| no_file(&entry.config))?;
        let what = format!("config {:?}", entry.config.chars().take(100).collect::<String>());
        let config = ImageConfig::parse(&bytes, media::DOCKER_CONFIG)
            .map_err(|source| Error::Json { what: what.clone(), source })?;
        check_name(&entry.config, config.digest, &what)?;
        if let Some(extent) = archive.find(&entry.config) {
            blobs.insert(config.digest, extent);
        }
        let names = entry.layers.clone().unwrap_or_default();
        let diffs = &config.value.rootfs.diff_ids;
        if names.len() != diffs.len() {
            let source = DocumentError::LayerCount { layers: names.len(), diffs: diffs.len() };
            return Err(Error::Document { what, source });
        }
        let mut layers = Vec::new();
        for (index, (name, diff)) in names.iter().zip(diffs).enumerate() {
            let extent = archive.find(name).ok_or_else(|| no_file(name))?;
            let (blob, actual) = match measured.get(&extent) {
                Some(known) => known.clone(),
                None => measure(&archive, extent, limits)?,
            };
            measured.insert(extent, (blob.clone(), actual));
            if actual != diff.0 {
                return Err(Error::DiffId { index, expected: diff.0, actual });
            }
            blobs.insert(blob.digest, extent);
            layers.push(blob);
        }
        let image = mutate::manifest(config, &layers, Format::Docker, BTreeMap::new())
            .map_err(|e| Error::Malformed(e.to_string()))?;
        images.push(LoadedImage {
            references: entry.references(),
            ref_name: None,
            content: Content::image(&image),
            missing: Vec::new(),
        });
    }
    Ok(Loaded { images, place: Place::Docker(archive, blobs) })
}

/// A config whose name is a digest must have that digest.
fn check_name(name: &str, actual: Digest, what: &str) -> Result<(), Error> {
    let stem = name.rsplit('/').next().unwrap_or(name);
    let stem = stem.strip_suffix(".json").unwrap_or(stem);
    match digest::from_hex(stem).map(Digest::from_bytes) {
        Some(expected) if expected != actual => Err(Error::Verify {
            what: what.to_string(),
            source: digest::VerifyError::Digest { expected, actual },
        }),
        _ => Ok(()),
    }
}

/// The descriptor of a stored layer, and the digest of it unpacked.
fn measure(archive: &Archive, extent: Extent, limits: LoadLimits) -> Result<(Descriptor, Digest), Error> {
    let bad = |e: io::Error| match e.get_ref().is_some_and(|e| e.is::<LimitPassed>()) {
        true => Error::TooLarge(limits.unpacked),
        false => Error::Malformed(e.to_string()),
    };
    let mut magic = Vec::new();
    archive.open(extent).take(4).read_to_end(&mut magic).map_err(bad)?;
    let media_type = match magic[..] {
        [0x1f, 0x8b, ..] => media::DOCKER_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => media::DOCKER_LAYER_ZSTD,
        _ => media::DOCKER_LAYER,
    };
    let stored = hash(&mut archive.open(extent)).map_err(bad)?;
    let unpacked = match media_type {
        media::DOCKER_LAYER => stored,
        _ => hash(&mut decompressed(Box::new(archive.open(extent)), limits.unpacked).map_err(bad)?)
            .map_err(bad)?,
    };
    Ok((Descriptor::new(media_type, stored, extent.size), unpacked))
}

fn hash(reader: &mut dyn Read) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hash.finish()),
            Ok(n) => hash.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
