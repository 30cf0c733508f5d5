//! A tar writer for archives of images: plain files and folders with fixed times and owners.

use std::io::{self, Read, Write};

/// Writes entries in the order of the calls.
pub(crate) struct Tarball<W> {
    out: W,
}

const BLOCK: u64 = 512;

impl<W: Write> Tarball<W> {
    pub fn new(out: W) -> Self {
        Tarball { out }
    }

    /// `name` is short ASCII chosen by this crate (at most 100 bytes).
    fn header(&mut self, name: &str, kind: tar::EntryType, mode: u32, size: u64) -> io::Result<()> {
        let mut h = tar::Header::new_gnu();
        h.set_path(name)?;
        h.set_entry_type(kind);
        h.set_mode(mode);
        h.set_uid(0);
        h.set_gid(0);
        h.set_mtime(0);
        h.set_size(size);
        h.set_cksum();
        self.out.write_all(h.as_bytes())
    }

    pub fn folder(&mut self, name: &str) -> io::Result<()> {
        self.header(name, tar::EntryType::Directory, 0o755, 0)
    }

    pub fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.stream(name, bytes.len() as u64, &mut &bytes[..])
    }

    /// Exactly `size` bytes of `reader`, which must end there.
    pub fn stream(&mut self, name: &str, size: u64, reader: &mut dyn Read) -> io::Result<()> {
        self.header(name, tar::EntryType::Regular, 0o644, size)?;
        let copied = io::copy(&mut reader.take(size), &mut self.out)?;
        // A verifying reader checks the digest when it is read past the end.
        if copied != size || io::copy(&mut reader.take(1), &mut io::sink())? != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the content has another size than announced",
            ));
        }
        let padding = (BLOCK - size % BLOCK) % BLOCK;
        self.out.write_all(&[0; BLOCK as usize][..padding as usize])
    }

    /// The end mark; gives the output back, flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK as usize])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every other read is interrupted, the one at the end too.
    struct Interrupted<'a>(&'a [u8], bool);

    impl Read for Interrupted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 { Err(io::ErrorKind::Interrupted.into()) } else { self.0.read(buffer) }
        }
    }

    #[test]
    fn interrupted_reads_are_not_seen() {
        let written = |reader: &mut dyn Read| {
            let mut tarball = Tarball::new(Vec::new());
            tarball.stream("f", 3, reader).and_then(|()| tarball.finish())
        };
        let plain = written(&mut &b"abc"[..]).unwrap();
        assert_eq!(written(&mut Interrupted(b"abc", false)).unwrap(), plain);
        for other in [&b"ab"[..], b"abcd"] {
            assert!(written(&mut Interrupted(other, false)).is_err());
        }
    }
}
