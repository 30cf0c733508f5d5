//! The solver: runs a build graph on demand from its target, through a cache.
//!
//! For each vertex:
//! 1. probe by **definition key**: the op and the definition keys of its inputs (local sources count by
//!    content). A hit means that no input is even looked at.
//! 2. solve the inputs, at the same time.
//! 3. probe by **content key**: the op and what it really reads of its inputs. A hit means that the
//!    inputs were made anew but say the same.
//! 4. execute, and record the result under both keys.
//!
//! Caches from elsewhere are asked after the store, with the same two keys ([`Executor::imported`]).
//!
//! Single flight: within a process by one cell a vertex, between processes by a kernel lock a key.
//!
//! Deliberately not here: what executing means ([`Executor`]), pruning, and any knowledge of recipes.
#![forbid(unsafe_code)]

mod event;
mod key;
mod records;
mod solve;

pub use event::{Event, LogStream, Observer, Quiet, StepUsage};
pub use key::{CACHE_SCHEMA, MissReason};
pub use records::Recorded;
pub use solve::{CacheMode, Executor, InputValue, Job, Solved, Solver};

use graph::VertexRef;
use std::sync::Arc;

/// Why a vertex failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{kind}")]
pub struct SolveError {
    /// The vertex whose lines an error message shows.
    pub vertex: Option<VertexRef>,
    pub kind: Arc<ErrorKind>,
}

/// The world failed, or a step did.
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// A process of a step ended badly. `log_tail` holds its last lines.
    #[error("process {command:?} did not complete successfully: {status}")]
    Step {
        command: String,
        status: StepStatus,
        log_tail: Vec<String>,
        /// What is known besides, for a hint: where the whole log is, how the step can be looked at.
        hint: Option<String>,
    },
    /// Anything else; `hint` says what can be done.
    #[error("{message}")]
    Other { message: String, hint: Option<String> },
    /// The build was stopped from outside.
    #[error("cancelled")]
    Cancelled,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStatus {
    Code(i32),
    Signal(i32),
    OutOfMemory,
    TimedOut,
}

impl std::fmt::Display for StepStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StepStatus::Code(c) => write!(f, "exit code: {c}"),
            StepStatus::Signal(s) => write!(f, "killed by signal {s} (exit code: {})", 128 + s),
            StepStatus::OutOfMemory => write!(f, "out of memory (exit code: 137)"),
            StepStatus::TimedOut => write!(f, "timed out"),
        }
    }
}

impl ErrorKind {
    pub fn other(message: impl Into<String>) -> Self {
        ErrorKind::Other { message: message.into(), hint: None }
    }
    pub fn with_hint(message: impl Into<String>, hint: impl Into<String>) -> Self {
        ErrorKind::Other { message: message.into(), hint: Some(hint.into()) }
    }
    pub fn at(self, vertex: VertexRef) -> SolveError {
        SolveError { vertex: Some(vertex), kind: Arc::new(self) }
    }
}
