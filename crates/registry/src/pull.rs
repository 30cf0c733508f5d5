//! Pull: index -> manifest -> config and layers, each verified, into a sink.

use crate::client::Client;
use crate::download::Fetched;
use crate::error::Error;
use crate::progress::Progress;
use digest::Digest;
use oci::{
    BlobSink, Content, Descriptor, Document, DocumentError, Image, ImageConfig, Index, MAX_CONFIG_BYTES,
    Platform, Raw, Reference,
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
/// Documents behind one reference.
const MAX_DOCUMENTS: usize = 10_000;

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
        par::blocking(move || put_all(&*sink, documents)).await
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

    /// All documents behind a reference, for every platform, attestations too; no configs or layers yet.
    pub async fn content(&self, reference: &Reference) -> Result<Content, Error> {
        let top = self.document(reference).await?;
        let malformed = |source| Error::Document { what: reference.familiar(), source };
        let mut inner: Vec<Document> = Vec::new();
        let mut level = vec![top.clone()];
        for depth in 0.. {
            let entries = level.iter().flat_map(|d| match d {
                Document::Index(i) => i.value.manifests.clone(),
                Document::Manifest(_) => Vec::new(),
            });
            let mut seen: BTreeSet<Digest> = inner.iter().chain([&top]).map(Document::digest).collect();
            let entries: Vec<Descriptor> = entries.filter(|e| seen.insert(e.digest)).collect();
            if entries.is_empty() {
                break;
            }
            if depth == MAX_DEPTH || inner.len() + entries.len() > MAX_DOCUMENTS {
                return Err(malformed(DocumentError::SelfReference));
            }
            let mut group = TaskGroup::new();
            for entry in entries {
                let (client, reference) = (self.clone(), reference.clone());
                group.spawn(async move {
                    let _permit = client.limits.pull().await;
                    client.document_of(&reference, &entry).await
                });
            }
            level = group.all().await?;
            level.sort_by_key(Document::digest);
            // Deeper documents come first: nothing comes before what it reaches.
            inner.splice(0..0, level.iter().cloned());
        }
        Ok(Content { descriptor: top.descriptor(), top, inner })
    }

    /// Bring a whole content into `sink`: blobs at the same time, then documents, innermost first.
    pub async fn fetch_content(
        &self,
        repository: &Reference,
        content: &Content,
        sink: Arc<dyn BlobSink>,
        progress: Arc<dyn Progress>,
    ) -> Result<(), Error> {
        self.fetch_layers(repository, &content.blobs(), sink.clone(), progress).await?;
        let documents: Vec<_> =
            content.documents().iter().map(|d| (d.descriptor(), d.bytes().clone())).collect();
        par::blocking(move || put_all(&*sink, documents)).await
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

fn put_all(sink: &dyn BlobSink, documents: Vec<(Descriptor, Arc<[u8]>)>) -> Result<(), Error> {
    for (blob, bytes) in documents {
        sink.put(&blob, &bytes).map_err(|source| Error::Sink { digest: blob.digest, source })?;
    }
    Ok(())
}
