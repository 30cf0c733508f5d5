//! Push: missing blobs at the same time, then manifests by digest, then the index, then the tag.
//!
//! A tag appears only when all that it reaches is there: it is there whole or not at all.

use crate::client::Client;
use crate::error::Error;
use crate::progress::{Event, Progress};
use crate::upload::Uploaded;
use digest::{Digest, VerifyError};
use oci::{BlobSource, Content, Descriptor, Reference};
use par::TaskGroup;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Repositories of the same registry that may have a blob, by digest.
pub type MountHints = BTreeMap<Digest, BTreeSet<String>>;

impl Client {
    /// Push `content` to the tag or digest of `reference`. Ok means that the registry has every blob and
    /// answers the reference with this content. Foreign layers stay where their URLs say.
    pub async fn push(
        &self,
        reference: &Reference,
        content: &Content,
        source: Arc<dyn BlobSource>,
        mounts: &MountHints,
        progress: Arc<dyn Progress>,
    ) -> Result<Vec<(Descriptor, Uploaded)>, Error> {
        if let Some(expected) = reference.digest()
            && *expected != content.digest()
        {
            return Err(Error::Verify {
                host: "this machine".into(),
                what: reference.familiar(),
                source: VerifyError::Digest { expected: *expected, actual: content.digest() },
            });
        }
        let mut group = TaskGroup::new();
        for blob in content.blobs() {
            if blob.is_foreign() && !blob.urls.is_empty() {
                progress.event(Event::Skipped { blob: &blob });
                continue;
            }
            let (client, reference) = (self.clone(), reference.clone());
            let (source, progress) = (source.clone(), progress.clone());
            let from: Vec<String> = mounts.get(&blob.digest).into_iter().flatten().take(3).cloned().collect();
            group.spawn(async move {
                let done = client.push_blob(&reference, &blob, source, &from, &*progress).await?;
                Ok::<_, Error>((blob, done))
            });
        }
        let uploaded = group.all().await?;
        for document in content.documents() {
            self.put_document(&reference.name_only().with_digest(document.digest()), document).await?;
        }
        let by_digest = reference.name_only().with_digest(content.digest());
        // What the registry gives back decides, not what it answered to the upload.
        self.resolve_own(&by_digest, content.digest()).await?;
        if let Some(tag) = reference.clone().with_default_tag().tag() {
            let tagged = reference.with_tag(tag).map_err(|e| Error::Internal(e.to_string()))?;
            self.put_document(&tagged, &content.top).await?;
        }
        Ok(uploaded)
    }

    async fn resolve_own(&self, reference: &Reference, expected: Digest) -> Result<(), Error> {
        let ep = self.http.origin(reference.domain())?;
        let document = self.document_at(&ep, reference).await?;
        if document.digest() == expected {
            return Ok(());
        }
        let source = VerifyError::Digest { expected, actual: document.digest() };
        Err(Error::Verify { host: ep.host(), what: reference.familiar(), source })
    }
}
