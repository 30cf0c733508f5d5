//! The planner: a recipe and a request become a build graph.
//!
//! [`plan`] is a pure function. What it cannot know (the configuration of a base image) it asks for by
//! returning [`Outcome::Need`]; the caller finds the answers, adds them to [`Facts`] and calls again.
//! Planning takes microseconds, so starting over is simpler than suspending, and the plan depends on
//! nothing but its arguments.
//!
//! Invariants: every image in a finished plan is pinned by digest; only stages that the target needs are
//! asked about or lowered; every error carries the lines that it is about.
//!
//! Deliberately not here: I/O, and anything about how ops are executed.
#![forbid(unsafe_code)]

mod expand;
mod gofmt;
mod limits;
mod lower;
pub mod path;
mod request;
pub mod snapshot;
mod source;
mod stages;
mod state;
mod suggest;

pub use limits::StepSelector;
pub use request::*;
pub use source::{git_reference, is_git_url, is_http_url};
pub use state::DEFAULT_PATH;

use dockerfile::instruction::{Lines, Recipe};
use graph::{Graph, VertexRef};
use oci::{ImageConfig, Platform};
use std::collections::BTreeSet;

/// A finished plan for one platform.
#[derive(Debug, Clone)]
pub struct Plan {
    pub platform: Platform,
    pub graph: Graph,
    /// The root file system of the image; `None` is an empty one.
    pub result: Option<VertexRef>,
    /// Configuration and history of the image. `created` times of new history entries and the layers'
    /// diff ids are filled in once the layers are known.
    pub config: ImageConfig,
    /// Layers that come from the base image, for the history of which entries belong to them.
    pub base: Option<BaseImage>,
    /// `SOURCE_DATE_EPOCH`, in seconds.
    pub epoch: Option<i64>,
    /// Build arguments that no ARG asked for.
    pub unused_args: Vec<String>,
}

/// The image that the target stage started from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImage {
    pub reference: String,
    pub digest: digest::Digest,
}

/// What planning came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    Plan(Box<Plan>),
    /// These must be answered first. They are independent: ask at the same time.
    Need(BTreeSet<Question>),
}

/// The recipe, or what it asks for, is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    pub message: String,
    /// The lines it is about; none if it is about no line (an unknown `--target`).
    pub lines: Option<Lines>,
    pub hint: Option<String>,
}

impl PlanError {
    pub fn new(message: impl Into<String>) -> Self {
        PlanError { message: message.into(), lines: None, hint: None }
    }
    /// Set the lines unless something deeper already did.
    pub fn at(mut self, lines: Lines) -> Self {
        self.lines.get_or_insert(lines);
        self
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<dockerfile::instruction::MountError> for PlanError {
    fn from(e: dockerfile::instruction::MountError) -> Self {
        PlanError { hint: e.hint(), ..PlanError::new(e.to_string()) }
    }
}

/// Plan `recipe` for `request.platform`.
pub fn plan(recipe: &Recipe, request: &Request, facts: &Facts) -> Result<Outcome, PlanError> {
    stages::Planner::new(recipe, &request.settled(), facts)?.run()
}
