//! The store in one process: commit protocol, records, references, collection, verification.

use digest::{CacheKey, DiffId, Digest};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::*;

fn open(root: &Path) -> LocalStore {
    LocalStore::open(root, StoreOptions::default()).unwrap()
}

/// Stores whose clock and kernel the test sets.
struct World {
    dir: tempfile::TempDir,
    now: Arc<AtomicU64>,
}

impl World {
    fn new() -> World {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        World { dir: tempfile::tempdir().unwrap(), now: Arc::new(AtomicU64::new(now)) }
    }
    fn open(&self, boot: &str) -> LocalStore {
        let now = Arc::clone(&self.now);
        let options = StoreOptions {
            now: Arc::new(move || UNIX_EPOCH + Duration::from_secs(now.load(Ordering::SeqCst))),
            boot_id: Some(boot.to_string()),
            touch_interval: Duration::from_secs(60),
        };
        LocalStore::open(&self.dir.path().join("s"), options).unwrap()
    }
    fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }
}

fn key(n: u8) -> CacheKey {
    CacheKey::from_bytes([n; 32])
}

fn record(snapshots: Vec<SnapshotId>) -> RecordV1 {
    RecordV1 {
        payload: serde_json::json!({"v": 1, "out": ["x"]}),
        snapshots,
        blobs: vec![],
        op: Some(OpHash::from_bytes([9; 32])),
        parts: BTreeMap::from([("src".to_string(), "abc".to_string())]),
        created: 0,
    }
}

fn snapshot(store: &LocalStore, content: &str) -> SnapshotId {
    let active = store.prepare().unwrap();
    fs::write(active.upper().join("f"), content).unwrap();
    store.commit(active, SnapshotMeta::default()).unwrap()
}

fn target(digest: Digest, size: u64) -> RefTarget {
    RefTarget {
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        digest,
        size,
        annotations: BTreeMap::new(),
    }
}

fn files_below(dir: &Path) -> usize {
    let mut n = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        n += if entry.file_type().unwrap().is_dir() { files_below(&entry.path()) } else { 1 };
    }
    n
}

#[test]
fn blobs_are_written_once_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("s"));
    let mut writer = store.ingest(None).unwrap();
    writer.write_all(b"hello").unwrap();
    let (digest, size) = writer.commit().unwrap();
    assert_eq!((digest, size), (Digest::of(b"hello"), 5));
    assert_eq!(store.put_blob(b"hello").unwrap(), (digest, 5));
    assert_eq!(store.read_blob(&digest, 5).unwrap(), b"hello");
    assert!(matches!(store.read_blob(&digest, 4), Err(Error::TooLarge { size: 5, max: 4, .. })));
    let other = Digest::of(b"other");
    assert!(store.read_blob(&other, 10).unwrap_err().is_missing());
    let wanted = [(digest, 5), (digest, 6), (other, 5)];
    assert_eq!(store.missing(&wanted).unwrap(), wanted[1..]);
    // Wrong, long, short: refused, and nothing is left.
    for (data, expected) in [(&b"wrong"[..], (digest, 5)), (b"hello!", (digest, 5)), (b"hell", (digest, 5))] {
        assert!(matches!(store.ingest_from(Some(expected), data), Err(Error::Mismatch(_))));
    }
    drop(store.ingest(None).unwrap());
    assert_eq!(files_below(&dir.path().join("s/tmp")), 0);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(dir.path().join("s")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn several_blobs_are_committed_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("s"));
    let writer = |bytes: &[u8], expected| {
        let mut w = store.ingest(expected).unwrap();
        w.write_all(bytes).unwrap();
        w
    };
    let all = [&b"a"[..], b"b", b"a"].map(|bytes| writer(bytes, None));
    let done = store.commit_all(all.into()).unwrap();
    assert_eq!(done, [&b"a"[..], b"b", b"a"].map(|bytes| (Digest::of(bytes), 1)));
    assert_eq!(store.read_blob(&done[1].0, 1).unwrap(), b"b");
    let bad = vec![writer(b"c", None), writer(b"d", Some((Digest::of(b"e"), 1)))];
    assert!(matches!(store.commit_all(bad), Err(Error::Mismatch(_))));
    assert_eq!(store.blob_size(&Digest::of(b"c")).unwrap(), None);
    assert_eq!(files_below(&dir.path().join("s/tmp")), 0);
    assert_eq!(store.commit_all(vec![]).unwrap(), []);
}

#[test]
fn partial_downloads_resume() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("s"));
    let data = b"0123456789".repeat(100_000);
    let digest = Digest::of(&data);
    let size = data.len() as u64;
    let resume = |store: &LocalStore| match store.partial(&digest, size).unwrap() {
        Partial::Resume(p) => p,
        Partial::Present => panic!("not there yet"),
    };
    let mut part = resume(&store);
    part.write_all(&data[..400_000]).unwrap();
    drop(part);
    drop(store);
    let store = open(&dir.path().join("s"));
    let mut part = resume(&store);
    assert_eq!(part.len(), 400_000);
    assert!(part.write_all(&data).is_err(), "more than announced");
    part.restart().unwrap();
    part.write_all(&data[..10]).unwrap();
    assert!(matches!(part.commit(), Err(Error::Mismatch(_))));
    let mut part = resume(&store);
    part.write_all(&data[10..]).unwrap();
    part.commit().unwrap();
    assert!(matches!(store.partial(&digest, size).unwrap(), Partial::Present));
    // Wrong bytes of the right length are not kept for ever.
    let other = Digest::of(b"other");
    let Partial::Resume(mut part) = store.partial(&other, 5).unwrap() else { panic!() };
    part.write_all(b"wrong").unwrap();
    assert!(matches!(part.commit(), Err(Error::Mismatch(_))));
    let Partial::Resume(part) = store.partial(&other, 5).unwrap() else { panic!() };
    assert!(part.is_empty());
}

#[test]
fn snapshots_are_renamed_into_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("s"));
    let active = store.prepare().unwrap();
    fs::write(active.upper().join("f"), "x").unwrap();
    fs::create_dir(active.work().join("work")).unwrap();
    let meta = SnapshotMeta {
        created: None,
        implicit_dirs: vec!["usr/lib".into(), "50%".into()],
        extra: BTreeMap::from([("k".to_string(), "v".to_string())]),
        ..SnapshotMeta::default()
    };
    let id = store.commit(active, meta.clone()).unwrap();
    let path = store.snapshot_path(&id).unwrap();
    assert_eq!(fs::read(path.join("f")).unwrap(), b"x");
    assert!(!path.with_file_name("work").exists());
    let found = store.snapshot(&id).unwrap();
    assert_eq!((found.implicit_dirs, found.extra, found.diff_id), (meta.implicit_dirs, meta.extra, None));
    let diff = DiffId(Digest::of(b"tar"));
    store.set_diff_id(&id, diff, 42).unwrap();
    let found = store.snapshot(&id).unwrap();
    assert_eq!((found.diff_id, found.tar_size), (Some(diff), Some(42)));
    // One that is given up leaves nothing, not even overlay's unreadable work folder.
    let active = store.prepare().unwrap();
    let shut = active.work().join("work");
    fs::create_dir_all(shut.join("deep")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o000)).unwrap();
    drop(active);
    assert_eq!(fs::read_dir(dir.path().join("s/active")).unwrap().count(), 0);
    let gone: SnapshotId = "0123456789abcdef0123456789abcdef".parse().unwrap();
    assert!(store.snapshot(&gone).unwrap_err().is_missing());
    assert!("../x".parse::<SnapshotId>().is_err());
}

#[test]
fn cache_records_and_their_index() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("s"));
    let id = snapshot(&store, "one");
    assert_eq!(store.cache_get(&key(1)).unwrap(), None);
    store.cache_put(&key(1), record(vec![id.clone()])).unwrap();
    store.cache_put(&key(2), record(vec![])).unwrap();
    store.cache_put(&key(1), record(vec![id.clone()])).unwrap();
    let got = store.cache_get(&key(1)).unwrap().unwrap();
    assert_eq!(got.snapshots, std::slice::from_ref(&id));
    assert_eq!(got.parts["src"], "abc");
    assert!(got.created > 0);
    assert_eq!(store.cache_index(&OpHash::from_bytes([9; 32])).unwrap(), [key(1), key(2)]);
    assert_eq!(store.cache_index(&OpHash::from_bytes([8; 32])).unwrap(), []);
    // Without its snapshot the record is a miss, and goes.
    fs::remove_dir_all(store.snapshot_path(&id).unwrap().parent().unwrap()).unwrap();
    assert_eq!(store.cache_get(&key(1)).unwrap(), None);
    assert!(!store.cache_remove(&key(1)).unwrap());
    assert!(store.cache_remove(&key(2)).unwrap());
}

#[test]
fn layers_merge() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("s"));
    let diff_id = DiffId(Digest::of(b"tar"));
    let blob = |bytes: &[u8], media: &str| {
        let (digest, size) = store.put_blob(bytes).unwrap();
        LayerBlobV1 { media_type: media.into(), digest, size, annotations: BTreeMap::new() }
    };
    let empty = LayerRecordV1 { diff_id, size: None, snapshot: None, blobs: vec![], created: 0 };
    assert_eq!(store.layer(&diff_id).unwrap(), None);
    let id = snapshot(&store, "x");
    store.put_layer(LayerRecordV1 { snapshot: Some(id.clone()), ..empty.clone() }).unwrap();
    store.put_layer(LayerRecordV1 { size: Some(7), blobs: vec![blob(b"gz", "g")], ..empty.clone() }).unwrap();
    let other = open(&dir.path().join("s"));
    other
        .put_layer(LayerRecordV1 { blobs: vec![blob(b"zs", "z"), blob(b"gz", "g")], ..empty.clone() })
        .unwrap();
    let got = store.layer(&diff_id).unwrap().unwrap();
    assert_eq!((got.size, got.snapshot, got.blobs.len()), (Some(7), Some(id), 2));
    // A blob that is gone is left out.
    let gone = &got.blobs[0].digest.hex();
    fs::remove_file(dir.path().join("s/blobs/sha256").join(&gone[..2]).join(gone)).unwrap();
    assert_eq!(store.layer(&diff_id).unwrap().unwrap().blobs.len(), 1);
}

#[test]
fn references_are_compared_and_swapped() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("s"));
    let (a, n) = store.put_blob(b"{}").unwrap();
    let (b, m) = store.put_blob(b"{ }").unwrap();
    let name = "docker.io/library/thing:1";
    assert_eq!(store.get_ref(name).unwrap(), None);
    store.set_ref(name, target(a, n), "image", &Expected::Absent).unwrap();
    assert!(matches!(
        store.set_ref(name, target(b, m), "image", &Expected::Absent),
        Err(Error::RefConflict { .. })
    ));
    store.set_ref(name, target(b, m), "image", &Expected::Digest(a)).unwrap();
    store.set_ref(&"long/".repeat(300), target(b, m), "image", &Expected::Any).unwrap();
    assert_eq!(store.get_ref(name).unwrap().unwrap().target.digest, b);
    assert_eq!(store.list_refs().unwrap().len(), 2);
    assert!(store.delete_ref(name, &Expected::Digest(a)).is_err());
    assert!(store.delete_ref(name, &Expected::Digest(b)).unwrap());
    assert!(!store.delete_ref(name, &Expected::Any).unwrap());
    let absent = Digest::of(b"absent");
    assert!(store.set_ref(name, target(absent, 6), "image", &Expected::Any).unwrap_err().is_missing());
}

#[test]
fn references_are_found_by_name_and_by_target() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    let store = open(&root);
    let (a, n) = store.put_blob(b"{}").unwrap();
    let (b, m) = store.put_blob(b"{ }").unwrap();
    let long = "long/".repeat(300);
    for (name, digest, size) in [("x/b:1", b, m), ("x/a:1", a, n), (long.as_str(), a, n), ("y:1", b, m)] {
        store.set_ref(name, target(digest, size), "image", &Expected::Any).unwrap();
    }
    let names = |refs: Vec<store::RefV1>| refs.into_iter().map(|r| r.name).collect::<Vec<_>>();
    assert_eq!(names(store.list_refs_named(|n| n.starts_with("x/")).unwrap()), ["x/a:1", "x/b:1"]);
    // Its file does not tell the name.
    assert_eq!(names(store.list_refs_named(|n| n.starts_with("long/")).unwrap()), [long.as_str()]);
    assert_eq!(names(store.list_refs_below("x/").unwrap()), ["x/a:1", "x/b:1"]);
    assert_eq!(names(store.list_refs_below("x/a").unwrap()), ["x/a:1"]);
    assert_eq!(names(store.list_refs_below("long/long").unwrap()), [long.as_str()]);
    assert_eq!(names(store.refs_to(&a).unwrap()), [long.as_str(), "x/a:1"]);
    assert_eq!(names(store.refs_to(&b).unwrap()), ["x/b:1", "y:1"]);
    assert_eq!(names(store.refs_to(&Digest::of(b"none")).unwrap()), [""; 0]);
    // A digest elsewhere in a record is no target, and damaged records and folders are passed over.
    let mut other = target(b, m);
    other.annotations.insert("of".into(), a.hex());
    store.set_ref("y:1", other, "image", &Expected::Any).unwrap();
    fs::write(root.join("refs/broken"), format!("{{\"version\":1,\"digest\":\"{a}\"")).unwrap();
    fs::create_dir(root.join("refs/folder")).unwrap();
    assert_eq!(names(store.refs_to(&a).unwrap()), [long.as_str(), "x/a:1"]);
    assert_eq!(store.count_refs().unwrap(), 6);
}

#[test]
fn notes_about_names_are_no_more_than_that() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    let store = open(&root);
    let (a, n) = store.put_blob(b"{}").unwrap();
    let (b, m) = store.put_blob(b"{ }").unwrap();
    let long = "long/".repeat(300);
    let set = |name: &str, digest, size| {
        store.set_ref(name, target(digest, size), "image", &Expected::Any).unwrap();
    };
    let named = || [a, b].map(|digest| store.is_named(&digest).unwrap());
    assert_eq!(named(), [false, false]);
    set("x:1", a, n);
    set(&long, a, n);
    store.delete_ref("x:1", &Expected::Any).unwrap();
    assert_eq!(named(), [true, false]);
    // It points elsewhere now, and the note is still there.
    set(&long, b, m);
    assert_eq!(named(), [false, true]);
    // Written by an older program, or on a full disk.
    fs::remove_dir_all(root.join("named-v1")).unwrap();
    assert_eq!(named(), [false, true]);
    set("x:1", a, n);
    let hex = a.hex();
    let note = root.join("named-v1").join(&hex[..2]).join(&hex);
    assert_eq!(fs::read_to_string(&note).unwrap(), "\nx%3A1\n");
    fs::write(&note, b"../../format\n\xff\n%sha256-..\nx%3A1").unwrap();
    assert_eq!(named(), [true, true]);
    // They don't grow for ever.
    fs::write(&note, vec![b'\n'; 100_000]).unwrap();
    set("y:1", a, n);
    assert_eq!(fs::read_to_string(&note).unwrap(), "\ny%3A1\n");
}

#[test]
fn power_loss_takes_only_what_was_not_sealed() {
    let world = World::new();
    let before = world.open("boot-1");
    let diff_id = DiffId(Digest::of(b"tar"));
    let layer = |s: &SnapshotId| LayerRecordV1 {
        diff_id,
        size: None,
        snapshot: Some(s.clone()),
        blobs: vec![],
        created: 0,
    };
    let sealed = snapshot(&before, "sealed");
    before.cache_put(&key(1), record(vec![sealed.clone()])).unwrap();
    before.put_layer(layer(&sealed)).unwrap();
    before.seal_batch().unwrap();
    let open = snapshot(&before, "open");
    before.cache_put(&key(2), record(vec![open.clone()])).unwrap();
    before.cache_put(&key(3), record(vec![sealed.clone()])).unwrap();
    // Another process of the same kernel sees all.
    let same = world.open("boot-1");
    assert!(same.cache_get(&key(2)).unwrap().is_some());
    // Adding to a sealed record does not unseal it.
    let (digest, size) = same.put_blob(b"gz").unwrap();
    let blob = LayerBlobV1 { media_type: "g".into(), digest, size, annotations: BTreeMap::new() };
    same.put_layer(LayerRecordV1 { snapshot: None, blobs: vec![blob], ..layer(&sealed) }).unwrap();
    drop((before, same));
    // After a new start of the kernel only the sealed batch counts.
    let after = world.open("boot-2");
    assert!(after.cache_get(&key(1)).unwrap().is_some());
    assert!(after.cache_get(&key(2)).unwrap().is_none());
    assert!(after.cache_get(&key(3)).unwrap().is_none());
    assert!(after.snapshot(&open).unwrap_err().is_missing());
    let got = after.layer(&diff_id).unwrap().unwrap();
    assert_eq!((got.snapshot, got.blobs.len()), (Some(sealed), 1));
    drop(after);
    let after = world.open("boot-2");
    let report = after.gc(&GcPolicy::GARBAGE).unwrap();
    assert!(report.removed.iter().any(|r| r.id == open.to_string()));
    assert!(after.cache_get(&key(1)).unwrap().is_some(), "the marker of a used batch stays");
}

#[test]
fn torn_records_are_misses() {
    let world = World::new();
    let store = world.open("b");
    let id = snapshot(&store, "x");
    store.cache_put(&key(1), record(vec![id.clone()])).unwrap();
    let hex = key(1).hex();
    let path = world.dir.path().join("s/cache-v1").join(&hex[..2]).join(format!("{hex}.json"));
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(store.cache_get(&key(1)).unwrap().is_none(), "{cut}");
        let mut zeroed = whole[..cut].to_vec();
        zeroed.resize(whole.len(), 0);
        fs::write(&path, &zeroed).unwrap();
        assert!(store.cache_get(&key(1)).unwrap().is_none(), "{cut}");
    }
    fs::write(&path, &whole).unwrap();
    assert!(store.cache_get(&key(1)).unwrap().is_some());
    let meta = store.snapshot_path(&id).unwrap().with_file_name("meta.json");
    fs::write(&meta, "").unwrap();
    assert!(store.cache_get(&key(1)).unwrap().is_none());
}

/// An image of one layer, as blobs.
fn image(store: &LocalStore, layer: &[u8]) -> (Digest, u64, DiffId) {
    let (layer_digest, layer_size) = store.put_blob(layer).unwrap();
    let diff = DiffId(Digest::of(&[layer, b" unpacked"].concat()));
    let config = serde_json::json!({"rootfs": {"type": "layers", "diff_ids": [diff]}});
    let (config, config_size) = store.put_blob(config.to_string().as_bytes()).unwrap();
    let manifest = serde_json::json!({
        "config": {"digest": config, "size": config_size},
        "layers": [{"digest": layer_digest, "size": layer_size}],
    });
    let (manifest, size) = store.put_blob(manifest.to_string().as_bytes()).unwrap();
    let index = serde_json::json!({"manifests": [
        {"digest": manifest, "size": size},
        {"digest": Digest::of(b"a platform that was never pulled"), "size": 3},
    ]});
    let (index, size) = store.put_blob(index.to_string().as_bytes()).unwrap();
    (index, size, diff)
}

#[test]
fn collection_keeps_exactly_what_is_reachable() {
    let world = World::new();
    let builder = world.open("b");
    let (kept, size, diff) = image(&builder, b"kept layer");
    let unpacked = snapshot(&builder, "unpacked");
    builder
        .put_layer(LayerRecordV1 {
            diff_id: diff,
            size: None,
            snapshot: Some(unpacked.clone()),
            blobs: vec![],
            created: 0,
        })
        .unwrap();
    builder.set_ref("kept", target(kept, size), "image", &Expected::Any).unwrap();
    let (lost, _, _) = image(&builder, b"lost layer");
    let cached = snapshot(&builder, "cached");
    builder.cache_put(&key(1), record(vec![cached.clone()])).unwrap();
    let loose = snapshot(&builder, "loose");
    // All is held while the builder lives.
    let collector = world.open("b");
    assert_eq!(collector.gc(&GcPolicy::ALL).unwrap().freed, 0);
    assert!(builder.cache_get(&key(1)).unwrap().is_some());
    drop(builder);
    let preview = collector.gc_preview(&GcPolicy::GARBAGE).unwrap();
    let report = collector.gc(&GcPolicy::GARBAGE).unwrap();
    assert_eq!(preview.removed, report.removed);
    let count = |kind| report.removed.iter().filter(|r| r.kind == kind).count();
    assert_eq!((count(Kind::Blob), count(Kind::Snapshot), count(Kind::CacheRecord)), (4, 1, 0));
    drop(collector);
    let reader = world.open("b");
    assert_eq!(reader.blob_size(&lost).unwrap(), None);
    assert!(reader.snapshot(&loose).is_err());
    assert!(reader.snapshot(&cached).is_ok());
    assert!(reader.verify(VerifyOptions::Report, None).unwrap().is_sound());
    drop(reader);
    let collector = world.open("b");
    let report = collector.gc(&GcPolicy::ALL).unwrap();
    assert_eq!(report.removed.len(), 2, "{report:?}");
    drop(collector);
    let reader = world.open("b");
    assert_eq!(reader.cache_index(&OpHash::from_bytes([9; 32])).unwrap(), []);
    assert_eq!(reader.layer(&diff).unwrap().unwrap().snapshot, Some(unpacked));
    reader.delete_ref("kept", &Expected::Any).unwrap();
    drop(reader);
    world.open("b").gc(&GcPolicy::ALL).unwrap();
    for folder in
        ["blobs", "snapshots", "layers-v1", "cache-v1", "index-v1", "named-v1", "batches", "trash", "locks"]
    {
        assert_eq!(files_below(&world.dir.path().join("s").join(folder)), 0, "{folder}");
    }
}

#[test]
fn policies_choose_by_age_use_and_size() {
    let world = World::new();
    let big = "x".repeat(1 << 20);
    let make = |n: u8| {
        let store = world.open("b");
        let id = snapshot(&store, &big);
        store.cache_put(&key(n), record(vec![id])).unwrap();
        drop(store);
        // Written by the real clock; used by ours.
        world.open("b").cache_get(&key(n)).unwrap().unwrap();
        world.pass(1000);
    };
    for n in 1..=4 {
        make(n);
    }
    let left = || -> Vec<u8> {
        let store = world.open("b");
        let dir = world.dir.path().join("s/cache-v1");
        (1..=4)
            .filter(|n| {
                dir.join(&key(*n).hex()[..2]).join(format!("{}.json", key(*n).hex())).exists()
                    && store.root().exists()
            })
            .collect()
    };
    // The oldest is used again, so the second is the longest unused.
    world.open("b").cache_get(&key(1)).unwrap().unwrap();
    world.pass(100);
    let policy = GcPolicy { keep_bytes: Some(3 << 20 | 1 << 19), ..GcPolicy::GARBAGE };
    let report = world.open("b").gc(&policy).unwrap();
    assert!(report.freed > 1 << 20 && report.kept <= 3 << 20 | 1 << 19, "{report:?}");
    assert_eq!(left(), [1, 3, 4]);
    let policy = GcPolicy { unused_for: Some(Duration::from_secs(2000)), ..GcPolicy::GARBAGE };
    world.open("b").gc(&policy).unwrap();
    assert_eq!(left(), [1, 4]);
    let policy = GcPolicy { older_than: Some(Duration::from_secs(4000)), ..GcPolicy::GARBAGE };
    world.open("b").gc(&policy).unwrap();
    assert_eq!(left(), [4]);
    let usage = world.open("b").df().unwrap();
    assert_eq!(usage[&Kind::Snapshot].count, 1);
    assert!(usage[&Kind::Snapshot].reclaimable > 1 << 20);
}

#[test]
fn damage_is_found_and_repaired() {
    let world = World::new();
    let store = world.open("b");
    let data = vec![3; 20_000];
    let (digest, size) = store.put_blob(&data).unwrap();
    store.set_ref("r", target(digest, size), "image", &Expected::Any).unwrap();
    let hex = digest.hex();
    let path = world.dir.path().join("s/blobs/sha256").join(&hex[..2]).join(&hex);
    let id = snapshot(&store, "x");
    store.set_diff_id(&id, DiffId(digest), 1).unwrap();
    store.cache_put(&key(1), record(vec![id.clone()])).unwrap();
    for at in (0..data.len()).step_by(4096) {
        let mut bad = data.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        let report = store.verify(VerifyOptions::Report, None).unwrap();
        assert_eq!(
            report.findings,
            [Finding::DamagedBlob { digest }, Finding::DanglingRef { name: "r".into(), digest }]
        );
        let mut reader = store.blob_reader(&digest).unwrap();
        assert!(reader.read_to_end(&mut Vec::new()).is_err(), "never passed on");
    }
    assert_eq!(store.blob_size(&digest).unwrap(), None, "set aside by the reader");
    fs::write(&path, &data[1..]).unwrap();
    assert!(matches!(store.read_blob(&digest, 1 << 20), Err(Error::Damaged { .. })));
    assert_eq!(store.blob_size(&digest).unwrap(), None);
    fs::write(&path, &data[1..]).unwrap();
    assert!(matches!(store.check_blob(&digest), Err(Error::Damaged { .. })));
    assert!(matches!(store.check_blob(&digest), Err(Error::MissingBlob(_))));
    assert_eq!(store.put_blob(&data).unwrap(), (digest, size));
    // Cut short behind our back: replaced by the next writer.
    fs::write(&path, &data[..100]).unwrap();
    assert_eq!(store.put_blob(&data).unwrap(), (digest, size));
    assert_eq!(fs::read(&path).unwrap(), data);
    fs::write(&path, "bad").unwrap();
    let changed = |_: &Path, _: &SnapshotV1| Ok(false);
    let report = store.verify(VerifyOptions::Repair, Some(&changed)).unwrap();
    assert_eq!(report.repaired, 3, "{report:?}");
    assert!(report.findings.contains(&Finding::UselessRecord { key: key(1) }));
    store.put_blob(&data).unwrap();
    let report = store.verify(VerifyOptions::Report, None).unwrap();
    assert_eq!(report.findings, []);
    assert!(matches!(store.snapshot(&id), Err(Error::MissingSnapshot(_))));
}

#[test]
fn foreign_and_future_stores_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("precious"), "x").unwrap();
    let refused = LocalStore::open(dir.path(), StoreOptions::default()).unwrap_err();
    assert!(matches!(refused, Error::Format { .. }) && refused.hint().is_some());
    let root = dir.path().join("s");
    drop(open(&root));
    for (format, ok) in [
        (r#"{"version":2}"#, false),
        (r#"{"version":1,"incompatible":["x"]}"#, false),
        (r#"{"version":1,"compatible":["x"]}"#, true),
        (r#"{"vers"#, false),
    ] {
        fs::write(root.join("format"), format).unwrap();
        assert_eq!(LocalStore::open(&root, StoreOptions::default()).is_ok(), ok, "{format}");
    }
    fs::write(root.join("format"), r#"{"version":1,"read_only_compatible":["x"]}"#).unwrap();
    let store = open(&root);
    assert!(matches!(store.put_blob(b"x"), Err(Error::ReadOnly { .. })));
    assert!(matches!(store.gc(&GcPolicy::ALL), Err(Error::ReadOnly { .. })));
    assert_eq!(store.list_refs().unwrap(), []);
}

#[test]
fn opening_and_looking_up_is_fast() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    let store = open(&root);
    let id = snapshot(&store, "x");
    for n in 0..100 {
        store.cache_put(&key(n), record(vec![id.clone()])).unwrap();
    }
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let start = std::time::Instant::now();
        let store = open(&root);
        for n in 0..5 {
            store.cache_get(&key(n)).unwrap().unwrap();
        }
        best = best.min(start.elapsed());
    }
    eprintln!("open and five lookups: {best:?}");
    assert!(best < Duration::from_millis(5), "{best:?}");
}

/// A layer whose batch nobody sealed, found and referred to by another build.
#[test]
fn what_a_killed_build_left_is_durable_once_another_one_refers_to_it() {
    let world = World::new();
    let diff = DiffId(Digest::of(b"tar"));
    let killed = world.open("b");
    let id = snapshot(&killed, "x");
    let layer =
        LayerRecordV1 { diff_id: diff, size: None, snapshot: Some(id.clone()), blobs: vec![], created: 0 };
    killed.put_layer(layer.clone()).unwrap();
    let next = world.open("b");
    assert_eq!(next.put_layer(layer).unwrap().snapshot, Some(id.clone()));
    let (digest, size) = next.put_blob(b"{}").unwrap();
    next.set_ref("r", target(digest, size), "image", &Expected::Any).unwrap();
    let after = world.open("the next boot");
    assert_eq!(after.layer(&diff).unwrap().unwrap().snapshot, Some(id.clone()));
    after.snapshot(&id).unwrap();
    // What nobody referred to is not.
    let other = snapshot(&killed, "y");
    drop((killed, next, after));
    assert!(matches!(world.open("the next boot").snapshot(&other), Err(Error::MissingSnapshot(_))));
}

#[test]
fn damaged_records_are_never_used() {
    let world = World::new();
    let store = world.open("b");
    let id = snapshot(&store, "x");
    store.cache_put(&key(1), record(vec![id.clone()])).unwrap();
    let (digest, size) = store.put_blob(br#"{"layers":[]}"#).unwrap();
    store.set_ref("docker.io/library/a:1", target(digest, size), "base", &Expected::Any).unwrap();
    let hex = key(1).hex();
    let root = world.dir.path().join("s");
    let cache = root.join("cache-v1").join(&hex[..2]).join(format!("{hex}.json"));
    let meta = root.join("snapshots").join(id.as_str()).join("meta.json");
    let reference = root.join("refs/docker.io%2Flibrary%2Fa%3A1");
    for path in [&cache, &meta, &reference] {
        let good = fs::read(path).unwrap();
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(path, &bad).unwrap();
            let report = store.verify(VerifyOptions::Report, None).unwrap();
            assert!(!report.is_sound(), "byte {at} of {}", path.display());
        }
        fs::write(path, &good).unwrap();
    }
    assert!(store.verify(VerifyOptions::Report, None).unwrap().is_sound());
    // Nothing is garbage while a reference can't be read.
    let good = fs::read(&reference).unwrap();
    let digits = String::from_utf8(good.clone()).unwrap().find(&digest.hex()).unwrap();
    let mut bad = good.clone();
    bad[good.len() - 2] ^= 1;
    fs::write(&reference, &bad).unwrap();
    let refused = store.gc(&GcPolicy::GARBAGE).unwrap_err();
    assert!(matches!(refused, Error::Malformed { .. }) && refused.hint().is_some());
    let report = store.verify(VerifyOptions::Repair, None).unwrap();
    assert_eq!(report.repaired, 1);
    let mended = store.get_ref("docker.io/library/a:1").unwrap().unwrap();
    assert_eq!((mended.target.digest, mended.kind.as_str()), (digest, "base"));
    // A damaged digest can't be told from another one: set aside and named.
    bad = fs::read(&reference).unwrap();
    bad[digits] ^= 1;
    fs::write(&reference, &bad).unwrap();
    let report = store.verify(VerifyOptions::Repair, None).unwrap();
    assert_eq!(report.repaired, 0);
    assert!(matches!(report.findings.as_slice(), [Finding::MalformedRef { .. }]), "{report:?}");
    assert_eq!(store.list_refs().unwrap(), []);
    assert_eq!(fs::read_dir(root.join("quarantine")).unwrap().count(), 2);
    store.gc(&GcPolicy::GARBAGE).unwrap();
}

#[test]
fn a_store_that_others_may_write_is_not_trusted() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let store = world.open("b");
    assert!(store.verify(VerifyOptions::Report, None).unwrap().is_trusted());
    let folder = world.dir.path().join("s/cache-v1");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let report = store.verify(VerifyOptions::Report, None).unwrap();
    assert!(report.is_sound() && !report.is_trusted());
    store.verify(VerifyOptions::Repair, None).unwrap();
    assert!(store.verify(VerifyOptions::Report, None).unwrap().is_trusted());
}

#[test]
fn what_power_loss_leaves_unfinished_is_no_damage() {
    let world = World::new();
    let store = world.open("a boot");
    let kept = snapshot(&store, "kept");
    store.cache_put(&key(1), record(vec![kept])).unwrap();
    store.seal_batch().unwrap();
    let id = snapshot(&store, "unsealed");
    store.cache_put(&key(2), record(vec![id.clone()])).unwrap();
    let diff_id = DiffId(Digest::of(b"unsealed"));
    let layer =
        LayerRecordV1 { diff_id, size: None, snapshot: Some(id.clone()), blobs: Vec::new(), created: 0 };
    store.put_layer(layer).unwrap();
    // Names that came to the disk before their content.
    let torn = snapshot(&store, "torn");
    let root = world.dir.path().join("s");
    fs::write(root.join("snapshots").join(torn.as_str()).join("meta.json"), "").unwrap();
    drop(store);
    let store = world.open("the next boot");
    let report = store.verify(VerifyOptions::Report, None).unwrap();
    let unfinished = |kind, id: String| Finding::Unfinished { kind, id };
    let mut expected = vec![
        unfinished(Kind::Snapshot, id.to_string()),
        unfinished(Kind::Snapshot, torn.to_string()),
        unfinished(Kind::LayerRecord, diff_id.to_string()),
        unfinished(Kind::CacheRecord, key(2).to_string()),
    ];
    expected[..2].sort_by_key(|f| format!("{f:?}"));
    assert_eq!(report.findings, expected);
    assert!(report.is_sound());
    let report = store.verify(VerifyOptions::Repair, None).unwrap();
    assert_eq!(report.repaired, 4);
    assert_eq!(store.verify(VerifyOptions::Report, None).unwrap().findings, []);
    assert!(store.cache_get(&key(1)).unwrap().is_some());
}

/// A record is durable with its batch, and so are the snapshots of others that it needs.
#[test]
fn a_sealed_record_has_all_that_it_needs() {
    let world = World::new();
    let killed = world.open("a boot");
    let id = snapshot(&killed, "x");
    killed.cache_put(&key(1), record(vec![id.clone()])).unwrap();
    let store = world.open("a boot");
    let found = store.cache_get(&key(1)).unwrap().unwrap();
    store.cache_put(&key(2), record(found.snapshots)).unwrap();
    store.seal_batch().unwrap();
    drop((killed, store));
    let store = world.open("the next boot");
    assert!(store.cache_get(&key(2)).unwrap().is_some());
    assert!(store.verify(VerifyOptions::Report, None).unwrap().is_sound());
}

#[test]
fn what_the_killed_left_goes_with_the_next_start() {
    let world = World::new();
    let root = world.dir.path().join("s");
    // Killed while it made the store.
    fs::create_dir(&root).unwrap();
    fs::write(root.join("format.new"), "{\"ver").unwrap();
    drop(world.open("b"));
    assert!(!root.join("format.new").exists());
    // Killed in its turn.
    let (lease, turn) = (root.join("leases").join("0".repeat(32)), root.join("locks").join(key(1).hex()));
    fs::write(&lease, "").unwrap();
    fs::write(&turn, "").unwrap();
    fs::create_dir_all(root.join("trash/x/d")).unwrap();
    let store = world.open("b");
    assert!(!lease.exists() && !turn.exists() && !root.join("trash/x").exists());
    // A turn that somebody has is nobody's to take.
    let held = store.key_lock(&key(1)).unwrap();
    fs::write(&lease, "").unwrap();
    let other = world.open("b");
    assert!(!lease.exists() && turn.exists());
    assert!(other.try_key_lock(&key(1)).unwrap().is_none());
    drop(held);
    drop((store, other));
    // Not killed, but not able to remove what it had made.
    let store = world.open("b");
    let active = store.prepare().unwrap();
    let owner = fs::read_dir(root.join("leases")).unwrap().next().unwrap().unwrap().file_name();
    let left = root.join("active").join(format!("{}.{}", owner.to_str().unwrap(), "1".repeat(32)));
    fs::create_dir_all(left.join("fs/d")).unwrap();
    drop((active, store));
    assert!(left.exists());
    drop(world.open("b"));
    assert!(!left.exists());
    assert_eq!(fs::read_dir(root.join("leases")).unwrap().count(), 0);
}

#[test]
fn what_could_not_be_checked_is_no_damage() {
    let world = World::new();
    let store = world.open("b");
    let id = snapshot(&store, "x");
    store.set_diff_id(&id, DiffId(Digest::of(b"x")), 1).unwrap();
    let full = |_: &Path, _: &SnapshotV1| Err(std::io::Error::other(Error::MissingBlob(Digest::of(b"y"))));
    let refused = store.verify(VerifyOptions::Repair, Some(&full)).unwrap_err();
    assert!(matches!(refused, Error::MissingBlob(_)));
    store.snapshot(&id).unwrap();
    let unreadable = |_: &Path, _: &SnapshotV1| Err(std::io::Error::other("a bad sector"));
    let report = store.verify(VerifyOptions::Report, Some(&unreadable)).unwrap();
    assert!(matches!(report.findings.as_slice(), [Finding::DamagedSnapshot { .. }]));
}
