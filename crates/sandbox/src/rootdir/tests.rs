//! Confinement, by the kernel and by the walk: both must agree on every path.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

/// root/{dir/{sub/{file},up->../..},abs->/dir,out->/../../../etc,loop->loop,dangling->dir/none/x,magic->/proc/self/fd}
fn tree() -> (tempfile::TempDir, RootDir) {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    fs::create_dir_all(root.join("dir/sub")).unwrap();
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("dir/sub/file"), "inside").unwrap();
    fs::write(root.join("etc/passwd"), "inside too").unwrap();
    fs::write(outer.path().join("secret"), "outside").unwrap();
    symlink("../../../..", root.join("dir/up")).unwrap();
    symlink("/dir", root.join("abs")).unwrap();
    symlink("/../../../etc", root.join("out")).unwrap();
    symlink(outer.path().join("secret"), root.join("secret")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("dir/none/x", root.join("dangling")).unwrap();
    let dir = RootDir::open_path(&root).unwrap();
    (outer, dir)
}

#[test]
fn both_ways_agree() {
    let (_outer, root) = tree();
    let paths = [
        "",
        "/",
        ".",
        "..",
        "/..",
        "dir",
        "/dir/",
        "dir/sub/file",
        "dir/sub/file/",
        "dir/sub/file/x",
        "dir/up/etc/passwd",
        "abs/sub/file",
        "out/passwd",
        "secret",
        "loop",
        "dangling",
        "none",
        "none/../dir",
        "dir/../../dir/sub",
        "abs/..",
        "../../dir//./sub/../sub/file",
        "dir/up",
        "abs",
        "dir/sub/..",
    ];
    for path in paths {
        for flags in
            [OFlags::PATH, OFlags::PATH | OFlags::NOFOLLOW, OFlags::RDONLY, OFlags::PATH | OFlags::DIRECTORY]
        {
            let result = |way| {
                resolve_open(way, root.as_fd(), Path::new(path), flags)
                    .map(|fd| rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH).unwrap().st_ino)
                    .map_err(|e| e.raw_os_error())
            };
            // The walk is lenient about slashes and dots after a file or a link; nothing depends on it.
            if matches!(path, "dir/sub/file/") {
                continue;
            }
            assert_eq!(result(Way::Kernel), result(Way::Walk), "{path} {flags:?}");
        }
    }
}

/// Random paths, the same in every run.
#[test]
fn both_ways_agree_on_random_paths() {
    let (_outer, root) = tree();
    let parts = [
        "dir", "sub", "file", "up", "abs", "out", "etc", "passwd", "..", ".", "loop", "dangling", "secret",
        "none",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    let (mut found, mut failed) = (0, 0);
    for _ in 0..20_000 {
        let names: Vec<_> = (0..1 + next(7)).map(|_| parts[next(parts.len())]).collect();
        let path = format!("{}{}", ["", "/"][next(2)], names.join("/"));
        let flags = [OFlags::PATH, OFlags::PATH | OFlags::NOFOLLOW][next(2)];
        let result = |way| {
            resolve_open(way, root.as_fd(), Path::new(&path), flags)
                .map(|fd| rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH).unwrap().st_ino)
                .map_err(|e| e.raw_os_error())
        };
        let (kernel, walk) = (result(Way::Kernel), result(Way::Walk));
        // `file/.` is a file for the walk and an error for the kernel.
        if path.ends_with("/.") && kernel == Err(Some(libc::ENOTDIR)) {
            continue;
        }
        // With NOFOLLOW, `link/.` is what the link leads to for the kernel; the walk ignores the dot.
        if path.ends_with("/.") && flags.contains(OFlags::NOFOLLOW) {
            continue;
        }
        assert_eq!(kernel, walk, "{path} {flags:?}");
        if kernel.is_ok() { found += 1 } else { failed += 1 }
    }
    assert!(found > 1000 && failed > 1000, "{found} found, {failed} failed");
}

#[test]
fn nothing_outside_is_reached() {
    let (_outer, root) = tree();
    assert_eq!(root.read_limited("out/passwd", 100).unwrap(), b"inside too");
    assert_eq!(root.read_limited("dir/up/dir/sub/file", 100).unwrap(), b"inside");
    assert!(root.read_limited("secret", 100).is_err());
    assert_eq!(root.resolve("secret").unwrap().components().next_back().unwrap().as_os_str(), "secret");
    assert_eq!(root.resolve("abs/sub/../new/x").unwrap(), Path::new("/dir/new/x"));
    assert_eq!(root.resolve("dangling").unwrap(), Path::new("/dir/none/x"));
    assert_eq!(root.resolve("out/passwd").unwrap(), Path::new("/etc/passwd"));
    assert_eq!(root.resolve_parent("dir/../abs").unwrap(), Path::new("/abs"));
    assert!(root.resolve("loop").is_err());
}

#[test]
fn reading_is_limited() {
    let (outer, root) = tree();
    let base = outer.path().join("root");
    assert!(root.read_limited("dir/sub/file", 5).is_err());
    assert_eq!(root.read_limited("dir/sub/file", 6).unwrap(), b"inside");
    assert!(root.read_limited("dir", 5).is_err());
    rustix::fs::mknodat(rustix::fs::CWD, base.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0)
        .unwrap();
    assert!(root.read_limited("fifo", 5).is_err(), "and without waiting for a writer");
}

#[test]
fn folders_are_made_where_links_lead() {
    let (outer, root) = tree();
    let made = root.mkdir_all("abs/a/b", 0o750, None).unwrap();
    assert_eq!(made, [PathBuf::from("/dir/a"), PathBuf::from("/dir/a/b")]);
    assert_eq!(fs::metadata(outer.path().join("root/dir/a")).unwrap().mode() & 0o7777, 0o750);
    assert!(root.mkdir_all("abs/a/b", 0o750, None).unwrap().is_empty());
    assert_eq!(
        root.mkdir_all("dangling", 0o755, None).unwrap(),
        [PathBuf::from("/dir/none"), "/dir/none/x".into()]
    );
    assert!(root.mkdir_all("dir/sub/file/x", 0o755, None).is_err());
    assert!(root.mkdir_all("dir/sub/file", 0o755, None).is_err());
    root.mkdir_all("x/../y", 0o755, None).unwrap();
    assert!(outer.path().join("root/y").is_dir());
    assert!(!outer.path().join("y").exists());
}

#[test]
fn the_last_component_is_never_followed() {
    let (outer, root) = tree();
    let secret = outer.path().join("secret");
    let before = fs::metadata(&secret).unwrap();
    assert!(root.chmod("secret", 0o777).is_err());
    assert!(root.create_file("secret", 0o644).is_err());
    let times = Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 5, tv_nsec: 6 },
        last_modification: rustix::fs::Timespec { tv_sec: 7, tv_nsec: 8 },
    };
    root.set_times("secret", &times).unwrap();
    assert_eq!(root.symlink_metadata("secret").unwrap().st_mtime, 7);
    root.link("secret", "dir/link").unwrap();
    root.rename("dir/link", "moved").unwrap();
    assert_eq!(root.read_link("moved").unwrap(), secret);
    assert!(root.read_link("dir").is_err());
    root.remove_file("moved").unwrap();
    root.remove_all("out").unwrap();
    root.remove_all("out").unwrap();
    root.remove_all("none/x").unwrap();
    assert!(root.remove_all("/").is_err() && root.remove_all("dir/..").is_err());
    let after = fs::metadata(&secret).unwrap();
    assert_eq!(
        (before.mode(), before.mtime(), before.mtime_nsec()),
        (after.mode(), after.mtime(), after.mtime_nsec())
    );
    assert!(outer.path().join("root/etc/passwd").exists(), "only the link went");
}

#[test]
fn modes_are_exact_and_special_files_are_made() {
    let (_outer, root) = tree();
    drop(root.create_file("f", 0o6777).unwrap());
    root.mkdir("d", 0o1777).unwrap();
    root.mknod("p", FileType::Fifo, 0o666, 0).unwrap();
    root.symlink("any text/../", "l").unwrap();
    let mode = |name: &str| root.symlink_metadata(name).unwrap().st_mode & 0o7777;
    assert_eq!([mode("f"), mode("d"), mode("p")], [0o6777, 0o1777, 0o666]);
    assert_eq!(root.read_link("l").unwrap().as_os_str(), "any text/../");
    let names: Vec<_> =
        root.read_dir("/").unwrap().into_iter().map(|e| e.name.into_string().unwrap()).collect();
    assert_eq!(names, ["abs", "d", "dangling", "dir", "etc", "f", "l", "loop", "out", "p", "secret"]);
}

#[test]
fn attributes_of_files() {
    let (_outer, root) = tree();
    let name = OsStr::new("user.test");
    if root.set_xattr("dir/sub/file", name, b"\0value").is_err() {
        return eprintln!("skipped: no user attributes in the temporary folder");
    }
    assert_eq!(root.list_xattrs("abs/sub/file").unwrap(), [name]);
    assert_eq!(root.get_xattr("dir/sub/file", name).unwrap().unwrap(), b"\0value");
    assert_eq!(root.get_xattr("dir/sub", name).unwrap(), None);
    root.remove_xattr("dir/sub/file", name).unwrap();
    root.remove_xattr("dir/sub/file", name).unwrap();
    assert!(root.list_xattrs("dir/sub/file").unwrap().is_empty());
}

#[test]
fn deep_and_wide_trees_are_removed() {
    let (outer, root) = tree();
    let start = outer.path().join("root/deep");
    fs::create_dir(&start).unwrap();
    let mut at = RootDir::open_path(&start).unwrap();
    for _ in 0..1500 {
        at.mkdir("d", 0o755).unwrap();
        drop(at.create_file("f", 0o600).unwrap());
        at = at.subdir("d").unwrap();
    }
    symlink("/etc", outer.path().join("root/deep/link")).unwrap();
    fs::set_permissions(&start, fs::Permissions::from_mode(0o700)).unwrap();
    root.remove_all("deep").unwrap();
    assert!(!start.exists());
    let names = root.read_dir("/").unwrap();
    assert!(!names.iter().any(|e| e.name.to_string_lossy().starts_with(".ctrbuild")), "{names:?}");
    assert!(root.exists("etc/passwd"));
}
