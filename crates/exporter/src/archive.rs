//! Random access to the files of a tar that is never unpacked: names are only looked up, so that no name
//! in an archive can reach a file of this machine.

use crate::error::Error;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Where the bytes of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Extent {
    pub offset: u64,
    pub size: u64,
}

#[derive(Debug, Clone)]
enum Node {
    File(Extent),
    /// A path of the archive, already resolved against the link's folder.
    Link(String),
}

/// A tar file and its table of contents.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    file: Arc<File>,
    nodes: Arc<BTreeMap<String, Node>>,
}

const MAX_ENTRIES: usize = 1_000_000;
const MAX_LINKS: usize = 16;
const COPY: usize = 128 << 10;
/// Of a tar.
const BLOCK: usize = 512;

impl Archive {
    /// Read the table of contents. `unique` names must not come twice.
    pub fn new(file: File, unique: &[&str]) -> Result<Self, Error> {
        let bad = |e: io::Error| Error::Malformed(e.to_string());
        let length = file.metadata().map_err(bad)?.len();
        let mut reader = BufReader::new(file.try_clone().map_err(bad)?);
        reader.seek(SeekFrom::Start(0)).map_err(bad)?;
        let (mut nodes, mut any) = (BTreeMap::new(), false);
        let mut tar = tar::Archive::new(reader);
        for entry in tar.entries_with_seek().map_err(bad)? {
            // The reader's words for what is no header are full of what it found instead.
            let entry =
                entry.map_err(|e| if any { bad(e) } else { Error::Malformed("it is no tar".into()) })?;
            any = true;
            if nodes.len() == MAX_ENTRIES {
                return Err(Error::Malformed(format!("it has more than {MAX_ENTRIES} entries")));
            }
            let raw = entry.path_bytes();
            let Some(name) = std::str::from_utf8(&raw).ok().and_then(|n| resolve("", n)) else { continue };
            let kind = entry.header().entry_type();
            let node = if kind.is_file() {
                let extent = Extent { offset: entry.raw_file_position(), size: entry.size() };
                if extent.offset.checked_add(extent.size).is_none_or(|end| end > length) {
                    return Err(Error::Malformed(format!("{name:?} is cut off")));
                }
                Node::File(extent)
            } else if kind.is_symlink() || kind.is_hard_link() {
                let Some(target) = entry.link_name_bytes() else { continue };
                let folder = if kind.is_symlink() { parent(&name) } else { "" };
                let Some(target) = std::str::from_utf8(&target).ok().and_then(|t| resolve(folder, t)) else {
                    continue;
                };
                Node::Link(target)
            } else {
                continue;
            };
            let twice = nodes.insert(name.clone(), node).is_some();
            if twice && unique.contains(&name.as_str()) {
                return Err(Error::Malformed(format!("it has {name:?} twice")));
            }
        }
        Ok(Archive { file: Arc::new(file), nodes: Arc::new(nodes) })
    }

    /// The file of that name, through links inside the archive.
    pub fn find(&self, name: &str) -> Option<Extent> {
        let mut name = resolve("", name)?;
        for _ in 0..MAX_LINKS {
            match self.nodes.get(&name) {
                Some(Node::File(extent)) => return Some(*extent),
                Some(Node::Link(target)) => name = target.clone(),
                None => return None,
            }
        }
        None
    }

    pub fn open(&self, extent: Extent) -> ExtentReader {
        ExtentReader { file: self.file.clone(), at: extent.offset, left: extent.size }
    }

    /// A small file in memory.
    pub fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        let Some(extent) = self.find(name) else { return Ok(None) };
        if extent.size > limit as u64 {
            return Err(Error::Malformed(format!("{name:?} is larger than {limit} bytes")));
        }
        let mut out = Vec::new();
        self.open(extent).read_to_end(&mut out).map_err(|e| Error::Malformed(e.to_string()))?;
        Ok(Some(out))
    }
}

/// Reads a part of a file without moving its shared position.
pub(crate) struct ExtentReader {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for ExtentReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = self.file.read_at(&mut buf[..want], self.at)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(p, _)| p)
}

/// `path` seen from `folder`, without `.` and `..`; `None` if it leaves the archive.
fn resolve(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            p => parts.push(p),
        }
    }
    Some(parts.join("/"))
}

/// The longest zstd window that is accepted, as a power of two (128 MiB, zstd's own default for tools).
const MAX_WINDOW_LOG: u32 = 27;

/// `reader` unpacked by what its first bytes say: gzip, zstd, or as it is. More than `limit` unpacked
/// bytes are an error.
pub(crate) fn decompressed(reader: Box<dyn Read + Send>, limit: u64) -> io::Result<Box<dyn Read + Send>> {
    let mut reader = BufReader::with_capacity(COPY, reader);
    let start = reader.fill_buf()?;
    let (gzip, zstd) = (start.starts_with(&[0x1f, 0x8b]), start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    if gzip {
        let inner = flate2::bufread::MultiGzDecoder::new(reader);
        return Ok(Box::new(Bounded { inner, left: limit }));
    }
    if zstd {
        let mut inner = zstd::stream::read::Decoder::with_buffer(reader)?;
        inner.window_log_max(MAX_WINDOW_LOG)?;
        return Ok(Box::new(Bounded { inner, left: limit }));
    }
    Ok(Box::new(Bounded { inner: reader, left: limit }))
}

/// Fails at the first byte beyond the limit.
struct Bounded<R> {
    inner: R,
    left: u64,
}

/// The error inside an [`io::Error`] when a limit was passed.
#[derive(Debug, thiserror::Error)]
#[error("it unpacks to more than the limit")]
pub(crate) struct LimitPassed;

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::new(io::ErrorKind::FileTooLarge, LimitPassed)),
        }
        Ok(n)
    }
}

/// An unpacked copy of `reader` as an unnamed file in `scratch`.
pub(crate) fn spool(reader: Box<dyn Read + Send>, scratch: &Path, limit: u64) -> Result<File, Error> {
    let fail = |source: io::Error| match source.get_ref().is_some_and(|e| e.is::<LimitPassed>()) {
        true => Error::TooLarge(limit),
        false => Error::Write { path: scratch.to_path_buf(), source },
    };
    let bad = |e: io::Error| match e.get_ref().is_some_and(|e| e.is::<LimitPassed>()) {
        true => Error::TooLarge(limit),
        false => Error::Malformed(e.to_string()),
    };
    let mut reader = decompressed(reader, limit).map_err(fail)?;
    // A device or a pipe may go on for ever: what is no archive is not copied first.
    let mut head = Vec::with_capacity(BLOCK);
    reader.by_ref().take(BLOCK as u64).read_to_end(&mut head).map_err(bad)?;
    if head.len() == BLOCK {
        match tar::Archive::new(&head[..]).entries().map_err(bad)?.raw(true).next() {
            Some(Ok(_)) => {}
            Some(Err(_)) => return Err(Error::Malformed("it is no tar".into())),
            None => return Err(Error::Malformed("it is empty".into())),
        }
    }
    let mut file = tempfile::tempfile_in(scratch).map_err(fail)?;
    file.write_all(&head).map_err(fail)?;
    let mut buffer = vec![0; COPY];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(file),
            Ok(n) => file.write_all(&buffer[..n]).map_err(fail)?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(bad(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        assert_eq!(resolve("", "./a//b/./c/").as_deref(), Some("a/b/c"));
        assert_eq!(resolve("a/b", "../c").as_deref(), Some("a/c"));
        assert_eq!(resolve("a", "/b").as_deref(), Some("a/b"));
        assert_eq!(resolve("a", "../../b"), None);
    }

    #[test]
    fn bombs_stop_at_the_limit() {
        let zeros = vec![0; 1 << 20];
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&zeros).unwrap();
        let zst = zstd::encode_all(&zeros[..], 1).unwrap();
        for bytes in [gz.finish().unwrap(), zst, zeros.clone()] {
            let read = |limit| {
                let mut out = Vec::new();
                let mut r = decompressed(Box::new(io::Cursor::new(bytes.clone())), limit).unwrap();
                r.read_to_end(&mut out).map(|_| out.len())
            };
            assert_eq!(read(1 << 20).unwrap(), 1 << 20);
            assert!(read((1 << 20) - 1).unwrap_err().get_ref().unwrap().is::<LimitPassed>());
        }
    }

    #[test]
    fn what_never_ends_and_is_no_tar_is_refused_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        let read = |reader| spool(reader, scratch.path(), 1 << 60).map(|_| ()).unwrap_err().to_string();
        assert_eq!(read(Box::new(io::repeat(0))), "invalid archive: it is empty");
        assert_eq!(read(Box::new(io::repeat(7))), "invalid archive: it is no tar");
        let short = spool(Box::new(&b"short"[..]), scratch.path(), 1 << 20).unwrap();
        assert_eq!(short.metadata().unwrap().len(), 5);
    }
}
