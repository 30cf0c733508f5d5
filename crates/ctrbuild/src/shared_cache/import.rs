//! `--cache-from`: read what caches have; their layers are fetched later, as they are needed.

use super::format::{self, CacheV1};
use super::{CachePlace, CacheSource};
use crate::{BuildObserver, Error, ErrorKind, Session};
use graph::ImageOrigin;
use oci::{BlobSource, Content, Manifest};
use std::io::Read;
use std::path::Path;
use worker::{ImportedCache, RemoteLayer};

/// What the caches of `sources` have, the first ones first. One that can't be read is told to the observer and
/// left out: a build must not depend on a cache.
pub(crate) async fn import(
    session: &Session,
    sources: &[CacheSource],
    observer: &dyn BuildObserver,
) -> ImportedCache {
    let read = sources.iter().map(|source| read(session, source));
    let mut out = ImportedCache::default();
    for (source, found) in sources.iter().zip(futures_util::future::join_all(read).await) {
        match found {
            Ok(caches) => caches.into_iter().for_each(|(layers, cache)| add(&mut out, layers, cache)),
            Err(e) => observer.note(&format!("no cache from {}: {}", source.place, e.message)),
        }
    }
    out
}

fn add(out: &mut ImportedCache, layers: Vec<RemoteLayer>, cache: CacheV1) {
    out.add(layers, cache.records.into_iter().map(|r| (r.keys, r.op, r.layers)));
}

async fn read(session: &Session, source: &CacheSource) -> Result<Vec<(Vec<RemoteLayer>, CacheV1)>, Error> {
    match &source.place {
        CachePlace::Registry(reference) => {
            let client = (session.registry)()?;
            let content = client.content(reference).await?;
            let origin = ImageOrigin::Registry { repository: reference.repository() };
            let mut out = Vec::new();
            for manifest in caches(&content)? {
                let bytes = client.blob_bytes(reference, &manifest.config, format::MAX_BYTES).await?;
                out.push(cache(manifest, &bytes, &origin)?);
            }
            Ok(out)
        }
        CachePlace::Folder { path, tag } => {
            let (path, tag, scratch) = (path.clone(), tag.clone(), session.store.root().join("tmp"));
            par::blocking(move || read_folder(&path, &tag, &scratch)).await
        }
    }
}

fn read_folder(path: &Path, tag: &str, scratch: &Path) -> Result<Vec<(Vec<RemoteLayer>, CacheV1)>, Error> {
    let failed = |e: std::io::Error| Error::world(format!("can't read {}: {e}", path.display()));
    let whole = std::fs::canonicalize(path).map_err(failed)?;
    let loaded = exporter::open(&whole, scratch, Default::default())?;
    let origin = ImageOrigin::OciLayout { path: whole.to_string_lossy().into_owned() };
    let mut out = Vec::new();
    for manifest in caches(&loaded.find(Some(tag))?.content)? {
        let blob = &manifest.config;
        if blob.size > format::MAX_BYTES as u64 {
            return Err(Error::world(format!("{} is larger than {} bytes", blob.digest, format::MAX_BYTES)));
        }
        let mut bytes = Vec::new();
        let reader = digest::VerifyingReader::new(loaded.open(blob).map_err(failed)?, blob.digest, blob.size);
        reader.take(format::MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        out.push(cache(manifest, &bytes, &origin)?);
    }
    Ok(out)
}

/// The manifests that are caches.
fn caches(content: &Content) -> Result<Vec<&Manifest>, Error> {
    let all = content.manifests().into_iter().map(|m| &m.value);
    let caches: Vec<&Manifest> = all.filter(|m| m.config.media_type == format::CONFIG).collect();
    if caches.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "this is no cache of ctrbuild"));
    }
    Ok(caches)
}

fn cache(
    manifest: &Manifest,
    bytes: &[u8],
    origin: &ImageOrigin,
) -> Result<(Vec<RemoteLayer>, CacheV1), Error> {
    let malformed = |what: String| Error::world(format!("cache {}: {what}", manifest.config.digest));
    let cache = format::parse(bytes).map_err(malformed)?;
    if cache.layers.len() != manifest.layers.len() {
        return Err(malformed(format!(
            "it tells of {} layers, but its manifest has {}",
            cache.layers.len(),
            manifest.layers.len()
        )));
    }
    let layers = cache.layers.iter().zip(&manifest.layers).map(|(layer, blob)| RemoteLayer {
        diff_id: layer.diff_id,
        blob: blob.clone(),
        origin: origin.clone(),
        created: Some(layer.created),
    });
    Ok((layers.collect(), cache))
}
