//! Archives of other programs, both ways: bsdtar, umoci's layers, old formats, and odd but legitimate streams.

mod common;

use common::{Archive, Head, block, is_root, run, sum};
use layer::decompress::decompress;
use layer::pack::{PackOptions, Xattrs, write_layer};
use layer::unpack::{UnpackReport, apply};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

fn unpack(tar: &[u8]) -> (tempfile::TempDir, UnpackReport) {
    let dir = tempfile::tempdir().unwrap();
    let report = apply(tar, dir.path(), &common::unpack_options()).unwrap();
    assert_eq!(report.diff_id.0, digest::Digest::of(tar), "what follows the end counts, too");
    (dir, report)
}

fn pack(dir: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    let options = PackOptions { xattrs: Xattrs::All, ..PackOptions::default() };
    write_layer(dir, &[], &options, &mut out).unwrap();
    out
}

/// The lines of a folder; without attributes, if a format can't have them.
fn lines(dir: &Path, attributes: bool) -> Vec<String> {
    let all = common::dump::dump(dir).unwrap();
    match attributes {
        true => all,
        false => all.iter().map(|l| l.split(" [").next().unwrap().to_string()).collect(),
    }
}

/// Without a locale it knows no UTF-8. `None` where it is not installed.
fn bsdtar(args: &[&str], dir: &Path) -> Option<String> {
    run("bsdtar", &["--version"], dir)?;
    run("env", &[&["LC_ALL=C.UTF-8", "bsdtar"], args].concat(), dir)
}

/// `cap_net_bind_service=ep` (linux/capability.h, revision 2).
const CAPABILITY: &[u8] = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
/// `u::rw- u:7:r-- g::r-- m::r-- o::r--` (linux/posix_acl_xattr.h, version 2).
const ACL: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x07\0\0\0\
    \x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";

/// What all formats of other programs can hold.
fn plain() -> Archive {
    Archive::default()
        .dir("a", 0o2750)
        .file("a/plain", "plain")
        .hard_link("a/twin", "a/plain")
        .symlink("a/up", "../../../x")
        .kinds()
}

/// What needs records.
fn rich() -> Archive {
    plain()
        .pax(&[("mtime", b"1234567890.123456789"), ("SCHILY.xattr.user.k", b"v\n=\0")])
        .file("a/fine", "fine")
        .pax(&[("SCHILY.xattr.security.capability", CAPABILITY)])
        .head(Head { name: b"a/able", mode: 0o755, ..Head::default() })
        .pax(&[("mtime", b"-5")])
        .file("a/old", "")
        .records()
}

#[test]
fn bsdtar_and_we_read_each_other() {
    if !is_root() {
        return;
    }
    let (dir, _) = unpack(&rich().end());
    let work = tempfile::tempdir().unwrap();
    // Names that are no UTF-8 it reads only with a record that Go does not know.
    fs::remove_dir_all(dir.path().join("bytes")).unwrap();
    let tar = pack(dir.path());
    fs::write(work.path().join("ours.tar"), &tar).unwrap();
    fs::create_dir(work.path().join("theirs")).unwrap();
    let args = ["-xpf", "../ours.tar", "--numeric-owner", "--xattrs"];
    if bsdtar(&args, &work.path().join("theirs")).is_none() {
        return;
    }
    assert_eq!(lines(&work.path().join("theirs"), true), lines(dir.path(), true));
    for name in ["a/old", "a/fine"] {
        let time = |dir: &Path| fs::metadata(dir.join(name)).map(|m| (m.mtime(), m.mtime_nsec())).unwrap();
        assert_eq!(time(&work.path().join("theirs")), time(dir.path()), "{name}");
    }

    let sparse = fs::File::create(dir.path().join("sparse")).unwrap();
    for at in [0, 3_000_000, 9_000_000] {
        sparse.write_all_at(b"data", at).unwrap();
    }
    sparse.set_len(10_000_000).unwrap();
    drop(sparse);
    let (bytes, _) = unpack(&rich().end());
    fs::rename(bytes.path().join("bytes"), dir.path().join("bytes")).unwrap();
    let from = dir.path().to_str().unwrap();
    for (format, attributes) in [("pax", true), ("gnutar", false)] {
        let out = format!("{format}.tar");
        let format = format!("--format={format}");
        bsdtar(&["-C", from, &format, "--xattrs", "-cf", &out, "."], work.path()).unwrap();
        let (got, _) = unpack(&fs::read(work.path().join(&out)).unwrap());
        assert_eq!(lines(got.path(), attributes), lines(dir.path(), attributes), "{format}");
        if attributes {
            let meta = fs::metadata(got.path().join("sparse")).unwrap();
            assert!(meta.blocks() * 512 < 1_000_000, "holes stay holes");
            let meta = fs::metadata(got.path().join("a/fine")).unwrap();
            assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_234_567_890, 123_456_789));
        }
    }
    // The oldest formats know less: no devices in v7, no long names in either.
    let (dir, _) = unpack(&plain().end());
    let from = dir.path().to_str().unwrap();
    bsdtar(&["-C", from, "--format=ustar", "-cf", "ustar.tar", "."], work.path()).unwrap();
    let (got, _) = unpack(&fs::read(work.path().join("ustar.tar")).unwrap());
    assert_eq!(lines(got.path(), false), lines(dir.path(), false));
    let (dir, _) = unpack(&Archive::default().dir("a", 0o2750).file("a/f", "v7").symlink("a/l", "f").end());
    let from = dir.path().to_str().unwrap();
    for (program, format) in [("bsdtar", "--format=v7tar"), ("tar", "--format=v7")] {
        run(program, &["-C", from, format, "-cf", "v7.tar", "."], work.path()).unwrap();
        let (got, _) = unpack(&fs::read(work.path().join("v7.tar")).unwrap());
        assert_eq!(lines(got.path(), false), lines(dir.path(), false), "{program}");
    }
}

#[test]
fn capabilities_and_lists_of_access_come_back() {
    if !is_root() {
        return;
    }
    let tar = Archive::default()
        .pax(&[("SCHILY.xattr.security.capability", CAPABILITY)])
        .head(Head { name: b"able", mode: 0o755, uid: 5, ..Head::default() })
        .pax(&[("SCHILY.xattr.system.posix_acl_access", ACL)])
        .head(Head { name: b"shared", mode: 0o644, ..Head::default() })
        .end();
    let (dir, _) = unpack(&tar);
    let shown = lines(dir.path(), true);
    assert!(shown[0].contains("[security.capability=01000002"), "{shown:?}");
    assert!(shown[1].contains("[system.posix_acl_access=02000000"), "{shown:?}");
    let ours = pack(dir.path());
    assert_eq!(lines(unpack(&ours).0.path(), true), shown);
    // As BuildKit packs: capabilities alone.
    let mut out = Vec::new();
    write_layer(dir.path(), &[], &PackOptions::default(), &mut out).unwrap();
    let shown = lines(unpack(&out).0.path(), true);
    assert!(shown[0].contains("capability") && !shown[1].contains("acl"), "{shown:?}");
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("ours.tar"), &ours).unwrap();
    fs::create_dir(work.path().join("gnu")).unwrap();
    let args = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "../ours.tar"];
    if run("tar", &args, &work.path().join("gnu")).is_some() {
        let theirs = lines(&work.path().join("gnu"), true);
        assert_eq!(theirs, lines(dir.path(), true));
    }
}

#[test]
fn umocis_layers_mean_to_us_what_they_mean_to_umoci() {
    if !is_root() {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let base =
        plain().dir("gone", 0o755).file("gone/f", "f").dir("remade", 0o755).file("remade/old", "").end();
    fs::write(work.path().join("layer.tar"), &base).unwrap();
    for args in [
        &["init", "--layout", "oci"][..],
        &["new", "--image", "oci:t"],
        &["raw", "add-layer", "--image", "oci:t", "layer.tar"],
        &["unpack", "--image", "oci:t", "bundle"],
    ] {
        if run("umoci", args, work.path()).is_none() {
            return;
        }
    }
    let root = work.path().join("bundle/rootfs");
    fs::remove_dir_all(root.join("gone")).unwrap();
    fs::remove_file(root.join("a/plain")).unwrap();
    fs::remove_dir_all(root.join("remade")).unwrap();
    fs::write(root.join("remade"), "a file now").unwrap();
    fs::create_dir(root.join("fresh")).unwrap();
    fs::write(root.join("fresh/f"), "fresh").unwrap();
    run("umoci", &["repack", "--image", "oci:t", "bundle"], work.path()).unwrap();
    let blob = |digest: &str| fs::read(work.path().join("oci/blobs/sha256").join(digest)).unwrap();
    let digests = |json: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(json).into_owned();
        text.split("\"sha256:").skip(1).map(|rest| rest[..64].to_string()).collect()
    };
    let index = fs::read(work.path().join("oci/index.json")).unwrap();
    let manifest = blob(&digests(&index)[0]);
    // Configuration first, then layers.
    let layer = blob(digests(&manifest).last().unwrap());
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut decompress(&layer[..], Default::default()).unwrap().0, &mut tar).unwrap();
    let (got, _) = unpack(&tar);
    let names: Vec<String> = lines(got.path(), false)
        .iter()
        .map(|l| format!("{} {}", &l[..6], &l[l.find(" /").unwrap() + 1..]))
        .collect();
    for wanted in ["c 0000 /gone", "c 0000 /a/plain", "f 0644 /remade", "d 0755 /fresh", "f 0644 /fresh/f"] {
        assert!(names.iter().any(|n| n == wanted), "{wanted}: {names:?}");
    }
    assert!(!names.iter().any(|n| n.contains(".wh.")), "{names:?}");
}

#[test]
fn after_the_end_anything_may_come() {
    let first = Archive::default().file("first", "1").end();
    let second = Archive::default().file("second", "2").end();
    for rest in [&second[..], b"garbage", &[0; 10240], &[0xff; 700]] {
        let (dir, report) = unpack(&[&first[..], rest].concat());
        // As GNU tar without -i and as Go: what follows the end is no part of the archive.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!((report.entries, report.size), (1, (first.len() + rest.len()) as u64));
    }
    // And the end may be missing, or be one block only.
    for cut in [512, 1024] {
        let (dir, _) = unpack(&first[..first.len() - cut]);
        assert_eq!(fs::read(dir.path().join("first")).unwrap(), b"1");
    }
    assert_eq!(unpack(b"").1.entries, 0);
}

/// A header block with some bytes replaced.
fn patched(head: &Head<'_>, patches: &[(usize, &[u8])]) -> Archive {
    let mut raw = block(head);
    for (at, bytes) in patches {
        raw[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    sum(&mut raw);
    Archive(raw.to_vec())
}

#[test]
fn prefixes_of_all_formats() {
    let prefix = "p".repeat(131);
    let long = "q".repeat(155);
    let name = Head { name: b"name", ..Head::default() };
    // Times of star come right behind a prefix that fills its field.
    let times = b"00000000001 00000000002 ";
    let star: &[(usize, &[u8])] = &[(345, prefix.as_bytes()), (476, times), (508, b"tar\0")];
    for (patches, path) in [
        (&[(345, long.as_bytes())][..], format!("{long}/name")),
        (&[(345, b"dir".as_slice())], "dir/name".into()),
        // Some writers leave the version out.
        (&[(345, b"dir".as_slice()), (263, b"\0\0")], "dir/name".into()),
        (star, format!("{prefix}/name")),
        // GNU has times there, and V7 nothing.
        (&[(345, times.as_slice()), (257, b"ustar  \0")], "name".into()),
        (&[(345, times.as_slice()), (257, &[0; 8])], "name".into()),
    ] {
        let (dir, report) = unpack(&patched(&name, patches).end());
        assert!(dir.path().join(&path).is_file(), "{path}");
        assert_eq!(report.entries, 1);
    }
}

#[test]
fn large_and_negative_numbers() {
    if !is_root() {
        return;
    }
    let base256 = |value: i64, width: usize| -> Vec<u8> {
        let mut out = vec![if value < 0 { 0xff } else { 0 }; width];
        out[width - 8..].copy_from_slice(&value.to_be_bytes());
        out[0] |= 0x80;
        out
    };
    let f = Head { name: b"f", ..Head::default() };
    let uid = base256(3_000_000_000, 8);
    let gnu = (257, b"ustar  \0".as_slice());
    for (mtime, back) in [(-5, -5), (10_000_000_000, 10_000_000_000), (1 << 40, i64::MAX)] {
        let time = base256(mtime, 12);
        let (dir, _) = unpack(&patched(&f, &[gnu, (108, &uid), (116, &uid), (136, &time)]).end());
        let meta = fs::metadata(dir.path().join("f")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (3_000_000_000, 3_000_000_000));
        // Where the file system's clock ends, its last moment is taken.
        assert!(meta.mtime() == back || mtime > 10_000_000_000, "{mtime}: {}", meta.mtime());
        let again = unpack(&pack(dir.path())).0;
        assert_eq!(lines(again.path(), true), lines(dir.path(), true));
        assert_eq!(fs::metadata(again.path().join("f")).unwrap().mtime(), meta.mtime());
        // The same by records.
        let (uid, text) = ("3000000000", mtime.to_string());
        let records = [("uid", uid.as_bytes()), ("gid", uid.as_bytes()), ("mtime", text.as_bytes())];
        let (pax, _) = unpack(&Archive::default().pax(&records).head(f.clone()).end());
        assert_eq!(fs::metadata(pax.path().join("f")).unwrap().mtime(), meta.mtime());
    }
}

#[test]
fn kinds_that_only_some_programs_write() {
    let data = [b'x'; 700];
    let tar = patched(&Head { kind: b'V', name: b"a label", ..Head::default() }, &[])
        // A folder of an incremental archive, with the names that were in it.
        .head(Head { kind: b'D', name: b"d/", size: 700, mode: 0o755, ..Head::default() })
        .data(&data)
        .head(Head { kind: b'7', name: b"d/contiguous", size: 2, ..Head::default() })
        .data(b"hi")
        .head(Head { kind: 0, name: b"d/v7/", mode: 0o755, ..Head::default() })
        .head(Head { kind: b'X', name: b"pax", size: 14, ..Head::default() })
        .data(b"14 path=d/sun\n")
        .file("short", "sun")
        .head(Head { kind: b'g', name: b"global", size: 20, ..Head::default() })
        .data(b"20 comment=a commit\n")
        .file("d/last", "last")
        .end();
    let (dir, report) = unpack(&tar);
    assert_eq!(fs::read(dir.path().join("d/contiguous")).unwrap(), b"hi");
    assert_eq!(fs::read(dir.path().join("d/sun")).unwrap(), b"sun");
    assert_eq!(fs::read(dir.path().join("d/last")).unwrap(), b"last");
    assert!(dir.path().join("d/v7").is_dir());
    assert_eq!(report.entries, 5);
    let work = tempfile::tempdir().unwrap();
    fs::create_dir(work.path().join("in")).unwrap();
    fs::write(work.path().join("in/f"), "f").unwrap();
    let args = ["--format=gnu", "--label=name", "-g", "list", "-cf", "out.tar", "in"];
    if run("tar", &args, work.path()).is_some() {
        let (dir, _) = unpack(&fs::read(work.path().join("out.tar")).unwrap());
        assert_eq!(fs::read(dir.path().join("in/f")).unwrap(), b"f");
    }
}
