//! Files that are equal in several layers are kept once.
//!
//! Equal means: the same path, owner, mode, time, attributes and bytes. Such files become hard links of each other, which
//! nobody can notice but by their count of names: layers are never written to, and of files of one path only the
//! topmost is seen. Files of different paths stay apart, since a step that copies both would make links of them.
//!
//! A layer's folder is made anew out of links and changes places with the old one in one step; only layers that no
//! running process uses take part.

use crate::Error;
use layer::mirror;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use store::{LocalStore, SnapshotId};

/// Smaller files are not worth the effort: they save a block at most.
const SMALLEST: u64 = 1024;
/// Fewest bytes to save for which a layer's folder is made anew.
const WORTH: u64 = 64 * 1024;

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deduplicated {
    /// Layers that were made anew.
    pub layers: u64,
    pub files: u64,
    /// Bytes on disk that this gave back.
    pub bytes: u64,
}

/// What must be equal before content is looked at: path, size, time, mode and owner, as a hash.
type Key = [u8; 32];

struct Candidate {
    path: Vec<u8>,
    /// Index of the layer that has it already.
    source: usize,
    bytes: u64,
}

/// Keep equal files of all layers once that no running process uses. Blocks, for as long as it takes to read the names of
/// all files and the content of those that may be equal. What there is no room for stays as it is.
pub fn deduplicate(store: &LocalStore) -> Result<Deduplicated, Error> {
    let mut done = Deduplicated::default();
    let ids = store.idle_snapshots()?;
    // Where a file was seen first, and its inode there.
    let mut seen: HashMap<Key, (usize, u64)> = HashMap::new();
    for (number, id) in ids.iter().enumerate() {
        let mut candidates = Vec::new();
        let listed = mirror::single_files(&store.idle_files(id), SMALLEST, |path, stat| {
            let (source, inode) = *seen.entry(key(path, stat)).or_insert((number, stat.st_ino));
            if source != number && inode != stat.st_ino {
                let bytes = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
                candidates.push(Candidate { path: path.to_vec(), source, bytes });
            }
        });
        // Collected meanwhile.
        if listed.is_err() {
            continue;
        }
        if candidates.iter().map(|c| c.bytes).sum::<u64>() >= WORTH {
            share(store, &ids, id, candidates, &mut done)?;
        }
    }
    Ok(done)
}

fn key(path: &[u8], stat: &rustix::fs::Stat) -> Key {
    let mut h = digest::StableHasher::new("ctrbuild.equal-file.v1");
    #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    h.bytes(path).u64(stat.st_size as u64).u64(stat.st_mtime as u64).u64(stat.st_mtime_nsec as u64);
    h.u64(u64::from(stat.st_mode)).u64(u64::from(stat.st_uid)).u64(u64::from(stat.st_gid));
    h.finish()
}

/// Let one layer have the files of others, as far as they are equal.
fn share(
    store: &LocalStore,
    ids: &[SnapshotId],
    id: &SnapshotId,
    candidates: Vec<Candidate>,
    done: &mut Deduplicated,
) -> Result<(), Error> {
    let files = store.idle_files(id);
    let mut instead: HashMap<Vec<u8>, PathBuf> = HashMap::new();
    let mut sources: HashSet<&SnapshotId> = HashSet::new();
    let mut bytes = 0;
    for candidate in candidates {
        let source = &ids[candidate.source];
        let other = store.idle_files(source);
        if mirror::is_same_file(&other, &files, &candidate.path).unwrap_or(false) {
            bytes += candidate.bytes;
            instead.insert(candidate.path, other);
            sources.insert(source);
        }
    }
    if bytes < WORTH {
        return Ok(());
    }
    // On a full disk there is no room for links, which must not keep a collection from what it is for.
    let active = match store.prepare() {
        Err(store::Error::NoSpace { .. }) => return Ok(()),
        other => other?,
    };
    let sources: Vec<SnapshotId> = sources.into_iter().cloned().collect();
    let all: Vec<SnapshotId> = sources.iter().chain([id]).cloned().collect();
    // Links change files, which whoever reads them at that moment would take for a sign of damage.
    let Some(idle) = store.idle(&all)? else { return Ok(()) };
    let linked = match mirror::link(&files, &active.upper(), &instead) {
        Err(e) if e.is_no_space() => return Ok(()),
        other => other?,
    };
    idle.exchange(id, &active, &sources)?;
    drop(idle);
    done.layers += 1;
    done.files += linked;
    done.bytes += bytes;
    Ok(())
}
