//! Content hashes of selections: what a cache key sees of files.
//!
//! Kinds, names, modes, owners, attributes, link texts, hard-link groups and contents count; times,
//! inode numbers and the place of the tree never do.

use crate::select::{Entry, Kind, Selected, Stamp, Tree};
use digest::{StableHasher, TreeHash};
use rayon::prelude::*;
use rustix::fs::OFlags;
use solver::ErrorKind;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

const DOMAIN: &str = "ctrbuild.selection.v1";

/// Read in pieces of this size.
const CHUNK: usize = 256 * 1024;

/// Hash everything that was selected, files in parallel; those that the tree knows are not read.
pub fn hash(tree: &Tree, selection: &[Selected]) -> Result<TreeHash, ErrorKind> {
    let mut h = StableHasher::new(DOMAIN);
    h.u64(selection.len() as u64);
    for selected in selection {
        let contents: Vec<Option<[u8; 32]>> =
            selected.entries.par_iter().map(|e| content(tree, e)).collect::<Result<_, _>>()?;
        h.bytes(selected.name.as_bytes()).u64(selected.entries.len() as u64);
        for (entry, content) in selected.entries.iter().zip(&contents) {
            hash_entry(&mut h, entry, content.as_ref());
        }
    }
    Ok(TreeHash::from_bytes(h.finish()))
}

/// Most files of a selection that are told one by one.
const MOST_TOLD: usize = 256;

/// What was selected, file by file: the path in the tree, and the beginning of a hash of all that counts. Nothing where there
/// are too many.
pub fn files(tree: &Tree, selection: &[Selected]) -> Result<Vec<(String, String)>, ErrorKind> {
    let of_files = |e: &&Entry| e.kind != Kind::Dir;
    if selection.iter().flat_map(|s| &s.entries).filter(of_files).count() > MOST_TOLD {
        return Ok(Vec::new());
    }
    let told = selection.iter().flat_map(|s| &s.entries).filter(of_files).map(|entry| {
        let mut h = StableHasher::new("ctrbuild.told-file.v1");
        hash_entry(&mut h, entry, content(tree, entry)?.as_ref());
        let path = entry.path.to_string_lossy();
        Ok((path.trim_start_matches('/').to_string(), digest::to_hex(&h.finish())[..16].to_string()))
    });
    told.collect()
}

fn hash_entry(h: &mut StableHasher, entry: &Entry, content: Option<&[u8; 32]>) {
    h.bytes(entry.rel.as_os_str().as_bytes());
    match &entry.kind {
        Kind::Dir => h.tag(0),
        Kind::File => h.tag(1),
        Kind::Symlink(text) => h.tag(2).bytes(text.as_bytes()),
        Kind::Fifo => h.tag(3),
        Kind::Socket => h.tag(4),
        Kind::Device { block, rdev } => h.tag(5).put(block).u64(*rdev),
    };
    // A symlink's mode is no property of it.
    let mode = if matches!(entry.kind, Kind::Symlink(_)) { 0o777 } else { entry.mode };
    h.put(&mode).put(&entry.uid).put(&entry.gid).put(&entry.implied);
    h.put(&entry.hard_link.map(|i| i as u64));
    h.u64(entry.xattrs.len() as u64);
    for (name, value) in &entry.xattrs {
        h.bytes(name.as_bytes()).bytes(value);
    }
    if let Some(content) = content {
        h.u64(entry.size).fixed(content);
    }
}

fn content(tree: &Tree, entry: &Entry) -> Result<Option<[u8; 32]>, ErrorKind> {
    if entry.kind != Kind::File || entry.hard_link.is_some() {
        return Ok(None);
    }
    let Some(known) = &tree.known else { return read(tree, entry).map(Some) };
    if let Some(hash) = known.get(&entry.stamp) {
        return Ok(Some(hash));
    }
    // The clock that the kernel stamps files with.
    let begun = SystemTime::now();
    let hash = read(tree, entry)?;
    known.put(&entry.stamp, hash, begun);
    Ok(Some(hash))
}

/// The hash of a file's content.
fn read(tree: &Tree, entry: &Entry) -> Result<[u8; 32], ErrorKind> {
    let mut hasher = blake3::Hasher::new();
    if entry.size > 0 {
        let mut file = open(tree, entry)?;
        let mut buffer = vec![0; CHUNK.min(entry.size as usize + 1)];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => hasher.update(&buffer[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(ErrorKind::other(format!("can't read {}: {e}", entry.path.display()))),
            };
        }
        unchanged(&file, entry)?;
    }
    Ok(*hasher.finalize().as_bytes())
}

/// Open a regular file of a selection. Never blocks, even if a FIFO has taken its place.
pub fn open(tree: &Tree, entry: &Entry) -> Result<File, ErrorKind> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = tree.root.open_file(&entry.path, flags).map_err(crate::copy::io)?;
    let file = File::from(fd);
    unchanged(&file, entry)?;
    Ok(file)
}

/// Fails if an open file is not what was selected any more.
pub fn unchanged(file: &File, entry: &Entry) -> Result<(), ErrorKind> {
    let stat = rustix::fs::fstat(file)
        .map_err(|e| ErrorKind::other(format!("can't stat {}: {e}", entry.path.display())))?;
    if Stamp::of(&stat).same_content(&entry.stamp) {
        return Ok(());
    }
    Err(ErrorKind::with_hint(
        format!("{} was changed while it was read", entry.path.display()),
        "build again once nothing writes to the context any more",
    ))
}
