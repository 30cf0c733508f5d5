//! What the solver tells while it works.

use crate::key::MissReason;
use graph::VertexRef;
use std::time::Duration;

/// Which of a step's streams a line of its log came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    Stdout,
    Stderr,
}

/// What one run of a step used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepUsage {
    /// Processor time, in user mode and in the kernel.
    pub cpu: Duration,
    /// Bytes.
    pub peak_memory: u64,
    /// Bytes read from devices.
    pub read: u64,
    /// Bytes written to devices.
    pub written: u64,
}

/// Something happened to a vertex.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    Started {
        vertex: VertexRef,
        miss: &'a MissReason,
    },
    /// The result was in the cache.
    Cached {
        vertex: VertexRef,
    },
    /// Bytes of a step's output, as they came.
    Log {
        vertex: VertexRef,
        stream: LogStream,
        data: &'a [u8],
    },
    /// Progress of a transfer: `done` of `total` bytes (0: not known).
    Transfer {
        vertex: VertexRef,
        what: &'a str,
        done: u64,
        total: u64,
    },
    /// What a step used; comes before its end is told.
    Used {
        vertex: VertexRef,
        usage: &'a StepUsage,
    },
    Finished {
        vertex: VertexRef,
        took: Duration,
    },
    Failed {
        vertex: VertexRef,
        took: Duration,
        message: &'a str,
    },
}

/// Receives events, from any thread. Must not block for long: a step waits for it.
pub trait Observer: Send + Sync {
    fn event(&self, event: Event<'_>);
}

/// Drops every event.
pub struct Quiet;

impl Observer for Quiet {
    fn event(&self, _: Event<'_>) {}
}
