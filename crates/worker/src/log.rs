//! Logs of steps: whole on disk, their end in memory for error messages.

use solver::{ErrorKind, Event, LogStream, Observer};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Lines that an error message can show.
const TAIL_LINES: usize = 60;
/// Longest line that is kept for it, in bytes.
const TAIL_LINE_BYTES: usize = 4096;

/// Where the logs of one build go.
#[derive(Debug, Clone)]
pub struct LogDir(pub PathBuf);

/// The log of one step.
pub struct StepLog {
    inner: Mutex<Inner>,
}

struct Inner {
    file: Option<File>,
    tail: VecDeque<Vec<u8>>,
    line: Vec<u8>,
    /// Bytes that must never be shown.
    masks: Vec<Vec<u8>>,
}

impl StepLog {
    /// A log that also goes to `file`, where there is one. Every occurrence of a mask becomes `***`.
    pub fn new(path: Option<&Path>, masks: Vec<Vec<u8>>) -> Result<Self, ErrorKind> {
        let file = path
            .map(|p| {
                if let Some(parent) = p.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                File::create(p)
            })
            .transpose()
            .map_err(|e| ErrorKind::other(format!("can't write the step's log: {e}")))?;
        let masks = masks.into_iter().filter(|m| m.len() >= 4).collect();
        Ok(StepLog { inner: Mutex::new(Inner { file, tail: VecDeque::new(), line: Vec::new(), masks }) })
    }

    fn add(&self, data: &[u8]) {
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(file) = &mut inner.file {
            // A full disk must not fail a step that is fine; the terminal still has the log.
            let _ = file.write_all(data);
        }
        for piece in data.split_inclusive(|b| *b == b'\n') {
            let room = TAIL_LINE_BYTES.saturating_sub(inner.line.len());
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            inner.line.extend_from_slice(&text[..text.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut inner.line);
                inner.push(line);
            }
        }
    }

    /// The last lines, as text.
    pub fn tail(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        let last = (!inner.line.is_empty()).then_some(&inner.line);
        inner.tail.iter().chain(last).map(|l| String::from_utf8_lossy(l).trim_end_matches('\r').to_string()).collect()
    }

    fn mask(&self, data: Vec<u8>) -> Vec<u8> {
        let inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        inner.masks.iter().fold(data, |data, mask| replace(&data, mask, b"***"))
    }
}

impl Inner {
    fn push(&mut self, line: Vec<u8>) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }
}

fn replace(data: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    let mut i = 0;
    while i < data.len() {
        if data[i..].starts_with(from) {
            out.extend_from_slice(to);
            i += from.len();
        } else {
            out.push(data[i]);
            i += 1;
        }
    }
    out
}

/// Pass a step's output on until it ends. Runs on a thread of its own.
pub fn pump(mut from: impl Read, log: Arc<StepLog>, observer: Arc<dyn Observer>, vertex: graph::VertexRef, stream: LogStream) {
    let has_masks = !log.inner.lock().unwrap_or_else(|e| e.into_inner()).masks.is_empty();
    let mut buffer = [0; 16 * 1024];
    let mut held: Vec<u8> = Vec::new();
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        if !has_masks {
            emit(&buffer[..n], &log, &*observer, vertex, stream);
            continue;
        }
        // A secret may be split between two reads: only whole lines are passed on.
        held.extend_from_slice(&buffer[..n]);
        let end = held.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let end = if end == 0 && held.len() > 64 * 1024 { held.len() } else { end };
        let rest = held.split_off(end);
        let ready = std::mem::replace(&mut held, rest);
        if !ready.is_empty() {
            emit(&log.mask(ready), &log, &*observer, vertex, stream);
        }
    }
    if !held.is_empty() {
        emit(&log.mask(held), &log, &*observer, vertex, stream);
    }
}

fn emit(data: &[u8], log: &StepLog, observer: &dyn Observer, vertex: graph::VertexRef, stream: LogStream) {
    log.add(data);
    observer.event(Event::Log { vertex, stream, data });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_across_reads() {
        let log = Arc::new(StepLog::new(None, vec![b"hunter2!".to_vec()]).unwrap());
        struct Slow(Vec<&'static [u8]>);
        impl Read for Slow {
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                let Some(next) = self.0.pop() else { return Ok(0) };
                buf[..next.len()].copy_from_slice(next);
                Ok(next.len())
            }
        }
        pump(Slow(vec![b"2! after\nrest hunter2!", b"before hunter"]), log.clone(), Arc::new(solver::Quiet), graph::VertexRef(0), LogStream::Stdout);
        assert_eq!(log.tail(), ["before *** after", "rest ***"]);
    }

    #[test]
    fn the_tail_is_bounded() {
        let log = StepLog::new(None, Vec::new()).unwrap();
        for i in 0..1000 {
            log.add(format!("{i}\n").as_bytes());
        }
        log.add(&vec![b'x'; 100_000]);
        let tail = log.tail();
        assert_eq!(tail.len(), TAIL_LINES + 1);
        assert_eq!(tail[TAIL_LINES - 1], "999");
        assert_eq!(tail[TAIL_LINES].len(), TAIL_LINE_BYTES);
    }
}
