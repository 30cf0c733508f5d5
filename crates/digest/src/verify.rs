//! Streams that hash what passes: a reader that verifies digest and size, a writer that computes them.

use crate::Digest;
use sha2::Digest as _;
use std::io::{self, Read, Write};

/// Incremental sha256.
#[derive(Clone, Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
    pub fn finish(self) -> Digest {
        Digest::from_bytes(self.0.finalize().into())
    }
}

/// The bytes are not those that the descriptor promised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("content has digest {actual}, but {expected} was asked for")]
    Digest { expected: Digest, actual: Digest },
    #[error("content of {digest} is {actual} bytes, but {expected} were announced")]
    Size { digest: Digest, expected: u64, actual: u64 },
}

impl From<VerifyError> for io::Error {
    fn from(e: VerifyError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, e)
    }
}

/// Passes `inner` through and fails at the end unless digest and size are the expected ones. Stops
/// with [`VerifyError::Size`] at the first byte too many, so a lying source cannot fill a disk.
pub struct VerifyingReader<R> {
    inner: R,
    hasher: Option<Sha256>,
    expected: Digest,
    size: u64,
    seen: u64,
}

impl<R: Read> VerifyingReader<R> {
    pub fn new(inner: R, expected: Digest, size: u64) -> Self {
        VerifyingReader { inner, hasher: Some(Sha256::new()), expected, size, seen: 0 }
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let n = self.inner.read(buf)?;
        if n == 0 {
            if self.seen != self.size {
                return Err(VerifyError::Size {
                    digest: self.expected,
                    expected: self.size,
                    actual: self.seen,
                }
                .into());
            }
            if let Some(h) = self.hasher.take() {
                let actual = h.finish();
                if actual != self.expected {
                    return Err(VerifyError::Digest { expected: self.expected, actual }.into());
                }
            }
            return Ok(0);
        }
        self.seen += n as u64;
        if self.seen > self.size {
            return Err(
                VerifyError::Size { digest: self.expected, expected: self.size, actual: self.seen }.into()
            );
        }
        if let Some(h) = &mut self.hasher {
            h.update(&buf[..n]);
        }
        Ok(n)
    }
}

/// Counts and hashes what is written through it.
pub struct HashingWriter<W> {
    inner: W,
    hasher: Sha256,
    written: u64,
}

impl<W: Write> HashingWriter<W> {
    pub fn new(inner: W) -> Self {
        HashingWriter { inner, hasher: Sha256::new(), written: 0 }
    }
    /// The inner writer, the digest and the number of bytes.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.written)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hasher.update(&buf[..n]);
        self.written += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &[u8], digest: Digest, size: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        VerifyingReader::new(data, digest, size).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn verifying_reader_refuses_wrong_long_and_short() {
        let d = Digest::of(b"hello");
        assert_eq!(read(b"hello", d, 5).unwrap(), b"hello");
        for (data, size) in [(&b"hellO"[..], 5), (b"hello!", 5), (b"hell", 5), (b"hello", 6)] {
            assert_eq!(read(data, d, size).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
