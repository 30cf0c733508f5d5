//! A step that somebody sits at: its streams are the caller's, and what it changed counts however it ended.

use super::{Running, start};
use crate::copy::io;
use crate::{LocalWorker, store_error};
use sandbox::{Input, Killer, Stdio};
use solver::{ErrorKind, Job};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use store::SnapshotId;

/// Standard streams of such a step.
pub struct Attached {
    pub input: Input,
    pub output: Stdio,
}

/// It runs.
pub struct AttachedStep {
    worker: Arc<LocalWorker>,
    running: Running,
}

impl LocalWorker {
    /// Start an exec op with streams of the caller's. Blocks until it runs, or can't be started.
    pub fn attach(self: &Arc<Self>, job: &Job, streams: Attached) -> Result<AttachedStep, ErrorKind> {
        let (running, _) = start(self, job, &AtomicBool::new(false), Some(streams))?;
        Ok(AttachedStep { worker: self.clone(), running })
    }
}

impl AttachedStep {
    /// Ends it from another thread.
    pub fn killer(&self) -> Result<Killer, ErrorKind> {
        self.running.child.killer().map_err(io)
    }

    /// Wait for its end: the exit code as a shell reports it, and the layer of what it changed.
    pub fn wait(self) -> Result<(i32, SnapshotId), ErrorKind> {
        let Running { child, active, root, _held, .. } = self.running;
        let exit = child.wait().map_err(io)?;
        drop(_held);
        root.settle(&active)?;
        let layer = self.worker.store().commit(active, Default::default()).map_err(|e| store_error(&e))?;
        Ok((exit.status.code(), layer))
    }
}
