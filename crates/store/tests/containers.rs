//! Records of working containers: roots of collections, taken by one at a time, found when they are damaged.

use std::fs;
use store::{ContainerName, Error, Finding, GcPolicy, LocalStore, SnapshotId, StoreOptions, VerifyOptions};

fn open(dir: &tempfile::TempDir) -> LocalStore {
    LocalStore::open(&dir.path().join("store"), StoreOptions::default()).unwrap()
}

fn layer(store: &LocalStore) -> SnapshotId {
    let active = store.prepare().unwrap();
    fs::write(active.upper().join("f"), "x").unwrap();
    store.commit(active, Default::default()).unwrap()
}

#[test]
fn what_a_container_names_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let like = ContainerName::Like("c".into());
    let (id, kept, lost, image) = {
        let store = open(&dir);
        let (image, _) = store.put_blob(b"{\"layers\":[]}").unwrap();
        let made = store.create_container(&like, Some(image), serde_json::json!({"a": 1})).unwrap();
        assert_eq!(store.create_container(&like, None, ().into()).unwrap().name, "c-1");
        let same = store.create_container(&ContainerName::Exactly("c".into()), None, ().into());
        assert!(matches!(same, Err(Error::ContainerName { .. })));
        for bad in ["", "-a", "a/b", "a b", &"0".repeat(64), &"x".repeat(300)] {
            let made = store.create_container(&ContainerName::Exactly(bad.into()), None, ().into());
            assert!(matches!(made, Err(Error::ContainerName { .. })), "{bad}");
        }
        let absent = digest::Digest::of(b"absent");
        assert!(store.create_container(&like, Some(absent), ().into()).is_err());
        let (kept, lost) = (layer(&store), layer(&store));
        let (guard, mut record) = store.lock_container(&made.id, || false).unwrap().unwrap();
        record.layers.push(kept.clone());
        store.update_container(&guard, &record).unwrap();
        assert!(store.is_container_busy(&made.id).unwrap());
        assert!(store.lock_container(&made.id, || false).unwrap().is_none(), "one at a time");
        (made.id, kept, lost, image)
    };
    let store = open(&dir);
    assert!(!store.is_container_busy(&id).unwrap());
    let report = store.gc(&GcPolicy::ALL).unwrap();
    assert!(report.removed.iter().any(|r| r.id == lost.to_string()), "{report:?}");
    store.snapshot(&kept).unwrap();
    assert!(store.blob_size(&image).unwrap().is_some());
    drop(store);
    let store = open(&dir);
    let (guard, record) = store.lock_container(&id, || false).unwrap().unwrap();
    assert_eq!(
        (record.layers.as_slice(), &record.payload),
        (&[kept.clone()][..], &serde_json::json!({"a": 1}))
    );
    store.remove_container(guard).unwrap();
    assert!(store.lock_container(&id, || true).unwrap().is_none());
    drop(store);
    let store = open(&dir);
    store.gc(&GcPolicy::ALL).unwrap();
    assert!(store.snapshot(&kept).is_err() && store.blob_size(&image).unwrap().is_none());
    assert_eq!(store.containers().unwrap().len(), 1);
}

#[test]
fn damage_stops_collections_until_it_is_out_of_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let (id, lost) = {
        let store = open(&dir);
        let made = store.create_container(&ContainerName::Like("c".into()), None, ().into()).unwrap();
        (made.id, layer(&store))
    };
    let file = dir.path().join("store/containers-v1").join(&id).join("container.json");
    let good = fs::read(&file).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    fs::write(&file, bad).unwrap();
    let store = open(&dir);
    assert!(store.gc(&GcPolicy::ALL).is_err(), "what it keeps is unknown");
    assert!(store.containers().unwrap().is_empty());
    let damaged = |f: &Finding| matches!(f, Finding::DamagedContainer { id: i, .. } if *i == id);
    let report = store.verify(VerifyOptions::Report, None).unwrap();
    assert!(report.findings.iter().any(damaged) && !report.is_sound());
    store.verify(VerifyOptions::Repair, None).unwrap();
    assert!(store.verify(VerifyOptions::Report, None).unwrap().is_sound());
    store.gc(&GcPolicy::ALL).unwrap();
    assert!(store.snapshot(&lost).is_err());
    // One that has lost a layer of its own.
    let made = store.create_container(&ContainerName::Like("c".into()), None, ().into()).unwrap();
    let layer = layer(&store);
    let (guard, mut record) = store.lock_container(&made.id, || false).unwrap().unwrap();
    record.layers.push(layer.clone());
    store.update_container(&guard, &record).unwrap();
    drop(guard);
    fs::remove_dir_all(dir.path().join("store/snapshots").join(layer.as_str())).unwrap();
    let report = store.verify(VerifyOptions::Report, None).unwrap();
    assert!(report.findings.iter().any(|f| matches!(f, Finding::DamagedContainer { .. })), "{report:?}");
}
