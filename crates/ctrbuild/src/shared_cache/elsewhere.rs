//! Images that a cache has whole: sent on without bringing their layers here.

use crate::blobs::{ImageBlobs, Origins};
use crate::{Error, Session};
use digest::CacheKey;
use graph::ImageOrigin;
use oci::Reference;
use std::path::Path;
use std::sync::Arc;
use worker::{BlobOrigin, ImportedCache, RemoteLayer};

/// The layers of `key`, if an imported cache has it, this store has not, and every blob is where the cache
/// says.
pub(crate) async fn elsewhere(
    session: &Session,
    imports: &ImportedCache,
    key: &CacheKey,
) -> Result<Option<Vec<RemoteLayer>>, Error> {
    let Some(layers) = imports.get(key) else { return Ok(None) };
    if session.store.cache_get(key)?.is_some() {
        return Ok(None);
    }
    let there = layers.iter().map(|l| is_there(session, l));
    let there = futures_util::future::join_all(there).await;
    Ok(there.into_iter().all(|t| t).then_some(layers))
}

async fn is_there(session: &Session, layer: &RemoteLayer) -> bool {
    match &layer.origin {
        ImageOrigin::Registry { repository } => match (repository.parse::<Reference>(), (session.registry)())
        {
            (Ok(reference), Ok(client)) => client.has_blob(&reference, &layer.blob).await.unwrap_or(false),
            _ => false,
        },
        ImageOrigin::OciLayout { path } => {
            let blob = Path::new(path).join("blobs/sha256").join(layer.blob.digest.hex());
            std::fs::metadata(blob).is_ok_and(|m| m.len() == layer.blob.size)
        }
        ImageOrigin::Store => matches!(session.store.blob_size(&layer.blob.digest), Ok(Some(_))),
    }
}

/// See to it that the repository of `to` has the blobs of `layers`: mounted from where they are if that is the
/// same registry, else by way of this store.
pub(crate) async fn send(session: &Session, to: &Reference, layers: &[RemoteLayer]) -> Result<(), Error> {
    if layers.is_empty() {
        return Ok(());
    }
    let client = (session.registry)()?;
    let source = Arc::new(ImageBlobs::with_chains(&session.store, Default::default()));
    for layer in layers {
        if let ImageOrigin::Registry { repository } = &layer.origin
            && let Ok(from) = repository.parse::<Reference>()
            && from.domain() == to.domain()
        {
            let from = [from.path().to_string()];
            let mounted = client.push_blob(to, &layer.blob, source.clone(), &from, &registry::Silent).await;
            if mounted.is_ok() {
                continue;
            }
        }
        // Where the registry does not say, the push finds out.
        if !client.has_blob(to, &layer.blob).await.unwrap_or(false) {
            fetch(session, layer).await?;
        }
    }
    Ok(())
}

/// Bring a layer's blob into the store.
pub(super) async fn fetch(session: &Session, layer: &RemoteLayer) -> Result<(), Error> {
    let origins = Origins { registry: session.registry.clone() };
    let silent: Arc<dyn Fn(u64, u64) + Send + Sync> = Arc::new(|_, _| {});
    let fetched = origins.fetch(&session.store, &layer.origin, &layer.blob, None, silent).await;
    fetched.map_err(|e| Error::world(e.message).maybe_hint(e.hint))
}
