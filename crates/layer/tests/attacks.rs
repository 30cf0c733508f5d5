//! Archives made to get out of the destination, to fill the machine, or to confuse readers.

mod common;

use common::{Archive, Arena, Head, is_root};
use layer::unpack::{UnpackOptions, UnpackReport, apply};
use layer::{Error, extract};
use proptest::prelude::*;

fn unpack(arena: &Arena, tar: &[u8]) -> layer::Result<UnpackReport> {
    let result = apply(tar, &arena.dest(), &common::unpack_options());
    arena.check();
    result
}

/// Both ways in: as a layer, and as an archive of `ADD`.
fn both(tar: &[u8]) -> [(Arena, bool); 2] {
    let (a, b) = (Arena::new(), Arena::new());
    let layer = unpack(&a, tar).is_ok();
    let dest = std::fs::File::open(b.dest()).unwrap();
    let add = extract::extract(tar, &dest, &common::extract_options()).is_ok();
    b.check();
    [(a, layer), (b, add)]
}

fn paths(lines: &[String]) -> Vec<String> {
    lines.iter().map(|l| l[l.find(" /").unwrap() + 1..].to_string()).collect()
}

#[test]
fn names_that_climb_stay_inside() {
    let tar = Archive::default()
        .file("../../canary/a", "1")
        .file("/canary/b", "2")
        .file("x/../../../canary/c", "3")
        .dir("..", 0o777)
        .end();
    for (arena, ok) in both(&tar) {
        assert!(ok);
        assert_eq!(paths(&arena.dump()), ["/canary", "/canary/a", "/canary/b", "/canary/c"]);
    }
}

#[test]
fn links_are_no_way_out() {
    for target in ["CANARY", "../canary", "../../../../../../../..CANARY", "sub/../../canary"] {
        let arena = Arena::new();
        let target = target.replace("CANARY", &arena.canary());
        let tar = Archive::default()
            .symlink("esc", &target)
            .file("esc/secret", "evil")
            .file("esc/new", "evil")
            .end();
        // As a layer, the target is a path of the image, made where it is missing.
        unpack(&arena, &tar).unwrap();
        assert!(arena.dump().iter().any(|l| l.ends_with("/new")));
        // As an archive of ADD, a dangling link is an error.
        let arena = Arena::new();
        let dest = std::fs::File::open(arena.dest()).unwrap();
        extract::extract(&tar[..], &dest, &common::extract_options()).unwrap_err();
        arena.check();
    }
}

#[test]
fn an_entry_of_the_same_name_replaces_a_link() {
    let arena = Arena::new();
    let c = arena.canary();
    let secret = format!("{c}/secret");
    let tar = Archive::default()
        .symlink("d", &c)
        .dir("d", 0o777)
        .symlink("f", &secret)
        .file("f", "mine")
        .symlink("n", &secret)
        .head(Head { kind: b'6', name: b"n", mode: 0o666, ..Head::default() })
        .symlink("l", &secret)
        .hard_link("h", "l")
        .head(Head { name: b"h", mode: 0o4777, uid: 1, ..Head::default() })
        .end();
    for (arena, ok) in both(&tar) {
        assert!(ok);
        let lines = arena.dump();
        assert!(lines[0].starts_with("d 0777"), "{lines:?}");
        assert!(lines[1].starts_with("f 0644") && lines[2].starts_with("f 4777"), "{lines:?}");
    }
}

#[test]
fn hard_links_do_not_reach_out() {
    let arena = Arena::new();
    let c = arena.canary();
    let tar = Archive::default()
        .symlink("l", &c)
        .hard_link("a", "../canary/secret")
        .hard_link("b", &format!("{c}/secret"))
        .hard_link("c", "l/secret")
        .end();
    let report = unpack(&arena, &tar).unwrap();
    assert_eq!(report.lower_links.len(), 3);
    assert_eq!(paths(&arena.dump()), [format!("/l -> {c}")]);
    let dest = std::fs::File::open(arena.dest()).unwrap();
    extract::extract(&tar[..], &dest, &common::extract_options()).unwrap_err();
    arena.check();
}

#[test]
fn whiteouts_of_no_name_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh...", "a/.wh./"] {
        let arena = Arena::new();
        let e = unpack(&arena, &Archive::default().file(name, "").end()).unwrap_err();
        assert!(matches!(e, Error::Entry { .. }), "{name}");
    }
}

#[test]
fn marks_do_not_follow_links() {
    if !is_root() {
        return;
    }
    let arena = Arena::new();
    let c = arena.canary();
    let tar = Archive::default()
        .symlink("esc", &c)
        .file("esc/.wh..wh..opq", "")
        .file("esc/.wh.secret", "")
        .file(".wh.esc/x", "")
        .end();
    unpack(&arena, &tar).unwrap();
    arena.check();
}

#[test]
fn loops_and_files_as_folders_fail() {
    for tar in [
        Archive::default().symlink("a", "b").symlink("b", "a").file("a/x", "").end(),
        Archive::default().symlink("a", "a").file("a/x", "").end(),
        Archive::default().file("f", "").file("f/x", "").end(),
        Archive::default().symlink("a", "a/a/a/a/a/a/a/a/a/a/a").file("a/x", "").end(),
    ] {
        for (_, ok) in both(&tar) {
            assert!(!ok);
        }
    }
}

#[test]
fn odd_targets_are_kept_verbatim() {
    let targets = ["../../../../../../up", "self", "/abs/./x//y", ".", "..", "a b\nc"];
    let mut tar = Archive::default();
    for (i, t) in targets.iter().enumerate() {
        tar = tar.symlink(if *t == "self" { "self".into() } else { format!("l{i}") }.as_str(), t);
    }
    for (arena, ok) in both(&tar.end()) {
        assert!(ok);
        for (i, t) in targets.iter().enumerate() {
            let name = if *t == "self" { "self".into() } else { format!("l{i}") };
            assert_eq!(std::fs::read_link(arena.dest().join(name)).unwrap().to_str(), Some(*t));
        }
    }
}

#[test]
fn the_pax_size_is_the_size() {
    // A reader that took the header's size would see the second header as an entry.
    let inner = Archive::default().file("smuggled", "x").0;
    let size = inner.len().to_string();
    let tar = Archive::default()
        .pax(&[("size", size.as_bytes())])
        .head(Head { name: b"f", size: 0, ..Head::default() })
        .data(&inner)
        .end();
    let arena = Arena::new();
    unpack(&arena, &tar).unwrap();
    assert_eq!(paths(&arena.dump()), ["/f"]);
    assert_eq!(std::fs::read(arena.dest().join("f")).unwrap(), inner);
}

#[test]
fn malformed_headers_are_refused() {
    let pax = |raw: &[u8]| Archive::default().pax_raw(raw).file("f", "").end();
    let mut bad = vec![
        pax(b"9 a=b\n"),
        pax(b"6 a b\n\n"),
        pax(b"9 size=-1\n"),
        pax(b"12 size=1e3\n\n"),
        pax(b"12 mtime=now\n"),
        pax(b"24 uid=999999999999999\n\n"),
        pax(b"18 uid=4294967295\n"),
        pax(b"12 path=a\0b\n"),
        // Nothing follows an extended header.
        Archive::default().pax(&[("path", b"x")]).end(),
        Archive::default().pax(&[("path", b"x")]).0,
        // The rest of a file that another volume has.
        Archive::default().head(Head { kind: b'M', name: b"volume", ..Head::default() }).end(),
    ];
    let mut sum = Archive::default().file("f", "").end();
    sum[0] = b'g';
    bad.push(sum);
    for (at, text) in [(124, &b"-0000000001\0"[..]), (124, b"99999999999\0"), (108, b"0000x00\0")] {
        let mut block = common::block(&Head { name: b"f", ..Head::default() });
        block[at..at + text.len()].copy_from_slice(text);
        common::sum(&mut block);
        bad.push(block.to_vec());
    }
    let mut negative = common::block(&Head { name: b"f", ..Head::default() });
    negative[124..136].fill(0xff);
    common::sum(&mut negative);
    bad.push(negative.to_vec());
    for (i, tar) in bad.iter().enumerate() {
        for (_, ok) in both(tar) {
            assert!(!ok, "case {i}");
        }
    }
}

#[test]
fn sparse_maps_are_bounded_and_checked() {
    let sparse = |map: &str, data: &str| {
        Archive::default()
            .pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"1000000"),
            ])
            .head(Head {
                name: b"s",
                size: (map.len().div_ceil(512) * 512 + data.len()) as u64,
                ..Head::default()
            })
            .data(map.as_bytes())
            .data(data.as_bytes())
            .end()
    };
    let arena = Arena::new();
    unpack(&arena, &sparse("2\n0\n1\n999999\n1\n", "ab")).unwrap();
    let content = std::fs::read(arena.dest().join("s")).unwrap();
    assert_eq!((content.len(), content[0], content[999_999]), (1_000_000, b'a', b'b'));
    for (map, data) in [
        ("2\n0\n2\n1\n1\n", "abc"),
        ("2\n5\n1\n0\n1\n", "ab"),
        ("1\n999999\n2\n", "ab"),
        ("1\n0\n2\n", "a"),
        ("1\n18446744073709551615\n1\n", "a"),
        ("99999999\n", ""),
        ("x\n", ""),
        ("3\n0\n", ""),
    ] {
        assert!(unpack(&Arena::new(), &sparse(map, data)).is_err(), "{map:?}");
    }
    let mut map = String::from("300000\n");
    for i in 0..300_000 {
        map.push_str(&format!("{i}\n0\n"));
    }
    assert!(matches!(unpack(&Arena::new(), &sparse(&map, "")), Err(Error::Limit { .. })));
}

#[test]
fn limits_stop_bombs() {
    let tar = Archive::default().file("a", &"x".repeat(10_000)).file("b", "").file("c", "").end();
    let try_with = |options: UnpackOptions| apply(&tar[..], &Arena::new().dest(), &options);
    let bytes = UnpackOptions { max_bytes: Some(5000), ..common::unpack_options() };
    assert!(matches!(try_with(bytes), Err(Error::Limit { what: "bytes", limit: 5000 })));
    let entries = UnpackOptions { max_entries: Some(2), ..common::unpack_options() };
    assert!(matches!(try_with(entries), Err(Error::Limit { what: "entries", limit: 2 })));
    let long =
        Archive::default().head(Head { kind: b'L', name: b"x", size: 1 << 30, ..Head::default() }).end();
    assert!(matches!(
        apply(&long[..], &Arena::new().dest(), &common::unpack_options()),
        Err(Error::Limit { .. })
    ));
}

#[test]
fn only_wanted_attributes_arrive() {
    if !is_root() {
        return;
    }
    let cap = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Archive::default()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.redirect", b"/x"),
            ("SCHILY.xattr.trusted.other", b"1"),
            ("SCHILY.xattr.security.capability", &cap),
            ("SCHILY.xattr.user.mine", b"\x00\xff"),
        ])
        .head(Head { name: b"f", uid: 5, mode: 0o4755, ..Head::default() })
        .end();
    for (arena, ok) in both(&tar) {
        assert!(ok);
        assert_eq!(
            arena.dump(),
            [concat!(
                "f 4755 5:0 0 af1349b9f5f9a1a6 /f",
                " [security.capability=0100000200040000000000000000000000000000] [user.mine=00ff]"
            )]
        );
        let mut list = [0; 512];
        let n = rustix::fs::llistxattr(arena.dest().join("f"), &mut list[..]).unwrap();
        assert!(!String::from_utf8_lossy(&list[..n]).contains("overlay"));
    }
}

/// Many file systems keep attributes in one block.
#[test]
fn attributes_that_find_no_room_are_no_full_disk() {
    let value = [b'x'; 60_000];
    let probe = Arena::new();
    match rustix::fs::setxattr(probe.dest(), "user.big", &value, rustix::fs::XattrFlags::empty()) {
        Err(rustix::io::Errno::NOSPC) => {}
        other => return println!("skipped: here it is {other:?}"),
    }
    let tar = Archive::default()
        .pax(&[("SCHILY.xattr.user.big", &value)])
        .head(Head { name: b"f", ..Head::default() })
        .end();
    let e = unpack(&Arena::new(), &tar).unwrap_err();
    assert!(matches!(&e, Error::Entry { .. }) && !e.is_no_space(), "{e:?}");
    assert!(e.to_string().contains("60008 bytes of extended attributes"), "{e}");
}

#[test]
fn modes_are_those_of_the_archive_whatever_the_folder_gives_new_files() {
    use std::os::unix::fs::PermissionsExt;
    let modes = [0o644, 0o666, 0o777, 0o000, 0o400, 0o1755, 0o755, 0o7777];
    let files = modes.iter().enumerate().fold(Archive::default(), |tar, (i, mode)| {
        tar.head(Head { name: format!("d/f{i}").as_bytes(), mode: *mode, size: 2, ..Head::default() })
            .data(b"hi")
    });
    let tar = files.end();
    // user::rwx group::r-x other::--- as posix_acl_xattr.h has them: version 2, then tag, permissions, id.
    let mut acl = vec![2, 0, 0, 0];
    for (tag, permissions) in [(1u8, 7u8), (4, 5), (32, 0)] {
        acl.extend_from_slice(&[tag, 0, permissions, 0, 255, 255, 255, 255]);
    }
    for with_acl in [false, true] {
        let arena = Arena::new();
        if with_acl {
            let flags = rustix::fs::XattrFlags::empty();
            let set = rustix::fs::setxattr(arena.dest(), "system.posix_acl_default", &acl, flags);
            if let Err(e) = set {
                return eprintln!("SKIPPED: no ACLs here: {e}");
            }
        }
        layer::unpack::apply(&tar[..], &arena.dest(), &common::unpack_options()).unwrap();
        for (i, mode) in modes.iter().enumerate() {
            let meta = std::fs::metadata(arena.dest().join(format!("d/f{i}"))).unwrap();
            assert_eq!(meta.permissions().mode() & 0o7777, *mode, "{with_acl}");
        }
    }
}

#[test]
fn many_whiteouts_and_replacements_take_linear_time() {
    if !is_root() {
        return;
    }
    let mut tar = Archive::default();
    for i in 0..10_000 {
        tar = tar.file(&format!("d/.wh.{i}"), "");
    }
    for _ in 0..1_000 {
        tar = tar.dir("x", 0o755).symlink("x", "d");
    }
    let arena = Arena::new();
    let start = std::time::Instant::now();
    unpack(&arena, &tar.end()).unwrap();
    assert!(start.elapsed().as_secs() < 60);
}

#[test]
fn an_archive_cut_anywhere_neither_panics_nor_passes_as_whole() {
    let tar = Archive::default()
        .dir("d", 0o755)
        .pax(&[("path", b"d/long")])
        .file("x", "content")
        .file("d/y", "z")
        .end();
    let whole = unpack(&Arena::new(), &tar).unwrap();
    for cut in (0..tar.len() - 1024).step_by(97) {
        if let Ok(report) = unpack(&Arena::new(), &tar[..cut]) {
            assert!(cut % 512 == 0 && report.entries < whole.entries, "{cut}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Damaged archives end in an error or in something else, but never outside and never in a panic.
    #[test]
    fn damage_is_survived(flips in prop::collection::vec((0usize..6000, any::<u8>()), 1..12), fix in any::<bool>()) {
        let arena = Arena::new();
        let mut tar = Archive::default()
            .dir("d", 0o755)
            .symlink("d/esc", &arena.canary())
            .pax(&[("path", b"d/esc/x"), ("mtime", b"1.5"), ("GNU.sparse.map", b"0,1")])
            .file("x", "content")
            .hard_link("h", "d/esc/secret")
            .file("d/.wh.gone", "")
            .end();
        for (at, byte) in flips {
            let at = at % tar.len();
            tar[at] = byte;
        }
        if fix {
            // With right checksums the damage gets deeper.
            for chunk in tar.chunks_exact_mut(512) {
                if &chunk[257..262] == b"ustar" {
                    let mut b: [u8; 512] = chunk.try_into().unwrap();
                    common::sum(&mut b);
                    chunk.copy_from_slice(&b);
                }
            }
        }
        let options = UnpackOptions { max_bytes: Some(1 << 22), ..common::unpack_options() };
        let _ = apply(&tar[..], &arena.dest(), &options);
        arena.check();
        let dest = std::fs::File::open(arena.dest()).unwrap();
        let _ = extract::extract(&tar[..], &dest, &common::extract_options());
        arena.check();
    }
}
