//! What the store takes, counts and gives back: caps that are kept, kinds of things, files that layers share, moving.

use digest::CacheKey;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::{Error, GcPolicy, Kind, Kinds, LocalStore, RecordV1, SnapshotId, SnapshotMeta};

fn open(root: &Path) -> LocalStore {
    LocalStore::open(root, Default::default()).unwrap()
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    (dir, root)
}

/// A snapshot with one file, and a record that keeps it.
fn kept(store: &LocalStore, n: u8, bytes: usize) -> SnapshotId {
    let active = store.prepare().unwrap();
    fs::write(active.upper().join("f"), vec![7; bytes]).unwrap();
    let id = store.commit(active, SnapshotMeta::default()).unwrap();
    let record = RecordV1 {
        payload: serde_json::json!({"v": 1}),
        snapshots: vec![id.clone()],
        blobs: vec![],
        op: None,
        parts: BTreeMap::new(),
        created: 0,
    };
    store.cache_put(&CacheKey::from_bytes([n; 32]), record).unwrap();
    id
}

/// A cache mount as whoever runs steps makes it, used so many seconds ago.
fn mount(root: &Path, key: u8, bytes: usize, age: u64) -> PathBuf {
    let dir = root.join("mounts").join(format!("{key:02x}").repeat(32));
    fs::create_dir_all(dir.join("shared/fs")).unwrap();
    fs::write(dir.join("id"), format!("cache {key}")).unwrap();
    fs::write(dir.join("shared.lock"), "").unwrap();
    fs::write(dir.join("shared/fs/data"), vec![7; bytes]).unwrap();
    let used = std::time::SystemTime::now() - Duration::from_secs(age);
    File::open(dir.join("shared")).unwrap().set_modified(used).unwrap();
    dir.join("shared")
}

/// Bytes of all blocks below a folder.
fn on_disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let meta = entry.as_ref().unwrap().metadata().unwrap();
        bytes += meta.blocks() * 512;
        if meta.is_dir() {
            bytes += on_disk(&entry.unwrap().path());
        }
    }
    bytes
}

#[test]
fn a_cap_is_kept_by_all_that_can_go() {
    let (_dir, root) = place();
    let store = open(&root);
    for n in 1..=3 {
        kept(&store, n, 1 << 20);
    }
    drop(store);
    let old = mount(&root, 1, 2 << 20, 9000);
    let busy = mount(&root, 2, 1 << 20, 9999);
    let lock = File::options().write(true).open(busy.with_file_name("shared.lock")).unwrap();
    lock.lock().unwrap();
    fs::create_dir_all(root.join("logs/1-1")).unwrap();
    fs::write(root.join("logs/1-1/step-1.log"), vec![b'x'; 300_000]).unwrap();
    let cap = 4 << 20;
    let store = open(&root);
    let report = store.gc(&GcPolicy { keep_bytes: Some(cap), ..GcPolicy::GARBAGE }).unwrap();
    assert!(report.kept <= cap, "{report:?}");
    assert!(!old.exists(), "the longest unused went first");
    assert!(busy.exists(), "a mount in use stays");
    let mounts: Vec<_> = report.removed.iter().filter(|r| r.kind == Kind::CacheMount).collect();
    assert!(mounts.len() == 1 && mounts[0].id.starts_with("cache 1 ") && mounts[0].bytes >= 2 << 20);
    drop(store);
    assert!(on_disk(&root) <= cap + (256 << 10), "{} bytes are left", on_disk(&root));
    let usage = open(&root).df().unwrap();
    assert!(usage[&Kind::Log].bytes >= 300_000 && usage[&Kind::CacheMount].count == 1);
    assert_eq!(usage[&Kind::CacheMount].reclaimable, 0, "it is in use");
}

#[test]
fn only_the_kinds_that_were_asked_for_go() {
    let (_dir, root) = place();
    let store = open(&root);
    let id = kept(&store, 1, 1 << 20);
    drop(store);
    let cache = mount(&root, 1, 1 << 20, 10);
    let mounts = GcPolicy { kinds: Kinds::NONE.with(Kind::CacheMount), ..GcPolicy::ALL };
    let preview = open(&root).gc_preview(&mounts).unwrap();
    assert!(cache.exists() && preview.freed >= 1 << 20);
    let report = open(&root).gc(&mounts).unwrap();
    assert_eq!(report.freed, preview.freed);
    assert!(!cache.exists() && open(&root).idle_files(&id).exists());
    let records = GcPolicy { kinds: Kinds::NONE.with(Kind::CacheRecord), ..GcPolicy::ALL };
    open(&root).gc(&records).unwrap();
    assert!(!open(&root).idle_files(&id).exists());
}

#[test]
fn shared_files_count_once_and_go_with_the_last() {
    let (_dir, root) = place();
    let size = 1 << 20;
    let store = open(&root);
    let ids: Vec<SnapshotId> = (1..=3).map(|n| kept(&store, n, size)).collect();
    assert!(store.idle_snapshots().unwrap().is_empty(), "the one who made them holds them");
    let other = open(&root);
    assert!(other.idle(&ids).unwrap().is_none());
    drop(store);
    let store = open(&root);
    let mut idle = store.idle_snapshots().unwrap();
    idle.sort();
    let mut sorted = ids.clone();
    sorted.sort();
    assert_eq!(idle, sorted);
    let before = store.df().unwrap()[&Kind::Snapshot];
    assert_eq!(before.saved, 0);
    for id in &ids[1..] {
        let active = store.prepare().unwrap();
        fs::hard_link(store.idle_files(&ids[0]).join("f"), active.upper().join("f")).unwrap();
        let guard = store.idle(&[ids[0].clone(), id.clone()]).unwrap().unwrap();
        guard.exchange(id, &active, &[ids[0].clone()]).unwrap();
    }
    let after = store.df().unwrap()[&Kind::Snapshot];
    assert!(after.saved >= 2 * size as u64 - 8192, "{after:?}");
    assert!(before.bytes - after.bytes >= 2 * size as u64 - 8192, "{before:?} {after:?}");
    drop(store);
    let only = |keep: u64| GcPolicy { keep_bytes: Some(keep), ..GcPolicy::GARBAGE };
    // Removing one or two of three frees next to nothing, which must not pass for a cap that is kept.
    let report = open(&root).gc(&only(700 << 10)).unwrap();
    assert!(report.kept <= 700 << 10, "{report:?}");
    assert!(on_disk(&root.join("snapshots")) < 700 << 10);
}

#[test]
fn a_moved_store_is_found_where_it_was() {
    let (dir, root) = place();
    let store = open(&root);
    let id = kept(&store, 1, 1000);
    drop(store);
    let (first, second) = (dir.path().join("a"), dir.path().join("b"));
    let mover = open(&root);
    assert!(mover.begin_move(&first).unwrap().rename().unwrap());
    assert!(matches!(mover.prepare(), Err(Error::Moved { .. })), "it is not here any more");
    assert_eq!(open(&root).root(), open(&first).root());
    // By copying, as to another disk.
    let mover = open(&root);
    let mut moving = mover.begin_move(&second).unwrap();
    moving.begin_copy().unwrap();
    assert!(matches!(LocalStore::open(&second, Default::default()), Err(Error::Unfinished { .. })));
    copy(moving.from(), moving.to());
    moving.sync().unwrap();
    moving.finish_copy().unwrap();
    let found = open(&root);
    assert_eq!(found.root(), second.canonicalize().unwrap());
    assert!(found.snapshot(&id).is_ok());
    let left: Vec<_> = fs::read_dir(&first).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["format"]);
    drop(found);
    // And back to where it came from, both ways.
    assert!(open(&root).begin_move(&first).unwrap().rename().unwrap());
    assert!(open(&first).snapshot(&id).is_ok() && open(&second).root() == first);
    let mover = open(&first);
    let mut moving = mover.begin_move(&root).unwrap();
    moving.begin_copy().unwrap();
    copy(moving.from(), moving.to());
    assert_eq!(open(&root).root(), first, "until it is finished, the copy does not count");
    assert!(root.join("blobs").exists(), "and is left alone");
    moving.sync().unwrap();
    moving.finish_copy().unwrap();
    for path in [&root, &first, &second] {
        let found = open(path);
        assert_eq!(found.root(), root);
        assert!(found.snapshot(&id).is_ok());
    }
}

/// What `layer::mirror` does, for plain files.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
        let is_store = from.join("format").exists();
        if is_store && !store::Move::is_taken_along(name.as_encoded_bytes()) {
            continue;
        }
        match path.is_dir() {
            true => {
                fs::create_dir(to.join(&name)).unwrap();
                copy(&path, &to.join(&name));
            }
            false => drop(fs::copy(&path, to.join(&name)).unwrap()),
        }
    }
}

#[test]
fn moves_that_were_cut_off_lose_nothing() {
    let (dir, root) = place();
    let store = open(&root);
    let id = kept(&store, 1, 1000);
    drop(store);
    let to = dir.path().join("to");
    // While it was copied: the old one still is the store, and the next try begins anew.
    let mover = open(&root);
    let mut moving = mover.begin_move(&to).unwrap();
    moving.begin_copy().unwrap();
    fs::create_dir(to.join("blobs")).unwrap();
    fs::write(to.join("blobs/half"), "").unwrap();
    drop(moving);
    assert!(open(&root).snapshot(&id).is_ok());
    let mover = open(&root);
    let mut moving = mover.begin_move(&to).unwrap();
    moving.begin_copy().unwrap();
    copy(moving.from(), moving.to());
    moving.sync().unwrap();
    drop(moving);
    // After the old format was replaced, before anything else.
    let away = serde_json::json!({"version": 1, "incompatible": ["moved"], "place": to.to_str().unwrap()});
    fs::write(root.join("format"), away.to_string()).unwrap();
    let found = open(&root);
    assert_eq!(found.root(), to);
    assert!(found.snapshot(&id).is_ok());
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1, "what was left is gone");
    assert!(open(&to).snapshot(&id).is_ok());
}

#[test]
fn places_that_will_not_do() {
    let (dir, root) = place();
    let store = open(&root);
    kept(&store, 1, 1000);
    let elsewhere = dir.path().join("x");
    let other = open(&root);
    assert!(matches!(other.begin_move(&elsewhere), Err(Error::Busy { .. })), "another one builds");
    drop(store);
    fs::create_dir(&elsewhere).unwrap();
    for to in [elsewhere.clone(), root.clone(), root.join("x"), dir.path().join("no/x"), PathBuf::from("/")] {
        assert!(matches!(other.begin_move(&to), Err(Error::Place { .. })), "{}", to.display());
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    // A disk that is not there is no empty store.
    let to = dir.path().join("disk/s");
    fs::create_dir(dir.path().join("disk")).unwrap();
    assert!(other.begin_move(&to).unwrap().rename().unwrap());
    fs::rename(dir.path().join("disk"), dir.path().join("unmounted")).unwrap();
    assert!(matches!(LocalStore::open(&root, Default::default()), Err(Error::Lost { .. })));
    assert!(!to.exists());
}
