//! The bridge between code that waits (tokio) and code that computes (rayon).
//!
//! Invariants: async code never computes for long, it awaits [`cpu`] or [`blocking`]; a panic of the
//! work is the panic of the awaiting task, never a lost answer; tasks belong to a [`TaskGroup`], and
//! dropping the group cancels them; one [`Limits`] sets all concurrency.
//!
//! Deliberately not here: channels, retries, timers.
#![forbid(unsafe_code)]

mod group;
mod limits;
mod once;

pub use group::TaskGroup;
pub use limits::{Limits, Permit, Semaphores};
pub use once::OnceMap;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Compute on rayon's threads: hashing, compressing, parsing of large input. `work` must not block on
/// other tasks. If the caller is dropped, the work still runs to its end and its value is dropped.
pub async fn cpu<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let (sender, receiver) = tokio::sync::oneshot::channel();
    rayon::spawn(move || {
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
    });
    match receiver.await {
        Ok(Ok(value)) => value,
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => unreachable!("the sender is dropped only after it sent"),
    }
}

/// Wait on a thread of its own for something synchronous: files, child processes, locks.
pub async fn blocking<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // Only a runtime that shuts down cancels blocking work, and then nobody polls this again.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Wait for a future from synchronous code that [`blocking`] runs. Must not be called on a thread
/// that drives async tasks.
pub fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Handle::current().block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn values_come_back() {
        assert_eq!(cpu(|| 6 * 7).await, 42);
        assert_eq!(blocking(|| wait(async { cpu(|| "x").await })).await, "x");
    }

    #[tokio::test]
    #[should_panic(expected = "boom")]
    async fn a_panic_of_the_work_reaches_the_caller() {
        cpu(|| panic!("boom")).await
    }

    #[tokio::test]
    #[should_panic(expected = "bang")]
    async fn a_panic_of_blocking_work_reaches_the_caller() {
        blocking(|| panic!("bang")).await
    }
}
