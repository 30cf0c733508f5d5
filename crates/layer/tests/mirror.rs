//! Folders copied, compared and linked mark for mark.

use layer::mirror::{self, Mirror};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

type Change<'a> = &'a dyn Fn(&Path);

fn all(_: &[u8]) -> bool {
    true
}

fn set_time(path: &Path, seconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Everything that a store may hold and this user may make.
fn rich(top: &Path) {
    fs::create_dir_all(top.join("a/deep/er")).unwrap();
    fs::write(top.join("a/file"), "content").unwrap();
    fs::write(top.join("a/setuid"), "program").unwrap();
    fs::set_permissions(top.join("a/setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(top.join("a/file"), top.join("a/deep/again")).unwrap();
    symlink("../../nowhere", top.join("a/link")).unwrap();
    rustix::fs::mknodat(CWD, top.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    // Whiteouts; refused without privilege.
    let _ =
        rustix::fs::mknodat(CWD, top.join("gone"), FileType::CharacterDevice, Mode::from_raw_mode(0o600), 0);
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (1 << 20) - 3).unwrap();
    for (name, path) in [("user.overlay.opaque", "a/deep"), ("user.mine", "a/file")] {
        rustix::fs::setxattr(top.join(path), name, b"y", XattrFlags::empty()).unwrap();
    }
    for (at, path) in ["a/file", "a/link", "sparse", "fifo", "a/deep/er", "a/deep", "a"].iter().enumerate() {
        set_time(&top.join(path), 1_000_000_000 + at as i64);
    }
}

#[test]
fn a_copy_is_equal_and_any_change_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    for path in [&from, &to] {
        fs::create_dir(path).unwrap();
    }
    rich(&from);
    Mirror::default().copy(&from, &to, all).unwrap();
    assert_eq!(mirror::difference(&from, &to, all).unwrap(), None);
    let (first, second) =
        (fs::metadata(to.join("a/file")).unwrap(), fs::metadata(to.join("a/deep/again")).unwrap());
    assert_eq!((first.ino(), first.nlink()), (second.ino(), 2), "names of one file stay that");
    assert!(
        fs::metadata(to.join("sparse")).unwrap().blocks()
            <= fs::metadata(from.join("sparse")).unwrap().blocks()
    );
    let changes: [(&str, Change); 8] = [
        ("a/setuid", &|p| fs::set_permissions(p, fs::Permissions::from_mode(0o755)).unwrap()),
        ("sparse", &|p| {
            let file = fs::File::options().write(true).open(p).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"x", 700_000).unwrap();
            set_time(p, 1_000_000_002);
        }),
        ("a/link", &|p| {
            fs::remove_file(p).unwrap();
            symlink("../../elsewhere", p).unwrap();
            set_time(p, 1_000_000_001);
        }),
        ("a/file", &|p| rustix::fs::removexattr(p, "user.mine").unwrap()),
        ("a/deep", &|p| rustix::fs::removexattr(p, "user.overlay.opaque").unwrap()),
        ("a/deep/er", &|p| set_time(p, 5)),
        ("fifo", &|p| fs::remove_file(p).unwrap()),
        ("a/new", &|p| fs::write(p, "").unwrap()),
    ];
    for (path, change) in changes {
        let to = dir.path().join(format!("to-{}", path.replace('/', "-")));
        fs::create_dir(&to).unwrap();
        Mirror::default().copy(&from, &to, all).unwrap();
        assert_eq!(mirror::difference(&from, &to, all).unwrap(), None);
        change(&to.join(path));
        let found = mirror::difference(&from, &to, all).unwrap();
        assert!(found.is_some(), "{path} was changed");
    }
}

#[test]
fn only_what_is_wanted_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    for path in [&from, &to] {
        fs::create_dir(path).unwrap();
    }
    rich(&from);
    let wanted = |name: &[u8]| name != b"a";
    Mirror::default().copy(&from, &to, wanted).unwrap();
    assert!(!to.join("a").exists() && to.join("sparse").exists());
    assert_eq!(mirror::difference(&from, &to, wanted).unwrap(), None);
    assert!(mirror::difference(&from, &to, all).unwrap().is_some());
}

#[test]
fn links_take_the_place_of_equal_files_and_nothing_else_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new, made) = (dir.path().join("old"), dir.path().join("new"), dir.path().join("made"));
    for path in [&old, &new, &made] {
        fs::create_dir(path).unwrap();
        if path != &made {
            rich(path);
        }
    }
    fs::write(new.join("a/only"), "here").unwrap();
    let mut found = Vec::new();
    mirror::single_files(&new, 1, |path, _| found.push(String::from_utf8(path.to_vec()).unwrap())).unwrap();
    found.sort();
    assert_eq!(found, ["a/only", "a/setuid", "sparse"], "files with two names here are left alone");
    assert!(mirror::is_same_file(&old, &new, b"sparse").unwrap());
    let setuid = old.join("a/setuid");
    set_time(&setuid, 7);
    assert!(!mirror::is_same_file(&old, &new, b"a/setuid").unwrap(), "another time is another file");
    let instead = HashMap::from([(b"sparse".to_vec(), old.clone()), (b"a/none".to_vec(), old.clone())]);
    assert_eq!(mirror::link(&new, &made, &instead).unwrap(), 1);
    assert_eq!(mirror::difference(&new, &made, all).unwrap(), None);
    let ino = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
    assert_eq!(ino(&made.join("sparse")), ino(&old.join("sparse")));
    assert_eq!(ino(&made.join("a/only")), ino(&new.join("a/only")));
    // A file that was kept once before still is one with one name here.
    let mut again = Vec::new();
    mirror::single_files(&made, 1, |path, _| again.push(path.to_vec())).unwrap();
    assert!(again.contains(&b"sparse".to_vec()));
}
