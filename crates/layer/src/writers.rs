//! Small files on their way to disk: the thread that reads an archive gives names, others do the rest.
//!
//! Creating, writing and describing small files takes the kernel longer than everything else that unpacking does.
//! What a layer becomes depends on the order of its entries through names only; contents, owners, modes, attributes
//! and times go to a file that is open already, whatever became of its name meanwhile.
//!
//! Invariant: little is in flight, so that memory does not grow with the archive.

use crate::read::Entry;
use crate::unpack::{Settings, settle_file, write_at};
use crate::{Error, Result, error::Context};
use rustix::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Most bytes of a small file.
const SMALL: u64 = 128 * 1024;
/// Files and bytes that are handed over together: waking a thread for each file would cost as much as writing it.
const BATCH: usize = 16;
const BATCH_BYTES: usize = 512 * 1024;
/// Batches that wait, at most. Each file is an open one.
const DEPTH: usize = 2;
/// Threads, at most.
const MOST_THREADS: usize = 4;

/// A file that was just created, and what is to become of it.
pub struct NewFile {
    pub file: OwnedFd,
    /// For messages.
    pub path: Vec<u8>,
    pub entry: Entry,
    pub settings: Settings,
    pub data: Vec<u8>,
}

/// Whether a file may be written by [`Writers`].
pub fn is_small(entry: &Entry) -> bool {
    entry.sparse.is_none() && entry.size <= SMALL
}

/// Takes files for the threads.
pub struct Writers {
    queue: SyncSender<Vec<NewFile>>,
    batch: Vec<NewFile>,
    /// Bytes of data in `batch`.
    bytes: usize,
    state: Arc<State>,
}

/// What the threads have to tell.
#[derive(Default)]
struct State {
    /// The first error of any thread.
    failure: Mutex<Option<Error>>,
    /// Files that were given to them and are not closed yet.
    open: AtomicUsize,
}

impl State {
    fn fail(&self, e: Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
    }
    /// The first failure, told once.
    fn check(&self) -> Result<()> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
    fn finish(&self, batch: Vec<NewFile>) -> Result<()> {
        for file in batch {
            let done = finish(&file);
            drop(file);
            self.open.fetch_sub(1, Ordering::SeqCst);
            done?;
        }
        Ok(())
    }
}

impl Writers {
    /// Take a file, which may be written later. An error may be that of an earlier file.
    pub fn write(&mut self, file: NewFile) -> Result<()> {
        self.state.open.fetch_add(1, Ordering::SeqCst);
        self.bytes += file.data.len();
        self.batch.push(file);
        if self.batch.len() < BATCH && self.bytes < BATCH_BYTES {
            return Ok(());
        }
        self.bytes = 0;
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        match self.queue.try_send(batch) {
            Ok(()) => self.state.check(),
            // All threads have enough to do: better to help than to wait.
            Err(TrySendError::Full(batch)) => {
                self.state.finish(batch)?;
                self.state.check()
            }
            // The queue ends only with the threads, and they end early only after a failure.
            Err(TrySendError::Disconnected(_)) => {
                self.state.check()?;
                Err(Error::Internal("the writing threads are gone"))
            }
        }
    }

    /// Write what was taken and not handed over.
    fn flush(&mut self) -> Result<()> {
        self.bytes = 0;
        self.state.finish(std::mem::take(&mut self.batch))
    }

    /// Run `open`, which opens something. Where this process may not open more files, wait for those that are
    /// being written.
    pub fn with_room<T>(&mut self, mut open: impl FnMut() -> Result<T>) -> Result<T> {
        loop {
            let before = self.state.open.load(Ordering::SeqCst);
            match open() {
                Err(e) if before > 0 && e.is_too_many_files() => {
                    self.flush()?;
                    self.state.check()?;
                    if self.state.open.load(Ordering::SeqCst) == before {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
                other => return other,
            }
        }
    }
}

/// Run `produce` with threads that write; Ok only once all is written. Of several errors that of `produce` counts,
/// which may be a thread's.
pub fn with<T>(produce: impl FnOnce(&mut Writers) -> Result<T>) -> Result<T> {
    let (queue, files) = sync_channel(DEPTH);
    let state = Arc::new(State::default());
    let files = Arc::new(Mutex::new(files));
    // The producer makes files too.
    let threads = rayon::current_num_threads().clamp(2, MOST_THREADS) - 1;
    let value = thread::scope(|scope| {
        for _ in 0..threads {
            let (files, state) = (Arc::clone(&files), Arc::clone(&state));
            scope.spawn(move || {
                while let Some(batch) = next(&files) {
                    if let Err(e) = state.finish(batch) {
                        return state.fail(e);
                    }
                }
            });
        }
        // Only the threads hold the queue's other end: once they are gone, sending fails instead of waiting.
        drop(files);
        let mut writers = Writers { queue, batch: Vec::new(), bytes: 0, state: Arc::clone(&state) };
        let value = produce(&mut writers)?;
        writers.flush()?;
        Ok(value)
    })?;
    state.check()?;
    Ok(value)
}

fn next(files: &Mutex<Receiver<Vec<NewFile>>>) -> Option<Vec<NewFile>> {
    files.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn finish(new: &NewFile) -> Result<()> {
    write_at(&new.file, &new.data, 0).at("write", &new.path)?;
    settle_file(&new.file, &new.entry, new.settings, &new.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::Kind;
    use rustix::fs::{Mode, OFlags};

    fn entry(size: u64) -> Entry {
        Entry {
            path: b"f".to_vec(),
            link: Vec::new(),
            kind: Kind::File,
            mode: 0o640,
            uid: 0,
            gid: 0,
            mtime: (5, 0),
            size,
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    fn new_file(file: OwnedFd, data: &[u8]) -> NewFile {
        NewFile {
            file,
            path: b"f".to_vec(),
            entry: entry(data.len() as u64),
            settings: Settings::default(),
            data: data.to_vec(),
        }
    }

    #[test]
    fn all_is_written_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = |i: usize| dir.path().join(i.to_string());
        with(|files| {
            for i in 0..500 {
                let file = OwnedFd::from(std::fs::File::create_new(path(i)).unwrap());
                files.write(new_file(file, i.to_string().as_bytes()))?;
            }
            Ok(())
        })
        .unwrap();
        for i in 0..500 {
            assert_eq!(std::fs::read_to_string(path(i)).unwrap(), i.to_string());
        }
    }

    #[test]
    fn a_failure_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "f").unwrap();
        let read_only = || rustix::fs::open(&path, OFlags::RDONLY, Mode::empty()).unwrap();
        let failed = with(|files| files.write(new_file(read_only(), b"x")));
        assert!(matches!(failed, Err(Error::Io { op: "write", .. })), "{failed:?}");
        // Endless, unless the failure is told.
        let failed = with(|files| -> Result<()> {
            loop {
                files.write(new_file(read_only(), b"x"))?;
            }
        });
        assert!(matches!(failed, Err(Error::Io { op: "write", .. })), "{failed:?}");
        assert!(with(|_| Err::<(), _>(Error::Internal("x"))).is_err());
    }
}
