//! Base images: from the local store, a registry, or an OCI layout.

use crate::{Error, ErrorKind, Session};
use oci::{Document, Image, ImageConfig, Platform, Raw, Reference};
use plan::{ImageFact, LookupError, Question};
use std::path::Path;
use store::{Expected, LocalStore, RefTarget};

/// When a registry is asked about a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Only for images that the store does not have.
    #[default]
    IfMissing,
    /// Always (`--pull`).
    Always,
    Never,
}

/// Answer a planner's question.
pub async fn answer(
    session: &Session,
    question: &Question,
    policy: PullPolicy,
) -> Result<ImageFact, LookupError> {
    let found = match question {
        Question::Image { reference, platform } => by_reference(session, reference, platform, policy).await,
        Question::OciLayout { location, platform } => {
            let (session, location, platform) = (session.clone(), location.clone(), platform.clone());
            par::blocking(move || by_layout(&session, &location, &platform)).await
        }
    };
    found.map_err(|e| LookupError { message: e.message, hint: e.hint })
}

async fn by_reference(
    session: &Session,
    name: &str,
    platform: &Platform,
    policy: PullPolicy,
) -> Result<ImageFact, Error> {
    let reference: Reference = name
        .parse()
        .map_err(|e: oci::ParseReferenceError| Error::new(ErrorKind::Recipe, e.to_string()).hint(e.hint()))?;
    if policy != PullPolicy::Always
        && let Some(image) = local_image(&session.store, &reference, platform)?
    {
        return Ok(fact(
            reference.to_string(),
            image,
            graph::ImageOrigin::Registry { repository: reference.repository() },
        ));
    }
    if policy == PullPolicy::Never {
        return Err(Error::new(ErrorKind::NotFound, format!("{} is not in the store", reference.familiar()))
            .hint("pull it first, or leave out --pull=never"));
    }
    let client = (session.registry)()?;
    let resolved = client.image(&reference, platform).await.map_err(|e| {
        let mut error = Error::from(e);
        // A name that is said twice is read twice.
        let cause = match error.message.strip_prefix(&format!("{reference} was ")) {
            Some(rest) => rest,
            None => &error.message,
        };
        error.message = format!("failed to resolve source metadata for {name}: {cause}");
        let suite = reference.tag().map(|t| t.trim_end_matches("-slim"));
        if reference.familiar_name() == "debian" && suite.is_some_and(|s| crate::os_image::DEBIAN_TAGS.contains(&s)) {
            error.hint = Some(format!("without a registry, make the base image from Debian's packages: ctrbuild os-image install {}", reference.familiar()));
        }
        error
    })?;
    let store = session.store.clone();
    let image = resolved.image.clone();
    let top = resolved.top();
    let name = reference.to_string();
    par::blocking(move || -> Result<(), Error> {
        for index in &resolved.indexes {
            store.put_blob(&index.bytes)?;
        }
        put_image(&store, &resolved.image)?;
        let target = RefTarget {
            media_type: top.media_type,
            digest: top.digest,
            size: top.size,
            annotations: Default::default(),
        };
        store.set_ref(&name, target, crate::images::KIND_BASE, &Expected::Any)?;
        Ok(())
    })
    .await?;
    let origin = graph::ImageOrigin::Registry { repository: reference.repository() };
    Ok(fact(reference.to_string(), image, origin))
}

fn fact(reference: String, image: Image, origin: graph::ImageOrigin) -> ImageFact {
    ImageFact { reference, manifest: image.manifest.descriptor(), config: image.config.value, origin }
}

/// What to say of an image that was chosen among those of several Windows versions: on Linux there is no host whose
/// version would tell.
pub fn choice(wanted: &Platform, config: &ImageConfig) -> Option<String> {
    let undecided = wanted.os == "windows" && wanted.os_version.is_none();
    let version = config.os_version.as_deref().filter(|_| undecided)?;
    Some(format!(
        "the image for Windows {version} was chosen, the newest; --platform 'windows(VERSION)/{}' names another one",
        config.architecture
    ))
}

/// Keep an image's documents.
pub fn put_image(store: &LocalStore, image: &Image) -> Result<(), Error> {
    store.put_blob(&image.config.bytes)?;
    store.put_blob(&image.manifest.bytes)?;
    Ok(())
}

/// An image that the store knows by this reference, for this platform. `None` if it has no such.
pub fn local_image(
    store: &LocalStore,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<Image>, Error> {
    let document = match reference.digest() {
        Some(digest) => document(store, digest)?,
        None => match store.get_ref(&reference.to_string())? {
            None => None,
            Some(found) => document(store, &found.target.digest)?,
        },
    };
    match document {
        None => Ok(None),
        Some(document) => image_of(store, document, platform),
    }
}

/// A manifest or index of the store.
pub fn document(store: &LocalStore, digest: &digest::Digest) -> Result<Option<Document>, Error> {
    let bytes = match store.read_blob(digest, oci::MAX_MANIFEST_BYTES as u64) {
        Ok(bytes) => bytes,
        Err(e) if e.is_missing() => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    Document::parse(&bytes, None)
        .map(Some)
        .map_err(|e| Error::world(format!("{digest}: {e}")).maybe_hint(e.hint()))
}

/// The image for a platform behind a document, as far as the store has it.
pub fn image_of(
    store: &LocalStore,
    mut document: Document,
    platform: &Platform,
) -> Result<Option<Image>, Error> {
    for _ in 0..4 {
        match document {
            Document::Index(index) => {
                let Ok(next) = index.value.select(platform) else { return Ok(None) };
                match self::document(store, &next.digest)? {
                    None => return Ok(None),
                    Some(d) => document = d,
                }
            }
            Document::Manifest(manifest) => {
                let Some(config) = config(store, &manifest)? else { return Ok(None) };
                let image = Image::new(*manifest, config)
                    .map_err(|e| Error::world(e.to_string()).maybe_hint(e.hint()))?;
                return Ok(platform.matcher().matches(&image.platform()).then_some(image));
            }
        }
    }
    Ok(None)
}

/// The configuration of a manifest; `None` if the store lacks it.
pub fn config(store: &LocalStore, manifest: &Raw<oci::Manifest>) -> Result<Option<Raw<ImageConfig>>, Error> {
    let blob = &manifest.value.config;
    match store.read_blob(&blob.digest, oci::MAX_CONFIG_BYTES as u64) {
        Ok(bytes) => ImageConfig::parse(&bytes, &blob.media_type)
            .map(Some)
            .map_err(|e| Error::world(format!("configuration {}: {e}", blob.digest))),
        Err(e) if e.is_missing() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// `PATH`, `PATH:TAG` or `PATH@DIGEST`.
fn by_layout(session: &Session, location: &str, platform: &Platform) -> Result<ImageFact, Error> {
    let (path, name) = match location.split_once('@') {
        Some((path, digest)) => (path, Some(digest)),
        None if Path::new(location).exists() => (location, None),
        None => match location.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (location, None),
        },
    };
    let loaded = exporter::open(Path::new(path), &session.store.root().join("tmp"), Default::default())?;
    let image = loaded.image(name, platform)?;
    put_image(&session.store, &image)?;
    let path = std::fs::canonicalize(path).map_err(|e| Error::world(format!("{path}: {e}")))?;
    let origin = graph::ImageOrigin::OciLayout { path: path.to_string_lossy().into_owned() };
    Ok(fact(format!("oci-layout://{location}@{}", image.manifest.digest), image, origin))
}
