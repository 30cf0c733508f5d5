//! Blobs: bytes under their sha256, written once and never changed.

use crate::disk::{self, WriteBehind};
use crate::error::{Context, Error};
use crate::lease::Held;
use crate::{LocalStore, Result};
use digest::{Digest, Sha256, VerifyError, VerifyingReader};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Reads a blob and verifies it on the way; the last read fails where the bytes are damaged, and the
/// blob is set aside then.
pub struct BlobReader {
    inner: VerifyingReader<File>,
    size: u64,
    digest: Digest,
    store: LocalStore,
    /// Device and inode of what is read.
    file: (u64, u64),
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader").field("size", &self.size).finish_non_exhaustive()
    }
}

impl BlobReader {
    /// Bytes of the blob.
    pub fn size(&self) -> u64 {
        self.size
    }
}
impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf).inspect_err(|e| {
            if mismatch(e).is_some() {
                // Where this fails too, the blob is found damaged again by the next reader.
                let _ = self.store.quarantine(&self.digest, Some(self.file));
            }
        })
    }
}

/// What a verifying reader found wrong, behind an error of reading.
fn mismatch(e: &io::Error) -> Option<&VerifyError> {
    e.get_ref().and_then(|inner| inner.downcast_ref::<VerifyError>())
}

/// Takes the bytes of a new blob. Nothing is visible before [`BlobWriter::commit`]; dropping it gives
/// the space back.
#[derive(Debug)]
pub struct BlobWriter {
    store: LocalStore,
    tmp: PathBuf,
    // The hash runs over what the buffer passes on, in large pieces.
    out: Option<BufWriter<Hashed>>,
    expected: Option<(Digest, u64)>,
}

struct Hashed {
    file: File,
    hasher: Sha256,
    written: u64,
    behind: WriteBehind,
    limit: Option<(Digest, u64)>,
}

impl std::fmt::Debug for Hashed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hashed").field("written", &self.written).finish_non_exhaustive()
    }
}

impl Write for Hashed {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Some((digest, expected)) = self.limit {
            let actual = self.written + buf.len() as u64;
            if actual > expected {
                // A lying source must not fill the disk.
                return Err(VerifyError::Size { digest, expected, actual }.into());
            }
        }
        let n = self.file.write(buf)?;
        self.hasher.update(&buf[..n]);
        self.written += n as u64;
        self.behind.reached(&self.file, self.written);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Some(out) => out.write(buf),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter {
    /// Verify, sync and name the blob. `Ok` means that the blob is present and durable, not that this
    /// call made it: where it existed, the written copy is dropped. The blob is held.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where digest or size are not the expected ones.
    pub fn commit(mut self) -> Result<(Digest, u64)> {
        let (file, digest, size) = self.finish()?;
        self.store.sync_and_name_blob(&file, &self.tmp, digest, size)?;
        Ok((digest, size))
    }

    /// Write out the buffer and verify.
    fn finish(&mut self) -> Result<(File, Digest, u64)> {
        let Some(out) = self.out.take() else {
            return Err(Error::io("write", &self.tmp, io::ErrorKind::BrokenPipe.into()));
        };
        let hashed = out.into_inner().map_err(|e| write_error(&self.tmp, e.into_error()))?;
        let (actual, size) = (hashed.hasher.finish(), hashed.written);
        check(self.expected, actual, size)?;
        Ok((hashed.file, actual, size))
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some(out) = self.out.take() {
            // Without into_parts, dropping the buffer would write it out once more.
            let _ = out.into_parts();
        }
        let _ = fs::remove_file(&self.tmp);
    }
}

pub(crate) fn check(expected: Option<(Digest, u64)>, actual: Digest, size: u64) -> Result<()> {
    let Some((digest, expected_size)) = expected else { return Ok(()) };
    if size != expected_size {
        return Err(Error::Mismatch(VerifyError::Size { digest, expected: expected_size, actual: size }));
    }
    if digest != actual {
        return Err(Error::Mismatch(VerifyError::Digest { expected: digest, actual }));
    }
    Ok(())
}

/// Tell a refusal of ours, carried through `io::Error`, from one of the system.
pub(crate) fn write_error(path: &Path, e: io::Error) -> Error {
    match e.get_ref().and_then(|inner| inner.downcast_ref::<VerifyError>()) {
        Some(verify) => Error::Mismatch(verify.clone()),
        None => Error::io("write", path, e),
    }
}

impl LocalStore {
    /// The file of a blob, open for reading from the start. Not verified: use
    /// [`LocalStore::blob_reader`] for bytes that leave the machine. The blob is held.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        let guard = self.shared()?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::MissingBlob(*digest)),
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        self.hold_guarded(&[Held::Blob(*digest)], &guard)?;
        Ok(file)
    }

    /// A reader that verifies the blob on the way. The blob is held.
    pub fn blob_reader(&self, digest: &Digest) -> Result<BlobReader> {
        let file = self.open_blob(digest)?;
        let meta = file.metadata().at("read", &self.blob_path(digest))?;
        let size = meta.len();
        Ok(BlobReader {
            inner: VerifyingReader::new(file, *digest, size),
            size,
            digest: *digest,
            store: self.clone(),
            file: (meta.dev(), meta.ino()),
        })
    }

    /// All bytes of a blob of at most `max` bytes, verified. A damaged one is set aside, so that the
    /// next attempt can fetch or build it again.
    pub fn read_blob(&self, digest: &Digest, max: u64) -> Result<Vec<u8>> {
        let reader = self.blob_reader(digest)?;
        let size = reader.size;
        if size > max {
            return Err(Error::TooLarge { digest: *digest, size, max });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        let mut reader = reader;
        match reader.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(e) => match mismatch(&e) {
                Some(source) => Err(Error::Damaged { digest: *digest, source: source.clone() }),
                None => Err(Error::io("read", &self.blob_path(digest), e)),
            },
        }
    }

    /// Read a blob that somebody failed to use. A damaged one is set aside, which is
    /// [`Error::Damaged`]; an absent one is [`Error::MissingBlob`].
    pub fn check_blob(&self, digest: &Digest) -> Result<()> {
        let mut reader = self.blob_reader(digest)?;
        match io::copy(&mut reader, &mut io::sink()) {
            Ok(_) => Ok(()),
            Err(e) => match mismatch(&e) {
                Some(source) => Err(Error::Damaged { digest: *digest, source: source.clone() }),
                None => Err(Error::io("read", &self.blob_path(digest), e)),
            },
        }
    }

    /// Bytes of a blob, `None` where it is absent. A present one is held.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let guard = self.shared()?;
        let size = self.peek_blob(digest)?;
        if size.is_some() {
            self.hold_guarded(&[Held::Blob(*digest)], &guard)?;
        }
        Ok(size)
    }

    /// Those of `wanted` (digest and size) that are absent or have another size, in order. The present
    /// ones are held.
    pub fn missing(&self, wanted: &[(Digest, u64)]) -> Result<Vec<(Digest, u64)>> {
        let guard = self.shared()?;
        let mut missing = Vec::new();
        let mut found = Vec::new();
        for (digest, size) in wanted {
            if self.peek_blob(digest)? == Some(*size) {
                found.push(Held::Blob(*digest));
            } else {
                missing.push((*digest, *size));
            }
        }
        self.hold_guarded(&found, &guard)?;
        Ok(missing)
    }

    /// Begin a blob. With `expected`, other bytes are refused, as early as that is known.
    pub fn ingest(&self, expected: Option<(Digest, u64)>) -> Result<BlobWriter> {
        let tmp = self.tmp_path()?;
        let file = disk::create_new(&tmp).at("create", &tmp)?;
        let hashed = Hashed {
            file,
            hasher: Sha256::new(),
            written: 0,
            behind: WriteBehind::default(),
            limit: expected,
        };
        let out = Some(BufWriter::with_capacity(64 * 1024, hashed));
        Ok(BlobWriter { store: self.clone(), tmp, out, expected })
    }

    /// Commit several blobs with one `syncfs` instead of two syncs each. `Ok` means that all are present
    /// and whole for good; that their names survive power loss takes [`LocalStore::seal_batch`], which
    /// [`LocalStore::set_ref`] does. Where one is refused, none is committed. In the order given.
    pub fn commit_all(&self, writers: Vec<BlobWriter>) -> Result<Vec<(Digest, u64)>> {
        let mut done = Vec::with_capacity(writers.len());
        for mut writer in writers {
            let (file, digest, size) = writer.finish()?;
            done.push((writer, file, digest, size));
        }
        if done.is_empty() {
            return Ok(Vec::new());
        }
        self.stamped(|_| {
            self.sync_all()?;
            for (writer, _, digest, size) in &done {
                self.name_blob(&writer.tmp, *digest, *size)?;
            }
            Ok(())
        })?;
        Ok(done.into_iter().map(|(_, _, digest, size)| (digest, size)).collect())
    }

    /// Store `bytes` at once; see [`BlobWriter::commit`].
    pub fn put_blob(&self, bytes: &[u8]) -> Result<(Digest, u64)> {
        let known = (Digest::of(bytes), bytes.len() as u64);
        if self.blob_size(&known.0)? == Some(known.1) {
            return Ok(known);
        }
        let mut writer = self.ingest(Some(known))?;
        writer.write_all(bytes).map_err(|e| write_error(&self.blob_path(&known.0), e))?;
        writer.commit()
    }

    /// Move a damaged blob out of the way; nobody finds it under its digest any more. Given the device
    /// and inode that were found damaged, a sound blob that came in their place meanwhile stays.
    pub(crate) fn quarantine(&self, digest: &Digest, file: Option<(u64, u64)>) -> Result<PathBuf> {
        self.check_writable()?;
        let from = self.blob_path(digest);
        let now = fs::metadata(&from).ok().map(|m| (m.dev(), m.ino()));
        if file.is_some() && file != now {
            return Ok(from);
        }
        let to = self.path("quarantine").join(format!("{}.{}", digest.hex(), disk::random_hex()?));
        match fs::rename(&from, &to) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("set aside", &from, e)),
            _ => Ok(to),
        }
    }

    pub(crate) fn peek_blob(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        match fs::metadata(&path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", &path, e)),
        }
    }

    /// Give the verified file `tmp` its final name, durably.
    pub(crate) fn sync_and_name_blob(
        &self,
        file: &File,
        tmp: &Path,
        digest: Digest,
        size: u64,
    ) -> Result<()> {
        let to = self.blob_path(&digest);
        file.sync_all().at("sync", &to)?;
        self.name_blob(tmp, digest, size)?;
        match to.parent() {
            Some(parent) => disk::sync_dir(parent),
            None => Ok(()),
        }
    }

    /// Give the verified and synced file `tmp` its final name.
    fn name_blob(&self, tmp: &Path, digest: Digest, size: u64) -> Result<()> {
        let to = self.blob_path(&digest);
        let guard = self.shared()?;
        self.hold_guarded(&[Held::Blob(digest)], &guard)?;
        let fresh = disk::with_parent(&to, || disk::rename_new(tmp, &to)).at("commit", &to)?;
        if !fresh {
            // Equal content is there already, unless it was cut short by a fault below us.
            if self.peek_blob(&digest)? == Some(size) {
                disk::remove_file(tmp)?;
            } else {
                fs::rename(tmp, &to).at("commit", &to)?;
            }
        }
        Ok(())
    }
}
