//! What a repair of the store can't do by itself: bring lost blobs of named images back from where those
//! names say they are.
//!
//! A layer that is left unpacked is not lost: it is packed anew when it is sent. Bytes are taken by digest
//! only, so a registry whose tag has moved on still mends, and can't change, what is here.

use crate::blobs::StoreSink;
use crate::images::{KIND_BASE, images_of, remember_layers};
use crate::{Error, Session, lookup};
use digest::{DiffId, Digest};
use oci::{Descriptor, Document, Reference};
use std::collections::BTreeSet;
use std::sync::Arc;
use store::{Finding, LocalStore, RefV1, VerifyReport};

/// What was mended, and what was not, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mended {
    pub fetched: Vec<Digest>,
    /// Whole only as unpacked files now.
    pub unpacked: Vec<Digest>,
    /// `name lacks digest: why`.
    pub lost: Vec<String>,
}

/// What a verification found damaged or gone.
struct Lost {
    blobs: BTreeSet<Digest>,
    layers: BTreeSet<DiffId>,
}

impl Lost {
    fn of(report: &VerifyReport) -> Lost {
        let mut lost = Lost { blobs: BTreeSet::new(), layers: BTreeSet::new() };
        for finding in &report.findings {
            match finding {
                Finding::DamagedBlob { digest }
                | Finding::UnreadableBlob { digest, .. }
                | Finding::DanglingRef { digest, .. }
                | Finding::LostConfig { digest, .. } => drop(lost.blobs.insert(*digest)),
                Finding::UselessLayer { diff_id } => drop(lost.layers.insert(*diff_id)),
                _ => {}
            }
        }
        lost
    }
}

/// Fetch again what `report`, of a repair, says is lost of images with a name.
pub async fn mend(session: &Session, report: &VerifyReport) -> Result<Mended, Error> {
    let lost = Lost::of(report);
    let mut mended = Mended::default();
    for found in session.store.list_refs()? {
        let target =
            Descriptor::new(found.target.media_type.as_str(), found.target.digest, found.target.size);
        let mut todo = vec![target];
        while let Some(descriptor) = todo.pop() {
            let document = match lookup::document(&session.store, &descriptor.digest) {
                Ok(Some(document)) => document,
                _ => match fetch_document(session, &found, &descriptor).await {
                    Ok(document) => {
                        mended.fetched.push(descriptor.digest);
                        document
                    }
                    Err(e) => {
                        mended.lost.push(lacks(&found, &descriptor.digest, &e));
                        continue;
                    }
                },
            };
            match &document {
                // Platforms that were never pulled are not lost.
                Document::Index(index) => todo.extend(
                    index.value.manifests.iter().filter(|m| is_wanted(&session.store, m, &lost)).cloned(),
                ),
                Document::Manifest(manifest) => {
                    let config = &manifest.value.config;
                    if session.store.blob_size(&config.digest)?.is_none() {
                        fetch(session, &found, config, &mut mended).await;
                    }
                    mend_layers(session, &found, &document, &lost, &mut mended).await?;
                }
            }
        }
    }
    Ok(mended)
}

/// Whether an entry of an index is here or was.
fn is_wanted(store: &LocalStore, entry: &Descriptor, lost: &Lost) -> bool {
    lost.blobs.contains(&entry.digest) || matches!(store.blob_size(&entry.digest), Ok(Some(_)))
}

async fn mend_layers(
    session: &Session,
    found: &RefV1,
    document: &Document,
    lost: &Lost,
    mended: &mut Mended,
) -> Result<(), Error> {
    for image in images_of(&session.store, document)? {
        let layers = image.manifest.value.layers.iter().zip(&image.config.value.rootfs.diff_ids);
        for (blob, diff) in layers {
            let is_lost = lost.blobs.contains(&blob.digest) || lost.layers.contains(diff);
            if !is_lost || session.store.blob_size(&blob.digest)?.is_some() {
                continue;
            }
            let unpacked = session.store.layer(diff)?.is_some_and(|l| l.snapshot.is_some());
            match unpacked && reference(found).is_none() {
                true => mended.unpacked.push(blob.digest),
                false => {
                    let before = mended.lost.len();
                    fetch(session, found, blob, mended).await;
                    if unpacked && mended.lost.len() > before {
                        mended.lost.truncate(before);
                        mended.unpacked.push(blob.digest);
                    }
                }
            }
        }
        remember_present(&session.store, &image)?;
    }
    Ok(())
}

/// Note the layers of which there is a blob.
fn remember_present(store: &LocalStore, image: &oci::Image) -> Result<(), Error> {
    let all = image.manifest.value.layers.iter();
    let present = all.map(|l| store.blob_size(&l.digest)).collect::<Result<Vec<_>, _>>()?;
    match present.iter().all(Option::is_some) {
        true => remember_layers(store, image),
        false => Ok(()),
    }
}

/// Where an image came from. The name of one that was made here says only where it may go.
fn reference(found: &RefV1) -> Option<Reference> {
    found.name.parse().ok().filter(|_| found.kind == KIND_BASE)
}

fn lacks(found: &RefV1, digest: &Digest, why: &str) -> String {
    format!("{} lacks {digest}: {why}", found.name)
}

async fn fetch_document(
    session: &Session,
    found: &RefV1,
    descriptor: &Descriptor,
) -> Result<Document, String> {
    let from = reference(found).ok_or("it was made here")?;
    let client = (session.registry)().map_err(|e| e.message)?;
    let document = client.document_of(&from, descriptor).await.map_err(|e| Error::from(e).message)?;
    let (store, bytes) = (session.store.clone(), document.bytes().clone());
    par::blocking(move || store.put_blob(&bytes)).await.map_err(|e| Error::from(e).message)?;
    Ok(document)
}

async fn fetch(session: &Session, found: &RefV1, blob: &Descriptor, mended: &mut Mended) {
    let work = async {
        let from = reference(found).ok_or("it was made here")?;
        let client = (session.registry)().map_err(|e| e.message)?;
        let sink = Arc::new(StoreSink::new(&session.store));
        let fetched = client.fetch_blob(&from, blob, sink, &registry::Silent).await;
        fetched.map(|_| ()).map_err(|e| Error::from(e).message)
    };
    match work.await {
        Ok(()) => mended.fetched.push(blob.digest),
        Err(why) => mended.lost.push(lacks(found, &blob.digest, &why)),
    }
}
