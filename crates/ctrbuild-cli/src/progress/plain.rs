//! Plain progress: one line an event, numbered by vertex, for logs and pipes.

use crate::progress::short;
use ctrbuild::BuildObserver;
use diagnostic::sanitize;
use graph::{Graph, VertexRef};
use plan::Plan;
use solver::{Event, Observer};
use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Bytes of one step's output that are shown; the whole is in its log file.
const MAX_LOG_BYTES: usize = 16 << 20;

/// Writes lines to standard error.
pub struct Plain {
    numbers: Arc<AtomicU32>,
}

impl Plain {
    pub fn new() -> Self {
        Plain { numbers: Arc::new(AtomicU32::new(0)) }
    }
}

fn line(text: std::fmt::Arguments<'_>) {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "{text}");
}

impl BuildObserver for Plain {
    fn plan(&self, _: &Arc<Plan>, graph: &Arc<Graph>) -> Arc<dyn Observer> {
        Arc::new(PlainGraph { graph: graph.clone(), numbers: self.numbers.clone(), steps: Mutex::default() })
    }
    fn lookup(&self, reference: &str) {
        let n = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        line(format_args!("#{n} [internal] load metadata for {}", sanitize(reference)));
    }
    fn note(&self, text: &str) {
        line(format_args!("note: {}", sanitize(text)));
    }
    fn transfers(&self) -> Arc<dyn registry::Progress> {
        Arc::new(PlainTransfers)
    }
}

/// Lines as `docker push` prints them.
pub struct PlainTransfers;

impl registry::Progress for PlainTransfers {
    fn event(&self, event: registry::Event<'_>) {
        use registry::Event::*;
        match event {
            Present { blob } => line(format_args!("{}: Layer already exists", short(&blob.digest))),
            Mounted { blob, from } => {
                line(format_args!("{}: Mounted from {}", short(&blob.digest), sanitize(from)))
            }
            Done { blob } => line(format_args!("{}: Pushed", short(&blob.digest))),
            Retrying { blob } => line(format_args!("{}: Retrying", short(&blob.digest))),
            Skipped { blob } => line(format_args!("{}: Skipped foreign layer", short(&blob.digest))),
            Started { .. } | Bytes { .. } => {}
        }
    }
}

struct PlainGraph {
    graph: Arc<Graph>,
    numbers: Arc<AtomicU32>,
    steps: Mutex<HashMap<VertexRef, Step>>,
}

struct Step {
    number: u32,
    started: Instant,
    /// An unfinished line of output.
    partial: Vec<u8>,
    shown: usize,
    /// Tenths of a transfer that were told.
    told: HashMap<String, u64>,
    used: Option<solver::StepUsage>,
}

/// What a step used, if it is worth a word.
fn used(usage: &solver::StepUsage) -> String {
    let mut parts = Vec::new();
    if usage.cpu.as_millis() >= 100 {
        parts.push(format!("cpu {:.1}s", usage.cpu.as_secs_f64()));
    }
    if usage.peak_memory >= 64 << 20 {
        parts.push(format!("memory {}", crate::table::size(usage.peak_memory)));
    }
    if usage.read >= 1 << 20 {
        parts.push(format!("read {}", crate::table::size(usage.read)));
    }
    if usage.written >= 1 << 20 {
        parts.push(format!("written {}", crate::table::size(usage.written)));
    }
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

impl PlainGraph {
    fn step<T>(&self, v: VertexRef, act: impl FnOnce(&mut Step) -> T) -> T {
        let mut steps = self.steps.lock().unwrap_or_else(|e| e.into_inner());
        let step = steps.entry(v).or_insert_with(|| {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
            line(format_args!("#{number} {}", sanitize(&self.graph.get(v).provenance.name)));
            Step {
                number,
                started: Instant::now(),
                partial: Vec::new(),
                shown: 0,
                told: HashMap::new(),
                used: None,
            }
        });
        act(step)
    }
}

impl Step {
    fn log(&mut self, data: &[u8]) {
        if self.shown > MAX_LOG_BYTES {
            return;
        }
        self.shown += data.len();
        for piece in data.split_inclusive(|b| *b == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() > 64 * 1024 {
                self.flush();
            }
        }
        if self.shown > MAX_LOG_BYTES {
            line(format_args!(
                "#{} [output is longer than 16 MiB; the rest is in the log file]",
                self.number
            ));
        }
    }
    fn flush(&mut self) {
        if self.partial.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&self.partial);
        let seconds = self.started.elapsed().as_secs_f64();
        line(format_args!("#{} {seconds:.3} {}", self.number, sanitize(text.trim_end_matches(['\n', '\r']))));
        self.partial.clear();
    }
}

impl Observer for PlainGraph {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Started { vertex, miss } => self.step(vertex, |s| {
                if let solver::MissReason::Changed(_) = miss {
                    line(format_args!("#{} cache miss, {}", s.number, sanitize(&miss.to_string())));
                }
            }),
            Event::Cached { vertex } => self.step(vertex, |s| line(format_args!("#{} CACHED", s.number))),
            Event::Log { vertex, data, .. } => self.step(vertex, |s| s.log(data)),
            Event::Transfer { vertex, what, done, total } => self.step(vertex, |s| {
                if total == 0 {
                    return;
                }
                let tenth = done * 10 / total;
                let told = s.told.insert(what.to_string(), tenth);
                if told.is_none() || told != Some(tenth) && tenth == 10 {
                    line(format_args!(
                        "#{} {what} {} / {}",
                        s.number,
                        crate::table::size(done),
                        crate::table::size(total)
                    ));
                }
            }),
            Event::Used { vertex, usage } => self.step(vertex, |s| s.used = Some(*usage)),
            Event::Finished { vertex, took } => self.step(vertex, |s| {
                s.flush();
                let used = s.used.take().map(|u| used(&u)).unwrap_or_default();
                line(format_args!("#{} DONE {:.1}s{used}", s.number, took.as_secs_f64()));
            }),
            Event::Failed { vertex, took, message } => self.step(vertex, |s| {
                s.flush();
                line(format_args!("#{} ERROR: {}", s.number, sanitize(message)));
                if let Some(usage) = s.used.take() {
                    line(format_args!("#{} FAILED {:.1}s{}", s.number, took.as_secs_f64(), used(&usage)));
                }
            }),
        }
    }
}
