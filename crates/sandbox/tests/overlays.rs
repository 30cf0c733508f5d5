//! Detached overlays: stacking, limits, both ways of mounting.

mod common;

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use sandbox::*;

fn dirs(count: usize) -> Option<(tempfile::TempDir, Vec<PathBuf>)> {
    if userns::needed() {
        eprintln!("skipped: needs root");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let lowers: Vec<_> = (0..count).map(|n| dir.path().join(format!("l,o:w\\{n}"))).collect();
    for (n, lower) in lowers.iter().enumerate() {
        fs::create_dir(lower).unwrap();
        fs::write(lower.join(format!("f{n}")), n.to_string()).unwrap();
        fs::write(lower.join("top"), n.to_string()).unwrap();
    }
    for name in ["upper", "work"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    Some((dir, lowers))
}

fn folders(paths: &[PathBuf]) -> Vec<Folder<'_>> {
    paths.iter().map(|p| Folder::Path(p)).collect()
}

#[test]
fn five_hundred_lowers() {
    let Some((dir, lowers)) = dirs(MAX_LOWERS + 1) else { return };
    let mount = Overlay::mount(&folders(&lowers[..MAX_LOWERS]), None, OverlayOptions::default()).unwrap();
    let root = mount.root().unwrap();
    assert_eq!(root.read_limited("top", 9).unwrap(), b"0");
    assert_eq!(root.read_limited("f499", 9).unwrap(), b"499");
    assert!(root.create_file("x", 0o644).is_err(), "read-only without an upper folder");
    assert!(matches!(
        Overlay::mount(&folders(&lowers), None, OverlayOptions::default()),
        Err(Error::Spec(_))
    ));
    assert!(matches!(Overlay::mount(&[], None, OverlayOptions::default()), Err(Error::Spec(_))));
    drop(dir);
}

#[test]
fn one_lower_is_a_read_only_bind() {
    let Some((_dir, lowers)) = dirs(1) else { return };
    let mount = Overlay::mount(&folders(&lowers), None, OverlayOptions::default()).unwrap();
    let root = mount.root().unwrap();
    assert_eq!(root.read_limited("f0", 9).unwrap(), b"0");
    assert!(root.remove_file("f0").is_err());
}

#[test]
fn the_upper_folder_is_a_plain_difference() {
    let Some((dir, lowers)) = dirs(3) else { return };
    let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
    let parts = Upper { upper: Folder::Path(&upper), work: Folder::Path(&work) };
    let options = OverlayOptions { sync: Sync::Volatile, ..OverlayOptions::default() };
    let mount = Overlay::mount(&folders(&lowers), Some(parts), options).unwrap();
    let root = mount.root().unwrap();
    root.remove_file("f1").unwrap();
    fs::File::from(root.create_file("new", 0o600).unwrap()).write_all(b"n").unwrap();
    root.rename("f2", "renamed").unwrap();
    drop((root, mount));
    let mut names: Vec<_> =
        fs::read_dir(&upper).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["f1", "f2", "new", "renamed"]);
    assert_eq!(fs::read_to_string(upper.join("renamed")).unwrap(), "2", "data, not metadata only");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(dir.path().to_str().unwrap()), "never attached");
}

#[test]
fn missing_folders_are_named() {
    let Some((dir, _)) = dirs(1) else { return };
    let missing = dir.path().join("missing");
    let error = Overlay::mount(&[Folder::Path(&missing)], None, OverlayOptions::default()).unwrap_err();
    assert!(common::explain(&error).contains("missing"), "{error}");
}
