//! A document together with the documents that it reaches: what is pushed, saved or loaded as one.

use crate::{Descriptor, Document, Image, Index, Manifest, Raw};
use digest::Digest;
use std::collections::BTreeSet;

/// One image or one index with its images. Documents keep their original bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// How an outer index refers to `top`: with a platform where it is an image.
    pub descriptor: Descriptor,
    pub top: Document,
    /// What `top` reaches, innermost first; empty for a lone image.
    pub inner: Vec<Document>,
}

impl Content {
    /// A lone image.
    pub fn image(image: &Image) -> Self {
        Content {
            descriptor: image.descriptor(),
            top: Document::Manifest(Box::new(image.manifest.clone())),
            inner: Vec::new(),
        }
    }
    /// A manifest that is no image.
    pub fn artifact(manifest: Raw<Manifest>) -> Self {
        Content {
            descriptor: manifest.descriptor(),
            top: Document::Manifest(Box::new(manifest)),
            inner: Vec::new(),
        }
    }
    /// An index with its manifests (images and attestations).
    pub fn index(index: Raw<Index>, manifests: Vec<Raw<Manifest>>) -> Self {
        Content {
            descriptor: index.descriptor(),
            top: Document::Index(Box::new(index)),
            inner: manifests.into_iter().map(|m| Document::Manifest(Box::new(m))).collect(),
        }
    }
    /// The digest under which it is found.
    pub fn digest(&self) -> Digest {
        self.top.digest()
    }
    /// All documents, each once, in an order in which no document comes before what it reaches.
    pub fn documents(&self) -> Vec<&Document> {
        let mut seen = BTreeSet::new();
        self.inner.iter().chain([&self.top]).filter(|d| seen.insert(d.digest())).collect()
    }
    /// All manifests, each once.
    pub fn manifests(&self) -> Vec<&Raw<Manifest>> {
        let documents = self.documents().into_iter();
        documents
            .filter_map(|d| match d {
                Document::Manifest(m) => Some(&**m),
                Document::Index(_) => None,
            })
            .collect()
    }
    /// Layers and configs, each once.
    pub fn blobs(&self) -> Vec<Descriptor> {
        let mut seen = BTreeSet::new();
        let blobs = self.manifests().into_iter().flat_map(|m| m.value.layers.iter().chain([&m.value.config]));
        blobs.filter(|b| seen.insert(b.digest)).cloned().collect()
    }
}
