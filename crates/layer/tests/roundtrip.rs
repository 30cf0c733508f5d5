//! Laws and golden comparisons: layer = diff(apply(layer)), GNU tar, umoci and the kernel's overlay.

mod common;

use common::{Archive, Head, is_root, run};
use layer::Marks;
use layer::pack::{PackOptions, PackStats, Xattrs, diff_id, write_layer};
use layer::unpack::{UnpackOptions, Whiteouts, apply};
use proptest::prelude::*;
use std::fs;
use std::path::Path;

fn all() -> PackOptions {
    PackOptions { xattrs: Xattrs::All, ..PackOptions::default() }
}

fn pack(dir: &Path, lowers: &[&Path], options: &PackOptions) -> (Vec<u8>, PackStats) {
    let mut out = Vec::new();
    let stats = write_layer(dir, lowers, options, &mut out).unwrap();
    assert_eq!(stats.size, out.len() as u64);
    assert_eq!(stats.diff_id.0, digest::Digest::of(&out));
    assert_eq!(diff_id(dir, lowers, options).unwrap(), stats);
    (out, stats)
}

fn unpack(tar: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let report = apply(tar, dir.path(), &UnpackOptions::default()).unwrap();
    assert_eq!(report.diff_id.0, digest::Digest::of(tar));
    assert_eq!(report.size, tar.len() as u64);
    dir
}

/// Everything a layer can hold.
fn rich() -> Vec<u8> {
    Archive::default()
        .dir("a", 0o2750)
        .file("a/plain", "plain")
        .hard_link("a/twin", "a/plain")
        .symlink("a/up", "../../../x")
        .dir("a/shut", 0o000)
        .file("a/shut/in", "x")
        .kinds()
        .pax(&[("mtime", b"1234567890.123456789"), ("SCHILY.xattr.user.k", b"v\n=\0")])
        .file("a/fine", "fine")
        .pax(&[("mtime", b"-5.25")])
        .file("a/old", "")
        .records()
        .file("gone/.wh.file", "")
        .file(".wh.top", "")
        .dir("hidden", 0o755)
        .file("hidden/.wh..wh..opq", "")
        .file("hidden/new", "new")
        .end()
}

#[test]
fn a_layer_comes_back() {
    if !is_root() {
        return;
    }
    let first = unpack(&rich());
    let (tar, stats) = pack(first.path(), &[], &all());
    let second = unpack(&tar);
    assert_eq!(common::dump::dump(first.path()).unwrap(), common::dump::dump(second.path()).unwrap());
    assert_eq!(pack(second.path(), &[], &all()), (tar, stats));
}

#[test]
fn the_bytes_are_those_of_the_golden_file() {
    if !is_root() {
        return;
    }
    // Changes to this digest change every image: they must be meant.
    let dir = unpack(&rich());
    let (_, stats) = pack(dir.path(), &[], &all());
    assert_eq!(stats.diff_id.to_string(), GOLDEN);
}

const GOLDEN: &str = "sha256:5612d17327051883b851665e94eb3e487193afbe037f7decd74cd4a82a84f10f";

#[test]
fn the_number_of_threads_changes_nothing() {
    use layer::compress::{Compression, Compressor};
    // Enough for several pieces of each compression, small files and large ones, replaced ones and links.
    let mut tar = Archive::default();
    let mut x: u32 = 7;
    for i in 0..300 {
        let mut line = String::new();
        for _ in 0..(if i % 50 == 0 { 200_000 } else { i * 40 }) {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            line.push(char::from(b'a' + (x >> 28) as u8));
        }
        tar = tar.file(&format!("d{}/f{}", i % 7, i % 290), &line);
        if i % 9 == 0 {
            tar = tar.hard_link(&format!("d{}/l{i}", i % 7), &format!("d{}/f{}", i % 7, i % 290));
        }
    }
    let tar = tar.end();
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let dir = tempfile::tempdir().unwrap();
            apply(&tar[..], dir.path(), &common::unpack_options()).unwrap();
            let options = PackOptions { ids: common::unpack_options().ids, ..PackOptions::default() };
            [Compression::None, Compression::GZIP, Compression::ZSTD].map(|how| {
                let mut out = Compressor::new(Vec::new(), how);
                write_layer(dir.path(), &[], &options, &mut out).unwrap();
                digest::Digest::of(&out.finish().unwrap().0)
            })
        })
    };
    let one = with(1);
    assert_eq!(with(2), one);
    assert_eq!(with(7), one);
}

#[test]
fn implicit_folders_and_links_into_lower_layers_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let tar = Archive::default()
        .file("usr/lib/x", "x")
        .dir("usr", 0o711)
        .hard_link("early", "late")
        .hard_link("chain", "early")
        .hard_link("below", "lower/file")
        .file("late", "late")
        .symlink("lib", "usr/lib")
        .file("lib/deep/y", "y")
        .file(".wh..wh..opq", "")
        .file(".wh..wh.plnk", "")
        .end();
    let report = apply(&tar[..], dir.path(), &common::unpack_options()).unwrap();
    assert_eq!(report.implicit_dirs, [Path::new("usr/lib"), Path::new("usr/lib/deep")]);
    assert_eq!(report.lower_links, [("below".into(), "lower/file".into())]);
    assert!(report.opaque_root);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(dir.path().join("chain")).unwrap().nlink(), 3);
    assert_eq!(fs::read(dir.path().join("usr/lib/deep/y")).unwrap(), b"y");
}

#[test]
fn whiteouts_mean_the_same_wherever_they_stand() {
    if !is_root() {
        return;
    }
    let orders = [
        Archive::default().file(".wh.d", "").dir("d", 0o755).file("d/f", "").end(),
        Archive::default().dir("d", 0o755).file("d/f", "").file(".wh.d", "").end(),
        Archive::default().dir("d", 0o755).file(".wh.d", "").file("d/f", "").end(),
        Archive::default().dir("d", 0o755).file("d/f", "").file("d/.wh..wh..opq", "").end(),
    ];
    let packed: Vec<_> = orders.iter().map(|tar| pack(unpack(tar).path(), &[], &all()).0).collect();
    for other in &packed[1..] {
        assert!(*other == packed[0]);
    }
    // A file hides what is below by itself.
    let dir = unpack(&Archive::default().file(".wh.f", "").file("f", "new").end());
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"new");
}

#[test]
fn whiteouts_as_attributes() {
    if !is_root() {
        return;
    }
    let tar = Archive::default().dir("d", 0o755).file("d/.wh.f", "").file("d/keep", "").end();
    for marks in [Marks::Trusted, Marks::User] {
        let dir = tempfile::tempdir().unwrap();
        let options = UnpackOptions { marks, whiteouts: Whiteouts::Xattrs, ..UnpackOptions::default() };
        apply(&tar[..], dir.path(), &options).unwrap();
        assert!(fs::metadata(dir.path().join("d/f")).unwrap().is_file());
        let options = PackOptions { marks, ..PackOptions::default() };
        let devices = tempfile::tempdir().unwrap();
        apply(&tar[..], devices.path(), &UnpackOptions::default()).unwrap();
        assert!(pack(dir.path(), &[], &options).0 == pack(devices.path(), &[], &PackOptions::default()).0);
    }
}

#[test]
fn what_did_not_change_is_left_out() {
    if !is_root() {
        return;
    }
    let lower = unpack(
        &Archive::default()
            .dir("d", 0o755)
            .file("d/same", "same")
            .file("d/other", "aaaa")
            .file("d/gone", "")
            .dir("d/sub", 0o700)
            .file("d/sub/x", "x")
            .end(),
    );
    let upper = unpack(
        &Archive::default()
            .dir("d", 0o755)
            .file("d/same", "same")
            .file("d/other", "bbbb")
            .file("d/.wh.gone", "")
            .file("d/.wh.never", "")
            .dir("d/sub", 0o700)
            .file("d/sub/x", "x")
            .dir("e", 0o755)
            .end(),
    );
    let (tar, stats) = pack(upper.path(), &[lower.path()], &PackOptions::default());
    let listed = unpack(&tar);
    let names: Vec<String> = common::dump::dump(listed.path()).unwrap();
    assert_eq!(stats.entries, 4, "{names:?}");
    assert!(names[1].starts_with("c 0000") && names[1].ends_with("/d/gone"), "{names:?}");
    // The same, with the middle layer hiding the lower one.
    let middle = unpack(&Archive::default().file(".wh.d", "").end());
    let (_, stats) = pack(upper.path(), &[middle.path(), lower.path()], &PackOptions::default());
    assert_eq!(stats.entries, 6);
    // Nothing changed at all.
    let (_, stats) = pack(lower.path(), &[lower.path()], &PackOptions::default());
    assert_eq!((stats.entries, stats.size), (0, 1024));
}

#[test]
fn options_shape_the_entries() {
    if !is_root() {
        return;
    }
    let dir = unpack(
        &Archive::default()
            .pax(&[("mtime", b"2000000000.5"), ("SCHILY.xattr.user.k", b"v")])
            .head(Head { name: b"f", uid: 100_005, ..Head::default() })
            .head(Head { name: b"g", uid: 100_005, ..Head::default() })
            .end(),
    );
    fs::write(dir.path().join(".wh.mine"), "").unwrap();
    let ids = layer::IdMap::Ranges {
        uids: vec![layer::IdRange { inside: 0, outside: 100_000, len: 10 }],
        gids: vec![layer::IdRange { inside: 0, outside: 0, len: 10 }],
    };
    let options =
        PackOptions { clamp_times: Some(1_500_000_000), ids: ids.clone(), ..PackOptions::default() };
    let (tar, stats) = pack(dir.path(), &[], &options);
    assert_eq!(stats.reserved_names, [Path::new(".wh.mine")]);
    let plain = Archive::default()
        .head(Head { name: b"f", uid: 5, mtime: 1_500_000_000, ..Head::default() })
        .head(Head { name: b"g", uid: 5, ..Head::default() })
        .end();
    assert!(tar == plain, "no records but what is needed");
    let back = tempfile::tempdir().unwrap();
    apply(&tar[..], back.path(), &UnpackOptions { ids, ..UnpackOptions::default() }).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(back.path().join("g")).unwrap().uid(), 100_005);
}

#[test]
fn gnu_tar_and_we_read_each_other() {
    if !is_root() {
        return;
    }
    let dir = unpack(&rich());
    let work = tempfile::tempdir().unwrap();
    let (tar, _) = pack(dir.path(), &[], &all());
    fs::write(work.path().join("ours.tar"), &tar).unwrap();
    fs::create_dir(work.path().join("gnu")).unwrap();
    let args = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "../ours.tar"];
    if run("tar", &args, &work.path().join("gnu")).is_none() {
        return;
    }
    let again = unpack(&tar);
    let ours: Vec<String> = common::dump::dump(again.path()).unwrap();
    let theirs = common::dump::dump(&work.path().join("gnu")).unwrap();
    // GNU tar knows no whiteouts: those are plain files to it.
    let known = |lines: &[String]| -> Vec<String> {
        lines.iter().filter(|l| !l.contains("/.wh.") && !l.starts_with("c 0000")).cloned().collect()
    };
    assert_eq!(known(&ours), known(&theirs));

    fs::remove_dir_all(work.path().join("gnu/gone")).unwrap();
    fs::remove_file(work.path().join("gnu/.wh.top")).unwrap();
    fs::remove_file(work.path().join("gnu/hidden/.wh..wh..opq")).unwrap();
    let sparse = fs::File::create(work.path().join("gnu/sparse")).unwrap();
    use std::os::unix::fs::FileExt;
    for at in [0, 3_000_000, 9_000_000] {
        sparse.write_all_at(b"data", at).unwrap();
    }
    sparse.set_len(10_000_000).unwrap();
    drop(sparse);
    for format in [
        &["--format=gnu"][..],
        &["--format=gnu", "-S"],
        &["--format=posix", "--xattrs", "--xattrs-include=*"],
        &["--format=posix", "-S", "--sparse-version=0.0"],
        &["--format=posix", "-S", "--sparse-version=0.1"],
        &["--format=posix", "-S", "--sparse-version=1.0"],
    ] {
        let mut args = vec!["-C", "gnu", "-cf", "theirs.tar"];
        args.extend_from_slice(format);
        args.push(".");
        run("tar", &args, work.path()).unwrap();
        let tar = fs::read(work.path().join("theirs.tar")).unwrap();
        let got = unpack(&tar);
        let plain = |dir: &Path| -> Vec<String> {
            common::dump::dump(dir)
                .unwrap()
                .iter()
                .map(|l| l.split(" [").next().unwrap().to_string())
                .collect()
        };
        assert_eq!(plain(got.path()), plain(&work.path().join("gnu")), "{format:?}");
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(got.path().join("sparse")).unwrap();
        assert!(meta.blocks() * 512 < 1_000_000, "holes stay holes");
        let old = fs::metadata(got.path().join("a/old")).unwrap();
        assert_eq!(old.mtime(), -6);
    }
}

#[test]
fn umoci_reads_our_layers() {
    if !is_root() {
        return;
    }
    let dir = unpack(&rich());
    let work = tempfile::tempdir().unwrap();
    // umoci follows its own rules for names that are no UTF-8.
    fs::remove_dir_all(dir.path().join("bytes")).unwrap();
    let (tar, _) = pack(dir.path(), &[], &all());
    fs::write(work.path().join("layer.tar"), &tar).unwrap();
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
    let theirs = common::dump::dump(&work.path().join("bundle/rootfs")).unwrap();
    let clean = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().filter(|l| !l.starts_with("c 0000")).collect()
    };
    assert_eq!(clean(theirs), clean(common::dump::dump(unpack(&tar).path()).unwrap()));
}

#[test]
fn the_kernels_overlay_agrees() {
    if !is_root() {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let at = |p: &str| work.path().join(p);
    for d in ["lower", "upper", "work", "merged", "upper2", "view"] {
        fs::create_dir(at(d)).unwrap();
    }
    let base = Archive::default()
        .dir("keep", 0o755)
        .file("keep/touched", "t")
        .file("keep/gone", "g")
        .dir("remade", 0o755)
        .file("remade/old", "o")
        .dir("dropped", 0o755)
        .file("dropped/x", "x")
        .file("linked", "l")
        .end();
    apply(&base[..], &at("lower"), &UnpackOptions::default()).unwrap();
    // In a mount namespace of its own, so that nothing stays mounted.
    let script = "mount -t overlay o -o lowerdir=lower,upperdir=upper,workdir=work merged || exit 77
        cd merged && : >> keep/touched && rm keep/gone && rm -r dropped remade && mkdir remade &&
        echo n > remade/new && ln linked twin && mv keep/touched keep/t && mv keep/t keep/touched";
    let out = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .current_dir(work.path())
        .output()
        .unwrap();
    if !out.status.success() {
        eprintln!("SKIPPED: overlay: {}", String::from_utf8_lossy(&out.stderr));
        return;
    }
    let (tar, _) = pack(&at("upper"), &[&at("lower")], &PackOptions::default());
    apply(&tar[..], &at("upper2"), &UnpackOptions::default()).unwrap();
    let names: Vec<String> = common::dump::dump(&at("upper2"))
        .unwrap()
        .iter()
        .map(|l| format!("{} {}", &l[..6], &l[l.find(" /").unwrap() + 1..]))
        .collect();
    assert_eq!(
        names,
        [
            "c 0000 /dropped",
            "d 0755 /keep",
            "c 0000 /keep/gone",
            "d 0755 /remade",
            "f 0644 /remade/new",
            "f 0644 /twin",
        ]
    );
    // The unpacked layer shows the same files as the upper folder it came from.
    let script =
        "mount -t overlay o -o lowerdir=upper2:lower view && ls -R view | grep -v '^$' | tr '\\n' ' '";
    let out = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .current_dir(work.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&out.stdout),
        "view: keep linked remade twin view/keep: touched view/remade: new "
    );
}

/// One thing of a random tree.
#[derive(Debug, Clone)]
enum Thing {
    File(Vec<u8>),
    Dir,
    Link(String),
    Twin(u8),
    Pipe,
    Whiteout,
    Opaque,
}

fn thing() -> impl Strategy<Value = (Vec<u8>, Thing, u32, u32, (i64, u32))> {
    let name = prop::collection::vec(0u8..6, 1..4);
    let kind = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000).prop_map(Thing::File),
        Just(Thing::Dir),
        "[a-c./]{1,12}".prop_map(Thing::Link),
        any::<u8>().prop_map(Thing::Twin),
        Just(Thing::Pipe),
        Just(Thing::Whiteout),
        Just(Thing::Opaque),
    ];
    (name, kind, 0u32..0o10000, 0u32..3, (-5i64..5_000_000_000, 0u32..1_000_000_000))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// layer = diff(apply(layer)), for any folder that a layer can be.
    #[test]
    fn any_layer_comes_back(things in prop::collection::vec(thing(), 0..25)) {
        if !is_root() {
            return Ok(());
        }
        let mut tar = Archive::default();
        let mut files: Vec<String> = Vec::new();
        for (name, kind, mode, owner, (seconds, nanos)) in things {
            let path: Vec<String> = name.iter().map(|n| format!("n{n}")).collect();
            let path = path.join("/");
            let time = layer_time(seconds, nanos);
            tar = tar.pax(&[("mtime", time.as_bytes())]);
            let head = Head { mode, uid: u64::from(owner), gid: u64::from(owner), name: path.as_bytes(), ..Head::default() };
            tar = match kind {
                Thing::File(data) => {
                    files.push(path.clone());
                    tar.head(Head { size: data.len() as u64, ..head }).data(&data)
                }
                Thing::Dir => tar.head(Head { kind: b'5', ..head }),
                Thing::Link(target) => tar.symlink(&path, &target),
                Thing::Twin(i) => match files.get(usize::from(i) % files.len().max(1)) {
                    Some(target) => tar.hard_link(&path, target),
                    None => tar.dir(&path, 0o755),
                },
                Thing::Pipe => tar.head(Head { kind: b'6', ..head }),
                Thing::Whiteout => {
                    let at = path.rfind('n').unwrap();
                    tar.file(&format!("{}.wh.{}", &path[..at], &path[at..]), "")
                },
                Thing::Opaque => tar.file(&format!("{path}/.wh..wh..opq"), ""),
            };
        }
        let first = tempfile::tempdir().unwrap();
        // Some of these archives make no sense (a file as a folder); those must only fail.
        let Ok(report) = apply(&tar.end()[..], first.path(), &UnpackOptions::default()) else { return Ok(()) };
        prop_assert!(report.size > 0);
        let (bytes, stats) = pack(first.path(), &[], &all());
        let second = tempfile::tempdir().unwrap();
        let report = apply(&bytes[..], second.path(), &UnpackOptions::default()).unwrap();
        prop_assert_eq!(report.diff_id, stats.diff_id);
        prop_assert!(report.implicit_dirs.is_empty() && report.lower_links.is_empty());
        prop_assert_eq!(common::dump::dump(first.path()).unwrap(), common::dump::dump(second.path()).unwrap());
        prop_assert!(pack(second.path(), &[], &all()).0 == bytes);
        prop_assert_eq!(pack(first.path(), &[second.path()], &all()).1.entries, what_is_marked(first.path()));
    }
}

fn layer_time(seconds: i64, nanos: u32) -> String {
    if seconds < 0 { seconds.to_string() } else { format!("{seconds}.{nanos:09}") }
}

/// What is kept although it is equal below: opaque folders with what is in them, and
/// the folders on the way there. Whiteouts of what is not there vanish.
fn what_is_marked(dir: &Path) -> u64 {
    fn count(dir: &Path) -> u64 {
        let mut opaque = [0; 4];
        let marked = rustix::fs::lgetxattr(dir, "trusted.overlay.opaque", &mut opaque[..]).is_ok();
        let mut n = 0;
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            use std::os::unix::fs::FileTypeExt;
            if meta.is_dir() {
                let inner = if marked { everything(&path) } else { count(&path) };
                n += inner;
            } else if meta.file_type().is_char_device() {
                n += 0;
            } else if marked {
                n += 1;
            }
        }
        // The folder itself, its marker, or nothing.
        n + u64::from(n > 0 || marked) + u64::from(marked)
    }
    /// Below an opaque folder nothing is known, so all goes in but whiteouts of nothing.
    fn everything(dir: &Path) -> u64 {
        let mut n = 1;
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            use std::os::unix::fs::FileTypeExt;
            n += match meta.is_dir() {
                true => everything(&path),
                false => u64::from(!meta.file_type().is_char_device()),
            };
        }
        n
    }
    let total = count(dir);
    // The root has no entry of its own.
    let mut opaque = [0; 4];
    let marked = rustix::fs::lgetxattr(dir, "trusted.overlay.opaque", &mut opaque[..]).is_ok();
    total - u64::from(total > 0 || marked)
}
