//! Others at work between the steps of a collection, one batch a thing: at random, and what once went wrong by itself.

use super::*;
use crate::*;
use digest::{CacheKey, DiffId, Digest};
use std::collections::{BTreeMap, BTreeSet};

const GREEDY: Pace = Pace { hold: Duration::ZERO, pause: Duration::ZERO };
const IMAGES: usize = 5;
const KEYS: usize = 5;
const HANDLES: usize = 3;

fn folder() -> tempfile::TempDir {
    // Memory, where there is some: syncs are most of the time otherwise.
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open(root: &Path) -> LocalStore {
    LocalStore::open(root, StoreOptions::default()).unwrap()
}

fn key(n: usize) -> CacheKey {
    CacheKey::from_bytes([n as u8; 32])
}

/// An image of one layer in an index of one manifest: what each document holds, topmost first.
struct Image {
    index: Vec<u8>,
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
    diff: DiffId,
}

impl Image {
    fn new(n: usize) -> Image {
        let layer = format!("layer {n}").into_bytes();
        let diff = DiffId(Digest::of(format!("tar {n}").as_bytes()));
        let config = format!(r#"{{"rootfs":{{"diff_ids":["{diff}"]}}}}"#).into_bytes();
        let manifest = format!(
            r#"{{"config":{{"digest":"{}"}},"layers":[{{"digest":"{}"}}]}}"#,
            Digest::of(&config),
            Digest::of(&layer)
        )
        .into_bytes();
        let index = format!(r#"{{"manifests":[{{"digest":"{}"}}]}}"#, Digest::of(&manifest)).into_bytes();
        Image { index, manifest, config, layer, diff }
    }
    fn blobs(&self) -> [&[u8]; 4] {
        [&self.index, &self.manifest, &self.config, &self.layer]
    }
    fn put(&self, store: &LocalStore) {
        for bytes in self.blobs() {
            store.put_blob(bytes).unwrap();
        }
        self.put_layer(store);
    }
    fn put_layer(&self, store: &LocalStore) {
        let blob = LayerBlobV1 {
            media_type: "l".into(),
            digest: Digest::of(&self.layer),
            size: self.layer.len() as u64,
            annotations: BTreeMap::new(),
        };
        let record = LayerRecordV1 {
            diff_id: self.diff,
            size: None,
            snapshot: Some(snapshot(store)),
            blobs: vec![blob],
            created: 0,
        };
        store.put_layer(record).unwrap();
    }
}

fn snapshot(store: &LocalStore) -> SnapshotId {
    store.commit(store.prepare().unwrap(), SnapshotMeta::default()).unwrap()
}

fn name(store: &LocalStore, name: &str, document: &[u8]) {
    let target = RefTarget {
        media_type: "m".into(),
        digest: Digest::of(document),
        size: document.len() as u64,
        annotations: BTreeMap::new(),
    };
    store.set_ref(name, target, "image", &Expected::Any).unwrap();
}

/// What a reference to `digest` keeps, found the long way: paths that exist.
fn reachable(store: &LocalStore, digest: Digest, into: &mut BTreeSet<PathBuf>) {
    let Ok(bytes) = fs::read(store.blob_path(&digest)) else { return };
    into.insert(store.blob_path(&digest));
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(&bytes) else { return };
    let digest = |v: &serde_json::Value| v["digest"].as_str().map(|d| d.parse::<Digest>().unwrap());
    let lists = ["manifests", "layers"].iter().flat_map(|l| value[l].as_array().into_iter().flatten());
    for next in lists.filter_map(digest).chain(digest(&value["config"])) {
        reachable(store, next, into);
    }
    for diff in value["rootfs"]["diff_ids"].as_array().into_iter().flatten() {
        let diff: DiffId = diff.as_str().unwrap().parse().unwrap();
        if let Some(record) = store.peek_layer(&diff).unwrap() {
            into.insert(store.layer_path(&diff));
            into.extend(record.snapshot.map(|id| store.snapshot_dir(&id)));
            into.extend(record.blobs.iter().map(|b| store.blob_path(&b.digest)));
        }
    }
}

/// Processes that do what they like, and what they were promised.
struct Others {
    root: PathBuf,
    random: u64,
    images: Vec<Image>,
    handles: Vec<Option<(LocalStore, BTreeSet<PathBuf>)>>,
    named: BTreeMap<String, (Digest, BTreeSet<PathBuf>)>,
    steps: usize,
}

impl Others {
    fn below(&mut self, n: usize) -> usize {
        self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.random >> 33) as usize % n
    }

    #[track_caller]
    fn check(&self, when: &str) {
        for (what, paths) in self.named.iter().map(|(name, (_, paths))| (name.clone(), paths)).chain(
            self.handles.iter().flatten().map(|(store, paths)| (format!("{:?}", store.own_lease()), paths)),
        ) {
            for path in paths {
                assert!(path.exists(), "{when}, {what}: {} is gone", path.display());
            }
        }
    }

    /// Look at what references keep from now on.
    fn look(&mut self) {
        let store = open(&self.root);
        for (digest, paths) in self.named.values_mut() {
            reachable(&store, *digest, paths);
        }
    }

    fn moment(&mut self, moment: Moment) {
        self.check(&format!("{moment:?} {}", self.steps));
        for _ in 0..self.below(3) {
            self.step();
        }
        self.look();
        self.check("after a step");
    }

    fn step(&mut self) {
        self.steps += 1;
        let n = self.below(HANDLES);
        let (image, k, what) = (self.below(IMAGES), self.below(KEYS), self.below(12));
        let document = self.below(2);
        let part = self.below(4);
        let ref_name = format!("r{}", self.below(3));
        if what == 0 {
            self.handles[n] = None;
            return;
        }
        let (store, mut found) =
            self.handles[n].take().unwrap_or_else(|| (open(&self.root), BTreeSet::new()));
        let image = &self.images[image];
        match what {
            1 | 2 => {
                let digest = Digest::of(image.blobs()[part]);
                if store.blob_size(&digest).unwrap().is_some() {
                    found.insert(store.blob_path(&digest));
                }
            }
            3 | 4 => {
                let record = store.cache_get(&key(k)).unwrap().unwrap_or_else(|| {
                    let record = RecordV1::of(vec![snapshot(&store)]);
                    store.cache_put(&key(k), record.clone()).unwrap();
                    record
                });
                found.insert(store.cache_path(&key(k)));
                found.extend(record.snapshots.iter().map(|id| store.snapshot_dir(id)));
            }
            5 => {
                if let Some(record) = store.layer(&image.diff).unwrap() {
                    found.insert(store.layer_path(&image.diff));
                    found.extend(record.snapshot.map(|id| store.snapshot_dir(&id)));
                    found.extend(record.blobs.iter().map(|b| store.blob_path(&b.digest)));
                }
            }
            // Named by whoever knows no more than that the document is there.
            6 | 7 => {
                let document = image.blobs()[document];
                if store.blob_path(&Digest::of(document)).exists() {
                    name(&store, &ref_name, document);
                    self.named.insert(ref_name, (Digest::of(document), BTreeSet::new()));
                }
            }
            8 => {
                store.delete_ref(&ref_name, &Expected::Any).unwrap();
                self.named.remove(&ref_name);
            }
            // Another name for what has one, which goes.
            9 => {
                let there = |digest: &Digest| store.blob_path(digest).exists();
                if self.named.get(&ref_name).is_some_and(|(digest, _)| there(digest))
                    && let Some((digest, paths)) = self.named.remove(&ref_name)
                {
                    let document =
                        self.images.iter().flat_map(Image::blobs).find(|b| Digest::of(b) == digest);
                    name(&store, "moved", document.unwrap());
                    store.delete_ref(&ref_name, &Expected::Any).unwrap();
                    self.named.insert("moved".into(), (digest, paths));
                }
                return;
            }
            // One document that was lost or collected is brought back.
            10 => {
                let (digest, _) = store.put_blob(image.blobs()[part]).unwrap();
                found.insert(store.blob_path(&digest));
            }
            _ => {
                image.put(&store);
                found.extend(image.blobs().iter().map(|b| store.blob_path(&Digest::of(b))));
            }
        }
        self.handles[n] = Some((store, found));
    }
}

#[test]
fn whatever_others_do_meanwhile_nothing_in_use_goes() {
    let long = std::env::var("CTRBUILD_TORTURE").is_ok_and(|length| length == "long");
    let rounds = if long { 1000 } else { 40 };
    let mut steps = 0;
    for seed in 0..rounds {
        let dir = folder();
        let root = dir.path().join("s");
        let mut others = Others {
            root: root.clone(),
            random: seed,
            images: (0..IMAGES).map(Image::new).collect(),
            handles: (0..HANDLES).map(|_| None).collect(),
            named: BTreeMap::new(),
            steps: 0,
        };
        {
            let store = open(&root);
            others.images.iter().for_each(|image| image.put(&store));
            for k in 0..KEYS {
                store.cache_put(&key(k), RecordV1::of(vec![snapshot(&store)])).unwrap();
            }
            for n in 0..2 {
                let document = others.images[n].blobs()[seed as usize % 2];
                name(&store, &format!("r{n}"), document);
                others.named.insert(format!("r{n}"), (Digest::of(document), BTreeSet::new()));
            }
            // Lost somehow: what the manifest of an index keeps is not seen then.
            let lost = &others.images[1];
            fs::remove_file(store.blob_path(&Digest::of(&lost.manifest))).ok().filter(|_| seed % 2 == 0);
        }
        for _ in 0..others.below(6) {
            others.step();
        }
        others.look();
        open(&root).gc_paced(&GcPolicy::ALL, GREEDY, &mut |moment| others.moment(moment)).unwrap();
        others.check("at the end");
        others.handles.clear();
        let store = open(&root);
        let report = store.verify(VerifyOptions::Report, None).unwrap();
        let bad: Vec<_> = report
            .findings
            .iter()
            .filter(|f| {
                !matches!(
                    f,
                    Finding::IncompleteImage { .. }
                        | Finding::LostConfig { .. }
                        | Finding::DanglingRef { .. }
                )
            })
            .collect();
        assert!(bad.is_empty(), "seed {seed}: {bad:?}");
        drop(store);
        open(&root).gc(&GcPolicy::ALL).unwrap();
        others.check("after another one");
        for folder in ["leases", "trash", "tmp", "active"] {
            assert_eq!(disk::names(&root.join(folder)).unwrap(), [""; 0], "seed {seed}: {folder}");
        }
        let kept: BTreeSet<PathBuf> = others.named.values().flat_map(|(_, paths)| paths.clone()).collect();
        let blobs = disk::names(&root.join("blobs/sha256")).unwrap();
        let blobs =
            blobs.iter().flat_map(|s| disk::names(&root.join("blobs/sha256").join(s)).unwrap()).count();
        let expected = kept.iter().filter(|p| p.starts_with(root.join("blobs"))).count();
        assert_eq!(blobs, expected, "seed {seed}: no more is left than is needed");
        steps += others.steps;
    }
    eprintln!("{steps} steps beside {rounds} collections");
}

/// Run `meanwhile` once, at `when`, in a collection of all that is not in use.
fn collect(root: &Path, when: Moment, meanwhile: impl FnOnce()) {
    let mut meanwhile = Some(meanwhile);
    open(root)
        .gc_paced(&GcPolicy::ALL, GREEDY, &mut |moment| {
            if moment == when
                && let Some(meanwhile) = meanwhile.take()
            {
                meanwhile();
            }
        })
        .unwrap();
}

#[test]
fn what_is_named_meanwhile_by_a_process_that_ends_stays() {
    for when in [Moment::Begun, Moment::Listed] {
        let dir = folder();
        let root = dir.path().join("s");
        let image = Image::new(1);
        image.put(&open(&root));
        collect(&root, when, || name(&open(&root), "a", &image.index));
        let store = open(&root);
        assert!(image.blobs().iter().all(|b| store.peek_blob(&Digest::of(b)).unwrap().is_some()));
        assert!(store.layer(&image.diff).unwrap().unwrap().snapshot.is_some());
    }
}

#[test]
fn what_a_manifest_that_comes_back_keeps_stays() {
    for held_before in [false, true] {
        let dir = folder();
        let root = dir.path().join("s");
        let image = Image::new(1);
        let store = open(&root);
        image.put(&store);
        name(&store, "a", &image.index);
        drop(store);
        let holder = open(&root);
        let (manifest, layer) = (Digest::of(&image.manifest), Digest::of(&image.layer));
        if held_before {
            holder.blob_size(&manifest).unwrap();
        }
        fs::remove_file(holder.blob_path(&manifest)).unwrap();
        collect(&root, Moment::Listed, || {
            holder.put_blob(&image.manifest).unwrap();
        });
        assert!(open(&root).peek_blob(&layer).unwrap().is_some(), "held before: {held_before}");
    }
}

#[test]
fn a_record_that_was_broken_and_is_made_anew_stays() {
    let dir = folder();
    let root = dir.path().join("s");
    let builder = open(&root);
    let first = snapshot(&builder);
    builder.cache_put(&key(1), RecordV1::of(vec![first.clone()])).unwrap();
    fs::remove_dir_all(builder.snapshot_dir(&first)).unwrap();
    // The builder's lease has a line for that record already.
    collect(&root, Moment::Listed, || {
        builder.cache_put(&key(1), RecordV1::of(vec![snapshot(&builder)])).unwrap();
    });
    assert!(builder.cache_get(&key(1)).unwrap().is_some());
}

#[test]
fn what_is_sealed_meanwhile_stays_sealed() {
    let dir = folder();
    let root = dir.path().join("s");
    collect(&root, Moment::Begun, || ());
    let garbage = open(&root);
    garbage.put_blob(b"garbage").unwrap();
    drop(garbage);
    let builder = open(&root);
    collect(&root, Moment::Listed, || {
        builder.cache_put(&key(1), RecordV1::of(vec![snapshot(&builder)])).unwrap();
        builder.seal_batch().unwrap();
    });
    let boot_id = Some("another".to_string());
    let store = LocalStore::open(&root, StoreOptions { boot_id, ..StoreOptions::default() }).unwrap();
    assert!(store.cache_get(&key(1)).unwrap().is_some());
}

#[test]
fn many_lines_are_looked_into_without_the_lock() {
    let dir = folder();
    let root = dir.path().join("s");
    let builder = open(&root);
    builder.cache_put(&key(1), RecordV1::of(vec![snapshot(&builder)])).unwrap();
    drop(builder);
    collect(&root, Moment::Listed, || {
        let store = open(&root);
        for n in 0..MANY_LINES as u64 {
            store.hold(&[Held::Blob(Digest::of(&n.to_le_bytes()))]).unwrap();
        }
        store.cache_get(&key(1)).unwrap().unwrap();
    });
    assert!(open(&root).cache_get(&key(1)).unwrap().is_some());
}

#[test]
fn others_look_things_up_between_batches() {
    let dir = folder();
    let root = dir.path().join("s");
    let store = open(&root);
    for n in 0..20u8 {
        store.put_blob(&[n]).unwrap();
    }
    drop(store);
    let mut between = 0;
    let report = open(&root)
        .gc_paced(&GcPolicy::GARBAGE, GREEDY, &mut |moment| {
            if moment == Moment::Between {
                between += 1;
                // Nobody waits, and what is gone is not found.
                if between == 10 {
                    let store = open(&root);
                    let left = (0..20u8).filter(|n| store.blob_size(&Digest::of(&[*n])).unwrap().is_some());
                    assert_eq!(left.count(), 10);
                }
            }
        })
        .unwrap();
    assert_eq!((between, report.removed.len()), (20, 10), "what was found half-way stays");
}

#[test]
fn a_manifest_that_passes_for_a_layer_is_looked_into() {
    let dir = folder();
    let root = dir.path().join("s");
    let (image, store) = (Image::new(1), open(&root));
    image.put(&store);
    let manifest = Digest::of(&image.manifest);
    let hostile = format!(r#"{{"layers":[{{"digest":"{manifest}"}}]}}"#).into_bytes();
    store.put_blob(&hostile).unwrap();
    name(&store, "a", &hostile);
    name(&store, "z", &image.index);
    drop(store);
    collect(&root, Moment::Listed, || ());
    assert!(open(&root).peek_blob(&Digest::of(&image.layer)).unwrap().is_some());
}

#[test]
fn what_a_held_record_needs_stays() {
    let dir = folder();
    let root = dir.path().join("s");
    let (image, store) = (Image::new(1), open(&root));
    image.put(&store);
    store.cache_put(&key(1), RecordV1::of(vec![snapshot(&store)])).unwrap();
    drop(store);
    let holder = open(&root);
    collect(&root, Moment::Listed, || holder.hold(&[Held::Record(key(1)), Held::Layer(image.diff)]).unwrap());
    assert!(holder.cache_get(&key(1)).unwrap().is_some());
    let layer = holder.layer(&image.diff).unwrap().unwrap();
    assert!(layer.snapshot.is_some() && layer.blobs.len() == 1);
}

#[test]
fn a_sealed_record_that_comes_to_be_of_use_again_stays_sealed() {
    let dir = folder();
    let root = dir.path().join("s");
    let (image, store) = (Image::new(1), open(&root));
    let (digest, size) = store.put_blob(&image.layer).unwrap();
    let blob = LayerBlobV1 { media_type: "l".into(), digest, size, annotations: BTreeMap::new() };
    let record =
        LayerRecordV1 { diff_id: image.diff, size: None, snapshot: None, blobs: vec![blob], created: 0 };
    store.put_layer(record.clone()).unwrap();
    store.seal_batch().unwrap();
    fs::remove_file(store.blob_path(&digest)).unwrap();
    drop(store);
    let puller = open(&root);
    collect(&root, Moment::Listed, || {
        puller.put_blob(&image.layer).unwrap();
        puller.put_layer(record.clone()).unwrap();
        puller.seal_batch().unwrap();
    });
    let boot_id = Some("another".to_string());
    let store = LocalStore::open(&root, StoreOptions { boot_id, ..StoreOptions::default() }).unwrap();
    assert!(store.layer(&image.diff).unwrap().is_some());
}

#[test]
fn leases_of_those_that_end_meanwhile_go_with_the_collection() {
    let dir = folder();
    let root = dir.path().join("s");
    let store = open(&root);
    for n in 0..3u8 {
        store.put_blob(&[n]).unwrap();
    }
    drop(store);
    let leases = || disk::names(&root.join("leases")).unwrap().len();
    let mut seen = Vec::new();
    let mut others = 0;
    open(&root)
        .gc_paced(&GcPolicy::ALL, GREEDY, &mut |_| {
            open(&root).put_blob(b"other").unwrap();
            others += 1;
            seen.push(leases());
        })
        .unwrap();
    // The collector's own, and one each.
    assert_eq!(seen, (2..2 + others).collect::<Vec<_>>());
    assert_eq!(leases(), 0);
    // One that was killed leaves them to the next who opens the store.
    let turn = open(&root).turn().unwrap();
    open(&root).put_blob(b"other").unwrap();
    assert_eq!(leases(), 1);
    open(&root).blob_size(&Digest::of(b"other")).unwrap();
    assert_eq!(leases(), 2);
    drop(turn);
    open(&root);
    assert_eq!(leases(), 0);
}
