//! Pull: index -> manifest -> config and layers, each verified, into a sink.

use crate::client::Client;
use crate::download::Fetched;
use crate::error::Error;
use crate::progress::Progress;
use digest::Digest;
use oci::{
    BlobSink, Descriptor, Document, DocumentError, Image, ImageConfig, Index, MAX_CONFIG_BYTES, Platform,
    Raw, Reference,
};
use par::TaskGroup;
use std::collections::BTreeSet;
use std::sync::Arc;

/// An image that a reference names for a platform: all of it but the layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// With the digest of what the reference named: pinned.
    pub reference: Reference,
    /// The indexes on the way to the manifest, outermost first; empty if the reference named a manifest.
    pub indexes: Vec<Raw<Index>>,
    pub image: Image,
}

impl Resolved {
    /// The document that the reference named: an index or the manifest.
    pub fn top(&self) -> Descriptor {
        self.indexes.first().map_or_else(|| self.image.manifest.descriptor(), Raw::descriptor)
    }
}

/// Indexes in indexes that are followed.
const MAX_DEPTH: usize = 4;

impl Client {
    /// Fetch what is needed to know an image, without its layers: indexes, manifest, config.
    pub async fn image(&self, reference: &Reference, platform: &Platform) -> Result<Resolved, Error> {
        let mut document = self.document(reference).await?;
        let pinned = reference.with_digest(document.digest());
        let mut indexes: Vec<Raw<Index>> = Vec::new();
        let malformed = |source| Error::Document { what: reference.familiar(), source };
        let manifest = loop {
            match document {
                Document::Manifest(m) => break *m,
                Document::Index(index) => {
                    if indexes.len() == MAX_DEPTH || indexes.iter().any(|i| i.digest == index.digest) {
                        return Err(malformed(DocumentError::SelfReference));
                    }
                    let select = |source| Error::Platform { reference: reference.familiar(), source };
                    let next = index.value.select(platform).map_err(select)?.clone();
                    indexes.push(*index);
                    document = self.document_of(reference, &next).await?;
                }
            }
        };
        let blob = &manifest.value.config;
        let bytes = self.blob_bytes(reference, blob, MAX_CONFIG_BYTES).await?;
        let (what, media_type) = (reference.familiar(), blob.media_type.clone());
        let config = par::cpu(move || ImageConfig::parse(&bytes, &media_type))
            .await
            .map_err(|source| Error::Config { what, source })?;
        let image = Image::new(manifest, config).map_err(malformed)?;
        Ok(Resolved { reference: pinned, indexes, image })
    }

    /// Bring the layers of a resolved image into `sink`, at the same time, then its config, manifest and
    /// indexes, so that whoever finds the outer document finds all of it. Idempotent.
    pub async fn fetch(
        &self,
        resolved: &Resolved,
        sink: Arc<dyn BlobSink>,
        progress: Arc<dyn Progress>,
    ) -> Result<(), Error> {
        self.fetch_layers(&resolved.reference, &resolved.image.manifest.value.layers, sink.clone(), progress)
            .await?;
        let image = &resolved.image;
        let mut documents = vec![
            (image.config.descriptor(), image.config.bytes.clone()),
            (image.manifest.descriptor(), image.manifest.bytes.clone()),
        ];
        documents.extend(resolved.indexes.iter().rev().map(|i| (i.descriptor(), i.bytes.clone())));
        par::blocking(move || {
            for (blob, bytes) in documents {
                sink.put(&blob, &bytes).map_err(|source| Error::Sink { digest: blob.digest, source })?;
            }
            Ok(())
        })
        .await
    }

    /// Bring some blobs of a repository into `sink`, at the same time. At the first failure the others are
    /// cancelled; what arrived stays for a later attempt.
    pub async fn fetch_layers(
        &self,
        repository: &Reference,
        layers: &[Descriptor],
        sink: Arc<dyn BlobSink>,
        progress: Arc<dyn Progress>,
    ) -> Result<Vec<Fetched>, Error> {
        let mut seen: BTreeSet<Digest> = BTreeSet::new();
        let mut group = TaskGroup::new();
        for layer in layers.iter().filter(|l| seen.insert(l.digest)) {
            let (client, repository, layer) = (self.clone(), repository.clone(), layer.clone());
            let (sink, progress) = (sink.clone(), progress.clone());
            group.spawn(async move { client.fetch_blob(&repository, &layer, sink, &*progress).await });
        }
        group.all().await
    }

    /// [`Client::image`], then [`Client::fetch`].
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        sink: Arc<dyn BlobSink>,
        progress: Arc<dyn Progress>,
    ) -> Result<Resolved, Error> {
        let resolved = self.image(reference, platform).await?;
        self.fetch(&resolved, sink, progress).await?;
        Ok(resolved)
    }
}
