//! Damage below the store: flipped bits, cut and missing blobs. It is found when it is read and by `store verify`,
//! never sent anywhere, and mended where the origin is known.

use crate::lab::{Lab, Random, is_long};
use crate::place::run;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use testkit::{Access, RegistryProcess, TestImage, image};

/// Of a file system.
const BLOCK: usize = 4096;

struct Damaged {
    lab: Lab,
    store: PathBuf,
    name: String,
    /// Has none of the blobs, so that nothing can be mounted there.
    elsewhere: RegistryProcess,
    /// Layers, config and manifest.
    blobs: Vec<PathBuf>,
}

impl Damaged {
    /// A store that has pulled an image of eighteen layers.
    fn new() -> Option<Damaged> {
        let lab = Lab::new()?;
        let registry = lab.registry.as_ref()?;
        let mut random = Random::new(7);
        let layers: Vec<(String, Vec<u8>)> =
            (0..18).map(|n| (format!("file{n}"), random.bytes(15_000 + n * 700))).collect();
        let files: Vec<[(&str, &[u8]); 1]> =
            layers.iter().map(|(name, bytes)| [(name.as_str(), bytes.as_slice())]).collect();
        let slices: Vec<&[(&str, &[u8])]> = files.iter().map(|f| &f[..]).collect();
        let made = image(&oci::Platform::new("linux", "amd64"), &slices);
        let layout = lab.place.path("layout");
        write_layout(&layout, &made);
        let name = registry.name("deep/app:1");
        let first = lab.place.path("first");
        run(&mut lab.command(&first, ["load", "-q", "-i", "layout"])).ok();
        run(&mut lab.command(&first, ["push", "-q", "deep:1", &name])).ok();
        let store = lab.fresh();
        run(&mut lab.command(&store, ["pull", "-q", &name])).ok();
        let file = |hex: String| store.join("blobs/sha256").join(&hex[..2]).join(&hex);
        let digests = made.blobs.digests().into_iter().chain([made.content.digest()]);
        let blobs: Vec<PathBuf> = digests.map(|d| file(d.hex())).collect();
        assert!(blobs.len() == 20 && blobs.iter().all(|b| b.is_file()), "{blobs:?}");
        let elsewhere = RegistryProcess::start(&lab.place.path("elsewhere"), Access::Open)?;
        Some(Damaged { lab, store, name, elsewhere, blobs })
    }

    fn digest(blob: &Path) -> String {
        format!("sha256:{}", blob.file_name().unwrap().to_str().unwrap())
    }

    /// Found by its digest, by whoever reads it; nobody gets it; mended from where the image came from.
    fn is_found_and_mended(&self, blob: &Path, context: &str) {
        let digest = Damaged::digest(blob);
        let verified = self.lab.run(&self.store, ["store", "verify"]);
        assert_eq!(verified.code, Some(1), "{context}: {}", verified.stdout);
        assert!(verified.stdout.contains(&digest), "{context}: {}", verified.stdout);
        let saved = self.lab.run(&self.store, ["save", "-o", "damaged.tar", &self.name]);
        assert_eq!(saved.code, Some(1), "{context}: a damaged image was saved");
        assert!(!self.lab.place.path("damaged.tar").exists(), "{context}");
        let said = saved.stderr.contains("hint:") && !saved.stderr.contains("panicked");
        assert!(said, "{context}: {}", saved.stderr);
        self.is_mended(context);
    }

    fn is_mended(&self, context: &str) {
        let mended = self.lab.run(&self.store, ["store", "verify", "--repair"]);
        assert_eq!(mended.code, Some(0), "{context}: {}{}", mended.stdout, mended.stderr);
        let verified = self.lab.run(&self.store, ["store", "verify"]);
        assert_eq!(verified.code, Some(0), "{context}: {}", verified.stdout);
        self.lab.is_readable(&self.store, &self.name, context);
    }

    /// Not sent, and no name there that would need it.
    fn is_not_pushed(&self, blob: &Path, n: usize, context: &str) {
        let to = self.elsewhere.name(&format!("never/n{n}:1"));
        let pushed = self.lab.run(&self.store, ["push", "-q", &self.name, &to]);
        assert_eq!(pushed.code, Some(1), "{context}: a damaged image was pushed");
        let data = self.lab.place.path("elsewhere/data/docker/registry/v2");
        let there = data.join(format!("repositories/never/n{n}/_manifests/tags/1"));
        assert!(!there.exists(), "{context}: there is a tag");
        let hex = Damaged::digest(blob).replace("sha256:", "");
        let link = data.join(format!("repositories/never/n{n}/_layers/sha256/{hex}/link"));
        assert!(!link.exists(), "{context}: there is the blob");
    }
}

/// An OCI layout of an image as `deep:1`.
fn write_layout(folder: &Path, image: &TestImage) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    for digest in image.blobs.digests() {
        fs::write(blobs.join(digest.hex()), image.blobs.get(&digest).unwrap()).unwrap();
    }
    let top = image.content.top.bytes();
    let digest = image.content.digest();
    fs::write(blobs.join(digest.hex()), top).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index: Value = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.to_string(), "size": top.len(),
        "annotations": {"org.opencontainers.image.ref.name": "1", "io.containerd.image.name": "docker.io/library/deep:1"},
    }]});
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
}

/// A bit in every block of twenty blobs, one at a time.
#[test]
fn a_flipped_bit_in_any_block_is_found() {
    let Some(d) = Damaged::new() else { return };
    let mut random = Random::new(8);
    let mut points = Vec::new();
    for blob in &d.blobs {
        let size = fs::metadata(blob).unwrap().len() as usize;
        points.extend((0..size.div_ceil(BLOCK)).map(|block| (blob.clone(), block, size)));
    }
    let all = points.len();
    if !is_long() {
        points = random.sample(points, 12);
    }
    let total = points.len();
    for (n, (blob, block, size)) in points.into_iter().enumerate() {
        let at = (block * BLOCK + random.below(BLOCK)).min(size - 1);
        let mut bytes = fs::read(&blob).unwrap();
        bytes[at] ^= 1 << random.below(8);
        fs::write(&blob, bytes).unwrap();
        let context = format!("{} bit of byte {at}", Damaged::digest(&blob));
        match n % 2 {
            // Reading sets it aside, so one of the two comes first.
            0 => d.is_found_and_mended(&blob, &context),
            _ => {
                d.is_not_pushed(&blob, n, &context);
                d.is_mended(&context);
            }
        }
    }
    println!("{total} of {all} blocks damaged, found and mended");
    assert!(all > 80);
}

#[test]
fn cut_and_missing_blobs_are_found() {
    let Some(d) = Damaged::new() else { return };
    let mut random = Random::new(9);
    let blobs = if is_long() { d.blobs.clone() } else { random.sample(d.blobs.clone(), 3) };
    let mut count = 0;
    for (n, blob) in blobs.iter().enumerate() {
        let whole = fs::read(blob).unwrap();
        for (what, length) in
            [("empty", 0), ("cut", random.below(whole.len())), ("one byte less", whole.len() - 1)]
        {
            fs::write(blob, &whole[..length]).unwrap();
            let context = format!("{} {what}", Damaged::digest(blob));
            match random.below(2) {
                0 => d.is_found_and_mended(blob, &context),
                _ => {
                    d.is_not_pushed(blob, n * 10 + count, &context);
                    d.is_mended(&context);
                }
            }
            count += 1;
        }
        let context = format!("{} is missing", Damaged::digest(blob));
        fs::remove_file(blob).unwrap();
        d.is_found_and_mended(blob, &context);
        count += 1;
    }
    println!("{count} times a blob was cut or missing, found and mended");
}
