//! How much happens at the same time.

use std::num::NonZeroUsize;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The numbers that set all concurrency. Each is at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Build steps.
    pub exec: NonZeroUsize,
    /// Blobs being downloaded.
    pub pull: NonZeroUsize,
    /// Blobs being uploaded.
    pub push: NonZeroUsize,
    /// Threads that compute.
    pub cpu: NonZeroUsize,
}

impl Limits {
    /// Defaults for a machine with that many processors.
    pub fn for_cpus(cpus: NonZeroUsize) -> Self {
        let at_least = |n: usize| cpus.max(NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN));
        Limits { exec: at_least(2), pull: at_least(4), push: at_least(4), cpu: cpus }
    }
    /// The semaphores that enforce these numbers; share them, do not make them twice.
    pub fn semaphores(&self) -> Semaphores {
        let make = |n: NonZeroUsize| Arc::new(Semaphore::new(n.get().min(Semaphore::MAX_PERMITS)));
        Semaphores {
            exec: make(self.exec),
            pull: make(self.pull),
            push: make(self.push),
            cpu: make(self.cpu),
        }
    }
}

impl Default for Limits {
    /// For two processors: below the command line nothing asks the machine.
    fn default() -> Self {
        Limits::for_cpus(NonZeroUsize::MIN.saturating_add(1))
    }
}

/// One semaphore for each number of [`Limits`].
#[derive(Debug, Clone)]
pub struct Semaphores {
    exec: Arc<Semaphore>,
    pull: Arc<Semaphore>,
    push: Arc<Semaphore>,
    cpu: Arc<Semaphore>,
}

/// The right to do one thing; dropping it gives it back.
#[derive(Debug)]
pub struct Permit(#[allow(dead_code)] Option<OwnedSemaphorePermit>);

impl Semaphores {
    pub async fn exec(&self) -> Permit {
        acquire(&self.exec).await
    }
    pub async fn pull(&self) -> Permit {
        acquire(&self.pull).await
    }
    pub async fn push(&self) -> Permit {
        acquire(&self.push).await
    }
    pub async fn cpu(&self) -> Permit {
        acquire(&self.cpu).await
    }
}

async fn acquire(s: &Arc<Semaphore>) -> Permit {
    // The semaphores are never closed, so this is always `Some`.
    Permit(s.clone().acquire_owned().await.ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn permits_run_out_and_come_back() {
        let one = NonZeroUsize::MIN;
        let s = Limits { exec: one, pull: one, push: one, cpu: one }.semaphores();
        let held = s.exec().await;
        assert!(tokio::time::timeout(Duration::from_millis(20), s.exec()).await.is_err());
        s.pull().await;
        drop(held);
        s.exec().await;
    }
}
