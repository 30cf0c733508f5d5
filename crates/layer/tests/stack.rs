//! Copies of stacks, and what was done to them as layers: layer = diff(apply(layer)), without any overlay.

mod common;

use common::is_root;
use layer::pack::{PackOptions, Xattrs, write_layer};
use layer::stack::{Purpose, copy};
use layer::unpack::{UnpackOptions, apply};
use layer::{Marks, diff};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

const MARKS: Marks = Marks::Trusted;

/// All that can be seen of a folder but for its own times, sorted.
fn listing(top: &Path) -> Vec<String> {
    fn walk(top: &Path, dir: &Path, out: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let m = path.symlink_metadata().unwrap();
            let what = match m.file_type() {
                t if t.is_file() => format!("{:?}", fs::read(&path).unwrap()),
                t if t.is_symlink() => format!("-> {}", fs::read_link(&path).unwrap().display()),
                _ => String::new(),
            };
            let owner = (m.uid(), m.gid());
            let name = path.strip_prefix(top).unwrap().display();
            out.push(format!("{name} {:o} {owner:?} {}.{:09} {what}", m.mode(), m.mtime(), m.mtime_nsec()));
            if m.is_dir() {
                walk(top, &path, out);
            }
        }
    }
    let mut out = Vec::new();
    walk(top, top, &mut out);
    out.sort();
    out
}

struct Folders(tempfile::TempDir);

impl Folders {
    fn new() -> Self {
        Folders(tempfile::tempdir().unwrap())
    }
    fn make(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }
}

/// One change.
#[derive(Debug, Clone)]
enum Change {
    Write(u8),
    Dir,
    Remove,
    Rename(Vec<u8>),
    Link(Vec<u8>),
    Symlink,
    Mode(u32),
    Owner(u32),
    Time(u32),
    Pipe,
    Mark,
}

fn path_of(parts: &[u8]) -> PathBuf {
    parts.iter().map(|n| format!("n{n}")).collect()
}

/// What fails, as programs of steps fail, changes nothing.
fn change(root: &Path, (parts, what): &(Vec<u8>, Change)) {
    let path = root.join(path_of(parts));
    let plain = path.symlink_metadata().is_ok_and(|m| m.is_file() || m.is_dir());
    let _ = match what {
        Change::Write(n) => {
            // In place, as far as there is a file.
            match path.symlink_metadata() {
                Ok(m) if m.is_file() => {
                    let file = fs::OpenOptions::new().write(true).open(&path);
                    file.and_then(|f| f.write_all_at(&[*n; 3], 1))
                }
                Ok(_) => Ok(()),
                Err(_) => fs::write(&path, vec![*n; usize::from(*n)]),
            }
        }
        Change::Dir => fs::create_dir_all(&path),
        Change::Remove => fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)),
        Change::Rename(to) => fs::rename(&path, root.join(path_of(to))),
        Change::Link(to) => fs::hard_link(&path, root.join(path_of(to))),
        Change::Symlink => symlink("n0/n1", &path),
        Change::Mode(mode) if plain => fs::set_permissions(&path, fs::Permissions::from_mode(*mode)),
        Change::Owner(id) if plain => chown(&path, Some(*id), Some(*id + 1)),
        Change::Time(seconds) if plain => fs::File::open(&path).and_then(|f| {
            f.set_modified(std::time::UNIX_EPOCH + std::time::Duration::new((*seconds).into(), 7))
        }),
        Change::Pipe => mknod(&path, rustix::fs::FileType::Fifo),
        Change::Mark => mknod(&path, rustix::fs::FileType::CharacterDevice),
        _ => Ok(()),
    };
}

fn mknod(path: &Path, kind: rustix::fs::FileType) -> std::io::Result<()> {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    Ok(rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0)?)
}

fn changes(most: usize) -> impl Strategy<Value = Vec<(Vec<u8>, Change)>> {
    let path = || prop::collection::vec(0u8..4, 1..4);
    let what = prop_oneof![
        4 => (1u8..50).prop_map(Change::Write),
        4 => Just(Change::Dir),
        3 => Just(Change::Remove),
        3 => path().prop_map(Change::Rename),
        2 => path().prop_map(Change::Link),
        1 => Just(Change::Symlink),
        1 => (0u32..0o10000).prop_map(|m| Change::Mode(m | 0o600)),
        1 => (0u32..9).prop_map(Change::Owner),
        1 => (0u32..2_000_000_000).prop_map(Change::Time),
        1 => Just(Change::Pipe),
        1 => Just(Change::Mark),
    ];
    prop::collection::vec((path(), what), 0..most)
}

/// Takes the marks of overlay out, which no layer has.
fn without_marks(root: &Path) {
    for line in listing(root) {
        let path = root.join(line.split(' ').next().unwrap());
        let meta = path.symlink_metadata().unwrap();
        use std::os::unix::fs::FileTypeExt;
        if meta.file_type().is_char_device() {
            let parent = path.parent().unwrap();
            let time = parent.metadata().unwrap().modified().unwrap();
            fs::remove_file(&path).unwrap();
            fs::File::open(parent).unwrap().set_modified(time).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// What was done to a copy is all in the layer, and the layer on top of what was copied is the changed copy.
    #[test]
    fn any_changes_make_a_layer(below in changes(25), middle in changes(12), top in changes(25)) {
        if !is_root() {
            return Ok(());
        }
        let folders = Folders::new();
        let base = folders.make("base");
        for one in &below {
            change(&base, one);
        }
        without_marks(&base);
        let mut stack = vec![base];
        for (n, some) in [middle, top].iter().enumerate() {
            let work = folders.make(&format!("work{n}"));
            let upper = folders.make(&format!("upper{n}"));
            let lowers: Vec<&Path> = stack.iter().map(PathBuf::as_path).collect();
            let record = copy(&lowers, &work, MARKS, Purpose::Work).unwrap();
            for one in some {
                change(&work, one);
            }
            let mut expected = listing(&work);
            expected.retain(|line| !line.contains(" 20644 "));
            diff::extract(&work, &record, &upper, MARKS).unwrap();
            // Through the layer's tar and back.
            let mut tar = Vec::new();
            let options = PackOptions { xattrs: Xattrs::All, ..PackOptions::default() };
            write_layer(&upper, &lowers, &options, &mut tar).unwrap();
            let again = folders.make(&format!("again{n}"));
            apply(&tar[..], &again, &UnpackOptions::default()).unwrap();
            let mut seen = Vec::new();
            for (name, layer) in [("direct", &upper), ("tar", &again)] {
                let view = folders.make(&format!("{name}{n}"));
                let with: Vec<&Path> = std::iter::once(layer.as_path()).chain(lowers.iter().copied()).collect();
                copy(&with, &view, MARKS, Purpose::View).unwrap();
                seen.push(listing(&view));
            }
            prop_assert_eq!(&seen[0], &expected);
            // A layer says nothing of a folder whose time alone was changed, nor of what was touched in vain.
            let timeless = |lines: &[String]| -> Vec<String> {
                let line = |l: &String| -> String {
                    let mut words: Vec<&str> = l.split(' ').collect();
                    if words[1].starts_with('4') {
                        words.remove(4);
                    }
                    words.join(" ")
                };
                lines.iter().map(line).collect()
            };
            prop_assert_eq!(timeless(&seen[1]), timeless(&expected));
            stack.insert(0, upper);
        }
        // Both layers as one mean the same, and have no mark in vain.
        let one = folders.make("one");
        let paths: Vec<&Path> = stack.iter().map(PathBuf::as_path).collect();
        layer::squash::squash(&paths[..2], &paths[2..], &one, MARKS).unwrap();
        let (two, merged) = (folders.make("two"), folders.make("merged"));
        copy(&paths, &two, MARKS, Purpose::View).unwrap();
        copy(&[&one, paths[2]], &merged, MARKS, Purpose::View).unwrap();
        prop_assert_eq!(listing(&merged), listing(&two));
        for line in listing(&one).iter().filter(|line| line.contains(" 20000 ")) {
            let name = line.split(' ').next().unwrap();
            prop_assert!(paths[2].join(name).symlink_metadata().is_ok(), "a mark in vain: {}", line);
        }
    }
}

#[test]
fn holes_and_names_of_one_file() {
    if !is_root() {
        return;
    }
    let folders = Folders::new();
    let (lower, view, work) = (folders.make("lower"), folders.make("view"), folders.make("work"));
    let sparse = fs::File::create(lower.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"middle", 20 << 20).unwrap();
    fs::write(lower.join("a"), "a").unwrap();
    fs::hard_link(lower.join("a"), lower.join("b")).unwrap();
    copy(&[&lower], &view, MARKS, Purpose::View).unwrap();
    copy(&[&lower], &work, MARKS, Purpose::Work).unwrap();
    for copied in [&view, &work] {
        assert_eq!(listing(&lower), listing(copied));
        assert!(fs::metadata(copied.join("sparse")).unwrap().blocks() < 1000, "holes stay holes");
    }
    let links = |dir: &Path| fs::metadata(dir.join("a")).unwrap().nlink();
    assert_eq!((links(&view), links(&work)), (2, 1), "overlay copies up one name alone");
    fs::write(work.join("a"), "changed").unwrap();
    assert_eq!(fs::read(work.join("b")).unwrap(), b"a");
    assert_eq!(fs::read(lower.join("a")).unwrap(), b"a", "nothing is shared with the layer");
}

#[test]
fn attributes_of_overlay_do_not_get_in() {
    if !is_root() {
        return;
    }
    let folders = Folders::new();
    let (lower, work, upper) = (folders.make("lower"), folders.make("work"), folders.make("upper"));
    fs::create_dir(lower.join("d")).unwrap();
    fs::write(lower.join("d/hidden"), "no").unwrap();
    let record = copy(&[&lower], &work, MARKS, Purpose::Work).unwrap();
    fs::create_dir_all(work.join("new/deep")).unwrap();
    fs::write(work.join("new/deep/file"), "").unwrap();
    let set = |path: &str, name: &str| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(work.join(path), name, b"y", flags).is_ok()
    };
    let paths = ["d", "new", "new/deep", "new/deep/file"];
    for path in paths {
        for name in ["trusted.overlay.opaque", "user.overlay.redirect", "trusted.overlay.whiteout"] {
            if !set(path, name) {
                return eprintln!("skipped: no extended attributes here");
            }
        }
        assert!(set(path, "user.kept"));
    }
    diff::extract(&work, &record, &upper, MARKS).unwrap();
    for path in paths {
        let mut names = vec![0u8; 1000];
        let n = rustix::fs::listxattr(upper.join(path), &mut names[..]).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&names[..n]).replace("security.selinux\0", ""),
            "user.kept\0",
            "{path}"
        );
    }
}

/// A folder that takes the place of another hides all that was in it, also with the same inode number.
#[test]
fn replaced_folders_are_opaque() {
    if !is_root() {
        return;
    }
    let folders = Folders::new();
    let (lower, work, upper) = (folders.make("lower"), folders.make("work"), folders.make("upper"));
    for n in 0..50 {
        fs::create_dir(lower.join(format!("d{n}"))).unwrap();
        fs::write(lower.join(format!("d{n}/f")), "x").unwrap();
    }
    let record = copy(&[&lower], &work, MARKS, Purpose::Work).unwrap();
    for n in 0..50 {
        fs::remove_dir_all(work.join(format!("d{n}"))).unwrap();
        fs::create_dir(work.join(format!("d{n}"))).unwrap();
    }
    diff::extract(&work, &record, &upper, MARKS).unwrap();
    for n in 0..50 {
        let mut value = [0; 8];
        let got = rustix::fs::getxattr(upper.join(format!("d{n}")), "trusted.overlay.opaque", &mut value[..]);
        assert_eq!(got.map(|n| value[..n].to_vec()), Ok(b"y".to_vec()), "d{n}");
    }
}
