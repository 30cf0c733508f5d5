//! Contents of files that were hashed before, so that they need not be read again: in this build, and for the folders of
//! a user in the builds after it.
//!
//! A file is told by device, inode, size, and the times of its last change of content and of anything (`ctime`, which no
//! program can set). A change within one tick of the clock would leave them as they were, so a hash is kept for later
//! builds only if the file was at rest for two seconds when it was read; on file systems of other machines, whose clocks
//! are not ours, none is. git's index goes by the same rules.

use crate::select::Stamp;
use digest::StableHasher;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::LocalStore;

type Hash = [u8; 32];

/// What a file is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    device: u64,
    inode: u64,
    size: i64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl From<&Stamp> for Key {
    fn from(s: &Stamp) -> Key {
        Key { device: s.device, inode: s.inode, size: s.size, mtime: s.mtime, ctime: s.ctime }
    }
}

/// How long a file must have been left alone.
const AT_REST: Duration = Duration::from_secs(2);
/// First bytes of what is kept: the version of what follows, seven numbers of eight bytes and a hash a file.
const MAGIC: &[u8] = b"file hashes 1\n";
const ENTRY: usize = 7 * 8 + 32;
/// Of files that were not seen in a build, as many are kept as were seen, and so many more.
const UNSEEN: usize = 10_000;

/// Hashes of the files of one context.
pub(crate) struct FileHashes {
    /// Where they are kept, and under which key; nothing where they are not.
    place: Option<(LocalStore, Hash)>,
    /// Files of other devices are not kept.
    device: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those of earlier builds, once they are asked for.
    kept: Option<HashMap<Key, Hash>>,
    /// Seen in this build, and whether it may be kept.
    seen: HashMap<Key, (Hash, bool)>,
    changed: bool,
}

impl FileHashes {
    /// For this build only.
    pub fn of_build() -> Self {
        FileHashes { place: None, device: 0, state: Mutex::default() }
    }

    /// For the folder `root`, also in later builds.
    pub fn of_folder(store: &LocalStore, root: &Path) -> Self {
        let kept = (|| {
            let root = root.canonicalize().ok()?;
            let device = rustix::fs::stat(&root).ok()?.st_dev;
            is_local(rustix::fs::statfs(&root).ok()?.f_type).then_some(())?;
            let mut h = StableHasher::new("ctrbuild.file-hashes.v1");
            h.bytes(std::os::unix::ffi::OsStrExt::as_bytes(root.as_os_str()));
            Some((device, h.finish()))
        })();
        match kept {
            None => FileHashes::of_build(),
            #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
            Some((device, key)) => FileHashes {
                place: Some((store.clone(), key)),
                device: device as u64,
                state: Mutex::default(),
            },
        }
    }

    pub fn get(&self, stamp: &Stamp) -> Option<Hash> {
        let (key, mut state) = (Key::from(stamp), self.lock());
        if let Some((hash, _)) = state.seen.get(&key) {
            return Some(*hash);
        }
        if state.kept.is_none() {
            let bytes = self.place.as_ref().and_then(|(store, key)| store.hint(key));
            state.kept = Some(bytes.and_then(|b| decode(&b)).unwrap_or_default());
        }
        let hash = *state.kept.as_ref()?.get(&key)?;
        state.seen.insert(key, (hash, true));
        Some(hash)
    }

    /// The content of a file, read from `begun` on.
    pub fn put(&self, stamp: &Stamp, hash: Hash, begun: SystemTime) {
        let (key, mut state) = (Key::from(stamp), self.lock());
        let lasting = key.device == self.device && self.place.is_some() && was_at_rest(stamp, begun);
        state.changed |= lasting;
        state.seen.insert(key, (hash, lasting));
    }

    /// Keep what was seen for later builds. Nothing depends on that.
    pub fn keep(&self) {
        let mut state = self.lock();
        let Some((store, key)) = self.place.as_ref().filter(|_| state.changed) else { return };
        state.changed = false;
        let mut all: Vec<(Key, Hash)> =
            state.seen.iter().filter(|(_, (_, lasting))| *lasting).map(|(k, (h, _))| (*k, *h)).collect();
        // Another target of the same folder has other files.
        let room = all.len() + UNSEEN;
        let unseen = state.kept.iter().flatten().filter(|(k, _)| !state.seen.contains_key(*k));
        all.extend(unseen.take(room).map(|(k, h)| (*k, *h)));
        let _ = store.keep_hint(key, &encode(&all));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn was_at_rest(stamp: &Stamp, begun: SystemTime) -> bool {
    let (seconds, nanoseconds) = stamp.mtime.max(stamp.ctime);
    let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds)) else {
        return false;
    };
    let changed = UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds));
    changed.is_some_and(|changed| begun.duration_since(changed).is_ok_and(|age| age >= AT_REST))
}

/// File systems whose times come from the clock of this machine.
#[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
fn is_local(kind: rustix::fs::FsWord) -> bool {
    const EXT: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683e;
    const TMPFS: u64 = 0x0102_1994;
    const OVERLAY: u64 = 0x794c_7630;
    const F2FS: u64 = 0xf2f5_2010;
    const ZFS: u64 = 0x2fc1_2fc1;
    const BCACHEFS: u64 = 0xca45_1a4e;
    [EXT, XFS, BTRFS, TMPFS, OVERLAY, F2FS, ZFS, BCACHEFS].contains(&(kind as u64 & 0xffff_ffff))
}

fn encode(all: &[(Key, Hash)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAGIC.len() + all.len() * ENTRY);
    out.extend_from_slice(MAGIC);
    for (k, hash) in all {
        for number in [k.device as i64, k.inode as i64, k.size, k.mtime.0, k.mtime.1, k.ctime.0, k.ctime.1] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(hash);
    }
    out
}

fn decode(bytes: &[u8]) -> Option<HashMap<Key, Hash>> {
    let entries = bytes.strip_prefix(MAGIC)?.chunks_exact(ENTRY);
    let mut out = HashMap::with_capacity(entries.len());
    for entry in entries {
        let number = |n: usize| Some(i64::from_le_bytes(entry[n * 8..][..8].try_into().ok()?));
        let key = Key {
            device: number(0)? as u64,
            inode: number(1)? as u64,
            size: number(2)?,
            mtime: (number(3)?, number(4)?),
            ctime: (number(5)?, number(6)?),
        };
        out.insert(key, entry[7 * 8..].try_into().ok()?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(inode: u64, ctime: (i64, i64)) -> Stamp {
        Stamp { size: -1, mtime: (5, 999), ctime, atime: (0, 0), inode, device: 7 }
    }

    #[test]
    fn what_is_kept_is_what_was_at_rest() {
        let begun = UNIX_EPOCH + Duration::from_secs(100);
        for (ctime, lasting) in [
            ((98, 0), true),
            ((98, 1), false),
            ((100, 0), false),
            ((200, 0), false),
            ((0, 0), true),
            ((-1, 0), true),
        ] {
            // The last change counts, whatever of the two says it.
            assert_eq!(was_at_rest(&stamp(1, ctime), begun), lasting, "{ctime:?}");
        }
        assert!(!was_at_rest(&Stamp { mtime: (99, 0), ..stamp(1, (5, 0)) }, begun));
        assert!(!was_at_rest(&Stamp { mtime: (i64::MAX, 0), ..stamp(1, (5, 0)) }, begun));
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let all: Vec<(Key, Hash)> =
            (0..300u64).map(|n| (Key::from(&stamp(u64::MAX - n, (n as i64, 3))), [n as u8; 32])).collect();
        let bytes = encode(&all);
        assert_eq!(decode(&bytes).unwrap(), all.into_iter().collect::<HashMap<_, _>>());
        assert_eq!(decode(b"file hashes 2\n"), None);
    }

    #[test]
    fn hashes_come_back_in_another_build() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&dir.path().join("s"), Default::default()).unwrap();
        let of_folder = || {
            let mut hashes = FileHashes::of_folder(&store, dir.path());
            hashes.device = 7;
            hashes
        };
        let now = UNIX_EPOCH + Duration::from_secs(100);
        let (old, new, other) = (stamp(1, (50, 0)), stamp(2, (99, 0)), stamp(3, (50, 0)));
        let first = of_folder();
        assert!(first.place.is_some(), "the folder for temporary files is on a local file system");
        assert_eq!(first.get(&old), None);
        first.put(&old, [1; 32], now);
        first.put(&new, [2; 32], now);
        first.put(&Stamp { device: 8, ..other }, [3; 32], now);
        assert_eq!((first.get(&old), first.get(&new)), (Some([1; 32]), Some([2; 32])));
        first.keep();
        let second = of_folder();
        assert_eq!((second.get(&old), second.get(&new)), (Some([1; 32]), None));
        assert_eq!(second.get(&Stamp { device: 8, ..other }), None);
        // What this build did not see stays.
        let third = of_folder();
        assert_eq!(third.get(&new), None);
        third.put(&other, [4; 32], now);
        third.keep();
        let fourth = of_folder();
        assert_eq!((fourth.get(&old), fourth.get(&other)), (Some([1; 32]), Some([4; 32])));
        // Any other time is another file.
        for changed in
            [Stamp { size: 9, ..old }, Stamp { mtime: (6, 0), ..old }, stamp(1, (50, 1)), stamp(9, (50, 0))]
        {
            assert_eq!(fourth.get(&changed), None);
        }
    }
}
