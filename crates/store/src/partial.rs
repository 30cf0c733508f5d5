//! Partial downloads: bytes of an announced blob that survive a failed attempt.

use crate::blob::{check, write_error};
use crate::disk::{self, WriteBehind};
use crate::error::{self, Context, Error};
use crate::incoming::Incoming;
use crate::lock::{retry, still_named};
use crate::{LocalStore, Result};
use digest::{Digest, Sha256, VerifyError};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// What there is of a blob that is wanted.
#[derive(Debug)]
pub enum Partial {
    /// All of it: somebody else brought it meanwhile. It is held.
    Present,
    /// Continue at [`PartialBlob::len`].
    Resume(Box<PartialBlob>),
}

/// The bytes so far, locked against other downloaders of the same blob. Dropping it keeps them, unless the disk is full:
/// they would be in the way of everything else.
pub struct PartialBlob {
    store: LocalStore,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    len: u64,
    behind: WriteBehind,
    expected: (Digest, u64),
    /// Who reads along.
    incoming: Option<Arc<Incoming>>,
}

impl std::fmt::Debug for PartialBlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartialBlob")
            .field("expected", &self.expected)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl PartialBlob {
    /// Bytes that are there already: where a `Range` request begins.
    pub fn len(&self) -> u64 {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// The hash of the bytes so far.
    pub fn hasher(&self) -> Sha256 {
        self.hasher.clone()
    }
    /// Let others read along, from the bytes that are there already.
    pub fn publish_to(&mut self, incoming: Arc<Incoming>) -> Result<()> {
        // Opened once more, not cloned: a clone would go on to hold the lock.
        incoming.begin(File::open(&self.path).at("open", &self.path)?, self.len);
        self.incoming = Some(incoming);
        Ok(())
    }
    /// Start over, for a source that cannot continue in the middle.
    pub fn restart(&mut self) -> Result<()> {
        if let Some(incoming) = &self.incoming {
            incoming.restarted();
        }
        self.file.set_len(0).at("truncate", &self.path)?;
        self.hasher = Sha256::new();
        self.len = 0;
        self.behind = WriteBehind::default();
        Ok(())
    }
    /// Add bytes. On a full disk those that are there already are given back: they would be in the way of
    /// everything else, and the next attempt would not come further.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.write_all(bytes).map_err(|e| write_error(&self.path, e));
        if matches!(written, Err(Error::NoSpace { .. })) {
            // The error to report is the first one.
            let _ = self.restart();
        }
        written
    }
    /// Verify, sync and name the blob; see [`crate::BlobWriter::commit`]. Bytes that turn out to be
    /// wrong are dropped, as are all where a full disk has no place for the name; where some are missing still, they
    /// are kept and the size is reported.
    pub fn commit(self) -> Result<(Digest, u64)> {
        let (digest, size) = self.expected;
        if self.len < size {
            return Err(Error::Mismatch(VerifyError::Size { digest, expected: size, actual: self.len }));
        }
        if let Err(e) = check(Some(self.expected), self.hasher.clone().finish(), self.len) {
            disk::remove_file(&self.path)?;
            return Err(e);
        }
        let named = self.store.sync_and_name_blob(&self.file, &self.path, digest, size);
        if matches!(named, Err(Error::NoSpace { .. })) {
            // The error to report is the first one.
            let _ = disk::remove_file(&self.path);
        }
        named.map(|()| self.expected)
    }
    /// Drop the bytes.
    pub fn discard(self) -> Result<()> {
        disk::remove_file(&self.path).map(|_| ())
    }
}

impl Drop for PartialBlob {
    fn drop(&mut self) {
        // Still locked, so it is nobody else's; what was committed has another name by now.
        if error::found_full() && still_named(&self.file, &self.path) {
            let _ = disk::remove_file(&self.path);
        }
    }
}

impl Write for PartialBlob {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let (digest, expected) = self.expected;
        let actual = self.len + buf.len() as u64;
        if actual > expected {
            return Err(VerifyError::Size { digest, expected, actual }.into());
        }
        let n = self.file.write(buf)?;
        self.hasher.update(&buf[..n]);
        self.len += n as u64;
        self.behind.reached(&self.file, self.len);
        if let Some(incoming) = &self.incoming {
            incoming.reached(self.len);
        }
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LocalStore {
    /// Begin or continue to bring a blob in. Waits while somebody else brings the same one, in this
    /// process or another. Write large pieces: there is no buffer in between.
    pub fn partial(&self, digest: &Digest, size: u64) -> Result<Partial> {
        self.check_writable()?;
        let path = self.path("partial").join(digest.hex());
        loop {
            if self.blob_size(digest)? == Some(size) {
                return Ok(Partial::Present);
            }
            let mut file = disk::open_or_create(&path).at("open", &path)?;
            retry(|| file.lock()).at("lock", &path)?;
            // The one before may have renamed or removed the file that was waited for.
            if !still_named(&file, &path) {
                continue;
            }
            let (hasher, len) = rehash(&mut file).at("read", &path)?;
            let mut partial = PartialBlob {
                store: self.clone(),
                path,
                file,
                hasher,
                len,
                behind: WriteBehind::default(),
                expected: (*digest, size),
                incoming: None,
            };
            if len > size {
                partial.restart()?;
            }
            return Ok(Partial::Resume(Box::new(partial)));
        }
    }

    /// [`LocalStore::ingest`] of a stream: what arrives is written, verified and committed.
    pub fn ingest_from(&self, expected: Option<(Digest, u64)>, mut from: impl Read) -> Result<(Digest, u64)> {
        let mut writer = self.ingest(expected)?;
        let mut buf = vec![0; 256 * 1024];
        loop {
            let n = match from.read(&mut buf) {
                Ok(0) => return writer.commit(),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::io("receive", &self.path("tmp"), e)),
            };
            writer.write_all(&buf[..n]).map_err(|e| write_error(&self.path("tmp"), e))?;
        }
    }

    /// Drop partial downloads that nobody works on and nobody touched for `age`. Returns bytes freed.
    pub(crate) fn drop_old_partials(&self, age: std::time::Duration) -> Result<(u64, u64)> {
        use std::os::unix::fs::MetadataExt;
        let (mut count, mut bytes) = (0, 0);
        for name in disk::names(&self.path("partial"))? {
            let path = self.path("partial").join(name);
            let Ok(file) = File::open(&path) else { continue };
            if !crate::lock::try_lock(&file).at("lock", &path)? || !still_named(&file, &path) {
                continue;
            }
            let meta = fs::metadata(&path).at("read", &path)?;
            let old = meta
                .modified()
                .ok()
                .and_then(|m| self.now().duration_since(m).ok())
                .is_some_and(|a| a >= age);
            if old && disk::remove_file(&path)? {
                count += 1;
                bytes += meta.blocks() * 512;
            }
        }
        Ok((count, bytes))
    }
}

fn rehash(file: &mut File) -> io::Result<(Sha256, u64)> {
    let mut hasher = Sha256::new();
    let mut len = 0;
    let mut buf = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buf) {
            Ok(0) => return Ok((hasher, len)),
            Ok(n) => {
                hasher.update(&buf[..n]);
                len += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_on_a_full_disk_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&dir.path().join("s"), Default::default()).unwrap();
        let begin = |bytes: &[u8]| match store.partial(&Digest::of(bytes), bytes.len() as u64).unwrap() {
            Partial::Resume(mut partial) => {
                partial.append(&bytes[..1]).unwrap();
                partial
            }
            Partial::Present => panic!("it is there"),
        };
        let left = || fs::read_dir(store.path("partial")).unwrap().count();
        drop(begin(b"one"));
        assert_eq!(left(), 1, "for another attempt");
        let (two, mut three) = (begin(b"two"), begin(b"333"));
        crate::note_full();
        drop(two);
        assert_eq!(left(), 2, "of an attempt that is at work nothing goes");
        three.append(b"33").unwrap();
        three.commit().unwrap();
        assert_eq!(left(), 1);
        assert_eq!(store.read_blob(&Digest::of(b"333"), 3).unwrap(), b"333");
    }
}
