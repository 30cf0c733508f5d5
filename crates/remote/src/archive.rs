//! Archives that are a build context: told from text, and unpacked into a snapshot.
//!
//! What counts as an archive is what BuildKit takes for one: gzip, bzip2, xz (and here zstd) by their first
//! bytes, or a tar whose first header has a right checksum.

use crate::Error;
use digest::{CacheKey, Sha256, StableHasher};
use layer::decompress::Format;
use layer::extract::{ExtractOptions, extract};
use sandbox::RootDir;
use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::Path;
use store::{LocalStore, RecordV1, SnapshotId};

/// Largest text that is taken for a recipe, in bytes.
pub const MAX_TEXT: u64 = 16 << 20;
/// Bytes of a tar header.
const BLOCK: usize = 512;

/// What a stream turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unpacked {
    /// An archive, unpacked. Held by the store handle that was used.
    Files(SnapshotId),
    /// A text of at most [`MAX_TEXT`] bytes.
    Text(Vec<u8>),
}

/// Unpack a stream that can be read once. `what` is its name in messages. Blocks.
///
/// # Errors
/// [`Error::NotAContext`] for bytes that are neither archive nor text, [`Error::Archive`] for a damaged
/// archive, [`Error::TooLarge`] for a longer text.
pub fn unpack_stream(
    store: &LocalStore,
    what: &str,
    mut reader: impl Read + Send,
) -> Result<Unpacked, Error> {
    let head = read_head(&mut reader).map_err(|e| source(what, e))?;
    if !is_archive(&head) {
        return text(what, head, reader);
    }
    extract_new(store, what, Cursor::new(head).chain(reader)).map(Unpacked::Files)
}

/// Unpack a file. One with equal bytes that was unpacked before is found again. Blocks.
///
/// # Errors
/// As [`unpack_stream`].
pub fn unpack_file(store: &LocalStore, what: &str, path: &Path) -> Result<Unpacked, Error> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let head = read_head(&mut file).map_err(|e| source(what, e))?;
    if !is_archive(&head) {
        return text(what, head, file);
    }
    file.rewind().map_err(Error::io("read", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(source(what, e)),
        }
    }
    let key = CacheKey::from_bytes(
        StableHasher::new("ctrbuild.context-archive.v1").fixed(hasher.finish().bytes()).finish(),
    );
    let _lock = store.key_lock(&key)?;
    if let Some(found) = store.cache_get(&key)?
        && let [id] = found.snapshots.as_slice()
    {
        return Ok(Unpacked::Files(id.clone()));
    }
    file.rewind().map_err(Error::io("read", path))?;
    let id = extract_new(store, what, file)?;
    let record = RecordV1::of(vec![id.clone()]);
    store.cache_put(&key, record)?;
    Ok(Unpacked::Files(id))
}

fn extract_new(store: &LocalStore, what: &str, reader: impl Read + Send) -> Result<SnapshotId, Error> {
    let active = store.prepare()?;
    let root = RootDir::open_path(active.upper())?;
    extract(reader, &root, &ExtractOptions::default())
        .map_err(|source| Error::Archive { what: what.to_string(), source })?;
    drop(root);
    Ok(store.commit(active, Default::default())?)
}

fn source(what: &str, e: std::io::Error) -> Error {
    Error::Archive { what: what.to_string(), source: layer::Error::Source(e) }
}

/// The first block, or all there is.
fn read_head(reader: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(BLOCK);
    reader.take(BLOCK as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn is_archive(head: &[u8]) -> bool {
    Format::detect(head) != Format::Plain || is_tar_header(head)
}

/// Whether a block is a tar header: its checksum is that of its bytes, signed or not (POSIX ustar).
fn is_tar_header(block: &[u8]) -> bool {
    let Some((block, _)) = block.split_first_chunk::<BLOCK>() else { return false };
    // The end of an empty archive.
    if block.iter().all(|b| *b == 0) {
        return true;
    }
    let field = String::from_utf8_lossy(&block[148..156]);
    let Ok(stored) = i64::from_str_radix(field.trim_matches(['\0', ' ']), 8) else { return false };
    let at = |i: usize, b: u8| if (148..156).contains(&i) { b' ' } else { b };
    let unsigned: i64 = block.iter().enumerate().map(|(i, b)| i64::from(at(i, *b))).sum();
    let signed: i64 = block.iter().enumerate().map(|(i, b)| i64::from(at(i, *b) as i8)).sum();
    stored == unsigned || stored == signed
}

fn text(what: &str, head: Vec<u8>, rest: impl Read) -> Result<Unpacked, Error> {
    if head.contains(&0) {
        return Err(Error::NotAContext { what: what.to_string() });
    }
    let mut bytes = head;
    let room = MAX_TEXT + 1 - bytes.len() as u64;
    rest.take(room).read_to_end(&mut bytes).map_err(|e| source(what, e))?;
    if bytes.len() as u64 > MAX_TEXT {
        return Err(Error::TooLarge { what: what.to_string(), limit: MAX_TEXT });
    }
    Ok(Unpacked::Text(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_told_by_their_checksum() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(2);
        header.set_mode(0o644);
        tar.append_data(&mut header, "Dockerfile", &b"ab"[..]).unwrap();
        let mut bytes = tar.into_inner().unwrap();
        assert!(is_archive(&bytes[..BLOCK]));
        bytes[0] ^= 1;
        assert!(!is_archive(&bytes[..BLOCK]));
        assert!(!is_archive(b"FROM scratch\n"));
        assert!(!is_archive(b""));
        assert!(is_archive(&[0x1f, 0x8b, 8, 0]) && is_archive(&[0; BLOCK]));
        assert!(!is_archive(&[b' '; BLOCK]));
    }
}
