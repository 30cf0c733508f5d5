//! Progress as JSON, one object a line on standard error, for programs.

use ctrbuild::BuildObserver;
use graph::{Graph, VertexRef};
use plan::Plan;
use serde_json::{Value, json};
use solver::{Event, Observer};
use std::io::Write;
use std::sync::Arc;

/// Writes one object for each event. `vertex` is the index in the graph of `platform`.
#[derive(Default)]
pub struct Json {}

fn put(value: Value) {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "{}", diagnostic::escape_json(&value.to_string()));
}

impl BuildObserver for Json {
    fn plan(&self, plan: &Arc<Plan>, graph: &Arc<Graph>) -> Arc<dyn Observer> {
        Arc::new(JsonGraph { platform: plan.platform.to_string(), graph: graph.clone() })
    }
    fn lookup(&self, reference: &str) {
        put(json!({"event": "lookup", "reference": reference}));
    }
    fn note(&self, text: &str) {
        put(json!({"event": "note", "message": text}));
    }
    fn transfers(&self) -> Arc<dyn registry::Progress> {
        Arc::new(JsonTransfers)
    }
}

struct JsonTransfers;

impl registry::Progress for JsonTransfers {
    fn event(&self, event: registry::Event<'_>) {
        use registry::Event::*;
        let (what, blob) = match event {
            Present { blob } => ("exists", blob),
            Mounted { blob, .. } => ("mounted", blob),
            Done { blob } => ("pushed", blob),
            Retrying { blob } => ("retrying", blob),
            Skipped { blob } => ("skipped", blob),
            Started { .. } | Bytes { .. } => return,
        };
        put(json!({"event": what, "digest": blob.digest, "size": blob.size}));
    }
}

struct JsonGraph {
    platform: String,
    graph: Arc<Graph>,
}

impl JsonGraph {
    fn put(&self, event: &str, vertex: VertexRef, mut more: Value) {
        let fields = json!({"event": event, "platform": self.platform, "vertex": vertex.0,
            "name": self.graph.get(vertex).provenance.name});
        if let (Value::Object(more), Value::Object(fields)) = (&mut more, fields) {
            more.extend(fields);
        }
        put(more);
    }
}

impl Observer for JsonGraph {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Started { vertex, miss } => self.put("started", vertex, json!({"miss": miss.to_string()})),
            Event::Cached { vertex } => self.put("cached", vertex, json!({})),
            Event::Log { vertex, stream, data } => {
                let stream = match stream {
                    solver::LogStream::Stdout => 1,
                    solver::LogStream::Stderr => 2,
                };
                self.put("log", vertex, json!({"stream": stream, "data": String::from_utf8_lossy(data)}));
            }
            Event::Transfer { vertex, what, done, total } => {
                self.put("transfer", vertex, json!({"id": what, "current": done, "total": total}));
            }
            Event::Used { vertex, usage } => self.put(
                "used",
                vertex,
                json!({"cpu": usage.cpu.as_secs_f64(),
                "peakMemory": usage.peak_memory, "read": usage.read, "written": usage.written}),
            ),
            Event::Finished { vertex, took } => {
                self.put("finished", vertex, json!({"seconds": took.as_secs_f64()}));
            }
            Event::Failed { vertex, took, message } => {
                self.put("failed", vertex, json!({"seconds": took.as_secs_f64(), "error": message}));
            }
        }
    }
}
