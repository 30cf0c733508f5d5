//! What `ADD` makes of archives, as recorded from BuildKit.

mod common;

use common::{Archive, Arena, Head, is_root};
use layer::compress::{Compression, Compressor};
use layer::extract::{ExtractOptions, extract, is_archive};
use std::fs;
use std::io::Write;

fn add(
    arena: &Arena,
    archive: &[u8],
    options: &ExtractOptions,
) -> layer::Result<layer::extract::ExtractReport> {
    let dest = fs::File::open(arena.dest()).unwrap();
    let report = extract(archive, &dest, options);
    arena.check();
    report
}

fn lines(arena: &Arena) -> Vec<String> {
    arena.dump().iter().map(|l| l.replace(" - -", "")).collect()
}

#[test]
fn odd_entries() {
    if !is_root() {
        return;
    }
    let arena = Arena::new();
    let tar = Archive::default()
        .file("/abs.txt", "abs\n")
        .file("./dot.txt", "dot\n")
        .file("a/../twice", "one\n")
        .head(Head { name: b"twice", mode: 0o600, size: 4, ..Head::default() })
        .data(b"two\n")
        .head(Head { name: b"no/parents/f", uid: 8, gid: 8, size: 3, ..Head::default() })
        .data(b"np\n")
        .head(Head { kind: b'3', name: b"null", mode: 0o666, dev: (1, 3), ..Head::default() })
        .head(Head { kind: b'6', name: b"pipe", mode: 0o620, ..Head::default() })
        .head(Head { kind: b'5', name: b"sgd/", mode: 0o2775, gid: 10, ..Head::default() })
        .symlink("dang", "/no/where")
        .file("a/.wh.b", "")
        .end();
    add(&arena, &tar, &common::extract_options()).unwrap();
    let shown: Vec<String> = lines(&arena).iter().map(|l| mask(l)).collect();
    assert_eq!(
        shown,
        [
            "d 0755 0:0 /a",
            "f 0644 0:0 0 # /a/.wh.b",
            "f 0644 0:0 4 # /abs.txt",
            "l 0777 0:0 /dang -> /no/where",
            "f 0644 0:0 4 # /dot.txt",
            "d 0755 0:0 /no",
            "d 0755 0:0 /no/parents",
            "f 0644 8:8 3 # /no/parents/f",
            "c 0666 0:0 1,3 - /null",
            "p 0620 0:0 /pipe",
            "d 2775 0:10 /sgd",
            "f 0600 0:0 4 # /twice",
        ]
    );
    assert_eq!(fs::read(arena.dest().join("twice")).unwrap(), b"two\n");
}

/// The line without the content hash.
fn mask(line: &str) -> String {
    line.split(' ')
        .map(|w| if w.len() == 16 && !w.contains('/') { "#" } else { w })
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn through_links_of_the_base() {
    let arena = Arena::new();
    fs::create_dir_all(arena.dest().join("real/in")).unwrap();
    std::os::unix::fs::symlink("/real", arena.dest().join("link")).unwrap();
    std::os::unix::fs::symlink("../../../real/in", arena.dest().join("real/up")).unwrap();
    let tar = Archive::default()
        .file("link/new.txt", "through\n")
        .file("real/up/x/y", "")
        .hard_link("link/twin", "link/new.txt")
        .end();
    add(&arena, &tar, &common::extract_options()).unwrap();
    assert_eq!(fs::read(arena.dest().join("real/new.txt")).unwrap(), b"through\n");
    assert!(arena.dest().join("real/in/x/y").exists());
    assert!(arena.dest().join("real/twin").exists());
    assert!(arena.dest().join("link").is_symlink());
}

#[test]
fn existing_things_are_replaced_but_folders_merge() {
    if !is_root() {
        return;
    }
    let arena = Arena::new();
    fs::create_dir_all(arena.dest().join("d/old")).unwrap();
    fs::create_dir_all(arena.dest().join("tree/deep")).unwrap();
    fs::write(arena.dest().join("f"), "a longer content").unwrap();
    fs::hard_link(arena.dest().join("f"), arena.dest().join("kept")).unwrap();
    let tar =
        Archive::default().dir("d", 0o700).file("f", "new").file("tree", "file").dir("kept2", 0o755).end();
    let options = ExtractOptions { chown: Some((7, 9)), ..common::extract_options() };
    add(&arena, &tar, &options).unwrap();
    assert!(arena.dest().join("d/old").exists());
    assert_eq!(fs::read(arena.dest().join("f")).unwrap(), b"new");
    assert_eq!(fs::read(arena.dest().join("kept")).unwrap(), b"a longer content");
    let owned: Vec<_> = lines(&arena).into_iter().filter(|l| l.contains(" 7:9 ")).collect();
    assert_eq!(owned.len(), 4, "{owned:?}");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(arena.dest().join("d")).unwrap().mtime(), 1_000_000);
}

#[test]
fn packed_archives_and_others() {
    let tar = Archive::default().file("a/b", "content").end();
    let mut packed = Vec::new();
    for how in [Compression::GZIP, Compression::ZSTD] {
        let mut c = Compressor::new(Vec::new(), how);
        c.write_all(&tar).unwrap();
        packed.push(c.finish().unwrap().0);
    }
    let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz.write_all(&tar).unwrap();
    packed.push(bz.finish().unwrap());
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&tar).unwrap();
    packed.push(xz.finish().unwrap());
    packed.push(tar.clone());
    for archive in &packed {
        assert!(is_archive(&archive[..]));
        let arena = Arena::new();
        add(&arena, archive, &common::extract_options()).unwrap();
        assert_eq!(fs::read(arena.dest().join("a/b")).unwrap(), b"content");
        let cut = &archive[..archive.len() - if archive == &tar { 1536 } else { 9 }];
        assert!(add(&Arena::new(), cut, &common::extract_options()).is_err());
    }
    // What a packer calls trailing garbage is no damage.
    let mut trailing = packed[0].clone();
    trailing.extend_from_slice(b"garbage");
    add(&Arena::new(), &trailing, &common::extract_options()).unwrap();
    for other in [&b""[..], b"plain text", b"PK\x03\x04", &[0; 10240], &packed[0][..20], b"\x1f\x8b"] {
        assert!(!is_archive(other));
    }
    let mut gz = Compressor::new(Vec::new(), Compression::GZIP);
    gz.write_all(b"no tar").unwrap();
    assert!(!is_archive(&gz.finish().unwrap().0[..]));
    let limits = layer::decompress::Limits { output: Some(1000), ..Default::default() };
    let options = ExtractOptions { limits, ..common::extract_options() };
    assert!(matches!(add(&Arena::new(), &packed[0], &options), Err(layer::Error::Limit { limit: 1000, .. })));
}

#[test]
fn the_last_name_of_a_file_decides_about_it() {
    if !is_root() {
        return;
    }
    let arena = Arena::new();
    let tar = Archive::default()
        .head(Head { name: b"f", mode: 0o4755, uid: 7, gid: 8, size: 2, ..Head::default() })
        .data(b"hi")
        .head(Head { kind: b'1', name: b"twin", link: b"f", mode: 0o640, uid: 5, gid: 6, ..Head::default() })
        .symlink("l", "f")
        .head(Head { kind: b'1', name: b"m", link: b"l", mode: 0o777, uid: 3, gid: 3, ..Head::default() })
        .end();
    add(&arena, &tar, &common::extract_options()).unwrap();
    let shown: Vec<String> = lines(&arena).iter().map(|l| mask(l)).collect();
    assert!(shown[0].starts_with("f 0640 5:6 2 # /f"), "{shown:?}");
    assert!(shown.iter().any(|l| l.starts_with("l 0777 3:3 /m -> f")), "{shown:?}");
}
