//! Files that are found on disk: records of the store, passwd, mountinfo.

use digest::{CacheKey, DiffId, Digest};
use sandbox::RootDir;
use std::cell::OnceCell;
use std::fs;
use store::{LocalStore, SnapshotId, StoreOptions, VerifyOptions};

thread_local! {
    static STORE: OnceCell<(tempfile::TempDir, LocalStore)> = const { OnceCell::new() };
    static ROOT: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
}

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("ctrbuild-fuzz-").tempdir().expect("a temporary folder")
}

/// Any bytes as a cache record, a layer record, a reference, a snapshot's record and note, and what a lease
/// holds: misses and errors, never a panic; and the store can still be verified and mended.
pub fn records(bytes: &[u8]) {
    STORE.with(|cell| {
        let (_, store) = cell.get_or_init(|| {
            let dir = folder();
            let options = StoreOptions { boot_id: Some("b".into()), ..StoreOptions::default() };
            let store = LocalStore::open(&dir.path().join("s"), options).expect("a store");
            (dir, store)
        });
        let (key, hex) = (CacheKey::from_bytes([7; 32]), "07".repeat(32));
        let digest = DiffId(Digest::from_bytes([7; 32]));
        let snapshot: SnapshotId = "07".repeat(16).parse().expect("an id");
        let root = store.root();
        // Most mutations break a sum; with a sound one, what is behind it is seen.
        let sealed = bytes.strip_prefix(b"{").map(|rest| {
            let sum = Digest::of(bytes).hex();
            [format!("{{\"sum\":\"{sum}\",").as_bytes(), rest].concat()
        });
        for text in [Some(bytes.to_vec()), sealed].into_iter().flatten() {
            for name in [
                format!("cache-v1/07/{hex}.json"),
                format!("layers-v1/07/{hex}.json"),
                "refs/name".to_string(),
                format!("snapshots/{snapshot}/meta.json"),
                format!("snapshots/{snapshot}/diff"),
                format!("leases/{}", "08".repeat(16)),
            ] {
                let path = root.join(name);
                fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                fs::write(path, &text).expect("a file");
            }
            if let Ok(Some(record)) = store.cache_get(&key) {
                assert!(record.snapshots.iter().all(|id| store.snapshot(id).is_ok()));
            }
            let _ = store.layer(&digest);
            let _ = store.snapshot(&snapshot);
            if let Ok(Some(found)) = store.get_ref("name") {
                assert_eq!(found.name, "name");
            }
            let _ = store.list_refs();
        }
        // Slower, and the same for most.
        if Digest::of(bytes).hex().starts_with('0') {
            store.verify(VerifyOptions::Repair, None).expect("repairing");
            let left = store.verify(VerifyOptions::Report, None).expect("verifying");
            assert!(!left.findings.iter().any(|f| matches!(f, store::Finding::MalformedRef { .. })));
        }
    });
}

/// Any bytes as passwd and group: a user is found or not, and never with an id that was not written there.
pub fn passwd(bytes: &[u8]) {
    ROOT.with(|cell| {
        let dir = cell.get_or_init(folder);
        let etc = dir.path().join("etc");
        fs::create_dir_all(&etc).expect("a folder");
        let (first, second) = bytes.split_at(bytes.len() / 2);
        fs::write(etc.join("passwd"), bytes).expect("a file");
        fs::write(etc.join("group"), [second, b"\n", first].concat()).expect("a file");
        let root = RootDir::open_path(dir.path()).expect("the root");
        let text = String::from_utf8_lossy(bytes);
        let name: String = text.chars().take_while(|c| !matches!(c, ':' | '\n')).collect();
        for spec in
            ["root", "app:app", "1000", "0:0", "4294967295", "4294967296", "-1", "", ":", name.as_str()]
        {
            if let Ok(user) = worker::process_user(&root, spec) {
                assert!(spec != "4294967296" && spec != "-1", "{user:?}");
                if let Ok(id) = spec.parse::<u32>() {
                    let named = text.lines().any(|l| l.trim().starts_with(spec));
                    assert!(user.uid == id || named, "{spec}: {user:?}");
                }
            }
            let _ = worker::owner(Some(&root), spec);
        }
    });
}

/// Any bytes as the table of mounts.
pub fn mountinfo(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let at = text.len() / 2;
    let at = (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let (own, _) = text.split_at(at);
    assert!(sandbox::count_hierarchies(&text, own) <= text.lines().count());
}
