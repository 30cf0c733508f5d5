//! Logs of steps: whole on disk, their end in memory for error messages.

use crate::mask::{Masked, Masks};
use solver::{Event, LogStream, Observer};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Lines that an error message can show.
const TAIL_LINES: usize = 60;
/// Longest line that is kept for it, in bytes.
const TAIL_LINE_BYTES: usize = 4096;

/// Where the logs of one build go: a folder for each build, in one folder for all. Made with the first byte
/// that a step says.
#[derive(Debug, Clone)]
pub struct LogDir(pub PathBuf);

impl LogDir {
    /// Remove the logs of all builds but the newest `keep`. The folders' names sort by time.
    pub fn prune(&self, keep: usize) {
        let Some(all) = self.0.parent() else { return };
        let entries = std::fs::read_dir(all).into_iter().flatten().flatten();
        let mut builds: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| *p != self.0).collect();
        builds.sort_unstable();
        let excess = builds.len().saturating_sub(keep);
        for old in &builds[..excess] {
            // Another builder may be at the same; what stays is tried again with the next build.
            let _ = std::fs::remove_dir_all(old);
        }
    }
}

/// A file that is made when something is written to it.
enum Output {
    Nowhere,
    /// `step-N.log` in this folder, or with another number behind it where that is taken: by an earlier
    /// attempt, or by another platform's step.
    Wanted {
        dir: PathBuf,
        step: u32,
    },
    Open {
        file: File,
        path: PathBuf,
    },
}

impl Output {
    fn write(&mut self, data: &[u8]) -> std::io::Result<()> {
        if let Output::Wanted { dir, step } = self {
            *self = match create(dir, *step) {
                Ok((file, path)) => Output::Open { file, path },
                Err(e) => {
                    *self = Output::Nowhere;
                    return Err(e);
                }
            };
        }
        match self {
            Output::Open { file, .. } => file.write_all(data),
            _ => Ok(()),
        }
    }
}

fn create(dir: &Path, step: u32) -> std::io::Result<(File, PathBuf)> {
    std::fs::create_dir_all(dir)?;
    let mut name = format!("step-{step}.log");
    for n in 2.. {
        let path = dir.join(&name);
        match File::create_new(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && n < 10_000 => {
                name = format!("step-{step}.{n}.log")
            }
            made => return made.map(|file| (file, path)),
        }
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}

/// The log of one step.
pub struct StepLog {
    /// What must never be shown.
    masks: Arc<Masks>,
    inner: Mutex<Inner>,
}

struct Inner {
    output: Output,
    tail: VecDeque<Vec<u8>>,
    line: Vec<u8>,
}

impl StepLog {
    /// A log that also goes to a file of `dir`, where one is given. What `masks` knows is in neither.
    pub fn new(dir: Option<&LogDir>, step: u32, masks: Arc<Masks>) -> Self {
        let output = dir.map_or(Output::Nowhere, |dir| Output::Wanted { dir: dir.0.clone(), step });
        StepLog { masks, inner: Mutex::new(Inner { output, tail: VecDeque::new(), line: Vec::new() }) }
    }

    /// The file with the whole log, if there is one.
    pub fn path(&self) -> Option<PathBuf> {
        match &self.inner.lock().unwrap_or_else(|e| e.into_inner()).output {
            Output::Open { path, .. } => Some(path.clone()),
            _ => None,
        }
    }

    fn add(&self, data: &[u8]) {
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        // A full disk must not fail a step that is fine; the terminal still has the log.
        let _ = inner.output.write(data);
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
        inner
            .tail
            .iter()
            .chain(last)
            .map(|l| String::from_utf8_lossy(l).trim_end_matches('\r').to_string())
            .collect()
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

/// Pass a step's output on until it ends. Runs on a thread of its own.
pub fn pump(
    mut from: impl Read,
    log: Arc<StepLog>,
    observer: Arc<dyn Observer>,
    vertex: graph::VertexRef,
    stream: LogStream,
) {
    let mut buffer = [0; 16 * 1024];
    let mut masked = Masked::default();
    let pass_on = |data: Vec<u8>| {
        if !data.is_empty() {
            emit(&data, &log, &*observer, vertex, stream);
        }
    };
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => pass_on(masked.push(&log.masks, &buffer[..n])),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        }
    }
    pass_on(masked.finish(&log.masks));
}

/// A line of the builder's own among a step's output.
pub fn remark(text: &str, log: &StepLog, observer: &dyn Observer, vertex: graph::VertexRef) {
    // A name that a step asked for may be a secret.
    let text = log.masks.hide(format!("ctrbuild: {text}\n").as_bytes());
    emit(&text, log, observer, vertex, LogStream::Stderr);
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
        let known = Arc::new(Masks::default());
        known.add(b"hunter2!\n");
        let log = Arc::new(StepLog::new(None, 0, known));
        struct Slow(Vec<&'static [u8]>);
        impl Read for Slow {
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                let Some(next) = self.0.pop() else { return Ok(0) };
                buf[..next.len()].copy_from_slice(next);
                Ok(next.len())
            }
        }
        pump(
            Slow(vec![b"2! after\nrest hunter2!", b"before hunter"]),
            log.clone(),
            Arc::new(solver::Quiet),
            graph::VertexRef(0),
            LogStream::Stdout,
        );
        remark("hunter2!.example is not allowed", &log, &solver::Quiet, graph::VertexRef(0));
        assert_eq!(log.tail(), ["before *** after", "rest ***ctrbuild: ***.example is not allowed"]);
    }

    #[test]
    fn the_tail_is_bounded() {
        let log = StepLog::new(None, 0, Arc::default());
        for i in 0..1000 {
            log.add(format!("{i}\n").as_bytes());
        }
        log.add(&vec![b'x'; 100_000]);
        let tail = log.tail();
        assert_eq!(tail.len(), TAIL_LINES + 1);
        assert_eq!(tail[TAIL_LINES - 1], "999");
        assert_eq!(tail[TAIL_LINES].len(), TAIL_LINE_BYTES);
    }

    #[test]
    fn files_are_made_when_needed_and_bounded_in_number() {
        let root = tempfile::tempdir().unwrap();
        for n in 0..5 {
            let dir = LogDir(root.path().join(format!("build-{n}")));
            let silent = StepLog::new(Some(&dir), 1, Arc::default());
            assert_eq!((silent.path(), dir.0.exists()), (None, false));
            for name in ["step-1.log", "step-1.2.log", "step-1.3.log"] {
                let log = StepLog::new(Some(&dir), 1, Arc::default());
                log.add(b"a\n");
                log.add(b"b");
                assert_eq!(log.path().unwrap(), dir.0.join(name));
                assert_eq!(std::fs::read(dir.0.join(name)).unwrap(), b"a\nb");
            }
            dir.prune(2);
        }
        let mut left: Vec<_> =
            std::fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["build-2", "build-3", "build-4"]);
    }
}
