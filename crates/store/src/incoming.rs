//! Blobs that are read while they come in.
//!
//! Whoever brings a blob tells an [`Incoming`] how far it is ([`crate::PartialBlob::publish_to`]); a reader follows in
//! another thread. What it reads is not verified yet, so nothing made of it may be kept before the blob is committed and
//! [`Incoming::is_torn`] says that all of it was read from one attempt.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A blob on its way, seen from both ends.
#[derive(Debug)]
pub struct Incoming {
    size: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone)]
enum State {
    /// Nobody brings it yet.
    #[default]
    Awaited,
    /// Of this file so many bytes are there.
    Growing(Arc<File>, u64),
    /// All of it is in this file.
    Whole(Arc<File>),
    /// It does not come, or came from the start again.
    Torn,
}

impl Incoming {
    /// A blob of `size` bytes.
    pub fn new(size: u64) -> Arc<Self> {
        Arc::new(Incoming { size, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Bytes from `file`, of which the first `len` are there.
    pub(crate) fn begin(&self, file: File, len: u64) {
        self.change(|state| match state {
            State::Awaited => Some(State::Growing(Arc::new(file), len)),
            // A second attempt: readers have bytes of the first one.
            _ => Some(State::Torn),
        });
    }

    pub(crate) fn reached(&self, len: u64) {
        self.change(|state| {
            if let State::Growing(_, known) = state {
                *known = len;
            }
            None
        });
    }

    /// What was there is thrown away.
    pub(crate) fn restarted(&self) {
        self.change(|state| matches!(state, State::Growing(_, len) if *len > 0).then_some(State::Torn));
    }

    /// The blob is there, verified, in `file`, however it came: those who still wait for it read that.
    pub fn whole(&self, file: File) {
        self.change(|state| match state {
            State::Growing(_, len) if *len == self.size => None,
            State::Awaited => Some(State::Whole(Arc::new(file))),
            // Somebody else brought the rest of what readers have the beginning of.
            _ => Some(State::Torn),
        });
    }

    /// It does not come any more: reading fails.
    pub fn give_up(&self) {
        self.change(|_| Some(State::Torn));
    }

    /// Whether readers may have got bytes that are not of the blob.
    pub fn is_torn(&self) -> bool {
        matches!(&*self.lock(), State::Torn)
    }

    /// The bytes from the start. Reading waits for those that are not there yet.
    pub fn reader(self: &Arc<Self>) -> IncomingReader {
        IncomingReader { incoming: self.clone(), at: 0 }
    }

    fn change(&self, next: impl FnOnce(&mut State) -> Option<State>) {
        let mut state = self.lock();
        if let Some(next) = next(&mut state) {
            *state = next;
        }
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file, and how many bytes beyond `at` are there: at least one.
    fn wait_beyond(&self, at: u64) -> io::Result<(Arc<File>, u64)> {
        let mut state = self.lock();
        loop {
            match &*state {
                State::Growing(file, len) if *len > at => return Ok((file.clone(), len - at)),
                State::Whole(file) => return Ok((file.clone(), self.size - at)),
                State::Torn => return Err(io::Error::other("the blob did not come to its end")),
                State::Awaited | State::Growing(..) => {}
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// See [`Incoming::reader`].
#[derive(Debug)]
pub struct IncomingReader {
    incoming: Arc<Incoming>,
    at: u64,
}

impl Read for IncomingReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.incoming.size || buf.is_empty() {
            return Ok(0);
        }
        let (file, there) = self.incoming.wait_beyond(self.at)?;
        let most = buf.len().min(usize::try_from(there).unwrap_or(usize::MAX));
        let n = file.read_at(&mut buf[..most], self.at)?;
        if n == 0 {
            // Cut between being told of and being read.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LocalStore, Partial, PartialBlob};
    use digest::Digest;
    use std::thread;

    const BYTES: &[u8] = b"layer bytes, some of them late";

    fn place() -> (tempfile::TempDir, LocalStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&dir.path().join("s"), Default::default()).unwrap();
        (dir, store)
    }

    fn begin(store: &LocalStore, incoming: &Arc<Incoming>) -> Box<PartialBlob> {
        let Partial::Resume(mut partial) = store.partial(&Digest::of(BYTES), BYTES.len() as u64).unwrap()
        else {
            panic!("the blob is there");
        };
        partial.publish_to(incoming.clone()).unwrap();
        partial
    }

    fn read(incoming: &Arc<Incoming>) -> thread::JoinHandle<io::Result<Vec<u8>>> {
        let mut reader = incoming.reader();
        thread::spawn(move || {
            let mut out = Vec::new();
            reader.read_to_end(&mut out).map(|_| out)
        })
    }

    #[test]
    fn readers_follow_and_end_before_the_commit() {
        let (_dir, store) = place();
        let incoming = Incoming::new(BYTES.len() as u64);
        let early = read(&incoming);
        let mut partial = begin(&store, &incoming);
        for piece in BYTES.chunks(7) {
            partial.append(piece).unwrap();
            let mut seen = vec![0; 7];
            assert!(incoming.reader().read(&mut seen).unwrap() > 0);
        }
        assert_eq!(early.join().unwrap().unwrap(), BYTES);
        let digest = partial.commit().unwrap().0;
        incoming.whole(store.open_blob(&digest).unwrap());
        assert!(!incoming.is_torn());
        assert_eq!(read(&incoming).join().unwrap().unwrap(), BYTES);
    }

    #[test]
    fn bytes_of_an_earlier_attempt_come_first() {
        let (_dir, store) = place();
        begin(&store, &Incoming::new(BYTES.len() as u64)).append(&BYTES[..10]).unwrap();
        let incoming = Incoming::new(BYTES.len() as u64);
        let mut partial = begin(&store, &incoming);
        let mut seen = [0; 64];
        assert_eq!(incoming.reader().read(&mut seen).unwrap(), 10);
        partial.append(&BYTES[10..]).unwrap();
        assert_eq!(read(&incoming).join().unwrap().unwrap(), BYTES);
        // What was read turns out to be wrong, and all comes again.
        partial.restart().unwrap();
        assert!(incoming.is_torn());
        partial.append(BYTES).unwrap();
        assert!(incoming.is_torn() && read(&incoming).join().unwrap().is_err());
    }

    #[test]
    fn a_second_attempt_is_not_mixed_with_the_first() {
        let (_dir, store) = place();
        let incoming = Incoming::new(BYTES.len() as u64);
        begin(&store, &incoming).append(&BYTES[..10]).unwrap();
        assert!(!incoming.is_torn());
        begin(&store, &incoming).append(&BYTES[10..]).unwrap();
        assert!(incoming.is_torn());
    }

    #[test]
    fn what_came_otherwise_is_read_from_its_place() {
        let (_dir, store) = place();
        let incoming = Incoming::new(BYTES.len() as u64);
        let early = read(&incoming);
        let digest = store.put_blob(BYTES).unwrap().0;
        incoming.whole(store.open_blob(&digest).unwrap());
        assert_eq!(early.join().unwrap().unwrap(), BYTES);
        // Not after somebody has the beginning of something else.
        let incoming = Incoming::new(BYTES.len() as u64);
        incoming.begin(store.open_blob(&digest).unwrap(), 3);
        incoming.whole(store.open_blob(&digest).unwrap());
        assert!(incoming.is_torn());
    }

    #[test]
    fn nobody_waits_for_what_does_not_come() {
        let (_dir, store) = place();
        let incoming = Incoming::new(BYTES.len() as u64);
        let early = read(&incoming);
        incoming.give_up();
        assert!(early.join().unwrap().is_err());
        // A file that is shorter than what was told.
        let incoming = Incoming::new(BYTES.len() as u64);
        let digest = store.put_blob(b"short").unwrap().0;
        incoming.whole(store.open_blob(&digest).unwrap());
        assert!(read(&incoming).join().unwrap().is_err());
    }
}
