//! What each step took, kept for `--metadata-file` beside whatever is shown.

use ctrbuild::BuildObserver;
use graph::{Graph, VertexRef};
use plan::Plan;
use serde_json::{Value, json};
use solver::{Event, Observer, StepUsage};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Passes everything on, and remembers.
pub struct Recorder {
    shown: Arc<dyn BuildObserver>,
    steps: Arc<Mutex<Vec<Value>>>,
}

impl Recorder {
    pub fn new(shown: Arc<dyn BuildObserver>) -> Self {
        Recorder { shown, steps: Arc::default() }
    }

    /// One object a step, in the order of their ends.
    pub fn steps(&self) -> Vec<Value> {
        self.steps.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

impl BuildObserver for Recorder {
    fn plan(&self, plan: &Arc<Plan>, graph: &Arc<Graph>) -> Arc<dyn Observer> {
        Arc::new(Recording {
            shown: self.shown.plan(plan, graph),
            platform: plan.platform.to_string(),
            graph: graph.clone(),
            used: Mutex::default(),
            steps: self.steps.clone(),
        })
    }
    fn lookup(&self, reference: &str) {
        self.shown.lookup(reference);
    }
    fn note(&self, text: &str) {
        self.shown.note(text);
    }
    fn transfers(&self) -> Arc<dyn registry::Progress> {
        self.shown.transfers()
    }
}

struct Recording {
    shown: Arc<dyn Observer>,
    platform: String,
    graph: Arc<Graph>,
    /// What the attempts at a step used until now.
    used: Mutex<HashMap<VertexRef, StepUsage>>,
    steps: Arc<Mutex<Vec<Value>>>,
}

impl Recording {
    fn keep(&self, vertex: VertexRef, mut step: Value) {
        if super::is_internal(&self.graph, vertex) {
            return;
        }
        step["name"] = json!(self.graph.get(vertex).provenance.name);
        step["platform"] = json!(self.platform);
        if let Some(used) = self.used.lock().unwrap_or_else(|e| e.into_inner()).remove(&vertex) {
            step["cpu"] = json!(used.cpu.as_secs_f64());
            step["peakMemory"] = json!(used.peak_memory);
            step["read"] = json!(used.read);
            step["written"] = json!(used.written);
        }
        self.steps.lock().unwrap_or_else(|e| e.into_inner()).push(step);
    }
}

impl Observer for Recording {
    fn event(&self, event: Event<'_>) {
        match &event {
            Event::Used { vertex, usage } => {
                let mut used = self.used.lock().unwrap_or_else(|e| e.into_inner());
                let sum = used.entry(*vertex).or_default();
                sum.cpu += usage.cpu;
                sum.peak_memory = sum.peak_memory.max(usage.peak_memory);
                sum.read += usage.read;
                sum.written += usage.written;
            }
            Event::Cached { vertex } => self.keep(*vertex, json!({"cached": true})),
            Event::Finished { vertex, took } => {
                self.keep(*vertex, json!({"cached": false, "seconds": took.as_secs_f64()}));
            }
            _ => {}
        }
        self.shown.event(event);
    }
}
