//! The store under several processes: killed ones, waiting ones, collecting ones, full disks.
//!
//! The test program starts itself again with `STORE_TEST_CHILD` set to what the child shall do.

use digest::{CacheKey, DiffId, Digest};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use store::*;

fn open(root: &Path) -> LocalStore {
    LocalStore::open(root, StoreOptions::default()).unwrap()
}

fn key(n: u64) -> CacheKey {
    let mut raw = [0; 32];
    raw[..8].copy_from_slice(&n.to_be_bytes());
    CacheKey::from_bytes(raw)
}

fn child(what: &str, root: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_entry", "--nocapture"])
        .env("STORE_TEST_CHILD", what)
        .env("STORE_TEST_ROOT", root)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Not a test: what children run.
#[test]
fn child_entry() {
    let Ok(what) = std::env::var("STORE_TEST_CHILD") else { return };
    let root = PathBuf::from(std::env::var("STORE_TEST_ROOT").unwrap());
    let (what, n) = what.split_once(':').unwrap_or((&what, "0"));
    let n: u64 = n.parse().unwrap();
    match what {
        "build" => build(&root, n),
        "loop" => loop {
            build(&root, n);
        },
        "flight" => flight(&root),
        "gc" => {
            let end = Instant::now() + Duration::from_millis(n);
            loop {
                open(&root).gc(&GcPolicy::ALL).unwrap();
                if Instant::now() >= end {
                    break;
                }
            }
        }
        other => panic!("{other}"),
    }
}

/// A small build: steps that hit or run, a layer, an image, a reference.
fn build(root: &Path, seed: u64) {
    let store = open(root);
    let mut last = None;
    for step in 0..6 {
        let key = key(seed % 3 * 100 + step);
        let _turn = store.key_lock(&key).unwrap();
        let hit = store.cache_get(&key).unwrap();
        let record = match hit {
            Some(record) => record,
            None => {
                let active = store.prepare().unwrap();
                fs::write(active.upper().join("out"), format!("{step}")).unwrap();
                let id = store.commit(active, SnapshotMeta::default()).unwrap();
                let record = RecordV1 {
                    payload: serde_json::json!(step),
                    snapshots: vec![id],
                    blobs: vec![],
                    op: Some(OpHash::from_bytes([step as u8; 32])),
                    parts: BTreeMap::new(),
                    created: 0,
                };
                store.cache_put(&key, record.clone()).unwrap();
                record
            }
        };
        let path = store.snapshot_path(&record.snapshots[0]).unwrap();
        assert_eq!(fs::read_to_string(path.join("out")).unwrap(), format!("{step}"));
        last = Some(record.snapshots[0].clone());
    }
    let (layer, size) = store.put_blob(format!("layer {}", seed % 3).as_bytes()).unwrap();
    let diff_id = DiffId(Digest::of(format!("tar {}", seed % 3).as_bytes()));
    store
        .put_layer(LayerRecordV1 {
            diff_id,
            size: None,
            snapshot: last,
            blobs: vec![LayerBlobV1 {
                media_type: "l".into(),
                digest: layer,
                size,
                annotations: BTreeMap::new(),
            }],
            created: 0,
        })
        .unwrap();
    let config = format!(r#"{{"rootfs":{{"diff_ids":["{diff_id}"]}}}}"#);
    let (config, config_size) = store.put_blob(config.as_bytes()).unwrap();
    let manifest = format!(
        r#"{{"config":{{"digest":"{config}","size":{config_size}}},"layers":[{{"digest":"{layer}","size":{size}}}]}}"#
    );
    let (digest, size) = store.put_blob(manifest.as_bytes()).unwrap();
    let target = RefTarget { media_type: "m".into(), digest, size, annotations: BTreeMap::new() };
    store.set_ref(&format!("image{}", seed % 3), target, "image", &Expected::Any).unwrap();
}

fn flight(root: &Path) {
    let store = open(root);
    let _turn = store.key_lock(&key(7)).unwrap();
    if store.cache_get(&key(7)).unwrap().is_some() {
        return;
    }
    let mut log = fs::OpenOptions::new().append(true).create(true).open(root.with_extension("log")).unwrap();
    log.write_all(b"ran\n").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let record = RecordV1 {
        payload: serde_json::Value::Null,
        snapshots: vec![],
        blobs: vec![],
        op: None,
        parts: BTreeMap::new(),
        created: 0,
    };
    store.cache_put(&key(7), record).unwrap();
}

/// After whatever happened: all is readable, a build works, and all garbage can go.
fn check(root: &Path) {
    let store = open(root);
    let report = store.verify(VerifyOptions::Report, None).unwrap();
    let bad: Vec<_> =
        report.findings.iter().filter(|f| !matches!(f, Finding::OrphanSnapshot { .. })).collect();
    assert!(bad.is_empty(), "{bad:?}");
    for reference in store.list_refs().unwrap() {
        let manifest = store.read_blob(&reference.target.digest, 1 << 20).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        for digest in [&manifest["config"]["digest"], &manifest["layers"][0]["digest"]] {
            store.read_blob(&digest.as_str().unwrap().parse().unwrap(), 1 << 20).unwrap();
        }
    }
    drop(store);
    build(root, 0);
    open(root).gc(&GcPolicy::ALL).unwrap();
    for folder in ["tmp", "active", "trash", "locks"] {
        assert_eq!(fs::read_dir(root.join(folder)).unwrap().count(), 0, "{folder}");
    }
    let leases = fs::read_dir(root.join("leases")).unwrap().count();
    assert_eq!(leases, 0);
}

#[test]
fn of_many_processes_one_runs_the_step() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    let children: Vec<_> = (0..12).map(|_| child("flight", &root)).collect();
    for mut c in children {
        assert!(c.wait().unwrap().success());
    }
    assert_eq!(fs::read_to_string(root.with_extension("log")).unwrap(), "ran\n");
    check(&root);
}

#[test]
fn builds_and_collections_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    let mut children = vec![child("gc:1500", &root), child("gc:1500", &root)];
    let end = Instant::now() + Duration::from_millis(1500);
    let mut seed = 0;
    while Instant::now() < end {
        let round: Vec<_> = (0..4).map(|n| child(&format!("build:{}", seed + n), &root)).collect();
        for mut c in round {
            assert!(c.wait().unwrap().success());
        }
        seed += 4;
    }
    for c in &mut children {
        assert!(c.wait().unwrap().success());
    }
    check(&root);
}

#[test]
fn kill_at_random_moments_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    build(&root, 1);
    for round in 0..if is_long() { 1000 } else { 25u64 } {
        let mut c = child(&format!("loop:{round}"), &root);
        std::thread::sleep(Duration::from_millis(5 + round * 37 % 60));
        c.kill().unwrap();
        c.wait().unwrap();
        let store = open(&root);
        assert!(store.get_ref("image1").unwrap().is_some());
    }
    check(&root);
}

/// At the system calls of one build in turn: killed there, the store is as good as before.
#[test]
fn kill_at_the_system_calls_of_a_build() {
    kill_at_system_calls("build:2");
}

#[test]
fn kill_at_the_system_calls_of_a_collection() {
    kill_at_system_calls("gc:0");
}

fn is_long() -> bool {
    std::env::var("CTRBUILD_TORTURE").is_ok_and(|length| length == "long")
}

fn kill_at_system_calls(what: &str) {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        eprintln!("SKIPPED: strace is not installed");
        return;
    }
    let mut killed = 0;
    // strace counts the calls of each name by themselves.
    for call in [
        "openat",
        "write",
        "fsync",
        "rename",
        "renameat2",
        "unlink",
        "mkdir",
        "mkdirat",
        "flock",
        "syncfs",
        "utimensat",
        "unlinkat",
        "rmdir",
    ] {
        // Every call is too much for each run of the tests; `cargo xtask torture store` does it.
        let step = if is_long() {
            1
        } else if call == "openat" {
            40
        } else {
            7
        };
        for at in (1..).step_by(step) {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("s");
            build(&root, 1);
            let status = Command::new("strace")
                .args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}")])
                .args(["-e", &format!("inject={call}:signal=SIGKILL:when={at}")])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "child_entry"])
                .env("STORE_TEST_CHILD", what)
                .env("STORE_TEST_ROOT", &root)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            assert!(open(&root).get_ref("image1").unwrap().is_some());
            check(&root);
            if status.success() {
                break;
            }
            killed += 1;
        }
    }
    eprintln!("{what}: killed at {killed} system calls");
    assert!(killed > 5);
}

#[test]
fn a_failing_disk_commits_nothing() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        eprintln!("SKIPPED: strace is not installed");
        return;
    }
    for call in ["fsync", "renameat2", "rename", "syncfs"] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("s");
        build(&root, 1);
        let out = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:error=EIO")])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "child_entry", "--nocapture"])
            .env("STORE_TEST_CHILD", "build:2")
            .env("STORE_TEST_ROOT", &root)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && text.contains("Device {"), "{call}: {text}");
        assert!(open(&root).get_ref("image2").unwrap().is_none(), "{call}");
        check(&root);
    }
}

#[test]
fn a_full_disk_is_a_clear_error_and_gives_its_space_back() {
    let dir = tempfile::tempdir().unwrap();
    // A mount namespace of its own, so that nothing stays mounted.
    let script = format!(
        "mount -t tmpfs -o size=2m,nr_inodes=200 none {d} && exec {exe} --exact full_disk_child --nocapture",
        d = dir.path().display(),
        exe = std::env::current_exe().unwrap().display(),
    );
    let out = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .env("STORE_TEST_FULL", dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    if text.contains("unshare failed")
        || text.contains("must be superuser")
        || text.contains("permission denied")
    {
        eprintln!("SKIPPED: {text}");
        return;
    }
    assert!(out.status.success() && text.contains("the disk was full"), "{text}");
}

/// Not a test by itself: runs on the small file system.
#[test]
fn full_disk_child() {
    let Some(root) = std::env::var_os("STORE_TEST_FULL") else { return };
    let root = PathBuf::from(root).join("s");
    let store = open(&root);
    let (kept, size) = store.put_blob(b"kept").unwrap();
    let target = RefTarget { media_type: "m".into(), digest: kept, size, annotations: BTreeMap::new() };
    store.set_ref("kept", target, "image", &Expected::Any).unwrap();
    // Blocks.
    let mut made = 0u64;
    let error = loop {
        match store.put_blob(&made.to_le_bytes().repeat(30_000)) {
            Ok(_) => made += 1,
            Err(e) => break e,
        }
    };
    assert!(matches!(error, Error::NoSpace { .. }) && error.hint().is_some(), "{error:?}");
    assert!(made > 2);
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    let fill = fs::File::create(root.join("tmp/fill")).unwrap();
    let chunk = [1u8; 4096];
    while (&fill).write_all(&chunk).is_ok() {}
    drop(fill);
    drop(store);
    // Collecting works on a disk without a free block.
    open(&root).gc(&GcPolicy::ALL).unwrap();
    let store = open(&root);
    assert_eq!(store.read_blob(&kept, 10).unwrap(), b"kept");
    // Inodes.
    let whole = Digest::of(b"whole");
    let Partial::Resume(mut partial) = store.partial(&whole, 5).unwrap() else { panic!("it is there") };
    partial.append(b"whole").unwrap();
    let mut actives = Vec::new();
    let error = loop {
        match store.prepare() {
            Ok(active) => actives.push(active),
            Err(e) => break e,
        }
    };
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    let mut files = 0;
    while fs::File::create(root.join(format!("logs/{files}"))).is_ok() {
        files += 1;
    }
    // A download that came to its end, and has no place for its name.
    assert!(matches!(partial.commit(), Err(Error::NoSpace { .. })));
    assert_eq!(fs::read_dir(root.join("partial")).unwrap().count(), 0);
    drop(actives);
    store.prepare().unwrap();
    eprintln!("the disk was full");
}
