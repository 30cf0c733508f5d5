//! Layers that lean on the layers below them.

mod common;

use common::{Archive, Head, is_root};
use layer::settle::settle;
use layer::unpack::{UnpackOptions, UnpackReport, apply};
use layer::{Error, Marks};
use std::fs;
use std::os::unix::fs::MetadataExt;

fn layer(tar: Archive) -> (tempfile::TempDir, UnpackReport) {
    let dir = tempfile::tempdir().unwrap();
    let report = apply(&tar.end()[..], dir.path(), &UnpackOptions::default()).unwrap();
    (dir, report)
}

#[test]
fn implicit_folders_are_what_they_are_below() {
    if !is_root() {
        return;
    }
    let (base, _) = layer(
        Archive::default()
            .head(Head { kind: b'5', name: b"home", mode: 0o711, uid: 3, gid: 4, ..Head::default() })
            .dir("home/app", 0o700)
            .dir("usr", 0o751)
            .dir("usr/lib", 0o752)
            .dir("usr/lib/both", 0o755)
            .symlink("lib", "usr/lib")
            .symlink("lib64", "/lib")
            .symlink("loop", "loop")
            .dir("gone", 0o777),
    );
    let (middle, _) = layer(Archive::default().file(".wh.gone", ""));
    let (top, report) = layer(
        Archive::default()
            .file("home/app/f", "f")
            .file("lib/x", "x")
            .file("lib/both/one", "1")
            .file("lib64/deep/y", "y")
            .file("usr/lib/both/two", "2")
            .file("loop/z", "z")
            .file("gone/again", "g")
            .file("fresh/w", "w"),
    );
    settle(top.path(), &[middle.path(), base.path()], &report, Marks::Trusted).unwrap();
    let lines: Vec<String> = common::dump::dump(top.path())
        .unwrap()
        .iter()
        .filter(|l| l.starts_with('d'))
        .map(|l| l.replace(" - -", ""))
        .collect();
    assert_eq!(
        lines,
        [
            "d 0755 0:0 /fresh",
            "d 0755 0:0 /gone",
            "d 0711 3:4 /home",
            "d 0700 0:0 /home/app",
            "d 0755 0:0 /loop",
            "d 0751 0:0 /usr",
            "d 0752 0:0 /usr/lib",
            "d 0755 0:0 /usr/lib/both",
            "d 0755 0:0 /usr/lib/deep",
        ]
    );
    for (path, content) in
        [("usr/lib/x", "x"), ("usr/lib/both/one", "1"), ("usr/lib/both/two", "2"), ("usr/lib/deep/y", "y")]
    {
        assert_eq!(fs::read_to_string(top.path().join(path)).unwrap(), content);
    }
    assert_eq!(fs::metadata(top.path().join("home/app")).unwrap().mtime(), 1_000_000);
}

#[test]
fn hard_links_to_lower_files_become_copies_that_are_linked() {
    if !is_root() {
        return;
    }
    let (base, _) = layer(
        Archive::default()
            .dir("usr", 0o751)
            .head(Head { name: b"usr/tool", mode: 0o4755, uid: 5, size: 4, ..Head::default() })
            .data(b"tool")
            .symlink("bin", "usr")
            .symlink("l", "nowhere"),
    );
    let (top, report) =
        layer(Archive::default().hard_link("opt/tool", "bin/tool").hard_link("l2", "l").dir("opt", 0o700));
    settle(top.path(), &[base.path()], &report, Marks::Trusted).unwrap();
    let meta = fs::metadata(top.path().join("opt/tool")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.nlink(), meta.size()), (0o4755, 5, 2, 4));
    assert_eq!(meta.ino(), fs::metadata(top.path().join("usr/tool")).unwrap().ino());
    assert_eq!(fs::metadata(top.path().join("usr")).unwrap().mode() & 0o777, 0o751);
    assert_eq!(fs::read_link(top.path().join("l2")).unwrap().to_str(), Some("nowhere"));
    let (top, report) = layer(Archive::default().hard_link("a", "absent"));
    assert!(matches!(settle(top.path(), &[base.path()], &report, Marks::Trusted), Err(Error::Entry { .. })));
}
