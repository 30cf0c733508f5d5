//! Remote sources (HTTP, git): fetched once a build, known by content from then on.

use crate::{LocalWorker, Worker};
use digest::TreeHash;
use graph::SourceOp;
use solver::{ErrorKind, Job};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use store::{LocalStore, SnapshotId};
use tokio::sync::OnceCell;

/// A source that was fetched: its files as one layer.
#[derive(Debug, Clone)]
pub struct FetchedFile {
    pub snapshot: SnapshotId,
    /// Content, names and what else of the source counts for a cache key.
    pub hash: TreeHash,
}

/// Fetches what URLs and git references name.
pub trait RemoteSources: Send + Sync {
    /// The snapshot is made in `store`, complete or not at all. An unchanged source should be found
    /// without transferring it again.
    fn fetch<'a>(
        &'a self,
        store: &'a LocalStore,
        source: &'a SourceOp,
    ) -> Pin<Box<dyn Future<Output = Result<FetchedFile, ErrorKind>> + Send + 'a>>;
}

/// For builds that must not reach any network.
pub struct NoRemoteSources;

impl RemoteSources for NoRemoteSources {
    fn fetch<'a>(
        &'a self,
        _: &'a LocalStore,
        _: &'a SourceOp,
    ) -> Pin<Box<dyn Future<Output = Result<FetchedFile, ErrorKind>> + Send + 'a>> {
        Box::pin(async { Err(ErrorKind::other("remote sources are not available here")) })
    }
}

type Slot = Arc<OnceCell<Result<FetchedFile, Arc<ErrorKind>>>>;

/// Sources fetched in this build, so that key and files are of one and the same fetch.
#[derive(Default)]
pub struct Pinned(Mutex<HashMap<String, Slot>>);

impl LocalWorker {
    async fn fetched(&self, source: &SourceOp) -> Result<FetchedFile, ErrorKind> {
        let name = serde_json::to_string(source).map_err(|e| ErrorKind::other(e.to_string()))?;
        let slot = self.sources.0.lock().unwrap_or_else(|e| e.into_inner()).entry(name).or_default().clone();
        let fetch = || async { self.config.transfer.fetch(self.store(), source).await.map_err(Arc::new) };
        match slot.get_or_init(fetch).await {
            Ok(fetched) => Ok(fetched.clone()),
            Err(e) => Err(match &**e {
                ErrorKind::Other { message, hint } => {
                    ErrorKind::Other { message: message.clone(), hint: hint.clone() }
                }
                other => ErrorKind::other(other.to_string()),
            }),
        }
    }

    pub(crate) async fn pin_remote(&self, source: &SourceOp) -> Result<TreeHash, ErrorKind> {
        self.fetched(source).await.map(|f| f.hash)
    }
}

impl LocalWorker {
    pub(crate) async fn fetch_remote(
        &self,
        source: &SourceOp,
        _: &Job,
    ) -> Result<Vec<SnapshotId>, ErrorKind> {
        self.fetched(source).await.map(|f| vec![f.snapshot])
    }
}

/// The executor is shared by value.
impl From<LocalWorker> for Worker {
    fn from(worker: LocalWorker) -> Self {
        Worker(Arc::new(worker))
    }
}
