//! Tasks that live no longer than their owner.

use std::panic::resume_unwind;
use tokio::task::JoinSet;

/// Runs tasks at the same time; dropping it cancels those that still run.
pub struct TaskGroup<T: 'static>(JoinSet<T>);

impl<T: Send + 'static> TaskGroup<T> {
    pub fn new() -> Self {
        TaskGroup(JoinSet::new())
    }
    /// Start a task now.
    pub fn spawn<F: Future<Output = T> + Send + 'static>(&mut self, task: F) {
        self.0.spawn(task);
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The result of the next task that ends, or `None` if none is left. A panic goes on here.
    pub async fn next(&mut self) -> Option<T> {
        loop {
            match self.0.join_next().await? {
                Ok(value) => return Some(value),
                Err(e) if e.is_panic() => resume_unwind(e.into_panic()),
                // Cancelled: only by `cancel`.
                Err(_) => {}
            }
        }
    }
    /// Stop all tasks and wait until they are gone.
    pub async fn cancel(&mut self) {
        self.0.shutdown().await;
    }
}

impl<T: Send + 'static> Default for TaskGroup<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send + 'static, E: Send + 'static> TaskGroup<Result<T, E>> {
    /// Wait for all. At the first error the others are cancelled, and the error is returned.
    pub async fn all(mut self) -> Result<Vec<T>, E> {
        let mut out = Vec::new();
        while let Some(result) = self.next().await {
            match result {
                Ok(v) => out.push(v),
                Err(e) => {
                    self.cancel().await;
                    return Err(e);
                }
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct SetOnDrop(Arc<AtomicBool>);
    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn the_first_error_cancels_the_rest() {
        let gone = Arc::new(AtomicBool::new(false));
        let flag = SetOnDrop(gone.clone());
        let mut group = TaskGroup::new();
        group.spawn(async move {
            std::future::pending::<()>().await;
            drop(flag);
            Ok(())
        });
        group.spawn(async { Err("no") });
        assert_eq!(group.all().await, Err("no"));
        assert!(gone.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn dropping_the_group_cancels() {
        let gone = Arc::new(AtomicBool::new(false));
        let flag = SetOnDrop(gone.clone());
        let mut group: TaskGroup<()> = TaskGroup::new();
        group.spawn(async move {
            std::future::pending::<()>().await;
            drop(flag);
        });
        tokio::task::yield_now().await;
        drop(group);
        while !gone.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }
}
