//! Where the bytes of blobs come from and go to: two roles that a store, an archive or a test plays.
//!
//! The traits are synchronous; code that waits for a network bridges to them. `std::io::Error` carries
//! the implementation's own error as its source.

use crate::Descriptor;
use digest::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// Gives out whole blobs.
pub trait BlobSource: Send + Sync {
    /// The bytes of `blob` from the start. An absent blob is [`io::ErrorKind::NotFound`]. The reader
    /// need not verify: whoever hands the bytes on does.
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>>;
}

/// Takes blobs in.
pub trait BlobSink: Send + Sync {
    /// Whether the blob is present, whole and with the size that `blob` says.
    fn has(&self, blob: &Descriptor) -> io::Result<bool>;
    /// Start to write, or go on with what an interrupted earlier attempt left.
    fn begin(&self, blob: &Descriptor) -> io::Result<Box<dyn BlobWriter>>;

    /// Take in a small blob at once. Idempotent.
    fn put(&self, blob: &Descriptor, bytes: &[u8]) -> io::Result<()> {
        if self.has(blob)? {
            return Ok(());
        }
        let mut writer = self.begin(blob)?;
        if writer.is_present() {
            return Ok(());
        }
        writer.restart()?;
        writer.write(bytes)?;
        writer.commit()
    }
}

/// One blob on its way in. Dropping it without a commit must never make the blob visible, but may keep
/// the bytes for a later attempt.
pub trait BlobWriter: Send {
    /// How many bytes from the start are there already, and their hash so far.
    fn resume(&mut self) -> io::Result<(u64, Sha256)> {
        self.restart()?;
        Ok((0, Sha256::new()))
    }
    /// Whether somebody else brought the whole blob in meanwhile, so that nothing is left to write or commit.
    fn is_present(&self) -> bool {
        false
    }
    /// Forget what is there and start from the first byte.
    fn restart(&mut self) -> io::Result<()>;
    /// Append all of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Make the blob visible. Fails with [`digest::VerifyError`] inside unless the bytes are those of
    /// the descriptor.
    fn commit(self: Box<Self>) -> io::Result<()>;
}

/// Blobs in memory: for small things and tests.
#[derive(Debug, Clone, Default)]
pub struct MemoryBlobs(Arc<Mutex<BTreeMap<Digest, Arc<[u8]>>>>);

impl MemoryBlobs {
    pub fn new() -> Self {
        Self::default()
    }
    /// Keep `bytes` under their own digest.
    pub fn insert(&self, bytes: impl Into<Arc<[u8]>>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.map(|m| m.insert(digest, bytes));
        digest
    }
    pub fn get(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.map(|m| m.get(digest).cloned())
    }
    pub fn digests(&self) -> Vec<Digest> {
        self.map(|m| m.keys().copied().collect())
    }
    fn map<T>(&self, f: impl FnOnce(&mut BTreeMap<Digest, Arc<[u8]>>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl BlobSource for MemoryBlobs {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        match self.get(&blob.digest) {
            Some(bytes) => Ok(Box::new(io::Cursor::new(bytes))),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no blob {}", blob.digest))),
        }
    }
}

impl BlobSink for MemoryBlobs {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        Ok(self.get(&blob.digest).is_some_and(|b| b.len() as u64 == blob.size))
    }
    fn begin(&self, blob: &Descriptor) -> io::Result<Box<dyn BlobWriter>> {
        Ok(Box::new(MemoryWriter {
            store: self.clone(),
            expected: (blob.digest, blob.size),
            bytes: Vec::new(),
        }))
    }
}

struct MemoryWriter {
    store: MemoryBlobs,
    expected: (Digest, u64),
    bytes: Vec<u8>,
}

impl BlobWriter for MemoryWriter {
    fn restart(&mut self) -> io::Result<()> {
        self.bytes.clear();
        Ok(())
    }
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
    fn commit(self: Box<Self>) -> io::Result<()> {
        let (digest, size) = self.expected;
        let actual = Digest::of(&self.bytes);
        if actual != digest {
            return Err(digest::VerifyError::Digest { expected: digest, actual }.into());
        }
        if self.bytes.len() as u64 != size {
            let actual = self.bytes.len() as u64;
            return Err(digest::VerifyError::Size { digest, expected: size, actual }.into());
        }
        self.store.insert(self.bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_blobs_verify_on_commit() {
        let m = MemoryBlobs::new();
        let d = Descriptor::of("x", b"hello");
        assert!(!m.has(&d).unwrap());
        assert!(m.put(&d, b"hellO").is_err());
        assert!(!m.has(&d).unwrap());
        m.put(&d, b"hello").unwrap();
        m.put(&d, b"ignored, since it is there").unwrap();
        let mut out = String::new();
        m.open(&d).unwrap().read_to_string(&mut out).unwrap();
        assert_eq!(out, "hello");
        assert_eq!(m.open(&Descriptor::of("x", b"")).err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
