//! Progress of builds: plain lines, a live terminal, JSON, or nothing.

mod json;
mod plain;
mod record;
mod tty;

use crate::args::ProgressMode;
pub use record::Recorder;

use ctrbuild::BuildObserver;
use std::io::IsTerminal;
use std::sync::Arc;

/// The observer for a mode. `auto` is the live terminal where standard error is one.
pub fn observer(mode: ProgressMode) -> Arc<dyn BuildObserver> {
    match mode {
        ProgressMode::Quiet => Arc::new(Nobody),
        ProgressMode::Json => Arc::new(json::Json::default()),
        ProgressMode::Plain => Arc::new(plain::Plain::new()),
        ProgressMode::Tty => Arc::new(tty::Tty::new()),
        ProgressMode::Auto if std::io::stderr().is_terminal() && !crate::style::is_dumb() => {
            Arc::new(tty::Tty::new())
        }
        ProgressMode::Auto => Arc::new(plain::Plain::new()),
    }
}

/// Nobody looks.
struct Nobody;

impl BuildObserver for Nobody {
    fn plan(&self, _: &Arc<plan::Plan>, _: &Arc<graph::Graph>) -> Arc<dyn solver::Observer> {
        Arc::new(solver::Quiet)
    }
    fn lookup(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn transfers(&self) -> Arc<dyn registry::Progress> {
        Arc::new(registry::Silent)
    }
}

/// Vertices that people need not see while all is well.
pub fn is_internal(graph: &graph::Graph, v: graph::VertexRef) -> bool {
    graph.get(v).provenance.name.starts_with("[internal]")
}

/// One blob's short name.
pub fn short(digest: &digest::Digest) -> String {
    digest.short()
}
