//! Writing and reading of layouts and archives: equal bytes, other tools, damage, hostile input.

use digest::Digest;
use exporter::{
    Error, LoadLimits, Loaded, Named, open, open_reader, write_docker_archive, write_layout,
    write_oci_archive,
};
use oci::{Descriptor, MemoryBlobs, Platform, Reference, media};
use std::collections::BTreeSet;
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use testkit::TestImage;

fn amd64() -> Platform {
    Platform::new("linux", "amd64")
}

fn image() -> TestImage {
    testkit::image(&amd64(), &[&[("etc/a", b"one"), ("bin/x", &[0; 3000])], &[("etc/b", b"two")]])
}

fn both() -> TestImage {
    testkit::index(&[image(), testkit::image(&Platform::new("linux", "arm64"), &[&[("a", b"arm")]])])
}

fn named(image: &TestImage, names: &[&str]) -> Named {
    Named {
        references: names.iter().map(|n| Reference::parse(n).unwrap()).collect(),
        content: image.content.clone(),
    }
}

fn oci_archive(image: &TestImage, names: &[&str]) -> Vec<u8> {
    write_oci_archive(Vec::new(), &[named(image, names)], &image.blobs).unwrap()
}

fn docker_archive(image: &TestImage, names: &[&str]) -> Vec<u8> {
    write_docker_archive(Vec::new(), &[named(image, names)], &image.blobs).unwrap()
}

fn read(bytes: Vec<u8>) -> Result<Loaded, Error> {
    let scratch = tempfile::tempdir().unwrap();
    open_reader(Box::new(Cursor::new(bytes)), scratch.path(), LoadLimits::default())
}

fn ingest(loaded: &Loaded) -> Result<MemoryBlobs, Error> {
    let sink = MemoryBlobs::new();
    loaded.ingest(loaded.images(), &sink).map(|()| sink)
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string());
    entries.collect()
}

/// A tar with these entries; a name that ends in `@` is a link to the content.
fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut h = tar::Header::new_gnu();
        h.set_mode(0o644);
        if let Some(name) = name.strip_suffix('@') {
            h.set_entry_type(tar::EntryType::Symlink);
            h.set_size(0);
            tar.append_link(&mut h, name, std::str::from_utf8(bytes).unwrap()).unwrap();
        } else {
            h.set_size(bytes.len() as u64);
            tar.append_data(&mut h, name, *bytes).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

/// The entries of a tar, to be changed and written again.
fn entries(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let mut out = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let name = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            out.push((name, bytes));
        }
    }
    out
}

fn rewrite(tar: &[u8], change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let all: Vec<_> =
        entries(tar).into_iter().filter_map(|(n, b)| Some((n.clone(), change(&n, b)?))).collect();
    let all: Vec<(&str, &[u8])> = all.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
    tar_of(&all)
}

#[test]
fn equal_images_give_equal_bytes_and_come_back() {
    let image = both();
    let bytes = oci_archive(&image, &["team/app:2", "team/app:1"]);
    assert_eq!(bytes, oci_archive(&both(), &["team/app:1", "team/app:2"]));
    let loaded = read(bytes).unwrap();
    let [one, two] = loaded.images() else { panic!("two names") };
    assert_eq!(one.references, [Reference::parse("team/app:1").unwrap()]);
    assert_eq!((&one.content, &two.content), (&image.content, &image.content));
    let sink = ingest(&loaded).unwrap();
    for d in image.blobs.digests() {
        assert_eq!(sink.get(&d), image.blobs.get(&d));
    }
    assert!(image.content.documents().iter().all(|d| sink.get(&d.digest()).as_ref() == Some(d.bytes())));
    let arm = loaded.image(Some("team/app:2"), &Platform::new("linux", "arm64")).unwrap();
    assert_eq!(arm.platform(), Platform::new("linux", "arm64"));
    let e = loaded.find(Some("nope")).unwrap_err();
    assert_eq!(e.to_string(), r#"there is no image "nope" (there is: team/app:1, team/app:2)"#);
}

#[test]
fn one_platform_is_a_docker_archive_too() {
    let bytes = oci_archive(&image(), &["app"]);
    let listed = names(&bytes);
    assert_eq!(listed[..3], ["oci-layout", "index.json", "manifest.json"]);
    assert!(listed.is_sorted_by(|a, b| !a.starts_with("blobs/sha256/") || a < b));
    // Without the index the same file is read by its manifest.json, with the same config.
    let docker_only = rewrite(&bytes, |n, b| (n != "index.json" && n != "oci-layout").then_some(b));
    let loaded = read(docker_only).unwrap();
    assert_eq!(loaded.images()[0].references, [Reference::parse("app:latest").unwrap()]);
    let got = loaded.image(None, &amd64()).unwrap();
    assert_eq!(got.config.bytes, image().image.config.bytes);
    assert_eq!(got.manifest.value.layers[0].digest, image().image.manifest.value.layers[0].digest);
    ingest(&loaded).unwrap();
    assert!(!names(&oci_archive(&both(), &["app"])).contains(&"manifest.json".to_string()));
}

#[test]
fn docker_archives_round_trip() {
    let image = image();
    let bytes = docker_archive(&image, &["app:1", "other.example/app:2"]);
    assert_eq!(bytes, docker_archive(&image, &["other.example/app:2", "app:1"]));
    let loaded = read(bytes).unwrap();
    let got = loaded.image(Some("app:1"), &amd64()).unwrap();
    assert_eq!((got.id(), got.manifest.value.layers.len()), (image.image.id(), 2));
    assert_eq!(got.manifest.value.layers[0].media_type, media::DOCKER_LAYER);
    assert_eq!(loaded.images()[0].references.len(), 2);
    let sink = ingest(&loaded).unwrap();
    let layer = &got.config.value.rootfs.diff_ids[0].0;
    assert_eq!(Digest::of(&sink.get(layer).unwrap()), *layer);
    let e = write_docker_archive(Vec::new(), &[named(&both(), &["x"])], &both().blobs).unwrap_err();
    assert!(matches!(e, Error::IndexInDocker));
}

#[test]
fn compressed_archives_and_links_are_read() {
    let plain = docker_archive(&image(), &["app:1"]);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&plain).unwrap();
    let packed = [gz.finish().unwrap(), zstd::encode_all(&plain[..], 1).unwrap()];
    let folder = tempfile::tempdir().unwrap();
    for bytes in packed {
        let path = folder.path().join("a.tar");
        std::fs::write(&path, &bytes).unwrap();
        let loaded = open(&path, folder.path(), LoadLimits::default()).unwrap();
        ingest(&loaded).unwrap();
        let limits = LoadLimits { unpacked: 4000 };
        assert!(matches!(open(&path, folder.path(), limits), Err(Error::TooLarge(4000))));
    }
    // Docker before 1.10 and after wrote equal layers as links.
    let tar = testkit::layer_tar(&[("a", b"b")]);
    let diff = Digest::of(&tar);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff}","{diff}"]}}}}"#
    );
    let list = br#"[{"Config":"c.json","RepoTags":null,"Layers":["one/layer.tar","two/layer.tar"]}]"#;
    let linked = tar_of(&[
        ("one/layer.tar", &tar),
        ("two/layer.tar@", b"../one/layer.tar"),
        ("c.json", config.as_bytes()),
        ("manifest.json", list),
    ]);
    let loaded = read(linked).unwrap();
    let sink = ingest(&loaded).unwrap();
    assert_eq!(sink.get(&diff).as_deref(), Some(&tar[..]));
    assert_eq!(loaded.image(None, &amd64()).unwrap().config.bytes[..], *config.as_bytes());
    // Links that leave the archive or go round find nothing.
    for target in ["../../../../../../etc/passwd", "/etc/passwd", "layer.tar"] {
        let bad = tar_of(&[
            ("one/layer.tar", &tar),
            ("two/layer.tar@", target.as_bytes()),
            ("c.json", config.as_bytes()),
            ("manifest.json", list),
        ]);
        assert!(matches!(read(bad), Err(Error::Missing(_))), "{target}");
    }
}

#[test]
fn layouts_grow_and_stay_valid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let (one, two) = (image(), both());
    write_layout(&path, &[named(&one, &["app:1"])], &one.blobs).unwrap();
    write_layout(&path, &[named(&two, &["app:2"])], &two.blobs).unwrap();
    let loaded = open(&path, folder.path(), LoadLimits::default()).unwrap();
    let digests: Vec<_> = loaded.images().iter().map(|i| i.content.digest()).collect();
    assert_eq!(digests, [one.content.digest(), two.content.digest()]);
    ingest(&loaded).unwrap();
    // The same name again takes the old entry's place; nothing unnamed is left beside the blobs.
    write_layout(&path, &[named(&two, &["app:1"])], &two.blobs).unwrap();
    let loaded = open(&path, folder.path(), LoadLimits::default()).unwrap();
    assert_eq!(loaded.find(Some("app:1")).unwrap().content, two.content);
    assert_eq!(loaded.images().len(), 2);
    let files = std::fs::read_dir(path.join("blobs/sha256")).unwrap();
    assert!(files.map(|f| f.unwrap().file_name()).all(|n| n.len() == 64));
    let occupied = tempfile::tempdir().unwrap();
    std::fs::write(occupied.path().join("precious"), "x").unwrap();
    let e = write_layout(occupied.path(), &[named(&one, &[])], &one.blobs).unwrap_err();
    assert!(matches!(e, Error::Occupied(_)));
}

#[test]
fn damage_is_found_before_anything_is_taken() {
    let image = image();
    let layer = image.image.manifest.value.layers[1].clone();
    for (kind, whole) in [("oci", oci_archive(&image, &["a"])), ("docker", docker_archive(&image, &["a"]))] {
        for (name, _) in entries(&whole) {
            if matches!(name.as_str(), "oci-layout" | "index.json" | "manifest.json") {
                continue;
            }
            let flipped = rewrite(&whole, |n, mut b| {
                if n == name {
                    let middle = b.len() / 2;
                    b[middle] ^= 1;
                }
                Some(b)
            });
            assert!(read(flipped).and_then(|l| ingest(&l).map(|_| ())).is_err(), "{kind}: flipped {name}");
            let longer = rewrite(&whole, |n, mut b| {
                b.extend((n == name).then_some(0));
                Some(b)
            });
            assert!(read(longer).and_then(|l| ingest(&l).map(|_| ())).is_err(), "{kind}: longer {name}");
            let absent = rewrite(&whole, |n, b| (n != name).then_some(b));
            assert!(read(absent).and_then(|l| ingest(&l).map(|_| ())).is_err(), "{kind}: without {name}");
        }
        let cut = whole[..whole.len() / 2].to_vec();
        assert!(read(cut).is_err(), "{kind}: cut");
    }
    // A source with other bytes than its descriptor says gives no archive.
    let lying = MemoryBlobs::new();
    lying.insert(image.image.config.bytes.clone());
    let content = Named { references: vec![], content: image.content.clone() };
    let e = write_oci_archive(Vec::new(), &[content], &lying).unwrap_err();
    assert!(matches!(e, Error::Blob { .. }), "{e}");
    assert_ne!(layer.size, 0);
}

#[test]
fn noise_is_not_repeated_in_the_message() {
    let said = read(b"\xffnot a tar at all".repeat(100)).err().unwrap().to_string();
    assert_eq!(said, "invalid archive: it is no tar");
}

#[test]
fn hostile_archives_are_refused() {
    let whole = oci_archive(&image(), &["a"]);
    let index = entries(&whole).into_iter().find(|(n, _)| n == "index.json").unwrap().1;
    let text = String::from_utf8(index.clone()).unwrap();
    let with = |text: String| {
        rewrite(&whole, move |n, b| Some(if n == "index.json" { text.clone().into_bytes() } else { b }))
    };
    let size = image().image.manifest.size();
    for (what, bytes) in [
        ("both", with(text.replacen('{', r#"{"layers":[],"#, 1))),
        ("twice", with(text.replacen('{', r#"{"manifests":[],"#, 1))),
        ("path", with(text.replace("sha256:", "sha256:../../../etc/"))),
        ("size", with(text.replace(&format!("\"size\": {size}"), &format!("\"size\": {}", size + 1)))),
        ("huge", with(text.replace(&format!("\"size\": {size}"), "\"size\": 99999999999"))),
        ("type", with(text.replace(media::OCI_MANIFEST, media::DOCKER_MANIFEST))),
        ("json", with("{".into())),
        ("empty", tar_of(&[])),
        ("noise", b"not a tar at all".repeat(100)),
        ("docker size", tar_of(&[("manifest.json", &vec![b' '; 5 << 20])])),
        (
            "docker path",
            tar_of(&[("manifest.json", br#"[{"Config":"/etc/passwd","Layers":["../../etc/shadow"]}]"#)]),
        ),
        ("docker name", {
            let name = format!("{}.json", Digest::of(b"x").hex());
            let list = format!(r#"[{{"Config":"{name}","Layers":[]}}]"#);
            let config = br#"{"architecture":"a","os":"l","rootfs":{"type":"layers","diff_ids":[]}}"#;
            tar_of(&[("manifest.json", list.as_bytes()), (&name, config)])
        }),
        ("index twice", {
            let mut all = entries(&whole);
            all.push(("./index.json".into(), index));
            tar_of(&all.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect::<Vec<_>>())
        }),
    ] {
        assert!(read(bytes).and_then(|l| ingest(&l).map(|_| ())).is_err(), "{what}");
    }
    // An index inside an index, without end.
    let mut entry = Descriptor::of(media::OCI_MANIFEST, b"absent");
    let mut files = Vec::new();
    for _ in 0..8 {
        let index = oci::mutate::index(vec![entry], media::Format::Oci, Default::default());
        files.push((format!("blobs/sha256/{}", index.digest.hex()), index.bytes.to_vec()));
        entry = index.descriptor();
    }
    let top = oci::mutate::index(vec![entry], media::Format::Oci, Default::default());
    files.push(("index.json".into(), top.bytes.to_vec()));
    let deep = tar_of(&files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect::<Vec<_>>());
    assert!(matches!(read(deep), Err(Error::Document { .. })));
}

#[test]
fn partial_indexes_say_what_is_missing() {
    let image = both();
    let arm = image.content.manifests()[1].digest;
    let whole = oci_archive(&image, &["a"]);
    let partial = rewrite(&whole, |n, b| (!n.ends_with(&arm.hex())).then_some(b));
    let loaded = read(partial).unwrap();
    assert_eq!(loaded.images()[0].missing.iter().map(|d| d.digest).collect::<Vec<_>>(), [arm]);
    assert!(loaded.image(None, &amd64()).is_ok());
    let e = loaded.image(None, &Platform::new("linux", "arm64")).unwrap_err();
    assert!(matches!(e, Error::Missing(_)), "{e}");
}

/// Runs a tool; says so where it is missing.
fn run(program: &str, args: &[&str]) -> Option<String> {
    let Ok(out) = Command::new(program).args(args).stdin(Stdio::null()).output() else {
        eprintln!("SKIPPED: {program} is not installed");
        return None;
    };
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[test]
fn skopeo_and_umoci_read_what_is_written_and_the_other_way_round() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (one, two) = (image(), both());
    std::fs::write(at("oci.tar"), oci_archive(&one, &["team/app:1"])).unwrap();
    std::fs::write(at("docker.tar"), docker_archive(&one, &["team/app:1"])).unwrap();
    write_layout(Path::new(&at("layout")), &[named(&one, &["app:1"]), named(&two, &["app:2"])], &two.blobs)
        .unwrap();
    let id = one.image.id().to_string();
    for source in [
        format!("oci-archive:{}:1", at("oci.tar")),
        format!("docker-archive:{}:team/app:1", at("oci.tar")),
        format!("docker-archive:{}", at("docker.tar")),
        format!("oci:{}:1", at("layout")),
        format!("oci:{}:2", at("layout")),
    ] {
        let to = format!("dir:{}", at("dir"));
        if run("skopeo", &["--insecure-policy", "--override-arch=amd64", "copy", &source, &to]).is_none() {
            return;
        }
        let manifest = std::fs::read_to_string(at("dir/manifest.json")).unwrap();
        assert!(manifest.contains(&id), "{source}: another config: {manifest}");
        std::fs::remove_dir_all(at("dir")).unwrap();
    }
    if let Some(text) = run("umoci", &["stat", "--image", &format!("{}:1", at("layout")), "--json"]) {
        assert!(text.contains("COPY files"), "{text}");
    }
    // What skopeo writes is read here.
    for target in [
        format!("oci-archive:{}:x", at("s-oci.tar")),
        format!("docker-archive:{}:team/app:1", at("s-docker.tar")),
        format!("oci:{}:x", at("s-layout")),
    ] {
        let from = format!("oci-archive:{}:1", at("oci.tar"));
        run("skopeo", &["--insecure-policy", "copy", &from, &target]).unwrap();
        let path = target.split(':').nth(1).unwrap();
        let loaded = open(Path::new(path), folder.path(), LoadLimits::default()).unwrap();
        ingest(&loaded).unwrap();
        let got = loaded.image(None, &amd64()).unwrap();
        let diffs: BTreeSet<_> = got.config.value.rootfs.diff_ids.iter().copied().collect();
        assert_eq!(diffs, one.image.config.value.rootfs.diff_ids.iter().copied().collect());
    }
}
