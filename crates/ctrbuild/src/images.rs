//! Images in the store: names, listing, history, push, load, save, import.

mod lineage;
mod removal;

pub use lineage::{Node, forest, parents};
pub use removal::{RemovedName, remove};

use crate::blobs::{ImageBlobs, StoreSink};
use crate::compose::{self, Compression, Recompress};
use crate::{Error, ErrorKind, Session, lookup};
use digest::{DiffId, Digest};
use oci::media::Format;
use oci::{Content, Document, Image, ImageConfig, Platform, Reference};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use store::{Expected, LayerRecordV1, LocalStore, RefTarget, RefV1, SnapshotMeta};

/// Kind of references that name pulled or installed images.
pub const KIND_BASE: &str = "base";
/// Kind of references that name images built or imported here.
pub const KIND_DERIVED: &str = "image";
/// Untagged images are kept under this name and their digest, so that they can be found and collected.
const UNTAGGED: &str = "<none>@";

/// Parse a name as people write it.
pub fn parse_name(name: &str) -> Result<Reference, Error> {
    name.parse::<Reference>().map(Reference::with_default_tag).map_err(|e| {
        Error::new(ErrorKind::Recipe, format!("invalid reference format: {name:?}: {e}")).hint(e.hint())
    })
}

/// One line of `images`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// `None` for untagged images.
    pub reference: Option<Reference>,
    /// Digest of the configuration; of the index where there are several platforms.
    pub id: Digest,
    /// Digest of the manifest or index.
    pub digest: Digest,
    pub kind: String,
    pub platforms: Vec<Platform>,
    /// RFC 3339.
    pub created: Option<String>,
    /// Bytes of all layers, uncompressed where that is known.
    pub size: u64,
    /// Who publishes it, and its version, as its labels (OCI image spec, annotations.md) or its author say.
    pub publisher: Option<String>,
    pub version: Option<String>,
    /// Layers by diff id, with their bytes.
    pub layers: Vec<(DiffId, u64)>,
}

/// All images, by name.
pub fn list(store: &LocalStore) -> Result<Vec<Listed>, Error> {
    describe_all(store, store.list_refs()?)
}

/// The images of some repositories whose names are `wanted`, by name. No others are looked at.
pub fn list_named(
    store: &LocalStore,
    repositories: &BTreeSet<String>,
    wanted: impl Fn(&Reference) -> bool,
) -> Result<Vec<Listed>, Error> {
    let mut refs = Vec::new();
    for repository in repositories {
        let named = store.list_refs_below(repository)?.into_iter();
        refs.extend(named.filter(|found| {
            found.name.parse::<Reference>().is_ok_and(|r| r.repository() == *repository && wanted(&r))
        }));
    }
    describe_all(store, refs)
}

fn describe_all(store: &LocalStore, refs: Vec<RefV1>) -> Result<Vec<Listed>, Error> {
    let mut out = Vec::new();
    for found in refs {
        if let Some(listed) = describe(store, &found)? {
            out.push(listed);
        }
    }
    Ok(out)
}

fn describe(store: &LocalStore, found: &RefV1) -> Result<Option<Listed>, Error> {
    let Some(document) = lookup::document(store, &found.target.digest)? else { return Ok(None) };
    let images = images_of(store, &document)?;
    let id = match images.as_slice() {
        [only] => only.id(),
        _ => found.target.digest,
    };
    let layers: Vec<(DiffId, u64)> = images.iter().flat_map(|i| layer_sizes(store, i)).collect();
    let first = images.first().map(|i| &i.config.value);
    let label = |name: &str| first.and_then(|c| c.config.labels.get(name)).filter(|v| !v.is_empty()).cloned();
    let author = || first.map(|c| c.author.clone()).filter(|a| !a.is_empty());
    Ok(Some(Listed {
        reference: (!found.name.starts_with(UNTAGGED)).then(|| found.name.parse().ok()).flatten(),
        id,
        digest: found.target.digest,
        kind: found.kind.clone(),
        platforms: images.iter().map(Image::platform).collect(),
        created: first.and_then(|c| c.created.clone()),
        size: layers.iter().map(|(_, bytes)| bytes).sum(),
        publisher: label(crate::containers::PUBLISHER).or_else(author),
        version: label(crate::containers::VERSION),
        layers,
    }))
}

/// All images behind a document that the store has.
pub fn images_of(store: &LocalStore, document: &Document) -> Result<Vec<Image>, Error> {
    match document {
        Document::Manifest(manifest) => {
            let Some(config) = lookup::config(store, manifest)? else { return Ok(Vec::new()) };
            Image::new((**manifest).clone(), config).map(|i| vec![i]).map_err(|e| Error::world(e.to_string()))
        }
        Document::Index(index) => {
            let mut out = Vec::new();
            for entry in index.value.images() {
                if let Some(inner) = lookup::document(store, &entry.digest)? {
                    out.extend(images_of(store, &inner)?);
                }
            }
            Ok(out)
        }
    }
}

/// Bytes of an image's layers.
pub fn image_size(store: &LocalStore, image: &Image) -> u64 {
    layer_sizes(store, image).map(|(_, bytes)| bytes).sum()
}

fn layer_sizes(store: &LocalStore, image: &Image) -> impl Iterator<Item = (DiffId, u64)> {
    let layers = image.manifest.value.layers.iter().zip(&image.config.value.rootfs.diff_ids);
    layers.map(|(blob, diff)| (*diff, layer_size(store, blob, diff)))
}

/// Bytes of a layer, uncompressed where that is known.
fn layer_size(store: &LocalStore, blob: &oci::Descriptor, diff: &digest::DiffId) -> u64 {
    store.layer_size(diff).ok().flatten().unwrap_or(blob.size)
}

/// What a name, an id or the start of one means.
#[derive(Debug, Clone)]
pub struct Found {
    /// The references that lead to it; the one that was named comes first.
    pub refs: Vec<RefV1>,
    pub document: Document,
}

/// Find an image by name, digest, or at least four digits of an id.
pub fn find(store: &LocalStore, name: &str) -> Result<Found, Error> {
    if let Ok(reference) = name.parse::<Reference>().map(Reference::with_default_tag)
        && let Some(found) = store.get_ref(&reference.to_string())?
        && let Some(document) = lookup::document(store, &found.target.digest)?
    {
        return Ok(Found { refs: vec![found], document });
    }
    let digits =
        name.strip_prefix("sha256:").or_else(|| name.split_once("@sha256:").map(|(_, d)| d)).unwrap_or(name);
    let mut matches: BTreeMap<Digest, Found> = BTreeMap::new();
    if digits.len() >= 4 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        for found in store.list_refs()? {
            let Some(document) = lookup::document(store, &found.target.digest)? else { continue };
            let mut ids = vec![found.target.digest];
            ids.extend(images_of(store, &document)?.iter().map(Image::id));
            if ids.iter().any(|id| id.hex().starts_with(&digits.to_ascii_lowercase())) {
                let entry =
                    matches.entry(found.target.digest).or_insert(Found { refs: Vec::new(), document });
                entry.refs.push(found);
            }
        }
    }
    let mut matches = matches.into_values();
    match (matches.next(), matches.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => {
            Err(Error::new(ErrorKind::NotFound, format!("{name} is the start of several image ids"))
                .hint("give more digits"))
        }
        (None, _) => Err(not_found(store, name)),
    }
}

fn not_found(store: &LocalStore, name: &str) -> Error {
    let Ok(reference) = parse_name(name) else {
        return Error::new(ErrorKind::NotFound, format!("no such image: {name}"));
    };
    let error =
        Error::new(ErrorKind::NotFound, format!("Unable to find image '{}' locally", reference.familiar()));
    let repository = reference.repository();
    let tags: Vec<String> = store
        .list_refs_below(&repository)
        .unwrap_or_default()
        .iter()
        .filter_map(|r| r.name.parse::<Reference>().ok())
        .filter(|r| r.repository() == repository)
        .map(|r| r.familiar())
        .collect();
    match tags.as_slice() {
        [] => error.hint(format!("pull it: ctrbuild pull {}", reference.familiar())),
        [tag, ..] => error.hint(format!(
            "there is {}; name it so: ctrbuild tag {tag} {}",
            tags.join(", "),
            reference.familiar()
        )),
    }
}

pub(crate) fn target(document: &Document) -> RefTarget {
    RefTarget {
        media_type: document.media_type().to_string(),
        digest: document.digest(),
        size: document.bytes().len() as u64,
        annotations: BTreeMap::new(),
    }
}

/// Give an image another name.
pub fn tag(store: &LocalStore, source: &str, name: &str) -> Result<Reference, Error> {
    let found = find(store, source)?;
    let name = parse_name(name)?;
    if name.digest().is_some() {
        return Err(Error::new(ErrorKind::Recipe, "refusing to create a tag with a digest reference"));
    }
    let kind = found.refs.first().map_or(KIND_DERIVED, |r| r.kind.as_str());
    store.set_ref(&name.to_string(), target(&found.document), kind, &Expected::Any)?;
    Ok(name)
}

/// Keep an image that has no name under its digest.
pub fn keep_untagged(session: &Session, content: &Content) -> Result<(), Error> {
    let digest = content.top.digest();
    let name = format!("{UNTAGGED}{digest}");
    if session.store.get_ref(&name)?.is_some() || session.store.is_named(&digest)? {
        // Already kept; a sealed store is still due.
        session.store.seal_batch()?;
        return Ok(());
    }
    session.store.set_ref(&name, target(&content.top), KIND_DERIVED, &Expected::Any)?;
    Ok(())
}

/// Forget images that have no name. Returns how many.
pub fn remove_untagged(store: &LocalStore) -> Result<usize, Error> {
    let mut count = 0;
    for found in store.list_refs_below(UNTAGGED)? {
        count += usize::from(store.delete_ref(&found.name, &Expected::Digest(found.target.digest))?);
    }
    Ok(count)
}

/// The image for a platform behind a name.
pub fn image(session: &Session, name: &str, platform: Option<&Platform>) -> Result<Image, Error> {
    let found = find(&session.store, name)?;
    let images = images_of(&session.store, &found.document)?;
    let platform = platform.unwrap_or(&session.host);
    let matcher = platform.matcher();
    match images.as_slice() {
        [only] => Ok(only.clone()),
        _ => images
            .into_iter()
            .find(|i| matcher.matches(&i.platform()))
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{name} has no image for {platform}"))),
    }
}

/// One line of `history`, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryLine {
    pub created: Option<String>,
    pub created_by: String,
    pub size: u64,
    pub comment: String,
}

/// The history of an image, newest first.
pub fn history(session: &Session, name: &str) -> Result<(Digest, Vec<HistoryLine>), Error> {
    let image = image(session, name, None)?;
    let config = &image.config.value;
    let mut layers = image.manifest.value.layers.iter().zip(&config.rootfs.diff_ids);
    let mut out = Vec::with_capacity(config.history.len());
    for entry in &config.history {
        let size = if entry.empty_layer {
            0
        } else {
            layers.next().map_or(0, |(blob, diff)| layer_size(&session.store, blob, diff))
        };
        out.push(HistoryLine {
            created: entry.created.clone(),
            created_by: entry.created_by.clone(),
            size,
            comment: entry.comment.clone(),
        });
    }
    out.reverse();
    Ok((image.id(), out))
}

/// Pull a reference for a platform, layers and all.
pub async fn pull(
    session: &Session,
    reference: &Reference,
    platform: &Platform,
    progress: Arc<dyn registry::Progress>,
) -> Result<registry::Resolved, Error> {
    let client = (session.registry)()?;
    let sink = Arc::new(StoreSink::new(&session.store));
    let resolved = client.pull(reference, platform, sink, progress).await?;
    let store = session.store.clone();
    let name = reference.to_string();
    par::blocking(move || -> Result<registry::Resolved, Error> {
        let top = resolved.top();
        let target = RefTarget {
            media_type: top.media_type,
            digest: top.digest,
            size: top.size,
            annotations: BTreeMap::new(),
        };
        // So that a layer which is lost later is not taken for one that was never here.
        remember_layers(&store, &resolved.image)?;
        store.set_ref(&name, target, KIND_BASE, &Expected::Any)?;
        Ok(resolved)
    })
    .await
}

/// Push an image that the store has under a name. Layers are packed first where they are not, and those that are in
/// another form too, if a compression is named.
pub async fn push(
    session: &Session,
    source: &str,
    to: &Reference,
    compression: Option<Compression>,
    progress: Arc<dyn registry::Progress>,
) -> Result<Content, Error> {
    let (of, name) = (session.clone(), source.to_string());
    let content = par::blocking(move || packed(&of.store, &name, compression)).await?;
    push_content(session, to, &content, progress).await?;
    Ok(content)
}

/// The content behind a name with every layer as a blob. Blocks for as long as it compresses.
fn packed(store: &LocalStore, name: &str, compression: Option<Compression>) -> Result<Content, Error> {
    let found = find(store, name)?;
    let images = images_of(store, &found.document)?;
    let complete =
        |i: &Image| i.manifest.value.layers.iter().all(|l| matches!(store.blob_size(&l.digest), Ok(Some(_))));
    if compression.is_none() && images.iter().all(complete) {
        return content_of(store, &found.document);
    }
    let (compression, recompress) = match compression {
        Some(compression) => (compression, Recompress::All),
        None => (Compression::Gzip { level: None }, Recompress::None),
    };
    let packed = images
        .iter()
        .map(|i| {
            let annotations = i.manifest.value.annotations.clone();
            compose::pack(store, i, compression, recompress, Format::Oci, annotations)
        })
        .collect::<Result<Vec<_>, _>>()?;
    crate::export::content(store, &packed, &crate::Output::store())
}

/// A document with all that it reaches and the store has.
pub fn content_of(store: &LocalStore, document: &Document) -> Result<Content, Error> {
    match document {
        Document::Manifest(_) => {
            let images = images_of(store, document)?;
            images.first().map(Content::image).ok_or_else(|| {
                Error::world("the image's configuration is missing in the store")
                    .hint("run `ctrbuild store verify --repair`, then try again")
            })
        }
        Document::Index(index) => {
            let mut manifests = Vec::new();
            for entry in &index.value.manifests {
                if let Some(Document::Manifest(m)) = lookup::document(store, &entry.digest)? {
                    manifests.push(*m);
                }
            }
            Ok(Content::index((**index).clone(), manifests))
        }
    }
}

/// Send content to a registry.
pub async fn push_content(
    session: &Session,
    to: &Reference,
    content: &Content,
    progress: Arc<dyn registry::Progress>,
) -> Result<(), Error> {
    let client = (session.registry)()?;
    let source = Arc::new(ImageBlobs::of(&session.store, [content])?);
    let mut mounts = registry::MountHints::new();
    for found in session.store.list_refs_below(&format!("{}/", to.domain()))? {
        let Ok(other) = found.name.parse::<Reference>() else { continue };
        if found.kind != KIND_BASE || other.path() == to.path() {
            continue;
        }
        if let Some(document) = lookup::document(&session.store, &found.target.digest)? {
            for image in images_of(&session.store, &document)? {
                for layer in &image.manifest.value.layers {
                    mounts.entry(layer.digest).or_default().insert(other.path().to_string());
                }
            }
        }
    }
    client.push(to, content, source, &mounts, progress).await?;
    Ok(())
}

/// What an archive brought in.
#[derive(Debug, Clone)]
pub struct LoadedName {
    pub references: Vec<Reference>,
    pub digest: Digest,
}

/// Load an archive or layout. A tag that means another image already is moved only with `force`.
pub fn load(session: &Session, source: LoadSource<'_>, force: bool) -> Result<Vec<LoadedName>, Error> {
    let scratch = session.store.root().join("tmp");
    let loaded = match source {
        LoadSource::Path(path) => exporter::open(path, &scratch, Default::default())?,
        LoadSource::Stream(reader) => exporter::open_reader(reader, &scratch, Default::default())?,
    };
    for image in loaded.images() {
        for reference in &image.references {
            if let Some(old) = session.store.get_ref(&reference.to_string())?
                && old.target.digest != image.content.digest()
                && !force
            {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "{} is another image already ({})",
                        reference.familiar(),
                        old.target.digest.short()
                    ),
                )
                .hint("use --force to move the name to the loaded image"));
            }
        }
    }
    let sink = StoreSink::new(&session.store);
    loaded.ingest(loaded.images(), &sink)?;
    let mut out = Vec::new();
    for image in loaded.images() {
        for inner in images_of(&session.store, &image.content.top)? {
            remember_layers(&session.store, &inner)?;
        }
        for reference in &image.references {
            session.store.set_ref(
                &reference.to_string(),
                target(&image.content.top),
                KIND_DERIVED,
                &Expected::Any,
            )?;
        }
        if image.references.is_empty() {
            keep_untagged(session, &image.content)?;
        }
        out.push(LoadedName { references: image.references.clone(), digest: image.content.digest() });
    }
    Ok(out)
}

/// Where an archive is.
pub enum LoadSource<'a> {
    Path(&'a Path),
    Stream(Box<dyn Read + Send>),
}

/// Note which blobs are which layers, so that they are not fetched again.
pub(crate) fn remember_layers(store: &LocalStore, image: &Image) -> Result<(), Error> {
    for (blob, diff) in image.manifest.value.layers.iter().zip(&image.config.value.rootfs.diff_ids) {
        let stored = store::LayerBlobV1 {
            media_type: blob.media_type.clone(),
            digest: blob.digest,
            size: blob.size,
            annotations: blob.annotations.clone(),
        };
        store.put_layer(LayerRecordV1 {
            diff_id: *diff,
            size: None,
            snapshot: None,
            blobs: vec![stored],
            created: 0,
        })?;
    }
    Ok(())
}

/// Save images to an archive: an OCI layout that docker and podman load too.
pub fn save(
    session: &Session,
    names: &[String],
    dest: &crate::export::Destination,
    docker: bool,
    compression: Option<Compression>,
) -> Result<(), Error> {
    let (named, source) = to_save(session, names, compression)?;
    crate::export::write_file(dest, |out| {
        match docker {
            true => exporter::write_docker_archive(out, &named, &source).map(|_| ())?,
            false => exporter::write_oci_archive(out, &named, &source).map(|_| ())?,
        }
        Ok(())
    })
}

/// Save images to a folder, as an OCI layout; one that is there keeps its other images.
pub fn save_layout(
    session: &Session,
    names: &[String],
    folder: &Path,
    compression: Option<Compression>,
) -> Result<(), Error> {
    let (named, source) = to_save(session, names, compression)?;
    Ok(exporter::write_layout(folder, &named, &source)?)
}

/// What is to be saved, and where its blobs are.
fn to_save(
    session: &Session,
    names: &[String],
    compression: Option<Compression>,
) -> Result<(Vec<exporter::Named>, ImageBlobs), Error> {
    let mut named: BTreeMap<Digest, exporter::Named> = BTreeMap::new();
    for name in names {
        let found = find(&session.store, name)?;
        for image in images_of(&session.store, &found.document)? {
            let missing =
                image.manifest.value.layers.iter().zip(&image.config.value.rootfs.diff_ids).any(|(l, d)| {
                    !matches!(session.store.blob_size(&l.digest), Ok(Some(_)))
                        && !matches!(session.store.layer(d), Ok(Some(r)) if r.snapshot.is_some())
                });
            if missing {
                return Err(Error::new(ErrorKind::NotFound, format!("{name} is not complete in the store"))
                    .hint(format!("fetch its layers first: ctrbuild pull {name}")));
            }
        }
        let content = match compression {
            Some(_) => packed(&session.store, name, compression)?,
            None => content_of(&session.store, &found.document)?,
        };
        let entry = named
            .entry(content.digest())
            .or_insert_with(|| exporter::Named { references: Vec::new(), content });
        entry.references.extend(found.refs.iter().filter_map(|r| r.name.parse::<Reference>().ok()));
    }
    let named: Vec<exporter::Named> = named.into_values().collect();
    let source = ImageBlobs::of(&session.store, named.iter().map(|n| &n.content))?;
    Ok((named, source))
}

/// Make an image of one layer, with a configuration, from a tar of a root file system, packed or not. `created` is in
/// seconds since 1970.
pub fn import(
    session: &Session,
    tar: impl Read + Send,
    name: &Reference,
    mut config: ImageConfig,
    created_by: &str,
    created: i64,
) -> Result<Image, Error> {
    let (plain, _) = layer::decompress::decompress(tar, Default::default())
        .map_err(|e| Error::world(format!("can't read the archive: {e}")))?;
    config.created = Some(oci::rfc3339(created, 0));
    config.history.push(oci::History {
        created: config.created.clone(),
        created_by: created_by.to_string(),
        comment: "Imported from a tar".into(),
        ..oci::History::default()
    });
    from_folder(session, name, KIND_DERIVED, config, |folder, _| {
        // The layer is packed anew afterwards: imported tars have odd entries, and ours must round-trip.
        let report = layer::unpack::apply(plain, folder, &worker::unpack_options())
            .map_err(|e| unpacking(&session.store, e))?;
        match report.entries {
            0 => Err(Error::new(ErrorKind::Recipe, "the archive is empty")
                .hint("give a tar of a root file system")),
            _ => Ok(()),
        }
    })
}

/// The error names paths of the archive; where it is about the disk, the store is what counts.
fn unpacking(store: &LocalStore, e: layer::Error) -> Error {
    let full = e.is_no_space();
    let mut error = Error::from(e);
    if full {
        error.message = format!("no space left in the store {}: {}", store.root().display(), error.message);
    }
    error
}

/// Make an image of one layer from a snapshot folder that `fill` fills with a root file system.
pub fn from_folder(
    session: &Session,
    name: &Reference,
    kind: &str,
    mut config: ImageConfig,
    fill: impl FnOnce(&Path, &mut ImageConfig) -> Result<(), Error>,
) -> Result<Image, Error> {
    let store = &session.store;
    let active = store.prepare()?;
    fill(&active.upper(), &mut config)?;
    let form = worker::windows::form_of(&config.os);
    let stats = layer::pack::diff_id(&active.upper(), &[], &worker::pack_options(form))?;
    let meta = SnapshotMeta {
        diff_id: Some(stats.diff_id),
        tar_size: Some(stats.size),
        ..worker::windows::meta(form)
    };
    let id = store.commit(active, meta)?;
    store.put_layer(LayerRecordV1 {
        diff_id: stats.diff_id,
        size: Some(stats.size),
        snapshot: Some(id),
        blobs: Vec::new(),
        created: 0,
    })?;
    config.rootfs.diff_ids = vec![stats.diff_id];
    let image = compose::local(store, &config, Format::Oci)?;
    store.set_ref(
        &name.to_string(),
        target(&Document::Manifest(Box::new(image.manifest.clone()))),
        kind,
        &Expected::Any,
    )?;
    Ok(image)
}
