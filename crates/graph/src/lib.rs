//! The build graph: the narrow waist between recipes and execution.
//!
//! A [`Graph`] is a list of vertices in topological order (inputs come before their users), shaped like
//! BuildKit's LLB on purpose: `Op { Source, Exec, File, Merge }`, every [`Vertex`] with inputs that are
//! edges into earlier vertices. Names of Dockerfile instructions stop above this crate; words about
//! containers and snapshots start below it.
//!
//! Invariants: an edge points to a lower index; the [`VertexId`] covers everything that can change a
//! result and nothing that can't (see `definition.rs`).
//!
//! Deliberately not here: cache keys (they need content: crate `solver`) and any I/O.
#![forbid(unsafe_code)]

mod definition;
mod op;
mod render;

pub use definition::vertex_ids;
pub use op::*;
pub use render::{to_dot, to_text};

use digest::VertexId;
use oci::Platform;
use serde::Serialize;

/// Index of a vertex in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct VertexRef(pub u32);

impl VertexRef {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One output of a vertex. Every op of today has the one output 0; the number leaves room for ops
/// with several (as LLB's exec has).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Edge {
    pub vertex: VertexRef,
    pub output: u32,
}

impl From<VertexRef> for Edge {
    fn from(vertex: VertexRef) -> Self {
        Edge { vertex, output: 0 }
    }
}

/// What of an input an op really looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selector {
    /// The whole tree and the layers it is made of (a root file system).
    Whole,
    /// Only the content that these selectors match.
    Paths(Vec<PathSelector>),
}

/// Paths of an input that an op reads, with the matching rules of COPY.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PathSelector {
    /// Absolute slash-separated path below the input's root; may hold wildcards if `wildcard` is set.
    pub path: String,
    /// Match `*`, `?` and `[…]` as Go's `filepath.Match` does.
    pub wildcard: bool,
    /// Follow a symlink in the last element.
    pub follow_links: bool,
    /// Only what matches one of these (`--parents`); empty means all.
    pub include: Vec<String>,
    /// Not what matches one of these (`--exclude`).
    pub exclude: Vec<String>,
    /// Paths that must exist.
    pub required: Vec<String>,
}

impl PathSelector {
    /// One path as it is written, links followed, with all that is below it.
    pub fn of(path: impl Into<String>) -> Self {
        PathSelector {
            path: path.into(),
            wildcard: false,
            follow_links: true,
            include: Vec::new(),
            exclude: Vec::new(),
            required: Vec::new(),
        }
    }

    /// A whole tree.
    pub fn everything() -> Self {
        Self::of("/")
    }
}

/// An edge and what is read from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Input {
    pub edge: Edge,
    pub selector: Selector,
}

/// One operation.
#[derive(Debug, Clone, Serialize)]
pub struct Vertex {
    pub op: Op,
    pub inputs: Vec<Input>,
    pub platform: Platform,
    pub provenance: Provenance,
}

/// Where a vertex comes from, for people: never part of any hash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// What progress shows, such as `[build 2/5] RUN make`.
    pub name: String,
    /// Stage name or number.
    pub stage: String,
    /// First and last line in the recipe, from 1; several where an instruction has several pieces.
    pub lines: Vec<(u32, u32)>,
    /// Always execute (`--no-cache`).
    pub ignore_cache: bool,
}

/// A directed acyclic graph of ops, inputs first.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Graph {
    pub vertices: Vec<Vertex>,
}

impl Graph {
    /// Append a vertex. An edge to the vertex itself or a later one is a bug of the caller.
    pub fn push(&mut self, vertex: Vertex) -> VertexRef {
        let index = u32::try_from(self.vertices.len()).expect("fewer than 2^32 vertices");
        debug_assert!(vertex.inputs.iter().all(|i| i.edge.vertex.0 < index), "inputs come first");
        self.vertices.push(vertex);
        VertexRef(index)
    }
    pub fn get(&self, v: VertexRef) -> &Vertex {
        &self.vertices[v.index()]
    }
    /// The vertices that `target` needs, itself included, in order.
    pub fn reachable(&self, target: VertexRef) -> Vec<VertexRef> {
        let mut needed = vec![false; self.vertices.len()];
        let mut todo = vec![target];
        while let Some(v) = todo.pop() {
            if std::mem::replace(&mut needed[v.index()], true) {
                continue;
            }
            todo.extend(self.get(v).inputs.iter().map(|i| i.edge.vertex));
        }
        (0..needed.len() as u32).filter(|i| needed[*i as usize]).map(VertexRef).collect()
    }
    /// The definition ids of all vertices, by index.
    pub fn ids(&self) -> Vec<VertexId> {
        vertex_ids(self)
    }
}
